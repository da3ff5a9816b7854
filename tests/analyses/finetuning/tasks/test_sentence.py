"""Labels of texts and of pairs: which are learned, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.finetuning.recipes import SentenceRecipe
from layerlake.analyses.finetuning.tasks.labels import head_dropout
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.analyses.finetuning.tasks.sentence import labels_of
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.corpora.objects import corpus_of_object
from layerlake.engine.corpora.subset import join_corpora
from layerlake.store.errors import InvalidInput

torch = pytest.importorskip("torch")

MNLI, CLASSIFY = task_named("mnli"), task_named("classify")
RECIPE = SentenceRecipe(length=20)


def of_rows(rows: list[dict[str, Any]], format: str | None = None) -> Corpus:
    return corpus_of_object(rows, format)[1]


def nli(*labels: str) -> Corpus:
    rows = [
        {"id": f"p{n}", "premise": "the cat sat", "hypothesis": "a cat", "label": label}
        for n, label in enumerate(labels)
    ]
    return of_rows(rows, "mnli")


@pytest.fixture
def encoded(small_loaded: Any) -> Callable[..., Any]:
    def encode(task: Any, corpus: Corpus, inventory: Any, recipe: Any = RECIPE) -> Any:
        return task.encode(corpus, small_loaded.tokenizer, 32, recipe, inventory, "made up")

    return encode


def test_pairs_without_a_gold_label_are_left_out_and_counted(encoded: Callable[..., Any]) -> None:
    corpus = nli("neutral", "-", "entailment", "-", "contradiction")
    inventory = MNLI.inventory(corpus, RECIPE)
    assert inventory == {"labels": ["entailment", "neutral", "contradiction"]}
    examples = encoded(MNLI, corpus, inventory)
    assert examples.targets["label"].tolist() == [1, 0, 2]
    assert examples.corpus.columns["id"].tolist() == ["p0", "p2", "p4"]
    assert examples.input_names(np.arange(3)) == ["p0", "p2", "p4"]
    assert examples.notes == ("2 pairs of made up have no gold label: left out",)
    assert encoded(MNLI, nli("neutral", "neutral"), inventory).notes == ()
    with pytest.raises(InvalidInput, match=r"^no pair of made up has a gold label"):
        encoded(MNLI, nli("-", "-"), inventory)


def test_single_texts_are_no_entailment(encoded: Callable[..., Any]) -> None:
    corpus = of_rows([{"text": "so so", "label": "neutral"}])
    with pytest.raises(InvalidInput, match=r"^made up holds single texts; give pairs"):
        encoded(MNLI, corpus, MNLI.inventory(corpus, RECIPE))


def test_labels_that_the_training_data_lacks_are_refused_by_name(
    encoded: Callable[..., Any],
) -> None:
    corpus = of_rows(
        [{"id": "a", "text": "x", "label": "no"}, {"id": "b", "text": "y", "label": 1}]
    )
    with pytest.raises(InvalidInput) as error:
        encoded(CLASSIFY, corpus, {"labels": ["no", "yes"]})
    assert str(error.value) == (
        "the label of example 'b' of made up is '1', and the labels that are known are 'no', "
        "'yes'; mend it, or train on data that has it"
    )
    many = {"labels": [f"l{n}" for n in range(11)]}
    with pytest.raises(InvalidInput, match=r"'l0', .*'l7' and 3 more; mend it"):
        encoded(CLASSIFY, corpus, many)
    entailed = of_rows(
        [{"id": "a", "text": "x", "text_pair": "y", "label": "entails"}],
    )
    with pytest.raises(InvalidInput, match="the label of example 'a' of made up is 'entails'"):
        encoded(MNLI, entailed, {"labels": ["entailment", "neutral", "contradiction"]})


def test_numbers_and_truth_values_are_labels_too(encoded: Callable[..., Any]) -> None:
    numbers = of_rows([{"text": "x", "label": n} for n in (3, 1, 10, 1)])
    inventory = CLASSIFY.inventory(numbers, RECIPE)
    assert inventory == {"labels": ["1", "10", "3"]}
    assert encoded(CLASSIFY, numbers, inventory).targets["label"].tolist() == [2, 0, 1, 0]
    # The same labels written as text are the same.
    as_text = of_rows([{"text": "x", "label": n} for n in ("10", "3")])
    assert encoded(CLASSIFY, as_text, inventory).targets["label"].tolist() == [1, 2]
    truth = of_rows([{"text": "x", "label": n} for n in (True, False)])
    assert CLASSIFY.inventory(truth, RECIPE) == {"labels": ["False", "True"]}
    mixed = of_rows([{"text": "x", "label": n} for n in ("one", 1)])
    assert CLASSIFY.inventory(mixed, RECIPE) == {"labels": ["1", "one"]}


def test_pairs_with_labels_of_another_name(encoded: Callable[..., Any]) -> None:
    rows = [
        {"text": "is it ?", "text_pair": "it is .", "same": kind} for kind in ("yes", "no", "yes")
    ]
    recipe = SentenceRecipe(length=20, label="same")
    corpus = of_rows(rows)
    inventory = CLASSIFY.inventory(corpus, recipe)
    examples = encoded(CLASSIFY, corpus, inventory, recipe)
    assert examples.targets["label"].tolist() == [1, 0, 1]
    assert examples.tokenization.segment_ids.tolist() == [*[0] * 5, *[1] * 4] * 3
    with pytest.raises(InvalidInput, match=r"^the training data has no field 'label'; its fields"):
        CLASSIFY.inventory(corpus, RECIPE)


@pytest.mark.parametrize("value", [None, "", ["a", "b"], {"a": 1}])
def test_an_example_without_one_label_is_refused_by_name(value: Any) -> None:
    rows = [{"id": "a", "text": "x", "label": "yes"}, {"id": "b", "text": "y", "label": value}]
    held = "no label" if not value else r".* for a label"
    with pytest.raises(InvalidInput, match=rf"^example 'b' of dev has {held} in 'label'; give"):
        labels_of(of_rows(rows), RECIPE, "dev")
    del rows[1]["label"]
    with pytest.raises(InvalidInput, match=r"^example 'b' of dev has no label in 'label'"):
        labels_of(of_rows(rows), RECIPE, "dev")


def test_a_number_that_is_none_is_no_label() -> None:
    rows = [{"text": "x", "label": value} for value in (1.0, float("nan"))]
    with pytest.raises(InvalidInput, match=r"has no label in 'label'; give each example one"):
        CLASSIFY.inventory(of_rows(rows), RECIPE)


def test_the_same_numbers_written_with_a_point_are_the_same_labels() -> None:
    one, two = ([{"text": "x", "label": label} for label in labels] for labels in ([1, 0], [1.0]))
    joined = join_corpora([of_rows(one), of_rows(two)])
    assert labels_of(joined, RECIPE, "train") == ["1.0", "0.0", "1.0"]


def test_labels_of_joined_data_are_those_of_its_parts() -> None:
    one = of_rows([{"id": "a", "text": "x", "label": "1"}, {"id": "b", "text": "x", "label": 2}])
    two = of_rows([{"id": "c", "text": "x", "label": "1"}])
    assert labels_of(join_corpora([one, two]), RECIPE, "train") == ["1", "2", "1"]
    assert labels_of(join_corpora([two, one]), RECIPE, "train") == ["1", "1", "2"]


def test_one_label_is_nothing_to_learn() -> None:
    with pytest.raises(InvalidInput, match=r"^the training data has one label, 'yes'; give data"):
        CLASSIFY.inventory(of_rows([{"text": "x", "label": "yes"}]), RECIPE)


@pytest.mark.parametrize(("first", "second"), [(30, 25), (25, 30), (30, 30), (30, 3), (3, 30)])
def test_the_longer_text_is_cut_piece_by_piece(
    encoded: Callable[..., Any], first: int, second: int
) -> None:
    """Against `_truncate_seq_pair` of Devlin et al.: pop from the longer, else from the second."""
    texts = ["the"] * first, ["cat"] * second
    corpus = corpus_from_texts([" ".join(texts[0])], [" ".join(texts[1])])
    corpus.columns["label"] = np.array([1])
    examples = encoded(CLASSIFY, corpus, {"labels": ["0", "1"]})
    a, b = list(texts[0]), list(texts[1])
    while len(a) + len(b) > 20 - 3:
        if len(a) > len(b):
            a.pop()
        else:
            b.pop()
    cut = examples.tokenization
    assert cut.lengths.tolist() == [20]
    assert cut.segment_ids.tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert len(set(cut.piece_ids.tolist())) == 4  # [CLS], the, [SEP], cat


def test_what_is_longer_than_the_encoder_s_positions_is_refused(
    encoded: Callable[..., Any],
) -> None:
    corpus = corpus_from_texts(["the " * 60])
    corpus.columns["label"] = np.array([1])
    with pytest.raises(InvalidInput, match=r"packing trim\(128\) makes inputs of 62 pieces"):
        encoded(CLASSIFY, corpus, {"labels": ["0", "1"]}, SentenceRecipe())


def test_answers_are_scored_and_written(encoded: Callable[..., Any], tmp_path: Path) -> None:
    corpus = nli("neutral", "entailment", "neutral", "contradiction", "-", "neutral")
    inventory = MNLI.inventory(corpus, RECIPE)
    examples = encoded(MNLI, corpus, inventory)
    answers = MNLI.answers(examples, inventory, RECIPE)
    logits = torch.tensor([[0.0, 3, 0], [0, 2, 0], [0, 9, 0], [0, 0, 1], [5, 4, 0]])
    for some in ([4, 0, 2], [1], [3]):  # in any order
        batch: Any = SimpleNamespace(chosen=np.array(some))
        answers.add({"logits": logits[some]}, batch)
    assert answers.scores() == {"accuracy": 3 / 5, "majority": 3 / 5}
    file = tmp_path / "out.jsonl"
    answers.write(file, None)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["p0", "p1", "p2", "p3", "p5"]
    assert [line["label"] for line in lines] == [
        "neutral", "entailment", "neutral", "contradiction", "neutral",
    ]  # fmt: skip
    assert [line["predicted"] for line in lines] == [
        "neutral", "neutral", "neutral", "contradiction", "entailment",
    ]  # fmt: skip
    expected = torch.softmax(logits[4].double(), 0).tolist()
    assert list(lines[4]["probabilities"].values()) == pytest.approx(expected)
    other = MNLI.answers(examples, inventory, RECIPE)
    batch = SimpleNamespace(chosen=np.array([0]))
    other.add({"logits": logits[[1]]}, batch)
    one = MNLI.answers(examples, inventory, RECIPE)
    batch = SimpleNamespace(chosen=np.array([3]))
    one.add({"logits": logits[[0]]}, batch)
    one.join(other.state())
    assert one.scores() == {"accuracy": 1 / 2, "majority": 1 / 2}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"hidden_dropout_prob": 0.3}, 0.3),
        ({"hidden_dropout_prob": 0.3, "classifier_dropout": 0.2}, 0.2),
        ({"hidden_dropout_prob": 0.3, "classifier_dropout": None}, 0.3),
        ({"resid_pdrop": 0.25}, 0.25),
        ({"dropout_rate": 0.15}, 0.15),
        ({"dropout": 0}, 0.0),
        ({}, 0.1),
    ],
)
def test_the_head_drops_out_as_the_config_says(config: dict[str, Any], expected: float) -> None:
    text = SimpleNamespace(**config)
    encoder: Any = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))
    assert head_dropout(encoder, SentenceRecipe()) == expected
    assert head_dropout(encoder, SentenceRecipe(dropout=0.0)) == 0.0
