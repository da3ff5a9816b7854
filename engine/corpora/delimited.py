"""Tables as text: tab-separated values without quoting, comma-separated values with it."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.files import file_digest, read_lines
from layerlake.engine.corpora.records import Record, choose_fields, corpus_of_records
from layerlake.store.errors import InvalidInput


def read_delimited(
    path: Path,
    kind: str,
    *,
    text_field: str | None = None,
    pair_field: str | None = None,
    licence: str | None = None,
    on_lines: Callable[[int], None] | None = None,
) -> Corpus:
    """Read a table whose first line names its columns.

    Parameters
    ----------
    path
        The file.
    kind
        "tsv": a tab parts the columns, and quotes mean nothing (as in GLUE). "csv": RFC 4180; a
        quoted value may hold commas, line ends and doubled quotes.
    text_field, pair_field
        The columns of the text and of the second text; `text` and, where there is one,
        `text_pair` if none is named.
    licence
        Kept with the corpus.

    Returns
    -------
    Corpus
        Every other column is kept, as numbers where all of its values are numbers; examples are
        named as those of `read_jsonl`.

    Raises
    ------
    InvalidInput
        Where a line has another number of values than the first, or its text has no words.
    """
    records = delimited_records(path, kind, on_lines)
    first = next(records)
    fields = choose_fields(first, text_field or "text", pair_field)
    if text_field is None and pair_field is None and "text_pair" in first.values:
        fields = choose_fields(first, "text", "text_pair")
    source = {
        "format": kind,
        "file": path.name,
        "sha256": file_digest(path),
        "options": fields.options(),
    }
    every = itertools.chain([first], records)
    return corpus_of_records(every, fields, path.name, source, licence, numbers=True)


def delimited_records(
    path: Path, kind: str, on_lines: Callable[[int], None] | None = None
) -> Iterator[Record]:
    """Yield the records below the header; refuse a file that has none."""
    rows = _tsv_rows(path, on_lines) if kind == "tsv" else _csv_rows(path, on_lines)
    number, header = next(rows, (0, []))
    if not number:
        raise InvalidInput(f"{path.name} holds no examples")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InvalidInput(
            f"line {number} of {path.name} names the column {twice!r} twice; the first line must "
            "name every column once"
        )
    empty = True
    for number, values in rows:
        where = f"line {number} of {path.name}"
        if len(values) != len(header):
            raise InvalidInput(
                f"{where} has {len(values)} values, expected {len(header)} "
                f"({', '.join(header)}, as its first line says), parted by "
                f"{'tabs' if kind == 'tsv' else 'commas'}; mend that line"
            )
        empty = False
        yield Record(f"line {number}", where, dict(zip(header, values, strict=True)))
    if empty:
        raise InvalidInput(f"{path.name} holds no examples, only the names of its columns")


def _tsv_rows(
    path: Path, on_lines: Callable[[int], None] | None
) -> Iterator[tuple[int, list[str]]]:
    for number, line in read_lines(path, on_lines):
        if line.strip():
            yield number, line.split("\t")


_LONGEST: Final = 2**31 - 1
"""Characters of a value; csv has a limit of 131,072 where nobody says, and documents are longer."""


def _csv_rows(
    path: Path, on_lines: Callable[[int], None] | None
) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line + "\n" for _, line in read_lines(path, on_lines)), strict=True)
    begins = 1
    while True:
        try:
            # The limit is the process's, and other readers of it may want theirs.
            before = csv.field_size_limit(_LONGEST)
            try:
                values = next(reader)
            finally:
                csv.field_size_limit(before)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidInput(
                f"line {reader.line_num} of {path.name} is not CSV ({error}); quote values that "
                'hold commas or quotes, and double the quotes in them ("")'
            ) from None
        if values:
            yield begins, values
        begins = reader.line_num + 1
