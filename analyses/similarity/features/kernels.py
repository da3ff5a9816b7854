"""Similarity kernels as features: every kernel here is K_ij = c + s (u_i . u_j + a_i + a_j).

A row x becomes a prepared row z (a unit row, a centred unit row, or the scaled row itself), and z
becomes u = z - mu for a fixed vector mu near the mean of the prepared rows, with one number a:

=============  ===================  =========================  ========  ===
kernel         z                    a                          c         s
=============  ===================  =========================  ========  ===
`cosine`       x / |x|              mu . u                     |mu|^2    1
`correlation`  centred, then unit   mu . u                     |mu|^2    1
`linear`       t x                  mu . u                     |mu|^2    1
`sqeuclidean`  t x                  -|u|^2 / 2                 0         -2
=============  ===================  =========================  ========  ===

Everything is float64. A Pearson correlation does not see c or |s|, and the signs of s cancel
between two spaces under one kernel. Subtracting mu is what keeps the numbers exact: with a mean
cosine of 0.9999 nearly all of K is c, and no float32 product of z would hold the rest.
"""

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.passes.arrays import Array, namespace, to_host
from layerlake.store.errors import InvalidInput, is_a

_ROUNDING: Final = 16 * 2.0**-52
"""A centred row shorter than this share of the row is rounding, so the row is constant."""
_GRID: Final = 2.0**9
"""Steps per unit of the scaled rows in which an origin is chosen: so few that products of stored
values of few digits add up without rounding, so many that the origin stays near the mean."""
LOUD_COORDINATES: Final = 64
"""Coordinates of largest variance, whose products with one another are summed in float64."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How a kernel prepares rows."""

    name: str
    unit: bool
    """Rows are scaled to length one; rows without a direction cannot take part."""
    centred: bool
    """The mean over hidden is taken off each row first."""
    distance: bool
    """The kernel is a squared distance: the same row twice gives 0."""


KERNELS: Final = {
    kernel.name: kernel
    for kernel in (
        Kernel("cosine", unit=True, centred=False, distance=False),
        Kernel("correlation", unit=True, centred=True, distance=False),
        Kernel("linear", unit=False, centred=False, distance=False),
        Kernel("sqeuclidean", unit=False, centred=False, distance=True),
    )
}


def kernel_named(name: str) -> Kernel:
    """Return the kernel of that name.

    Raises
    ------
    InvalidInput
        No kernel has that name.
    """
    if not is_a(name, str) or name not in KERNELS:
        raise InvalidInput(f"there is no kernel {name!r}; choose one of {', '.join(KERNELS)}")
    return KERNELS[name]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the features of one space are measured from."""

    kernel: Kernel
    origin: Array
    """mu, (hidden,) float64, in units of prepared rows."""
    scale: float
    """t, a power of two that brings rows of any magnitude to about length one; 1 for unit rows."""
    constant: float
    """c, what the features leave out of every entry of the (scaled) kernel."""
    loud: NDArray[np.int64]
    """(coordinate,): the coordinates of u that vary most, ascending."""

    @classmethod
    def at(cls, kernel: Kernel, origin: Array, scale: float, loud: NDArray[np.int64]) -> "Frame":
        """Build the frame with that origin, on a grid that keeps stored values exact.

        Values of few digits (float16) less an origin of many have products that float32 sums round
        the same way wherever they recur, and such errors add up instead of cancelling.
        """
        if not kernel.unit:
            origin = namespace(origin).round(origin * _GRID) / _GRID
        constant = 0.0 if kernel.distance else float(namespace(origin).vecdot(origin, origin))
        return cls(kernel, origin, scale, constant, loud)

    def same_as(self, other: "Frame") -> bool:
        """Say whether features in both frames are the same numbers, as in a pickled copy."""
        return self is other or (
            (self.kernel, self.scale, self.constant) == (other.kernel, other.scale, other.constant)
            and np.array_equal(to_host(self.origin), to_host(other.origin))
            and np.array_equal(self.loud, other.loud)
        )

    def moved(self, step: Array) -> "Frame":
        """Return the frame with its origin moved by a step, (hidden,) float64."""
        return Frame.at(self.kernel, self.origin + step, self.scale, self.loud)


class Features(NamedTuple):
    """The features of some rows of one space, float64."""

    u: Array
    """(row, hidden): prepared rows less the origin."""
    a: Array
    """(row,)."""
    own: Array
    """(row,): u_i . u_i + 2 a_i, the kernel of each row with itself less c (over s)."""
    usable: Array
    """(row,) bool: the row is finite and, for unit kernels, has a direction."""


class _Rows(NamedTuple):
    """Rows in float64, on the way to prepared rows."""

    rows: Array  # (row, hidden), centred where the kernel says so
    squares: Array  # (row,) squared lengths
    usable: Array  # (row,) bool


def _widened(rows: Array, kernel: Kernel) -> _Rows:
    """Copy rows to float64 (centred where asked) and find those that have no direction."""
    xp = namespace(rows)
    wide = xp.astype(rows, xp.float64)
    if not kernel.centred:
        squares = xp.vecdot(wide, wide)
        usable = xp.isfinite(squares)
        if kernel.unit:
            usable = usable & (squares > 0)
        return _Rows(wide, squares, usable)
    hidden = wide.shape[1]
    share = xp.full((hidden,), 1 / hidden, dtype=xp.float64, device=wide.device)
    means = xp.matmul(wide, share)
    wide -= means[:, None]
    squares = xp.vecdot(wide, wide)
    floor = _ROUNDING**2 * (squares + hidden * means * means)
    return _Rows(wide, squares, xp.isfinite(squares) & (squares > floor))


def prepare(rows: Array, frame: Frame) -> Features:
    """Turn rows into the features of a kernel.

    Parameters
    ----------
    rows
        (row, hidden), any real floating dtype; not changed. On a CPU pass a few dozen rows at a
        time, so that the intermediate float64 rows stay in the cache.
    frame
        The kernel and the origin.

    Returns
    -------
    Features
        Rows that are not `usable` hold arbitrary numbers.
    """
    xp = namespace(rows)
    kernel, origin = frame.kernel, frame.origin
    u, squares, usable = _widened(rows, kernel)
    if kernel.distance:
        u *= frame.scale
        u -= origin
        a = xp.vecdot(u, u) * -0.5
        return Features(u, a, xp.zeros_like(a), usable)
    if kernel.unit:
        # 1 where there is no direction, so that no division warns; such rows are dropped later.
        factor = 1 / xp.sqrt(xp.where(usable, squares, xp.ones_like(squares)))
        own = xp.full_like(squares, 1 - frame.constant)
    else:
        factor = xp.full_like(squares, frame.scale)
        own = squares * frame.scale**2 - frame.constant
    # mu . u as mu . z - |mu|^2: one product fewer, and exact to 1e-16 of a unit row.
    a = xp.matmul(u, origin) * factor - frame.constant
    u *= factor[:, None]
    u -= origin
    return Features(u, a, own, usable)


def frame_of(sample: Array, kernel: Kernel) -> Frame:
    """Choose the origin and the scale from a sample of the rows that a pass will read.

    Parameters
    ----------
    sample
        (row, hidden), spread evenly over the rows of the pass: with an origin from elsewhere the
        algebra still holds but float32 products lose digits.
    kernel
        The kernel.
    """
    xp = namespace(sample)
    wide, squares, usable = _widened(sample, kernel)
    count = max(int(xp.sum(xp.astype(usable, xp.int64))), 1)
    weights = xp.astype(usable, xp.float64) / count
    wide = xp.where(usable[:, None], wide, xp.zeros_like(wide))
    if kernel.unit:
        lengths = xp.sqrt(xp.where(usable, squares, xp.ones_like(squares)))
        wide /= lengths[:, None]
    mean = xp.matmul(weights, wide)
    wide -= mean
    wide *= wide
    variances = xp.matmul(weights, wide)
    loud = np.sort(np.argsort(to_host(-variances), kind="stable")[:LOUD_COORDINATES])
    if kernel.unit:
        return Frame.at(kernel, mean, 1.0, loud)
    size, square = float(xp.sum(variances)), float(xp.vecdot(mean, mean))
    same = size <= _ROUNDING**2 * square
    scale = 2.0 ** -round(math.log2((square if same else size) or 1.0) / 2)
    frame = Frame.at(kernel, mean * scale, scale, loud)
    if not same:
        return frame
    # Beside rows that vary by rounding alone the grid would be far from the mean.
    constant = 0.0 if kernel.distance else square * scale**2
    return replace(frame, origin=mean * scale, constant=constant)
