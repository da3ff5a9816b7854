"""RSA from moments against the textbook form on the full matrices, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import t as student

from layerlake.analyses.similarity.rsa import rsa_arrays
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
    with pytest.raises(InvalidInput):
        rsa_arrays(np.ones((40, 6)), Y, interval="none")
    with pytest.raises(InvalidInput, match=r"cluster|input"):
        rsa_arrays(X, Y, np.arange(40) // 2, interval="rows")
    with pytest.raises(MemoryRefused):
        rsa_arrays(X, Y, memory=100)
    bad = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(InvalidInput, match="3"):
        rsa_arrays(bad, Y)
