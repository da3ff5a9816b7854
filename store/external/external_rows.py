"""The rows that brought activations are of: a corpus that is there, or bare examples with ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput, NameNotFound, is_a
from layerlake.store.identity import corpus_fingerprint, short
from layerlake.store.row_sets import RowSet, all_examples, all_words, check_unit

if TYPE_CHECKING:
    from layerlake.store.lake import Lake


NUMBERED: Final = "rows"
"""The format of a corpus whose examples are rows that nothing but their number names."""


@dataclass(frozen=True)
class ExternalRows:
    """Rows, how to name them, and the tables that must be in the lake before their activations."""

    rows: RowSet
    ids: NDArray[Any]
    """(example,) ids of the corpus."""
    matched: bool
    """Whether ids that came with the activations were compared with those of the corpus."""
    tables: Mapping[str, tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]]]
    """Path -> columns and attributes of the tables that are not there yet."""

    def name(self, row: int) -> str:
        """Return the name of a row for a message."""
        example = int(self.rows.row_example[row])
        name = f"example {str(self.ids[example])!r}"
        if self.rows.unit == "example":
            return f"row {row} ({name})"
        place = int(self.rows.row_position[row])
        return f"row {row} ({self.rows.unit} {place} of {name})"


def bare_corpus(
    ids: Sequence[str], *, numbered: bool = False
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return columns and attributes of a corpus that is nothing but ids, or rows by number.

    An example is its id, as its text and its one word, so that whatever reads a corpus reads it.
    """
    n = len(ids)
    texts = np.array(list(ids), dtype=np.dtypes.StringDType())
    columns: dict[str, NDArray[Any]] = {
        "text": texts,
        "word_offsets": np.arange(n + 1, dtype=np.int64),
        "word_start": np.zeros(n, np.int32),
        "word_stop": np.array([len(name) for name in ids], np.int32),
        "word_segment": np.zeros(n, np.uint8),
        "columns/id": texts,
    }
    attributes = {
        "words_given": True,
        "source": {"format": NUMBERED if numbered else "ids"},
        "licence": None,
        "fingerprint": corpus_fingerprint(columns, words_given=True),
        "kind": "corpus",
        "n_examples": n,
        "n_words": n,
    }
    return columns, attributes


def checked_ids(ids: Any) -> list[str]:
    """Return ids as text: all different, none empty; whole numbers are taken as they are written.

    Raises
    ------
    InvalidInput
        Where they are none; the sentence names the first that is wrong.
    """
    if is_a(ids, str, bytes) or not hasattr(ids, "__iter__"):
        raise InvalidInput(f"ids are {type(ids).__name__}; give a list, an id for each example")
    names: list[str] = []
    for place, value in enumerate(ids):
        if is_a(value, bool, np.bool_) or not is_a(value, str, int, np.integer) or value == "":
            raise InvalidInput(
                f"id {place} is {value!r}; an id is text that is not empty, or a whole number"
            )
        names.append(str(value))
        try:
            names[-1].encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"id {place} is no Unicode text: {value!r}") from None
    if not names:
        raise InvalidInput("there are no ids; give one for each example")
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if first.setdefault(name, place) != place:
            raise InvalidInput(f"id {name!r} is that of examples {first[name]} and {place}")
    return names


def external_rows(
    lake: Lake,
    corpus: str,
    ids: Any = None,
    unit: str | None = None,
    row_set: str | RowSet | None = None,
) -> ExternalRows:
    """Return the rows that activations are brought for; nothing is written.

    Parameters
    ----------
    corpus
        Name in the lake; where there is none of that name, ids make it.
    ids
        (example,) the examples that the rows are of, to be compared with those of the corpus.
        `range(n)` is rows that nothing but their number names.
    unit
        `example` (the default with ids, and over a corpus of numbered rows) or `word`: a row each.
    row_set
        A row set of the corpus, or (the beginning of) the fingerprint of one in the lake.

    Raises
    ------
    InvalidInput, NameNotFound
        Ids do not match, nothing says what a row is, or there is no such row set.
    """
    names = None if ids is None else checked_ids(ids)
    numbered = is_a(ids, range) and ids == range(len(ids))
    if unit is not None:
        check_unit(unit)
    if row_set is not None and unit is not None:
        raise InvalidInput("unit and row_set both say what a row is; give one of them")
    if unit == "piece":
        raise InvalidInput("piece rows are those of a tokenizer; name a row set of pieces")
    if names is not None and (row_set is not None or unit == "word"):
        raise InvalidInput("ids are those of examples, and go with a row an example alone")
    if corpus not in lake.corpora():
        if names is None:
            lake.check_corpus(corpus)  # raises, and names what is near
        assert names is not None, "a corpus that is not there was found"
        columns, attributes = bare_corpus(names, numbered=numbered)
        rows = all_examples(len(names))
        tables = {f"corpora/{corpus}": (columns, attributes), **_table_of(corpus, rows)}
        return ExternalRows(rows, columns["columns/id"], not numbered, tables)
    path = f"corpora/{corpus}"
    columns, about = lake.table(path, names=["columns/id", "word_offsets"])
    held = columns["columns/id"]
    if isinstance(row_set, RowSet):
        return ExternalRows(row_set, held, False, _missing(lake, corpus, row_set))
    if row_set is not None:
        return ExternalRows(_kept(lake, corpus, row_set), held, False, {})
    if names is None and unit is None and about["source"].get("format") != NUMBERED:
        raise InvalidInput(
            f"nothing says what a row is; give the ids of the {len(held)} examples of {corpus}, a "
            "unit (example or word, in corpus order), or a row set"
        )
    if unit == "word":
        rows = all_words(columns["word_offsets"])
    else:
        rows = all_examples(len(held))
        if names is not None:
            _match(names, held.tolist(), corpus)
    matched = names is not None and not numbered
    return ExternalRows(rows, held, matched, _missing(lake, corpus, rows))


def _missing(lake: Lake, corpus: str, rows: RowSet) -> dict[str, tuple[Any, Any]]:
    """Return the table of a row set, unless the lake holds it."""
    return {
        place: table
        for place, table in _table_of(corpus, rows).items()
        if not lake.holds_table(place, rows.fingerprint)
    }


def _table_of(corpus: str, rows: RowSet) -> dict[str, tuple[Any, Any]]:
    attributes = {**rows.to_attributes(), "kind": "rows", "n_rows": rows.n_rows}
    return {f"corpora/{corpus}/rows/{short(rows.fingerprint)}": (rows.to_columns(), attributes)}


def _match(names: Sequence[str], held: Sequence[str], corpus: str) -> None:
    """Raise unless the ids are those of the corpus, in its order."""
    for place, (given, known) in enumerate(zip(names, held, strict=False)):
        if given != str(known):
            raise InvalidInput(
                f"the ids do not match corpus {corpus!r}: example {place} is {str(known)!r} there, "
                f"and {given!r} was given; bring the rows in the order of the corpus"
            )
    if len(names) != len(held):
        extra = (
            f"the first that is missing is {str(held[len(names)])!r}"
            if len(names) < len(held)
            else f"the first too many is {names[len(held)]!r}"
        )
        raise InvalidInput(
            f"{len(names)} ids were given, and corpus {corpus!r} has {len(held)} examples; {extra}"
        )


def _kept(lake: Lake, corpus: str, row_set: str) -> RowSet:
    """Return a row set of the lake by (the beginning of) its fingerprint."""
    known = lake.location.nodes(f"corpora/{corpus}/rows")
    found = [
        name
        for name in known
        if row_set and (f"{row_set}".startswith(name) or name.startswith(row_set))
    ]
    if len(found) != 1:
        raise NameNotFound(
            f"{len(found) or 'no'} row sets of {corpus} begin with {row_set!r}; there are "
            f"{', '.join(known) or 'none'}"
        )
    return RowSet.from_columns(*lake.table(f"corpora/{corpus}/rows/{found[0]}"))
