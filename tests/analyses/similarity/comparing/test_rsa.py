"""RSA from moments against the textbook form on the full matrices, in float64."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.stats import t as student

from layerlake.analyses.similarity.comparing.rsa import rsa_arrays, rsa_group, rsa_memory
from layerlake.analyses.similarity.features.planning import plan_rsa
from layerlake.analyses.similarity.workload import Workload
from layerlake.store.errors import InvalidInput, MemoryRefused

KERNELS = ("cosine", "correlation", "linear", "sqeuclidean")


def dense(rows: np.ndarray, kernel: str) -> np.ndarray:
    """The n x n matrix of a kernel, float64, by scipy where it has it."""
    wide = rows.astype(np.float64)
    if kernel == "linear":
        return wide @ wide.T
    return squareform(pdist(wide, kernel))


def textbook(X: np.ndarray, Y: np.ndarray, kernel: str, keep: np.ndarray | None = None) -> float:
    """Pearson correlation over the strict upper triangles (over the pairs kept)."""
    pairs = np.triu(np.ones((len(X), len(X)), bool), 1)
    if keep is not None:
        pairs &= keep
    return float(np.corrcoef(dense(X, kernel)[pairs], dense(Y, kernel)[pairs])[0, 1])


def related(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two spaces that share a part, of widths d and d + 3."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, d))
    mixed = shared @ rng.standard_normal((d, d + 3)) + 2 * rng.standard_normal((n, d + 3))
    return shared, mixed


@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_textbook(kernel):
    X, Y = (part.astype(np.float32) for part in related(300, 24))
    value = rsa_arrays(X, Y, kernel=kernel, interval="none")
    assert value.r_all == pytest.approx(textbook(X, Y, kernel), abs=1e-8)
    assert value.n_rows == 300


@pytest.mark.parametrize("mean_cosine", [0.95, 0.999, 0.99999])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("kernel", ["cosine", "correlation"])
def test_anisotropic_rows(mean_cosine, dtype, kernel):
    X, Y = related(800, 64)
    shift = np.random.default_rng(9).standard_normal(67)
    shift /= np.linalg.norm(shift)
    for part in (X, Y):
        scale = np.sqrt(mean_cosine / (1 - mean_cosine)) * np.linalg.norm(part, axis=1).mean()
        part += scale * shift[: part.shape[1]] / np.linalg.norm(shift[: part.shape[1]])
    X, Y = X.astype(dtype), Y.astype(dtype)
    value = rsa_arrays(X, Y, kernel=kernel, interval="none")
    assert value.r_all == pytest.approx(textbook(X, Y, kernel), abs=1e-8)


@settings(max_examples=25)
@given(st.integers(2, 300), st.integers(0, 5))
def test_any_blocking_gives_the_same(block_rows, seed):
    X, Y = related(120, 8, seed)
    clusters = np.arange(120) // 7
    whole = rsa_arrays(X, Y, clusters)
    parts = rsa_arrays(X, Y, clusters, block_rows=block_rows)
    assert parts.r_all == pytest.approx(whole.r_all, abs=1e-8)
    assert parts.r_between == pytest.approx(whole.r_between, abs=1e-8)
    assert parts.r_all_low == pytest.approx(whole.r_all_low, abs=1e-6)


def test_between_clusters_and_jackknife_by_brute_force():
    X, Y = related(150, 10)
    sizes = np.random.default_rng(2).integers(1, 9, 60)
    clusters = np.repeat(np.arange(60), sizes)[:150]
    groups = np.unique(clusters)
    value = rsa_arrays(X, Y, clusters)
    apart = clusters[:, None] != clusters[None, :]
    assert value.r_between == pytest.approx(textbook(X, Y, "cosine", apart), abs=1e-8)
    assert value.n_clusters == len(groups)
    for between in (False, True):
        pseudo = []
        for group in groups:
            left = clusters != group
            keep = apart[np.ix_(left, left)] if between else None
            pseudo.append(np.arctanh(textbook(X[left], Y[left], "cosine", keep)))
        count = len(groups)
        error = np.sqrt((count - 1) / count * np.sum((pseudo - np.mean(pseudo)) ** 2))
        r = value.r_between if between else value.r_all
        reach = student.ppf(0.975, count - 1) * error
        low, high = np.tanh(np.arctanh(r) - reach), np.tanh(np.arctanh(r) + reach)
        found = (
            (value.r_between_low, value.r_between_high)
            if between
            else (value.r_all_low, value.r_all_high)
        )
        assert found == pytest.approx((low, high), abs=1e-6)


def test_a_space_with_itself_and_rotated_is_one():
    X, _ = related(200, 12)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    same = rsa_arrays(X, X, np.arange(200) // 5)
    assert same.r_all == 1
    assert (same.r_all_low, same.r_all_high) == (1, 1)
    assert rsa_arrays(X, X @ rotation, interval="none").r_all == pytest.approx(1, abs=1e-8)


def test_zero_rows_are_dropped_everywhere_and_counted():
    X, Y = related(100, 8)
    X[7] = 0
    Y[50] = 0
    left = np.setdiff1d(np.arange(100), [7, 50])
    value = rsa_arrays(X, Y, interval="none")
    assert value.n_dropped == 2
    assert value.r_all == pytest.approx(textbook(X[left], Y[left], "cosine"), abs=1e-8)


def test_what_is_refused():
    X, Y = related(40, 6)
    with pytest.raises(InvalidInput, match="4"):
        rsa_arrays(X[:3], Y[:3])
    with pytest.raises(InvalidInput, match="rows"):
        rsa_arrays(X, Y[:30])
    with pytest.raises(InvalidInput, match="kernel"):
        rsa_arrays(X, Y, kernel="cosin")
    with pytest.raises(InvalidInput, match=r"cluster|input"):
        rsa_arrays(X, Y, np.arange(40) // 2, interval="rows")
    with pytest.raises(MemoryRefused):
        rsa_arrays(X, Y, memory=100)
    bad = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(InvalidInput, match="3"):
        rsa_arrays(bad, Y)


@dataclass
class CountingSpace:
    """Rows in memory as a space, with a count of how often each was read."""

    values: NDArray[Any]
    reads: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.reads = np.zeros(len(self.values), dtype=np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def rows(self, index: NDArray[np.int64], /) -> NDArray[Any]:
        self.reads[index] += 1
        return self.values[index]


def generated(
    n: int, d: int, mean_cosine: float, decay: float, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two related spaces of that mean cosine whose variances fall as a power of the coordinate."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(d)
    common *= math.sqrt(mean_cosine / (1 - mean_cosine)) / np.linalg.norm(common)
    one = rng.standard_normal((n, d)) * np.arange(1.0, d + 1) ** -decay
    other = 0.8 * one + 0.4 * rng.standard_normal((n, d)) * np.arange(1.0, d + 1) ** -decay
    return tuple(z / math.sqrt((z * z).sum(axis=1).mean()) + common for z in (one, other))


@pytest.mark.parametrize("mean_cosine", [0.05, 0.95, 0.999, 0.99999])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("decay", [0, 1])
def test_float32_products_err_by_less_than_1e_8(
    mean_cosine: float, dtype: str, decay: float
) -> None:
    # decay 1: a few coordinates carry most of the variance, as in trained models.
    X, Y = (z.astype(dtype) for z in generated(2000, 384, mean_cosine, decay))
    unit = [z.astype(np.float64) for z in (X, Y)]
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in unit]
    # Between unit rows |x - y|^2 is 2 - 2 cos, without the digits that 1 - cos loses near 1.
    reference = np.corrcoef(*(pdist(z, "sqeuclidean") for z in unit))[0, 1]
    value = rsa_arrays(X, Y, interval="none")
    assert value.precision == "float32"
    assert value.r_all == pytest.approx(reference, abs=1e-8)


@pytest.mark.parametrize("kernel", ["correlation", "linear", "sqeuclidean"])
@pytest.mark.parametrize("size", [1e-3, 1e4])
def test_rows_of_any_magnitude(kernel: str, size: float) -> None:
    X, Y = (size * z.astype(np.float32) for z in generated(1200, 96, 0.95, 1))
    value = rsa_arrays(X, Y, kernel=kernel, interval="none")
    assert value.r_all == pytest.approx(textbook(X, Y, kernel), abs=1e-8)


def test_where_float32_loses_digits_the_pass_goes_on_in_float64() -> None:
    X, Y = generated(500, 64, 0.1, 0)
    X[17] *= 3000  # one row that dwarfs the others, as some tokens of language models do
    value = rsa_arrays(X, Y, kernel="linear", interval="none")
    assert value.precision == "float64"
    assert value.r_all == pytest.approx(textbook(X, Y, "linear"), abs=1e-8)


def test_a_sample_that_misleads_costs_another_pass_and_no_digits() -> None:
    X, Y = generated(1024, 32, 0.1, 0)
    sampled = np.linspace(0, 1023, 256).astype(np.int64)
    for part in (X, Y):
        part += 300 * np.eye(32)[3]
        part[sampled] -= 290 * np.eye(32)[3] + 8 * np.eye(32)[7]
    spaces = [CountingSpace(part.astype(np.float32)) for part in (X, Y)]
    every = np.arange(1024)
    value = rsa_group(
        spaces[0], spaces[1:], [every, every], every, kernel="sqeuclidean", interval="none"
    )[0]
    reference = textbook(spaces[0].values, spaces[1].values, "sqeuclidean")
    assert value.r_all == pytest.approx(reference, abs=1e-8)
    assert (spaces[0].reads[np.setdiff1d(every, sampled)] == 2).all()


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
        value = rsa_arrays(X, Y, kernel=kernel)
        assert math.isnan(value.r_all)
        assert value.r_between is value.r_all_low is value.r_between_high is None
        assert f"the {kernel} kernel of {name} is the same for all pairs" in value.notes[0]
    # One space that does not vary leaves the others their numbers.
    index = [np.arange(40)] * 3
    spaces = [CountingSpace(part) for part in (other, other[:, ::-1].copy() ** 3, rows)]
    good, bad = rsa_group(spaces[0], spaces[1:], index, index[0], kernel=kernel)
    alone = rsa_group(spaces[0], spaces[1:2], index[:2], index[0], kernel=kernel)[0]
    assert good.r_all == pytest.approx(alone.r_all, abs=1e-8)
    assert good.r_all_low == pytest.approx(alone.r_all_low, abs=1e-6)
    assert math.isnan(bad.r_all)


def test_a_group_equals_its_comparisons_one_by_one() -> None:
    X, Y = generated(400, 24, 0.5, 0.5)
    Z = related(400, 10, 3)[0]
    clusters = np.repeat(np.arange(100), 4)
    rows = [np.arange(400), np.arange(50, 450), np.arange(0, 800, 2)]
    padded = np.concatenate([np.zeros((50, 24)), Y])
    spread = np.repeat(Z, 2, axis=0)
    spaces = [CountingSpace(z) for z in (X, padded, spread)]
    together = rsa_group(spaces[0], spaces[1:], rows, clusters, precision="float64", block_rows=128)
    alone = [rsa_arrays(X, z, clusters, precision="float64") for z in (Y, Z)]
    for one, other in zip(together, alone, strict=True):
        assert one.r_all == pytest.approx(other.r_all, abs=1e-12)
        assert one.r_between_low == pytest.approx(other.r_between_low, abs=1e-10)


def test_rows_are_read_twice_only_where_memory_is_short() -> None:
    X, Y = (z.astype(np.float32) for z in generated(3000, 64, 0.5, 0))
    every = np.arange(3000)
    values = []
    unsampled = np.setdiff1d(every, np.linspace(0, 2999, 256).astype(np.int64))
    needed = rsa_memory(3000, [64, 64], block_rows=256)
    for memory, times in ((2**30, 1), (needed + 200_000, 2)):
        spaces = [CountingSpace(X), CountingSpace(Y)]
        seen: list[int] = []
        values += rsa_group(
            spaces[0], spaces[1:], [every, every], every,
            block_rows=256, memory=memory, on_progress=seen.append,
        )  # fmt: skip
        assert spaces[1].reads[unsampled].max() == times
        assert sum(seen) == 6000
    assert values[0] == values[1]
    with pytest.raises(MemoryRefused, match="fewer variants at a time"):
        rsa_group(spaces[0], spaces[1:], [every, every], every, block_rows=256, memory=needed - 1)


def test_too_little_memory_is_refused_before_anything_is_read() -> None:
    spaces = [CountingSpace(np.zeros((100, 8), np.float16)) for _ in range(2)]
    every = np.arange(100)
    with pytest.raises(MemoryRefused, match="102400 bytes"):
        rsa_group(spaces[0], spaces[1:], [every, every], every, memory="100KiB")
    assert not spaces[0].reads.any()


@pytest.mark.parametrize(
    ("dtype", "lengths", "block_rows", "precision", "interval", "variants"),
    [
        ("float16", [30] * 100, 2048, "float32", "cluster", 1),
        ("float16", [1] * 3000, 512, "float32", "none", 1),
        ("float32", [30] * 100, 512, "float64", "cluster", 2),
        ("float32", [1000] * 3, 256, "float32", "cluster", 1),
        ("float32", [500] * 6, 1024, "float32", "none", 2),
        ("float16", [1] * 9000, 512, "float32", "cluster", 2),
    ],
)
def test_memory_stays_within_what_was_said(
    dtype: str, lengths: list[int], block_rows: int, precision: str, interval: str, variants: int
) -> None:
    n = sum(lengths)
    d = 256 if n < 9000 else 24
    rng = np.random.default_rng(0)
    base = rng.standard_normal((n, d))
    arrays = [(base + rng.standard_normal((n, d))).astype(dtype) for _ in range(variants + 1)]
    arrays[0][5] = 0  # a block with a dropped row is prepared twice
    spaces = [CountingSpace(z) for z in arrays]
    every, clusters = np.arange(n), np.repeat(np.arange(len(lengths)), lengths)
    plan = plan_rsa(
        Workload.sized([d] * (variants + 1), [arrays[0].itemsize] * (variants + 1), lengths),
        interval=interval != "none", precision=precision, block_rows=block_rows,
    )  # fmt: skip
    tracemalloc.start()
    try:
        value = rsa_group(
            spaces[0], spaces[1:], [every] * len(spaces), clusters,
            interval=interval, precision=precision, block_rows=block_rows,
        )[0]  # fmt: skip
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert value.n_dropped == 1
    assert value.precision == precision
    assert 0.75 * plan.peak <= peak <= plan.peak


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_other_array_libraries_agree_with_numpy(library: str, kernel: str) -> None:
    xp = pytest.importorskip(library)
    X, Y = (z.astype(np.float32) for z in related(90, 70))
    X[11] = 0
    clusters = np.repeat(np.arange(18), 5)
    here = rsa_arrays(X, Y, clusters, kernel=kernel, block_rows=32)
    there = rsa_arrays(xp.asarray(X), xp.asarray(Y), clusters, kernel=kernel, block_rows=32)
    assert there.r_all == pytest.approx(here.r_all, abs=1e-8)
    assert there.r_between_low == pytest.approx(here.r_between_low, abs=1e-6)
    assert there.n_dropped == here.n_dropped == (kernel in ("cosine", "correlation"))


def test_rows_dropped_from_a_long_cluster() -> None:
    X, Y = related(300, 9)
    X[[3, 50, 51, 120]] = 0
    Y[200:] = 0
    clusters = np.repeat([0, 1, 2, 3], [2, 150, 48, 100])
    left = np.setdiff1d(np.arange(200), [3, 50, 51, 120])
    value = rsa_arrays(X, Y, clusters, block_rows=64, precision="float64")
    assert (value.n_rows, value.n_clusters, value.n_dropped) == (196, 3, 104)
    apart = clusters[left, None] != clusters[left]
    assert value.r_all == pytest.approx(textbook(X[left], Y[left], "cosine"), abs=1e-10)
    assert value.r_between == pytest.approx(textbook(X[left], Y[left], "cosine", apart), abs=1e-10)


def test_too_few_rows_left_says_how_many_were_dropped() -> None:
    X, Y = related(20, 5)
    X[3:] = 0
    with pytest.raises(InvalidInput, match="3 rows are left after 17 without a direction"):
        rsa_arrays(X, Y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_first_row_that_is_not_finite_is_named(bad: float, kernel: str) -> None:
    X, Y = (z.astype(np.float16) for z in related(30, 5))
    Y[21, 2] = bad
    Y[25, 0] = np.nan
    rows = [np.arange(30), np.arange(30)]
    with pytest.raises(InvalidInput, match="row 21 of the variant 'b' holds NaN or infinity"):
        rsa_group(
            CountingSpace(X), [CountingSpace(Y)], rows, np.arange(30),
            kernel=kernel, names=["the reference", "the variant 'b'"],
        )  # fmt: skip


def test_values_too_large_to_square_are_refused() -> None:
    X, Y = related(30, 5)
    with pytest.raises(InvalidInput, match="too large to be squared"):
        rsa_arrays(X, 1e200 * Y, interval="none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interval": "row"}, "cluster, rows, none"),
        ({"precision": "float16"}, "float32, float64"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"block_rows": 0}, "at least 1"),
        ({"memory": "much"}, "4GiB"),
        ({"rows": [np.arange(30), np.arange(29)]}, "29 rows of variant 0"),
        ({"rows": [np.arange(30), np.arange(1, 31)]}, "rows 1 to 30 of variant 0"),
        ({"rows": [np.arange(30)[::-1], np.arange(30)]}, "not ascending"),
        ({"clusters": np.arange(30) % 3}, "side by side"),
        ({"variants": []}, "no variant"),
    ],
)
def test_settings_and_rows_are_checked(change: dict[str, Any], message: str) -> None:
    X, Y = (CountingSpace(z) for z in related(30, 5))
    asked = {
        "reference": X, "variants": [Y], "rows": [np.arange(30)] * 2, "clusters": np.arange(30)
    } | change  # fmt: skip
    with pytest.raises(InvalidInput, match=message):
        rsa_group(**asked)
    assert not X.reads.any()
