"""Answers from hand-made logits, and against a search through all pairs of random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from layerlake.analyses.finetuning.tasks.squad_decoding import (
    AnswerSearch,
    Candidate,
    answer_text,
    max_context_windows,
)
from layerlake.store.errors import InvalidInput

Window = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def window(
    n_passage: int,
    starts: dict[int, float],
    ends: dict[int, float],
    *,
    n_question: int = 3,
    begin: int = 0,
    not_at_home: tuple[int, ...] = (),
) -> Window:
    """Return a window of question, passage and one special piece.

    Logits are those given by piece of the window, and far below elsewhere.
    """
    n = n_question + n_passage + 1
    index = np.full(n, -1)
    index[n_question:-1] = begin + np.arange(n_passage)
    start_logits, end_logits = np.full(n, -50.0), np.full(n, -50.0)
    for piece, logit in starts.items():
        start_logits[piece] = logit
    for piece, logit in ends.items():
        end_logits[piece] = logit
    at_home = index >= 0
    at_home[list(not_at_home)] = False
    return start_logits, end_logits, index, at_home


def spans(search: AnswerSearch, question: int = 0) -> list[tuple[int, int, float]]:
    """Return the spans found with their scores."""
    return [(one.first, one.last, one.score) for one in search.best(question)]


def test_the_pair_of_highest_sum_is_the_answer() -> None:
    search = AnswerSearch(n_best=3)
    search.add(0, *window(6, {4: 5, 5: 4}, {6: 3, 4: 2.5}))
    assert spans(search) == [(1, 3, 8), (1, 1, 7.5), (2, 3, 7)]
    assert search.best(0)[0] == Candidate(first=1, last=3, score=8, window=0)


def test_an_end_before_its_start_is_passed_over() -> None:
    search = AnswerSearch(n_best=1)
    search.add(0, *window(6, {7: 9, 4: 1}, {5: 9}))
    assert spans(search) == [(1, 2, 10)]


@pytest.mark.parametrize(("n", "expected"), [(30, (0, 29, 18)), (31, (1, 30, 13))])
def test_an_answer_has_at_most_thirty_pieces(n: int, expected: tuple[int, int, float]) -> None:
    search = AnswerSearch(n_best=1)
    search.add(0, *window(40, {3: 9, 4: 4}, {2 + n: 9}))
    assert spans(search) == [expected]


def test_answers_in_the_question_are_passed_over() -> None:
    search = AnswerSearch(n_best=1)
    # Within the question, from it into the passage, and up to the special piece after it.
    search.add(0, *window(6, {1: 9, 4: 2}, {2: 9, 5: 1, 9: 8}))
    assert spans(search) == [(1, 2, 3)]


def test_a_start_counts_where_it_has_most_context() -> None:
    search = AnswerSearch(n_best=2)
    search.add(0, *window(6, {7: 9}, {8: 9}, not_at_home=(7, 8)))
    search.add(0, *window(6, {3: 1}, {4: 1}, begin=4))
    best, second = search.best(0)
    assert (best.first, best.last, best.score, best.window) == (4, 5, 2, 1)
    assert second.score < -40


def test_an_end_counts_wherever_its_start_does() -> None:
    search = AnswerSearch(n_best=1)
    search.add(0, *window(6, {4: 9}, {6: 9}, not_at_home=(6,)))
    assert spans(search) == [(1, 3, 18)]


def test_no_span_is_found_where_no_pair_is_one() -> None:
    search = AnswerSearch(n_starts=1, n_ends=1)
    search.add("end first", *window(6, {7: 9}, {5: 9}))
    search.add("in the question", *window(6, {1: 9}, {5: 9}))
    search.add("elsewhere", *window(6, {4: 9}, {5: 9}, not_at_home=(4,)))
    search.add("no passage", *window(0, {1: 9}, {1: 9}))
    for question in ("end first", "in the question", "elsewhere", "no passage"):
        assert search.best(question) == []


def test_only_the_highest_starts_and_ends_are_looked_at_wherever_they_lie() -> None:
    starts = {0: 9.0, 1: 8.0, 3: 7.0, 4: 6.0}
    search = AnswerSearch(n_best=50, n_starts=3, n_ends=2)
    search.add(0, *window(6, starts, {5: 5, 6: 4, 7: 3}))
    assert spans(search) == [(0, 2, 12), (0, 3, 11)]


def test_equal_scores_rank_by_window_then_start_then_end() -> None:
    equal = np.zeros(5), np.zeros(5), np.array([-1, 0, 1, 2, -1]), np.array([0, 1, 1, 1, 0]) > 0
    search = AnswerSearch(n_best=8)
    search.add(0, *equal)
    search.add(0, *equal)
    expected = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2), (0, 0), (0, 1)]
    assert [(one.first, one.last) for one in search.best(0)] == expected
    assert [one.window for one in search.best(0)] == [0] * 6 + [1] * 2


def test_twenty_spans_of_a_question_are_kept() -> None:
    search = AnswerSearch()
    search.add(0, *window(30, {3 + i: 1.0 for i in range(25)}, {30: 1.0}))
    assert len(search.best(0)) == 20


def test_windows_of_questions_may_alternate() -> None:
    rng = np.random.default_rng(5)
    windows = [random_windows(rng, 3, exact=False) for _ in range(4)]
    apart, mixed = AnswerSearch(n_best=5), AnswerSearch(n_best=5)
    for question, of in enumerate(windows):
        for one in of:
            apart.add(question, *one)
    for turn in range(3):
        for question, of in enumerate(windows):
            mixed.add(question, *of[turn])
    for question in range(4):
        assert apart.best(question) == mixed.best(question) != []


def random_windows(rng: np.random.Generator, n_windows: int, *, exact: bool) -> list[Window]:
    """Return windows of float32 logits, or of whole numbers with many ties."""
    windows = []
    for _ in range(n_windows):
        n_question, n_passage = int(rng.integers(0, 6)), int(rng.integers(0, 45))
        n = n_question + n_passage + 1
        index = np.full(n, -1)
        index[n_question:-1] = rng.integers(0, 30) + np.arange(n_passage)
        logits = rng.standard_normal((2, n)).astype(np.float32) * 3
        if exact:
            logits = logits.round()
        windows.append((*logits, index, rng.random(n) < 0.6))
    return windows


def every_pair(
    windows: list[Window], n_best: int, n_edges: int, max_answer: int
) -> list[tuple[int, int, float, int]]:
    """Return the best spans by looking at every pair of pieces."""
    found = []
    for number, (starts, ends, index, at_home) in enumerate(windows):
        n = len(index)

        def is_among_best(logits: NDArray[Any], piece: int) -> bool:
            """Say whether fewer than `n_edges` pieces come before one."""
            ahead = sum(
                other > logits[piece] or (other == logits[piece] and place < piece)
                for place, other in enumerate(logits)
            )
            return ahead < n_edges

        top_starts = [s for s in range(n) if is_among_best(starts, s)]
        top_ends = [e for e in range(n) if is_among_best(ends, e)]
        for s in top_starts:
            for e in top_ends:
                if index[s] < 0 or index[e] < 0 or not at_home[s]:
                    continue
                if index[e] < index[s] or index[e] - index[s] + 1 > max_answer:
                    continue
                score = float(starts[s]) + float(ends[e])
                found.append((-score, number, int(index[s]), int(index[e])))
    return [(first, last, -score, at) for score, at, first, last in sorted(found)[:n_best]]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("n_best", "n_edges", "max_answer"), [(1, 20, 30), (20, 20, 30), (5, 3, 4), (1000, 60, 1)]
)
def test_random_logits_give_the_best_of_every_pair(
    n_best: int, n_edges: int, max_answer: int, exact: bool
) -> None:
    rng = np.random.default_rng(n_best + exact)
    for _ in range(12):
        windows = random_windows(rng, int(rng.integers(1, 4)), exact=exact)
        search = AnswerSearch(
            n_best=n_best, n_starts=n_edges, n_ends=n_edges, max_answer=max_answer
        )
        for one in windows:
            search.add("q", *one)
        found = [(one.first, one.last, one.score, one.window) for one in search.best("q")]
        assert found == every_pair(windows, n_best, n_edges, max_answer)


def test_windows_that_do_not_fit_are_refused() -> None:
    starts, ends, index, at_home = window(3, {}, {})
    search = AnswerSearch()
    with pytest.raises(InvalidInput, match=r"question q has .* shapes \(7,\), \(6,\), \(7,\)"):
        search.add("q", starts, ends[1:], index, at_home)
    with pytest.raises(InvalidInput, match=r"one of each per piece"):
        search.add("q", *(each[None] for each in (starts, ends, index, at_home)))
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(InvalidInput, match=r"question q has logits that are NaN or infinite"):
            search.add("q", starts, np.where(index == 1, bad, ends), index, at_home)
    for runs in ([-1, -1, 0, 1, -1, 2, -1], [-1, -1, -1, 0, 2, 3, -1], [-1, -1, -1, 2, 1, 0, -1]):
        with pytest.raises(InvalidInput, match=r"more than one run of its passage"):
            search.add("q", starts, ends, np.array(runs), at_home)
    with pytest.raises(InvalidInput, match=r"no window of question q was added"):
        search.best("q")


@pytest.mark.parametrize("name", ["n_best", "n_starts", "n_ends", "max_answer"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{name} is 0; give at least 1"):
        AnswerSearch(**{name: 0})


def context_by_textbook(starts: list[int], lengths: list[int], n_pieces: int) -> list[int]:
    """Return the window of most context of each piece, one after the other."""
    windows = []
    for piece in range(n_pieces):
        best, best_context = -1, -1.0
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            if not start <= piece < start + length:
                continue
            left, right = piece - start, start + length - 1 - piece
            context = round(min(left, right) + 0.01 * length, 6)
            if context > best_context:
                best, best_context = number, context
        windows.append(best)
    return windows


def test_a_piece_belongs_to_the_window_that_shows_most_around_it() -> None:
    # Pieces 0-5, 3-8 and 6-9 of ten. Piece 4: 1 to its right in the first, 1 to its left in the
    # second, which are equally long, so the first. Piece 7: 1 + 0.06 against 1 + 0.04.
    found = max_context_windows(np.array([0, 3, 6]), np.array([6, 6, 4]), 10)
    assert found.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]


def test_a_longer_window_wins_where_as_much_is_seen() -> None:
    # Piece 2 has none to its left in the second window, and none to its right in the first.
    found = max_context_windows(np.array([0, 2]), np.array([3, 5]), 7)
    assert found.tolist() == [0, 0, 1, 1, 1, 1, 1]
    # 1 + 0.01 * 103 = 0 + 0.01 * 203: a tie, which the first window wins.
    starts, lengths = np.array([0, 101]), np.array([103, 203])
    assert max_context_windows(starts, lengths, 304)[101] == 0


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))
def test_windows_of_a_stride_are_chosen_as_in_the_textbook(
    n_pieces: int, width: int, stride: int
) -> None:
    stride = min(stride, width)
    starts = list(range(0, max(n_pieces - width, 0) + stride, stride))
    starts = [start for start in starts if start < n_pieces]
    lengths = [min(width, n_pieces - start) for start in starts]
    found = max_context_windows(np.array(starts), np.array(lengths), n_pieces)
    assert found.dtype == np.int64
    assert found.tolist() == context_by_textbook(starts, lengths, n_pieces)


@given(
    st.lists(st.tuples(st.integers(0, 399), st.integers(1, 400)), max_size=5), st.integers(0, 300)
)
def test_windows_of_any_lengths_are_chosen_as_in_the_textbook(
    others: list[tuple[int, int]], whole: int
) -> None:
    windows = [(start, min(length, 400 - start)) for start, length in others]
    windows.insert(whole % (len(windows) + 1), (0, 400))
    starts, lengths = ([one[side] for one in windows] for side in (0, 1))
    found = max_context_windows(np.array(starts), np.array(lengths), 400)
    assert found.tolist() == context_by_textbook(starts, lengths, 400)


def test_windows_that_do_not_cover_the_passage_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"piece 3 of a passage of 8 is in no window"):
        max_context_windows(np.array([0, 4]), np.array([3, 4]), 8)
    with pytest.raises(InvalidInput, match=r"window 1 holds pieces 4 to 8 of a passage of 8"):
        max_context_windows(np.array([0, 4]), np.array([4, 5]), 8)
    with pytest.raises(InvalidInput, match=r"piece 0 of a passage of 2 is in no window"):
        max_context_windows(np.array([], int), np.array([], int), 2)
    with pytest.raises(InvalidInput, match=r"a passage has 0 pieces"):
        max_context_windows(np.array([], int), np.array([], int), 0)


def test_an_answer_is_the_text_of_its_pieces() -> None:
    passage = "The caf\u00e9's  old pump."
    #           The    caf\u00e9  '        s         old (with the spaces before it), pump, .
    offsets = np.array([[0, 3], [4, 8], [8, 9], [9, 10], [10, 15], [15, 20], [20, 21]])
    assert answer_text(passage, offsets, 1, 1) == "caf\u00e9"
    assert answer_text(passage, offsets, 0, 3) == "The caf\u00e9's"
    assert answer_text(passage, offsets, 4, 4) == "old"
    assert answer_text(passage, offsets, 3, 5) == "s  old pump"
    assert answer_text(passage, offsets, 0, 6) == passage


@pytest.mark.parametrize(("first", "last"), [(1, 0), (-1, 1), (0, 2)])
def test_pieces_that_are_no_span_are_refused(first: int, last: int) -> None:
    with pytest.raises(InvalidInput, match=rf"pieces {first} to {last} are no span"):
        answer_text("old pump", np.array([[0, 3], [4, 8]]), first, last)
