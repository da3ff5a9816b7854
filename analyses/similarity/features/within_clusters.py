"""Sums over the pairs of rows within each cluster of a block."""

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from layerlake.analyses.similarity.features.moment_state import MomentState
from layerlake.analyses.similarity.features.preparation import Prepared
from layerlake.engine.passes.arrays import Array, is_numpy, namespace, take_rows, to_host
from layerlake.engine.passes.blocks import cut_blocks

TILE_ROWS: Final = 64
"""Rows of the tiles in which pairs within clusters are formed, or more of shorter clusters."""


def absorb_within(state: MomentState, block: Prepared) -> None:
    """Add the sums over pairs within each cluster of a block of whole clusters."""
    if not len(block.clusters):
        return
    found, counts = np.unique(block.clusters, return_counts=True)
    state.sizes[found] += counts
    shared = counts > 1
    if not shared.any():
        return
    member = np.flatnonzero(np.repeat(shared, counts))
    bounds = np.concatenate([[0], np.cumsum(counts[shared])])
    first, length = (np.repeat(x, counts[shared]) for x in (bounds[:-1], counts[shared]))
    a = [to_host(x)[member] for x in block.a]
    sums = np.empty((len(a), len(member)))
    products = {pair: np.empty(len(member)) for pair in state.within}
    # Strips of short clusters are narrow; elsewhere a strip is a square matrix before it is cut.
    most = max(TILE_ROWS, TILE_ROWS**2 // int(counts.max())) if is_numpy(block.u[0]) else TILE_ROWS
    for lo, hi in cut_blocks(bounds, most):
        # The columns of a part of a long cluster are the whole cluster.
        g = slice(np.searchsorted(bounds, lo, side="right") - 1, np.searchsorted(bounds, hi) + 1)
        width = int(length[lo:hi].max())
        column = np.arange(width)
        others = np.minimum(first[lo:hi, None] + column, len(member) - 1)
        apart = column < length[lo:hi, None]
        apart &= others != np.arange(lo, hi)[:, None]
        tiles = [_near(u, member, bounds[g], lo, hi, width) for u in block.u]
        for s, tile in enumerate(tiles):
            tile += a[s][lo:hi, None]
            tile += a[s][others]
            tile *= apart
            sums[s, lo:hi] = tile.sum(axis=1)
        for (s, t), rows in products.items():
            rows[lo:hi] = np.vecdot(tiles[s], tiles[t])
    targets = found[shared]
    state.within_sums[:, targets] += np.add.reduceat(sums, bounds[:-1], axis=1)
    for pair, rows in products.items():
        state.within[pair][targets] += np.add.reduceat(rows, bounds[:-1])


def _near(
    u: Array, member: NDArray[np.int64], bounds: NDArray[np.int64], lo: int, hi: int, width: int
) -> NDArray[np.float64]:
    """Form u_i . u_j of some rows with each row of their cluster, on the host in float64.

    Parameters
    ----------
    u
        (row, hidden).
    member
        Rows that share their cluster with others; those of a cluster lie side by side.
    bounds
        Of the clusters that the members [lo, hi) are, or are a part of.
    width
        Rows of the longest of them.

    Returns
    -------
    ndarray
        (hi - lo, width): 0 beyond the last row of a cluster.
    """
    near = np.zeros((hi - lo, width))
    clusters = itertools.pairwise(bounds.tolist())
    if is_numpy(u):
        multiply = blas.sgemm if u.dtype == np.float32 else blas.dgemm
        for start, stop in clusters:
            rows = u[member[start] : member[stop - 1] + 1]
            left = rows[max(lo - start, 0) : hi - start]
            # numpy's own product of so few rows with themselves takes twice as long.
            product = multiply(1.0, rows.T, left.T, trans_a=1).T
            near[max(start - lo, 0) : stop - lo, : stop - start] = product
        return near
    xp = namespace(u)
    columns = take_rows(u, member[bounds[0] : bounds[-1]])
    left = columns if columns.shape[0] == hi - lo else take_rows(u, member[lo:hi])
    square = to_host(xp.matmul(left, xp.matrix_transpose(columns)))
    for start, stop in clusters:
        rows = slice(max(start - lo, 0), stop - lo)
        near[rows, : stop - start] = square[rows, start - bounds[0] : stop - bounds[0]]
    return near
