"""Tiles of several kernel matrices over the same rows: what comparisons without features absorb."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.arrays import Array


@dataclass(frozen=True, slots=True)
class Tile:
    """The same tile of the kernel matrix of every space of a pass.

    Tiles cover the upper triangle: `columns` never begin before `rows`. A diagonal tile has the
    same rows and columns, and only its strict upper half is to be counted; off the diagonal every
    entry is one unordered pair of two rows. Nobody but the pass may change the entries.
    """

    rows: tuple[int, int]
    """First row, and the one after the last, among the rows compared."""
    columns: tuple[int, int]
    kernels: tuple[Array, ...]
    """(row, column) of each space, in the working precision, up to a constant of the space where
    the kernel has features (see `kernels`)."""
    row_clusters: NDArray[np.int64]
    """(row,): the cluster of each row, ascending."""
    column_clusters: NDArray[np.int64]

    @property
    def diagonal(self) -> bool:
        """Whether rows and columns are the same."""
        return self.rows == self.columns
