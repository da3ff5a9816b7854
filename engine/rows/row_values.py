"""What rows can be asked for: candidates of a unit, and what each name means for them.

A name is a built-in (see `BUILT_IN`), an annotation of words, or a column of examples. Annotations
reach a piece through its word, columns through its example. Where one name is two of these, the
built-in is meant; `annotations/NAME` and `columns/NAME` name the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.progress import Progress, silent
from layerlake.engine.tokenization.tokenize import Tokenization
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import nearest

BUILT_IN = {
    "position": "place of a piece in its input, of a word in its example; from 0",
    "special": "whether the tokenizer's template put the piece there (true or false)",
    "segment": "0 in the first text, 1 in the second text of a pair",
    "word": "the word, as it is written in the text",
    "piece": "the piece, as the vocabulary spells it (##ing, Ġthe)",
    "example": "number of the example in the corpus, from 0",
}

KINDS = {
    "text": "text",
    "integer": "whole numbers",
    "number": "numbers",
    "truth": "true or false",
}

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Values:
    """One value for each of some sources (words, examples, or the rows themselves)."""

    kind: str
    """A key of `KINDS`."""
    values: NDArray[Any]
    """(source,) integers, floats, bools, or places in `texts`."""
    present: NDArray[np.bool_] | None = None
    """(source,) False where there is no value; None where all have one."""
    texts: tuple[str, ...] = ()
    """The distinct values of a text."""

    def at(self, places: NDArray[np.int64]) -> Values:
        """Return the values at some places; -1 is a place without a value."""
        there = places >= 0
        taken = np.where(there, places, 0)
        if not len(self.values):
            return Values(self.kind, np.zeros(len(places), self.values.dtype), there, self.texts)
        if self.present is not None:
            there &= self.present[taken]
        return Values(self.kind, self.values[taken], there, self.texts)


class Candidates:
    """Everything that can be a row: the pieces, words or examples of a corpus.

    Parameters
    ----------
    tokenization
        Needed for pieces. For words, those without a piece are no candidates; without it all are.
    """

    def __init__(self, corpus: Corpus, tokenization: Tokenization | None, unit: str) -> None:
        self.corpus = corpus
        self.tokenization = tokenization
        self.unit = unit
        self.words_without_pieces: int | None = None
        if unit == "piece":
            assert tokenization is not None, "pieces need a tokenization"
            self.ids = tokenization.candidates
        elif unit == "example":
            self.ids = np.arange(corpus.n_examples, dtype=np.int64)
        elif tokenization is None:
            self.ids = np.arange(corpus.n_words, dtype=np.int64)
        else:
            there = np.zeros(corpus.n_words, np.bool_)
            there[tokenization.piece_word[tokenization.piece_word >= 0]] = True
            self.ids = np.flatnonzero(there)
            used = np.zeros(corpus.n_examples, np.bool_)
            used[tokenization.input_example] = True
            self.words_without_pieces = int((used[corpus.word_example] & ~there).sum())

    @property
    def noun(self) -> str:
        """What the rows are, for a message."""
        return f"{self.unit}s"

    @cached_property
    def _word_example(self) -> NDArray[np.int64]:
        return self.corpus.word_example

    def inputs(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the input that each piece is in."""
        assert self.tokenization is not None, "only pieces have inputs"
        return np.searchsorted(self.tokenization.input_offsets, ids, side="right") - 1

    def example(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the example of each row."""
        if self.unit == "example":
            return ids
        if self.unit == "word":
            return self._word_example[ids]
        assert self.tokenization is not None, "pieces need a tokenization"
        return self.tokenization.input_example[self.inputs(ids)]

    def word(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the word of each row, -1 where it has none."""
        if self.unit == "word":
            return ids
        if self.unit == "example":
            return np.full(len(ids), -1, np.int64)
        assert self.tokenization is not None, "pieces need a tokenization"
        return self.tokenization.piece_word[ids]

    def position(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each row: of a piece in its input, of a word in its example."""
        if self.unit == "example":
            return np.zeros(len(ids), np.int64)
        if self.unit == "word":
            return ids - self.corpus.word_offsets[self.example(ids)]
        assert self.tokenization is not None, "pieces need a tokenization"
        return ids - self.tokenization.input_offsets[self.inputs(ids)]

    def special(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each row is a special piece."""
        if self.tokenization is None or self.unit != "piece":
            return np.zeros(len(ids), np.bool_)
        return self.tokenization.special[ids]


class Names:
    """What every name means for candidates.

    Parameters
    ----------
    spell
        Piece ids to their text in the vocabulary; None where no tokenizer is at hand.
    """

    def __init__(
        self,
        candidates: Candidates,
        spell: Callable[[list[int]], list[str]] | None = None,
        progress: Progress = silent,
    ) -> None:
        self.candidates = candidates
        self.spell = spell
        self.progress = progress
        self._read: dict[str, Values] = {}

    def canonical(self, name: str) -> str:
        """Return the shortest way to write a name that means the same.

        Raises
        ------
        InvalidInput
            There is no such name, or it means nothing for these rows; the sentence says what there
            is.
        """
        corpus = self.candidates.corpus
        tables = {"annotations": corpus.annotations, "columns": corpus.columns}
        folder, _, rest = name.partition("/")
        if folder in tables and rest in tables[folder]:
            other = tables["columns" if folder == "annotations" else "annotations"]
            plain = rest not in BUILT_IN and rest not in other and "/" not in rest
            return self._fits(rest if plain else name, folder)
        if name in BUILT_IN:
            return self._fits(name, name)
        holding = [table for table, names in tables.items() if name in names]
        if len(holding) == 2:
            raise InvalidInput(
                f"{name!r} is both an annotation of words and a column of examples; write "
                f"annotations/{name} or columns/{name}"
            )
        if not holding:
            known = {*BUILT_IN, *corpus.annotations, *corpus.columns}
            raise InvalidInput(
                f"there is no {name!r} to choose rows by; {nearest(name, known)} (built in: "
                f"{', '.join(BUILT_IN)}; annotations of words: "
                f"{', '.join(sorted(corpus.annotations)) or 'none'}; columns of examples: "
                f"{', '.join(sorted(corpus.columns))})"
            )
        return self._fits(name, holding[0])

    def _fits(self, name: str, what: str) -> str:
        """Return a name if rows of this unit have it."""
        unit = self.candidates.unit
        if unit == "example" and what not in ("columns", "example"):
            raise InvalidInput(
                f"rows that are whole examples have no {name!r}; choose them by the columns "
                f"{', '.join(sorted(self.candidates.corpus.columns))}, or by example"
            )
        if unit == "word" and what == "piece":
            raise InvalidInput("word rows have no 'piece'; use the unit piece, or choose by word")
        return name

    def values(self, name: str, ids: NDArray[np.int64]) -> Values:
        """Return what rows have under a canonical name."""
        candidates = self.candidates
        corpus = candidates.corpus
        folder, _, rest = name.partition("/")
        table: str | None = None
        if folder in ("annotations", "columns") and rest in getattr(corpus, folder):
            table, key = folder, rest
        elif name not in BUILT_IN:
            table = "annotations" if name in corpus.annotations else "columns"
            key = name
        if table == "annotations":
            return self._source(name, lambda: _typed(corpus.annotations[key])).at(
                candidates.word(ids)
            )
        if table == "columns":
            encoded = key in corpus.source.get("json_columns", [])
            return self._source(name, lambda: _typed(corpus.columns[key], encoded)).at(
                candidates.example(ids)
            )
        if name == "position":
            return Values("integer", candidates.position(ids))
        if name == "special":
            return Values("truth", candidates.special(ids))
        if name == "example":
            return Values("integer", candidates.example(ids))
        if name == "segment":
            return Values("integer", corpus.word_segment).at(candidates.word(ids))
        if name == "word":
            return self._source(name, self._words).at(candidates.word(ids))
        return self._pieces(ids)

    def _source(self, name: str, read: Callable[[], Values]) -> Values:
        """Return what is read once for all steps."""
        if name not in self._read:
            self._read[name] = read()
        return self._read[name]

    def _words(self) -> Values:
        corpus = self.candidates.corpus
        with self.progress("reading words", corpus.n_examples, "examples") as stage:
            return _text(_words_of(corpus, stage.advance), corpus.n_words)

    def _pieces(self, ids: NDArray[np.int64]) -> Values:
        assert self.candidates.tokenization is not None, "pieces need a tokenization"
        if self.spell is None:
            raise InvalidInput("'piece' needs the tokenizer, which is not at hand here")
        numbers, places = np.unique(
            self.candidates.tokenization.piece_ids[ids], return_inverse=True
        )
        spelled = [str(text) for text in self.spell(numbers.tolist())]
        return Values("text", places.astype(np.int64), None, tuple(spelled))


def _words_of(corpus: Corpus, advance: Callable[[int], None]) -> Iterator[str]:
    """Yield every word of a corpus."""
    offsets = corpus.word_offsets.tolist()
    told = 0
    for example, (low, high) in enumerate(pairwise(offsets)):
        bounds = zip(
            corpus.word_start[low:high].tolist(),
            corpus.word_stop[low:high].tolist(),
            corpus.word_segment[low:high].tolist(),
            strict=True,
        )
        for start, stop, segment in bounds:
            pairs = corpus.pair_texts
            text = corpus.texts[example] if not segment or pairs is None else pairs[example]
            yield text[start:stop]
        if example - told >= _CHUNK:
            advance(example - told)
            told = example
    advance(corpus.n_examples - told)


def _text(texts: Iterable[str], count: int) -> Values:
    """Return texts as places in their distinct values."""
    places: dict[str, int] = {}
    found = np.fromiter((places.setdefault(t, len(places)) for t in texts), np.int64, count)
    return Values("text", found, None, tuple(places))


def _typed(array: NDArray[Any], encoded: bool = False) -> Values:
    """Return a column of a corpus with its kind; of JSON texts, what they say."""
    if array.dtype == np.bool_:
        return Values("truth", array)
    if array.dtype.kind in "iu":
        return Values("integer", array)
    if array.dtype.kind == "f":
        return Values("number", array, ~np.isnan(array))
    if encoded:
        decoded = _from_json(array)
        if decoded is not None:
            return decoded
    chunks = (array[low : low + _CHUNK].tolist() for low in range(0, len(array), _CHUNK))
    return _text((str(text) for chunk in chunks for text in chunk), len(array))


def _from_json(array: NDArray[Any]) -> Values | None:
    """Return JSON texts of one kind, but for null and missing ones, as values; None for others."""
    try:
        values = [json.loads(text) if text else None for text in map(str, array.tolist())]
    except ValueError:
        return None
    present = np.array([value is not None for value in values], np.bool_)
    kinds = {type(value) for value in values if value is not None}
    if kinds == {str}:
        found = _text(("" if value is None else value for value in values), len(values))
        return Values("text", found.values, present, found.texts)
    if kinds == {bool}:
        return Values("truth", np.array([bool(value) for value in values], np.bool_), present)
    if kinds == {int} and all(abs(value) < 2**63 for value in values if value is not None):
        return Values("integer", np.array([value or 0 for value in values], np.int64), present)
    if kinds in ({int, float}, {float}):
        return Values("number", np.array([value or 0 for value in values], np.float64), present)
    return None
