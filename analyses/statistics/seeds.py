"""The mean over training runs, with the spread between them.

How much a number changes from seed to seed is another question than how much it changes from one
draw of inputs to the next, and more tokens do not answer it. So the interval here comes from the
seeds alone, with Student's t on one degree of freedom fewer than there are seeds, and is never
pooled with an interval over clusters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from layerlake.analyses.statistics.jackknife import RESOLUTION
from layerlake.engine.settings import check_confidence
from layerlake.store.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SeedMean:
    """The mean of one number over seeds."""

    value: float
    """Mean over the seeds that have the number; NaN where none has."""
    low: float | None
    """Lower end of the interval of the mean over seeds; None where there is none."""
    high: float | None
    sd: float | None
    """Standard deviation between seeds, on K - 1; None for one seed."""
    n_seeds: int
    """Seeds that have the number."""
    confidence: float
    notes: tuple[str, ...]
    """What was left out, or why the interval is missing."""


def mean_over_seeds(
    values: Sequence[float] | NDArray[np.float64],
    *,
    confidence: float = 0.95,
    correlations: bool = True,
) -> SeedMean:
    """Average a number over seeds.

    Parameters
    ----------
    values
        (seed,): the number of each seed; NaN where it is not defined.
    confidence
        Nominal coverage of the interval.
    correlations
        The numbers lie in [-1, 1]: the interval is that of atanh r about the atanh of the mean,
        mapped back, so that it stays there. Otherwise it is on the numbers themselves.

    Raises
    ------
    InvalidInput
        There is no seed, a correlation lies outside [-1, 1], or `confidence` means nothing.
    """
    check_confidence(confidence)
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1 or not len(given):
        raise InvalidInput(f"values of shape {given.shape} were given; give one number per seed")
    numbers = given[~np.isnan(given)]
    if correlations and (np.abs(numbers) > 1).any():
        raise InvalidInput(
            f"{numbers[np.abs(numbers).argmax()]} is no correlation; say correlations=False for "
            "numbers beyond -1 to 1"
        )
    notes = []
    n_seeds = len(numbers)
    if n_seeds < len(given):
        notes.append(f"{len(given) - n_seeds} of {len(given)} seeds have no value and are left out")
    if n_seeds < 2:
        notes.append("one seed shows no spread between seeds" if n_seeds else "no seed has a value")
        value = float(numbers[0]) if n_seeds else math.nan
        return SeedMean(value, None, None, None, n_seeds, confidence, tuple(notes))
    value, sd = float(numbers.mean()), float(numbers.std(ddof=1))
    low: float | None = value
    high: float | None = value
    if np.ptp(numbers) > 0:
        reach = float(stdtrit(n_seeds - 1, 0.5 + confidence / 2)) / math.sqrt(n_seeds)
        if not correlations:
            low, high = value - reach * sd, value + reach * sd
        elif np.abs(numbers).max() < 1 - RESOLUTION:
            reach *= float(np.arctanh(numbers).std(ddof=1))
            centre = math.atanh(value)
            low, high = math.tanh(centre - reach), math.tanh(centre + reach)
        else:
            low = high = None
            notes.append(
                "a correlation cannot be told from 1, so the spread between seeds has no interval"
            )
    return SeedMean(value, low, high, sd, n_seeds, confidence, tuple(notes))
