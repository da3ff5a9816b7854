"""Whole kernel matrices between clusters, for permutations of clusters where they fit in memory."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.memory import MemoryPlan
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace

_PANEL_ROWS: Final = 64
"""Rows that change places at a time on a CPU."""
_DEVICE_ENTRIES: Final = 2**26
"""Entries that do elsewhere, where a panel of few rows would only start and stop."""


class KeptKernels:
    """Keeps the kernel matrices of some spaces whole (an `Accumulator` of tiles)."""

    def __init__(self, n_rows: int, spaces: Sequence[int]) -> None:
        """Take the rows of the pass and the places of the spaces in the kernels of a tile."""
        self.n_rows = n_rows
        self.spaces = tuple(spaces)

    def start(self) -> dict[int, Array]:
        """Return nothing: the first tile says where to keep kernels."""
        return {}

    def update(self, state: dict[int, Array], tile: Tile) -> dict[int, Array]:
        """Absorb a tile, and its mirror image."""
        for s in self.spaces:
            kernel = tile.kernels[s]
            xp = namespace(kernel)
            if s not in state:
                state[s] = xp.zeros(
                    (self.n_rows, self.n_rows), dtype=kernel.dtype, device=kernel.device
                )
            rows, columns = slice(*tile.rows), slice(*tile.columns)
            if tile.diagonal:
                upper = xp.triu(kernel, k=1)
                state[s][rows, columns] = upper + xp.matrix_transpose(upper)
            else:
                state[s][rows, columns] = kernel
                state[s][columns, rows] = xp.matrix_transpose(kernel)
        return state

    def merge(self, state: dict[int, Array], other: dict[int, Array]) -> dict[int, Array]:
        """Add the entries of other tiles."""
        for s, kernel in other.items():
            if s in state:
                state[s] += kernel
            else:
                state[s] = kernel
        return state

    def finish(self, state: dict[int, Array]) -> dict[int, Array]:
        """Return (row, row) of each space, symmetric, zero on the diagonal."""
        return state


def plan_kernels(n_rows: int, n_spaces: int, tile_rows: int, value_bytes: int = 4) -> MemoryPlan:
    """Say what `KeptKernels` and `BetweenKernels` hold at their peak, on a CPU.

    `tile_rows` are the most rows of a tile; the tile itself is not counted.
    """
    panel = min(_PANEL_ROWS, n_rows) * n_rows * (2 * value_bytes + 9)
    turning = (2 * value_bytes + 1) * min(tile_rows, n_rows) ** 2
    return MemoryPlan(
        {
            "kernels": n_spaces * value_bytes * n_rows**2,
            "panel or tile": max(panel, turning),
            "rows": 48 * n_rows,
            "objects": 2**17,
        }
    )


class BetweenKernels:
    """Correlations of kernel matrices over pairs between clusters, rows of one side rearranged."""

    def __init__(
        self, kernels: dict[int, Array], clusters: NDArray[np.int64], pairs: Sequence[Pair]
    ) -> None:
        """Take the kernels over: they are centred in place, and zero within clusters.

        Parameters
        ----------
        kernels
            (row, row) of each space, symmetric; used up.
        clusters
            (row,): the cluster of each row, ascending.
        pairs
            Pairs of spaces to correlate; the first of a pair is rearranged.
        """
        self._kernels = kernels
        self._pairs = list(pairs)
        self.sizes = np.unique(clusters, return_counts=True)[1]
        count = float(len(clusters) ** 2 - (self.sizes**2).sum())  # ordered pairs
        self._lengths = {s: _centre(kernel, clusters, count) for s, kernel in kernels.items()}

    def correlations(self, order: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return r_between of every pair with row i of its first space replaced, (pair,)."""
        sums = np.zeros(len(self._pairs))
        n_rows = len(order)
        for s in dict.fromkeys(s for s, _t in self._pairs):
            kernel = self._kernels[s]
            xp = namespace(kernel)
            whole = from_host(order, kernel)
            for lo, hi in _panels(kernel):
                panel = _crossed(kernel, whole[lo:hi], whole[lo:])
                for p, (first, t) in enumerate(self._pairs):
                    if first != s:
                        continue
                    other = self._kernels[t]
                    # The square on the diagonal holds each of its pairs twice.
                    square = xp.vecdot(panel[:, : hi - lo], other[lo:hi, lo:hi])
                    sums[p] += float(xp.sum(square, dtype=xp.float64))
                    if hi < n_rows:
                        rest = xp.vecdot(panel[:, hi - lo :], other[lo:hi, hi:])
                        sums[p] += 2 * float(xp.sum(rest, dtype=xp.float64))
        lengths = np.array([self._lengths[s] * self._lengths[t] for s, t in self._pairs])
        with np.errstate(invalid="ignore", divide="ignore"):
            r: NDArray[np.float64] = np.clip(np.where(lengths > 0, sums / lengths, np.nan), -1, 1)
        return r


def _panels(kernel: Array) -> list[tuple[int, int]]:
    """Cut the rows of a matrix."""
    n_rows = kernel.shape[0]
    step = _PANEL_ROWS if is_numpy(kernel) else max(_DEVICE_ENTRIES // n_rows, 1)
    return [(lo, min(lo + step, n_rows)) for lo in range(0, n_rows, step)]


def _crossed(kernel: Array, rows: Array, columns: Array) -> Array:
    """Return the entries where some rows and columns cross."""
    if is_numpy(kernel):
        chosen = kernel.take(rows, axis=0)
        return chosen.take(columns, axis=1, mode="wrap")  # the mode without a second copy
    xp = namespace(kernel)
    return xp.take(xp.take(kernel, rows, axis=0), columns, axis=1)


def _centre(kernel: Array, clusters: NDArray[np.int64], count: float) -> float:
    """Take the mean between clusters off in place, set the rest to 0, and return the length.

    The length is the root of the sum of squares over ordered pairs between clusters; 0 where what
    is left of the squares is rounding.
    """
    xp = namespace(kernel)
    placed = from_host(clusters, kernel)
    total = largest = 0.0
    for lo, hi in _panels(kernel):
        apart = xp.astype(placed[lo:hi, None] != placed[None, :], kernel.dtype)
        kernel[lo:hi, :] *= apart
        total += float(xp.sum(xp.astype(kernel[lo:hi, :], xp.float64)))
        largest = max(largest, float(xp.max(xp.abs(kernel[lo:hi, :]))))
    if count == 0:
        return 0.0
    mean = total / count
    squares = 0.0
    for lo, hi in _panels(kernel):
        apart = xp.astype(placed[lo:hi, None] != placed[None, :], kernel.dtype)
        kernel[lo:hi, :] -= mean * apart
        squares += float(xp.sum(xp.vecdot(kernel[lo:hi, :], kernel[lo:hi, :]), dtype=xp.float64))
    rounding = float(xp.finfo(kernel.dtype).eps) * max(largest, abs(mean))
    return squares**0.5 if squares > count * rounding**2 else 0.0
