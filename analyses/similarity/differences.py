"""Is one variant closer to the reference than another? Both from the same clusters.

Two correlations with one reference, over the same rows, rise and fall together from one draw of
clusters to the next. Leaving out (or resampling) the same clusters for both lets what they share
cancel, so the difference is known two to four times better than two intervals side by side say.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.estimates import Estimate, PairValues
from layerlake.analyses.statistics.bootstrap import percentile_interval
from layerlake.analyses.statistics.paired_difference import PairedDifference, paired_difference
from layerlake.engine.settings import check_confidence
from layerlake.store.errors import InvalidInput


def difference_values(
    names: Sequence[str],
    one: PairValues,
    one_deleted: Sequence[NDArray[np.float64]] | None,
    other: PairValues,
    other_deleted: Sequence[NDArray[np.float64]] | None,
    confidence: float,
) -> PairValues:
    """Return how much larger the values of one pair of spaces are than those of another.

    Parameters
    ----------
    names
        The measures to compare.
    one, other
        The values of two pairs over the same rows.
    one_deleted, other_deleted
        (cluster,) for each measure: the value with each cluster left out; None where no cluster
        was left out, since the spaces are the same or one is constant.
    confidence
        Nominal coverage.
    """
    estimates: list[Estimate] = []
    notes: dict[str, None] = {}
    nothing = [np.empty(0)] * len(names)
    lost = one_deleted is None or other_deleted is None
    for k, name in enumerate(names):
        found = paired_difference(
            one.value(name),
            (nothing if lost or one_deleted is None else one_deleted)[k],
            other.value(name),
            (nothing if lost or other_deleted is None else other_deleted)[k],
            confidence,
        )
        estimates.append(Estimate(name, found.value, found.low, found.high, None, found.p_value))
        notes.update(dict.fromkeys(found.notes))
    return PairValues(tuple(estimates), one.counts, tuple(notes))


def bootstrap_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], confidence: float = 0.95
) -> PairedDifference:
    """Compare two correlations over the same resampled clusters.

    Parameters
    ----------
    first, second
        (1 + resample,): the correlations over the clusters as they are, then over every resample;
        from one pass, or from passes of the same seed over the same rows.
    confidence
        Nominal coverage of the percentile interval.

    Raises
    ------
    InvalidInput
        There are not as many resamples of both, or too few for an interval.
    """
    if first.shape != second.shape:
        raise InvalidInput(
            f"one correlation has {len(first) - 1} resamples and the other {len(second) - 1}; "
            "compare both over the same resamples"
        )
    check_confidence(confidence)
    differences = first - second
    resampled = differences[1:]
    interval = percentile_interval(resampled, confidence)
    notes: tuple[str, ...] = ()
    p_value = None
    if np.isnan(differences[0]):
        interval, notes = None, ("one of the correlations is not defined",)
    elif interval is None:
        notes = ("too many resamples have no correlation, so the interval is missing",)
    else:
        defined = resampled[~np.isnan(resampled)]
        tail = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
        p_value = min(1.0, 2 * (tail + 1) / (len(defined) + 1))
    return PairedDifference(
        float(differences[0]),
        interval.low if interval else None,
        interval.high if interval else None,
        p_value,
        None,
        None,
        None,
        len(resampled),
        confidence,
        notes,
    )
