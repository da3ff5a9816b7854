"""Resampled clusters: which are drawn, their sums over pairs, and the intervals that follow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.rsa_value import correlation
from layerlake.analyses.similarity.tiles.cluster_sums import ClusterSums, Quantity
from layerlake.analyses.statistics.bootstrap import percentile_interval
from layerlake.analyses.statistics.jackknife import FEW_CLUSTERS, Interval, few_clusters

PANEL: Final = 256
"""Clusters, and resamples, that are multiplied at a time: their products stay in a CPU's cache."""

Score: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Turns sums over pairs, (6, ...): count, k, l, kk, ll, kl, into a comparison, (...)."""


@dataclass(frozen=True, slots=True)
class Resamples:
    """Sums over ordered pairs of rows in every resample; the first is the clusters as they are."""

    keys: tuple[Quantity, ...]
    counts: NDArray[np.float64]
    """(2, 1 + resample): pairs between clusters, pairs within clusters."""
    sums: NDArray[np.float64]
    """(2, quantity, 1 + resample)."""

    def between(self, s: int, t: int) -> NDArray[np.float64]:
        """Return count, k, l, kk, ll, kl over pairs between clusters, (6, 1 + resample)."""
        return self._six(self.counts[0], self.sums[0], s, t)

    def all(self, s: int, t: int) -> NDArray[np.float64]:
        """Return count, k, l, kk, ll, kl over all pairs, (6, 1 + resample)."""
        return self._six(self.counts.sum(axis=0), self.sums.sum(axis=0), s, t)

    def _six(
        self, counts: NDArray[np.float64], sums: NDArray[np.float64], s: int, t: int
    ) -> NDArray[np.float64]:
        """Pick the sums of a pair of spaces."""
        wanted: tuple[Quantity, ...] = (s, t, (s, s), (t, t), (s, t))
        return np.stack([counts, *(sums[self.keys.index(key)] for key in wanted)])


@dataclass(frozen=True, slots=True)
class BootstrapValue:
    """One comparison of two spaces with percentile intervals over resampled clusters."""

    r_all: float
    r_all_low: float | None
    r_all_high: float | None
    r_between: float | None
    r_between_low: float | None
    r_between_high: float | None
    n_resamples: int
    n_clusters: int
    confidence: float
    notes: tuple[str, ...]


def bootstrap_value(
    resamples: Resamples,
    s: int,
    t: int,
    *,
    n_clusters: int,
    confidence: float = 0.95,
    score: Score = correlation,
) -> BootstrapValue:
    """Turn the sums of resamples into intervals of the comparison of spaces s and t.

    Parameters
    ----------
    resamples
        What a bootstrap pass finishes with.
    s, t
        The spaces, a pair of the pass.
    n_clusters
        Clusters with rows.
    confidence
        Nominal coverage. The percentile interval is a little narrow where clusters are few.
    score
        The comparison; Pearson's r where not given.
    """
    notes = []
    every, apart = score(resamples.all(s, t)), score(resamples.between(s, t))
    r_between = None if n_clusters < 2 or np.isnan(apart[0]) else float(apart[0])
    ends: list[Interval | None] = [None, None]
    if n_clusters < 2:
        notes.append("all rows come from one cluster, so there is nothing to resample")
    else:
        for place, values in enumerate((every, apart)):
            pairs = ("all pairs", "pairs between clusters")[place]
            if np.isnan(values[0]):
                notes.append(f"a kernel does not vary over {pairs}, so nothing is correlated there")
                continue
            ends[place] = percentile_interval(values[1:], confidence)
            undefined = int(np.isnan(values[1:]).sum())
            if undefined:
                notes.append(
                    f"{undefined} of {len(values) - 1} resamples have no correlation over {pairs}"
                    + (", so the interval is missing" if ends[place] is None else "")
                )
        if any(ends) and n_clusters < FEW_CLUSTERS:
            notes.append(few_clusters(n_clusters))
    all_ends, between_ends = ends
    return BootstrapValue(
        float(every[0]),
        all_ends.low if all_ends else None,
        all_ends.high if all_ends else None,
        r_between,
        between_ends.low if between_ends else None,
        between_ends.high if between_ends else None,
        len(every) - 1,
        n_clusters,
        confidence,
        tuple(notes),
    )


def resampled(sums: ClusterSums, counts: NDArray[np.float32]) -> Resamples:
    """Weigh the sums for every two clusters, in float64.

    Parameters
    ----------
    sums
        What `KeptSums` finishes with.
    counts
        (1 + resample, cluster), as `draw_clusters` returns.
    """
    n_taken, n_clusters = counts.shape
    between = np.zeros((len(sums.keys), n_taken))
    n_pairs = np.zeros(n_taken)
    for lo in range(0, n_taken, PANEL):
        taken = counts[lo : lo + PANEL].astype(np.float64)
        weighed = taken * sums.sizes
        n_pairs[lo : lo + PANEL] = weighed.sum(axis=1) ** 2 - np.vecdot(weighed, weighed)
        for q in range(len(sums.keys)):
            for at in range(0, n_clusters, PANEL):
                panel = np.triu(sums.sums[q, at : at + PANEL, at:], 1)
                products = taken[:, at : at + PANEL] @ panel
                between[q, lo : lo + PANEL] += np.vecdot(products, taken[:, at:])
    within = weighed_clusters(counts, np.diagonal(sums.sums, axis1=1, axis2=2))
    pairs = np.stack([n_pairs, within_pairs(counts, sums.sizes)])
    return Resamples(sums.keys, pairs, 2 * np.stack([between, within]))


def within_pairs(counts: NDArray[np.float32], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Count the ordered pairs within clusters in every resample."""
    pairs: NDArray[np.float64] = weighed_clusters(counts, (sizes * (sizes - 1.0))[None])[0]
    return pairs


def weighed_clusters(
    counts: NDArray[np.float32], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Add up (quantity, cluster) over the clusters of every resample, (quantity, resample)."""
    panels = [
        values @ counts[lo : lo + PANEL].astype(np.float64).T for lo in range(0, len(counts), PANEL)
    ]
    return np.concatenate(panels, axis=1)
