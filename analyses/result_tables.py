"""Results as text, for terminals: tables of values with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from layerlake.analyses.results import MEASURES, none_for_nan

if TYPE_CHECKING:
    from layerlake.analyses.results import SimilarityResult

MOST_COLUMNS: Final = 4
"""Variants beside each other; more of them are below each other."""


def similarity_text(result: SimilarityResult) -> str:
    """Return the tables of a result; see `SimilarityResult.table`."""
    return "\n\n".join(_table(result, title, records) for title, records in result.parts().items())


def _cell(records: Iterable[Mapping[str, Any]]) -> str:
    """Write the measures of one variant at one layer."""
    found = {record["measure"]: record for record in records}
    parts = []
    for measure in MEASURES:
        record = found.get(measure)
        value = None if record is None else none_for_nan(record["value"])
        if record is None or value is None:
            parts.append("-")
            continue
        low, high = none_for_nan(record["low"]), none_for_nan(record["high"])
        ends = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
        parts.append(f"{value:.3f}{ends}")
    return "  ".join(parts)


def _table(result: SimilarityResult, title: str, records: list[dict[str, Any]]) -> str:
    """Write the table of one corpus, reference and site."""
    variants = list(dict.fromkeys(record["variant"] for record in records))
    layers = sorted({record["layer"] for record in records})
    if len(variants) > MOST_COLUMNS:
        return _long_table(result, title, records, variants, layers)
    rows = [["layer", *variants]]
    for layer in layers:
        here = [record for record in records if record["layer"] == layer]
        rows.append(
            [str(layer)]
            + [_cell(r for r in here if r["variant"] == variant) for variant in variants]
        )
    about = "cells: r_all [interval]  r_between [interval]" + _level(result, records)
    return "\n".join([title, *_lines(rows, str.rjust), about])


def _long_table(
    result: SimilarityResult,
    title: str,
    records: list[dict[str, Any]],
    variants: list[str],
    layers: list[int],
) -> str:
    """Write the table of many variants: a line each, r_all alone."""
    found = {(r["variant"], r["layer"]): r for r in records if r["measure"] == "r_all"}
    rows = [["layer", *map(str, layers)]]
    for variant in variants:
        rows.append([variant, *(_short_cell(found.get((variant, layer))) for layer in layers)])
    about = "cells: r_all and how far the interval reaches" + _level(result, records)
    return "\n".join([title, *_lines(rows, str.ljust), f"{about}; --json has all of it"])


def _short_cell(record: Mapping[str, Any] | None) -> str:
    value = None if record is None else none_for_nan(record["value"])
    if record is None or value is None:
        return "-"
    low, high = none_for_nan(record["low"]), none_for_nan(record["high"])
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} ±{max(value - low, high - value):.3f}"


def _lines(rows: list[list[str]], first: Callable[[str, int], str]) -> list[str]:
    """Lay rows out in columns, the first row being their heads."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        rest = (cell.ljust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  |  ".join([first(row[0], widths[0]), *rest]).rstrip())
    lines.insert(1, "--+--".join("-" * width for width in widths))
    return lines


def _level(result: SimilarityResult, records: list[dict[str, Any]]) -> str:
    confidence = result.settings.get("confidence")
    if confidence is None or all(none_for_nan(record["low"]) is None for record in records):
        return ""
    return f" at {100 * float(confidence):g} %"
