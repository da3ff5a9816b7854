"""RSA of one pair of spaces against the textbook form in plain numpy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.rsa import rsa_arrays
from layerlake.bench.measuring import BenchResult, about, blas_threads, interleaved

BASELINE = "numpy dense"
PRODUCTS = "products alone"
"""The three matrix products, in float32, that the feature-space form cannot do without."""
ROWS_PER_CLUSTER = 20
PANEL_ROWS = 512


def generated(n_rows: int, hidden: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two related spaces, (row, hidden), of mean cosine near 0.95, as upper layers have."""
    rng = np.random.default_rng(n_rows)
    shared = rng.standard_normal((n_rows, 32)) @ rng.standard_normal((32, hidden)) / 32**0.5
    origin = 6 * rng.standard_normal(hidden)
    first, second = (
        (origin + shared + 0.7 * rng.standard_normal((n_rows, hidden))).astype(np.float32)
        for _ in range(2)
    )
    return first, second


def dense(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Correlate the strict upper triangles of two cosine matrices, as one would write it."""
    upper = np.triu_indices(len(x), 1)
    kernels = []
    for rows in (x, y):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        kernels.append((unit @ unit.T)[upper])
    return float(np.corrcoef(*kernels)[0, 1])


def reference(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Return the same in float64, panel by panel, about the mean of each kernel."""
    units = [
        r / np.linalg.norm(r, axis=1, keepdims=True) for r in (x.astype(float), y.astype(float))
    ]
    n_rows = len(x)
    pairs = n_rows * (n_rows - 1)
    means = [(np.square(u.sum(axis=0)).sum() - np.square(u).sum()) / pairs for u in units]
    sums = np.zeros(3)
    for low in range(0, n_rows, PANEL_ROWS):
        k, l = (u[low : low + PANEL_ROWS] @ u.T - m for u, m in zip(units, means, strict=True))
        own = np.arange(len(k))
        k[own, low + own] = 0
        l[own, low + own] = 0
        sums += np.vdot(k, k), np.vdot(l, l), np.vdot(k, l)
    return float(sums[2] / np.sqrt(sums[0] * sums[1]))


def _ours(
    found: dict[str, float],
    name: str,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    clusters: NDArray[np.int64],
    interval: str,
) -> None:
    found[name] = rsa_arrays(x, y, clusters, interval=interval).r_all


def _textbook(found: dict[str, float], x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    found[BASELINE] = dense(x, y)


def products(x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    """Multiply as the feature-space form must: each space with itself, and the one by the other."""
    for first, second in ((x, x), (y, y), (x, y)):
        np.matmul(first.T, second)


def run(
    n_rows: Sequence[int] = (2000, 5000, 20_000),
    hidden: int = 768,
    *,
    repeats: int = 5,
    threads: int = 1,
) -> BenchResult:
    """Measure one pair at each number of rows; ratios are CPU time of the baseline over ours.

    Parameters
    ----------
    n_rows, hidden
        Sizes of the generated spaces, in memory.
    repeats
        Runs of each method, medians taken; of the baseline above 5000 rows there is one.
    threads
        Of the BLAS.

    Returns
    -------
    `ratio` is the baseline's CPU time over the method's, `of_products` the share of the method's
    that the matrix products alone take (the share of the processor's GEMM peak), `error` the
    distance from float64.
    """
    records = []
    with blas_threads(threads):
        for n in n_rows:
            x, y = generated(n, hidden)
            clusters = np.arange(n) // ROWS_PER_CLUSTER
            found: dict[str, float] = {}
            methods = {
                "layerlake": partial(_ours, found, "layerlake", x, y, clusters, "none"),
                "layerlake, jackknife": partial(
                    _ours, found, "layerlake, jackknife", x, y, clusters, "cluster"
                ),
                PRODUCTS: partial(products, x, y),
            }
            timings = interleaved(methods, repeats)
            textbook = partial(_textbook, found, x, y)
            timings |= interleaved({BASELINE: textbook}, repeats if n <= 5000 else 1)
            exact = reference(x, y)
            records += [
                {
                    "n_rows": n,
                    "hidden": hidden,
                    "method": name,
                    "wall_seconds": timing.wall_seconds,
                    "cpu_seconds": timing.cpu_seconds,
                    "baseline": BASELINE,
                    "ratio": timings[BASELINE].cpu_seconds / timing.cpu_seconds,
                    "of_products": timings[PRODUCTS].cpu_seconds / timing.cpu_seconds,
                    "value": found.get(name),
                    "error": abs(found[name] - exact) if name in found else None,
                }
                for name, timing in timings.items()
            ]
    settings = {"n_rows": list(n_rows), "hidden": hidden, "repeats": repeats, "kernel": "cosine"}
    return BenchResult(
        "rsa", about("numpy", "scipy", blas_threads=threads), settings, tuple(records)
    )
