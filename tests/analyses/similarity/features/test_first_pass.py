"""RSA from moments against the textbook form on the full matrices, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from layerlake.analyses.similarity.compared_rows import COMPARISON
from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays
from layerlake.analyses.similarity.estimates import PairValues
from layerlake.analyses.similarity.features.first_pass import first_pass
from layerlake.analyses.similarity.features.group import group_of
from layerlake.analyses.similarity.features.kernels import kernel_named
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import ArraySpace, select_rows
from layerlake.store.errors import InvalidInput

KERNELS = ("cosine", "correlation", "linear", "sqeuclidean")


def compared(X: Any, Y: Any, clusters: Any = None, **question: Any) -> PairValues:
    """Compare two arrays by features."""
    return compare_arrays(X, Y, clusters, method="features", **question)


def last_precision(X: NDArray[Any], Y: NDArray[Any], kernel: str) -> str:
    """Return the precision in which a pass that begins in float32 ends."""
    every = np.arange(len(X))
    spaces = [ArraySpace(z, every) for z in (X, Y)]
    selected = select_rows(spaces, [every] * 2, every, ("X", "Y"), COMPARISON)
    group = group_of(
        selected, [(0, 1)], kernel_named(kernel), Resources(), interval=False, precision="float32"
    )
    return first_pass(group, "float32", lambda rows: None, keep=False).preparation.precision


def dense(rows: NDArray[Any], kernel: str) -> NDArray[np.float64]:
    """The n x n matrix of a kernel, float64, by scipy where it has it."""
    wide = rows.astype(np.float64)
    if kernel == "linear":
        return wide @ wide.T
    return squareform(pdist(wide, kernel))


def textbook(
    X: NDArray[Any], Y: NDArray[Any], kernel: str, keep: NDArray[np.bool_] | None = None
) -> float:
    """Pearson correlation over the strict upper triangles (over the pairs kept)."""
    pairs = np.triu(np.ones((len(X), len(X)), bool), 1)
    if keep is not None:
        pairs &= keep
    return float(np.corrcoef(dense(X, kernel)[pairs], dense(Y, kernel)[pairs])[0, 1])


def related(n: int, d: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two spaces that share a part, of widths d and d + 3."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, d))
    mixed = shared @ rng.standard_normal((d, d + 3)) + 2 * rng.standard_normal((n, d + 3))
    return shared, mixed


def generated(
    n: int, d: int, mean_cosine: float, decay: float, seed: int = 0
) -> tuple[NDArray[np.float64], ...]:
    """Two related spaces of that mean cosine whose variances fall as a power of the coordinate."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(d)
    common *= math.sqrt(mean_cosine / (1 - mean_cosine)) / np.linalg.norm(common)
    one = rng.standard_normal((n, d)) * np.arange(1.0, d + 1) ** -decay
    other = 0.8 * one + 0.4 * rng.standard_normal((n, d)) * np.arange(1.0, d + 1) ** -decay
    return tuple(z / math.sqrt((z * z).sum(axis=1).mean()) + common for z in (one, other))


@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_textbook(kernel: str) -> None:
    X, Y = (part.astype(np.float32) for part in related(300, 24))
    found = compared(X, Y, kernel=kernel, interval="none")
    assert found.value("r_all") == pytest.approx(textbook(X, Y, kernel), abs=1e-8)
    assert found.counts.n_rows == 300


@settings(max_examples=25)
@given(st.integers(2, 300), st.integers(0, 5))
def test_any_blocking_gives_the_same(block_rows: int, seed: int) -> None:
    X, Y = related(120, 8, seed)
    clusters = np.arange(120) // 7
    whole = compared(X, Y, clusters)
    parts = compared(X, Y, clusters, block_rows=block_rows)
    assert parts.value("r_all") == pytest.approx(whole.value("r_all"), abs=1e-8)
    assert parts.value("r_between") == pytest.approx(whole.value("r_between"), abs=1e-8)
    assert parts["r_all"].low == pytest.approx(whole["r_all"].low, abs=1e-6)


def test_a_space_with_itself_and_rotated_is_one() -> None:
    X, _ = related(200, 12)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    same = compared(X, X, np.arange(200) // 5)["r_all"]
    assert (same.value, same.low, same.high) == (1, 1, 1)
    rotated = compared(X, X @ rotation, interval="none")
    assert rotated.value("r_all") == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("mean_cosine", [0.05, 0.95, 0.999, 0.99999])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("kernel", "decay"), [("cosine", 0), ("cosine", 1), ("correlation", 0)])
def test_float32_products_err_by_less_than_1e_8(
    mean_cosine: float, dtype: str, kernel: str, decay: float
) -> None:
    # decay 1: a few coordinates carry most of the variance, as in trained models.
    X, Y = (z.astype(dtype) for z in generated(2000, 384, mean_cosine, decay))
    unit = [z.astype(np.float64) for z in (X, Y)]
    if kernel == "correlation":
        unit = [z - z.mean(axis=1, keepdims=True) for z in unit]
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in unit]
    # Between unit rows |x - y|^2 is 2 - 2 cos, without the digits that 1 - cos loses near 1.
    reference = np.corrcoef(*(pdist(z, "sqeuclidean") for z in unit))[0, 1]
    found = compared(X, Y, kernel=kernel, interval="none")
    assert last_precision(X, Y, kernel) == "float32"
    assert found.value("r_all") == pytest.approx(reference, abs=1e-8)


@pytest.mark.parametrize("kernel", ["correlation", "linear", "sqeuclidean"])
@pytest.mark.parametrize("size", [1e-3, 1e4])
def test_rows_of_any_magnitude(kernel: str, size: float) -> None:
    X, Y = (size * z.astype(np.float32) for z in generated(1200, 96, 0.95, 1))
    found = compared(X, Y, kernel=kernel, interval="none")
    assert found.value("r_all") == pytest.approx(textbook(X, Y, kernel), abs=1e-8)


def test_where_float32_loses_digits_the_pass_goes_on_in_float64() -> None:
    X, Y = generated(500, 64, 0.1, 0)
    X[17] *= 3000  # one row that dwarfs the others, as some tokens of language models do
    found = compared(X, Y, kernel="linear", interval="none")
    assert last_precision(X, Y, "linear") == "float64"
    assert found.value("r_all") == pytest.approx(textbook(X, Y, "linear"), abs=1e-8)


@pytest.mark.parametrize(
    ("rows", "kernel"),
    [
        (np.eye(40), "cosine"),
        (np.eye(40), "sqeuclidean"),
        (np.ones((40, 7)), "linear"),
        (np.full((40, 7), 0.1), "sqeuclidean"),
        (np.arange(1.0, 41)[:, None] * np.arange(1.0, 8), "cosine"),
        (np.arange(40.0)[:, None] + np.arange(7.0), "correlation"),
    ],
    ids=["orthogonal", "simplex", "equal", "equal-inexact", "proportional", "shifted"],
)
def test_a_kernel_that_does_not_vary_has_no_number(rows: NDArray[np.float64], kernel: str) -> None:
    other = np.random.default_rng(0).standard_normal((40, 5))
    for X, Y, name in (
        (other, rows, "Y"),
        (rows.astype(np.float32), other, "X"),
        (rows, rows, "X"),
    ):
        found = compared(X, Y, kernel=kernel)
        for estimate in found.estimates:
            assert math.isnan(estimate.value)
            assert estimate.low is estimate.high is None
        assert f"the {kernel} kernel of {name} is the same for all pairs" in found.notes[0]


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_other_array_libraries_agree_with_numpy(library: str, kernel: str) -> None:
    xp = pytest.importorskip(library)
    X, Y = (z.astype(np.float32) for z in related(90, 70))
    X[11] = 0
    clusters = np.repeat(np.arange(18), 5)
    here = compared(X, Y, clusters, kernel=kernel, block_rows=32)
    there = compared(xp.asarray(X), xp.asarray(Y), clusters, kernel=kernel, block_rows=32)
    assert there.value("r_all") == pytest.approx(here.value("r_all"), abs=1e-8)
    assert there["r_between"].low == pytest.approx(here["r_between"].low, abs=1e-6)
    dropped = kernel in ("cosine", "correlation")
    assert there.counts.n_dropped == here.counts.n_dropped == dropped


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-8), ("float64", 1e-10)])
def test_rows_dropped_from_a_long_cluster(precision: str, tolerance: float) -> None:
    X, Y = related(300, 9)
    X[[3, 50, 51, 120]] = 0
    Y[200:] = 0
    clusters = np.repeat([0, 1, 2, 3], [2, 150, 48, 100])
    left = np.setdiff1d(np.arange(200), [3, 50, 51, 120])
    found = compared(X, Y, clusters, block_rows=64, precision=precision)
    counts = found.counts
    assert (counts.n_rows, counts.n_clusters, counts.n_dropped) == (196, 3, 104)
    X, Y, apart = X[left], Y[left], clusters[left, None] != clusters[left]
    overall, between = textbook(X, Y, "cosine"), textbook(X, Y, "cosine", apart)
    assert found.value("r_all") == pytest.approx(overall, abs=tolerance)
    assert found.value("r_between") == pytest.approx(between, abs=tolerance)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_first_row_that_is_not_finite_is_named(bad: float, kernel: str) -> None:
    X, Y = (z.astype(np.float16) for z in related(30, 5))
    Y[21, 2] = bad
    Y[25, 0] = np.nan
    with pytest.raises(InvalidInput, match="row 21 of Y holds NaN or infinity"):
        compared(X, Y, kernel=kernel)


def test_values_too_large_to_square_are_refused() -> None:
    X, Y = related(30, 5)
    with pytest.raises(InvalidInput, match="too large to be squared"):
        compared(X, 1e200 * Y, interval="none")
