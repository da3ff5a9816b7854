"""Answers to questions from the start and end logits of the windows of a passage.

A passage that is longer than a window is read in several that overlap (Devlin et al. 2019, the
released SQuAD code). Spans of all windows of a question compete by the sum of two logits. A span
counts in the window that shows most around its start, so that none counts twice.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span of a passage that may be the answer."""

    first: int
    """The piece of the passage that it starts with."""
    last: int
    """The piece that it ends with, included."""
    score: float
    """Start logit of the first piece plus end logit of the last, float64."""
    window: int
    """Which of the question's windows scored it, in the order they were added."""


class AnswerSearch:
    """The best few spans of every question, from windows that come one at a time.

    Of each window the highest start logits and the highest end logits are looked at, wherever they
    lie. A pair of them is a span where both lie in the passage, the start is at its window of most
    context, the end is not before the start and the span is not too long. Spans with equal scores
    rank by window, then first piece, then last.
    """

    def __init__(
        self, *, n_best: int = 20, n_starts: int = 20, n_ends: int = 20, max_answer: int = 30
    ) -> None:
        """Set up for questions yet to come.

        Parameters
        ----------
        n_best
            Spans to keep of each question.
        n_starts, n_ends
            Starts and ends to look at in each window; of equal logits the earlier ones.
        max_answer
            The longest answer, in pieces.

        Raises
        ------
        InvalidInput
            One of these is below 1.
        """
        for name, value in (
            ("n_best", n_best),
            ("n_starts", n_starts),
            ("n_ends", n_ends),
            ("max_answer", max_answer),
        ):
            if value < 1:
                raise InvalidInput(f"{name} is {value}; give at least 1")
        self._n_best, self._n_starts, self._n_ends = n_best, n_starts, n_ends
        self._max_answer = max_answer
        self._best: dict[Hashable, list[Candidate]] = {}
        self._n_windows: dict[Hashable, int] = {}

    def add(
        self,
        question: Hashable,
        start_logits: NDArray[np.floating],
        end_logits: NDArray[np.floating],
        passage_index: NDArray[np.integer],
        is_max_context: NDArray[np.bool_],
    ) -> None:
        """Look at one more window of a question.

        Parameters
        ----------
        question
            Which question it is of.
        start_logits, end_logits
            (piece,): of the pieces of the window, without padding.
        passage_index
            (piece,): the place of each piece in the whole passage; -1 for the question's own pieces
            and special ones. A window holds one run of the passage.
        is_max_context
            (piece,): this is the window of most context of the piece (see `max_context_windows`).

        Raises
        ------
        InvalidInput
            The arrays are not of the same pieces, a logit is NaN or infinite, or pieces of the
            passage are not in one run.
        """
        starts = np.asarray(start_logits, dtype=np.float64)
        ends = np.asarray(end_logits, dtype=np.float64)
        index, at_home = np.asarray(passage_index), np.asarray(is_max_context, dtype=np.bool_)
        _check_window(question, starts, ends, index, at_home)

        top_starts = np.argsort(-starts, kind="stable")[: self._n_starts]
        top_ends = np.argsort(-ends, kind="stable")[: self._n_ends]
        top_starts = top_starts[(index[top_starts] >= 0) & at_home[top_starts]]
        top_ends = top_ends[index[top_ends] >= 0]
        length = top_ends[None, :] - top_starts[:, None] + 1
        rows, columns = np.nonzero((length >= 1) & (length <= self._max_answer))
        first, last = top_starts[rows], top_ends[columns]
        score = starts[first] + ends[last]
        order = np.lexsort((last, first, -score))[: self._n_best]

        window = self._n_windows.get(question, 0)
        self._n_windows[question] = window + 1
        found = [
            Candidate(int(index[first[i]]), int(index[last[i]]), float(score[i]), window)
            for i in order
        ]
        every = [*self._best.get(question, []), *found]
        every.sort(key=lambda one: (-one.score, one.window, one.first, one.last))
        self._best[question] = every[: self._n_best]

    def best(self, question: Hashable) -> list[Candidate]:
        """Return the best spans of a question, the best first; [] where no pair made a span.

        Raises
        ------
        InvalidInput
            No window of the question was added.
        """
        if question not in self._best:
            raise InvalidInput(f"no window of question {question} was added; add its windows first")
        return list(self._best[question])


def max_context_windows(
    starts: NDArray[np.integer], lengths: NDArray[np.integer], n_pieces: int
) -> NDArray[np.int64]:
    """Return the window of most context of each piece of a passage.

    The context of a piece in a window is the lesser of the numbers of pieces to its left and to its
    right, plus 0.01 times the length of the window. Of equal ones the first window is taken. It is
    computed in whole numbers, so that ties are ties.

    Parameters
    ----------
    starts, lengths
        (window,): the first piece of the passage in each window, and the number of its pieces of
        the passage.
    n_pieces
        Pieces of the passage.

    Returns
    -------
    ndarray
        (piece,): the window of each.

    Raises
    ------
    InvalidInput
        The passage has no piece, a window reaches beyond it, or a piece is in no window.
    """
    if n_pieces < 1:
        raise InvalidInput(f"a passage has {n_pieces} pieces; leave out empty passages")
    starts, lengths = np.asarray(starts, np.int64), np.asarray(lengths, np.int64)
    ends = starts + lengths
    bad = np.flatnonzero((starts < 0) | (lengths < 1) | (ends > n_pieces))
    if len(bad):
        raise InvalidInput(
            f"window {bad[0]} holds pieces {starts[bad[0]]} to {ends[bad[0]] - 1} of a passage of "
            f"{n_pieces}; give windows of at least one piece within it"
        )
    piece = np.arange(n_pieces)
    left, right = piece - starts[:, None], ends[:, None] - 1 - piece
    nearest = np.minimum(left, right)  # below 0 outside the window
    context = np.where(nearest >= 0, 100 * nearest + lengths[:, None], -1)
    uncovered = np.flatnonzero((context < 0).all(axis=0))
    if len(uncovered):
        raise InvalidInput(
            f"piece {uncovered[0]} of a passage of {n_pieces} is in no window; "
            "give windows that cover the passage"
        )
    windows: NDArray[np.int64] = context.argmax(axis=0).astype(np.int64)
    return windows


def answer_text(passage: str, offsets: NDArray[np.integer], first: int, last: int) -> str:
    """Return the text of a span as it stands in the passage, without white space around it.

    Parameters
    ----------
    passage
        The whole text.
    offsets
        (piece, 2): the first character of each piece and the one after its last.
    first, last
        Pieces of the passage, the last one included.

    Raises
    ------
    InvalidInput
        The span is not one of the passage's pieces.
    """
    if not 0 <= first <= last < len(offsets):
        raise InvalidInput(
            f"pieces {first} to {last} are no span of a passage of {len(offsets)} pieces; "
            "give two of them in order"
        )
    return passage[int(offsets[first][0]) : int(offsets[last][1])].strip()


def _check_window(
    question: Hashable,
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    index: NDArray[np.integer],
    at_home: NDArray[np.bool_],
) -> None:
    """Refuse a window of which the arrays do not fit one another."""
    shapes = [each.shape for each in (starts, ends, index, at_home)]
    if starts.ndim != 1 or len(set(shapes)) > 1:
        raise InvalidInput(
            f"a window of question {question} has start logits, end logits, places in the passage "
            f"and marks of most context of the shapes {', '.join(map(str, shapes))}; "
            "give one of each per piece"
        )
    if not (np.isfinite(starts).all() and np.isfinite(ends).all()):
        raise InvalidInput(
            f"a window of question {question} has logits that are NaN or infinite; "
            "give finite ones, of its pieces without padding"
        )
    inside = np.flatnonzero(index >= 0)
    if (np.diff(inside) != 1).any() or (np.diff(index[inside]) != 1).any():
        raise InvalidInput(
            f"a window of question {question} holds more than one run of its passage; "
            "number the pieces of the passage one by one, and give -1 for all others"
        )
