"""JSON lines: an object a line, with a text or a list of words, and any other fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import (
    Corpus,
    WordSpans,
    check_text,
    choose_ids,
    corpus_of_texts,
    string_array,
)
from layerlake.engine.corpora.files import file_digest, read_lines
from layerlake.store.errors import InvalidInput

ID_FIELDS = ("id", "idx", "sent_id")

_MISSING = object()


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
    if text_field is not None and words_field is not None:
        raise InvalidInput("text_field and words_field exclude each other; name one of them")
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in read_lines(path, on_lines):
        if line.strip():
            objects.append(_parse(line, f"line {number} of {path.name}"))
            lines.append(number)
    if not objects:
        raise InvalidInput(f"{path.name} holds no examples")
    field, second, has_words = _fields(
        objects[0], f"line {lines[0]} of {path.name}", text_field, pair_field, words_field
    )
    spans = WordSpans()
    texts: list[str] = []
    pair_texts: list[str] | None = None if second is None else []
    for number, item in zip(lines, objects, strict=True):
        where = f"line {number} of {path.name}"
        value = _take(item, field, has_words, where)
        texts.append(spans.add_words(value, 0) if has_words else value)
        if second is not None and pair_texts is not None:
            value = _take(item, second, has_words, where)
            pair_texts.append(spans.add_words(value, 1) if has_words else value)
        spans.close_example()
    columns, encoded = _columns(objects, path.name)
    del objects
    columns = choose_ids(
        columns,
        [name for name in ID_FIELDS if name not in encoded],
        [f"line {number}" for number in lines],
    )
    options = {"words_field" if has_words else "text_field": field}
    source = {
        "format": "jsonl",
        "file": path.name,
        "sha256": file_digest(path),
        "options": options if second is None else {**options, "pair_field": second},
        "json_columns": encoded,
    }
    if not has_words:
        return corpus_of_texts(texts, pair_texts, columns, source, licence)
    return Corpus(
        texts=texts,
        pair_texts=pair_texts,
        words_given=True,
        annotations={},
        columns=columns,
        source=source,
        licence=licence,
        **spans.arrays(),
    )


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


def _fields(
    first: dict[str, Any],
    where: str,
    text_field: str | None,
    pair_field: str | None,
    words_field: str | None,
) -> tuple[str, str | None, bool]:
    """Return the field of the text or words, that of the second, and whether they are words."""
    given = words_field if text_field is None else text_field
    if given is not None:
        field, has_words = given, words_field is not None
    elif "text" in first and "words" in first:
        raise InvalidInput(
            f"{where} has both text and words; say which with text_field or words_field"
        )
    else:
        has_words = "words" in first
        field = "words" if has_words else "text"
    second = pair_field
    if given is None and pair_field is None and f"{field}_pair" in first:
        second = f"{field}_pair"
    for name in (field, second):
        if name is not None and name not in first:
            _refuse_missing(first, name, where)
    if second == field:
        raise InvalidInput(f"the field {field!r} cannot be both texts of a pair")
    return field, second, has_words


def _refuse_missing(item: dict[str, Any], name: str, where: str) -> None:
    """Raise for a field that is not there, with those that are."""
    there = ", ".join(sorted(item)) or "none"
    raise InvalidInput(
        f"{where} has no field {name!r}; its fields are: {there} "
        "(text_field, words_field and pair_field name others)"
    )


def _take(item: dict[str, Any], field: str, has_words: bool, where: str) -> Any:
    """Remove the text or words from an object and return them, checked."""
    value = item.pop(field, _MISSING)
    if value is _MISSING:
        _refuse_missing(item, field, where)
    if not has_words:
        if isinstance(value, list):
            raise InvalidInput(
                f"field {field!r} at {where} is a list, expected text; "
                "a list of words is named by words_field, in every line alike"
            )
        return check_text(value, f"field {field!r} at {where}")
    if not isinstance(value, list):
        raise InvalidInput(
            f"field {field!r} at {where} is {type(value).__name__}, expected a list of words; "
            "text is named by text_field, in every line alike"
        )
    if not any(isinstance(word, str) and word.strip() for word in value):
        raise InvalidInput(f"field {field!r} at {where} has no words; leave that example out")
    for place, word in enumerate(value, start=1):
        if not check_text(word, f"word {place} of field {field!r} at {where}"):
            raise InvalidInput(f"word {place} of field {field!r} at {where} is empty; leave it out")
    return value


def _columns(
    objects: Sequence[dict[str, Any]], file: str
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return a column for every field that is left, and the names of those kept as JSON text."""
    names: dict[str, None] = {}
    for item in objects:
        names.update(dict.fromkeys(item))
    columns, encoded = {}, []
    for name in names:
        check_text(name, f"the name of a field of {file}")
        values = [item.get(name, _MISSING) for item in objects]
        column = _plain_column(values)
        if column is None:
            encoded.append(name)
            column = string_array(
                ["" if value is _MISSING else json.dumps(value) for value in values]
            )
        columns[name] = column
    return columns, encoded


def _plain_column(values: Iterable[Any]) -> NDArray[Any] | None:
    """Return values as an array of text, int64, float64 or bool; None where they are neither."""
    values = list(values)
    kinds = {type(value) for value in values}
    if kinds == {str}:
        try:
            return string_array(values)
        except UnicodeEncodeError:
            return None  # JSON text can say half a surrogate pair; UTF-8 cannot
    if kinds == {bool}:
        return np.array(values, np.bool_)
    if kinds <= {int, float} and kinds:
        try:
            return np.array(values, np.int64 if kinds == {int} else np.float64)
        except OverflowError:
            return None
    return None
