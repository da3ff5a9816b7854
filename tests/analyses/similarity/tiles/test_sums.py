"""Sums over pairs of rows from tiles: against features, whole matrices, and any panels."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays
from layerlake.analyses.similarity.estimates import rsa_estimates
from layerlake.analyses.similarity.features.dissimilarity import leaving_along, pairs_along
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.features.rsa_value import (
    RsaValue,
    cancellation,
    value_of,
)
from layerlake.analyses.similarity.tiles.kernel_cka import TileCka, cka_memory, deal_groups
from layerlake.analyses.similarity.tiles.planning import plan_tiles
from layerlake.analyses.similarity.tiles.sums import (
    PairedSums,
    TileSums,
    sums_memory,
    varying,
)
from layerlake.analyses.similarity.tiles.tile_kernels import tile_kernel
from layerlake.analyses.similarity.tiles.tile_pass import TilePass, TileSource, open_tiles
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.passes.arrays import item_bytes, take_rows
from layerlake.engine.passes.blocks import run_pass

ALL_KERNELS = ("cosine", "correlation", "linear", "sqeuclidean", "euclidean", "rbf")


def sized(widths: Sequence[int], value_bytes: Sequence[int], n_rows: int) -> Workload:
    """Return the sizes of a comparison over rows of one cluster."""
    return Workload(n_rows, tuple(widths), tuple(value_bytes), np.array([n_rows]), ())


class ArraySpace:
    """An array as a space."""

    def __init__(self, values: Any) -> None:
        self.values = values
        self.shape = tuple(values.shape)
        self.dtype = values.dtype

    def rows(self, index: NDArray[np.int64], /) -> Any:
        return take_rows(self.values, index)


def opened(
    arrays: list[Any],
    clusters: NDArray[np.int64],
    kernel: Any,
    panel_rows: int = 70,
    precision: str = "float32",
) -> TilePass:
    """Open a pass over all rows of some arrays."""
    chosen = tile_kernel(kernel)
    every = np.arange(len(clusters))
    source = TileSource(
        tuple(map(ArraySpace, arrays)), (every,) * len(arrays), clusters,
        tuple("XYZ"[: len(arrays)]), chosen, precision,
    )  # fmt: skip
    hiddens = [z.shape[1] for z in arrays]
    stored = [item_bytes(z.dtype) for z in arrays]
    return open_tiles(
        source,
        lambda n: plan_tiles(
            sized(hiddens, stored, n),
            chosen,
            allowed=2**30,
            precision=precision,
            panel_rows=panel_rows,
        ),
    )


def summed(tiles: TilePass, pairs: list[Pair], intervals: bool = True) -> dict[Pair, PairedSums]:
    """Run a pass for sums."""
    found: dict[Pair, PairedSums] = run_pass(
        tiles.tiles(), [TileSums(tiles, pairs, intervals=intervals)]
    )[0]
    return found


def valued(tiles: TilePass, found: PairedSums, kernel: str, score: str = "pearson") -> RsaValue:
    """Turn sums into a value."""
    return value_of(
        found.sums, found.leaving, interval="cluster", score=score, confidence=0.95, kernel=kernel
    )  # fmt: skip


def related(n: int, seed: int = 0, shift: float = 2.0) -> list[NDArray[np.float32]]:
    """Three related spaces of widths 20, 20 and 27, whose rows come in runs that are alike."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((n, 20)) + np.repeat(rng.standard_normal((n // 5 + 1, 20)), 5, 0)[:n]
    other = base + rng.standard_normal((n, 20))
    wide = base @ rng.standard_normal((20, 27)) + 3 * rng.standard_normal((n, 27))
    return [(z + shift).astype(np.float32) for z in (base, other, wide)]


def clusters_of(n: int, seed: int = 0, most: int = 9) -> NDArray[np.int64]:
    """Clusters of 1 to `most` rows."""
    sizes = np.random.default_rng(seed).integers(1, most + 1, n)
    labels: NDArray[np.int64] = np.repeat(np.arange(n), sizes)[:n]
    return labels


def whole(rows: NDArray[Any], kernel: str, sigma: float | None) -> NDArray[np.float64]:
    """The whole matrix of a kernel, float64."""
    wide = rows.astype(np.float64)
    if kernel == "linear":
        return wide @ wide.T
    if kernel == "rbf":
        assert sigma is not None
        return np.exp(-cdist(wide, wide, "sqeuclidean") / (2 * sigma**2))
    if kernel in ("cosine", "correlation"):
        return 1 - cdist(wide, wide, kernel)
    return cdist(wide, wide, kernel)


@pytest.mark.parametrize("kernel", ["cosine", "correlation", "linear", "sqeuclidean"])
@pytest.mark.parametrize("most", [1, 9, 200])
def test_values_are_those_of_features(kernel: str, most: int) -> None:
    spaces, clusters = related(400), clusters_of(400, most=most)
    spaces[0][7] = 0
    tiles = opened(list(spaces), clusters, kernel)
    pairs = [(0, 1), (1, 2)]
    found = summed(tiles, pairs)
    for s, t in pairs:
        kept = tiles.kept_rows
        exact = compare_arrays(
            spaces[s][kept].astype(np.float64), spaces[t][kept].astype(np.float64), clusters[kept],
            kernel=kernel, precision="float64", method="features",
        )  # fmt: skip
        value = valued(tiles, found[s, t], kernel)
        assert tiles.n_dropped == (kernel in ("cosine", "correlation"))
        assert len(kept) == exact.counts.n_rows
        assert value.n_clusters == exact.counts.n_clusters
        assert value.notes == exact.notes
        for estimate in rsa_estimates(value, "pearson"):
            other = exact[estimate.measure]
            assert estimate.value == pytest.approx(other.value, abs=2e-7, nan_ok=True)
            assert estimate.low == pytest.approx(other.low, abs=5e-6)
            assert estimate.high == pytest.approx(other.high, abs=5e-6)


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_sums_are_those_of_whole_matrices(kernel: str) -> None:
    spaces, clusters = related(200)[1:], clusters_of(200)
    tiles = opened(list(spaces), clusters, kernel, precision="float64")
    found = summed(tiles, [(0, 1)])[0, 1]
    k, l = (
        whole(rows, kernel, own.sigma) / own.scale - own.constant
        for rows, own in zip(spaces, tiles.kernels, strict=True)
    )
    apart, together = ~np.eye(200, dtype=bool), clusters[:, None] == clusters

    def six(mask: NDArray[np.bool_]) -> list[float]:
        x, y = k[mask], l[mask]
        return [len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y]

    sums = found.sums
    groups = range(int(clusters.max()) + 1)
    same = {"rtol": 1e-9, "atol": 1e-9 * sums.total[3]}
    np.testing.assert_allclose(sums.total, six(apart), **same)
    np.testing.assert_allclose(sums.own, six(~apart), **same)
    within = [six(apart & together & (clusters == g)[:, None]) for g in groups]
    np.testing.assert_allclose(sums.within, np.transpose(within), **same)
    leaving = [six(apart & (clusters == g)[:, None])[1:] for g in groups]
    np.testing.assert_allclose(found.leaving, np.transpose(leaving), **same)
    assert (sums.sizes == np.bincount(clusters)).all()
    assert not sums.same


@pytest.mark.parametrize("kernel", ALL_KERNELS)
@pytest.mark.parametrize("mean_cosine", [0.05, 0.99999])
def test_float32_tiles_err_by_less_than_2e_7(kernel: str, mean_cosine: float) -> None:
    rng = np.random.default_rng(0)
    one = rng.standard_normal((900, 256)) * np.arange(1.0, 257) ** -0.5
    other = 0.8 * one + 0.4 * rng.standard_normal((900, 256)) * np.arange(1.0, 257) ** -0.5
    shift = math.sqrt(mean_cosine / (1 - mean_cosine) * (one**2).sum(axis=1).mean() / 256)
    spaces: list[Any] = [(z + shift).astype(np.float16) for z in (one, other)]
    rough, exact = (
        summed(opened(spaces, np.arange(900), kernel, 300, precision), [(0, 1)])[0, 1].sums
        for precision in ("float32", "float64")
    )
    tiles = opened(spaces, np.arange(900), kernel, 300)
    values = [valued(tiles, PairedSums(sums, None), kernel).r_all for sums in (rough, exact)]
    assert values[0] == pytest.approx(values[1], abs=2e-7)
    assert max(cancellation(rough)) < 4


def test_the_cosine_of_kernels() -> None:
    spaces, clusters = related(150)[1:], clusters_of(150)
    for kernel in ALL_KERNELS:
        tiles = opened(list(spaces), clusters, kernel)
        found = summed(tiles, [(0, 1)])[0, 1]
        # The kernels as they are, scale * (entry + constant): what a dissimilarity is a line of.
        lines = [(own.scale * own.constant, own.scale) for own in tiles.kernels]
        assert found.leaving is not None
        raw = PairedSums(
            pairs_along(found.sums, *lines), leaving_along(found.leaving, found.sums, *lines)
        )
        value = valued(tiles, raw, kernel, score="cosine")
        k, l = (
            whole(rows, kernel, own.sigma) for rows, own in zip(spaces, tiles.kernels, strict=True)
        )

        def cosine(mask: NDArray[np.bool_], k: Any = k, l: Any = l) -> float:
            return float(k[mask] @ l[mask] / math.sqrt((k[mask] ** 2).sum() * (l[mask] ** 2).sum()))

        pairs = np.triu(np.ones((150, 150), bool), 1)
        apart = clusters[:, None] != clusters
        assert value.r_all == pytest.approx(cosine(pairs), abs=2e-7)
        assert value.r_between == pytest.approx(cosine(pairs & apart), abs=2e-7)
        left = [cosine(pairs & (clusters != g)[:, None] & (clusters != g)) for g in set(clusters)]
        z = np.arctanh(left)
        error = math.sqrt(((z - z.mean()) ** 2).sum() * (len(z) - 1) / len(z))
        assert value.r_all_high is not None
        assert value.r_all_low is not None
        reach = (np.arctanh(value.r_all_high) - np.arctanh(value.r_all_low)) / 2
        assert reach / error == pytest.approx(2.0, abs=0.06)  # t with about 30 clusters


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 99),
    panel_rows=st.integers(3, 130),
    most=st.integers(1, 40),
    kernel=st.sampled_from(ALL_KERNELS),
    order=st.randoms(use_true_random=False),
)
def test_any_panels_and_merging_give_the_same(
    seed: int, panel_rows: int, most: int, kernel: str, order: Any
) -> None:
    spaces, clusters = related(120, seed), clusters_of(120, seed, most)
    arrays: list[Any] = list(spaces)
    pairs = [(0, 1), (0, 2)]
    one = opened(arrays, clusters, kernel, 120, "float64")
    expected = summed(one, pairs), run_pass(one.tiles(), [TileCka(one, pairs)])[0]
    tiles = opened(arrays, clusters, kernel, panel_rows, "float64")
    for accumulator, known in zip(
        (TileSums(tiles, pairs, intervals=True), TileCka(tiles, pairs)), expected, strict=True
    ):
        states: list[Any] = []
        for p in range(len(tiles.plan.panels)):
            state: Any = accumulator.start()
            for tile in tiles.tiles([p]):
                state = accumulator.update(state, tile)
            states.append(state)
        while len(states) > 1:
            first = states.pop(order.randrange(len(states)))
            second = states.pop(order.randrange(len(states)))
            states.append(accumulator.merge(first, second))  # type: ignore[arg-type]
        found: Any = accumulator.finish(states[0])
        for pair in pairs:
            if isinstance(accumulator, TileCka):
                assert found[pair].biased == pytest.approx(known[pair].biased, abs=1e-12)
                assert found[pair].debiased == pytest.approx(known[pair].debiased, abs=1e-12)
                continue
            size = np.abs(known[pair].sums.total).max()
            for name in ("total", "within", "own"):
                np.testing.assert_allclose(
                    getattr(found[pair].sums, name), getattr(known[pair].sums, name),
                    rtol=1e-9, atol=1e-11 * size,
                )  # fmt: skip
            np.testing.assert_allclose(
                found[pair].leaving, known[pair].leaving, rtol=1e-9, atol=1e-11 * size
            )


@pytest.mark.parametrize("library", ["numpy", "array_api_strict"])
@pytest.mark.parametrize("spaces", [3, 24])
def test_without_intervals_there_is_nothing_by_cluster_but_what_r_between_takes(
    spaces: int, library: str
) -> None:
    # All pairs of 24 spaces are many products, which are summed in another way.
    xp = pytest.importorskip(library)
    arrays = [xp.asarray(related(60, seed)[seed % 3]) for seed in range(spaces)]
    pairs = [(s, t) for s in range(spaces) for t in range(s)]
    tiles = opened(arrays, clusters_of(60), "euclidean", 33, "float64")
    some, all_ = (summed(tiles, pairs, intervals=x) for x in (False, True))
    for pair in pairs:
        assert some[pair].leaving is None
        for name in ("total", "within", "own", "norms"):
            one, other = (getattr(z[pair].sums, name) for z in (some, all_))
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-9)


def test_equal_spaces_are_told_from_nearly_equal_ones() -> None:
    spaces = related(100)
    near = spaces[0].copy()
    near[50] += 1
    tiles = opened([spaces[0], spaces[0].copy(), near], clusters_of(100), "euclidean", 30)
    found = summed(tiles, [(0, 1), (0, 2), (1, 1)])
    assert [found[pair].sums.same for pair in found] == [True, False, True]
    assert valued(tiles, found[0, 1], "euclidean").r_all == 1


@pytest.mark.parametrize("n", [8, 40, 60])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_kernel_that_does_not_vary_is_told(precision: str, n: int) -> None:
    simplex = np.eye(60, dtype=np.float32)[:n]
    equal = np.full((n, 7), 0.1, dtype=np.float32)
    for kernel, constant in (
        ("cosine", simplex), ("euclidean", simplex), ("rbf", simplex), ("linear", equal),
        ("sqeuclidean", equal), ("euclidean", equal),
    ):  # fmt: skip
        tiles = opened([related(n)[0], constant], np.arange(n), kernel, 25, precision)
        accumulators = [TileSums(tiles, [(0, 1)], intervals=True), TileCka(tiles, [(0, 1)])]
        sums, alike = run_pass(tiles.tiles(), accumulators)
        centres = tiles.centres[0], tiles.centres[1]
        assert varying(sums[0, 1].sums, precision, centres) == (True, False)
        assert math.isnan(alike[0, 1].debiased)
        assert math.isnan(alike[0, 1].biased) == (constant is equal)


def hsic(k: NDArray[np.float64], l: NDArray[np.float64], debiased: bool) -> float:
    """HSIC by its definition, up to a factor of n (Gretton 2005; Song 2012)."""
    n = len(k)
    if not debiased:
        centre = np.eye(n) - 1 / n
        return float(np.trace(k @ centre @ l @ centre))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    one = np.ones(n)
    return float(
        np.trace(k @ l)
        + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ l @ one)
    )


def cka(k: NDArray[np.float64], l: NDArray[np.float64], debiased: bool) -> float:
    """CKA by its definition."""
    return hsic(k, l, debiased) / math.sqrt(hsic(k, k, debiased) * hsic(l, l, debiased))


@pytest.mark.parametrize("kernel", ["rbf", "linear", "cosine"])
def test_cka_is_that_of_whole_matrices_with_groups_left_out(kernel: str) -> None:
    spaces, clusters = related(260), clusters_of(260)
    tiles = opened(list(spaces), clusters, kernel)
    pairs = [(0, 1), (2, 2), (0, 2)]
    found = run_pass(tiles.tiles(), [TileCka(tiles, pairs, n_groups=7)])[0]
    matrices = [
        whole(rows, kernel, own.sigma) for rows, own in zip(spaces, tiles.kernels, strict=True)
    ]
    groups = deal_groups(clusters, 7)
    for s, t in pairs:
        k, l = matrices[s], matrices[t]
        for name, debiased in (("biased", False), ("debiased", True)):
            assert getattr(found[s, t], name) == pytest.approx(cka(k, l, debiased), abs=2e-7)
            deleted = getattr(found[s, t], f"deleted_{name}")
            assert len(deleted) == 7
            for g in range(7):
                kept = np.ix_(groups != g, groups != g)
                assert deleted[g] == pytest.approx(cka(k[kept], l[kept], debiased), abs=5e-7)
    alone = run_pass(tiles.tiles(), [TileCka(tiles, pairs, n_groups=1)])[0]
    assert alone[0, 1].biased == pytest.approx(found[0, 1].biased, abs=1e-7)
    assert len(alone[0, 1].deleted_biased) == 0


def test_groups_hold_whole_clusters_and_about_as_many_rows() -> None:
    clusters = clusters_of(1000, most=30)
    groups = deal_groups(clusters, 20)
    assert (np.diff(groups) >= 0).all()
    assert (groups[1:] == groups[:-1])[clusters[1:] == clusters[:-1]].all()
    counts = np.bincount(groups)
    assert len(counts) == 20
    assert counts.max() <= 50 + 30
    assert deal_groups(np.array([0, 0, 0, 4, 4]), 20).tolist() == [0, 0, 0, 1, 1]
    long = np.repeat([0, 1, 2], [90, 5, 5])
    assert set(deal_groups(long, 3)) <= {0, 1, 2}
    assert deal_groups(long, 3)[0] == 0


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
@pytest.mark.parametrize("kernel", ["cosine", "euclidean", "rbf"])
def test_other_array_libraries_agree_with_numpy(library: str, kernel: str) -> None:
    xp = pytest.importorskip(library)
    spaces, clusters = related(90), clusters_of(90)
    values = []
    for arrays in (list(spaces), [xp.asarray(z) for z in spaces]):
        tiles = opened(arrays, clusters, kernel, 40)
        accumulators = [TileSums(tiles, [(0, 1)], intervals=True), TileCka(tiles, [(0, 1)])]
        sums, likeness = run_pass(tiles.tiles(), accumulators)
        value = valued(tiles, sums[0, 1], kernel)
        values.append([value.r_all, value.r_between, value.r_between_low, likeness[0, 1].debiased])
    assert values[1] == pytest.approx(values[0], abs=1e-6)


@pytest.mark.parametrize(
    ("measure", "kernel", "most", "intervals"),
    [
        ("rsa", "cosine", 1, True),
        ("rsa", "euclidean", 40, True),
        ("rsa", "cosine", 9, False),
        ("cka", "rbf", 9, True),
        ("cka", "rbf", 9, False),
    ],
)
def test_memory_stays_within_what_was_said(
    measure: str, kernel: str, most: int, intervals: bool
) -> None:
    n, d, panel_rows = 1600, 100, 400
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((n, d)).astype(np.float32) for _ in range(4)]
    clusters, pairs = clusters_of(n, most=most), [(s, t) for s in range(4) for t in range(s)]
    if measure == "rsa":
        memory = sums_memory(
            4, pairs, int(clusters[-1]) + 1, intervals=intervals, precision="float32"
        )
    else:
        memory = cka_memory(n, 4, pairs, n_groups=20 if intervals else 1)
    # A given bandwidth, for the sample that the median takes would hold more than the rest.
    chosen = tile_kernel(kernel, bandwidth=14.0 if kernel == "rbf" else None)
    plan = plan_tiles(
        sized([d] * 4, [4] * 4, n),
        chosen,
        allowed=2**30,
        panel_rows=panel_rows,
        reducer_bytes=memory,
    )
    every = np.arange(n)
    source = TileSource(
        tuple(map(ArraySpace, arrays)), (every,) * 4, clusters, tuple("WXYZ"), chosen
    )
    tracemalloc.start()
    try:
        tiles = open_tiles(source, lambda n: plan)
        accumulator: Any = (
            TileSums(tiles, pairs, intervals=intervals)
            if measure == "rsa"
            else TileCka(tiles, pairs, n_groups=20 if intervals else 1)
        )
        run_pass(tiles.tiles(), [accumulator])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.8 * plan.memory.peak <= peak <= plan.memory.peak
