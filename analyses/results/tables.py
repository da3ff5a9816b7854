"""Results as text, for terminals: tables of values with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from layerlake.analyses.results.parts import Part, Record, divided, p_text, parts_of, profile_parts
from layerlake.analyses.results.profile_measures import TABLED, number_text
from layerlake.analyses.results.record import Recorded, none_for_nan

if TYPE_CHECKING:
    from layerlake.analyses.results.profile import ProfileResult
    from layerlake.analyses.results.similarity import SimilarityResult

MOST_COLUMNS: Final = 4
"""Variants beside each other; more of them are below each other."""
MOST_ACROSS: Final = 12
"""Tables of layers against layers that are printed."""


def similarity_text(result: SimilarityResult) -> str:
    """Return the tables of a result; see `SimilarityResult.table`."""
    shown, folded = divided(parts_of(result), MOST_ACROSS)
    tables = [_table(result, part) for part in shown]
    if folded:
        tables.append(
            f"{len(folded):,} more tables of layers against layers are not shown; --json has them"
        )
    return "\n\n".join(tables)


def profile_text(result: ProfileResult) -> str:
    """Return the tables of a profile; see `ProfileResult.table`."""
    tables = []
    for part, row in profile_parts(result, TABLED):
        cells = part.cells(row, "measure")
        rows = [[row, *part.measures]]
        for label in part.labels(row):
            found = (cells.get((label, measure), {}) for measure in part.measures)
            rows.append(
                [str(label)] + [_cell(f, (m,)) for f, m in zip(found, part.measures, strict=True)]
            )
        aligned = str.rjust if row == "layer" else str.ljust
        about = "cells: value" + (" [interval]" if _ends(part, *part.measures) else "")
        about += f"{_level(result, part)}; --json has more numbers"
        tables.append("\n".join([part.title, *_lines(rows, aligned), about]))
    return "\n\n".join(tables)


def _table(result: SimilarityResult, part: Part) -> str:
    """Write the table of one part."""
    variants = part.labels("variant")
    columns = part.labels("layer")
    if part.across:
        cells = part.cells("reference_layer", "layer")
        return _short_table(result, part, cells, part.labels("reference_layer"), columns, str.rjust)
    if len(variants) > MOST_COLUMNS:
        cells = part.cells("variant", "layer")
        return _short_table(result, part, cells, variants, columns, str.ljust)
    cells = part.cells("layer", "variant")
    rows = [["layer", *variants]]
    for layer in part.labels("layer"):
        rows.append(
            [str(layer)]
            + [_cell(cells.get((layer, variant), {}), part.measures) for variant in variants]
        )
    about = "cells: " + "  ".join(f"{measure}{_ends(part, measure)}" for measure in part.measures)
    about += _level(result, part) + _more(part)
    return "\n".join([part.title, *_lines(rows, str.rjust), about])


def _short_table(
    result: SimilarityResult,
    part: Part,
    cells: Mapping[tuple[Any, Any], Mapping[str, Record]],
    rows: list[Any],
    columns: list[Any],
    first: Callable[[str, int], str],
) -> str:
    """Write a table with layers as columns, the first measure alone."""
    measure = part.measures[0]
    lines = [["layer", *map(str, columns)]]
    for row in rows:
        found = (cells.get((row, column), {}).get(measure) for column in columns)
        lines.append([str(row), *map(_short_cell, found)])
    reach = " and how far the interval reaches" if _ends(part, measure) else ""
    about = f"cells: {measure}{reach}{_level(result, part)}{_more(part)}; --json has all of it"
    return "\n".join([part.title, *_lines(lines, first), about])


def _cell(found: Mapping[str, Record], measures: tuple[str, ...]) -> str:
    """Write the measures of one variant at one layer."""
    parts = []
    for measure in measures:
        record = found.get(measure)
        value = None if record is None else none_for_nan(record["value"])
        if record is None or value is None:
            parts.append("-")
            continue
        low, high = none_for_nan(record["low"]), none_for_nan(record["high"])
        low_text, high_text = (
            "" if end is None else number_text(measure, end) for end in (low, high)
        )
        ends = f" [{low_text}, {high_text}]" if low_text and high_text else ""
        tested = f" {text}" if (text := p_text(record)) else ""
        parts.append(f"{number_text(measure, value)}{ends}{tested}")
    return "  ".join(parts)


def _short_cell(record: Record | None) -> str:
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


def _ends(part: Part, *measures: str) -> str:
    """Say that one of some measures has intervals, where it has any."""
    bounded = (
        record["measure"] in measures and none_for_nan(record["low"]) is not None
        for record in part.records
    )
    return " [interval]" if any(bounded) else ""


def _level(result: Recorded, part: Part) -> str:
    confidence = result.settings.get("confidence")
    if confidence is None or not any(_ends(part, measure) for measure in part.measures):
        return ""
    return f" at {100 * float(confidence):g} %"


def _more(part: Part) -> str:
    """Say how far values may be off, and over how many seeds they are means."""
    said = ""
    bounds = [record["bound"] for record in part.records if none_for_nan(record["bound"])]
    if bounds:
        said += f"; values are off by at most {max(bounds):.1e}"
    seeds = sorted({record["n_seeds"] for record in part.records})
    if seeds[-1] > 1:
        over = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        said += f"; means over {over} seeds"
    return said
