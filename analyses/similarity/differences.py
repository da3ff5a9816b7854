"""Is one variant closer to the reference than another? Both from the same clusters.

Two correlations with one reference, over the same rows, rise and fall together from one draw of
clusters to the next. Leaving out the same clusters for both lets what they share cancel, so the difference is known two to four times better than two intervals side by side say.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.estimates import Estimate, PairValues
from layerlake.analyses.statistics.paired_difference import paired_difference


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
