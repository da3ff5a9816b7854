"""Distances between shapes: what is left of two spaces after the best rotation of one of them.

Rows are centred; spaces of different widths are compared as if the narrower had coordinates of
zeros. The nuclear norm ||X'Y||_* is the largest overlap <X Q, Y> over orthogonal Q, and also the
fidelity tr (K^1/2 L K^1/2)^1/2 of the rows x rows kernels, so Bures distances between kernels
are Procrustes distances between spaces (Harvey et al. 2023).
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.pair import (
    Measured,
    SpacePair,
    nuclear_norm,
    undefined,
)
from layerlake.store.errors import InvalidInput, is_a

_SMALLEST_AXIS: Final = 1e-13


def bures_similarity(pair: SpacePair) -> Measured:
    """Return ||X'Y||_* / (|X| |Y|), the normalised Bures similarity (Tang et al. 2020).

    Its arc cosine is the angular Procrustes distance.
    """
    return Measured(_cosine(pair.nuclear, pair.left.trace, pair.right.trace))


def procrustes_angle(pair: SpacePair) -> Measured:
    """Return the angle between both spaces after the best rotation (Williams et al. 2021, eq. 4).

    In radians, from 0 to pi / 2: the Riemannian shape distance. Angles below 3e-8 cannot be told
    from 0.
    """
    return Measured(math.acos(bures_similarity(pair).value))


def procrustes_distance(pair: SpacePair) -> Measured:
    """Return min |X Q - Y| over rotations and reflections, the size-and-shape distance.

    In the units of the stored values, summed over all rows: it grows with the root of their
    number. Distances below 3e-8 of the size of the spaces cannot be told from 0. The same number
    is the Bures distance between the rows x rows kernels.
    """
    left, right = pair.left.trace, pair.right.trace
    return Measured(math.sqrt(max(left + right - 2 * pair.nuclear, 0.0)))


def netrep_angle(pair: SpacePair, alpha: float) -> Measured:
    """Return the angle after partial whitening and the best rotation (Williams et al. 2021).

    Parameters
    ----------
    pair
        Two spaces.
    alpha
        Rows x become x (alpha + (1 - alpha) (X'X)^-1/2): 1 is the angular Procrustes distance, 0
        compares as canonical correlations do. Between them the weight of both parts depends on the
        units of the values and on the number of rows, as in the authors' package.

    Raises
    ------
    InvalidInput
        Alpha does not lie in [0, 1].
    """
    if not is_a(alpha, int, float) or not 0 <= alpha <= 1:
        raise InvalidInput(f"alpha of netrep lies in [0, 1], not {alpha!r}")
    if alpha == 1:
        return procrustes_angle(pair)
    for space in (pair.left, pair.right):
        if not space.rank:
            return undefined(
                f"{space.name} varies by no more than the rounding of its stored values, so it "
                "cannot be whitened"
            )
    if alpha == 0:
        overlap = float(pair.correlations.sum())
        return Measured(math.acos(_cosine(overlap, pair.left.rank, pair.right.rank)))
    left, right = _partly_whitened(pair.left, alpha), _partly_whitened(pair.right, alpha)
    overlap = nuclear_norm(left.transform.T @ pair.cross.product @ right.transform)
    return Measured(math.acos(_cosine(overlap, left.square, right.square)))


class _PartlyWhitened(NamedTuple):
    """A space of which the variances have been brought nearer to one another."""

    transform: NDArray[np.float64]  # (hidden, axis), along the principal axes
    square: float  # sum of the squares of the transformed rows


def _partly_whitened(space: Decomposition, alpha: float) -> _PartlyWhitened:
    """Return the transformation, over the directions in which the rows vary."""
    squares, vectors = space.axes
    # Axes that are no more than the rounding of the loudest one have no length to divide by.
    count = min(space.rank, int(np.sum(squares > _SMALLEST_AXIS * squares[0])))
    lengths = np.sqrt(squares[:count])
    weights = alpha + (1 - alpha) / lengths
    square = float(np.sum((weights * lengths) ** 2))
    return _PartlyWhitened(vectors[:, :count] * weights, square)


def _cosine(overlap: float, left: float, right: float) -> float:
    """Return an overlap over the lengths of both sides, given their squares."""
    return min(overlap / (math.sqrt(left) * math.sqrt(right)), 1.0)
