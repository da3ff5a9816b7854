"""What a profile says of a space: the names of its numbers, and how they are written."""

from __future__ import annotations

import math
from typing import Final, NamedTuple


class ProfileMeasure(NamedTuple):
    """How to read a number of a profile."""

    title: str
    """What an axis calls it."""
    written: str
    """How it is formatted for people; empty for four digits."""


_PLAIN: Final = ""

PROFILE_MEASURES: Final = {
    "anisotropy": ProfileMeasure("anisotropy (mean cosine)", "z.3f"),
    "participation-ratio": ProfileMeasure("participation ratio", _PLAIN),
    "effective-rank": ProfileMeasure("effective rank", _PLAIN),
    "dimensions-50": ProfileMeasure("principal axes of 50 % of the variance", ".0f"),
    "dimensions-90": ProfileMeasure("principal axes of 90 % of the variance", ".0f"),
    "dimensions-99": ProfileMeasure("principal axes of 99 % of the variance", ".0f"),
    "variance": ProfileMeasure("total variance", _PLAIN),
    "mean-length": ProfileMeasure("length of the mean row", _PLAIN),
    "norm-mean": ProfileMeasure("mean length of a row", _PLAIN),
    "norm-sd": ProfileMeasure("standard deviation of the lengths", _PLAIN),
    "norm-min": ProfileMeasure("shortest row", _PLAIN),
    "norm-q1": ProfileMeasure("lower quartile of the lengths", _PLAIN),
    "norm-median": ProfileMeasure("median length of a row", _PLAIN),
    "norm-q3": ProfileMeasure("upper quartile of the lengths", _PLAIN),
    "norm-max": ProfileMeasure("longest row", _PLAIN),
}
"""In the order of records."""
SHARES: Final = {"dimensions-50": 0.5, "dimensions-90": 0.9, "dimensions-99": 0.99}
"""Of the variance."""
TABLED: Final = (
    "anisotropy",
    "participation-ratio",
    "effective-rank",
    "dimensions-90",
    "variance",
    "norm-mean",
    "norm-sd",
)
"""Columns of a table; the others are for programs."""
DRAWN: Final = ("anisotropy", "participation-ratio", "dimensions-90", "norm-mean")
"""Panels of a figure where nobody says."""


def number_text(measure: str, value: float) -> str:
    """Write a number of any measure for people: similarities to three digits behind the point."""
    known = PROFILE_MEASURES.get(measure)
    return format(value, "z.3f") if known is None else _written(value, known.written)


def _written(value: float, how: str) -> str:
    """Write a number as told, or with four digits that count."""
    if how:
        return format(value, how)
    size = abs(value)
    if value and not 1e-3 <= size < 1e7:
        return f"{value:.3e}"
    before = math.floor(math.log10(size)) + 1 if size >= 1 else 1
    return f"{value:.{max(4 - before, 0)}f}"
