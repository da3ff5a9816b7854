"""Exact match and F1 by hand, and against the definition spelled out character by character."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlake.analyses.finetuning.tasks.squad_metrics import (
    exact_match,
    normalise_answer,
    score_answers,
    token_f1,
)
from layerlake.store.errors import InvalidInput

ASCII_PUNCTUATION = [chr(code) for code in range(33, 127) if not chr(code).isalnum()]


def normalised_by_characters(text: str) -> list[str]:
    """Return the words of a text as the definition leaves them, without regular expressions."""
    kept = [character for character in text.lower() if character not in ASCII_PUNCTUATION]
    runs = [
        "".join(run) for _, run in itertools.groupby(kept, lambda one: one.isalnum() or one == "_")
    ]
    return "".join(" " if run in ("a", "an", "the") else run for run in runs).split()


def f1_by_removal(prediction: str, reference: str) -> float:
    """Return F1 by striking shared words off a list, from precision and recall."""
    words, left = normalised_by_characters(prediction), normalised_by_characters(reference)
    n_words, n_reference, shared = len(words), len(left), 0
    for word in words:
        if word in left:
            left.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / n_words, shared / n_reference
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The Old  Pump", "old pump"),
        ("a an the A AN THE", ""),
        ("theatre, anthem and banana", "theatre anthem and banana"),
        ("at 9 a.m.", "at 9 am"),
        ("the-end", "theend"),
        ("the end\u2014an epilogue", "end\u2014 epilogue"),  # the dash is not ASCII: it stays
        ("\u201cthe\u201d pump", "\u201c \u201d pump"),
        ("$5.50 (US)", "550 us"),
        ("it's_fine", "itsfine"),
        ("\u00c9cole d'\u00c9t\u00e9", "\u00e9cole d\u00e9t\u00e9"),
        ("\tone\n\u00a0two\u2003", "one two"),
        ("thé", "thé"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_answers_are_normalised(text: str, normalised: str) -> None:
    assert normalise_answer(text) == normalised


@pytest.mark.parametrize(
    ("prediction", "references", "match", "f1"),
    [
        ("the pump", ["Pump."], 1, 1),
        ("old pump", ["the pump", "a new pump"], 0, 2 / 3),  # 2 of 1 + 2 words
        ("pump", ["valve", "old pump", "pump!"], 1, 1),
        ("pump pump", ["pump"], 0, 2 / 3),  # a word is shared once
        ("pump old", ["old pump"], 0, 1),
        ("old blue pump house", ["blue pump works"], 0, 4 / 7),
        ("valve", ["pump"], 0, 0),
        ("", ["pump"], 0, 0),
        ("the", ["a"], 1, 0),  # both are empty
        ("caf\u00e9", ["cafe"], 0, 0),
    ],
)
def test_answers_score_by_hand(
    prediction: str, references: list[str], match: float, f1: float
) -> None:
    assert exact_match(prediction, references) == match
    assert token_f1(prediction, references) == pytest.approx(f1, abs=1e-15)


words = st.sampled_from(
    ["a", "an", "the", "The", "theatre", "pump", "Pump", "old", "9", ".", "'s", "-", "\u2014",
     "\u00e9", "e\u0301", "\u0130", "\u00df", "_", "\u00a0", "\u200b", "\u4e2d", "\n"]
)  # fmt: skip
texts = st.one_of(
    st.text(max_size=12),
    st.lists(words, max_size=8).map("".join),
    st.lists(words, max_size=8).map(" ".join),
)


@given(texts)
def test_texts_normalise_as_character_by_character(text: str) -> None:
    assert normalise_answer(text).split() == normalised_by_characters(text)
    assert normalise_answer(text) == " ".join(normalise_answer(text).split())


@given(texts, st.lists(texts, min_size=1, max_size=4))
def test_texts_score_as_character_by_character(prediction: str, references: list[str]) -> None:
    words = normalised_by_characters(prediction)
    assert exact_match(prediction, references) == max(
        words == normalised_by_characters(reference) for reference in references
    )
    expected = max(f1_by_removal(prediction, reference) for reference in references)
    assert token_f1(prediction, references) == pytest.approx(expected, abs=1e-15)


def test_scores_are_means_over_all_questions_with_references() -> None:
    references = {"q3": ["pump"], "q1": ["the old pump", "pump"], "q2": ["valve"], "q4": ["a"]}
    predictions = {"q1": "old pump house", "q3": "Pump", "q4": "", "q9": "pump"}
    scores = score_answers(predictions, references)
    assert scores["questions"] == ("q3", "q1", "q2", "q4")
    assert scores["exact_matches"].tolist() == [1, 0, 0, 1]
    np.testing.assert_allclose(scores["f1s"], [1, 4 / 5, 0, 0], rtol=1e-15)
    assert scores["exact_match"] == 2 / 4
    assert scores["f1"] == pytest.approx(1.8 / 4)
    assert (scores["n_missing"], scores["n_unused"]) == (1, 1)


def test_a_missing_answer_scores_nothing_where_an_empty_one_would_match() -> None:
    assert score_answers({"q": ""}, {"q": ["the"]})["exact_match"] == 1
    missing = score_answers({}, {"q": ["the"]})
    assert (missing["exact_match"], missing["n_missing"]) == (0, 1)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no question has references"):
        score_answers({"q": "pump"}, {})
    with pytest.raises(InvalidInput, match=r"question q2: there is no reference"):
        score_answers({}, {"q1": ["pump"], "q2": []})
    with pytest.raises(InvalidInput, match=r"question q: 'pump' is one text"):
        score_answers({"q": "pump"}, {"q": "pump"})
    for score in (exact_match, token_f1):
        with pytest.raises(InvalidInput, match=r"no reference"):
            score("pump", [])
