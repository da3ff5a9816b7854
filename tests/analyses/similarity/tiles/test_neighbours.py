"""Neighbours from tiles against sorting whole rows, and what is made of them."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t as student

from layerlake.analyses.similarity.tiles.neighbour_agreement import cknna, mean_interval, overlaps
from layerlake.analyses.similarity.tiles.neighbour_ties import Ranked, kept_neighbours
from layerlake.analyses.similarity.tiles.neighbours import (
    NearestNeighbours,
    Neighbours,
    neighbour_bytes,
)
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.blocks import run_pass
from layerlake.store.errors import InvalidInput

Matrix = NDArray[np.floating]


def cut_tiles(
    matrices: list[Matrix], clusters: NDArray[np.int64], side: int, library: Any = np
) -> list[Tile]:
    """Cut whole matrices into the tiles of a pass."""
    bounds = [(lo, min(lo + side, len(clusters))) for lo in range(0, len(clusters), side)]
    return [
        Tile(
            rows,
            columns,
            tuple(library.asarray(z[slice(*rows), slice(*columns)].copy()) for z in matrices),
            clusters[slice(*rows)],
            clusters[slice(*columns)],
        )
        for p, rows in enumerate(bounds)
        for columns in bounds[p:]
    ]


def cosines(n: int, seed: int, dtype: Any = np.float32) -> list[Matrix]:
    """Return the cosines of two related spaces and their distances in a third."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 8))
    spaces = [rows, rows @ rng.standard_normal((8, 6)) + rng.standard_normal((n, 6))]
    units = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in spaces]
    far = np.linalg.norm(rows[:, None] - rows, axis=2)
    return [z.astype(dtype) for z in (units[0] @ units[0].T, units[1] @ units[1].T, far)]


def by_sorting(
    near: Matrix, k: int, clusters: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return the k nearest of every row, the earlier one of those equally near."""
    near = near.astype(np.float64)
    np.fill_diagonal(near, -np.inf)
    if clusters is not None:
        near[clusters[:, None] == clusters] = -np.inf
    return np.argsort(-near, axis=1, kind="stable")[:, :k]


SMALLEST = [False, False, True]


def search(n: int, k: int, **settings_: Any) -> NearestNeighbours:
    """Return an accumulator for three spaces, the third of distances."""
    return NearestNeighbours(["a", "b", "c"], n, k, smallest=SMALLEST, **settings_)


def check(found: list[Neighbours], matrices: list[Matrix], k: int, **bars: Any) -> None:
    """Compare with sorting."""
    for neighbours, matrix, smallest in zip(found, matrices, SMALLEST, strict=True):
        expected = by_sorting(-matrix if smallest else matrix, k, **bars)
        np.testing.assert_array_equal(neighbours.index, expected)
        np.testing.assert_array_equal(
            neighbours.entries, np.take_along_axis(matrix, expected, axis=1)
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("library", ["numpy", "array_api_strict", "torch"])
@pytest.mark.parametrize(("side", "k"), [(120, 10), (50, 10), (7, 10), (33, 1), (40, 119)])
def test_neighbours_are_those_of_sorted_rows(library: str, dtype: str, side: int, k: int) -> None:
    matrices = cosines(120, 0, dtype)
    tiles = cut_tiles(matrices, np.arange(120), side, pytest.importorskip(library))
    check(run_pass(tiles, [search(120, k)])[0], matrices, k)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 99),
    side=st.integers(4, 60),
    k=st.integers(1, 12),
    levels=st.sampled_from([1, 2, 20, None]),
)
def test_any_tiles_and_merging_give_the_same_with_ties(
    seed: int, side: int, k: int, levels: int | None
) -> None:
    rng = np.random.default_rng(seed)
    matrices = cosines(60, seed)
    if levels is not None:  # -0.0 and 0.0 among them
        matrices = [np.round(z * levels).astype(np.float32) for z in matrices]
    accumulator = search(60, k)
    tiles = cut_tiles(matrices, np.arange(60), side)
    rng.shuffle(tiles)  # type: ignore[arg-type]
    states = [accumulator.start() for _ in range(3)]
    for tile in tiles:
        place = rng.integers(3)
        states[place] = accumulator.update(states[place], tile)
    merged = accumulator.merge(states[2], accumulator.merge(states[0], states[1]))
    check(accumulator.finish(merged), matrices, k)


@pytest.mark.parametrize("library", ["numpy", "array_api_strict"])
@pytest.mark.parametrize("side", [90, 25])
def test_neighbours_may_have_to_come_from_other_clusters(library: str, side: int) -> None:
    matrices = cosines(90, 1)
    clusters = np.repeat(np.arange(12), [1, 30, 3, 5, 5, 5, 5, 5, 5, 5, 20, 1])
    tiles = cut_tiles(matrices, clusters, side, pytest.importorskip(library))
    check(run_pass(tiles, [search(90, 6, between=True)])[0], matrices, 6, clusters=clusters)
    with pytest.raises(InvalidInput, match="some rows have fewer than 61 rows of other clusters"):
        run_pass(tiles, [search(90, 61, between=True)])


def ranked(found: list[Neighbours], k: int, tolerance: float = 1e-12) -> list[Ranked]:
    """Rank neighbours that include ties at the k-th place."""
    return [Ranked.of(one, k, tolerance) for one in found]


def test_overlaps_are_the_published_mutual_neighbours() -> None:
    n, k = 100, 7
    matrices = cosines(n, 2)
    kept = kept_neighbours(k, n)
    found = ranked(run_pass(cut_tiles(matrices, np.arange(n), 40), [search(n, kept)])[0], k)
    masks = []
    for matrix in matrices[:2]:
        mask = np.zeros((n, n))
        mask[np.arange(n)[:, None], by_sorting(matrix, k)] = 1
        masks.append(mask)
    expected = (masks[0] * masks[1]).sum(axis=1) / k
    np.testing.assert_allclose(overlaps(found[0], found[1]), expected)
    np.testing.assert_array_equal(overlaps(found[0], found[0]), np.ones(n))


def published_cknna(k: Matrix, l: Matrix, topk: int) -> float:
    """Return CKNNA as published, in dense float64, without what keeps its divisor from 0."""
    n = len(k)
    masks = []
    for kernel in (k, l):
        mask = np.zeros((n, n))
        mask[np.arange(n)[:, None], by_sorting(kernel, topk)] = 1
        masks.append(mask)

    def hsic(a: Matrix, b: Matrix) -> float:
        """Song et al. (2012), equation 5."""
        crossed = np.sum(a * b.T)
        means = a.sum() * b.sum() / ((n - 1) * (n - 2))
        return float((crossed + means - 2 * np.sum(a @ b) / (n - 2)) / (n * (n - 3)))

    both = masks[0] * masks[1]
    own = hsic(masks[0] * k, masks[0] * k) * hsic(masks[1] * l, masks[1] * l)
    return hsic(both * k, both * l) / math.sqrt(own)


@pytest.mark.parametrize("topk", [2, 10, 60])
def test_cknna_is_the_published_one(topk: int) -> None:
    matrices = cosines(80, 3, np.float64)
    # Tiles hold kernels up to a factor and a constant.
    entries = [matrices[0] / 2 - 0.4, matrices[1] + 3.5, matrices[2]]
    kept = kept_neighbours(topk, 80)
    found = ranked(run_pass(cut_tiles(entries, np.arange(80), 30), [search(80, kept)])[0], topk)
    value = cknna(found[0], found[1], ((2.0, 0.4), (1.0, -3.5)))
    assert value == pytest.approx(published_cknna(matrices[0], matrices[1], topk))
    assert cknna(found[0], found[0], ((2.0, 0.4), (2.0, 0.4))) == pytest.approx(1)


def test_cknna_that_is_not_defined_has_no_number() -> None:
    flat = [np.zeros((20, 20), np.float32)] * 3
    found = ranked(run_pass(cut_tiles(flat, np.arange(20), 9), [search(20, 19)])[0], 3)
    assert math.isnan(cknna(found[0], found[1]))
    one = ranked(run_pass(cut_tiles(flat, np.arange(20), 9), [search(20, 19)])[0], 1)
    with pytest.raises(InvalidInput, match="20 rows with 1 neighbours"):
        cknna(one[0], one[1])


def test_the_interval_is_that_of_leaving_each_cluster_out() -> None:
    rng = np.random.default_rng(4)
    clusters = np.repeat([5, 2, 9, 11, 3, 4], [3, 1, 7, 2, 2, 5])
    values = rng.choice(np.linspace(0, 1, 11), len(clusters))
    deleted = np.array([values[clusters != g].mean() for g in np.unique(clusters)])
    reach = student.ppf(0.95, 5) * math.sqrt(5 * np.var(deleted))
    interval = mean_interval(values, clusters, 0.9)
    assert interval == pytest.approx((values.mean() - reach, values.mean() + reach))
    assert mean_interval(values, np.zeros(len(values), int), 0.9) is None
    assert mean_interval(np.array([0.0, 0, 0, 1]), np.arange(4), 0.99) == (0.0, 1.0)


@pytest.mark.parametrize("k", [0, -2, 20, 2.5, "3"])
def test_neighbours_that_there_cannot_be_are_refused(k: Any) -> None:
    with pytest.raises(InvalidInput, match=r"each of 20 rows can have 1 to 19 neighbours"):
        search(20, k)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(2, 17), (16, 19)])
def test_kernels_that_are_not_finite_are_refused(bad: float, place: tuple[int, int]) -> None:
    for library in (np, array_api_strict):
        matrices = cosines(20, 7)
        matrices[1][place] = matrices[1][place[::-1]] = bad
        tiles = cut_tiles(matrices, np.arange(20), 15, library)
        with pytest.raises(InvalidInput, match=r"kernel of b is NaN or infinite .* 15 to 19"):
            run_pass(tiles, [search(20, 3)])
        # What lies on the diagonal is nobody's business.
        matrices = cosines(20, 7)
        np.fill_diagonal(matrices[1], bad)
        check(run_pass(cut_tiles(matrices, np.arange(20), 15), [search(20, 3)])[0], matrices, 3)


def test_tiles_that_are_missing_are_told() -> None:
    tiles = cut_tiles(cosines(20, 8), np.arange(20), 15)[:1]
    with pytest.raises(InvalidInput, match="fewer than 16 other rows"):
        run_pass(tiles, [search(20, 16)])


@pytest.mark.parametrize("tied", [False, True])
def test_memory_stays_within_what_was_said(tied: bool) -> None:
    n, side, k = 1500, 500, 10
    rng = np.random.default_rng(9)
    rows = rng.standard_normal((n, 20)).astype(np.float32)
    kernel = np.zeros((n, n), np.float32) if tied else rows @ rows.T
    tiles = cut_tiles([kernel] * 2, np.arange(n), side)
    tracemalloc.start()
    try:
        run_pass(tiles, [NearestNeighbours(["a", "b"], n, k)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    stated = neighbour_bytes(2, n, k, side)
    assert (0.6 if tied else 0.1) * stated <= peak <= stated


def test_a_comparison_leaves_the_neighbours_as_they_were() -> None:
    tiles = cut_tiles(cosines(60, 3), np.arange(60), 25)
    one, other, _third = ranked(run_pass(tiles, [search(60, 16)])[0], 8)
    before = one.index.copy()
    first = cknna(one, other)
    assert cknna(one, other) == first
    np.testing.assert_array_equal(one.index, before)
