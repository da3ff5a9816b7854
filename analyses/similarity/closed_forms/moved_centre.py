"""Arithmetic of centred sums: seen from another centre, joined with others, less a part.

A row x seen from a centre that lies d before its old one is x + d, and its squared length is
p + 2 d.x + |d|^2; all sums follow, since the centred rows themselves add up to 0.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.closed_forms.centred_sums import CrossSums, SpaceSums
from layerlake.analyses.similarity.closed_forms.centring import CentredSums

_LEFT_OVER: Final = 1e-13
"""A difference smaller than this share of what it is the difference of is rounding."""


def joined(one: CentredSums, other: CentredSums) -> CentredSums:
    """Return the sums over the rows of both, which share no row."""
    return _combined(one, other, 1)


def without(whole: CentredSums, part: CentredSums) -> CentredSums:
    """Return the sums over the rows of a whole that are not in a part of it.

    At least one row must be left. Rounding is that of the whole.
    """
    return _combined(whole, part, -1)


def _combined(one: CentredSums, other: CentredSums, sign: int) -> CentredSums:
    """Move both to the centre of what they amount to, and add or subtract."""
    n_ours, n_theirs = one.spaces[0].n_rows, other.spaces[0].n_rows
    rows = n_ours + sign * n_theirs
    if rows < 1:
        raise ValueError(f"{n_theirs} rows taken from {n_ours} leave none")
    ours, theirs = [], []
    for a, b in zip(one.spaces, other.spaces, strict=True):
        gap = b.mean - a.mean
        # The new mean is a.mean + sign n_b / rows gap; each step leads from it to the old ones.
        ours.append(gap * (-sign * n_theirs / rows))
        theirs.append(gap * (n_ours / rows))
    spaces = tuple(
        _added(_moved_space(a, step_a), _moved_space(b, step_b), a.mean - step_a, sign)
        for a, b, step_a, step_b in zip(one.spaces, other.spaces, ours, theirs, strict=True)
    )
    crosses = {
        (s, t): _added_cross(
            _moved_cross(cross, one.spaces[s], one.spaces[t], ours[s], ours[t]),
            _moved_cross(
                other.crosses[s, t], other.spaces[s], other.spaces[t], theirs[s], theirs[t]
            ),
            sign,
        )
        for (s, t), cross in one.crosses.items()
    }
    return CentredSums(spaces, crosses)


def _added(one: SpaceSums, other: SpaceSums, mean: NDArray[np.float64], sign: int) -> SpaceSums:
    """Add or subtract sums that are seen from the same centre."""
    rows, gram = one.n_rows + sign * other.n_rows, one.gram + sign * other.gram
    if np.trace(gram) <= _LEFT_OVER * np.trace(one.gram):
        # The rows left are all the same; what remains of the sums is the rounding of the whole.
        return SpaceSums(rows, mean, np.zeros_like(gram), np.zeros_like(mean), 0.0)
    return SpaceSums(
        rows,
        mean,
        gram,
        one.weighted + sign * other.weighted,
        one.squares + sign * other.squares,
    )


def _added_cross(one: CrossSums, other: CrossSums, sign: int) -> CrossSums:
    """Add or subtract sums that are seen from the same centres."""
    return CrossSums(
        one.product + sign * other.product,
        one.left + sign * other.left,
        one.right + sign * other.right,
        one.squares + sign * other.squares,
    )


def _moved_space(sums: SpaceSums, step: NDArray[np.float64]) -> SpaceSums:
    """Return the sums of x + step."""
    n, square = sums.n_rows, float(step @ step)
    trace, turned = float(np.trace(sums.gram)), sums.gram @ step
    return SpaceSums(
        n,
        sums.mean,
        sums.gram + n * np.outer(step, step),
        sums.weighted + (trace + n * square) * step + 2 * turned,
        sums.squares
        + 4 * float(step @ sums.weighted)
        + 2 * square * trace
        + 4 * float(step @ turned)
        + n * square**2,
    )


def _moved_cross(
    cross: CrossSums,
    left: SpaceSums,
    right: SpaceSums,
    step: NDArray[np.float64],
    other: NDArray[np.float64],
) -> CrossSums:
    """Return the sums of x + step with y + other."""
    n = left.n_rows
    p, q = float(np.trace(left.gram)), float(np.trace(right.gram))
    square, other_square = float(step @ step), float(other @ other)
    turned, other_turned = cross.product.T @ step, cross.product @ other
    return CrossSums(
        cross.product + n * np.outer(step, other),
        cross.left + (q + n * other_square) * step + 2 * other_turned,
        cross.right + (p + n * square) * other + 2 * turned,
        cross.squares
        + 2 * float(other @ cross.right)
        + 2 * float(step @ cross.left)
        + 4 * float(turned @ other)
        + other_square * p
        + square * q
        + n * square * other_square,
    )
