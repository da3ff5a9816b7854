"""Resampled clusters against rows really copied, pairs of copies really left out."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Iterator

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.rsa_value import correlation
from layerlake.analyses.similarity.tiles.bootstrap import (
    KeptBootstrap,
    StreamedBootstrap,
    cluster_bootstrap,
    keeps_sums,
    plan_bootstrap,
)
from layerlake.analyses.similarity.tiles.cluster_sums import KeptSums
from layerlake.analyses.similarity.tiles.resampled_clusters import bootstrap_value
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.analyses.statistics.bootstrap import draw_clusters, percentile_interval
from layerlake.engine.passes.blocks import run_pass
from layerlake.store.errors import InvalidInput

FORMS = (KeptBootstrap, StreamedBootstrap)


def kernels_of(
    sizes: list[int], n_spaces: int = 2, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Kernel matrices far from zero, alike within clusters, (space, row, row), and clusters."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    shared = rng.standard_normal((len(sizes), 6))[clusters] + rng.standard_normal(
        (len(clusters), 6)
    )
    spaces = [shared @ rng.standard_normal((6, 6)) for _ in range(n_spaces)]
    spaces = [rows + rng.standard_normal(rows.shape) for rows in spaces]
    return np.stack([rows @ rows.T + 5 * s for s, rows in enumerate(spaces)]), clusters


def cut(
    kernels: NDArray[np.floating],
    clusters: NDArray[np.int64],
    size: int,
    xp: object = np,
) -> Iterator[Tile]:
    """Cut the upper triangle of whole matrices into tiles."""
    n_rows = len(clusters)
    places = [(lo, min(lo + size, n_rows)) for lo in range(0, n_rows, size)]
    for rows in places:
        for columns in places:
            if columns < rows:
                continue
            parts = [k[rows[0] : rows[1], columns[0] : columns[1]].copy() for k in kernels]
            yield Tile(
                rows,
                columns,
                tuple(xp.asarray(part) for part in parts),
                clusters[slice(*rows)],
                clusters[slice(*columns)],
            )


def by_copying(
    kernels: NDArray[np.float64], clusters: NDArray[np.int64], counts: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return r over all pairs and over pairs between clusters, (2, resample), rows copied."""
    found = []
    for taken in counts:
        rows, copies = [], []
        for g, times in enumerate(taken):
            for copy in range(int(times)):
                members = np.flatnonzero(clusters == g)
                rows += [*members]
                copies += [copy] * len(members)
        place, copy = np.array(rows), np.array(copies)
        whose = clusters[place]
        one = np.triu(np.ones((len(place),) * 2, dtype=bool), 1)
        apart = whose[:, None] != whose
        both = [one & (apart | (copy[:, None] == copy)), one & apart]
        k, l = (kernel[np.ix_(place, place)] for kernel in kernels)
        found.append([np.corrcoef(k[pairs], l[pairs])[0, 1] for pairs in both])
    return np.array(found).T


SIZES = [1, 4, 2, 9, 1, 3, 17, 2, 5, 1, 1, 6, 3, 3, 8, 2]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tile_rows", [68, 16, 5, 1])
def test_equals_copying_the_rows_of_the_clusters_drawn(form: type, tile_rows: int) -> None:
    kernels, clusters = kernels_of(SIZES)
    bootstrap = form([(0, 1)], np.array(SIZES), 25, seed=3)
    resamples = run_pass(cut(kernels, clusters, tile_rows), [bootstrap])[0]
    counts = draw_clusters(np.array(SIZES), 25, seed=3)
    every, apart = by_copying(kernels, clusters, counts)
    np.testing.assert_allclose(correlation(resamples.all(0, 1)), every, atol=1e-12)
    np.testing.assert_allclose(correlation(resamples.between(0, 1)), apart, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("library", [np, array_api_strict])
def test_float32_tiles_of_any_library_are_exact_enough(form: type, library: object) -> None:
    kernels, clusters = kernels_of(SIZES * 3)
    kernels = kernels / 30 + 40  # a spread a tenth of a percent of the mean
    tiles = cut(kernels.astype(np.float32), clusters, 23, library)
    found = run_pass(tiles, [form([(0, 1)], np.array(SIZES * 3), 15)])[0]
    counts = draw_clusters(np.array(SIZES * 3), 15, seed=0)
    every, apart = by_copying(kernels.astype(np.float32).astype(np.float64), clusters, counts)
    np.testing.assert_allclose(correlation(found.all(0, 1)), every, atol=3e-6)
    np.testing.assert_allclose(correlation(found.between(0, 1)), apart, atol=3e-6)


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 7), min_size=3, max_size=12).filter(
        lambda s: sum(n > 0 for n in s) > 2
    ),
    st.integers(1, 30),
    st.integers(0, 99),
)
def test_any_tiles_merged_in_any_order_give_the_same(
    sizes: list[int], tile_rows: int, seed: int
) -> None:
    kernels, clusters = kernels_of(sizes, n_spaces=3, seed=seed)
    pairs = [(0, 1), (0, 2), (1, 2)]
    whole = run_pass(
        cut(kernels, clusters, max(len(clusters), 1)), [KeptBootstrap(pairs, np.array(sizes), 20)]
    )[0]
    tiles = list(cut(kernels, clusters, tile_rows))
    order = np.random.default_rng(seed).permutation(len(tiles))
    for form in FORMS:
        accumulator = form(pairs, np.array(sizes), 20)
        states = [accumulator.start() for _ in range(3)]
        for place, tile in enumerate(order):
            worker = pickle.loads(pickle.dumps(accumulator))
            states[place % 3] = worker.update(states[place % 3], tiles[tile])
        merged = accumulator.merge(states[2], accumulator.merge(states[0], states[1]))
        found = accumulator.finish(merged)
        for pair in pairs:
            for got, expected in (
                (found.all(*pair), whole.all(*pair)),
                (found.between(*pair), whole.between(*pair)),
            ):
                np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-7)


def test_sums_for_every_two_clusters_are_those_that_touch_and_lie_within_each() -> None:
    kernels, clusters = kernels_of(SIZES)
    sums = run_pass(cut(kernels, clusters, 11), [KeptSums([(0, 1)], np.array(SIZES))])[0]
    product = kernels[0] * kernels[1]
    np.fill_diagonal(product, 0)
    for g in range(len(SIZES)):
        rows = clusters == g
        assert sums.leaving((0, 1))[g] == pytest.approx(product[rows].sum())
        assert sums.within((0, 1))[g] == pytest.approx(product[np.ix_(rows, rows)].sum())


def test_draws_take_as_many_clusters_as_there_are_with_rows() -> None:
    sizes = np.array([3, 0, 1, 5, 0, 2])
    counts = draw_clusters(sizes, 400, seed=1)
    assert counts.shape == (401, 6)
    np.testing.assert_array_equal(counts[0], sizes > 0)
    np.testing.assert_array_equal(counts.sum(axis=1), 4)
    assert not counts[:, sizes == 0].any()
    assert abs(counts[1:, 0].mean() - 1) < 0.15
    np.testing.assert_array_equal(counts, draw_clusters(sizes, 400, seed=1))
    assert (counts != draw_clusters(sizes, 400, seed=2)).any()


def test_intervals_are_quantiles_of_the_resamples() -> None:
    kernels, clusters = kernels_of(SIZES)
    resamples = run_pass(
        cut(kernels, clusters, 20), [cluster_bootstrap([(0, 1)], np.array(SIZES), 200)]
    )[0]
    value = bootstrap_value(resamples, 0, 1, n_clusters=16, confidence=0.9)
    apart = correlation(resamples.between(0, 1))
    assert value.r_between == apart[0]
    expected = tuple(np.quantile(apart[1:], [0.05, 0.95]))
    assert (value.r_between_low, value.r_between_high) == pytest.approx(expected)
    assert value.r_all_low < value.r_all < value.r_all_high
    assert (value.n_resamples, value.n_clusters) == (200, 16)
    assert [note[:23] for note in value.notes] == ["16 clusters are few: in"]
    assert bootstrap_value(resamples, 0, 1, n_clusters=100).notes == ()


def test_one_cluster_cannot_be_resampled() -> None:
    kernels, clusters = kernels_of([12])
    bootstrap = cluster_bootstrap([(0, 1)], np.array([12]))
    resamples = run_pass(cut(kernels, clusters, 5), [bootstrap])[0]
    value = bootstrap_value(resamples, 0, 1, n_clusters=1)
    pairs = np.triu_indices(12, 1)
    assert value.r_all == pytest.approx(np.corrcoef(kernels[0][pairs], kernels[1][pairs])[0, 1])
    assert (value.r_all_low, value.r_between, value.r_between_low) == (None, None, None)
    assert value.notes == ("all rows come from one cluster, so there is nothing to resample",)


def test_resamples_without_a_correlation_are_counted_and_few_of_them_left_out() -> None:
    # Of two clusters, half of the resamples hold one alone: no pairs between clusters.
    kernels, clusters = kernels_of([6, 7])
    resamples = run_pass(
        cut(kernels, clusters, 5), [cluster_bootstrap([(0, 1)], np.array([6, 7]), 100)]
    )[0]
    value = bootstrap_value(resamples, 0, 1, n_clusters=2)
    assert value.r_between is not None
    assert value.r_between_low is None
    assert value.r_all_low is not None
    assert any("have no correlation over pairs between" in note for note in value.notes)
    values = np.append(np.full(2, np.nan), np.linspace(0, 1, 98))
    assert percentile_interval(values, 0.95) == pytest.approx((0.025, 0.975))
    constant = np.ones_like(kernels)
    found = run_pass(
        cut(constant, clusters, 5), [cluster_bootstrap([(0, 1)], np.array([6, 7]), 100)]
    )[0]
    undefined = bootstrap_value(found, 0, 1, n_clusters=2)
    assert np.isnan(undefined.r_all)
    assert (undefined.r_all_low, undefined.r_between, undefined.r_between_low) == (None,) * 3
    assert undefined.notes[0].startswith("a kernel does not vary over all pairs")


def test_too_few_resamples_and_bad_confidence_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"79 resamples are too few .* at least 80"):
        percentile_interval(np.zeros(79), 0.95)
    percentile_interval(np.zeros(80), 0.95)
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        percentile_interval(np.zeros(100), 95)


def test_missing_tiles_are_an_error() -> None:
    kernels, clusters = kernels_of(SIZES)
    for form in FORMS:
        with pytest.raises(ValueError, match="tiles cover"):
            run_pass([*cut(kernels, clusters, 16)][:-1], [form([(0, 1)], np.array(SIZES), 10)])


@pytest.mark.parametrize(
    ("n_clusters", "form", "library_type"),
    [
        (600, KeptBootstrap, np.float32),
        (600, StreamedBootstrap, np.float32),
        (300, StreamedBootstrap, np.float64),
    ],
)
def test_the_plan_holds_what_is_measured(n_clusters: int, form: type, library_type: type) -> None:
    sizes = np.full(n_clusters, 1200 // n_clusters)
    kernels, clusters = kernels_of(list(sizes))
    tiles = list(cut(kernels.astype(library_type), clusters, 256))
    pairs = [(0, 1)]
    tracemalloc.start()
    try:
        run_pass(tiles, [form(pairs, sizes, 1500)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    plan = plan_bootstrap(
        pairs,
        sizes,
        1500,
        256,
        value_bytes=np.dtype(library_type).itemsize,
        kept=form is KeptBootstrap,
    )
    assert 0.8 * plan.needed < peak < plan.needed


def test_the_form_follows_from_the_clusters() -> None:
    assert keeps_sums([(0, 1)], 1000)
    assert not keeps_sums([(0, 1)], 5000)
    assert isinstance(cluster_bootstrap([(0, 1)], np.ones(1000)), KeptBootstrap)
    assert isinstance(cluster_bootstrap([(0, 1)], np.ones(5000)), StreamedBootstrap)
