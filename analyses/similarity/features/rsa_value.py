"""From sums over pairs to correlations, and from clusters left out to intervals.

Two numbers are estimated. *r_all* is the correlation over all pairs of rows, and depends on how
many rows each cluster gave; *r_between* is that over pairs of rows from different clusters. The
interval of both is the delete-one-cluster jackknife on atanh r, with Student's t on one degree of
freedom fewer than there are clusters, mapped back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.features.moments import PairSums
from layerlake.analyses.statistics.jackknife import FEW_CLUSTERS, Interval, few_clusters, jackknife

MOST_ROUNDING: Final = 1e10
"""How often larger than the spread of a kernel its squares may be: beyond it, the spread is what
float64 left of a constant."""


@dataclass(frozen=True, slots=True)
class RsaValue:
    """One comparison of two spaces."""

    r_all: float
    """Correlation over all pairs of rows; NaN where a kernel does not vary."""
    r_all_low: float | None
    """Lower end of the interval of `r_all`; None where there is no interval."""
    r_all_high: float | None
    r_between: float | None
    """Correlation over pairs of rows from different clusters; None where it is not defined."""
    r_between_low: float | None
    r_between_high: float | None
    n_clusters: int
    """Clusters that the rows come from."""
    notes: tuple[str, ...]
    """Sentences about what to be careful with."""


def correlation(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Pearson's r from sums over pairs.

    Parameters
    ----------
    sums
        (6, ...): count, k, l, kk, ll, kl.

    Returns
    -------
    ndarray
        (...), within [-1, 1]; NaN where either side does not vary or there are no pairs.
    """
    count, k, l, kk, ll, kl = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = kl / count - (k / count) * (l / count)
        variance_k = kk / count - (k / count) ** 2
        variance_l = ll / count - (l / count) ** 2
        r = covariance / (np.sqrt(variance_k) * np.sqrt(variance_l))
    r = np.where((count > 0) & (variance_k > 0) & (variance_l > 0), r, np.nan)
    clipped: NDArray[np.float64] = np.clip(r, -1.0, 1.0)
    return clipped


def cosine(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of two kernels (taken as vectors of pairs) from sums over pairs.

    Parameters
    ----------
    sums
        (6, ...): count, k, l, kk, ll, kl.

    Returns
    -------
    ndarray
        (...), within [-1, 1]; NaN where either side is zero or there are no pairs.
    """
    count, _k, _l, kk, ll, kl = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = kl / (np.sqrt(kk) * np.sqrt(ll))
    ratio = np.where((count > 0) & (kk > 0) & (ll > 0), ratio, np.nan)
    clipped: NDArray[np.float64] = np.clip(ratio, -1.0, 1.0)
    return clipped


SCORES: Final = {"pearson": correlation, "cosine": cosine}
"""Comparisons of two kernels that are a function of sums over pairs."""


def between(sums: PairSums) -> NDArray[np.float64]:
    """Return the sums over pairs of rows from different clusters, (6,)."""
    rest: NDArray[np.float64] = sums.total - sums.within.sum(axis=1)
    if rest[0] == 0:  # one cluster: what is left of the other sums is rounding
        rest = np.zeros_like(rest)
    return rest


def deleted_all(
    sums: PairSums, leaving: NDArray[np.float64], score: str = "pearson"
) -> NDArray[np.float64]:
    """Return r_all with each cluster left out, (cluster,).

    Parameters
    ----------
    sums
        Sums over the pairs.
    leaving
        (6, cluster): count, k, l, kk, ll, kl over ordered pairs (i, j) of two rows with i in the
        cluster.
    score
        `pearson` or `cosine`.
    """
    # Ordered pairs that touch a cluster: those from it and those to it, less those in it twice.
    return SCORES[score](sums.total[:, None] - 2 * leaving + sums.within)


def deleted_between(
    sums: PairSums, leaving: NDArray[np.float64], score: str = "pearson"
) -> NDArray[np.float64]:
    """Return r_between with each cluster left out, (cluster,); parameters as `deleted_all`."""
    return SCORES[score](between(sums)[:, None] - 2 * (leaving - sums.within))


def deleted_values(
    sums: PairSums, leaving: NDArray[np.float64], score: str = "pearson"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return r_all and r_between with each cluster that has rows left out, (cluster,).

    `leaving` is (5, cluster): the sums of `deleted_all` without the count.
    """
    left = sums.sizes > 0
    by_cluster = np.concatenate([(sums.sizes * (sums.sizes.sum() - 1.0))[None], leaving])
    return (
        deleted_all(sums, by_cluster, score)[left],
        deleted_between(sums, by_cluster, score)[left],
    )


def spread(sums: NDArray[np.float64]) -> tuple[float, float]:
    """Return the sums of squares of both kernels about their means, from sums over pairs (6,)."""
    count, k, l, kk, ll, _kl = sums.tolist()
    return (kk - k * k / count, ll - l * l / count) if count else (0.0, 0.0)


def cancellation(sums: PairSums) -> tuple[float, float]:
    """Return how often larger than its spread the squared products of each kernel are.

    A rounding of the products shows in r so many times larger than it is.
    """
    left, right = spread(sums.total)
    return _ratio(sums.norms[0], left), _ratio(sums.norms[1], right)


def _ratio(size: float, part: float) -> float:
    """Return size / part, infinite where nothing is left of the part."""
    return size / part if part > 0 else math.inf


def value_of(
    sums: PairSums,
    leaving: NDArray[np.float64] | None,
    *,
    interval: str,
    confidence: float,
    kernel: str,
    score: str = "pearson",
    constant: Sequence[str] = (),
    distance: bool = True,
) -> RsaValue:
    """Turn the sums of a comparison into its value.

    Parameters
    ----------
    sums
        Sums over the pairs.
    leaving
        (5, cluster): k, l, kk, ll, kl over ordered pairs (i, j) of two rows with i in the cluster;
        None without an interval, or where both spaces are the same and nothing is needed.
    interval
        What the intervals leave out at a time: `cluster`, `rows` or `none`.
    confidence
        Nominal coverage of the intervals.
    kernel
        What the kernel is called in notes.
    score
        `pearson` or `cosine`.
    constant
        Names of the spaces whose kernel is the same for all pairs of rows (zero, for `cosine`):
        where there are any, the score is not defined.
    distance
        Whether what `cosine` compares are dissimilarities, and not kernels as they are.
    """
    left = sums.sizes > 0
    n_rows, n_clusters = int(sums.sizes.sum()), int(left.sum())
    rest = between(sums)
    notes = []
    statistic = SCORES[score]
    r_all = 1.0 if sums.same else float(statistic(sums.total))
    for name in dict.fromkeys(constant):
        r_all = math.nan
        notes.append(
            f"the {kernel} kernel of {name} is the same for all pairs of rows, so nothing can be "
            "correlated with it"
            if score == "pearson" or not distance
            else f"all dissimilarities of {name} are zero, so nothing can be compared with them"
        )
    r_between: float | None = None
    if sums.same and not constant:
        notes.append("both spaces hold the same values, bit for bit")
    if constant:
        interval = "none"  # what is not defined has none
    elif n_clusters < 2:
        notes.append("all rows come from one cluster, so there are no pairs between clusters")
    elif score == "pearson" and max(_noise(sums, rest)) > MOST_ROUNDING:
        notes.append("a kernel does not vary between clusters, so r_between is not defined")
    else:
        r_between = 1.0 if sums.same else float(statistic(rest))
    all_ends: Interval | None = None
    between_ends: Interval | None = None
    if interval != "none" and n_clusters > 1:
        if sums.same:
            all_ends = Interval(1.0, 1.0)
            between_ends = all_ends if r_between is not None else None
        elif leaving is not None:
            by_cluster = np.concatenate([(sums.sizes * (n_rows - 1.0))[None], leaving])
            all_ends = jackknife(r_all, deleted_all(sums, by_cluster, score)[left], confidence)
            if r_between is not None:
                between_ends = jackknife(
                    r_between, deleted_between(sums, by_cluster, score)[left], confidence
                )
        if all_ends is None or (r_between is not None and between_ends is None):
            notes.append(
                "with a cluster left out too little remains to be correlated, "
                "so an interval is missing"
            )
        if n_clusters < FEW_CLUSTERS:
            notes.append(few_clusters(n_clusters))
    return RsaValue(
        r_all=r_all,
        r_all_low=all_ends.low if all_ends else None,
        r_all_high=all_ends.high if all_ends else None,
        r_between=r_between,
        r_between_low=between_ends.low if between_ends else None,
        r_between_high=between_ends.high if between_ends else None,
        n_clusters=n_clusters,
        notes=tuple(notes),
    )


def _noise(sums: PairSums, over: NDArray[np.float64]) -> tuple[float, float]:
    """Return how often larger than its spread over some pairs what each kernel is made of is."""
    left, right = spread(over)
    sizes = [max(norm, float(all_)) for norm, all_ in zip(sums.norms, sums.total[3:5], strict=True)]
    return _ratio(sizes[0], left), _ratio(sizes[1], right)


Deletions: TypeAlias = dict[Pair, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""(cluster,) values with each cluster that has rows left out: over all pairs of rows, and over
those between clusters."""
