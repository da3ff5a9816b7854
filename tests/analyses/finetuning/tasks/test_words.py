"""Labels of words: where they come from, how they are laid, scored and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.finetuning.recipes import WordRecipe
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.analyses.finetuning.tasks.words import word_labels
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.corpora.objects import corpus_of_object
from layerlake.engine.corpora.reading import read_corpus
from layerlake.store.errors import InvalidInput

torch = pytest.importorskip("torch")

TAG = task_named("tag")
RECIPE = WordRecipe()
ROWS: list[dict[str, Any]] = [
    {"id": "a", "words": ["don't", "dogs", "bark"], "labels": ["B", "I", "O"]},
    {"id": "b", "words": ["no"], "labels": ["O"]},
]


def of_rows(rows: list[dict[str, Any]]) -> Corpus:
    return corpus_of_object(rows)[1]


@pytest.fixture
def encoded(small_loaded: Any) -> Callable[..., Any]:
    def encode(corpus: Corpus, inventory: Any, recipe: Any = RECIPE, limit: int = 32) -> Any:
        return TAG.encode(corpus, small_loaded.tokenizer, limit, recipe, inventory, "made up")

    return encode


def test_lists_of_json_lines_are_labels(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n", encoding="utf-8")
    corpus = read_corpus(file)
    assert word_labels(corpus, "labels", "a") == ["B", "I", "O", "O"]
    assert TAG.inventory(corpus, RECIPE) == {"labels": ["B", "I", "O"]}


def test_parts_of_speech_of_conllu_are_labels(tmp_path: Path) -> None:
    file = tmp_path / "a.conllu"
    file.write_text(
        "1\tdogs\tdog\tNOUN\tNNS\t_\t2\tnsubj\t_\t_\n2\tbark\tbark\tVERB\tVB\t_\t0\troot\t_\t_\n\n",
        encoding="utf-8",
    )
    corpus = read_corpus(file)
    assert word_labels(corpus, "upos", "a") == ["NOUN", "VERB"]
    assert word_labels(corpus, "xpos", "a") == ["NNS", "VB"]
    assert word_labels(corpus, "head", "a") == ["2", "0"]
    with pytest.raises(
        InvalidInput, match=r"^a has no labels 'labels'; it has deprel, has_empty_nodes, head"
    ):
        word_labels(corpus, "labels", "a")


@pytest.mark.parametrize(
    ("labels", "held"),
    [
        (["O", "O"], "2 labels"),
        ([], "0 labels"),
        ("O", "no list of labels"),
        (None, "no list of labels"),
        ({"O": 1}, "no list of labels"),
    ],
)
def test_a_wrong_number_of_labels_is_refused_by_name(labels: Any, held: str) -> None:
    rows = [ROWS[0], {"id": "b", "words": ["no"], "labels": labels}]
    said = f"^example 'b' of dev has {held} in 'labels' for 1 words; give one for each word"
    with pytest.raises(InvalidInput, match=said):
        word_labels(of_rows(rows), "labels", "dev")


@pytest.mark.parametrize(
    ("label", "held"),
    [(None, "no label"), ("", "no label"), (float("nan"), "no label"), (["O"], ".* for a label")],
)
def test_a_word_without_one_label_is_refused_by_name(label: Any, held: str) -> None:
    rows = [ROWS[0], {"id": "b", "words": ["no", "yes"], "labels": ["O", label]}]
    said = f"^word 2 of example 'b' of dev has {held} in 'labels'; give each word one"
    with pytest.raises(InvalidInput, match=said):
        word_labels(of_rows(rows), "labels", "dev")


def test_columns_that_are_no_lists_are_refused() -> None:
    rows = [{"id": "a", "words": ["no"], "labels": "O"}, {"id": "b", "words": ["no"], "labels": 3}]
    with pytest.raises(InvalidInput, match=r"^example 'a' of dev has no list of labels"):
        word_labels(of_rows(rows), "labels", "dev")
    with pytest.raises(InvalidInput, match=r"^example 'b' of dev has no list of labels"):
        word_labels(of_rows(rows[1:]), "labels", "dev")


def test_texts_have_no_words_to_label() -> None:
    with pytest.raises(InvalidInput, match=r"^dev has no lists of words; give JSON lines"):
        word_labels(corpus_from_texts(["a b"]), "labels", "dev")


def test_a_label_that_the_training_data_lacks_is_refused_with_its_word(
    encoded: Callable[..., Any],
) -> None:
    with pytest.raises(InvalidInput) as error:
        encoded(of_rows(ROWS), {"labels": ["B", "O"]})
    assert str(error.value) == (
        "word 2 of example 'a' of made up has the label 'I', which the training data lacks; mend "
        "it, or train on data that has it"
    )


def test_one_label_is_nothing_to_learn() -> None:
    with pytest.raises(InvalidInput, match=r"^the training data has one label, 'O'; give data"):
        TAG.inventory(of_rows(ROWS[1:]), RECIPE)


def test_labels_are_laid_word_by_word(encoded: Callable[..., Any]) -> None:
    examples = encoded(of_rows(ROWS), {"labels": ["B", "I", "O"]})
    assert TAG.weights(examples).tolist() == [3, 1]
    lengths = examples.tokenization.lengths.tolist()
    extra = lengths[0] - 2 - 3  # "don't" is several pieces
    assert extra > 0
    batch = TAG.lay(examples, np.array([1, 0]), 0)
    assert batch.targets["n_words"].tolist() == [1, 3]
    assert batch.targets["label"].tolist() == [2, 0, 1, 2]
    assert batch.targets["word_of_piece"].tolist() == [
        [-1, 0, -1] + [-1] * (lengths[0] - 3),
        [-1, *[1] * (1 + extra), 2, 3, -1],
    ]


def test_long_examples_are_refused_or_left_out(encoded: Callable[..., Any]) -> None:
    corpus, inventory = of_rows(ROWS), {"labels": ["B", "I", "O"]}
    with pytest.raises(InvalidInput, match=r"1 of 2 examples have more than 4 pieces: a \("):
        encoded(corpus, inventory, limit=4)
    examples = encoded(corpus, inventory, WordRecipe(long="drop"), 4)
    assert examples.notes == ("1 examples of made up are too long: left out",)
    batch = TAG.lay(examples, np.array([0]), 0)
    assert batch.targets["label"].tolist() == [2]
    answers = TAG.answers(examples, inventory, RECIPE)
    answers.add({"logits": torch.tensor([[0.0, 0, 1]])}, batch)
    assert answers.scores() == {"accuracy": 1.0, "majority": 1.0}


def test_answers_are_scored_and_written(encoded: Callable[..., Any], tmp_path: Path) -> None:
    inventory = {"labels": ["B", "I", "O"]}
    examples = encoded(of_rows(ROWS), inventory)
    answers = TAG.answers(examples, inventory, RECIPE)
    batch = TAG.lay(examples, np.array([1, 0]), 0)
    logits = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    answers.add({"logits": logits}, batch)
    assert answers.scores() == {"accuracy": 3 / 4, "majority": 1 / 2}
    file = tmp_path / "out.jsonl"
    answers.write(file, None)
    assert [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] == [
        {
            "id": "a",
            "words": ["don't", "dogs", "bark"],
            "labels": ["B", "I", "O"],
            "predicted": ["B", "O", "O"],
        },
        {"id": "b", "words": ["no"], "labels": ["O"], "predicted": ["O"]},
    ]
    # The halves of two processes are the whole.
    parts = []
    for row, index in ((slice(0, 1), 1), (slice(1, 4), 0)):
        part = TAG.answers(examples, inventory, RECIPE)
        part.add({"logits": logits[row]}, TAG.lay(examples, np.array([index]), 0))
        parts.append(part)
    parts[0].join(parts[1].state())
    assert parts[0].scores() == answers.scores()


def test_the_loss_is_the_sum_over_words(encoded: Callable[..., Any]) -> None:
    examples = encoded(of_rows(ROWS), {"labels": ["B", "I", "O"]})
    batch = TAG.lay(examples, np.array([0, 1]), 0)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = -sum(
        float(torch.log_softmax(logits[w], 0)[label]) for w, label in enumerate([0, 1, 2, 2])
    )
    found: Any = TAG.loss({"logits": logits}, SimpleNamespace(targets=batch.targets))  # type: ignore[arg-type]
    assert float(found) == pytest.approx(expected, rel=1e-12)
