"""The lengths of rows, summed up in bounded memory: moments exactly, quantiles to a stated bound."""

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_FINEST_BITS: Final = 14
_MOST_BINS: Final = 2**16
"""Occupied bins kept; beyond them, bins become twice as wide."""
NORM_BYTES: Final = 6 * 16 * _MOST_BINS
"""Most bytes of a histogram while another one is merged into it."""
_MANTISSA_BITS: Final = 52


class NormStatistics(NamedTuple):
    """The Euclidean lengths of the rows of a space."""

    mean: float
    sd: float
    """Standard deviation over the rows, with n - 1; NaN for a single row."""
    lowest: float
    quartiles: tuple[float, float, float]
    """Lower quartile, median and upper quartile, interpolated as `numpy.quantile` does."""
    highest: float
    bound: float
    """Largest relative error of the quartiles; all else is exact."""


@dataclass(slots=True)
class NormHistogram:
    """Lengths in bins of equal relative width: the leading bits of their float64 values.

    Which bins are occupied does not depend on the order in which lengths come, so neither does
    the width of the bins in the end.
    """

    bits: int = _FINEST_BITS
    """Bits of the mantissa that tell bins apart."""
    keys: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(bin,): occupied bins, ascending."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(bin,): rows in each."""
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared differences from the mean."""
    lowest: float = math.inf
    highest: float = -math.inf

    @property
    def n_rows(self) -> int:
        """Lengths held."""
        return int(self.counts.sum())

    @classmethod
    def of(cls, lengths: NDArray[np.float64]) -> "NormHistogram":
        """Sum up some lengths, (row,) float64, finite and not negative."""
        if not len(lengths):
            return cls()
        bins = np.ascontiguousarray(lengths).view(np.int64) >> (_MANTISSA_BITS - _FINEST_BITS)
        keys, counts = np.unique(bins, return_counts=True)
        mean = float(lengths.mean())
        spread = float(np.sum((lengths - mean) ** 2))
        ends = float(lengths.min()), float(lengths.max())
        return cls(_FINEST_BITS, keys, counts.astype(np.int64), mean, spread, *ends)._coarse()

    def joined(self, other: "NormHistogram") -> "NormHistogram":
        """Return the histogram of both, over different rows (Chan et al. 1983)."""
        ours, theirs = self.n_rows, other.n_rows
        if not (ours and theirs):
            return self if ours else other
        rows, gap = ours + theirs, other.mean - self.mean
        bits = min(self.bits, other.bits)
        keys, counts = _grouped(
            np.concatenate([part.keys >> (part.bits - bits) for part in (self, other)]),
            np.concatenate([self.counts, other.counts]),
        )
        return NormHistogram(
            bits,
            keys,
            counts,
            self.mean + gap * theirs / rows,
            self.squares + other.squares + gap * gap * ours * theirs / rows,
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
        )._coarse()

    def statistics(self) -> NormStatistics:
        """Return what the lengths amount to; at least one is needed."""
        rows = self.n_rows
        low, middle, high = (self._quantile(share) for share in (0.25, 0.5, 0.75))
        sd = math.sqrt(self.squares / (rows - 1)) if rows > 1 else math.nan
        quartiles = low, middle, high
        bound = 2.0 ** -(self.bits + 1)
        return NormStatistics(self.mean, sd, self.lowest, quartiles, self.highest, bound)

    def _quantile(self, share: float) -> float:
        """Return a quantile, between two neighbours in order."""
        place = share * (self.n_rows - 1)
        before = math.floor(place)
        after = min(before + 1, self.n_rows - 1)
        ends = np.searchsorted(np.cumsum(self.counts), [before, after], side="right")
        one, other = (self._middle(int(self.keys[at])) for at in ends)
        return one + (place - before) * (other - one)

    def _middle(self, key: int) -> float:
        """Return the middle of a bin, within what was seen."""
        shift = _MANTISSA_BITS - self.bits
        edges = np.array([key << shift, (key + 1) << shift], np.int64).view(np.float64)
        return min(max(float(edges.mean()) if key else 0.0, self.lowest), self.highest)

    def _coarse(self) -> "NormHistogram":
        """Make bins wider until few enough are occupied."""
        while len(self.keys) > _MOST_BINS and self.bits:
            self.bits -= 1
            self.keys, self.counts = _grouped(self.keys >> 1, self.counts)
        return self


def _grouped(
    keys: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each key once, ascending, with the sum of its counts."""
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.add.reduceat(counts, first)
