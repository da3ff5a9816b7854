"""Jackknife over clusters (Tukey 1958), on a transformed scale without bounds."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

RESOLUTION: Final = 1e-8
"""How far from 1 (or -1) a correlation must be to be told from it."""
FEW_CLUSTERS: Final = 100
"""Below this many clusters the interval is too narrow to be taken at its word."""
ONE_CLUSTER: Final = "all rows come from one cluster, so there is no interval"
"""Why values have none."""


class Interval(NamedTuple):
    """A confidence interval of a correlation."""

    low: float
    high: float


def jackknife(r: float, deleted: NDArray[np.float64], confidence: float) -> Interval | None:
    """Return the delete-one-cluster jackknife interval of a correlation.

    Parameters
    ----------
    r
        The correlation over all clusters.
    deleted
        (cluster,): the correlation with each cluster left out; clusters without rows excluded.
    confidence
        Coverage, between 0 and 1.

    Returns
    -------
    Interval or None
        None where fewer than two clusters are left, or leaving one out leaves no correlation. A
        correlation that cannot be told from 1 or -1 has the interval from itself to that number.
    """
    n_clusters = len(deleted)
    if n_clusters < 2 or math.isnan(r) or bool(np.isnan(deleted).any()):
        return None
    if 1 - abs(r) <= RESOLUTION:
        return Interval(r, 1.0) if r > 0 else Interval(-1.0, r)
    # The largest double below 1 keeps atanh finite where one cluster makes all the difference.
    edge = math.nextafter(1.0, 0.0)
    reach = _reach(np.arctanh(np.clip(deleted, -edge, edge)), confidence)
    centre = math.atanh(r)
    return Interval(math.tanh(centre - reach), math.tanh(centre + reach))


def jackknife_positive(
    value: float, deleted: NDArray[np.float64], confidence: float
) -> Interval | None:
    """Return the jackknife interval of a number above 0, such as a mean length, on its logarithm.

    Parameters as `jackknife`; None where there are fewer than two clusters, or one of the numbers
    is not above 0.
    """
    if len(deleted) < 2 or not (value > 0 and bool((deleted > 0).all())):
        return None
    factor = math.exp(_reach(np.log(deleted), confidence))
    return Interval(value / factor, value * factor)


def _reach(deleted: NDArray[np.float64], confidence: float) -> float:
    """Return half the width of the interval from numbers with each cluster left out."""
    n_clusters = len(deleted)
    variance = np.sum((deleted - deleted.mean()) ** 2) * (n_clusters - 1) / n_clusters
    return float(stdtrit(n_clusters - 1, 0.5 + confidence / 2)) * math.sqrt(variance)


def few_clusters(n_clusters: int) -> str:
    """Say that intervals from fewer than `FEW_CLUSTERS` clusters are not to be taken at their word."""
    return (
        f"{n_clusters} clusters are few: intervals from fewer than {FEW_CLUSTERS} tend to be too "
        "narrow"
    )
