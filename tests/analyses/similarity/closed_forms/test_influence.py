"""Influence of rows against weights really changed, and of clusters against leaving them out."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Callable

import array_api_strict
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student

from layerlake.analyses.similarity.closed_forms.centred_sums import CrossSums, SpaceSums
from layerlake.analyses.similarity.closed_forms.influence import (
    ClusterInfluence,
    Gradient,
    bures_gradient,
    canonical_gradient,
    influence_interval,
    plan_influence,
)
from layerlake.analyses.similarity.features.kernels import frame_of, kernel_named
from layerlake.analyses.similarity.features.preparation import Preparation
from layerlake.engine.passes.blocks import Block, run_pass
from layerlake.store.errors import InvalidInput

Rows = NDArray[np.float64]
Sums = tuple[SpaceSums, SpaceSums, CrossSums]


def sums_of(X: Rows, Y: Rows, weights: Rows) -> tuple[Sums, float]:
    """Return the centred sums of weighted rows, and the sum of the weights."""
    n = weights.sum()
    x, y = X - weights @ X / n, Y - weights @ Y / n
    p, q = (x**2).sum(axis=1), (y**2).sum(axis=1)
    spaces = [
        SpaceSums(len(X), weights @ raw / n, (z.T * weights) @ z, (weights * r) @ z, weights @ r**2)
        for raw, z, r in ((X, x, p), (Y, y, q))
    ]
    cross = CrossSums(
        (x.T * weights) @ y, (weights * q) @ x, (weights * p) @ y, float(weights @ (p * q))
    )
    return (spaces[0], spaces[1], cross), float(n)


def cosine(product: float, left: float, right: float) -> float:
    """Return product / sqrt(left right)."""
    return product / math.sqrt(left * right)


def bures(sums: Sums, n: float) -> float:
    """Nuclear norm over lengths."""
    x, y, cross = sums
    overlap = np.linalg.svd(cross.product, compute_uv=False).sum()
    return cosine(overlap, np.trace(x.gram), np.trace(y.gram))


def whitener(gram: Rows) -> Rows:
    """Return W with W' gram W the identity, over the directions that vary."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-10 * values[-1]
    found: Rows = vectors[:, kept] / np.sqrt(values[kept])
    return found


def canonical(squared: bool) -> Callable[[Sums, float], float]:
    """Return the mean canonical correlation, or of its squares."""

    def measure(sums: Sums, n: float) -> float:
        x, y, cross = sums
        values = np.linalg.svd(
            whitener(x.gram).T @ cross.product @ whitener(y.gram), compute_uv=False
        )
        return float((values ** (2 if squared else 1)).mean())

    return measure


def canonical_of(squared: bool) -> Callable[[SpaceSums, SpaceSums, CrossSums], Gradient]:
    """Return the gradient of the same."""
    return lambda x, y, cross: canonical_gradient(
        whitener(x.gram), whitener(y.gram), cross.product, squared=squared
    )


MEASURES = {
    "bures": (bures, bures_gradient),
    "cca": (canonical(False), canonical_of(False)),
    "cca-r2": (canonical(True), canonical_of(True)),
}


def spaces_of(seed: int, sizes: list[int]) -> tuple[Rows, Rows, NDArray[np.int64]]:
    """Two related spaces of different width, far from the origin, the first without full rank."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    shared = rng.standard_normal((len(sizes), 4))[clusters] + rng.standard_normal(
        (len(clusters), 4)
    )
    X = shared @ rng.standard_normal((4, 6)) + 3
    Y = shared @ rng.standard_normal((4, 5)) + rng.standard_normal((len(clusters), 5)) - 2
    return X, Y, clusters


def influences(
    gradients: list[Gradient],
    X: Rows,
    Y: Rows,
    clusters: NDArray[np.int64],
    library: object = np,
    precision: str = "float64",
) -> Rows:
    """Run the second pass over blocks of prepared rows."""
    kernel = kernel_named("sqeuclidean")
    spaces = [100 * X, Y]  # rows are brought to about length one: the scale of a frame shows
    arrays = [library.asarray(rows) for rows in spaces]
    frames = tuple(frame_of(array[:8, :], kernel) for array in arrays)
    bounds = np.searchsorted(clusters, np.arange(clusters[-1] + 2))
    preparation = Preparation(
        frames, [(0, 1)], clusters, np.diff(bounds), precision, lambda s, k: f"{s}:{k}"
    )
    places = [0, int(bounds[3]), int(bounds[4]), len(X)]
    blocks = [
        preparation(Block(lo, hi, tuple(array[lo:hi, :] for array in arrays)))
        for lo, hi in itertools.pairwise(places)
    ]
    means = [rows.mean(axis=0) for rows in spaces]
    second = ClusterInfluence({(0, 1): gradients}, frames, means, int(clusters[-1]) + 1, precision)
    states = [second.start(), second.start()]
    states[0] = second.update(states[0], blocks[2])
    for block in blocks[:2]:
        states[1] = second.update(states[1], block)
    return second.finish(second.merge(*states))[0, 1]


@pytest.mark.parametrize("name", MEASURES)
def test_influence_of_a_row_is_the_derivative_by_its_weight(name: str) -> None:
    measure, gradient_of = MEASURES[name]
    X, Y, _ = spaces_of(1, [1] * 30)
    ones = np.ones(30)
    sums, n = sums_of(100 * X, Y, ones)
    gradient = gradient_of(*sums)
    assert gradient.value == pytest.approx(measure(sums, n), rel=1e-9)
    found = influences([gradient], X, Y, np.arange(30))[0]
    step = 1e-5
    for row in range(0, 30, 4):
        change = step * (np.arange(30) == row)
        up, down = (measure(*sums_of(100 * X, Y, ones + sign * change)) for sign in (1, -1))
        assert found[row] == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("library", [np, array_api_strict])
def test_the_second_pass_is_the_same_in_any_library_and_precise_enough_in_float32(
    library: object,
) -> None:
    X, Y, clusters = spaces_of(2, [4, 1, 6, 3, 9, 5, 2])
    sums, _n = sums_of(100 * X, Y, np.ones(len(X)))
    gradients = [gradient_of(*sums) for _measure, gradient_of in MEASURES.values()]
    rows = influences(gradients, X, Y, np.arange(len(X)))
    expected = np.add.reduceat(rows, np.searchsorted(clusters, np.arange(7)), axis=1)
    found = influences(gradients, X, Y, clusters, library)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    rough = influences(gradients, X, Y, clusters, library, "float32")
    np.testing.assert_allclose(rough, expected, atol=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_intervals_are_about_those_of_leaving_each_cluster_out(name: str) -> None:
    measure, gradient_of = MEASURES[name]
    sizes = [3] * 150
    X, Y, clusters = spaces_of(3, sizes)
    sums, n = sums_of(100 * X, Y, np.ones(len(X)))
    gradient = gradient_of(*sums)
    influence = influences([gradient], X, Y, clusters)[0]
    low, high = influence_interval(gradient.value, influence, 0.9)
    left = []
    for g in range(150):
        kept = clusters != g
        left.append(math.atanh(measure(*sums_of(100 * X[kept], Y[kept], np.ones(kept.sum())))))
    reach = student.ppf(0.95, 149) * math.sqrt(149 * np.var(left))
    centre = math.atanh(measure(sums, n))
    assert low < gradient.value < high
    assert low == pytest.approx(math.tanh(centre - reach), abs=0.06 * (high - low))
    assert high == pytest.approx(math.tanh(centre + reach), abs=0.06 * (high - low))


def test_intervals_are_symmetric_in_atanh() -> None:
    influence = np.array([0.1, -0.1, 0.05, -0.05])
    # d atanh r = d r / (1 - r^2).
    reach = student.ppf(0.975, 3) * math.sqrt((influence**2).sum() * 4 / 3) / 0.75
    ends = np.arctanh(influence_interval(0.5, influence))
    np.testing.assert_allclose(ends, math.atanh(0.5) + reach * np.array([-1, 1]))
    assert influence_interval(1.0, influence) == (1.0, 1.0)
    assert influence_interval(-1.0, influence) == (-1.0, -1.0)
    for value, scores in ((0.5, influence[:1]), (math.nan, influence), (1.5, influence)):
        assert influence_interval(value, scores) is None
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        influence_interval(0.5, influence, 2)


def test_spaces_alike_have_no_influence_on_their_likeness() -> None:
    _X, Y, clusters = spaces_of(4, [3] * 10)  # the second has full rank
    sums, _n = sums_of(Y, Y, np.ones(len(Y)))
    found = bures_gradient(*sums)
    assert found.value == pytest.approx(1)
    np.testing.assert_allclose(
        found.left + found.cross / 2 + found.cross.T / 2 + found.right, 0, atol=1e-12
    )
    assert len(clusters) == 30
    assert run_pass([], [ClusterInfluence({(0, 1): [found]}, (), (), 4)])[0][0, 1].shape == (1, 4)


def test_the_plan_holds_what_is_measured() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((900, 150)), rng.standard_normal((900, 200))
    kernel = kernel_named("sqeuclidean")
    frames = tuple(frame_of(rows[:50], kernel) for rows in (X, Y))
    clusters = np.repeat(np.arange(300), 3)
    preparation = Preparation(
        frames, [(0, 1)], clusters, np.full(300, 3), "float32", lambda s, k: f"{s}:{k}"
    )
    block = preparation(Block(0, 900, (X, Y)))
    sums, _n = sums_of(X, Y, np.ones(900))
    tracemalloc.start()
    try:
        gradients = [bures_gradient(*sums) for _ in range(2)]
        second = ClusterInfluence({(0, 1): gradients}, frames, (X.mean(0), Y.mean(0)), 300)
        run_pass([block], [second])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    plan = plan_influence([150, 200], [(0, 1)], 2, 300, 900)
    assert 0.75 * plan.needed < peak < plan.needed
