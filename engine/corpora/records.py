"""Records: named values, a record an example, from whatever kind of file, turned into a corpus."""

from __future__ import annotations

import datetime
import decimal
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
from layerlake.store.errors import InvalidInput

ID_FIELDS = ("id", "idx", "sent_id")

_MISSING = object()
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")


class Record(NamedTuple):
    """One example as it was read."""

    name: str
    """What names the example where no field does, such as "line 3"."""
    where: str
    """Where it stands, for messages, such as "line 3 of a.jsonl"."""
    values: dict[str, Any]
    """Its fields; `corpus_of_records` takes them out."""


@dataclass(frozen=True)
class Fields:
    """Which fields are the texts of an example."""

    first: str
    """The text, or the first text of a pair."""
    second: str | None
    """The second text of a pair."""
    words: bool
    """Whether these are lists of words instead of texts."""

    def options(self) -> dict[str, str]:
        """Return them as the options of `read_corpus` that say the same."""
        named = {"words_field" if self.words else "text_field": self.first}
        return named if self.second is None else {**named, "pair_field": self.second}


def check_fields(text_field: str | None, words_field: str | None) -> None:
    """Refuse options that exclude each other."""
    if text_field is not None and words_field is not None:
        raise InvalidInput("text_field and words_field exclude each other; name one of them")


def choose_fields(
    first: Record,
    text_field: str | None = None,
    pair_field: str | None = None,
    words_field: str | None = None,
) -> Fields:
    """Return the fields of the texts, as they are named or as the first record shows them.

    Where neither a text nor a word field is named it is `text` or `words`, whichever the record
    has. Where no field is named at all, the second text is `text_pair` or `words_pair`, if the
    record has it.

    Raises
    ------
    InvalidInput
        Where a field is not there, or the options exclude each other.
    """
    check_fields(text_field, words_field)
    item, where = first.values, first.where
    given = words_field if text_field is None else text_field
    if given is not None:
        field, has_words = given, words_field is not None
    elif "text" in item and "words" in item:
        raise InvalidInput(
            f"{where} has both text and words; say which with text_field or words_field"
        )
    else:
        has_words = "words" in item
        field = "words" if has_words else "text"
    second = pair_field
    if given is None and pair_field is None and f"{field}_pair" in item:
        second = f"{field}_pair"
    for name in (field, second):
        if name is not None and name not in item:
            _refuse_missing(item, name, where)
    if second == field:
        raise InvalidInput(f"the field {field!r} cannot be both texts of a pair")
    return Fields(field, second, has_words)


def corpus_of_records(
    records: Iterable[Record],
    fields: Fields,
    named: str,
    source: dict[str, Any],
    licence: str | None = None,
    *,
    id_fields: Sequence[str] = ID_FIELDS,
    numbers: bool = False,
) -> Corpus:
    """Build a corpus from records, one or more, which are used up one by one.

    Parameters
    ----------
    records
        The examples; their values are taken out of them.
    fields
        The texts.
    named
        The file or the list, for messages.
    source
        Kept with the corpus; the names of columns kept as JSON text are added to it.
    licence
        Kept with the corpus.
    id_fields
        The first of these whose values are all there and all different names the examples;
        otherwise the records' own names do.
    numbers
        Whether columns of text that are numbers throughout become numbers.

    Returns
    -------
    Corpus
        Every field that is no text is a column: all text, int64, float64 or bool where all values
        are so; anything else is JSON text, empty where the field is missing.

    Raises
    ------
    InvalidInput
        Where a text is missing, of the wrong type or without words, or a value is none that JSON
        can say.
    """
    spans = WordSpans()
    texts: list[str] = []
    pair_texts: list[str] | None = None if fields.second is None else []
    names: list[str] = []
    table: dict[str, list[Any]] = {}
    for number, (name, where, values) in enumerate(records):
        value = _take(values, fields.first, fields.words, where)
        texts.append(spans.add_words(value, 0) if fields.words else value)
        if fields.second is not None and pair_texts is not None:
            value = _take(values, fields.second, fields.words, where)
            pair_texts.append(spans.add_words(value, 1) if fields.words else value)
        spans.close_example()
        names.append(name)
        for key, other in values.items():
            column = table.setdefault(key, [])
            column.extend([_MISSING] * (number - len(column)))
            column.append(other)
    columns, encoded = _columns(table, len(names), named, numbers)
    columns = choose_ids(columns, [name for name in id_fields if name not in encoded], names)
    source = {**source, "json_columns": encoded}
    if not fields.words:
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


def _refuse_missing(item: dict[str, Any], name: str, where: str) -> None:
    """Raise for a field that is not there, with those that are."""
    there = ", ".join(sorted(map(str, item))) or "none"
    advice = "text_field, words_field and pair_field name others"
    if {"sentence1", "sentence2"} <= set(item):
        advice += "; the formats mnli and snli read these"
    raise InvalidInput(f"{where} has no field {name!r}; its fields are: {there} ({advice})")


def _take(item: dict[str, Any], field: str, has_words: bool, where: str) -> Any:
    """Remove the text or words from a record and return them, checked."""
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
    table: dict[str, list[Any]], n: int, named: str, numbers: bool
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return a column for every field that is left, and the names of those kept as JSON text."""
    columns: dict[str, NDArray[Any]] = {}
    encoded = []
    for name in list(table):
        check_text(name, f"the name of a field of {named}")
        values = table.pop(name)
        values.extend([_MISSING] * (n - len(values)))
        column = _plain_column(values)
        if column is None:
            encoded.append(name)
            column = string_array(
                ["" if value is _MISSING else _json(value, name, named) for value in values]
            )
        elif numbers and column.dtype.kind == "T":
            column = _numbers(values, column)
        columns[name] = column
    return columns, encoded


def _plain_column(values: Sequence[Any]) -> NDArray[Any] | None:
    """Return values as an array of text, int64, float64 or bool; None where they are neither."""
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


def _numbers(values: Sequence[str], column: NDArray[Any]) -> NDArray[Any]:
    """Return a column of text as numbers where all of it is; "007" is none, since zeros count."""
    if all(_WHOLE.fullmatch(value) for value in values):
        return np.array([int(value) for value in values], np.int64)
    if all(_DECIMAL.fullmatch(value) for value in values):
        fractions = np.array([float(value) for value in values], np.float64)
        if any("." in value for value in values) and np.isfinite(fractions).all():
            return fractions
    return column


def _json(value: Any, name: str, named: str) -> str:
    """Return a value as JSON text."""

    def other(part: Any) -> Any:
        if isinstance(part, np.ndarray | np.generic):
            return part.tolist()
        if isinstance(part, datetime.date | datetime.time):
            return part.isoformat()
        if isinstance(part, decimal.Decimal):
            return str(part)
        raise InvalidInput(
            f"the field {name!r} of {named} holds {type(part).__name__}, which cannot be kept as "
            "text; leave that field out"
        )

    return json.dumps(value, default=other)
