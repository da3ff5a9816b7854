"""The values of a pair of spaces, whatever measure they are of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from layerlake.analyses.results.measures import number_text
from layerlake.analyses.results.parts import p_text
from layerlake.analyses.results.record import Counts
from layerlake.store.errors import InvalidInput, NameNotFound

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

    def __float__(self) -> float:
        return float(self.value)


@dataclass(frozen=True, slots=True, repr=False)
class PairValues:
    """The values of one pair of spaces.

    It prints as a table, is indexed by measure, and is a number where it holds one measure alone.

    Examples
    --------
    >>> import numpy as np
    >>> import layerlake as ll
    >>> X = np.random.default_rng(0).normal(size=(100, 8))
    >>> found = ll.compare_arrays(X, 2 * X, measure="cka", interval="none")
    >>> found
    cka  1.000
    >>> round(float(found), 6), round(found["cka"].value, 6)
    (1.0, 1.0)
    """

    estimates: tuple[Estimate, ...]
    counts: Counts
    notes: tuple[str, ...] = ()
    """Sentences about what to be careful with."""

    def value(self, measure: str) -> float:
        """Return the number of a measure, NaN where it is not defined.

        Raises
        ------
        NameNotFound
            The measure was not asked for.
        """
        return self[measure].value

    def __getitem__(self, measure: str) -> Estimate:
        for estimate in self.estimates:
            if estimate.measure == measure:
                return estimate
        raise NameNotFound(
            f"the comparison has no measure {measure!r}; it has {', '.join(self._names())}"
        )

    def __float__(self) -> float:
        if len(self.estimates) == 1:
            return float(self.estimates[0])
        names = self._names()
        raise InvalidInput(
            f"the comparison has {len(names)} numbers ({', '.join(names)}); choose one, for "
            f"example result[{names[0]!r}]"
        )

    def __repr__(self) -> str:
        rows = self._rows()
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        lines = (
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td><td>{escape(beside)}</td></tr>"
            for name, value, beside in self._rows()
        )
        notes = (f"<br><small>note: {escape(note)}</small>" for note in self.notes)
        return f"<table>{''.join(lines)}</table>{''.join(notes)}"

    def _names(self) -> list[str]:
        return [estimate.measure for estimate in self.estimates]

    def _rows(self) -> list[tuple[str, str, str]]:
        """Return the name, the value, and the interval with the p of each estimate."""
        rows = []
        for one in self.estimates:
            ends = ""
            if one.low is not None and one.high is not None:
                low, high = (number_text(one.measure, end) for end in (one.low, one.high))
                ends = f"[{low}, {high}]"
            value = "-" if math.isnan(one.value) else number_text(one.measure, one.value)
            rows.append((one.measure, value, "  ".join(filter(None, (ends, p_text({"p": one.p}))))))
        return rows


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
