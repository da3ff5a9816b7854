"""Features of all rows, for permutations of clusters where whole kernel matrices do not fit.

With the features f_i = [u_i, a_i, 1] of one space, g_i of another (see `kernels`) and an order of
rows p, the sum of k_ij l_p(i)p(j) over all i and j is tr(J C J C') for C = sum_i f_i g_p(i)': one
product of (hidden, row) and (row, hidden) per order, whatever the number of pairs. The kernels
within clusters are few; they are kept, rearranged as well and taken off.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.features.preparation import Prepared
from layerlake.engine.memory import MemoryPlan
from layerlake.engine.passes.arrays import Array, from_host, namespace


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """The features of all rows of some spaces."""

    clusters: NDArray[np.int64]
    """(row,): the cluster of each row, ascending."""
    u: dict[int, Array]
    """(row, hidden) of each space, in the working precision."""
    a: dict[int, Array]
    """(row,) float64 of each space."""


class KeptFeatures:
    """Keeps the features of all rows of some spaces (an `Accumulator` of prepared blocks)."""

    def __init__(self, spaces: Sequence[int]) -> None:
        """Take the places of the spaces in a prepared block."""
        self.spaces = tuple(spaces)

    def start(self) -> list[tuple[int, FeatureRows]]:
        """Return nothing."""
        return []

    def update(
        self, state: list[tuple[int, FeatureRows]], block: Prepared
    ) -> list[tuple[int, FeatureRows]]:
        """Absorb a block."""
        rows = FeatureRows(
            block.clusters,
            {s: block.u[s] for s in self.spaces},
            {s: block.a[s] for s in self.spaces},
        )
        return [*state, (block.start, rows)]

    def merge(
        self, state: list[tuple[int, FeatureRows]], other: list[tuple[int, FeatureRows]]
    ) -> list[tuple[int, FeatureRows]]:
        """Take in the blocks of other rows."""
        return [*state, *other]

    def finish(self, state: list[tuple[int, FeatureRows]]) -> FeatureRows:
        """Return the rows in order; the blocks are used up."""
        blocks = [rows for _start, rows in sorted(state, key=lambda block: block[0])]
        state.clear()
        u, a = {}, {}
        for s in self.spaces:
            xp = namespace(*(block.u[s] for block in blocks))
            u[s] = xp.concat([block.u.pop(s) for block in blocks])
            a[s] = xp.concat([block.a.pop(s) for block in blocks])
        return FeatureRows(np.concatenate([block.clusters for block in blocks]), u, a)


def plan_features(
    sizes: NDArray[np.int64], hiddens: Sequence[int], value_bytes: int = 4
) -> MemoryPlan:
    """Say what `KeptFeatures` and `BetweenFeatures` hold at their peak.

    Parameters
    ----------
    sizes
        (cluster,): rows of each cluster.
    hiddens
        Hidden of each space.
    value_bytes
        Of a feature: 4 or 8.
    """
    n_rows, n_cells, widest = int(sizes.sum()), int((sizes**2).sum()), max(hiddens) + 2
    features = value_bytes * n_rows * (sum(hiddens) + 2 * len(hiddens)) + 8 * n_rows * len(hiddens)
    rearranged = value_bytes * (n_rows * widest + n_cells + widest**2) + 8 * widest**2
    forming = 2 * value_bytes * (n_rows * widest + n_cells)
    return MemoryPlan(
        {
            "features": features,
            "kernels within clusters": (value_bytes * len(hiddens) + 16) * n_cells,
            "rearranged": max(rearranged + 24 * n_cells, forming),
            "rows": 64 * n_rows,
            "objects": 2**17,
        }
    )


class BetweenFeatures:
    """Correlations of kernels over pairs between clusters, from features with rows rearranged."""

    def __init__(self, rows: FeatureRows, pairs: Sequence[Pair]) -> None:
        """Take the features over; the first space of a pair is the one rearranged.

        Parameters
        ----------
        rows
            The features of all rows; used up.
        pairs
            Pairs of spaces to correlate.
        """
        self._pairs = list(pairs)
        starts = np.flatnonzero(np.diff(rows.clusters, prepend=-1))
        self.sizes = np.diff(starts, append=len(rows.clusters))
        self._cells = _Cells.of(self.sizes)
        self._features: dict[int, Array] = {}
        self._within: dict[int, Array] = {}
        self._lengths: dict[int, float] = {}
        count = float(len(rows.clusters) ** 2 - (self.sizes**2).sum())
        for s in list(rows.u):
            self._take(s, rows.u.pop(s), rows.a.pop(s), count)

    def _take(self, s: int, u: Array, a: Array, count: float) -> None:
        """Centre the kernel of a space between clusters, and keep what it needs."""
        xp = namespace(u)
        sums = xp.sum(u, axis=0, dtype=xp.float64)
        everything = float(xp.vecdot(sums, sums)) + 2 * u.shape[0] * float(xp.sum(a))
        features = _features(u, a)
        within = self._cells.kernels(features)
        mean = 0.0
        if count:
            mean = (everything - float(xp.sum(within, dtype=xp.float64))) / count
        features = _features(u, a - mean / 2)
        self._features[s] = features
        self._within[s] = within - mean
        self._lengths[s] = 0.0
        if count:
            whole = _paired(features, features)
            inside = float(xp.sum(self._within[s] ** 2, dtype=xp.float64))
            rounding = 64 * float(xp.finfo(u.dtype).eps) * (whole + inside)
            self._lengths[s] = (whole - inside) ** 0.5 if whole - inside > rounding else 0.0

    def correlations(self, order: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return r_between of every pair with row i of its first space replaced, (pair,)."""
        found = np.full(len(self._pairs), np.nan)
        cells = self._cells.rearranged(order)
        for s in dict.fromkeys(s for s, _t in self._pairs):
            features, within = self._features[s], self._within[s]
            xp = namespace(features)
            rows = xp.take(features, from_host(order, features), axis=0)
            inside = xp.take(within, from_host(cells, within), axis=0)
            for p, (first, t) in enumerate(self._pairs):
                length = self._lengths[s] * self._lengths[t]
                if first == s and length > 0:
                    own = float(xp.sum(inside * self._within[t], dtype=xp.float64))
                    found[p] = (_paired(rows, self._features[t]) - own) / length
        r: NDArray[np.float64] = np.clip(found, -1, 1)
        return r


def _features(u: Array, a: Array) -> Array:
    """Return [u, a, 1] in the precision of u, (row, hidden + 2)."""
    xp = namespace(u)
    one = xp.ones((u.shape[0], 1), dtype=u.dtype, device=u.device)
    return xp.concat([u, xp.astype(a, u.dtype)[:, None], one], axis=1)


def _paired(f: Array, g: Array) -> float:
    """Sum k_ij l_ij over all ordered pairs of rows, each row with itself as well."""
    xp = namespace(f)
    c = xp.astype(xp.matmul(xp.matrix_transpose(f), g), xp.float64)
    square = float(xp.sum(xp.vecdot(c[:-2, :-2], c[:-2, :-2])))
    edges = xp.vecdot(c[:-2, -2], c[:-2, -1]) + xp.vecdot(c[-2, :-2], c[-1, :-2])
    corner = c[-2, -2] * c[-1, -1] + c[-2, -1] * c[-1, -2]
    return square + 2 * float(edges) + 2 * float(corner)


@dataclass(frozen=True, slots=True)
class _Cells:
    """The ordered pairs of rows within clusters, each row with itself too, cluster by cluster."""

    row: NDArray[np.int64]
    """(cell,): the first row of the pair."""
    column: NDArray[np.int64]
    start: NDArray[np.int64]
    """(row,): the first cell of the row."""
    first: NDArray[np.int64]
    """(row,): the first row of its cluster."""
    bounds: NDArray[np.int64]
    """(cluster + 1,): the rows of each cluster."""

    @classmethod
    def of(cls, sizes: NDArray[np.int64]) -> "_Cells":
        """List the cells of clusters of these sizes, in row order."""
        starts = np.cumsum(sizes) - sizes
        first, width = np.repeat(starts, sizes), np.repeat(sizes, sizes)
        start = np.cumsum(width) - width
        row = np.repeat(np.arange(len(width)), width)
        return cls(
            row,
            np.arange(len(row)) - start[row] + first[row],
            start,
            first,
            np.append(starts, len(first)),
        )

    def rearranged(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the cell of (order[i], order[j]) for the cell of (i, j), whole clusters moved."""
        cells: NDArray[np.int64] = self.start[order[self.row]] + self.column - self.first[self.row]
        return cells

    def kernels(self, features: Array) -> Array:
        """Return the kernel of every cell, (cell,) in the precision of the features."""
        xp = namespace(features)
        parts = []
        for lo, hi in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True):
            f, a = features[lo:hi, :-2], features[lo:hi, -2]
            kernel = xp.matmul(f, xp.matrix_transpose(f)) + a[:, None] + a[None, :]
            parts.append(xp.reshape(kernel, (-1,)))
        return xp.concat(parts)
