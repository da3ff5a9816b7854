"""Attachment scores of dependency trees, under two named conventions.

UAS is the share of words with the right head, LAS that of words with the right head and relation.
`ud17` counts every word, punctuation included, and compares relations up to the first ":" (CoNLL
2017 shared task, with gold words). `ptb` leaves out words whose UPOS is PUNCT, and compares whole
relations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput

Convention: TypeAlias = Literal["ud17", "ptb"]
"""What counts as a word, and what as the same relation."""

CONVENTIONS: Final[tuple[Convention, ...]] = get_args(Convention)

Texts: TypeAlias = Sequence[str] | NDArray[Any]
"""One string per word: a list, or a numpy array of strings."""


@dataclass(frozen=True, slots=True)
class AttachmentCounts:
    """How many words of some sentences hang where they should."""

    n_words: int = 0
    """Words that count under the convention."""
    n_heads: int = 0
    """Of these, those with the right head."""
    n_labels: int = 0
    """Of those, the ones with the right relation as well."""

    @property
    def uas(self) -> float:
        """The unlabelled attachment score, in [0, 1]; NaN where no word counts."""
        return self.n_heads / self.n_words if self.n_words else float("nan")

    @property
    def las(self) -> float:
        """The labelled attachment score, in [0, 1]; NaN where no word counts."""
        return self.n_labels / self.n_words if self.n_words else float("nan")


def count_attachments(
    gold_heads: NDArray[np.integer],
    gold_relations: Texts,
    heads: NDArray[np.integer],
    relations: Texts,
    upos: Texts,
    convention: Convention,
) -> AttachmentCounts:
    """Count the right attachments of a corpus.

    Parameters
    ----------
    gold_heads, heads
        (word,): of all words of the corpus, the head within the sentence, 0 for ROOT.
    gold_relations, relations
        (word,): the relation of each word to its head, with its subtype.
    upos
        (word,): the gold universal part of speech.
    convention
        "ud17" or "ptb".

    Raises
    ------
    InvalidInput
        The convention is not known, or the arrays are not of the same words.
    """
    marks = _marks(gold_heads, gold_relations, heads, relations, upos, convention)
    return AttachmentCounts(*(int(count) for count in marks.sum(axis=1)))


def _marks(
    gold_heads: NDArray[np.integer],
    gold_relations: Texts,
    heads: NDArray[np.integer],
    relations: Texts,
    upos: Texts,
    convention: Convention,
) -> NDArray[np.bool_]:
    """Say of each word whether it counts, has the right head, and the right relation too.

    The result is (3, word).
    """
    if convention not in CONVENTIONS:
        raise InvalidInput(
            f"{convention!r} is no convention of attachment scores; "
            f"choose one of {', '.join(CONVENTIONS)}"
        )
    lengths = [len(each) for each in (gold_heads, gold_relations, heads, relations, upos)]
    if len(set(lengths)) > 1:
        raise InvalidInput(
            "gold heads, gold relations, heads, relations and parts of speech are of "
            f"{', '.join(map(str, lengths))} words; give one of each per word"
        )
    same_relation = _relations(gold_relations, convention) == _relations(relations, convention)
    counted = np.ones(lengths[0], dtype=np.bool_)
    if convention == "ptb":
        counted = _strings(upos) != "PUNCT"
    right_head = counted & (np.asarray(gold_heads) == np.asarray(heads))
    return np.stack([counted, right_head, right_head & same_relation])


def _relations(texts: Texts, convention: Convention) -> NDArray[Any]:
    """Return as much of each relation as is compared."""
    relations = _strings(texts)
    if convention == "ud17":
        relations = np.strings.partition(relations, _strings(":"))[0]
    return relations


def _strings(texts: Texts) -> NDArray[Any]:
    """Return texts as an array of strings of any length; what is no string raises ValueError."""
    return np.asarray(texts, dtype=np.dtypes.StringDType(coerce=False))
