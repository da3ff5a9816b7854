"""Results as HTML, for notebooks: tables of values with their intervals. All text is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Final

from layerlake.store.overview import TABLE_STYLE, fold

if TYPE_CHECKING:
    from layerlake.analyses.results import SimilarityResult

MOST_COLUMNS: Final = 6
"""More variants than that are rows, and layers columns."""
OPEN_ROWS: Final = 50
"""Rows of a table that are not folded away."""

Record = Mapping[str, Any]


def similarity_html(result: SimilarityResult) -> str:
    """Return a table for each corpus, reference and site: layers as rows, variants as columns.

    A cell holds r_all and r_between, each above its interval; a dash stands for what is not
    defined. Many variants are rows instead.
    """
    tables = [_table(title, records) for title, records in result.parts().items()]
    notes = [f"<br><small>note: {escape(note)}</small>" for note in result.notes]
    return f'<div class="layerlake">{TABLE_STYLE}{"".join(tables + notes)}</div>'


def _table(title: str, records: list[dict[str, Any]]) -> str:
    variants = list(dict.fromkeys(record["variant"] for record in records))
    layers = sorted({record["layer"] for record in records})
    measures = sorted({record["measure"] for record in records})
    cells: dict[tuple[Any, Any], list[Record]] = {}
    for record in records:
        cells.setdefault((record["variant"], record["layer"]), []).append(record)
    if len(variants) > MOST_COLUMNS:
        page = _grid(
            "variant", variants, "layer", layers, lambda row, column: cells.get((row, column), [])
        )
    else:
        page = _grid(
            "layer", layers, "", variants, lambda row, column: cells.get((column, row), [])
        )
    about = f"{escape(title)} <small>({escape(', then '.join(measures))})</small>"
    return f"<p><b>{about}</b></p>{page}"


def _grid(
    rows_are: str,
    rows: list[Any],
    columns_are: str,
    columns: list[Any],
    found: Callable[[Any, Any], Iterable[Record]],
) -> str:
    names = [escape(f"{columns_are} {column}".strip()) for column in columns]
    head = f"<tr><th>{rows_are}</th>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    lines = [
        f"<tr><th>{escape(str(row))}</th>"
        + "".join(f"<td>{_cell(found(row, column))}</td>" for column in columns)
        + "</tr>"
        for row in rows
    ]

    def table(body: list[str]) -> str:
        return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"

    page = table(lines[:OPEN_ROWS])
    if lines[OPEN_ROWS:]:
        page += fold(f"{len(lines) - OPEN_ROWS:,} more {rows_are}s", table(lines[OPEN_ROWS:]))
    return page


def _cell(records: Iterable[Record]) -> str:
    """Write the measures of one variant at one layer."""
    parts = []
    for record in sorted(records, key=lambda record: str(record["measure"])):
        ends = [record[end] for end in ("low", "high") if _is_number(record[end])]
        text = f"{record['value']:.3f}" if _is_number(record["value"]) else "-"
        if text != "-" and len(ends) == 2:
            text += f" <small>[{ends[0]:.3f}, {ends[1]:.3f}]</small>"
        parts.append(text)
    return "<br>".join(parts) or "-"


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
