"""Examples that lie in memory or are streamed: lists, data frames, data sets of `datasets`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.corpora.nli import NO_CONSENSUS, nli_corpus
from layerlake.engine.corpora.records import Record, choose_fields, corpus_of_records
from layerlake.engine.corpora.squad import squad_corpus
from layerlake.engine.progress import Progress, silent
from layerlake.store.errors import InvalidInput, is_a

FORMATS_OF_ROWS = ("mnli", "snli", "squad")
"""Formats that rows in memory may have; without one their fields are named, or `text`."""

_ROWS_TOLD = 1000
_MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti", "Mesh")


def corpus_of_object(
    source: Any,
    format: str | None = None,
    *,
    text_field: str | None = None,
    pair_field: str | None = None,
    words_field: str | None = None,
    licence: str | None = None,
    progress: Progress = silent,
) -> tuple[str | None, Corpus]:
    """Return a corpus of examples that are no file, and the name that they come with, if any.

    Parameters
    ----------
    source
        A sequence of texts, of pairs of texts, or of mappings from fields to values; a
        `pandas.DataFrame`; a `Dataset` or `IterableDataset` of the `datasets` library.
    format
        "mnli", "snli" or "squad" for rows with the fields of these; else None.
    text_field, pair_field, words_field
        The fields of mappings, frames and data sets, as `read_jsonl`.
    licence
        Kept with the corpus.
    progress
        Told of the rows of frames and data sets.

    Raises
    ------
    InvalidInput
        Where the source is nothing of the kind, or a text is missing, no text, or without words.
    """
    fields = {"text_field": text_field, "pair_field": pair_field, "words_field": words_field}
    rows: Iterable[dict[str, Any]]
    total: int | None
    name: str | None = None
    if _is_of("pandas", source, "DataFrame"):
        rows = (
            dict(zip(source.columns, values, strict=True))
            for values in source.itertuples(index=False, name=None)
        )
        what, total = "the DataFrame", len(source)
        about: dict[str, Any] = {"format": "dataframe"}
    elif _is_of("datasets", source, "DatasetDict", "IterableDatasetDict"):
        splits = ", ".join(source) or "none"
        raise InvalidInput(
            f"a {type(source).__name__} holds several splits ({splits}); give one of them, such "
            f"as dataset[{next(iter(source), 'train')!r}]"
        )
    elif _is_of("datasets", source, "Dataset", "IterableDataset"):
        rows = rows_of_data_set(source)
        what = "the data set"
        total = len(source) if hasattr(source, "__len__") else None
        name, about = _about_data_set(source)
    elif is_a(source, Sequence, np.ndarray) and not is_a(source, bytes, str):
        entries = list(source)
        if not entries or not isinstance(entries[0], Mapping):
            given = [name for name, value in {**fields, "format": format}.items() if value]
            if given:
                raise InvalidInput(
                    f"{given[0]} is for examples with named fields, and these are texts"
                )
            return None, _corpus_of_texts(entries)
        rows = (_mapping(entry, number) for number, entry in enumerate(entries, start=1))
        what, total, about = "the list", len(entries), {"format": "records"}
    else:
        raise InvalidInput(
            f"a {type(source).__name__} is no corpus; give a file, a name in the lake, a Corpus, "
            "a list (of strings, of pairs, of dicts), a DataFrame or a Dataset"
        )
    with progress(f"reading {name or what}", total, "rows") as stage:
        corpus = corpus_of_rows(
            rows, what, about, format, licence=licence, on_rows=stage.advance, **fields
        )
    return name, corpus


def corpus_of_rows(
    rows: Iterable[dict[str, Any]],
    named: str,
    source: dict[str, Any],
    format: str | None,
    *,
    licence: str | None = None,
    on_rows: Callable[[int], None] | None = None,
    **fields: str | None,
) -> Corpus:
    """Build a corpus of rows, each of them named values; see `corpus_of_object`."""
    if format is not None and format not in FORMATS_OF_ROWS:
        raise InvalidInput(
            f"the format {format!r} is for files; {named} may have one of "
            f"{', '.join(FORMATS_OF_ROWS)}, or none"
        )
    for name, value in fields.items():
        if format is not None and value is not None:
            raise InvalidInput(f"the format {format} says what the texts are; leave {name} out")
    records = _records(rows, named, on_rows)
    first = next(records, None)
    if first is None:
        raise InvalidInput(f"{named} holds no examples")
    every = itertools.chain([first], records)
    source = {**source, "options": {}}
    if format == "squad":
        return squad_corpus(every, named, {**source, "layout": format}, licence)
    if format is not None:
        return nli_corpus(every, named, {**source, "layout": format}, licence)
    chosen = choose_fields(first, **fields)
    source["options"] = chosen.options()
    return corpus_of_records(every, chosen, named, source, licence)


def _records(
    rows: Iterable[dict[str, Any]], named: str, on_rows: Callable[[int], None] | None
) -> Iterator[Record]:
    number = 0
    for number, values in enumerate(rows, start=1):
        yield Record(f"row {number}", f"row {number} of {named}", values)
        if on_rows is not None and number % _ROWS_TOLD == 0:
            on_rows(_ROWS_TOLD)
    if on_rows is not None:
        on_rows(number % _ROWS_TOLD)


def _is_of(library: str, value: object, *kinds: str) -> bool:
    """Say whether a value is of a class of a library, which is not imported for the question."""
    module = sys.modules.get(library)
    found = [getattr(module, kind, None) for kind in kinds]
    return isinstance(value, tuple(kind for kind in found if isinstance(kind, type)))


def _corpus_of_texts(entries: list[Any]) -> Corpus:
    """Return a corpus of texts, or of pairs of texts."""
    if not entries or not isinstance(entries[0], tuple | list):
        return corpus_from_texts(entries)
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, tuple | list) or len(entry) != 2:
            shown = f"{len(entry)} entries" if isinstance(entry, tuple | list) else repr(entry)
            raise InvalidInput(
                f"example {number} of the list is {shown[:60]}, expected a pair of texts as before"
            )
    return corpus_from_texts([entry[0] for entry in entries], [entry[1] for entry in entries])


def _mapping(entry: Any, number: int) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise InvalidInput(
            f"row {number} of the list is {type(entry).__name__}, expected a dict as before"
        )
    return dict(entry)


def _about_data_set(source: Any) -> tuple[str | None, dict[str, Any]]:
    """Return the name and the source of a data set, as far as it knows them."""
    info = source.info
    known = {
        "name": info.dataset_name,
        "config": info.config_name,
        "split": None if source.split is None else str(source.split),
        "version": None if info.version is None else str(info.version),
        "fingerprint": getattr(source, "_fingerprint", None),
    }
    about = {"format": "dataset", **{key: value for key, value in known.items() if value}}
    name = "-".join(filter(None, (known["name"], known["split"]))) if known["name"] else None
    return name, about


def rows_of_data_set(source: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a `Dataset` or `IterableDataset` as plain values.

    A class label becomes its name, `-` where there is none (-1), with the number beside it in a
    field that ends in `_id`; a list of class labels likewise.

    Raises
    ------
    InvalidInput
        Where a field holds pictures, sound or the like.
    """
    features = source.features or {}
    labels: dict[str, tuple[str, list[str], bool]] = {}
    for name, feature in features.items():
        kind = type(feature).__name__
        if kind in _MEDIA:
            raise InvalidInput(
                f"the field {name!r} of the data set holds {kind}, which is no text; leave it out "
                f"with dataset.remove_columns({name!r})"
            )
        inner: Any = getattr(feature, "feature", None)
        for candidate, many in ((feature, False), (inner, True)):
            if type(candidate).__name__ == "ClassLabel":
                number = f"{name}_id"
                while number in features:
                    number += "_"
                labels[name] = number, list(candidate.names), many
    # Plain values, whatever format was set for the use of the data set elsewhere.
    for row in source.with_format(None):
        for name, (number, names, many) in labels.items():
            value = row[name]
            row[number] = -1 if value is None else value
            row[name] = (
                [_label(names, entry) for entry in value]
                if many and value is not None
                else _label(names, value)
            )
        yield row


def _label(names: list[str], value: int | None) -> str:
    return NO_CONSENSUS if value is None or value < 0 else names[value]
