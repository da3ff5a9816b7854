"""Bootstrap confidence intervals: whole clusters are resampled with replacement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.statistics.jackknife import Interval
from layerlake.engine.settings import check_confidence
from layerlake.store.errors import InvalidInput


def draw_clusters(sizes: NDArray[np.int64], n_resamples: int, seed: int) -> NDArray[np.float32]:
    """Draw how often each resample takes each cluster.

    Parameters
    ----------
    sizes
        (cluster,): rows of each cluster; one without rows is never drawn.
    n_resamples
        How many to draw.
    seed
        Of the draw.

    Returns
    -------
    ndarray
        (1 + resample, cluster) float32; the first takes every cluster once.
    """
    taken = np.flatnonzero(sizes)
    generator = np.random.default_rng(seed)
    counts = np.zeros((1 + n_resamples, len(sizes)), dtype=np.float32)
    counts[0, taken] = 1
    for resample in counts[1:]:
        drawn = generator.integers(len(taken), size=len(taken))
        resample[taken] = np.bincount(drawn, minlength=len(taken))
    return counts


def percentile_interval(values: NDArray[np.float64], confidence: float) -> Interval | None:
    """Return the central share of resampled values.

    Undefined ones (NaN) are left out; None where they would fill a tail of the interval.

    Raises
    ------
    InvalidInput
        There are fewer than two resamples beyond either end of the interval.
    """
    require_resamples(len(values), confidence)
    defined = values[~np.isnan(values)]
    tail = (1 - confidence) / 2
    if len(values) - len(defined) > tail * len(values):
        return None
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high))


def require_resamples(n_resamples: int, confidence: float) -> None:
    """Refuse fewer resamples than an interval of that confidence can be read from."""
    check_confidence(confidence)
    fewest = int(np.ceil(np.round(4 / (1 - confidence), 6)))
    if n_resamples < fewest:
        raise InvalidInput(
            f"{n_resamples} resamples are too few for an interval of confidence {confidence:g}; "
            f"ask for at least {fewest}, better 1000"
        )
