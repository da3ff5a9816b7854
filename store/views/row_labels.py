"""What is known of the rows of a set: where they stand in their corpus, and what it says of them.

Read from the tables that the format names (a row set, a corpus); nothing here is computed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput, NameNotFound
from layerlake.store.location import Location
from layerlake.store.space import Space
from layerlake.store.tables import decode_name, encode_name, read_attributes, read_table

NO_LABEL = -100
"""The label of a row that has none, which torch's cross entropy leaves out."""

_FOLDERS = {"annotations": "word", "columns": "example"}
"""Where in the table of a corpus its annotations and columns lie, and what has an entry there."""


def _corpus_columns(location: Location, corpus: str) -> list[str]:
    return list(read_attributes(location, f"corpora/{corpus}").get("columns", {}))


def row_values(
    space: Space, name: str, places: dict[str, NDArray[Any]] | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return what an annotation of words, or a column of examples, says of each row.

    Parameters
    ----------
    name
        Name of the annotation or column, as its source has it; `annotations/NAME` or
        `columns/NAME` where one name is both.
    places
        What `space.row_places` returned, where it is known already.

    Returns
    -------
    values, known
        Both (row,): the values (strings as objects), and whether there is one. A special piece has
        no word, hence no annotation.

    Raises
    ------
    NameNotFound
        The corpus has neither; the sentence lists what it has. Or its rows are not in the lake.
    InvalidInput
        It has both.
    """
    places = space.row_places() if places is None else places
    place, values = named_values(space, name, places)
    index = places[place]
    known = index >= 0
    if not len(values):
        return np.zeros(len(index), values.dtype), np.zeros(len(index), np.bool_)
    return values[np.where(known, index, 0)], known


def named_values(space: Space, name: str, places: Collection[str]) -> tuple[str, NDArray[Any]]:
    """Return what an annotation or a column is about, `word` or `example`, and all its values.

    Parameters
    ----------
    name
        As `row_values`, which also says what is raised.
    places
        What is known of the rows: `word` and `example`, or nothing.
    """
    location, corpus = space.location, space.corpus
    present = _corpus_columns(location, corpus)
    found = [
        (f"{folder}/{encode_name(plain)}", place)
        for folder, place in _FOLDERS.items()
        for plain in {name, name.removeprefix(f"{folder}/")}
        if f"{folder}/{encode_name(plain)}" in present and place in places
    ]
    if len(found) > 1:
        raise InvalidInput(
            f"corpus {corpus} has an annotation and a column {name!r}; write "
            f"annotations/{name} or columns/{name}"
        )
    if found:
        ((column, place),) = found
        table, _ = read_table(location, f"corpora/{corpus}", names=[column])
        return place, _plain(table[column])
    if not places:
        raise NameNotFound(
            f"the row set of {space.path} is not in the lake, so that nothing tells the {name} of "
            "its rows; give one value a row instead"
        )
    known_names = [
        decode_name(column.partition("/")[2])
        for column in present
        if column.startswith(("annotations/", "columns/"))
    ]
    raise NameNotFound(
        f"corpus {corpus} has no annotation or column {name!r}; it has "
        f"{', '.join(sorted(set(known_names))) or 'none'}"
    )


def coded_labels(
    values: NDArray[Any], known: NDArray[np.bool_]
) -> tuple[NDArray[Any], list[str] | None]:
    """Return labels as int64 or float32, and what the codes stand for where they were strings.

    What is not known is `NO_LABEL` among whole numbers, NaN among others.
    """
    if values.dtype.kind in "OUT":
        present = np.array([str(value) for value in values[known]], dtype=object)
        classes, codes = np.unique(present, return_inverse=True)
        coded = np.full(len(values), NO_LABEL, np.int64)
        coded[known] = codes
        return coded, [str(name) for name in classes]
    if values.dtype.kind in "biu":
        return np.where(known, values.astype(np.int64), NO_LABEL), None
    if values.dtype.kind == "f":
        return np.where(known, values, np.nan).astype(np.float32), None
    raise InvalidInput(f"labels of dtype {values.dtype} are neither numbers nor strings")


def example_ids(location: Location, corpus: str) -> NDArray[Any] | None:
    """Return the id of every example as objects, shape (example,); None where there are none."""
    if "columns/id" not in _corpus_columns(location, corpus):
        return None
    table, _ = read_table(location, f"corpora/{corpus}", names=["columns/id"])
    return _plain(table["columns/id"])


def word_texts(location: Location, corpus: str, words: NDArray[Any]) -> NDArray[Any] | None:
    """Return the text of the word of each row ("" for -1) as objects; None without words.

    Equal words are one object. The texts of the corpus are in memory meanwhile.
    """
    names = ["text", "pair_text", "word_offsets", "word_start", "word_stop", "word_segment"]
    present = _corpus_columns(location, corpus)
    if not {"text", *names[2:]} <= set(present):
        return None
    table, _ = read_table(location, f"corpora/{corpus}", names=names)
    wanted, inverse = np.unique(words, return_inverse=True)
    examples = np.searchsorted(table["word_offsets"], wanted, side="right") - 1
    sides = [table["text"], table.get("pair_text")]
    known: dict[str, str] = {}
    texts = np.full(len(wanted), "", dtype=object)
    for place, (word, example) in enumerate(zip(wanted.tolist(), examples.tolist(), strict=True)):
        if word >= 0:
            side = sides[int(table["word_segment"][word])]
            assert side is not None, "a corpus without second texts has words of segment 0 only"
            text = str(side[example])[int(table["word_start"][word]) : table["word_stop"][word]]
            texts[place] = known.setdefault(text, text)
    return texts[inverse]


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return strings as Python objects, which every library knows; other values as they are."""
    return values.astype(object) if values.dtype.kind == "T" else values
