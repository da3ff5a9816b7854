"""Results as HTML, for notebooks: tables of values with their intervals. All text is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from layerlake.analyses.results.measures import number_text
from layerlake.analyses.results.parts import Part, divided, p_text
from layerlake.analyses.results.record import Record, Records
from layerlake.store.views.overview import TABLE_STYLE, fold

MOST_COLUMNS: Final = 6
"""Columns of values with their intervals; where there are more, they are rows."""
OPEN_ROWS: Final = 50
"""Rows of a table that are not folded away."""
OPEN_TABLES: Final = 12
"""Tables of a series, or of those that can be closed, that are not folded away."""
MOST_FOLDED: Final = 60
"""Tables of a series that are folded away; more would make a page of many megabytes."""


def tables_html(result: Records, parts: Sequence[Part]) -> str:
    """Return the tables of a result as a page, one for each part.

    A cell holds the value above its interval, and what is shown beside a measure below it; a dash
    stands for what is not defined. Many columns are rows instead, and many tables are folded away.
    """
    shown, folded = divided(parts, OPEN_TABLES)
    tables = []
    for number, part in enumerate(shown):
        table = _table(result, part)
        closed = part.closable and number >= OPEN_TABLES
        tables.append(fold(part.title, table) if closed else table)
    if folded:
        series = folded[0].series
        rest = len(folded) - MOST_FOLDED
        said = f"<p>and {rest:,} that are not shown; .plot() shows all</p>" if rest > 0 else ""
        content = "".join(_table(result, part) for part in folded[:MOST_FOLDED])
        tables.append(fold(f"{len(folded):,} more {series}", content + said))
    notes = [f"<br><small>note: {escape(note)}</small>" for note in result.notes]
    return f'<div class="layerlake">{TABLE_STYLE}{"".join(tables + notes)}</div>'


def _table(result: Records, part: Part) -> str:
    """Return the table of one part under its title."""
    about = escape(part.title)
    if part.columns != "measure":
        about += f" <small>({escape(', then '.join(part.measures))})</small>"
    return f"<p><b>{about}</b></p>{_grid(result, part)}"


def _grid(result: Records, part: Part) -> str:
    row_field, column_field, turned = part.turned(MOST_COLUMNS)
    head_of_rows = part.head or row_field
    columns = part.labels(column_field) if turned else part.column_labels()
    cells = part.cells(row_field, column_field)
    prefix = f"{column_field} " if result.fields[column_field] == "whole" else ""
    names = [escape(f"{prefix}{column}") for column in columns]
    head = f"<tr><th>{head_of_rows}</th>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    lines = []
    for row in part.labels(row_field):
        found = (cells.get((row, column), {}) for column in columns)
        written = "".join(f"<td>{_cell(result, cell, part.measures)}</td>" for cell in found)
        lines.append(f"<tr><th>{escape(str(row))}</th>{written}</tr>")

    def table(body: list[str]) -> str:
        """Return some of the rows as a table."""
        return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"

    page = table(lines[:OPEN_ROWS])
    if lines[OPEN_ROWS:]:
        more = f"{len(lines) - OPEN_ROWS:,} more {head_of_rows}s"
        page += fold(more, table(lines[OPEN_ROWS:]))
    return page


def _cell(result: Records, found: Mapping[str, Record], measures: Iterable[str]) -> str:
    """Write the measures of one cell."""
    parts = []
    for record in (found[measure] for measure in measures if measure in found):
        value, *ends = (
            _number(result, record["measure"], record.get(end)) for end in ("value", "low", "high")
        )
        text = value or "-"
        if value and all(ends):
            text += f" <small>[{', '.join(ends)}]</small>"
        if value and (tested := p_text(record)):
            text += f" <small>{escape(tested)}</small>"
        parts.append(text)
    return "<br>".join(parts) or "-"


def _number(result: Records, measure: str, value: float | None) -> str:
    """Write a number, nothing where it is not defined."""
    if value is None or math.isnan(value):
        return ""
    return number_text(measure, value, result.measures)
