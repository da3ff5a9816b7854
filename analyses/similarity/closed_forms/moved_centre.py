"""Arithmetic of centred sums: seen from another centre, and less a part.

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


def without(whole: CentredSums, part: CentredSums) -> CentredSums:
    """Return the sums over the rows of a whole that are not in a part of it.

    At least one row must be left. Rounding is that of the whole.
    """
    n_whole, n_part = whole.spaces[0].n_rows, part.spaces[0].n_rows
    rows = n_whole - n_part
    if rows < 1:
        raise ValueError(f"{n_part} rows taken from {n_whole} leave none")
    from_whole, from_part = [], []
    for a, b in zip(whole.spaces, part.spaces, strict=True):
        gap = b.mean - a.mean
        # The new mean is a.mean - n_part / rows gap; each step leads from it to the old ones.
        from_whole.append(gap * (n_part / rows))
        from_part.append(gap * (n_whole / rows))
    spaces = tuple(
        _less(_moved_space(a, step_a), _moved_space(b, step_b), a.mean - step_a)
        for a, b, step_a, step_b in zip(
            whole.spaces, part.spaces, from_whole, from_part, strict=True
        )
    )
    crosses = {
        (s, t): _less_cross(
            _moved_cross(cross, whole.spaces[s], whole.spaces[t], from_whole[s], from_whole[t]),
            _moved_cross(
                part.crosses[s, t], part.spaces[s], part.spaces[t], from_part[s], from_part[t]
            ),
        )
        for (s, t), cross in whole.crosses.items()
    }
    return CentredSums(spaces, crosses)


def _less(whole: SpaceSums, part: SpaceSums, mean: NDArray[np.float64]) -> SpaceSums:
    """Subtract sums that are seen from the same centre."""
    rows, gram = whole.n_rows - part.n_rows, whole.gram - part.gram
    if np.trace(gram) <= _LEFT_OVER * np.trace(whole.gram):
        # The rows left are all the same; what remains of the sums is the rounding of the whole.
        return SpaceSums(rows, mean, np.zeros_like(gram), np.zeros_like(mean), 0.0)
    return SpaceSums(
        rows,
        mean,
        gram,
        whole.weighted - part.weighted,
        whole.squares - part.squares,
    )


def _less_cross(whole: CrossSums, part: CrossSums) -> CrossSums:
    """Subtract sums that are seen from the same centres."""
    return CrossSums(
        whole.product - part.product,
        whole.left - part.left,
        whole.right - part.right,
        whole.squares - part.squares,
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
