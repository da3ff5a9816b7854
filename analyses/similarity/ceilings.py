"""Noise ceilings: how well any model could do, given how much the spaces of one kind differ.

With the kernels of M spaces (seeds, subjects) standardised, the best model of all is their mean,
and its mean correlation with them is the upper end (Nili et al. 2014, "A toolbox for
representational similarity analysis"); the mean of the others is a model that could be known
beforehand, and its correlation with the one left out the lower end. Both follow from the matrix of
correlations between the spaces alone: with R standardised kernels' inner products,
r(k_i, sum_j k_j) = sum_j R_ij / sqrt(sum_jk R_jk).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput

_ROUNDING = 1e-6
"""How far from a correlation matrix the rounding of correlations may lead."""


@dataclass(frozen=True, slots=True)
class NoiseCeiling:
    """Between which correlations with M spaces the best model is expected."""

    lower: float
    """Mean correlation of each space with the mean of the others; NaN where not defined."""
    upper: float
    """Mean correlation of each space with the mean of all; NaN where not defined."""
    n_spaces: int
    n_groups: int
    """What is left out at a time: spaces, or groups of them."""
    notes: tuple[str, ...]
    """Why a number is missing."""


def noise_ceiling(
    matrix: NDArray[np.float64], groups: NDArray[np.int64] | None = None
) -> NoiseCeiling:
    """Compute both ends from the correlations between spaces.

    Parameters
    ----------
    matrix
        (space, space): Pearson correlations of the kernels over the same pairs of rows, ones on
        the diagonal; or their cosines, for a ceiling of cosines.
    groups
        (space,): spaces that are left out together, such as the sessions of one subject; None
        where each is its own.

    Raises
    ------
    InvalidInput
        The matrix is no matrix of correlations, or there are fewer than two groups.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InvalidInput(
            f"the correlations have the shape {matrix.shape}; give a square matrix, every space "
            "with every space"
        )
    n_spaces = len(matrix)
    labels = np.arange(n_spaces) if groups is None else np.asarray(groups)
    if labels.shape != (n_spaces,):
        raise InvalidInput(f"{labels.size} groups are given for {n_spaces} spaces; give one each")
    found = np.unique(labels)
    if len(found) < 2:
        raise InvalidInput(
            f"{len(found)} space or group is too few for a noise ceiling; give at least 2"
        )
    if np.isnan(matrix).any():
        reason = "a correlation between two of the spaces is not defined"
        return NoiseCeiling(math.nan, math.nan, n_spaces, len(found), (reason,))
    if (
        np.abs(matrix - matrix.T).max() > _ROUNDING
        or np.abs(np.diagonal(matrix) - 1).max() > _ROUNDING
        or np.abs(matrix).max() > 1 + _ROUNDING
    ):
        raise InvalidInput(
            "the matrix is not one of correlations; give a symmetric one with ones on its diagonal"
        )
    notes = []
    lower, upper = [], []
    for group in found:
        members = labels == group
        others = ~members
        lower.append(_with_mean(matrix[np.ix_(members, others)], matrix[np.ix_(others, others)]))
        upper.append(_with_mean(matrix[members], matrix))
    ends = float(np.mean(lower)), float(np.mean(upper))
    if math.isnan(sum(ends)):
        notes.append(
            "the standardised kernels of the spaces cancel, so their mean has no direction"
        )
    return NoiseCeiling(*ends, n_spaces, len(found), tuple(notes))


def _with_mean(rows: NDArray[np.float64], among: NDArray[np.float64]) -> float:
    """Return the mean correlation of some spaces with the mean of others, NaN without a direction.

    `rows` holds the correlations with those others, `among` those among the others.
    """
    length = float(among.sum())
    if length <= _ROUNDING * len(among):
        return math.nan
    return float(rows.sum(axis=1).mean()) / math.sqrt(length)
