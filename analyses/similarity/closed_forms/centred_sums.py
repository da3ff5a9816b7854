"""Centred sums over rows, float64 on the host: what every closed form is computed from.

With x_i the (prepared) rows less their mean and p_i = |x_i|^2, and y_i, q_i the same of the other
space.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SpaceSums:
    """Sums over the rows of one space."""

    n_rows: int
    mean: NDArray[np.float64]
    """(hidden,): the mean row."""
    gram: NDArray[np.float64]
    """(hidden, hidden): sum x x'."""
    weighted: NDArray[np.float64]
    """(hidden,): sum p x."""
    squares: float
    """sum p^2; sum p is the trace of `gram`."""


@dataclass(frozen=True)
class CrossSums:
    """Sums over the same rows of two spaces."""

    product: NDArray[np.float64]
    """(hidden, other hidden): sum x y'."""
    left: NDArray[np.float64]
    """(hidden,): sum q x."""
    right: NDArray[np.float64]
    """(other hidden,): sum p y."""
    squares: float
    """sum p q."""
