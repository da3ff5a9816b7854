"""The base class of what analyses return: records, their tables for people and their files."""

from __future__ import annotations

import csv
import importlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from layerlake.analyses.results.record import Records, none_for_nan
from layerlake.store.errors import MissingExtra, StorageFailed

if TYPE_CHECKING:
    import xarray as xr

    from layerlake.analyses.results.parts import Part

MOST_LINES: Final = 60
"""Lines of a result's `repr`."""


@dataclass(frozen=True, repr=False)
class Result(Records):
    """What an analysis returns: records that are tabled and written as their class declares.

    `Records` says what a subclass declares.
    """

    def __repr__(self) -> str:
        """Return the tables and the notes, cut after `MOST_LINES` lines."""
        if not self.records:
            return f"<{type(self).__name__} of nothing>"
        lines = [*self.table().splitlines(), *(f"note: {note}" for note in self.notes)]
        rest = len(lines) - MOST_LINES
        if rest > 0:
            lines[MOST_LINES:] = [f"... {rest:,} more lines; .table() returns all"]
        return "\n".join(lines)

    def parts(self) -> list[Part]:
        """Return the records in the parts that have a table each, as the class declares."""
        from layerlake.analyses.results.parts import parts_of

        return parts_of(self)

    def table(self) -> str:
        """Return tables for people.

        A cell holds the value with its interval in brackets; a dash stands for what is not defined.
        """
        from layerlake.analyses.results.tables import tables_text

        return tables_text(self, self.parts())

    def _repr_html_(self) -> str:
        from layerlake.analyses.results.pages import tables_html

        return tables_html(self, self.parts())

    def to_xarray(self) -> xr.Dataset:
        """Return the numbers, `value` and what goes with it, over the axes of the class.

        None is NaN. What else tells records apart (the distinguishing fields of the class, such as
        `corpus` and `site`) is a leading axis where it differs. Where one axis alone says it (each
        variant its own reference, each layer compared with the same layer), it is a coordinate
        beside that.

        Raises
        ------
        InvalidInput
            Two records have one place.
        """
        from layerlake.analyses.results.arrays import labelled_numbers

        return labelled_numbers(self)

    def to_pandas(self) -> Any:
        """Return the records as a pandas DataFrame, one row each.

        Raises
        ------
        MissingExtra
            pandas is not installed.
        """
        try:
            frame = importlib.import_module("pandas").DataFrame
        except ImportError as error:
            raise MissingExtra(
                "to_pandas needs pandas, which is not installed; install it with: "
                "pip install pandas"
            ) from error
        columns = self.to_columns()
        return frame(
            {
                field: columns[field].tolist() if kind == "text" else columns[field]
                for field, kind in self.fields.items()
            }
        )

    def to_markdown(self) -> str:
        """Return the tables in Markdown, all of them, and the notes as a list."""
        from layerlake.analyses.results.documents import markdown_text

        return markdown_text(self, self.parts())

    def to_latex(self) -> str:
        """Return the tables in LaTeX, all of them, for the package booktabs; notes are comments."""
        from layerlake.analyses.results.documents import latex_text

        return latex_text(self, self.parts())

    def to_csv(self, file: str | Path | None = None) -> str:
        """Return the records as CSV, a line each under a line of their fields; write it where asked.

        Numbers are written so that they are read back to the bit; what is None is empty.

        Raises
        ------
        StorageFailed
            The file cannot be written.
        """
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(self.fields)
        for record in self.records:
            lines.writerow([none_for_nan(record[field]) for field in self.fields])
        if file is not None:
            try:
                Path(file).write_text(text.getvalue(), encoding="utf-8", newline="")
            except OSError as error:
                raise StorageFailed(
                    f"the table cannot be written to {file}: {error.strerror}; choose another place"
                ) from error
        return text.getvalue()

    def to_json(self) -> str:
        """Return one JSON object of settings, identity, records and notes."""
        return json.dumps(
            {
                "settings": self.settings,
                "identity": self.identity,
                "records": [
                    {field: none_for_nan(record[field]) for field in self.fields}
                    for record in self.records
                ],
                "notes": list(self.notes),
            },
            ensure_ascii=False,
            allow_nan=False,
        )
