"""Tiles of several kernel matrices over the same rows: what comparisons without features absorb.

A tile pass (see `tile_pass`) yields `Tile`s, and a statistic over pairs of rows is an
`engine.passes.blocks.Accumulator` that absorbs them; `engine.passes.blocks.run_pass` feeds the tiles of one pass
to any number of them. All tiles of one row panel come one after another, the diagonal one first and
the columns rising, and every two rows meet in exactly one tile, whatever the size of the panels.
Workers share a pass by row panels, so a state may have seen some row panels only, and never a part
of one. An accumulator that needs two looks at the tiles (ranks) runs over two passes of the same
`TilePass`, whose tiles are the same but for the rounding of their products, should another kind of
processor form a tile the second time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.passes.arrays import Array


@dataclass(frozen=True, slots=True)
class Tile:
    """The same tile of the kernel matrix of every space of a pass.

    Tiles cover the upper triangle: `columns` never begin before `rows`. A diagonal tile has the
    same rows and columns and is symmetric but for rounding, and only its strict upper half is to be
    counted; off the diagonal every entry is one unordered pair of two rows. Nobody but the pass may
    change the entries, and the pass does with the next tile: who needs them longer copies them.
    """

    rows: tuple[int, int]
    """First row, and the one after the last, among the rows compared."""
    columns: tuple[int, int]
    kernels: tuple[Array, ...]
    """(row, column) of each space, in the working precision, up to a factor and a constant of the
    space: the kernel is `scale * (entry + constant)` with those of the pass (`SpaceKernel`)."""
    row_clusters: NDArray[np.int64]
    """(row,): the cluster of each row, ascending."""
    column_clusters: NDArray[np.int64]

    @property
    def diagonal(self) -> bool:
        """Whether rows and columns are the same."""
        return self.rows == self.columns
