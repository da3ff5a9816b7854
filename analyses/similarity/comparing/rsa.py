"""Representational similarity analysis: the correlation of two spaces' kernels over all pairs.

Exact Pearson correlation over strict upper triangles, in memory that does not grow with the square
of the number of rows; see `moments` for the algebra and `inference` for the intervals.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.compared_rows import COMPARISON
from layerlake.analyses.similarity.comparing.compare_arrays import row_order
from layerlake.analyses.similarity.features.first_pass import first_pass
from layerlake.analyses.similarity.features.group import group_of
from layerlake.analyses.similarity.features.kernels import kernel_named
from layerlake.analyses.similarity.features.moment_state import star
from layerlake.analyses.similarity.features.pair_values import rsa_values
from layerlake.analyses.similarity.features.planning import plan_rsa
from layerlake.analyses.similarity.features.rsa_value import RsaValue
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.memory import DEFAULT_ALLOWED_BYTES, parse_bytes
from layerlake.engine.passes.arrays import Array, is_numpy
from layerlake.engine.passes.blocks import SpaceLike
from layerlake.engine.passes.resources import BLOCK_ROWS, Resources
from layerlake.engine.passes.selected_rows import ArraySpace, select_rows
from layerlake.store.errors import InvalidInput, is_a

__all__ = ["RsaValue", "rsa_arrays", "rsa_group", "rsa_memory"]

INTERVALS: Final = ("cluster", "rows", "none")
PRECISIONS: Final = ("float32", "float64")


def rsa_group(
    reference: SpaceLike,
    variants: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    clusters: NDArray[np.int64],
    *,
    kernel: str = "cosine",
    interval: str = "cluster",
    confidence: float = 0.95,
    precision: str = "float32",
    block_rows: int = BLOCK_ROWS,
    memory: int | str = DEFAULT_ALLOWED_BYTES,
    names: Sequence[str] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_dropped: Callable[[NDArray[np.int64]], None] | None = None,
) -> list[RsaValue]:
    """Compare a reference space with variants over the same stimuli, reading each space once.

    With an interval and more rows than the cache holds, each space is read a second time.

    Parameters
    ----------
    reference, variants
        Spaces, (row, hidden) each; hidden may differ.
    rows
        `rows[k]` are the ascending row indices into the k-th space, the reference first: entry i
        of every one is the same stimulus. A row without a direction in one space (zero norm, or
        constant under `correlation`) is dropped from all of them and counted.
    clusters
        (row,): what each row came from, such as its sentence; equal ids lie side by side.
    kernel
        `cosine`, `correlation`, `linear` or `sqeuclidean`, the same for every space.
    interval
        `cluster` (jackknife over clusters), `rows` (the same, allowed where every row is its own
        cluster), or `none`.
    confidence
        Nominal coverage of the intervals.
    precision
        Of the matrix products: `float32` (r errs by about 1e-9; where the data would make that
        more, the pass is run again in float64) or `float64`.
    block_rows
        Rows read at a time.
    memory
        Bytes allowed, or an amount such as `4GiB`.
    names
        What to call each space in messages, the reference first.
    on_progress
        Called after each block with the number of rows just absorbed: all rows once, and once
        more where an interval is asked for.
    on_dropped
        Called with the entries of `rows` that were dropped, block by block; the same ones may
        come again.

    Returns
    -------
    list of RsaValue
        One for each variant, in order.

    Raises
    ------
    InvalidInput
        A setting is unknown, rows do not match, fewer than 4 rows are left, or a row holds NaN or
        infinity.
    MemoryRefused
        The pass needs more memory than is allowed; raised before anything is read.
    """
    spaces = (reference, *variants)
    names = (
        tuple(names)
        if names
        else ("the reference", *(f"variant {v}" for v in range(len(variants))))
    )
    chosen = kernel_named(kernel)
    _check_settings(interval, confidence, precision, block_rows)
    selected = select_rows(spaces, rows, clusters, names, COMPARISON)
    if interval == "rows" and (selected.lengths > 1).any():
        raise InvalidInput(
            f"{selected.n_rows} rows come from {len(selected.lengths)} clusters, and an interval "
            "over rows would be far too narrow where rows of one cluster are alike; ask for cluster"
        )
    pairs = star(len(spaces))
    resources = Resources(
        parse_bytes(memory),
        block_rows,
        host=not isinstance(reference, ArraySpace) or is_numpy(reference.array),
    )
    group = group_of(
        selected,
        pairs,
        chosen,
        resources,
        interval=interval != "none",
        precision=precision,
        on_dropped=on_dropped,
    )
    report = on_progress or (lambda rows: None)
    first = first_pass(group, precision, report, keep=interval != "none")
    values = rsa_values(first, interval=interval, confidence=confidence, report=report)
    return [values[pair] for pair in pairs]


def rsa_memory(
    n_rows: int,
    hiddens: Sequence[int],
    *,
    n_clusters: int | None = None,
    longest_cluster: int = 1,
    interval: str = "cluster",
    precision: str = "float32",
    block_rows: int = BLOCK_ROWS,
    stored_bytes: int = 4,
) -> int:
    """Return the bytes without which `rsa_group` refuses to run.

    Parameters
    ----------
    n_rows
        Rows compared.
    hiddens
        Hidden of each space, the reference first.
    n_clusters
        Clusters of those rows; as many as there are rows where not given.
    longest_cluster
        Rows of the longest cluster; what exceeds a block takes a second set of moments.
    interval, precision, block_rows
        As `rsa_group`.
    stored_bytes
        Bytes of a value as it is read.
    """
    n_clusters = n_rows if n_clusters is None else n_clusters
    sizes = np.full(n_clusters, (n_rows - longest_cluster) // max(n_clusters - 1, 1))
    sizes[0] = longest_cluster
    work = replace(
        Workload.sized(hiddens, [stored_bytes] * len(hiddens), sizes.tolist()), n_rows=n_rows
    )
    return plan_rsa(
        work, interval=interval != "none", precision=precision, block_rows=block_rows
    ).needed


def rsa_arrays(
    X: Array,
    Y: Array,
    clusters: NDArray[np.int64] | None = None,
    *,
    kernel: str = "cosine",
    interval: str = "cluster",
    confidence: float = 0.95,
    precision: str = "float32",
    block_rows: int = BLOCK_ROWS,
    memory: int | str = DEFAULT_ALLOWED_BYTES,
) -> RsaValue:
    """Compare two arrays whose row i is the same stimulus.

    Parameters
    ----------
    X, Y
        (row, hidden) arrays of one array library, numpy or another of the array API standard;
        hidden may differ. The work is done where they lie.
    clusters
        (row,): what each row came from, in any order; None where every row is its own.
    kernel, interval, confidence, precision, block_rows, memory
        As `rsa_group`.

    Raises
    ------
    InvalidInput, MemoryRefused
        As `rsa_group`.
    """
    for name, array in (("X", X), ("Y", Y)):
        if array.ndim != 2:
            raise InvalidInput(
                f"{name} has {array.ndim} dimensions; give an array of (rows, hidden)"
            )
    order, labels = row_order(X, Y, clusters)
    return rsa_group(
        ArraySpace(X, order),
        [ArraySpace(Y, order)],
        [np.arange(len(order))] * 2,
        labels,
        kernel=kernel,
        interval=interval,
        confidence=confidence,
        precision=precision,
        block_rows=block_rows,
        memory=memory,
        names=("X", "Y"),
    )[0]


def _check_settings(interval: str, confidence: float, precision: str, block_rows: int) -> None:
    """Refuse settings that mean nothing."""
    if interval not in INTERVALS:
        raise InvalidInput(
            f"there is no interval {interval!r}; choose one of {', '.join(INTERVALS)}"
        )
    if precision not in PRECISIONS:
        raise InvalidInput(
            f"there is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}"
        )
    if not is_a(confidence, int, float) or not 0 < confidence < 1:
        raise InvalidInput(f"confidence is {confidence}; give a number between 0 and 1, as 0.95")
    if block_rows < 1:
        raise InvalidInput(f"block_rows is {block_rows}; give at least 1")
