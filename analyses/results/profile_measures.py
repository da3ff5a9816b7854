"""What a profile says of a space: the names of its numbers, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from layerlake.analyses.results.measures import FOUR_SIGNIFICANT, Measure

_QUANTITIES: Final = (
    ("participation-ratio", "participation ratio", FOUR_SIGNIFICANT),
    ("effective-rank", "effective rank", FOUR_SIGNIFICANT),
    ("dimensions-50", "components for 50 % of variance", ".0f"),
    ("dimensions-90", "components for 90 % of variance", ".0f"),
    ("dimensions-99", "components for 99 % of variance", ".0f"),
    ("variance", "total variance", FOUR_SIGNIFICANT),
    ("mean-length", "L2 norm of the mean vector", FOUR_SIGNIFICANT),
    ("norm-mean", "mean L2 norm", FOUR_SIGNIFICANT),
    ("norm-sd", "standard deviation of the L2 norm", FOUR_SIGNIFICANT),
    ("norm-min", "smallest L2 norm", FOUR_SIGNIFICANT),
    ("norm-q1", "lower quartile of the L2 norm", FOUR_SIGNIFICANT),
    ("norm-median", "median L2 norm", FOUR_SIGNIFICANT),
    ("norm-q3", "upper quartile of the L2 norm", FOUR_SIGNIFICANT),
    ("norm-max", "largest L2 norm", FOUR_SIGNIFICANT),
)

MEASURES: Final[Mapping[str, Measure]] = {
    "anisotropy": Measure("anisotropy", "anisotropy (mean cosine)", "quantity", -1.0, 1.0)
} | {
    name: Measure(name, title, "quantity", 0.0, written=written)
    for name, title, written in _QUANTITIES
}
"""In the order of records."""
FAMILIES: Final[Mapping[str, Measure]] = {}
SHARES: Final = {"dimensions-50": 0.5, "dimensions-90": 0.9, "dimensions-99": 0.99}
"""Of the variance."""
