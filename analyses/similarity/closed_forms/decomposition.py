"""What closed forms need of one space, worked out once however many spaces it is compared with."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from layerlake.analyses.similarity.closed_forms.centred_sums import SpaceSums
from layerlake.store.errors import InvalidInput

_ROUNDING: Final = 16 * 2.0**-52
"""A spread smaller than this share of the mean is rounding."""
SMALLEST_DIRECTION: Final = 1e-10
"""Directions with less than this share of the variance of a coordinate are not resolved by Grams
in float64: their rounding, at most about 1e-13, would show in three digits."""
_SMALLEST_COORDINATE: Final = 1e-14
"""Coordinates with less than this share of the mean variance of a coordinate are dead: some layer
norms have learned gains of 1e-30."""
_STORING: Final = 4.0
"""How many times larger than what storing alone would give it the variance of a direction must be
to count."""


class Axes(NamedTuple):
    """Principal axes of a space, by falling variance."""

    squares: NDArray[np.float64]
    """(axis,): sum over the rows of the squares along each axis, never below 0."""
    vectors: NDArray[np.float64]
    """(hidden, axis): orthonormal."""


@dataclass(frozen=True)
class Decomposition:
    """One space, with its decompositions, which are computed when first asked for and kept.

    Raises
    ------
    InvalidInput
        The sums are not those of a space: their shapes differ, or they are not finite.
    """

    sums: SpaceSums
    name: str = "the space"
    """What to call the space in messages."""
    stored: Any = np.float64
    """The dtype in which the rows were stored. Rounding to it gives every coordinate some variance
    of its own, which fills directions that the rows do not have: rows after a layer norm lie on a
    hyperplane, but not once they are float16. Such directions do not count (see `whitening`)."""

    def __post_init__(self) -> None:
        """Check the sums."""
        hidden = self.sums.mean.shape[0]
        if self.sums.gram.shape != (hidden, hidden) or self.sums.weighted.shape != (hidden,):
            raise InvalidInput(
                f"the sums of {self.name} are of shapes {self.sums.mean.shape}, "
                f"{self.sums.gram.shape} and {self.sums.weighted.shape}; give (hidden,), "
                "(hidden, hidden) and (hidden,)"
            )
        if not (np.isfinite(self.sums.gram).all() and np.isfinite(self.sums.mean).all()):
            raise InvalidInput(
                f"the sums of {self.name} hold NaN or infinity; leave out the rows that do"
            )

    @property
    def n_rows(self) -> int:
        """Rows summed over."""
        return self.sums.n_rows

    @cached_property
    def trace(self) -> float:
        """Sum of the squared distances of the rows from their mean."""
        return float(np.trace(self.sums.gram))

    @cached_property
    def square(self) -> float:
        """Sum of the squares of the Gram matrix, which is that of the rows x rows kernel."""
        return float(np.vdot(self.sums.gram, self.sums.gram))

    @cached_property
    def constant(self) -> bool:
        """Whether all rows are the same, up to rounding."""
        mean = self.sums.mean
        return self.trace <= self.n_rows * _ROUNDING**2 * float(mean @ mean)

    @cached_property
    def axes(self) -> Axes:
        """Principal axes: the eigenvectors of the Gram matrix."""
        squares, vectors = linalg.eigh(self.sums.gram, check_finite=False)
        return Axes(np.maximum(squares[::-1], 0.0), vectors[:, ::-1])

    def components(self, fraction: float) -> int:
        """Return how many principal axes hold at least that fraction of the variance."""
        held = np.cumsum(self.axes.squares)
        # Both sides are sums of squares: a share of the total, never a share of a share.
        return min(int(np.searchsorted(held, fraction * held[-1])) + 1, len(held))

    @cached_property
    def whitening(self) -> NDArray[np.float64]:
        """(hidden, rank): W with W' Gram W = 1, over the directions in which the rows vary.

        Coordinates are first scaled to variance one, so that a few loud ones do not drown the
        others in rounding; dead ones are left out. Directions count where they hold more than
        `SMALLEST_DIRECTION` of the variance of a coordinate and clearly more than storing the rows
        gave them; there are at most one fewer than rows.
        """
        gram, mean, rows = self.sums.gram, self.sums.mean, self.n_rows
        squares = np.diagonal(gram)
        dead = np.maximum(
            rows * (_ROUNDING * mean) ** 2, _SMALLEST_COORDINATE * self.trace / len(mean)
        )
        live = np.flatnonzero(squares > dead)
        scale = np.sqrt(squares[live])
        scaled = gram[np.ix_(live, live)]
        scaled /= scale
        scaled /= scale[:, None]
        # Transposed, since LAPACK overwrites columns; the matrix is symmetric.
        shares, vectors = linalg.eigh(scaled.T, overwrite_a=True, check_finite=False)
        del scaled
        # A stored value errs by at most u |x|, or half of the smallest step, uniformly: a variance
        # of at most a third of the square.
        unit, step = _rounding_of(self.stored)
        noise = unit**2 + rows * (unit**2 * mean[live] ** 2 + step**2) / squares[live]
        noise /= 3
        stored = np.einsum("j,jk,jk->k", noise, vectors, vectors)
        floor = np.maximum(SMALLEST_DIRECTION, _STORING * stored)
        kept = np.flatnonzero(shares > floor)[::-1][: max(rows - 1, 0)]
        vectors = vectors[:, kept]
        vectors /= np.sqrt(shares[kept])
        vectors /= scale[:, None]
        whitening = np.zeros((len(mean), len(kept)))
        whitening[live] = vectors
        return whitening

    @property
    def rank(self) -> int:
        """Directions in which the rows vary; see `whitening`."""
        return int(self.whitening.shape[1])


def _rounding_of(dtype: Any) -> tuple[float, float]:
    """Return the largest errors of rounding to a dtype of any library: relative, and near 0."""
    if isinstance(dtype, (str, type)):
        dtype = np.dtype(dtype)
    name = str(dtype).rpartition(".")[2]
    if name == "bfloat16":
        return 2.0**-8, 2.0**-134
    if np.dtype(name).kind != "f":
        return 0.0, 0.0  # whole numbers are what they are
    limits = np.finfo(name)
    return float(limits.eps) / 2, float(limits.smallest_subnormal) / 2
