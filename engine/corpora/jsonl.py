"""JSON lines: an object a line, with a text or a list of words, and any other fields."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.files import file_digest, read_lines
from layerlake.engine.corpora.records import (
    Record,
    check_fields,
    choose_fields,
    corpus_of_records,
)
from layerlake.store.errors import InvalidInput


def read_jsonl(
    path: Path,
    *,
    text_field: str | None = None,
    pair_field: str | None = None,
    words_field: str | None = None,
    licence: str | None = None,
    on_lines: Callable[[int], None] | None = None,
) -> Corpus:
    """Read a file of one JSON object a line; blank lines are skipped.

    Parameters
    ----------
    path
        The file.
    text_field, words_field
        The field with the text, or with the list of words; at most one of the two. Where neither
        is given it is `text` or `words`, whichever the first object has.
    pair_field
        The field with the second text (or list of words) of a pair. Where no field is named at
        all it is `text_pair` or `words_pair`, if the first object has it.
    licence
        Kept with the corpus.

    Returns
    -------
    Corpus
        Every other field is a column: all text, int64, float64 or bool where all values are so;
        anything else is JSON text, empty where the field is missing. The first of the fields `id`,
        `idx`, `sent_id` whose values are all there and all different names the examples, otherwise
        "line N" does.

    Raises
    ------
    InvalidInput
        Where a line is no JSON object, or its text is missing, of the wrong type or without words.
    """
    check_fields(text_field, words_field)
    records = json_records(path, on_lines)
    first = next(records)
    fields = choose_fields(first, text_field, pair_field, words_field)
    source = {
        "format": "jsonl",
        "file": path.name,
        "sha256": file_digest(path),
        "options": fields.options(),
    }
    return corpus_of_records(itertools.chain([first], records), fields, path.name, source, licence)


def json_records(path: Path, on_lines: Callable[[int], None] | None = None) -> Iterator[Record]:
    """Yield the object of every line that is not blank; refuse a file that has none."""
    empty = True
    for number, line in read_lines(path, on_lines):
        if line.strip():
            empty = False
            where = f"line {number} of {path.name}"
            yield Record(f"line {number}", where, _parse(line, where))
    if empty:
        raise InvalidInput(f"{path.name} holds no examples")


def _parse(line: str, where: str) -> dict[str, Any]:
    """Return the object on a line."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise InvalidInput(
            f"{where} is not JSON ({reason}); expected one object a line, got {line[:40]!r}"
        ) from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is a JSON {type(value).__name__}, expected an object")
    return value
