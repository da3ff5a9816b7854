"""Canonical correlations of two spaces, averaged in four ways.

All are means over as many correlations as the smaller of both spaces has directions, its rank:
spaces may differ in width, and directions that a space does not have (rows after a layer norm lie
on a hyperplane; n rows span n - 1 directions at most) take no part. A share of them comes from
chance: with ranks r and s over n rows, r + s - (n - 1) correlations are 1 whatever the rows hold.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.pair import (
    Measured,
    SpacePair,
    singular_values,
    undefined,
)
from layerlake.store.errors import InvalidInput, is_a

SVCCA_FRACTION: Final = 0.99
"""The share of the variance that SVCCA keeps where nobody says (Raghu et al. 2017, section 2.1)."""
_FEW_ROWS: Final = 5
"""With fewer rows than this per direction canonical correlations are mostly chance."""


def mean_cca(pair: SpacePair) -> Measured:
    """Return the mean canonical correlation."""
    return _mean(pair, 1)


def mean_squared_cca(pair: SpacePair) -> Measured:
    """Return the mean squared canonical correlation, R^2_CCA (Kornblith et al. 2019, table 1).

    It is the share of the variance of the (whitened) smaller space that is linear in the other.
    """
    return _mean(pair, 2)


def svcca(pair: SpacePair, fraction: float = SVCCA_FRACTION) -> Measured:
    """Return the mean canonical correlation of the leading principal axes of both spaces.

    Parameters
    ----------
    pair
        Two spaces.
    fraction
        Of each space the fewest axes that hold at least this share of its variance (of its
        squared singular values) are kept.

    Raises
    ------
    InvalidInput
        The fraction does not lie in (0, 1].
    """
    if not is_a(fraction, int, float) or not 0 < fraction <= 1:
        raise InvalidInput(f"SVCCA keeps a share of the variance in (0, 1], not {fraction!r}")
    if fraction == 1:
        return mean_cca(pair)
    left, right = (_leading(space, fraction) for space in (pair.left, pair.right))
    values = singular_values(left.T @ pair.cross.product @ right)
    ranks = left.shape[1], right.shape[1]
    return Measured(float(np.minimum(values, 1.0).mean()), _cautions(pair, *ranks))


def pwcca(pair: SpacePair) -> Measured:
    """Return the projection-weighted mean canonical correlation (Morcos et al. 2018, section 3.1).

    The weight of a direction is the sum over coordinates of its absolute inner product with each.
    Weights are of the space of fewer directions, of the left one where both have as many, as in
    the authors' code: so the measure is not symmetric there.
    """
    ranks = pair.left.rank, pair.right.rank
    if not min(ranks):
        return _without_directions(pair)
    found = pair.canonical
    if ranks[0] <= ranks[1]:
        space, directions = pair.left, found.left
    else:
        space, directions = pair.right, found.right
    # X'h for h = X W u, whose length is one.
    projections = space.sums.gram @ (space.whitening @ directions)
    weights = np.abs(projections).sum(axis=0)
    return Measured(float(found.correlations @ weights / weights.sum()), _cautions(pair, *ranks))


def _mean(pair: SpacePair, power: int) -> Measured:
    """Return the mean of a power of the canonical correlations."""
    ranks = pair.left.rank, pair.right.rank
    if not min(ranks):
        return _without_directions(pair)
    return Measured(float((pair.correlations**power).mean()), _cautions(pair, *ranks))


def _leading(space: Decomposition, fraction: float) -> NDArray[np.float64]:
    """Return the leading axes of a space, whitened, (hidden, axis)."""
    count = space.components(fraction)
    squares, vectors = space.axes
    leading: NDArray[np.float64] = vectors[:, :count] / np.sqrt(squares[:count])
    return leading


def _without_directions(pair: SpacePair) -> Measured:
    """Say which space has no direction that is more than rounding."""
    space = pair.right if pair.left.rank else pair.left
    return undefined(
        f"{space.name} varies by no more than the rounding of its stored values, so canonical "
        "correlations are not defined"
    )


def _cautions(pair: SpacePair, left: int, right: int) -> tuple[str, ...]:
    """Say how much of the correlations is due to there being few rows."""
    rows = pair.left.n_rows
    forced = min(left + right - (rows - 1), left, right)
    few = f"{rows} rows are few for {left} and {right} directions"
    if forced > 0:
        least = min(left, right)
        return (f"{few}: {forced} of {least} canonical correlations are 1 whatever the rows hold",)
    enough = _FEW_ROWS * (left + right)
    if rows < enough:
        return (f"{few}: canonical correlations from fewer than {enough} are raised by chance",)
    return ()
