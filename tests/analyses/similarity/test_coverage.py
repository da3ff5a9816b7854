"""Simulation: how often intervals hold the truth, and tests reject where there is nothing.

Rows are tokens of clusters (inputs). Two variants share with their base, and with one another, most
of what they are. The truth is the correlation over pairs between clusters of many more clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.rsa_value import correlation
from layerlake.analyses.similarity.permutations.between_kernels import BetweenKernels
from layerlake.analyses.similarity.permutations.draws import permute_clusters
from layerlake.analyses.similarity.tiles.bootstrap import KeptSums
from layerlake.analyses.similarity.tiles.cluster_sums import ClusterSums
from layerlake.analyses.similarity.tiles.resampled_clusters import resampled
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.analyses.statistics.bootstrap import draw_clusters, percentile_interval
from layerlake.analyses.statistics.jackknife import jackknife
from layerlake.analyses.statistics.paired_difference import paired_difference
from layerlake.engine.passes.blocks import run_pass

WIDTH = 8
PAIRS = [(0, 1), (0, 2)]


@dataclass(frozen=True)
class Scenario:
    """What is drawn."""

    n_clusters: int
    rows_each: int
    heavy: bool = False
    """Some clusters lie much farther out than others."""
    likeness: float = 1.0
    """How much the variants keep of their base."""


SCENARIOS = (
    Scenario(150, 5),
    Scenario(25, 5, heavy=True),
    Scenario(100, 4, heavy=True),
    Scenario(80, 6, likeness=0.4),
)


def spaces_of(
    scenario: Scenario, n_clusters: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw cosine kernels of a base and two variants, (space, row, row), and clusters."""
    clusters = np.repeat(np.arange(n_clusters), scenario.rows_each)

    def drawn(cluster: float, row: float) -> NDArray[np.float64]:
        """Draw rows that are alike within clusters."""
        centres = rng.standard_normal((n_clusters, WIDTH))
        if scenario.heavy:
            centres *= rng.standard_t(5, (n_clusters, 1))
        rows: NDArray[np.float64] = cluster * centres[clusters]
        return rows + row * rng.standard_normal((len(clusters), WIDTH))

    base = drawn(1, 0.5)
    stretched = base * np.linspace(0.5, 1.5, WIDTH)
    tuned = scenario.likeness * stretched + drawn(0.6, 0.3)
    spaces = [base, tuned + drawn(0.15, 0.1), tuned + drawn(0.3, 0.2)]
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in spaces]
    return np.stack([rows @ rows.T for rows in units]), clusters


def sums_over(kernels: NDArray[np.float64], clusters: NDArray[np.int64]) -> ClusterSums:
    """Sum what resampling and leaving out need."""
    whole = (0, len(clusters))
    tile = Tile(whole, whole, tuple(kernels), clusters, clusters)
    sums: ClusterSums = run_pass([tile], [KeptSums(PAIRS, np.bincount(clusters))])[0]
    return sums


def six_between(sums: ClusterSums, v: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums over pairs between clusters, (6,), and those that touch each, (6, cluster)."""
    counts = sums.pairs + sums.pairs.T - 2 * np.diag(np.diagonal(sums.pairs))
    rows = [counts.sum(axis=1)]
    rows += [sums.leaving(key) - sums.within(key) for key in (0, v, (0, 0), (v, v), (0, v))]
    leaving = np.stack(rows)
    return leaving.sum(axis=1), leaving


def truth_of(scenario: Scenario, n_draws: int) -> NDArray[np.float64]:
    """Correlate base and variants over many clusters, (variant,)."""
    rng = np.random.default_rng(99)
    total = np.zeros((2, 6))
    for _ in range(n_draws):
        sums = sums_over(*spaces_of(scenario, 200, rng))
        total += np.stack([six_between(sums, v)[0] for _base, v in PAIRS])
    return correlation(total.T)


def simulate(scenario: Scenario, n_draws: int, seed: int) -> dict[str, float]:
    """Return how often each interval holds the truth, and how much narrower pairing makes it."""
    rng = np.random.default_rng(seed)
    truth = truth_of(scenario, min(n_draws // 4, 80))
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        """Keep a number of one draw."""
        found.setdefault(name, []).append(value)

    for draw in range(n_draws):
        kernels, clusters = spaces_of(scenario, scenario.n_clusters, rng)
        sums = sums_over(kernels, clusters)
        resamples = resampled(sums, draw_clusters(sums.sizes, 400, draw))
        deleted, errors = [], []
        for v in (1, 2):
            total, leaving = six_between(sums, v)
            r = float(correlation(total))
            without = correlation(total[:, None] - 2 * leaving)
            deleted.append((r, without))
            taken = correlation(resamples.between(0, v))
            errors.append(np.sqrt((len(without) - 1) * np.var(np.arctanh(without))))
            apart = clusters[:, None] != clusters
            k, l = kernels[0] * apart, kernels[v] * apart
            by_row = [part.sum(axis=1) for part in (apart, k, l, k * k, l * l, k * l)]
            rows = correlation(total[:, None] - 2 * np.stack(by_row).astype(np.float64))
            for name, ends in (
                ("jackknife", jackknife(r, without, 0.95)),
                ("percentile", percentile_interval(taken[1:], 0.95)),
                ("rows", jackknife(r, rows, 0.95)),
            ):
                assert ends is not None
                note(name, ends.low <= truth[v - 1] <= ends.high)
        paired = paired_difference(*deleted[0], *deleted[1])
        assert paired.low is not None
        assert paired.high is not None
        assert paired.atanh_error is not None
        note("paired", paired.low <= truth[0] - truth[1] <= paired.high)
        note("narrower", float(np.hypot(*errors)) / paired.atanh_error)
    return {name: float(np.mean(values)) for name, values in found.items()}


def rejections(n_draws: int, shared: float, *, by_row: bool) -> float:
    """Return how often p < .05 for spaces that share clusters, and so much of what they hold."""
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(25), 4)
    rejected = 0
    for seed in range(n_draws):
        rows = rng.standard_normal((3, 25, 6))[:, clusters] + rng.standard_normal((3, 100, 6)) / 2
        pair = [shared * rows[2] + rows[s] for s in (0, 1)]
        kernels = {s: space @ space.T for s, space in enumerate(pair)}
        for kernel in kernels.values():
            np.fill_diagonal(kernel, 0)
        # Rows as clusters of their own: tokens shuffled one by one, over all pairs.
        units = np.arange(100) if by_row else clusters
        test = permute_clusters(
            BetweenKernels(kernels, units, [(0, 1)]), n_permutations=99, seed=seed
        )[0]
        assert test.p_value is not None
        rejected += test.p_value <= 0.05
    return rejected / n_draws


def test_a_few_draws_cover_about_as_often_as_they_say() -> None:
    found = simulate(Scenario(40, 5), 80, seed=1)
    assert 0.88 <= found["jackknife"] <= 0.99
    assert 0.84 <= found["percentile"] <= 0.99
    assert found["rows"] < found["jackknife"] - 0.05
    assert 0.88 <= found["paired"] <= 1
    assert found["narrower"] > 1.5


def test_permuted_clusters_reject_what_is_there_and_little_else() -> None:
    assert rejections(60, 0.0, by_row=False) <= 0.15
    assert rejections(20, 1.0, by_row=False) >= 0.95
    assert rejections(20, 0.0, by_row=True) >= 0.95


@pytest.mark.slow
def test_coverage_is_that_of_the_notes() -> None:
    found = [simulate(scenario, 800, seed=2) for scenario in SCENARIOS]
    for scenario, one in zip(SCENARIOS, found, strict=True):
        print(scenario, {name: round(value, 3) for name, value in one.items()})
    for one in found:
        assert 0.87 <= one["jackknife"] <= 0.975
        assert 0.83 <= one["percentile"] <= 0.975
        assert 0.50 <= one["rows"] <= 0.82
        assert 0.91 <= one["paired"] <= 0.98
        assert one["narrower"] >= 2
    mean = {name: np.mean([one[name] for one in found]) for name in found[0]}
    assert mean["jackknife"] >= mean["percentile"]
    size = rejections(1000, 0.0, by_row=False)
    assert 0.03 <= size <= 0.07
    assert rejections(200, 0.0, by_row=True) >= 0.97
