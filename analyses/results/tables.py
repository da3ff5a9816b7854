"""Results as text, for terminals: tables of values with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from layerlake.analyses.results.measures import THREE_DIGITS, known_measure, number_text
from layerlake.analyses.results.parts import Part, divided, p_text
from layerlake.analyses.results.record import Record, Records, none_for_nan

MOST_COLUMNS: Final = 4
"""Columns of values with their intervals; where there are more, they are rows."""
MOST_OF_A_SERIES: Final = 12
"""Tables of layers against layers, and of any such series, that are printed."""


def tables_text(result: Records, parts: Sequence[Part]) -> str:
    """Return the tables of a result, one for each part."""
    shown, folded = divided(parts, MOST_OF_A_SERIES)
    tables = [_table(grid_of(result, part)) for part in shown]
    if folded:
        tables.append(f"{len(folded):,} more {folded[0].series} are not shown; --json has them")
    return "\n\n".join(tables)


@dataclass(frozen=True)
class Grid:
    """A table as text, before it is laid out."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    """The head, then a row each; the first cell of a row names it."""
    first_is_text: bool
    about: str
    """What the cells hold."""


def grid_of(result: Records, part: Part) -> Grid:
    """Return the cells of one part as text."""
    row, column, turned = part.turned(MOST_COLUMNS)
    cells = part.cells(row, column)
    columns = part.labels(column) if turned else part.column_labels()
    short = part.short or turned
    rows = [(column if short else row, *map(str, columns))]
    for label in part.labels(row):
        line = [str(label)]
        for name in columns:
            found = cells.get((label, name), {})
            if short:
                line.append(_short_cell(result, found.get(part.measures[0])))
            else:
                line.append(_cell(result, found, (name,) if column == "measure" else part.measures))
        rows.append(tuple(line))
    about = _about(result, part, short=short)
    return Grid(part.title, tuple(rows), result.fields[row] != "whole", about)


def _table(grid: Grid) -> str:
    """Lay out one part."""
    first = str.ljust if grid.first_is_text else str.rjust
    return "\n".join([grid.title, *_lines(grid.rows, first), grid.about])


def _about(result: Records, part: Part, *, short: bool) -> str:
    """Say what the cells of a table hold."""
    level = _level(result, part)
    if part.columns == "measure":
        more = any(record["measure"] not in part.measures for record in part.records)
        ends = _ends(part, *part.measures)
        return f"cells: value{ends}{level}" + ("; --json has more numbers" if more else "")
    if short:
        measure = part.measures[0]
        reach = " and how far the interval reaches" if _ends(part, measure) else ""
        return f"cells: {measure}{reach}{level}{_more(part)}; --json has all of it"
    about = "  ".join(f"{measure}{_ends(part, measure)}" for measure in part.measures)
    return f"cells: {about}{level}{_more(part)}"


def _cell(result: Records, found: Mapping[str, Record], measures: tuple[str, ...]) -> str:
    """Write the measures of one cell."""
    parts = []
    for measure in measures:
        record = found.get(measure)
        value = None if record is None else none_for_nan(record["value"])
        if record is None or value is None:
            parts.append("-")
            continue
        low_text, high_text = (
            "" if end is None else number_text(measure, end, result.measures)
            for end in _interval(record)
        )
        ends = f" [{low_text}, {high_text}]" if low_text and high_text else ""
        tested = f" {text}" if (text := p_text(record)) else ""
        parts.append(f"{number_text(measure, value, result.measures)}{ends}{tested}")
    return "  ".join(parts)


def _short_cell(result: Records, record: Record | None) -> str:
    """Write a value and the farther end of its interval."""
    value = None if record is None else none_for_nan(record["value"])
    if record is None or value is None:
        return "-"
    low, high = _interval(record)
    text = _short_number(result, record, value)
    if low is None or high is None:
        return text
    return f"{text} ±{_short_number(result, record, max(value - low, high - value))}"


def _short_number(result: Records, record: Record, value: float) -> str:
    known = known_measure(record["measure"], result.measures)
    if known is None or known.written == THREE_DIGITS:
        return f"{value:.3f}"  # a value just below zero keeps its sign
    return number_text(record["measure"], value, result.measures)


def _interval(record: Record) -> tuple[float | None, float | None]:
    """Return both ends of the interval of a record, None where there is none."""
    return none_for_nan(record.get("low")), none_for_nan(record.get("high"))


def _lines(rows: Sequence[Sequence[str]], first: Callable[[str, int], str]) -> list[str]:
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
        record["measure"] in measures and _interval(record)[0] is not None
        for record in part.records
    )
    return " [interval]" if any(bounded) else ""


def _level(result: Records, part: Part) -> str:
    confidence = result.settings.get("confidence")
    if confidence is None or not any(_ends(part, measure) for measure in part.measures):
        return ""
    return f" at {100 * float(confidence):g} %"


def _more(part: Part) -> str:
    """Say how far values may be off, and over how many seeds they are means."""
    said = ""
    bounds = [record["bound"] for record in part.records if none_for_nan(record.get("bound"))]
    if bounds:
        said += f"; values are off by at most {max(bounds):.1e}"
    seeds = sorted({record.get("n_seeds", 1) for record in part.records})
    if seeds[-1] > 1:
        over = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        said += f"; means over {over} seeds"
    return said
