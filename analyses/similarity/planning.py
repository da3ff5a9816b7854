"""The memory that a comparison needs, as a formula of its sizes."""

from collections.abc import Sequence
from typing import Final

from layerlake.analyses.similarity.kernels import LOUD_COORDINATES
from layerlake.analyses.similarity.moment_state import Pair, star, with_own
from layerlake.analyses.similarity.preparation import CACHED_ROWS
from layerlake.analyses.similarity.within import TILE_ROWS
from layerlake.engine.memory import MemoryPlan

BLOCK_ROWS: Final = 2048
"""Rows read at a time: two chunks of a lake, and enough for products at nearly full speed."""
SAMPLE_ROWS: Final = 256
"""Rows, spread evenly over the selection, from which the origin of the features is taken."""
CACHE_BYTES: Final = 512 * 2**20
"""Most bytes of features kept for a second pass; rows beyond them are read again."""
_OBJECTS: Final = 2**17
"""Bytes for what is not an array."""


def state_bytes(hiddens: Sequence[int], n_clusters: int, pairs: Sequence[Pair]) -> int:
    """Return the bytes of the moments of a group, and of what is summed by cluster."""
    spaces, widest = len(hiddens), max(hiddens)
    every = with_own(spaces, pairs)
    moments = sum(
        (hiddens[s] + 2) * (hiddens[t] + 2) + min(LOUD_COORDINATES, widest) ** 2 + widest
        for s, t in every
    )
    return 8 * (moments + n_clusters * (spaces + len(every)))


def plan_rsa(
    hiddens: Sequence[int],
    stored_bytes: Sequence[int],
    n_rows: int,
    n_clusters: int,
    longest_cluster: int,
    *,
    pairs: Sequence[Pair] | None = None,
    interval: bool,
    precision: str,
    block_rows: int = BLOCK_ROWS,
    host: bool = True,
) -> MemoryPlan:
    """Say what a comparison of a group holds at its peak, beside the rows of a space in memory.

    Parameters
    ----------
    hiddens
        Hidden of each space, the reference first.
    stored_bytes
        Bytes of a value of each space as it is read.
    n_rows, n_clusters, longest_cluster
        Rows selected, clusters they come from, and rows of the longest one.
    pairs
        Pairs of spaces that are compared; the first space with each other one where not given.
    interval
        Whether there is a second pass for intervals.
    precision
        Of the products. Where a `float32` pass must be run again in `float64`, that is a plan of
        its own.
    block_rows
        Rows read at a time.
    host
        Whether rows are prepared a few at a time, as on a CPU, and not a block at a time.

    Returns
    -------
    MemoryPlan
        Parts of the peak. The reserve is what the features of all blocks but one take, which are
        kept for the second pass, or `CACHE_BYTES` where that is less.
    """
    value = 8 if precision == "float64" else 4
    rows, spaces = min(block_rows, n_rows), len(hiddens)
    compared = star(spaces) if pairs is None else list(pairs)
    pairs = with_own(spaces, compared)
    width, widest = sum(hiddens), max(hiddens)
    squares = [hiddens[s] * hiddens[t] for s, t in pairs]
    moments = 8 * sum(
        (hiddens[s] + 2) * (hiddens[t] + 2) + min(LOUD_COORDINATES, widest) ** 2 + widest
        for s, t in pairs
    )
    sets = 2 if longest_cluster > block_rows else 1  # a long cluster has moments of its own

    row_bytes = value * width + 16 * spaces
    edges = 8 * (2 * width + sum(2 * hiddens[s] + hiddens[t] for s, t in compared))
    features = rows * row_bytes + edges
    raw = rows * sum(h * b for h, b in zip(hiddens, stored_bytes, strict=True))
    step = min(CACHED_ROWS, rows) if host else rows
    preparing = raw + step * (8 * width + 16 * widest + 16 * len(pairs))
    loud = rows * min(LOUD_COORDINATES, widest) * (8 * spaces + value)
    multiplying = loud + value * max(squares)
    columns = max(TILE_ROWS, min(longest_cluster, rows)) if longest_cluster > 1 else 0
    tiles = (
        TILE_ROWS * columns * (8 * spaces + value + 20)
        + 2 * TILE_ROWS * widest * value
        + 8 * rows * (2 * spaces + len(pairs) + 6)
    )
    sums = 8 * n_clusters * (spaces + len(pairs))
    checking = 16 * n_rows + 32 * n_clusters
    sampling = min(SAMPLE_ROWS, n_rows) * widest * (max(stored_bytes) + 24)
    summing = sums + sets * moments + features + max(preparing, multiplying, tiles)
    phases = [checking, sampling, summing]
    cache = 0
    if interval:
        # The moments become weights one after another, while no features are in use.
        vectors = 3 * spaces + 4 * len(compared)
        weighing = sums + moments + 5 * value * max(squares) + 16 * widest * vectors
        applying = max(preparing, 2 * value * rows * widest + (8 + value) * rows * vectors)
        touching = sums + value * sum(squares) + features + applying
        phases += [weighing, touching, sums + 8 * 32 * n_clusters]
        # Blocks that end with a cluster may be half empty, so there may be twice as many.
        everything = n_rows * row_bytes + edges * 2 * -(-n_rows // rows)
        cache = everything - features if everything < CACHE_BYTES else CACHE_BYTES
    return MemoryPlan(
        {
            "moments and blocks": max(phases),
            "clusters": 8 * n_clusters * (4 + 6 * len(compared)),
            "rows": 8 * n_rows,
            "objects": _OBJECTS,
        },
        reserve=max(cache, 0),
    )
