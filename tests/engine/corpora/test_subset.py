"""Some examples of a corpus, and several corpora as one, against what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts, string_array
from layerlake.engine.corpora.objects import corpus_of_object
from layerlake.engine.corpora.reading import read_corpus
from layerlake.engine.corpora.subset import join_corpora, take_examples
from layerlake.store.errors import InvalidInput


def of_rows(rows: list[dict[str, Any]]) -> Corpus:
    return corpus_of_object(rows)[1]


def words(corpus: Corpus, example: int) -> list[str]:
    return [corpus.word(w) for w in range(*corpus.word_offsets[example : example + 2].tolist())]


@pytest.fixture
def conllu(tmp_path: Path) -> Callable[..., Corpus]:
    def read(*sentences: list[str], name: str = "a") -> Corpus:
        lines = []
        for number, forms in enumerate(sentences):
            lines.append(f"# sent_id = {name}{number}")
            for place, form in enumerate(forms, start=1):
                lines.append(f"{place}\t{form}\t_\t{name}{place}\t_\t_\t{place - 1}\tdep\t_\t_")
            lines.append("")
        file = tmp_path / f"{name}.conllu"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return read_corpus(file)

    return read


def test_chosen_examples_come_with_their_words_and_columns(conllu: Callable[..., Corpus]) -> None:
    corpus = conllu(["a", "b"], ["c"], ["d", "e", "f"])
    found = take_examples(corpus, np.array([2, 0]))
    assert found.texts == ["d e f", "a b"]
    assert [words(found, e) for e in (0, 1)] == [["d", "e", "f"], ["a", "b"]]
    assert found.columns["id"].tolist() == ["a2", "a0"]
    assert found.annotations["head"].tolist() == [0, 1, 2, 0, 1]
    assert found.annotations["upos"].tolist() == ["a1", "a2", "a3", "a1", "a2"]
    assert found.words_given
    assert found.source == corpus.source
    assert corpus.texts == ["a b", "c", "d e f"]


def test_chosen_pairs_keep_both_texts() -> None:
    corpus = corpus_from_texts(["a b", "c"], ["d", "e f g"], ["x", "y"])
    found = take_examples(corpus, np.array([1]))
    assert (found.texts, found.pair_texts) == (["c"], ["e f g"])
    assert found.word_segment.tolist() == [0, 1, 1, 1]
    assert words(found, 0) == ["c", "e", "f", "g"]
    assert found.columns["id"].tolist() == ["y"]


def test_to_choose_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^no example of the corpus is chosen"):
        take_examples(corpus_from_texts(["a"]), np.empty(0, np.int64))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_any_choice_is_that_of_a_loop(chosen: list[int]) -> None:
    texts = ["one", "two words", "three words here", "x", "the last of them"]
    corpus = corpus_from_texts(texts)
    found = take_examples(corpus, np.array(chosen))
    assert found.texts == [texts[e] for e in chosen]
    assert [words(found, e) for e in range(len(chosen))] == [texts[e].split() for e in chosen]


def test_all_of_one_and_of_several_is_the_whole_again(conllu: Callable[..., Corpus]) -> None:
    corpus = conllu(["a", "b"], ["c"], ["d", "e", "f"])
    parts = [take_examples(corpus, np.array(some)) for some in ([0], [1, 2])]
    assert join_corpora(parts).fingerprint == corpus.fingerprint
    assert join_corpora([corpus]) is corpus


def test_joined_corpora_have_the_annotations_and_columns_of_all(
    conllu: Callable[..., Corpus],
) -> None:
    one, two = conllu(["a", "b"], name="a"), conllu(["c"], ["d", "e"], name="b")
    one.annotations["only"] = string_array(["x", "y"])
    joined = join_corpora([one, two])
    assert joined.texts == ["a b", "c", "d e"]
    assert [words(joined, e) for e in range(3)] == [["a", "b"], ["c"], ["d", "e"]]
    assert joined.columns["id"].tolist() == ["a0", "b0", "b1"]
    assert joined.annotations["upos"].tolist() == ["a1", "a2", "b1", "b1", "b2"]
    assert "only" not in joined.annotations
    assert joined.source["sources"] == [one.source, two.source]


def test_ids_that_two_share_are_numbered() -> None:
    one, two = corpus_from_texts(["a", "b"], ids=["x", "y"]), corpus_from_texts(["c"], ids=["y"])
    assert join_corpora([one, two]).columns["id"].tolist() == ["1/x", "1/y", "2/y"]
    assert join_corpora([two, two]).columns["id"].tolist() == ["1/y", "2/y"]


def test_joined_pairs_keep_their_second_texts() -> None:
    one, two = corpus_from_texts(["a"], ["b"], ["x"]), corpus_from_texts(["c d"], ["e"], ["y"])
    joined = join_corpora([one, two])
    assert (joined.texts, joined.pair_texts) == (["a", "c d"], ["b", "e"])
    assert joined.word_segment.tolist() == [0, 1, 0, 0, 1]


def test_columns_of_different_types_become_text() -> None:
    one = of_rows([{"id": "a", "text": "x", "label": 1, "score": 1}])
    two = of_rows([{"id": "b", "text": "y", "label": "one", "score": 0.5, "more": 3}])
    joined = join_corpora([one, two])
    assert joined.columns["label"].tolist() == ["1", "one"]
    assert joined.columns["score"].tolist() == [1.0, 0.5]
    assert "more" not in joined.columns


def test_columns_kept_as_json_stay_so() -> None:
    one = of_rows([{"id": "a", "text": "x", "labels": ["B", "I"], "label": "yes"}])
    two = of_rows(
        [
            {"id": "b", "text": "y", "labels": ["O"], "label": "no"},
            {"id": "c", "text": "z", "labels": ["O"], "label": None},
        ]
    )
    joined = join_corpora([one, two])
    assert joined.columns["labels"].tolist() == ['["B", "I"]', '["O"]', '["O"]']
    assert joined.columns["label"].tolist() == ['"yes"', '"no"', "null"]
    assert joined.source["json_columns"] == ["label", "labels"]
    plain = of_rows([{"id": "d", "text": "w", "label": "yes", "labels": "none"}])
    again = join_corpora([joined, plain])
    assert again.columns["label"].tolist() == ['"yes"', '"no"', "null", '"yes"']
    assert again.columns["labels"].tolist()[-1] == '"none"'


def test_what_is_of_different_kinds_is_not_joined(conllu: Callable[..., Corpus]) -> None:
    single, pair = corpus_from_texts(["a"]), corpus_from_texts(["a"], ["b"])
    with pytest.raises(InvalidInput, match=r"^single texts and pairs of texts cannot be joined"):
        join_corpora([single, pair])
    with pytest.raises(InvalidInput, match=r"^raw texts and given words cannot be joined"):
        join_corpora([single, conllu(["a"])])


def test_the_licence_is_kept_where_all_have_it() -> None:
    one = replace(corpus_from_texts(["a"], ids=["x"]), licence="CC0")
    two = replace(corpus_from_texts(["b"], ids=["y"]), licence="CC0")
    assert take_examples(one, np.array([0])).licence == "CC0"
    assert join_corpora([one, two]).licence == "CC0"
    assert join_corpora([one, replace(two, licence="MIT")]).licence is None
