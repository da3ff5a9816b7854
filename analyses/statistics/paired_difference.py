"""The difference between two values from the same rows, with a paired confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from layerlake.analyses.statistics.jackknife import RESOLUTION
from layerlake.engine.settings import check_confidence
from layerlake.store.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much larger the first of two correlations is than the second."""

    value: float
    """First less second; NaN where one is not defined."""
    low: float | None
    """Lower end of the interval; None where there is none."""
    high: float | None
    p_value: float | None
    """Two-sided, of no difference; below 1 - confidence where the interval leaves 0 out."""
    atanh_value: float | None
    """The difference of atanh r, which is what the jackknife tests."""
    atanh_error: float | None
    """Its standard error."""
    n_clusters: int
    """Clusters left out one at a time."""
    notes: tuple[str, ...]
    """Why something is missing."""


def paired_difference(
    first: float,
    first_deleted: NDArray[np.float64],
    second: float,
    second_deleted: NDArray[np.float64],
    confidence: float = 0.95,
) -> PairedDifference:
    """Compare two correlations by leaving out the same clusters from both.

    The jackknife, with Student's t, is taken on the difference of atanh r. The interval is told in
    units of r by letting that difference vary about the mean of both atanh r.

    Parameters
    ----------
    first, second
        The correlations over all clusters.
    first_deleted, second_deleted
        (cluster,): each with every cluster left out, the same clusters in the same order, without
        those that have no rows; from `rsa_value.deleted_between` or `rsa_value.deleted_all`.
    confidence
        Nominal coverage.

    Raises
    ------
    InvalidInput
        The clusters left out cannot be the same ones, or `confidence` means nothing.
    """
    if first_deleted.shape != second_deleted.shape:
        raise InvalidInput(
            f"{len(first_deleted)} clusters were left out of one correlation and "
            f"{len(second_deleted)} of the other; compare both over the same rows"
        )
    check_confidence(confidence)
    n_clusters = len(first_deleted)

    def without(reason: str) -> PairedDifference:
        """Return the difference alone."""
        return PairedDifference(first - second, *(None,) * 5, n_clusters, (reason,))

    both = np.stack([first_deleted, second_deleted])
    if math.isnan(first) or math.isnan(second):
        return without("one of the correlations is not defined")
    if max(abs(first), abs(second)) >= 1 - RESOLUTION:
        return without("a correlation cannot be told from 1, so its spread says nothing")
    if n_clusters < 2 or np.isnan(both).any():
        return without("with a cluster left out too little remains to be correlated")
    edge = math.nextafter(1.0, 0.0)
    left = np.arctanh(np.clip(both, -edge, edge))
    differences = left[0] - left[1]
    error = math.sqrt(
        np.sum((differences - differences.mean()) ** 2) * (n_clusters - 1) / n_clusters
    )
    z, centre = math.atanh(first) - math.atanh(second), math.atanh(first) + math.atanh(second)
    if error <= RESOLUTION * max(1.0, abs(centre)):
        return without("both correlations change alike whichever cluster is left out")
    reach = float(stdtrit(n_clusters - 1, 0.5 + confidence / 2)) * error

    def in_r(difference: float) -> float:
        """Return the difference in r of a difference in atanh r about the same mean."""
        return math.tanh((centre + difference) / 2) - math.tanh((centre - difference) / 2)

    return PairedDifference(
        first - second,
        in_r(z - reach),
        in_r(z + reach),
        2 * float(stdtr(n_clusters - 1, -abs(z) / error)),
        z,
        error,
        n_clusters,
        (),
    )
