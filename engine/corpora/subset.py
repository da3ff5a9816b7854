"""Corpora made of corpora: some examples of one, or all of several."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import Corpus, string_array
from layerlake.store.errors import InvalidInput
from layerlake.store.row_sets import offsets_of, runs


def take_examples(corpus: Corpus, chosen: NDArray[np.int64]) -> Corpus:
    """Return a corpus of some examples, in the order given, with their words and columns.

    Parameters
    ----------
    corpus
        The whole.
    chosen
        Examples, (n,), one or more.

    Raises
    ------
    InvalidInput
        None are chosen.
    """
    if not len(chosen):
        raise InvalidInput("no example of the corpus is chosen; choose one or more")
    counts = np.diff(corpus.word_offsets)[chosen]
    words = runs(corpus.word_offsets[:-1][chosen], counts)
    pairs = corpus.pair_texts
    return dataclasses.replace(
        corpus,
        texts=[corpus.texts[example] for example in chosen.tolist()],
        pair_texts=None if pairs is None else [pairs[example] for example in chosen.tolist()],
        word_offsets=offsets_of(counts),
        word_start=corpus.word_start[words],
        word_stop=corpus.word_stop[words],
        word_segment=corpus.word_segment[words],
        annotations={name: values[words] for name, values in corpus.annotations.items()},
        columns={name: values[chosen] for name, values in corpus.columns.items()},
    )


def join_corpora(corpora: Sequence[Corpus]) -> Corpus:
    """Return the examples of several corpora as one, with the annotations and columns of all.

    Parameters
    ----------
    corpora
        One or more, of single texts or of pairs all of them. A column that is JSON text in one is
        so in the whole; where values are of different types they become text, unless all are
        numbers. Where two examples have the same id,
        all ids are numbered by corpus: `1/ID`, `2/ID`.

    Raises
    ------
    InvalidInput
        They are of different kinds.
    """
    first = corpora[0]
    if len(corpora) == 1:
        return first
    for corpus in corpora:
        if (corpus.pair_texts is None) != (first.pair_texts is None):
            raise InvalidInput("single texts and pairs of texts cannot be joined; give one kind")
        if corpus.words_given != first.words_given:
            raise InvalidInput("raw texts and given words cannot be joined; give one kind")
    ids = [name for corpus in corpora for name in corpus.columns["id"].tolist()]
    if len(set(ids)) < len(ids):
        ids = [
            f"{number}/{name}"
            for number, corpus in enumerate(corpora, start=1)
            for name in corpus.columns["id"].tolist()
        ]
    encoded = {name for corpus in corpora for name in corpus.source.get("json_columns", ())}
    columns = _shared([_encoded(corpus, encoded) for corpus in corpora])
    counts = np.concatenate([np.diff(corpus.word_offsets) for corpus in corpora])
    pairs = [text for corpus in corpora for text in corpus.pair_texts or ()]
    sources = [corpus.source for corpus in corpora]
    return Corpus(
        texts=[text for corpus in corpora for text in corpus.texts],
        pair_texts=None if first.pair_texts is None else pairs,
        word_offsets=offsets_of(counts),
        word_start=np.concatenate([corpus.word_start for corpus in corpora]),
        word_stop=np.concatenate([corpus.word_stop for corpus in corpora]),
        word_segment=np.concatenate([corpus.word_segment for corpus in corpora]),
        words_given=first.words_given,
        annotations=_shared([corpus.annotations for corpus in corpora]),
        columns={**columns, "id": string_array(ids)},
        source={
            "format": "joined",
            "sources": sources,
            "json_columns": sorted(encoded & columns.keys()),
        },
        licence=first.licence if len({corpus.licence for corpus in corpora}) == 1 else None,
    )


def _encoded(corpus: Corpus, names: set[str]) -> dict[str, NDArray[Any]]:
    """Return the columns of a corpus, those of some names as JSON text."""
    already = corpus.source.get("json_columns", ())
    return {
        name: string_array([json.dumps(value) for value in values.tolist()])
        if name in names and name not in already
        else values
        for name, values in corpus.columns.items()
    }


def _shared(tables: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return the columns that all tables have, end to end; as text where their types differ.

    Whole numbers beside others become such: 1 and 1.0 are the same, which "1" and "1.0" are not.
    """
    found = {}
    for name in tables[0]:
        columns = [table[name] for table in tables if name in table]
        if len(columns) < len(tables):
            continue
        kinds = {column.dtype.kind for column in columns}
        if len(kinds) > 1 and kinds != {"i", "f"}:
            columns = [string_array([str(v) for v in column.tolist()]) for column in columns]
        found[name] = np.concatenate(columns)
    return found
