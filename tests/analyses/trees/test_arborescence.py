"""The best tree against networkx, and against every tree there is of a few words."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from layerlake.analyses.trees.arborescence import best_heads, tree_problem
from layerlake.store.errors import InvalidInput

Scores = NDArray[np.float64]
BARRED = -np.inf


def total(scores: Scores, heads: Sequence[int] | NDArray[np.int64]) -> float:
    """Return the score of a tree."""
    return float(sum(scores[word, head] for word, head in enumerate(heads, 1)))


def leads_to_root(heads: Sequence[int]) -> bool:
    """Say whether every word reaches ROOT within as many steps as there are words."""
    for word in range(1, len(heads) + 1):
        for _ in heads:
            word = heads[word - 1] if word else 0
        if word:
            return False
    return True


def every_tree(n: int, *, single_root: bool) -> list[tuple[int, ...]]:
    """Return the heads of every tree of n words."""
    return [
        heads
        for heads in itertools.product(range(n + 1), repeat=n)
        if leads_to_root(heads) and (heads.count(0) == 1 or not single_root)
    ]


def best_total_by_networkx(scores: Scores) -> float:
    """Return the highest score over every choice of the one child of ROOT."""
    networkx = pytest.importorskip("networkx")
    n = len(scores) - 1
    words = scores[1:, 1:].copy()
    np.fill_diagonal(words, -np.inf)
    most = words.max(axis=1, initial=-1e9)  # a word alone has no other to hang on
    # What the best heads would give with each child of ROOT: an upper bound.
    bounds = scores[1:, 0] + most.sum() - most
    best = -np.inf
    for root in 1 + np.argsort(-bounds):
        if bounds[root - 1] < best:
            break
        graph = networkx.DiGraph()
        graph.add_edge(0, root, weight=scores[root, 0])
        for word, head in itertools.permutations(range(1, n + 1), 2):
            graph.add_edge(head, word, weight=scores[word, head])
        tree = networkx.maximum_spanning_arborescence(graph)
        best = max(best, sum(weight for *_, weight in tree.edges(data="weight")))
    return best


@pytest.mark.parametrize("n", range(1, 13))
def test_random_trees_score_as_networkx_finds(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(84):
        scores = rng.standard_normal((n + 1, n + 1))
        heads = best_heads(scores)
        assert tree_problem(heads) is None
        assert total(scores, heads) == pytest.approx(best_total_by_networkx(scores), abs=1e-9)


@pytest.mark.parametrize("n", range(2, 10))
def test_trees_of_tied_scores_score_as_networkx_finds(n: int) -> None:
    rng = np.random.default_rng(100 + n)
    for _ in range(20):
        scores = rng.integers(0, 3, (n + 1, n + 1)).astype(np.float64)
        heads = best_heads(scores)
        assert tree_problem(heads) is None
        assert total(scores, heads) == best_total_by_networkx(scores)


@pytest.mark.parametrize("single_root", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_no_tree_of_few_words_scores_higher(n: int, single_root: bool) -> None:
    rng = np.random.default_rng(n)
    trees = every_tree(n, single_root=single_root)
    for share_barred in (0.0, 0.3, 0.6):
        for values in (rng.standard_normal, lambda shape: rng.integers(-2, 3, shape) * 1.0):
            for _ in range(25):
                scores = values((n + 1, n + 1))
                scores[rng.random(scores.shape) < share_barred] = BARRED
                best = max(total(scores, heads) for heads in trees)
                if best == BARRED:
                    with pytest.raises(InvalidInput, match=r"tree"):
                        best_heads(scores, single_root=single_root)
                    continue
                heads = best_heads(scores, single_root=single_root)
                assert tuple(heads) in trees
                assert total(scores, heads) == pytest.approx(best, abs=1e-12)


def test_every_tree_of_few_words_is_counted() -> None:
    # Cayley: (n + 1)^(n - 1) trees, n^(n - 1) of them with a single child of ROOT.
    assert [len(every_tree(n, single_root=False)) for n in (1, 2, 3, 4)] == [1, 3, 16, 125]
    assert [len(every_tree(n, single_root=True)) for n in (1, 2, 3, 4)] == [1, 2, 9, 64]


def test_a_cycle_of_best_heads_is_broken_where_it_costs_least() -> None:
    scores = np.array(
        [
            [0, 0, 0, 0],
            [1, 0, 9, 0],  # word 1 takes 2, and 2 takes 1
            [5, 9, 0, 0],
            [0, 0, 8, 0],
        ]
    )
    # 0 -> 1 -> 2 gives 10, 0 -> 2 -> 1 gives 14.
    assert best_heads(scores).tolist() == [2, 0, 2]


def test_of_two_roots_one_is_kept() -> None:
    scores = np.array(
        [
            [0, 0, 0, 0],
            [9, 0, 1, 0],
            [9, 7, 0, 0],
            [0, 0, 8, 0],
        ]
    )
    assert best_heads(scores, single_root=False).tolist() == [0, 0, 2]
    assert best_heads(scores).tolist() == [0, 1, 2]


def test_the_root_that_is_kept_need_not_be_the_best_child_of_root() -> None:
    scores = np.array(
        [
            [0, 0, 0],
            [10, 0, 9],  # 0 -> 2 -> 1: 17
            [8, 1, 0],  # 0 -> 1 -> 2: 11
        ]
    )
    assert best_heads(scores).tolist() == [2, 0]


def test_cycles_within_cycles_are_broken() -> None:
    n = 24
    # Near words are the best heads, so that cycles grow one word at a time.
    apart = np.abs(np.subtract.outer(np.arange(n + 1), np.arange(n + 1)))
    scores = -(apart**2.0)
    scores[:, 0] = -1e4
    scores[17, 0] = -1e3
    heads = best_heads(scores)
    assert heads.tolist() == [*range(2, 18), 0, *range(17, n)]


def test_of_equal_heads_the_lower_one_is_taken() -> None:
    scores = np.zeros((4, 4))
    scores[2:, 0] = -1
    assert best_heads(scores).tolist() == [0, 1, 1]
    assert best_heads(np.zeros((4, 4)), single_root=False).tolist() == [0, 0, 0]


def test_of_equal_arcs_into_a_cycle_that_of_the_lower_word_is_taken() -> None:
    scores = np.array([[0, 0, 0], [0, 0, 5], [0, 5, 0]])
    assert best_heads(scores).tolist() == [0, 1]


def test_row_of_root_and_diagonal_are_ignored() -> None:
    scores = np.random.default_rng(3).standard_normal((6, 6))
    expected = best_heads(scores)
    scores[0] = np.nan
    np.fill_diagonal(scores, np.inf)
    assert best_heads(scores).tolist() == expected.tolist()
    assert np.isnan(scores[0, 1:]).all()


def test_small_differences_of_float32_scores_count() -> None:
    scores = np.zeros((3, 3), dtype=np.float32)
    scores[1] = [2**24, 0, 0]
    scores[2] = [2**24 - 1, 1.5, 0]  # 2^24 + 1.5 against 2^24 - 1 + 0
    assert best_heads(scores).tolist() == [0, 1]
    scores[1, 2] = 3  # 2^24 - 1 + 3 = 2^24 + 2, which float32 cannot tell from 2^24 + 1.5
    assert best_heads(scores).tolist() == [2, 0]


@st.composite
def whole_scores(draw: st.DrawFn) -> Scores:
    """Draw scores that are whole numbers, whose sums are exact."""
    n = draw(st.integers(1, 9))
    return draw(arrays.arrays(np.float64, (n + 1, n + 1), elements=st.integers(-9, 9)))


@given(whole_scores(), st.integers(-50, 50), st.integers(0, 8))
def test_what_every_arc_into_a_word_gains_changes_no_tree(
    scores: Scores, gain: int, word: int
) -> None:
    expected = best_heads(scores)
    scores[1 + word % len(expected)] += gain
    assert best_heads(scores).tolist() == expected.tolist()


@given(whole_scores(), st.integers(-50, 50))
def test_what_every_arc_from_root_gains_changes_no_tree_with_one_root(
    scores: Scores, gain: int
) -> None:
    expected = total(scores, best_heads(scores))
    moved = scores.copy()
    moved[:, 0] += gain
    assert total(scores, best_heads(moved)) == expected


@given(whole_scores(), st.randoms(use_true_random=False))
def test_the_order_of_words_changes_no_total(scores: Scores, random: object) -> None:
    order = list(range(1, len(scores)))
    random.shuffle(order)  # type: ignore[attr-defined]
    moved = scores[np.ix_([0, *order], [0, *order])]
    assert total(moved, best_heads(moved)) == total(scores, best_heads(scores))


@given(whole_scores())
def test_one_root_costs_and_never_gains(scores: Scores) -> None:
    many, one = best_heads(scores, single_root=False), best_heads(scores)
    assert leads_to_root(many.tolist())
    assert tree_problem(one) is None
    assert total(scores, many) >= total(scores, one)


def with_entry(row: int, column: int, value: float) -> Scores:
    """Return scores of three words with one entry changed."""
    scores = np.zeros((4, 4))
    scores[row, column] = value
    return scores


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (with_entry(2, 3, np.nan), r"word 2 with head 3 is nan"),
        (with_entry(3, 0, np.inf), r"word 3 with head 0 is inf"),
        (with_entry(3, 0, -1e308), r"is -1e\+308; give numbers of at most 1e\+300"),
        (np.zeros((3, 4)), r"shape \(3, 4\)"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((1, 1)), r"no word"),
        (np.zeros((0, 0)), r"no word"),
    ],
)
def test_scores_of_no_sentence_are_refused(scores: Scores, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        best_heads(scores)


def test_scores_that_allow_no_tree_say_what_nothing_leads_to() -> None:
    scores = np.zeros((4, 4))
    scores[2] = BARRED
    with pytest.raises(InvalidInput, match=r"every arc into word 2 is forbidden"):
        best_heads(scores)
    scores = np.zeros((4, 4))
    scores[2:, :2] = BARRED  # words 2 and 3 have only each other
    with pytest.raises(InvalidInput, match=r"every arc into words \[2, 3\] from outside"):
        best_heads(scores)


def test_scores_that_allow_only_trees_of_two_roots_are_refused_with_one_asked_for() -> None:
    scores = np.zeros((4, 4))
    scores[1:3, 1:] = BARRED
    assert best_heads(scores, single_root=False).tolist() == [0, 0, 0]
    with pytest.raises(InvalidInput, match=r"of 3 words allow has at least 2 children"):
        best_heads(scores)


@pytest.mark.parametrize(
    ("heads", "problem"),
    [
        ([0], None),
        ([2, 0, 2], None),
        ([], "no word"),
        ([2, 3, 1], "no root"),
        ([0, 1, 0], "two roots (words 1 and 3)"),
        ([0, 0, 0], "3 roots (words 1, 2 and 3)"),
        ([0, 5, 1, 2, 4], "a cycle (words 2, 5, 4)"),
        ([0, 1, 4, 5, 4], "a cycle (words 4, 5)"),
        ([0, 2], "word 2 as its own head"),
        ([0, 3], "head 3 of word 2 (of 2)"),
        ([0, -1], "head -1 of word 2 (of 2)"),
    ],
)
def test_heads_that_are_no_tree_are_told_why(heads: list[int], problem: str | None) -> None:
    assert tree_problem(heads) == problem
    assert tree_problem(np.array(heads, dtype=np.int64)) == problem


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.integers(0, n), min_size=n, max_size=n)))
def test_heads_are_a_tree_where_they_are_among_all_trees(heads: list[int]) -> None:
    assert (tree_problem(heads) is None) == (leads_to_root(heads) and heads.count(0) == 1)


@pytest.mark.data
def test_every_gold_tree_of_ewt_is_found_from_scores_of_its_arcs(data_folder: Path) -> None:
    text = gzip.decompress((data_folder / "ewt" / "en_ewt-ud-dev.conllu.gz").read_bytes()).decode()
    found = 0
    for sentence in text.strip().split("\n\n"):
        rows = [line.split("\t") for line in sentence.splitlines() if not line.startswith("#")]
        heads = [int(row[6]) for row in rows if row[0].isdigit()]
        assert tree_problem(heads) is None
        scores = np.zeros((len(heads) + 1, len(heads) + 1), dtype=np.float32)
        scores[range(1, len(heads) + 1), heads] = 1
        assert best_heads(scores).tolist() == heads
        found += 1
    assert found == 2001
