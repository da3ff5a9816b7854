"""Kendall's tau-a from tiles against scipy's tau-b less its correction, and against all pairs."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import array_api_strict
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau

from layerlake.analyses.similarity.tiles.histograms import Histogram, KernelHistograms
from layerlake.analyses.similarity.tiles.kendall import (
    JointHistograms,
    QuantileBins,
    Tau,
    joint_bytes,
    tau_of,
)
from layerlake.analyses.similarity.tiles.kendall_deletions import KendallDeletions, deletion_bytes
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.analyses.statistics.jackknife import jackknife
from layerlake.engine.passes.blocks import run_pass

Matrix = NDArray[np.floating]


def cut_tiles(matrices: list[Matrix], side: int, library: Any = np) -> list[Tile]:
    """Cut whole matrices into the tiles of a pass."""
    n = len(matrices[0])
    bounds = [(lo, min(lo + side, n)) for lo in range(0, n, side)]
    every = np.arange(n)
    return [
        Tile(
            rows,
            columns,
            tuple(library.asarray(z[slice(*rows), slice(*columns)].copy()) for z in matrices),
            every[slice(*rows)],
            every[slice(*columns)],
        )
        for p, rows in enumerate(bounds)
        for columns in bounds[p:]
    ]


def above(matrix: Matrix) -> Matrix:
    """Return the entries above the diagonal."""
    return matrix[np.triu_indices(len(matrix), 1)]


def related(n: int, seed: int) -> list[Matrix]:
    """Return the kernel matrices of three spaces, the first two alike, the third opposite."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 12)) * np.linspace(2, 0.3, 12)
    other = rows @ rng.standard_normal((12, 9)) + rng.standard_normal((n, 9))
    noisy = rows + rng.standard_normal((n, 12))
    return [z.astype(np.float32) for z in (rows @ rows.T, other @ other.T, -noisy @ noisy.T)]


def tau_a(one: Matrix, other: Matrix) -> float:
    """Return tau-a by scipy: tau-b without its correction for ties."""
    k, l = above(one), above(other)
    pairs = len(k) * (len(k) - 1) / 2

    def untied(values: Matrix) -> float:
        """Count the pairs of different values."""
        counts = np.unique(values, return_counts=True)[1]
        return float(pairs - np.sum(counts * (counts - 1.0)) / 2)

    return float(kendalltau(k, l).statistic * np.sqrt(untied(k) * untied(l)) / pairs)


def taus(
    tiles: list[Tile], pairs: list[tuple[int, int]], bins: int = 1024
) -> tuple[list[Tau], list[Histogram]]:
    """Run both passes."""
    names = [f"space {s}" for s in range(len(tiles[0].kernels))]
    histograms = run_pass(tiles, [KernelHistograms(names)])[0]
    binned = [QuantileBins.of(histogram, bins) for histogram in histograms]
    joints = run_pass(tiles, [JointHistograms(binned, pairs)])[0]
    found = [tau_of(j, binned[s], binned[t]) for j, (s, t) in zip(joints, pairs, strict=True)]
    return found, histograms


PAIRS = [(0, 1), (0, 2), (2, 1), (1, 1)]


@pytest.mark.parametrize(("bins", "side"), [(1024, 200), (1024, 64), (256, 37)])
def test_tau_is_scipys_within_the_bound(bins: int, side: int) -> None:
    matrices = related(200, 0)
    found, _ = taus(cut_tiles(matrices, side), PAIRS, bins)
    for (s, t), tau in zip(PAIRS[:3], found[:3], strict=True):
        exact = tau_a(matrices[s], matrices[t])
        assert abs(tau.value - exact) <= tau.bound < 2.1 / bins
        assert tau.value == pytest.approx(exact, abs=40 / bins**2)
    # A space with itself is undecided within bins only.
    assert found[3].value == pytest.approx(1, abs=1.1 / bins)
    assert found[3].value + found[3].bound >= 1


def test_ties_are_exact_and_have_no_bound() -> None:
    rng = np.random.default_rng(1)
    matrices = []
    for values in ([0.0, 1.0], np.linspace(-3, 7, 40), [0.1, 0.11, 0.3, 500.0]):
        upper = np.triu(rng.choice(values, size=(70, 70)), 1)
        matrices.append((upper + upper.T + 3 * np.eye(70)).astype(np.float32))
    pairs = [(0, 1), (1, 2), (2, 2)]
    for (s, t), tau in zip(pairs, taus(cut_tiles(matrices, 32), pairs, 64)[0], strict=True):
        assert tau.bound == 0
        assert tau.value == pytest.approx(tau_a(matrices[s], matrices[t]), abs=1e-12)


def test_ties_beside_other_values_are_bounded() -> None:
    # A third of one kernel is one value, the rest is spread out; few bins.
    matrices = related(80, 2)[:2]
    matrices[0][np.abs(matrices[0]) < np.quantile(np.abs(above(matrices[0])), 0.33)] = 0
    found, histograms = taus(cut_tiles(matrices, 30), [(0, 1), (1, 0)], 16)
    exact = tau_a(*matrices)
    for tau in found:
        assert abs(tau.value - exact) <= tau.bound
        assert tau == Tau(pytest.approx(found[0].value), pytest.approx(found[0].bound))
    # The bound, from the bins of every pair of entries.
    binned = [QuantileBins.of(histogram, 16) for histogram in histograms]
    one, other = (b.cells.of(above(z)) for b, z in zip(binned, matrices, strict=True))
    same = [(x[:, None] == x)[np.triu_indices(len(x), 1)] for x in (one, other)]
    tied = [b.tied[x][np.triu_indices(len(x), 1)[0]] for b, x in zip(binned, (one, other), strict=True)]  # fmt: skip
    certain = (same[0] & tied[0]) | (same[1] & tied[1])
    assert found[0].bound == pytest.approx(np.mean((same[0] | same[1]) & ~certain))


def test_merging_in_any_order_and_other_libraries_give_the_same() -> None:
    matrices = related(50, 3)
    expected, histograms = taus(cut_tiles(matrices, 50), PAIRS, 128)
    binned = [QuantileBins.of(histogram, 128) for histogram in histograms]
    for library in (np, array_api_strict, pytest.importorskip("torch")):
        counting = JointHistograms(binned, PAIRS)
        one, other = counting.start(), counting.start()
        for k, tile in enumerate(cut_tiles(matrices, 17, library)):
            if k % 3:
                one = counting.update(one, tile)
            else:
                other = counting.update(other, tile)
        joints = counting.finish(counting.merge(one, other))
        for joint, (s, t), tau in zip(joints, PAIRS, expected, strict=True):
            assert tau_of(joint, binned[s], binned[t]) == tau


def test_a_kernel_of_one_value_has_no_tau() -> None:
    matrices = [related(30, 4)[0], np.full((30, 30), 0.3, np.float32)]
    for tau in taus(cut_tiles(matrices, 10), [(0, 1), (1, 0), (1, 1)])[0]:
        assert np.isnan(tau.value)
        assert np.isnan(tau.bound)


def deleted_by_hand(one: Matrix, other: Matrix, clusters: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return tau-a with each cluster really left out."""
    kept = [np.flatnonzero(clusters != g) for g in np.unique(clusters)]
    return np.array([tau_a(one[np.ix_(k, k)], other[np.ix_(k, k)]) for k in kept])


@pytest.mark.parametrize("library", ["numpy", "array_api_strict"])
@pytest.mark.parametrize("lengths", [[5] * 24, [1, 20, 3, 3, 8, 9, 2, 1, 4, 15, 6, 6, 10, 2]])
def test_intervals_are_nearly_those_of_clusters_left_out(library: str, lengths: list[int]) -> None:
    clusters = np.repeat(np.arange(len(lengths)), lengths)
    matrices = related(len(clusters), 6)
    place = cut_tiles(matrices, 23, pytest.importorskip(library))
    tiles = [
        replace(tile, row_clusters=clusters[slice(*tile.rows)],
                column_clusters=clusters[slice(*tile.columns)])
        for tile in place
    ]  # fmt: skip
    histograms = run_pass(tiles, [KernelHistograms(["a", "b", "c"])])[0]
    binned = [QuantileBins.of(histogram) for histogram in histograms]
    pairs = [(0, 1), (1, 2)]
    joints = run_pass(tiles, [JointHistograms(binned, pairs)])[0]
    deletion = KendallDeletions(binned, pairs, joints, len(lengths))
    one, other = deletion.start(), deletion.start()
    for k, tile in enumerate(tiles):
        if k % 2:
            one = deletion.update(one, tile)
        else:
            other = deletion.update(other, tile)
    found = deletion.finish(deletion.merge(one, other))
    for (s, t), joint, deleted in zip(pairs, joints, found, strict=True):
        exact = deleted_by_hand(matrices[s], matrices[t], clusters)
        moved = np.abs(exact - tau_a(matrices[s], matrices[t])).max()
        assert np.abs(deleted - exact).max() < 0.1 * moved
        tau = tau_of(joint, binned[s], binned[t]).value
        interval, by_hand = jackknife(tau, deleted, 0.9), jackknife(tau, exact, 0.9)
        assert interval is not None
        assert interval == pytest.approx(by_hand, abs=2e-3)


def test_without_a_cluster_of_all_but_one_row_nothing_is_left() -> None:
    matrices = related(12, 7)[:2]
    clusters = np.repeat([0, 1], [11, 1])  # without the first no entry is left
    tiles = [replace(cut_tiles(matrices, 12)[0], row_clusters=clusters, column_clusters=clusters)]
    binned = [QuantileBins.of(h) for h in run_pass(tiles, [KernelHistograms(["a", "b"])])[0]]
    joints = run_pass(tiles, [JointHistograms(binned, [(0, 1)])])[0]
    deleted = run_pass(tiles, [KendallDeletions(binned, [(0, 1)], joints, 2)])[0][0]
    assert np.isnan(deleted[0])
    exact = tau_a(*(matrix[:11, :11] for matrix in matrices))
    assert deleted[1] == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("leaving", [False, True])
def test_memory_stays_within_what_was_said(leaving: bool) -> None:
    matrices = related(400, 5)
    tiles = cut_tiles(matrices, 200)
    histograms = run_pass(tiles, [KernelHistograms(["a", "b", "c"], 2**16)])[0]

    def second() -> None:
        binned = [QuantileBins.of(histogram, 512) for histogram in histograms]
        joints = run_pass(tiles, [JointHistograms(binned, PAIRS)])[0]
        for joint, (s, t) in zip(joints, PAIRS, strict=True):
            tau_of(joint, binned[s], binned[t])
        if leaving:
            run_pass(tiles, [KendallDeletions(binned, PAIRS, joints, 400)])

    tracemalloc.start()
    try:
        second()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    stated = joint_bytes(3, len(PAIRS), 200, bins=512, most_cells=2**16)
    if leaving:
        stated += deletion_bytes(len(PAIRS), 400, bins=512)
    assert 0.6 * stated <= peak <= stated
