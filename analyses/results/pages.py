"""Results as HTML, for notebooks: tables of values with their intervals. All text is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Final

from layerlake.analyses.results.parts import Part, Record, divided, p_text, parts_of, profile_parts
from layerlake.analyses.results.profile_measures import TABLED, number_text
from layerlake.store.views.overview import TABLE_STYLE, fold

if TYPE_CHECKING:
    from layerlake.analyses.results.profile import ProfileResult
    from layerlake.analyses.results.similarity import SimilarityResult

MOST_COLUMNS: Final = 6
"""More variants than that are rows, and layers columns."""
OPEN_ROWS: Final = 50
"""Rows of a table that are not folded away."""
OPEN_ACROSS: Final = 12
"""Tables of layers against layers that are not folded away."""
MOST_FOLDED: Final = 60
"""Tables that are folded away; more would make a page of many megabytes."""


def similarity_html(result: SimilarityResult) -> str:
    """Return a table for each measure, corpus, reference and site: layers as rows.

    Variants are columns. A cell holds the value above its interval, and r_between below r_all; a
    dash stands for what is not defined. Many variants are rows instead. Layers compared across
    make a table for each variant, folded away where there are many.
    """
    shown, folded = divided(parts_of(result), OPEN_ACROSS)
    tables = [_table(part) for part in shown]
    if folded:
        more = f"{len(folded):,} more tables of layers against layers"
        rest = len(folded) - MOST_FOLDED
        said = f"<p>and {rest:,} that are not shown; .plot() shows all</p>" if rest > 0 else ""
        tables.append(fold(more, "".join(map(_table, folded[:MOST_FOLDED])) + said))
    return _page(tables, result.notes)


def profile_html(result: ProfileResult) -> str:
    """Return a table for each variant: layers as rows, numbers with their intervals as columns."""
    tables = []
    for part, row in profile_parts(result, TABLED):
        grid = _grid(part, row, row, part.labels(row), "measure", list(part.measures))
        tables.append((part.title, f"<p><b>{escape(part.title)}</b></p>{grid}"))
    folded = [fold(title, table) for title, table in tables[OPEN_ACROSS:]]
    return _page([table for _title, table in tables[:OPEN_ACROSS]] + folded, result.notes)


def _page(tables: list[str], notes: Iterable[str]) -> str:
    """Return tables and notes as a page."""
    said = [f"<br><small>note: {escape(note)}</small>" for note in notes]
    return f'<div class="layerlake">{TABLE_STYLE}{"".join(tables + said)}</div>'


def _table(part: Part) -> str:
    variants, layers = part.labels("variant"), part.labels("layer")
    if part.across:
        rows = part.labels("reference_layer")
        page = _grid(part, "layer", "reference_layer", rows, "layer", layers)
    elif len(variants) > MOST_COLUMNS:
        page = _grid(part, "variant", "variant", variants, "layer", layers)
    else:
        page = _grid(part, "layer", "layer", layers, "variant", variants)
    about = f"{escape(part.title)} <small>({escape(', then '.join(part.measures))})</small>"
    return f"<p><b>{about}</b></p>{page}"


def _grid(
    part: Part,
    rows_are: str,
    row_field: str,
    rows: list[Any],
    column_field: str,
    columns: list[Any],
) -> str:
    cells = part.cells(row_field, column_field)
    prefix = "layer " if column_field == "layer" else ""
    names = [escape(f"{prefix}{column}") for column in columns]
    head = f"<tr><th>{rows_are}</th>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    lines = [
        f"<tr><th>{escape(str(row))}</th>"
        + "".join(
            f"<td>{_cell(cells.get((row, column), {}), part.measures)}</td>" for column in columns
        )
        + "</tr>"
        for row in rows
    ]

    def table(body: list[str]) -> str:
        return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"

    page = table(lines[:OPEN_ROWS])
    if lines[OPEN_ROWS:]:
        page += fold(f"{len(lines) - OPEN_ROWS:,} more {rows_are}s", table(lines[OPEN_ROWS:]))
    return page


def _cell(found: Mapping[str, Record], measures: Iterable[str]) -> str:
    """Write the measures of one variant at one layer."""
    parts = []
    for record in (found[measure] for measure in measures if measure in found):
        value, *ends = (
            number_text(record["measure"], record[end]) if _is_number(record[end]) else ""
            for end in ("value", "low", "high")
        )
        text = value or "-"
        if value and all(ends):
            text += f" <small>[{', '.join(ends)}]</small>"
        if value and (tested := p_text(record)):
            text += f" <small>{escape(tested)}</small>"
        parts.append(text)
    return "<br>".join(parts) or "-"


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
