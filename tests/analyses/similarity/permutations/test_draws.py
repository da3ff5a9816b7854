"""Permuted clusters against matrices really rearranged, and what the test is for."""

from __future__ import annotations

import itertools
import tracemalloc

import array_api_strict
import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.kernels import Frame, kernel_named
from layerlake.analyses.similarity.features.preparation import Preparation
from layerlake.analyses.similarity.permutations.between_features import (
    BetweenFeatures,
    FeatureRows,
    KeptFeatures,
    plan_features,
)
from layerlake.analyses.similarity.permutations.between_kernels import (
    BetweenKernels,
    KeptKernels,
    plan_kernels,
)
from layerlake.analyses.similarity.permutations.draws import (
    draw_order,
    permute_clusters,
    plan_permutation,
)
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.blocks import Block, run_pass
from layerlake.store.errors import InvalidInput, MemoryRefused

SIZES = [3, 1, 5, 3, 2, 1, 5, 5, 3, 2, 7, 3, 1, 2, 5]


def clustered(
    sizes: list[int], seed: int, shared: float = 1.0, n_spaces: int = 2
) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """Spaces whose rows are alike within a cluster, and between spaces as much as `shared`."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    common = (
        rng.standard_normal((len(clusters), 6)) + rng.standard_normal((len(sizes), 6))[clusters]
    )
    spaces = []
    for _ in range(n_spaces):
        own = rng.standard_normal((len(sizes), 6))[clusters]
        spaces.append(shared * common + own + rng.standard_normal((len(clusters), 6)) / 2)
    return spaces, clusters


def sqeuclidean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half the squared distances, negated: the kernel of u = row, a = -|u|^2 / 2."""
    distances: NDArray[np.float64] = ((rows[:, None] - rows) ** 2).sum(axis=2)
    return -distances / 2


def by_rearranging(
    k: NDArray[np.float64],
    l: NDArray[np.float64],
    clusters: NDArray[np.int64],
    order: NDArray[np.int64],
) -> float:
    """Correlate over pairs between clusters with the rows of k really rearranged."""
    pairs = np.triu(clusters[:, None] != clusters, 1)
    return float(np.corrcoef(k[np.ix_(order, order)][pairs], l[pairs])[0, 1])


def features_of(
    spaces: list[NDArray[np.float64]], clusters: NDArray[np.int64], library: object, dtype: str
) -> FeatureRows:
    """Return the features of squared distances."""
    to = library.asarray
    return FeatureRows(
        clusters,
        {s: to(rows.astype(dtype)) for s, rows in enumerate(spaces)},
        {s: to(-(rows**2).sum(axis=1) / 2) for s, rows in enumerate(spaces)},
    )


def kernels_of(
    spaces: list[NDArray[np.float64]], library: object, dtype: str
) -> dict[int, NDArray[np.float64]]:
    """Return the whole kernels."""
    return {s: library.asarray(sqeuclidean(r).astype(dtype)) for s, r in enumerate(spaces)}


@pytest.mark.parametrize("library", [np, array_api_strict])
@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-12), ("float32", 1e-6)])
def test_both_forms_equal_rearranged_matrices(library: object, dtype: str, error: float) -> None:
    spaces, clusters = clustered(SIZES * 3, 1, n_spaces=3)
    pairs = [(0, 1), (0, 2), (2, 1)]
    forms = (
        BetweenKernels(kernels_of(spaces, library, dtype), clusters, pairs),
        BetweenFeatures(features_of(spaces, clusters, library, dtype), pairs),
    )
    generator = np.random.default_rng(0)
    sizes = np.array(SIZES * 3)
    for order in (np.arange(len(clusters)), *(draw_order(sizes, generator) for _ in range(4))):
        expected = [
            by_rearranging(sqeuclidean(spaces[s]), sqeuclidean(spaces[t]), clusters, order)
            for s, t in pairs
        ]
        for form in forms:
            np.testing.assert_allclose(form.correlations(order), expected, atol=error)


def test_orders_move_whole_clusters_to_clusters_of_their_size() -> None:
    sizes = np.array(SIZES)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    generator = np.random.default_rng(4)
    moved = np.zeros(len(sizes))
    for _ in range(200):
        order = draw_order(sizes, generator)
        assert sorted(order) == list(range(len(clusters)))
        for g in range(len(sizes)):
            rows = order[clusters == g]
            assert (np.diff(rows) == 1).all()
            assert sizes[clusters[rows[0]]] == sizes[g]
            assert len(set(clusters[rows])) == 1
            moved[g] += clusters[rows[0]] != g
    # Of n clusters of one size, each stays at its place one time in n.
    counts = np.array([SIZES.count(n) for n in SIZES])
    np.testing.assert_allclose(moved / 200, 1 - 1 / counts, atol=0.12)


def test_p_is_that_of_all_arrangements() -> None:
    sizes = [2, 2, 2, 2, 2]
    spaces, clusters = clustered(sizes, 3, shared=0.4)
    k, l = (sqeuclidean(rows) for rows in spaces)
    every = []
    for places in itertools.permutations(range(5)):
        order = (np.array(places)[:, None] * 2 + [0, 1]).ravel()
        every.append(by_rearranging(k, l, clusters, order))
    for alternative, exact in (
        ("greater", np.mean(np.array(every) >= every[0] - 1e-12)),
        ("two-sided", np.mean(np.abs(every) >= abs(every[0]) - 1e-12)),
    ):
        form = BetweenKernels(kernels_of(spaces, np, "float64"), clusters, [(0, 1)])
        test = permute_clusters(form, n_permutations=2000, alternative=alternative)[0]
        assert test.r_between == pytest.approx(every[0])
        assert test.p_value == pytest.approx(exact, abs=0.04)
        assert test.null_mean == pytest.approx(np.mean(every), abs=0.02)
        assert test.null_sd == pytest.approx(np.std(every), abs=0.02)
        assert test.notes[0].startswith("the clusters have only 120 arrangements")


def test_p_counts_the_arrangement_that_is() -> None:
    spaces, clusters = clustered([4] * 30, 5, shared=3)
    done: list[int] = []
    form = BetweenFeatures(features_of(spaces, clusters, np, "float32"), [(0, 1)])
    test = permute_clusters(form, n_permutations=49, on_progress=done.append)[0]
    assert test.p_value == 1 / 50
    assert (test.n_permutations, test.n_clusters, test.n_exchangeable) == (49, 30, 30)
    assert test.notes == ()
    assert sum(done) == 49


def test_clusters_of_sizes_of_their_own_cannot_be_tested() -> None:
    spaces, clusters = clustered([2, 3, 4, 5], 1)
    form = BetweenKernels(kernels_of(spaces, np, "float32"), clusters, [(0, 1)])
    test = permute_clusters(form)[0]
    assert (test.p_value, test.null_mean, test.n_exchangeable, test.n_permutations) == (
        None,
        None,
        0,
        0,
    )
    assert test.notes == ("no two clusters have equally many rows, so none can change places",)
    spaces, clusters = clustered([2] * 20 + [30], 1)
    form = BetweenKernels(kernels_of(spaces, np, "float32"), clusters, [(0, 1)])
    test = permute_clusters(form, n_permutations=9)[0]
    assert test.n_exchangeable == 20
    assert "1 clusters (30 of 70 rows) have no other of their size" in test.notes[0]


def test_what_does_not_vary_has_no_p() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((12, 4))
    clusters = np.arange(12) // 3
    flat = np.ones((12, 4))
    for form in (
        BetweenKernels(kernels_of([rows, flat], np, "float32"), clusters, [(0, 1)]),
        BetweenFeatures(features_of([rows, flat], clusters, np, "float32"), [(0, 1)]),
    ):
        test = permute_clusters(form, n_permutations=9)[0]
        assert np.isnan(test.r_between)
        assert test.p_value is None
        assert test.notes == (
            "a kernel does not vary between clusters, so there is nothing to test",
        )
    for form in (
        BetweenKernels(kernels_of([rows, rows], np, "float32"), clusters * 0, [(0, 1)]),
        BetweenFeatures(features_of([rows, rows], clusters * 0, np, "float32"), [(0, 1)]),
    ):
        test = permute_clusters(form)[0]
        assert test.p_value is None
        assert test.notes[0].startswith("all rows come from one cluster")


def test_settings_that_mean_nothing_are_refused() -> None:
    spaces, clusters = clustered([2] * 4, 1)
    form = BetweenKernels(kernels_of(spaces, np, "float32"), clusters, [(0, 1)])
    with pytest.raises(InvalidInput, match="no alternative 'less'; choose one of greater, two"):
        permute_clusters(form, alternative="less")
    with pytest.raises(InvalidInput, match="0 permutations are asked for; give at least 1"):
        permute_clusters(form, n_permutations=0)


@pytest.mark.parametrize("library", [np, array_api_strict])
@pytest.mark.parametrize("tile_rows", [70, 13])
def test_kernels_are_kept_from_tiles_in_any_order(library: object, tile_rows: int) -> None:
    spaces, clusters = clustered(SIZES, 2, n_spaces=3)
    matrices = [sqeuclidean(rows) for rows in spaces]
    n_rows = len(clusters)
    cuts = [(lo, min(lo + tile_rows, n_rows)) for lo in range(0, n_rows, tile_rows)]
    kept = KeptKernels(n_rows, [0, 2])
    states = [kept.start(), kept.start()]
    for place, (rows, columns) in enumerate(itertools.combinations_with_replacement(cuts, 2)):
        parts = [k[slice(*rows), slice(*columns)].copy() for k in matrices]
        if rows == columns:  # the lower half is not to be counted
            for part in parts:
                part[np.tril_indices(len(part))] = 99
        tile = Tile(
            rows,
            columns,
            tuple(library.asarray(part) for part in parts),
            clusters[slice(*rows)],
            clusters[slice(*columns)],
        )
        states[place % 2] = kept.update(states[place % 2], tile)
    found = kept.finish(kept.merge(states[0], states[1]))
    assert sorted(found) == [0, 2]
    for s in (0, 2):
        np.testing.assert_array_equal(np.from_dlpack(found[s]), matrices[s])


def test_features_are_kept_from_blocks_in_any_order() -> None:
    spaces, clusters = clustered(SIZES, 2)
    kernel = kernel_named("sqeuclidean")
    frames = tuple(Frame.at(kernel, rows.mean(axis=0), 1.0, np.arange(2)) for rows in spaces)
    preparation = Preparation(
        frames, [(0, 1)], clusters, np.array(SIZES), "float64", lambda space, row: f"{space}:{row}"
    )
    bounds = [0, 9, 19, len(clusters)]
    blocks = [
        preparation(Block(lo, hi, tuple(rows[lo:hi] for rows in spaces)))
        for lo, hi in itertools.pairwise(bounds)
    ]
    kept = KeptFeatures([0, 1])
    other = kept.update(kept.start(), blocks[1])
    first = kept.update(kept.update(kept.start(), blocks[2]), blocks[0])
    rows = kept.finish(kept.merge(first, other))
    np.testing.assert_array_equal(rows.clusters, clusters)
    r = BetweenFeatures(rows, [(0, 1)]).correlations(np.arange(len(clusters)))
    k, l = (sqeuclidean(part) for part in spaces)
    assert r[0] == pytest.approx(by_rearranging(k, l, clusters, np.arange(len(clusters))))


def test_the_plans_hold_what_is_measured() -> None:
    sizes = [4] * 300
    spaces, clusters = clustered(sizes, 1)
    spaces = [np.tile(rows, (1, 20)) for rows in spaces]
    features = features_of(spaces, clusters, np, "float32")
    orders = [draw_order(np.array(sizes), np.random.default_rng(0)) for _ in range(2)]

    def whole() -> None:
        """Permute kernels kept from tiles."""
        kept = run_pass(tiles, [KeptKernels(1200, [0, 1])])[0]
        form = BetweenKernels(kept, clusters, [(0, 1)])
        for order in orders:
            form.correlations(order)

    def factored() -> None:
        """Permute features."""
        taken = FeatureRows(clusters, dict(features.u), dict(features.a))
        form = BetweenFeatures(taken, [(0, 1)])
        for order in orders:
            form.correlations(order)

    kernels = kernels_of([rows[:, :6] for rows in spaces], np, "float32")
    cuts = [(lo, lo + 300) for lo in range(0, 1200, 300)]
    tiles = [
        Tile(
            rows,
            columns,
            tuple(kernels[s][slice(*rows), slice(*columns)].copy() for s in (0, 1)),
            clusters[slice(*rows)],
            clusters[slice(*columns)],
        )
        for rows, columns in itertools.combinations_with_replacement(cuts, 2)
    ]
    for run, plan in (
        (whole, plan_kernels(1200, 2, 300)),
        (factored, plan_features(np.array(sizes), [120, 120])),
    ):
        tracemalloc.start()
        try:
            run()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert 0.75 * plan.needed < peak < plan.needed


def test_the_form_is_the_faster_one_that_fits() -> None:
    few, many = np.ones(2000, dtype=np.int64), np.ones(20_000, dtype=np.int64)
    plenty = 2**34

    def form(sizes: NDArray[np.int64], allowed: int, factored: bool = True) -> str:
        """Name the form for two spaces of 768."""
        plan = plan_permutation(
            sizes, [768, 768], [(0, 1)], allowed=allowed, tile_rows=512, factored=factored
        )
        assert plan.memory.needed <= allowed
        return plan.form

    assert form(few, plenty) == "kernels"
    assert form(many, plenty) == "features"
    assert form(many, plenty, factored=False) == "kernels"
    assert form(few, 30 * 2**20) == "features"
    with pytest.raises(MemoryRefused, match="permuting the clusters of 20000 rows in 2 spaces"):
        form(many, 2**30, factored=False)
