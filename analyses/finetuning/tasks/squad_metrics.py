"""Exact match and F1 of answers by the official definition of SQuAD v1.1 (Rajpurkar et al. 2016).

Texts are compared after normalising; a question scores the most that any of its references gives.
Unlike in SQuAD v2, an empty answer shares no word with anything: its F1 is 0, even where the
reference is empty as well.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput, is_a

_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")


class AnswerScores(TypedDict):
    """Scores of the answers to some questions."""

    exact_match: float
    """Mean over questions, in [0, 1]."""
    f1: float
    """Mean over questions, in [0, 1]."""
    n_missing: int
    """Questions without an answer; each scores 0."""
    n_unused: int
    """Answers to questions that have no references; they score nothing."""
    questions: tuple[str, ...]
    """The questions, in the order of their references."""
    exact_matches: NDArray[np.float64]
    """(question,): 1 or 0."""
    f1s: NDArray[np.float64]
    """(question,): in [0, 1]."""


def normalise_answer(text: str) -> str:
    """Return a text in lower case without ASCII punctuation, articles and further white space.

    Punctuation goes before articles do: "a.m." becomes "am", and "the-end" "theend".
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """Return 1 where an answer equals one of the references after normalising, else 0.

    Raises
    ------
    InvalidInput
        There is no reference.
    """
    _check(references)
    answer = normalise_answer(prediction)
    return float(any(answer == normalise_answer(reference) for reference in references))


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Return the highest F1 between the words of an answer and those of a reference.

    Words count as often as they occur; their order does not matter.

    Raises
    ------
    InvalidInput
        There is no reference.
    """
    _check(references)
    answer = Counter(normalise_answer(prediction).split())
    return max(_f1(answer, Counter(normalise_answer(text).split())) for text in references)


def score_answers(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> AnswerScores:
    """Score the answers to all questions that have references.

    Parameters
    ----------
    predictions
        The answer to each question, by its id. A question without one scores 0.
    references
        The right answers to each question, at least one.

    Raises
    ------
    InvalidInput
        There is no question, or one without a reference.
    """
    if not references:
        raise InvalidInput("no question has references; give those of at least one")
    exact_matches, f1s = np.zeros(len(references)), np.zeros(len(references))
    n_missing = 0
    for place, (question, texts) in enumerate(references.items()):
        try:
            _check(texts)
        except InvalidInput as error:
            raise InvalidInput(f"question {question}: {error}") from None
        if question not in predictions:
            n_missing += 1
            continue
        exact_matches[place] = exact_match(predictions[question], texts)
        f1s[place] = token_f1(predictions[question], texts)
    return {
        "exact_match": float(exact_matches.mean()),
        "f1": float(f1s.mean()),
        "n_missing": n_missing,
        "n_unused": len(predictions.keys() - references.keys()),
        "questions": tuple(references),
        "exact_matches": exact_matches,
        "f1s": f1s,
    }


def _check(references: Sequence[str]) -> None:
    """Refuse references that nothing can be compared with."""
    if is_a(references, str):
        raise InvalidInput(f"{references!r} is one text; give a list of references")
    if not references:
        raise InvalidInput("there is no reference to compare an answer with; give at least one")


def _f1(answer: Counter[str], reference: Counter[str]) -> float:
    """Return the harmonic mean of precision and recall of two bags of words."""
    shared = (answer & reference).total()
    return 2 * shared / (answer.total() + reference.total()) if shared else 0.0
