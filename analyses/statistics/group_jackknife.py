"""Jackknife over groups of clusters, for statistics that are costly to recompute (Kott 2001)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from layerlake.analyses.statistics.jackknife import RESOLUTION, Interval, jackknife
from layerlake.store.errors import InvalidInput, is_a

GROUPS: Final = 20
"""Groups where nobody says: Student's t on 19 degrees of freedom is 7 % wider than the normal, and
each group costs a decomposition."""


def even_groups(lengths: NDArray[np.int64], n_groups: int = GROUPS) -> NDArray[np.int64]:
    """Deal clusters into groups of neighbours with about as many rows each.

    Parameters
    ----------
    lengths
        (cluster,): rows of each.
    n_groups
        Groups wished for; fewer where there are fewer clusters, or where clusters are so long that
        a group would be empty.

    Returns
    -------
    ndarray
        (cluster,) int64: the group of each, ascending from 0 without gaps.

    Raises
    ------
    InvalidInput
        Fewer than two groups are asked for.
    """
    if not is_a(n_groups, int, np.integer) or n_groups < 2:
        raise InvalidInput(f"{n_groups!r} groups leave nothing to compare; ask for 2 or more")
    # The middle of each cluster among the rows says which group it falls in.
    middles = np.cumsum(lengths) - np.asarray(lengths) / 2
    total = max(float(np.sum(lengths)), 1.0)
    groups = np.minimum((middles * n_groups / total).astype(np.int64), n_groups - 1)
    found: NDArray[np.int64] = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return found


def interval_within(
    value: float, deleted: NDArray[np.float64], confidence: float
) -> Interval | None:
    """Return the interval of a number in [-1, 1].

    None where it is 1 (or -1) without some group and not with it: on atanh there is no saying how
    far that is, and the interval would be all there is.
    """
    edge = 1 - RESOLUTION
    if abs(value) < edge and bool((np.abs(deleted) >= edge).any()):
        return None
    return jackknife(value, deleted, confidence)


def interval_on_logarithms(
    value: float, deleted: NDArray[np.float64], confidence: float
) -> Interval | None:
    """Return the jackknife interval of a positive number on its logarithm."""
    if not value > 0 or not (deleted > 0).all():  # NaN is not above 0 either
        return None
    logs = np.log(deleted)
    count = len(logs)
    spread = float(np.sum((logs - logs.mean()) ** 2)) * (count - 1) / count
    reach = float(stdtrit(count - 1, 0.5 + confidence / 2)) * math.sqrt(spread)
    return Interval(value * math.exp(-reach), value * math.exp(reach))
