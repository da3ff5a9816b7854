"""Tiles cut into panels, themselves tiles, that stay in the cache of a CPU."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace
from layerlake.store.errors import InvalidInput

PANEL_ENTRIES: Final = 2**16
"""Entries of a panel on a CPU: a few buffers of so many numbers fit its second-level cache."""


def panels(tile: Tile, most_entries: int = PANEL_ENTRIES) -> Iterator[Tile]:
    """Cut a tile into tiles of whole runs of columns, views of it, in the order of its rows.

    A diagonal tile becomes small diagonal tiles and what lies to the right of them. Where the
    entries lie on a device, the tile is left whole: there every call costs more than it does.
    """
    (row, row_stop), (column, column_stop) = tile.rows, tile.columns
    n_rows, n_columns = row_stop - row, column_stop - column
    step = max(1, most_entries // max(n_columns, 1))
    if step >= n_rows or not is_numpy(tile.kernels[0]):
        yield tile
        return
    for lo in range(0, n_rows, step):
        hi = min(lo + step, n_rows)
        ends = [(lo, hi), (hi, n_columns)] if tile.diagonal else [(0, n_columns)]
        for left, right in ends:
            if left < right:
                yield replace(
                    tile,
                    rows=(row + lo, row + hi),
                    columns=(column + left, column + right),
                    kernels=tuple(kernel[lo:hi, left:right] for kernel in tile.kernels),
                    row_clusters=tile.row_clusters[lo:hi],
                    column_clusters=tile.column_clusters[left:right],
                )


def counted(tile: Tile, kernel: Array) -> Array:
    """Return the entries of a tile that count: all of them, or (pair,) those above the diagonal."""
    if not tile.diagonal:
        return kernel
    xp = namespace(kernel)
    return xp.take(xp.reshape(kernel, (-1,)), from_host(_above(kernel.shape[0]), kernel))


def _above(side: int) -> NDArray[np.int64]:
    """Return the flat positions above the diagonal of a square."""
    rows, columns = np.triu_indices(side, 1)
    flat: NDArray[np.int64] = (rows * side + columns).astype(np.int64)
    return flat


def extent(values: Array, name: str, tile: Tile) -> tuple[float, float]:
    """Return the least and the largest of some values of a tile.

    Raises
    ------
    InvalidInput
        One of them is NaN or infinite.
    """
    xp = namespace(values)
    with np.errstate(invalid="ignore"):
        low, high = float(xp.min(values)), float(xp.max(values))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidInput(
            f"the kernel of {name} is NaN or infinite for a pair of one of the rows "
            f"{tile.rows[0]} to {tile.rows[1] - 1} with one of {tile.columns[0]} to "
            f"{tile.columns[1] - 1}; give a kernel that is finite for all pairs of rows"
        )
    return low, high
