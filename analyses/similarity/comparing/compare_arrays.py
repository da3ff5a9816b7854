"""Every measure of two arrays whose row i is the same stimulus."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.compared_rows import COMPARISON
from layerlake.analyses.similarity.comparing.compare_spaces import compare_selected
from layerlake.analyses.similarity.estimates import PairValues
from layerlake.analyses.similarity.permutations.pair_tests import with_pair_tests
from layerlake.analyses.similarity.question import Question, UserKernel, check_question, measures_of
from layerlake.engine.memory import DEFAULT_ALLOWED_BYTES, parse_bytes
from layerlake.engine.passes.arrays import Array, is_numpy
from layerlake.engine.passes.resources import BLOCK_ROWS, Resources
from layerlake.engine.passes.selected_rows import ArraySpace, select_rows
from layerlake.store.errors import InvalidInput


def compare_arrays(
    X: Array,
    Y: Array,
    clusters: NDArray[np.int64] | None = None,
    *,
    measure: str | Iterable[str] = "rsa",
    kernel: str | UserKernel = "cosine",
    score: str = "pearson",
    interval: str = "cluster",
    confidence: float = 0.95,
    method: str = "auto",
    precision: str = "float32",
    bandwidth: float | None = None,
    neighbours: int = 10,
    resamples: int = 1000,
    permutations: int = 0,
    seed: int = 0,
    block_rows: int = BLOCK_ROWS,
    memory: int | str = DEFAULT_ALLOWED_BYTES,
) -> PairValues:
    """Compare two arrays by any measures.

    Parameters
    ----------
    X, Y
        (row, hidden) arrays of one array library, numpy or another of the array API standard;
        hidden may differ. The work is done where they lie.
    clusters
        (row,): what each row came from, in any order; None where every row is its own.
    measure, score, interval, confidence, method, bandwidth, neighbours, resamples, permutations, seed
        As `compare`.
    kernel
        As `compare`; or a function of two blocks of rows, (i, hidden) and (j, hidden), that
        returns the symmetric kernel of each with each, (i, j).
    precision
        Of the matrix products of RSA and tiles: `float32` (r errs by about 1e-9; where the data
        would make that more, the pass is run again in float64) or `float64`. Closed forms that
        need float64 have it anyway.
    block_rows
        Rows read at a time.
    memory
        Bytes allowed, or an amount such as `4GiB`.

    Returns
    -------
    PairValues
        One estimate for each measure, two for RSA: over all pairs of rows, and over those between
        clusters.

    Raises
    ------
    InvalidInput, MemoryRefused
        As their names say, each in one sentence.
    """
    resources = Resources(parse_bytes(memory), block_rows, host=is_numpy(X))
    for name, array in (("X", X), ("Y", Y)):
        require_matrix(array, name)
    if is_numpy(X) != is_numpy(Y):
        raise InvalidInput("X and Y are arrays of two libraries; give both as arrays of one")
    question = check_question(
        Question(
            measures_of(measure),
            kernel,
            score,
            interval,
            confidence,
            method,
            precision,
            bandwidth,
            neighbours,
            resamples,
            permutations,
            seed,
        )
    )
    order, labels = row_order(X, Y, clusters)
    selected = select_rows(
        [ArraySpace(X, order), ArraySpace(Y, order)],
        [np.arange(len(order))] * 2,
        labels,
        ("X", "Y"),
        COMPARISON,
    )
    found = compare_selected(selected, [(0, 1)], question, resources)
    if permutations:
        found = with_pair_tests(found, selected, question, resources)
    return found[0, 1]


def row_order(
    X: Array, Y: Array, clusters: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows in an order in which clusters lie side by side, and their clusters so."""
    order = np.arange(X.shape[0])
    labels = order if clusters is None else np.asarray(clusters)
    if X.shape[0] != Y.shape[0] or labels.shape != order.shape:
        raise InvalidInput(
            f"X has {X.shape[0]} rows, Y {Y.shape[0]} and there are {labels.size} cluster ids; "
            "row i must be the same stimulus in all of them"
        )
    if clusters is not None and (np.diff(labels) < 0).any():
        order = np.argsort(labels, kind="stable")
    return order, labels[order]


def require_matrix(array: Array, name: str) -> None:
    """Refuse what is no matrix of real numbers."""
    if not hasattr(array, "ndim") or not hasattr(array, "dtype"):
        raise InvalidInput(f"{name} is of {type(array).__name__}; give an array of (rows, hidden)")
    if array.ndim != 2 or array.shape[1] < 1:
        raise InvalidInput(
            f"{name} has the shape {tuple(array.shape)}; give an array of (rows, hidden)"
        )
    if "complex" in str(array.dtype):
        raise InvalidInput(f"{name} holds complex numbers; give its real and imaginary parts apart")
