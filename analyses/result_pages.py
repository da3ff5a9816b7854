"""Results as HTML, for notebooks: tables of values with their intervals. All text is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Final

from layerlake.analyses.result_parts import Part, Record, divided, parts_of
from layerlake.store.overview import TABLE_STYLE, fold

if TYPE_CHECKING:
    from layerlake.analyses.results import SimilarityResult

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
    notes = [f"<br><small>note: {escape(note)}</small>" for note in result.notes]
    return f'<div class="layerlake">{TABLE_STYLE}{"".join(tables + notes)}</div>'


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
        ends = [record[end] for end in ("low", "high") if _is_number(record[end])]
        text = f"{record['value']:.3f}" if _is_number(record["value"]) else "-"
        if text != "-" and len(ends) == 2:
            text += f" <small>[{ends[0]:.3f}, {ends[1]:.3f}]</small>"
        parts.append(text)
    return "<br>".join(parts) or "-"


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
