"""Centred sums taken apart, and intervals from groups left out, against the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from scipy.stats import t as student

from layerlake.analyses.similarity.closed_forms.centred_sums import CrossSums, SpaceSums
from layerlake.analyses.similarity.closed_forms.centring import CentredSums
from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.left_out import (
    FormValue,
    jackknifed,
    leave_out,
)
from layerlake.analyses.similarity.closed_forms.moved_centre import without
from layerlake.analyses.similarity.closed_forms.pair import SpacePair
from layerlake.analyses.similarity.closed_forms.registry import FORMS, measure
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.statistics.group_jackknife import even_groups
from layerlake.store.errors import InvalidInput


def sums_of(*spaces: np.ndarray) -> CentredSums:
    """The sums of some rows of several spaces, of all pairs."""
    rows = [X - X.mean(axis=0) for X in spaces]
    squares = [(x * x).sum(axis=1) for x in rows]
    own = tuple(
        SpaceSums(len(x), X.mean(axis=0), x.T @ x, p @ x, float(p @ p))
        for X, x, p in zip(spaces, rows, squares, strict=True)
    )
    return CentredSums(
        own,
        {
            (s, t): CrossSums(
                rows[s].T @ rows[t],
                squares[t] @ rows[s],
                squares[s] @ rows[t],
                float(squares[s] @ squares[t]),
            )
            for t in range(len(rows))
            for s in range(t)
        },
    )


def spaces_of(n: int = 240, seed: int = 0) -> list[np.ndarray]:
    """Three spaces of unequal widths that share a part; rows drift, so parts differ in mean."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 5)) * [3, 2, 1, 1, 0.5] + np.linspace(0, 4, n)[:, None]
    return [
        shared @ rng.standard_normal((5, d)) + 2 * rng.standard_normal((n, d)) + 7
        for d in (5, 4, 6)
    ]


def assert_same(found: CentredSums, wanted: CentredSums, whole: CentredSums) -> None:
    """Compare sums to nine digits of those of a whole."""
    for a, b, all_ in zip(found.spaces, wanted.spaces, whole.spaces, strict=True):
        assert a.n_rows == b.n_rows
        for name in ("mean", "gram", "weighted", "squares"):
            near = 1e-9 * np.abs(getattr(all_, name)).max()
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=near)
    assert found.crosses.keys() == wanted.crosses.keys()
    for pair, b in wanted.crosses.items():
        a, all_ = found.crosses[pair], whole.crosses[pair]
        for name in ("product", "left", "right", "squares"):
            near = 1e-9 * np.abs(getattr(all_, name)).max()
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=near)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 39))
def test_parts_come_off_the_whole(seed, cut):
    spaces = spaces_of(40, seed)
    whole = sums_of(*spaces)
    one, other = sums_of(*(X[:cut] for X in spaces)), sums_of(*(X[cut:] for X in spaces))
    assert_same(without(whole, one), other, whole)
    assert_same(without(whole, other), one, whole)


def test_rows_that_are_all_the_same_leave_sums_of_zero():
    spaces = spaces_of(60)
    for X in spaces:
        X[:40] = X[0]
    whole, part = sums_of(*spaces), sums_of(*(X[40:] for X in spaces))
    for space in without(whole, part).spaces:
        assert not space.gram.any()
        assert Decomposition(space).constant


def test_all_rows_cannot_be_taken_off():
    whole = sums_of(*spaces_of(10))
    with pytest.raises(ValueError, match="leave none"):
        without(whole, whole)


def split(groups: np.ndarray, *spaces: np.ndarray) -> list[CentredSums]:
    """The sums of each group of rows."""
    return [sums_of(*(X[groups == g] for X in spaces)) for g in np.unique(groups)]


def group_jackknife(
    names: list[str],
    total: CentredSums,
    groups: Iterable[CentredSums],
    confidence: float = 0.95,
) -> dict[Pair, dict[str, FormValue]]:
    """The forms of all pairs with intervals, from the sums of each group."""
    labels = [f"space {s}" for s in range(len(total.spaces))]
    stored = [np.float64] * len(total.spaces)
    left_out = (leave_out(names, total, group, labels, stored) for group in groups)
    return jackknifed(names, total, left_out, labels, stored, confidence)


def brute(name: str, X: np.ndarray, Y: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The interval, from the rows with each group left out in turn."""

    def value(keep: np.ndarray) -> float:
        sums = sums_of(X[keep], Y[keep])
        left, right = (Decomposition(space) for space in sums.spaces)
        number = measure([name], SpacePair(left, right, sums.crosses[0, 1]))[name].value
        if FORMS[name].kind == "distance":
            return math.log(number / math.sqrt(keep.sum() / len(X)))
        return math.atanh(math.cos(number) if FORMS[name].kind == "angle" else number)

    whole = value(np.ones(len(X), bool))
    left_out = np.array([value(groups != g) for g in np.unique(groups)])
    count = len(left_out)
    error = math.sqrt((count - 1) / count * np.sum((left_out - left_out.mean()) ** 2))
    reach = student.ppf(0.975, count - 1) * error
    ends = whole - reach, whole + reach
    if FORMS[name].kind == "distance":
        return math.exp(ends[0]), math.exp(ends[1])
    if FORMS[name].kind == "angle":
        return math.acos(math.tanh(ends[1])), math.acos(math.tanh(ends[0]))
    return math.tanh(ends[0]), math.tanh(ends[1])


def test_intervals_are_those_of_rows_left_out():
    X, Y, _ = spaces_of()
    groups = even_groups(np.full(80, 3), 12)[np.arange(240) // 3]
    found = group_jackknife(list(FORMS), sums_of(X, Y), split(groups, X, Y))[0, 1]
    assert list(found) == list(FORMS)
    for name, one in found.items():
        assert (one.low, one.high) == pytest.approx(brute(name, X, Y, groups), abs=1e-7)
        assert one.low < one.value < one.high


def test_many_pairs_share_the_decompositions(monkeypatch):
    spaces = spaces_of()
    groups = np.arange(240) // 40
    total, parts = sums_of(*spaces), split(groups, *spaces)
    calls = []
    eigh = linalg.eigh

    def counted(*args, **kwargs):
        calls.append(1)
        return eigh(*args, **kwargs)

    monkeypatch.setattr(linalg, "eigh", counted)
    found = group_jackknife(["cca"], total, iter(parts))
    assert len(calls) == 3 * (1 + 6)
    assert found.keys() == {(0, 1), (0, 2), (1, 2)}
    for s, t in found:
        alone = group_jackknife(
            ["cca"], sums_of(spaces[s], spaces[t]), split(groups, spaces[s], spaces[t])
        )[0, 1]["cca"]
        one = found[s, t]["cca"]
        assert (one.value, one.low, one.high) == pytest.approx(
            (alone.value, alone.low, alone.high), abs=1e-9
        )


def test_uneven_groups_of_a_distance_are_put_on_one_footing():
    X, Y, _ = spaces_of(600)
    noise = np.random.default_rng(0).permutation(600)  # so that groups differ in size alone
    X, Y = X[noise], Y[noise]
    groups = np.repeat(np.arange(10), [20, 100] * 5)
    one = group_jackknife(["procrustes-size"], sums_of(X, Y), split(groups, X, Y))[0, 1]
    found = one["procrustes-size"]
    assert found.high / found.low < 1.15


def test_one_group_far_larger_than_the_others_is_noted():
    X, Y, _ = spaces_of()
    groups = np.repeat([0, 1, 2, 3, 4, 5], [140, 20, 20, 20, 20, 20])
    found = group_jackknife(["cka"], sums_of(X, Y), split(groups, X, Y))[0, 1]["cka"]
    assert "one of 6 groups holds 58% of the rows" in found.notes[0]


def test_ends_stay_within_the_bounds_of_a_form():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((2, 60, 3))
    groups = np.arange(60) // 15
    found = group_jackknife(list(FORMS), sums_of(X, Y), split(groups, X, Y), confidence=0.999)
    for name, one in found[0, 1].items():
        assert FORMS[name].lowest <= one.low <= one.value <= one.high <= FORMS[name].highest


def test_a_space_with_itself_ends_at_1():
    X, _, _ = spaces_of()
    found = group_jackknife(["cka", "bures"], sums_of(X, X), split(np.arange(240) // 40, X, X))
    for one in found[0, 1].values():
        assert one.value == pytest.approx(1, abs=1e-12)
        assert (one.low, one.high) == (one.value, 1)


@pytest.mark.parametrize("name", ["cka", "debiased-cka", "svcca", "netrep-0"])
def test_where_one_group_makes_all_the_difference_there_is_no_interval(name):
    X = spaces_of()[0]
    groups = np.arange(240) // 20
    Y = X.copy()
    Y[groups == 4] += 3 * np.random.default_rng(1).standard_normal((20, X.shape[1]))
    parts = split(groups, X, Y)
    found = group_jackknife([name], sums_of(X, Y), parts)[0, 1][name]
    assert math.isfinite(found.value)
    assert found.low is None
    assert found.high is None
    assert "at the end of its range" in found.notes[-1]


def test_what_is_not_defined_has_no_interval_but_a_reason():
    X, Y, _ = spaces_of(60)
    flat = np.full_like(Y, 3.0)
    groups = np.arange(60) // 10
    nothing = group_jackknife(["cka"], sums_of(X, flat), split(groups, X, flat))[0, 1]["cka"]
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (None, None)
    assert "the same" in nothing.notes[0]
    # One group holds all that varies.
    flat[:10] = Y[:10]
    lonely = group_jackknife(["cka"], sums_of(X, flat), split(groups, X, flat))[0, 1]["cka"]
    assert not math.isnan(lonely.value)
    assert lonely.low is None
    assert "no interval" in lonely.notes[0]


def test_what_is_refused():
    X, Y, _ = spaces_of(60)
    total, parts = sums_of(X, Y), split(np.arange(60) // 10, X, Y)
    with pytest.raises(InvalidInput, match="hold 50 rows"):
        group_jackknife(["cka"], total, parts[1:])
    with pytest.raises(InvalidInput, match="groups"):
        group_jackknife(["cka"], total, [*parts, parts[0]])
    with pytest.raises(InvalidInput, match="groups"):
        group_jackknife(["cka"], total, [total])
    with pytest.raises(InvalidInput, match="closed form"):
        group_jackknife(["ckaa"], total, parts)
    with pytest.raises(InvalidInput, match="2 or more"):
        even_groups(np.ones(9, np.int64), 1)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=80), st.integers(2, 30))
def test_groups_are_runs_of_clusters_of_about_the_same_size(lengths, n_groups):
    lengths = np.array(lengths)
    groups = even_groups(lengths, n_groups)
    assert groups.shape == lengths.shape
    assert (groups[0], groups[-1]) == (0, len(np.unique(groups)) - 1)
    assert ((np.diff(groups) == 0) | (np.diff(groups) == 1)).all()
    sizes = np.bincount(groups, weights=lengths)
    # Half a cluster may hang over on either side.
    assert sizes.max() <= lengths.sum() / n_groups + lengths.max()
