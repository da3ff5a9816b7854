"""The values of a pair of spaces, whatever measure they are of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerlake.analyses.results.record import Counts

if TYPE_CHECKING:
    from layerlake.analyses.similarity.closed_forms.left_out import FormValue
    from layerlake.analyses.similarity.features.rsa_value import RsaValue
    from layerlake.analyses.statistics.jackknife import Interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number about a pair of spaces."""

    measure: str
    value: float
    """NaN where it is not defined; a note of the pair says why."""
    low: float | None = None
    """Lower end of the interval; None where there is none."""
    high: float | None = None
    bound: float | None = None
    """How far the value is off at most; None where it is exact but for rounding."""
    p: float | None = None
    """Of a permutation test, or of a difference; None where nothing was tested."""


@dataclass(frozen=True, slots=True)
class PairValues:
    """All that was asked of one pair of spaces."""

    estimates: tuple[Estimate, ...]
    counts: Counts
    notes: tuple[str, ...] = ()
    """Sentences about what to be careful with."""

    def value(self, measure: str) -> float:
        """Return the number of a measure, NaN where it is not defined.

        Raises
        ------
        KeyError
            The measure was not asked for.
        """
        return self[measure].value

    def __getitem__(self, measure: str) -> Estimate:
        for estimate in self.estimates:
            if estimate.measure == measure:
                return estimate
        raise KeyError(measure)


def rsa_names(score: str) -> tuple[str, str]:
    """Return what RSA with a score is called over all pairs and over those between clusters."""
    return ("r_all", "r_between") if score == "pearson" else (score, f"{score}_between")


def rsa_estimates(
    value: RsaValue, score: str, bound: float | None = None, p: float | None = None
) -> list[Estimate]:
    """Return both estimates of a value of RSA; `bound` is of all pairs, `p` of those between."""
    first, second = rsa_names(score)
    return [
        Estimate(first, value.r_all, value.r_all_low, value.r_all_high, bound),
        Estimate(
            second,
            math.nan if value.r_between is None else value.r_between,
            value.r_between_low,
            value.r_between_high,
            None,
            p,
        ),
    ]


def form_estimates(values: dict[str, FormValue], names: Sequence[str]) -> list[Estimate]:
    """Return the estimates of closed forms in the order asked."""
    return [Estimate(n, values[n].value, values[n].low, values[n].high) for n in names]


def ends_of(interval: Interval | None) -> tuple[float | None, float | None]:
    """Return both ends of an interval, None where there is none."""
    return (None, None) if interval is None else (interval.low, interval.high)
