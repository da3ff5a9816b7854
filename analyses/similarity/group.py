"""What one pass compares: the same rows of several spaces, and which of them with which."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.kernels import Kernel
from layerlake.analyses.similarity.moment_state import Pair
from layerlake.engine.passes import SpaceLike
from layerlake.store.errors import InvalidInput

FEWEST_ROWS: Final = 4
"""Rows below which pairs say nothing: three rows have three pairs."""


@dataclass(frozen=True, slots=True)
class Group:
    """What one call compares, checked."""

    spaces: tuple[SpaceLike, ...]
    rows: tuple[NDArray[np.int64], ...]
    names: tuple[str, ...]
    pairs: tuple[Pair, ...]  # of spaces, to compare
    clusters: NDArray[np.int64]  # (row,): 0, 1, 2, ... in order
    bounds: NDArray[np.int64]  # (cluster + 1,)
    cuts: list[tuple[int, int]]
    kernel: Kernel
    cache_bytes: int | None  # most bytes kept between passes; None keeps every block
    float64_bytes: int  # what the comparison needs if it has to go on in float64
    allowed_bytes: int
    on_dropped: Callable[[NDArray[np.int64]], None] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Rows of each cluster."""
        lengths: NDArray[np.int64] = np.diff(self.bounds)
        return lengths

    def describe(self, space: int, position: int) -> str:
        """Name a row of a space."""
        return f"row {self.rows[space][position]} of {self.names[space]}"


def require_rows(n_rows: int, n_dropped: int) -> None:
    """Refuse fewer rows than a correlation over pairs needs."""
    if n_rows < FEWEST_ROWS:
        dropped = f" after {n_dropped} without a direction were dropped" if n_dropped else ""
        raise InvalidInput(
            f"{n_rows} rows are left{dropped}; a comparison needs at least {FEWEST_ROWS}"
        )
