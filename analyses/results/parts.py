"""Results in the parts that a reader takes in at once: a table, a panel, a page's section each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layerlake.analyses.results.measures import family_of, title_of
from layerlake.analyses.results.record import Record, Records


def p_text(record: Record) -> str:
    """Return the p of a record for people, empty where nothing was tested."""
    p = record.get("p")
    if p is None or math.isnan(p):
        return ""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


@dataclass(frozen=True)
class Part:
    """Records that make a table."""

    title: str
    records: tuple[Record, ...]
    rows: str
    """The field of the rows."""
    columns: str
    """The field of the columns: `measure` where each measure has one of its own."""
    measures: tuple[str, ...]
    """The columns; or what a cell holds: one measure, and what is shown beside it."""
    turns: bool = False
    """Whether columns become rows where there are many."""
    short: bool = False
    """Whether a cell of text holds the first measure alone, and how far its interval reaches."""
    head: str = ""
    """What stands above the rows; their field where empty."""
    series: str = ""
    """What it is one of, in the plural, where there may be too many of those to show."""
    closable: bool = False
    """Whether a page folds it away, under its title, where many are open before it."""

    def labels(self, field: str) -> list[Any]:
        """Return the different entries of a field, whole numbers ascending, others as met."""
        found = list(dict.fromkeys(record[field] for record in self.records))
        return sorted(found) if found and isinstance(found[0], int) else found

    def column_labels(self) -> list[Any]:
        """Return what the columns are of."""
        return list(self.measures) if self.columns == "measure" else self.labels(self.columns)

    def turned(self, most_columns: int) -> tuple[str, str, bool]:
        """Return the fields of rows and columns, and whether they have changed places."""
        if self.turns and len(self.column_labels()) > most_columns:
            return self.columns, self.rows, True
        return self.rows, self.columns, False

    def cells(self, row: str, column: str) -> dict[tuple[Any, Any], dict[str, Record]]:
        """Return the records of each cell, by measure."""
        cells: dict[tuple[Any, Any], dict[str, Record]] = {}
        for record in self.records:
            cells.setdefault((record[row], record[column]), {})[record["measure"]] = record
        return cells


def parts_of(result: Records) -> list[Part]:
    """Group the records of a result as its layout says.

    A part is of one label of each axis and distinguishing field that is neither rows nor columns,
    which make its title; and of one family of measures, where these are not the columns.
    """
    layout, own = result.layout, result.measures
    differing = (field for field in layout.rows if len(result.labels(field)) > 1)
    rows = next(differing, layout.rows[-1])
    within = (rows, layout.columns, "measure")
    beside = [field for field in result.distinguishing if field not in within]
    along = [axis for axis in result.axes if axis not in within]
    families = {name: family_of(name, own) for name in result.labels("measure")}
    grouped: dict[tuple[str, str], list[Record]] = {}
    for record in result.records:
        said = (
            ", ".join(_named(result, record, field) for field in fields)
            for fields in (beside, along)
        )
        title = ": ".join(filter(None, said)) or result.kind
        family = "" if layout.columns == "measure" else families[record["measure"]]
        grouped.setdefault((title, family), []).append(record)
    held = [name for name in layout.shown or families if name in families]
    return [
        Part(
            f"{title}: {title_of(family, own)}" if family else title,
            tuple(records),
            rows,
            layout.columns,
            tuple(name for name in held if family in ("", families[name])),
            turns=bool(family),
            closable=True,
        )
        for (title, family), records in grouped.items()
    ]


def _named(result: Records, record: Record, field: str) -> str:
    """Return the label of a field in a title: `layer 3`, or the text alone."""
    return str(record[field]) if result.fields[field] == "text" else f"{field} {record[field]}"


def divided(parts: Sequence[Part], most: int) -> tuple[list[Part], list[Part]]:
    """Return the parts to show, and those of a series that are too many."""
    in_series = [k for k, part in enumerate(parts) if part.series]
    folded = set(in_series[most:])
    return (
        [part for k, part in enumerate(parts) if k not in folded],
        [part for k, part in enumerate(parts) if k in folded],
    )
