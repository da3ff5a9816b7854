"""What a figure says of itself: its measure, how much it was computed over, what a band is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from layerlake.analyses.results.measures import title_of
from layerlake.analyses.results.record import Record, Records

_UNITS: Final = {"piece": "token", "word": "word", "example": "example"}
_KERNELS: Final = {
    "cosine": "cosine similarities",
    "correlation": "correlations",
    "linear": "dot products",
    "sqeuclidean": "squared Euclidean distances",
    "euclidean": "Euclidean distances",
    "rbf": "RBF similarities",
}
_SCORES: Final = {
    "r_all": "RSA (Pearson r of {})",
    "r_between": "RSA between examples (Pearson r of {})",
    "cosine": "RSA (cosine of {})",
    "spearman": "RSA (Spearman rank correlation of {})",
    "kendall": "RSA (Kendall tau-a of {})",
}
"""Measures that a kernel goes into."""


def axis_title(measure: str, result: Records) -> str:
    """Return the label of a measure's axis, with the kernel where one goes into it."""
    kernel = _KERNELS.get(str(result.settings.get("kernel")))
    if kernel is not None and measure in _SCORES:
        return _SCORES[measure].format(kernel)
    return title_of(measure, result.measures)


def caption(result: Records, records: Iterable[Record], *, bands: bool = False) -> str:
    """Return the line under a figure's title: how many tokens of how many examples; the bands.

    Parameters
    ----------
    records
        What is drawn.
    bands
        Whether intervals are drawn.
    """
    drawn = list(records)
    unit = _UNITS.get(str(result.settings.get("unit", "piece")), "row")
    said = [_counted([record["n"] for record in drawn], unit)]
    if unit != "example":
        said[0] += f" of {_counted([record['n_clusters'] for record in drawn], 'example')}"
    if bands:
        said.append(f"band: {_interval(result.settings)}")
    return "; ".join(said)


def _counted(numbers: Iterable[int], noun: str) -> str:
    """Return a number with its noun, or the range of several numbers."""
    found = sorted(set(numbers))
    if not found:
        return f"no {noun}s"
    if len(found) > 1:
        return f"{found[0]:,} to {found[-1]:,} {noun}s"
    return f"{found[0]:,} {noun}{'' if found[0] == 1 else 's'}"


def _interval(settings: Mapping[str, Any]) -> str:
    confidence = settings.get("confidence")
    level = f"{100 * confidence:g} % " if isinstance(confidence, float) else ""
    return level + ("bootstrap " if settings.get("interval") == "bootstrap" else "") + "interval"
