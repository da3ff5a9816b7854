"""The variances of a space along its principal axes, and how many axes that amounts to."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from layerlake.store.errors import InvalidInput, is_a

_ROUNDING: Final = 16 * 2.0**-52
"""A spread smaller than this share of the mean is rounding."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The variances of a space along its principal axes."""

    variances: NDArray[np.float64]
    """(axis,): by falling variance, in squared units of the stored values, with n - 1."""
    participation_ratio: float
    """(sum v)^2 / sum v^2: how many axes of equal variance would be as spread; NaN if constant."""
    effective_rank: float
    """exp of the entropy of the shares of variance (Roy & Vetterli 2007); NaN if constant."""

    @property
    def total(self) -> float:
        """The variance over all axes."""
        return float(self.variances.sum())

    @property
    def explained(self) -> NDArray[np.float64]:
        """(axis,): the share of the variance along each axis; NaN if constant."""
        with np.errstate(invalid="ignore"):
            shares: NDArray[np.float64] = self.variances / self.total
        return shares

    def components(self, fraction: float) -> int:
        """Return the fewest axes that hold at least a fraction, in (0, 1], of the variance.

        Raises
        ------
        InvalidInput
            The fraction does not lie in (0, 1].
        """
        if not is_a(fraction, int, float) or not 0 < fraction <= 1:
            raise InvalidInput(f"a share of the variance lies in (0, 1], not {fraction!r}")
        held = np.cumsum(self.variances)
        return min(int(np.searchsorted(held, fraction * held[-1])) + 1, len(held))


def spectrum_of_gram(rows: int, mean: NDArray[np.float64], gram: NDArray[np.float64]) -> Spectrum:
    """Return the spectrum from the mean of some rows, and the Gram matrix of them without it."""
    trace = float(np.trace(gram))
    if trace <= rows * _ROUNDING**2 * float(mean @ mean):
        return Spectrum(np.zeros(len(mean)), math.nan, math.nan)
    squares = np.maximum(linalg.eigvalsh(gram, check_finite=False)[::-1], 0.0)
    shares = squares[squares > 0] / squares.sum()
    return Spectrum(
        squares / (rows - 1),
        trace**2 / float(np.vdot(gram, gram)),
        math.exp(-float(np.sum(shares * np.log(shares)))),
    )
