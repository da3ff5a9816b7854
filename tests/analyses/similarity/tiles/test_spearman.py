"""Histograms and ranks from tiles against scipy's, in any tiles and order of merging."""

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
from scipy.stats import rankdata, spearmanr
from scipy.stats import t as student

from layerlake.analyses.similarity.features.moments import PairSums
from layerlake.analyses.similarity.tiles.histograms import (
    MOST_CELLS,
    Histogram,
    KernelHistograms,
    histogram_bytes,
)
from layerlake.analyses.similarity.tiles.panels import panels
from layerlake.analyses.similarity.tiles.spearman import (
    Ranked,
    RankTable,
    rank_bytes,
    spearman_bound,
    spearman_value,
)
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.arrays import to_host
from layerlake.engine.passes.blocks import run_pass
from layerlake.store.errors import InvalidInput

Matrix = NDArray[np.floating]


def related(n: int, seed: int, dtype: Any = np.float32) -> list[Matrix]:
    """Return the kernel matrices of three spaces, the first two alike."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 12)) * np.linspace(2, 0.3, 12)
    others = [rows, rows @ rng.standard_normal((12, 9)) + rng.standard_normal((n, 9)),
              rng.standard_normal((n, 5))]  # fmt: skip
    return [(z @ z.T / 10).astype(dtype) for z in others]


def above(matrix: Matrix) -> Matrix:
    """Return the entries above the diagonal."""
    return matrix[np.triu_indices(len(matrix), 1)]


class Entries:
    """Writes ranks back into whole matrices (an `Accumulator`)."""

    def __init__(self, n: int, n_spaces: int) -> None:
        self.shape = (n_spaces, n, n)

    def start(self) -> NDArray[np.float64]:
        return np.full(self.shape, np.nan)

    def update(self, state: NDArray[np.float64], tile: Tile) -> NDArray[np.float64]:
        for matrix, kernel in zip(state, tile.kernels, strict=True):
            assert to_host(kernel).dtype == np.float64
            place = (slice(*tile.rows), slice(*tile.columns))
            counts = np.ones(kernel.shape, bool)
            if tile.diagonal:
                counts = np.triu(counts, 1)
            assert np.isnan(matrix[place][counts]).all(), "an entry came twice"
            matrix[place][counts] = to_host(kernel)[counts]
        return state

    def merge(self, state: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isnan(state), other, state)

    def finish(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        return state


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


def tables_of(tiles: list[Tile], n_spaces: int) -> list[RankTable]:
    """Run the first pass."""
    names = [f"space {s}" for s in range(n_spaces)]
    return [RankTable.of(h) for h in run_pass(tiles, [KernelHistograms(names)])[0]]


def ranked(tiles: list[Tile], matrices: list[Matrix]) -> tuple[list[RankTable], Any]:
    """Run both passes and return the tables and the ranks above each diagonal."""
    tables = tables_of(tiles, len(matrices))
    entries = Entries(len(matrices[0]), len(matrices))
    found = run_pass(tiles, [Ranked(tables, entries)])[0]
    return tables, [above(z) for z in found]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("side", [200, 64, 37])
def test_spearman_is_scipys_within_the_bound(dtype: str, side: int) -> None:
    matrices = related(200, 0, dtype)
    tables, ranks = ranked(cut_tiles(matrices, np.arange(200), side), matrices)
    for s, t in ((0, 1), (0, 2), (1, 2)):
        r = float(np.corrcoef(ranks[s], ranks[t])[0, 1])
        exact = spearmanr(above(matrices[s]), above(matrices[t])).statistic
        bound = spearman_bound(r, tables[s], tables[t])
        assert abs(r - exact) <= bound < 3e-4
        assert r == pytest.approx(exact, abs=2e-6)
    # A matrix with itself has the same cells on both sides.
    assert np.corrcoef(ranks[0], ranks[0])[0, 1] == pytest.approx(1)
    assert tables[0].variance == pytest.approx(np.mean(ranks[0] ** 2))
    assert np.mean(ranks[0]) == pytest.approx(0, abs=1e-12)


def test_ties_have_the_mid_rank_exactly_and_no_bound() -> None:
    rng = np.random.default_rng(1)
    matrices = []
    for values in ([0.0, 1.0], np.linspace(-3, 7, 40), [0.1, 0.11, 0.3, 500.0]):
        upper = np.triu(rng.choice(values, size=(90, 90)), 1)
        matrices.append((upper + upper.T).astype(np.float32))
    tables, ranks = ranked(cut_tiles(matrices, np.arange(90), 32), matrices)
    for matrix, table, found in zip(matrices, tables, ranks, strict=True):
        exact = rankdata(above(matrix)) / len(found) - (len(found) + 1) / 2 / len(found)
        np.testing.assert_allclose(found, exact, atol=1e-12)
        assert table.blur == 0
    r = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    assert spearman_bound(r, tables[0], tables[1]) < 1e-15
    assert r == pytest.approx(spearmanr(above(matrices[0]), above(matrices[1])).statistic)


def test_different_values_in_a_cell_are_bounded_though_others_repeat() -> None:
    values = np.repeat(np.float32([0, 1, 1e-30, 2]), 50)
    histogram = Histogram.beside(values)
    histogram.absorb(values, 0.0, 2.0, None)
    histogram.trim()
    cells = histogram.counts > 0
    assert histogram.counts[cells].tolist() == [100, 50, 50]
    assert histogram.tied()[cells].tolist() == [False, True, True]
    # The worst order of 100 values in a cell, against three cells of ranks.
    table = RankTable.of(histogram)
    ranks = np.repeat([50.5, 125.5, 175.5], [100, 50, 50])
    spread = np.sum((ranks - ranks.mean()) ** 2)
    assert table.blur == pytest.approx(math.atan(math.sqrt((100**3 - 100) / 12 / spread)))


def sums_of(k: Matrix, l: Matrix, clusters: NDArray[np.int64]) -> tuple[PairSums, Matrix]:
    """Return the sums over ordered pairs of whole matrices, and those that touch clusters."""
    apart = ~np.eye(len(k), dtype=bool)
    entries = np.stack([np.ones_like(k), k, l, k * k, l * l, k * l])
    member = clusters == np.arange(clusters.max() + 1)[:, None]
    rows = (entries * apart).sum(axis=2)
    within = [(entries * (apart & m & m[:, None])).sum(axis=(1, 2)) for m in member]
    total = rows.sum(axis=1)
    sums = PairSums(member.sum(axis=1), total, np.array(within).T, np.zeros(6), (total[3], total[4]), True)  # fmt: skip
    return sums, (rows @ member.T)[1:]


def test_intervals_are_those_of_clusters_left_out_with_ranks_held() -> None:
    lengths = [4, 1, 9, 3, 3, 12, 5, 8, 1, 6, 7, 11]
    clusters = np.repeat(np.arange(12), lengths)
    n = len(clusters)
    matrices = related(n, 10)[:2]
    tiles = cut_tiles(matrices, clusters, 30)
    tables = tables_of(tiles, 2)
    found = run_pass(tiles, [Ranked(tables, Entries(n, 2))])[0]
    k, l = (np.triu(z, 1) + np.triu(z, 1).T for z in found)
    value, bound = spearman_value(
        *sums_of(k, l, clusters), (tables[0], tables[1]), names=("a", "b"),
        interval="cluster", confidence=0.9, kernel="cosine",
    )  # fmt: skip
    exact = spearmanr(above(matrices[0]), above(matrices[1])).statistic
    assert abs(value.r_all - exact) <= bound < 4e-4

    ranks = [np.zeros((n, n)) for _ in range(2)]
    for rank, matrix in zip(ranks, matrices, strict=True):
        rank[np.triu_indices(n, 1)] = rankdata(above(matrix))
    for between, r, low, high in (
        (False, value.r_all, value.r_all_low, value.r_all_high),
        (True, value.r_between, value.r_between_low, value.r_between_high),
    ):
        counted = np.triu(np.ones((n, n), bool), 1)
        if between:
            counted &= clusters[:, None] != clusters

        def correlate(kept: NDArray[np.bool_], counted: NDArray[np.bool_] = counted) -> float:
            """Correlate the exact ranks over the pairs of some rows."""
            pairs = counted & kept & kept[:, None]
            return float(np.corrcoef(ranks[0][pairs], ranks[1][pairs])[0, 1])

        whole = correlate(np.ones(n, bool))
        z = np.arctanh([correlate(clusters != g) for g in range(12)])
        reach = student.ppf(0.95, 11) * np.sqrt(11 * np.var(z))
        ends = np.tanh(np.arctanh(whole) + np.array([-reach, reach]))
        assert (r, low, high) == pytest.approx((whole, *ends), abs=1e-5)


def test_a_constant_kernel_is_told_by_its_name() -> None:
    matrices = [related(30, 11)[0], np.full((30, 30), 0.7, np.float32)]
    clusters = np.arange(30) // 3
    tiles = cut_tiles(matrices, clusters, 12)
    histograms = run_pass(tiles, [KernelHistograms(["a", "b"])])[0]
    assert histograms[0].span >= np.ptp(above(matrices[0]))
    assert 0 < histograms[1].span < 1e-5
    left, right = (RankTable.of(h) for h in histograms)
    found = run_pass(tiles, [Ranked([left, right], Entries(30, 2))])[0]
    k, l = (np.triu(z, 1) + np.triu(z, 1).T for z in found)
    value, bound = spearman_value(
        *sums_of(k, l, clusters), (left, right), names=("a", "base at layer 0"),
        interval="cluster", confidence=0.9, kernel="cosine",
    )  # fmt: skip
    assert math.isnan(value.r_all)
    assert math.isnan(bound)
    assert (value.r_all_low, value.r_between) == (None, None)
    assert any("kernel of base at layer 0 is the same for all" in note for note in value.notes)


def test_outliers_do_not_widen_all_cells() -> None:
    matrices = related(150, 2)
    for matrix in matrices:
        matrix[3, 9] = matrix[9, 3] = 90 * matrix.std()
        matrix[4, 80] = matrix[80, 4] = -50 * matrix.std()
    tables, ranks = ranked(cut_tiles(matrices, np.arange(150), 50), matrices)
    r = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    bound = spearman_bound(r, tables[0], tables[1])
    assert abs(r - spearmanr(above(matrices[0]), above(matrices[1])).statistic) <= bound < 3e-4


def test_a_range_beyond_all_cells_makes_them_wider() -> None:
    rng = np.random.default_rng(3)
    values = (rng.standard_cauchy(30_000) * 3).astype(np.float32)
    values[:3] = [3e9, -2e8, 7e-20]
    histogram = Histogram.beside(values[100:200])
    for part in np.array_split(rng.permutation(values), 7):
        histogram.absorb(part, float(part.min()), float(part.max()), None)
    histogram.trim()
    assert len(histogram.counts) <= MOST_CELLS
    width = 2.0**histogram.grid.exponent
    cells = np.floor(values.astype(np.float64) / width).astype(np.int64)
    assert histogram.grid.first == cells.min()
    np.testing.assert_array_equal(histogram.counts, np.bincount(cells - cells.min()))


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    side=st.integers(5, 40),
    repeat=st.booleans(),
    scale=st.sampled_from([1e-6, 1.0, 3e5]),
    order=st.randoms(use_true_random=False),
)
def test_any_order_of_merging_counts_the_same(
    seed: int, side: int, repeat: bool, scale: float, order: Any
) -> None:
    matrices = [z * np.float32(scale) for z in related(40, seed)]
    if repeat:
        matrices[0] = np.round(matrices[0] / scale).astype(np.float32)
    counting = KernelHistograms(["a", "b", "c"])
    tiles = cut_tiles(matrices, np.arange(40), side)
    states = [counting.update(counting.start(), tile) for tile in tiles]
    while len(states) > 1:
        one, other = (states.pop(order.randrange(len(states))) for _ in range(2))
        states.append(counting.merge(one, other))
    for matrix, histogram in zip(matrices, counting.finish(states[0]), strict=True):
        values = above(matrix).astype(np.float64)
        cells = np.floor(values * 2.0**-histogram.grid.exponent).astype(np.int64)
        assert histogram.grid.first == cells.min()
        np.testing.assert_array_equal(histogram.counts, np.bincount(cells - cells.min()))
        for cell in np.flatnonzero(histogram.tied() & (histogram.counts > 0)):
            assert len(np.unique(values[cells - cells.min() == cell])) == 1


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
def test_other_array_libraries_rank_the_same(library: str) -> None:
    xp = pytest.importorskip(library)
    matrices = related(50, 4)
    matrices[2] = np.sign(matrices[2])
    clusters = np.arange(50)
    here, ranks = ranked(cut_tiles(matrices, clusters, 20), matrices)
    there, same = ranked(cut_tiles(matrices, clusters, 20, xp), matrices)
    assert [t.cells.grid for t in here] == [t.cells.grid for t in there]
    assert [t.blur for t in here] == [t.blur for t in there]
    np.testing.assert_array_equal(ranks, same)


def test_ranks_merge_as_the_other_does() -> None:
    matrices = related(30, 5)
    tiles = cut_tiles(matrices, np.arange(30), 12)
    tables, whole = ranked(tiles, matrices)
    both = Ranked(tables, Entries(30, 3))
    one, other = both.start(), both.start()
    for k, tile in enumerate(tiles):
        if k % 2:
            one = both.update(one, tile)
        else:
            other = both.update(other, tile)
    np.testing.assert_array_equal([above(z) for z in both.finish(both.merge(one, other))], whole)


def test_panels_are_tiles_that_cover_a_tile_once() -> None:
    matrices = related(90, 6)
    clusters = np.arange(90) // 4
    seen = np.zeros((90, 90), int)
    for tile in cut_tiles(matrices, clusters, 60):
        for panel in panels(tile, 300):
            rows, columns = slice(*panel.rows), slice(*panel.columns)
            np.testing.assert_array_equal(panel.kernels[1], matrices[1][rows, columns])
            np.testing.assert_array_equal(panel.row_clusters, clusters[rows])
            np.testing.assert_array_equal(panel.column_clusters, clusters[columns])
            shape = panel.kernels[0].shape
            seen[rows, columns] += np.triu(np.ones(shape, int), 1) if panel.diagonal else 1
            assert panel.kernels[0].size <= 300
    np.testing.assert_array_equal(seen, np.triu(np.ones((90, 90), int), 1))


def test_a_kernel_of_one_value_has_no_ranks() -> None:
    matrices = [np.full((20, 20), value, np.float32) for value in (0.3, 0.0)]
    for table in tables_of(cut_tiles(matrices, np.arange(20), 8), 2):
        assert (table.variance, table.blur) == (0, 0)
    assert math.isnan(spearman_bound(math.nan, table, table))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(2, 17), (16, 19)])
def test_kernels_that_are_not_finite_are_refused(bad: float, place: tuple[int, int]) -> None:
    matrices = related(20, 7)
    matrices[1][place] = bad
    for library in (np, array_api_strict):
        tiles = cut_tiles(matrices, np.arange(20), 15, library)
        with pytest.raises(InvalidInput, match=r"kernel of y is NaN or infinite .* 15 to 19"):
            run_pass(tiles, [KernelHistograms(["x", "y", "z"])])
    # What lies on or below the diagonal is nobody's business.
    matrices = related(20, 7)
    matrices[1][np.tril_indices(20)] = bad
    assert ranked(cut_tiles(matrices, np.arange(20), 15), matrices)[0][1].variance > 0


def test_no_pairs_are_told() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        run_pass(cut_tiles([np.ones((1, 1))], np.arange(1), 4), [KernelHistograms(["x"])])


def peak_of(run: Any) -> tuple[Any, int]:
    """Return what a function returns and the most bytes that it held."""
    tracemalloc.start()
    try:
        result = run()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("tied", [False, True])
def test_memory_stays_within_what_was_said(tied: bool) -> None:
    n, side, cells = 600, 300, 2**17
    rng = np.random.default_rng(8)
    matrices = []
    for _ in range(3):
        upper = rng.standard_normal((n, n)).astype(np.float32)
        if tied:
            upper = np.round(upper, 3)
        upper[5, 400] = -40  # so many cells in between
        upper[7, 500] = 40
        matrices.append(np.triu(upper, 1) + np.triu(upper, 1).T)
    tiles = cut_tiles(matrices, np.arange(n), side)
    counting = KernelHistograms(["a", "b", "c"], cells)
    histograms, peak = peak_of(lambda: run_pass(tiles, [counting])[0])
    stated = histogram_bytes(3, side, most_cells=cells)
    assert all(cells / 2 < len(h.counts) <= cells for h in histograms)
    assert (0.5 if tied else 0.3) * stated <= peak <= stated

    class Nothing(Entries):
        def update(self, state: Any, tile: Tile) -> Any:
            return state

    def second() -> Any:
        tables = [RankTable.of(h) for h in histograms]
        return run_pass(tiles, [Ranked(tables, Nothing(1, 3))])

    stated = rank_bytes(3, side, most_cells=cells)
    assert 0.3 * stated <= peak_of(second)[1] <= stated


def test_fewer_cells_are_coarser() -> None:
    matrices = related(100, 9)
    tiles = cut_tiles(matrices, np.arange(100), 40)
    histograms = run_pass(tiles, [KernelHistograms(["a", "b", "c"], 500)])[0]
    tables = [RankTable.of(h) for h in histograms]
    for histogram, table in zip(histograms, tables, strict=True):
        assert 250 < len(histogram.counts) <= 500
        assert 1e-3 < table.blur < 2e-2
    ranks = [above(z) for z in run_pass(tiles, [Ranked(tables, Entries(100, 3))])[0]]
    r = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    exact = spearmanr(above(matrices[0]), above(matrices[1])).statistic
    assert abs(r - exact) <= spearman_bound(r, tables[0], tables[1])
