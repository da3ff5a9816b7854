"""A corpus: examples, the words in them, and every column they came with."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput
from layerlake.store.identity import corpus_fingerprint
from layerlake.store.tables import decode_name, encode_name

_WORD = re.compile(r"\S+")


def string_array(texts: Sequence[str]) -> NDArray[Any]:
    """Return texts as a numpy `StringDType` array of shape (len(texts),)."""
    return np.array(list(texts), dtype=np.dtypes.StringDType())


@dataclass(frozen=True, eq=False)
class Corpus:
    """Stimuli that no model has touched.

    Raises
    ------
    InvalidInput
        When built from arrays that do not fit together.
    """

    texts: list[str]
    """(example,) the text, or the first text of a pair."""
    pair_texts: list[str] | None
    """(example,) the second text of each pair; None for a corpus of single texts."""
    word_offsets: NDArray[np.int64]
    """(example + 1,) the words of example e are [word_offsets[e], word_offsets[e + 1])."""
    word_start: NDArray[np.int32]
    """(word,) first character, counted in the text of the word's own segment."""
    word_stop: NDArray[np.int32]
    """(word,) one past the last character."""
    word_segment: NDArray[np.uint8]
    """(word,) 0 = texts, 1 = pair_texts; segment 0 comes first within an example."""
    words_given: bool
    """True: annotated words, tokenised one by one. False: words are whitespace tokens."""
    annotations: dict[str, NDArray[Any]]
    """Name -> (word,) strings or integers."""
    columns: dict[str, NDArray[Any]]
    """Name -> (example,) strings, int64, float64 or bool; "id" is the name in messages."""
    source: dict[str, Any]
    """Format, options, name of the file and sha256 of its bytes."""
    licence: str | None = None

    def __post_init__(self) -> None:
        """Check that the arrays describe words of the texts."""
        problem = self._problem()
        if problem:
            raise InvalidInput(f"these columns are no corpus: {problem}")

    def _problem(self) -> str | None:
        n, words = self.n_examples, self.n_words
        if not n:
            return "there are no examples"
        if self.pair_texts is not None and len(self.pair_texts) != n:
            return f"{len(self.pair_texts)} second texts for {n} examples"
        counts = np.diff(self.word_offsets)
        if len(counts) != n or self.word_offsets[0] != 0 or self.word_offsets[-1] != words:
            return f"word_offsets must have {n + 1} entries from 0 to {words}"
        if counts.min() < 0 or not len(self.word_stop) == len(self.word_segment) == words:
            return "word_offsets must not fall, and every word needs a start, stop and segment"
        segments = 1 if self.pair_texts is None else 2
        if words and int(self.word_segment.max()) >= segments:
            return f"a word of segment {int(self.word_segment.max())} where there are {segments}"
        sequence = self.word_sequence
        length = self.text_lengths[sequence]
        begin, end = self.word_start.astype(np.int64), self.word_stop.astype(np.int64)
        same = sequence[1:] == sequence[:-1]
        if (
            np.any(np.diff(sequence) < 0)
            or np.any(begin < 0)
            or np.any(begin >= end)
            or np.any(end > length)
            or np.any(same & (begin[1:] < end[:-1]))
        ):
            return "the words must be non-empty, in order, apart, and inside their texts"
        for kind, table, rows in (
            ("annotation", self.annotations, words),
            ("column", self.columns, n),
        ):
            for name, values in table.items():
                if values.shape != (rows,):
                    return f"{kind} {name!r} has shape {values.shape}, expected ({rows},)"
        return None if "id" in self.columns else "there is no column 'id'"

    @property
    def n_examples(self) -> int:
        """Number of examples."""
        return len(self.texts)

    @property
    def n_words(self) -> int:
        """Number of words in all segments."""
        return len(self.word_start)

    @property
    def n_segments(self) -> int:
        """1 for single texts, 2 for pairs."""
        return 1 if self.pair_texts is None else 2

    @property
    def word_example(self) -> NDArray[np.int64]:
        """(word,) the example of each word."""
        return np.repeat(np.arange(self.n_examples, dtype=np.int64), np.diff(self.word_offsets))

    @property
    def word_sequence(self) -> NDArray[np.int64]:
        """(word,) example * n_segments + segment: the one text that each word lies in."""
        return self.word_example * self.n_segments + self.word_segment

    @property
    def text_lengths(self) -> NDArray[np.int64]:
        """(example * n_segments,) characters of every text, in the order of `word_sequence`."""
        lengths = np.empty((self.n_examples, self.n_segments), np.int64)
        lengths[:, 0] = [len(text) for text in self.texts]
        if self.pair_texts is not None:
            lengths[:, 1] = [len(text) for text in self.pair_texts]
        return lengths.reshape(-1)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of all content; where it came from and its licence do not count."""
        return corpus_fingerprint(self.to_columns(), self.words_given)

    def word(self, index: int) -> str:
        """Return the word of that index, as it is written in the text."""
        example = int(np.searchsorted(self.word_offsets, index, side="right")) - 1
        second = self.word_segment[index] == 1 and self.pair_texts is not None
        texts = self.pair_texts if second and self.pair_texts is not None else self.texts
        return texts[example][int(self.word_start[index]) : int(self.word_stop[index])]

    def example_name(self, example: int) -> str:
        """Return the name of an example for a message."""
        return str(self.columns["id"][example])

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return everything but the attributes as flat named arrays; `from_columns` reads them.

        Names of annotations and columns are percent-encoded, so that none can mean a folder.
        """
        flat: dict[str, NDArray[Any]] = {"text": string_array(self.texts)}
        if self.pair_texts is not None:
            flat["pair_text"] = string_array(self.pair_texts)
        for name in _WORD_ARRAYS:
            flat[name] = getattr(self, name)
        for folder, table in (("annotations", self.annotations), ("columns", self.columns)):
            flat.update({f"{folder}/{encode_name(name)}": array for name, array in table.items()})
        return flat

    def to_attributes(self) -> dict[str, Any]:
        """Return what is not an array, ready for JSON, and the fingerprint."""
        return {
            "words_given": self.words_given,
            "source": self.source,
            "licence": self.licence,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]
    ) -> Corpus:
        """Build the corpus that `to_columns` and `to_attributes` described.

        Raises
        ------
        InvalidInput
            Where a column or an attribute is missing, or the arrays do not fit together.
        """
        try:
            words = {
                name: np.ascontiguousarray(columns[name], dtype)
                for name, dtype in _WORD_ARRAYS.items()
            }
            pairs = columns.get("pair_text")
            return cls(
                texts=[str(text) for text in columns["text"].tolist()],
                pair_texts=None if pairs is None else [str(text) for text in pairs.tolist()],
                words_given=bool(attributes["words_given"]),
                annotations=_folder(columns, "annotations/"),
                columns=_folder(columns, "columns/"),
                source=dict(attributes["source"]),
                licence=attributes.get("licence"),
                **words,
            )
        except KeyError as error:
            raise InvalidInput(f"these columns are no corpus: {error} is missing") from None


_WORD_ARRAYS: dict[str, type[np.generic]] = {
    "word_offsets": np.int64,
    "word_start": np.int32,
    "word_stop": np.int32,
    "word_segment": np.uint8,
}


def _folder(columns: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the columns below a prefix under their own names."""
    return {
        decode_name(key.removeprefix(prefix)): string_array(values.tolist())
        if values.dtype.kind in "OUT"
        else values
        for key, values in columns.items()
        if key.startswith(prefix)
    }


class WordSpans:
    """Collects the spans of words, example by example, in eleven bytes a word or so."""

    def __init__(self) -> None:
        """Start with no example."""
        self._start = array("i")
        self._stop = array("i")
        self._segment = array("B")
        self._offsets = array("q", [0])

    def add_text(self, text: str, segment: int = 0) -> int:
        """Add the whitespace tokens of a text; return how many there were."""
        before = len(self._start)
        for match in _WORD.finditer(text):
            self._start.append(match.start())
            self._stop.append(match.end())
        added = len(self._start) - before
        self._segment.extend([segment] * added)
        return added

    def add_words(self, words: Sequence[str], segment: int = 0) -> str:
        """Add given words, none of them empty; return the text that they make, space-joined."""
        position = 0
        for word in words:
            self._start.append(position)
            self._stop.append(position + len(word))
            position += len(word) + 1
        self._segment.extend([segment] * len(words))
        return " ".join(words)

    def close_example(self) -> None:
        """Say that all words of the current example are in."""
        self._offsets.append(len(self._start))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the word fields of a corpus."""
        return {
            "word_offsets": np.array(self._offsets, np.int64),
            "word_start": np.array(self._start, np.int32),
            "word_stop": np.array(self._stop, np.int32),
            "word_segment": np.array(self._segment, np.uint8),
        }


def corpus_of_texts(
    texts: list[str],
    pair_texts: list[str] | None,
    columns: dict[str, NDArray[Any]],
    source: dict[str, Any],
    licence: str | None = None,
) -> Corpus:
    """Build a corpus of raw texts, whose words are whitespace tokens.

    Raises
    ------
    InvalidInput
        Where there are no examples, or a text has no word (the example is named).
    """
    if not texts:
        raise InvalidInput(f"{source.get('file', 'the list')} holds no examples")
    spans = WordSpans()
    for index, text in enumerate(texts):
        parts = [text] if pair_texts is None else [text, pair_texts[index]]
        for segment, part in enumerate(parts):
            if not spans.add_text(part, segment):
                which = "" if pair_texts is None else ("first ", "second ")[segment]
                raise InvalidInput(
                    f"the {which}text of example {str(columns['id'][index])!r} has no words; "
                    "leave that example out"
                )
        spans.close_example()
    return Corpus(
        texts=texts,
        pair_texts=pair_texts,
        words_given=False,
        annotations={},
        columns=columns,
        source=source,
        licence=licence,
        **spans.arrays(),
    )


def corpus_from_texts(
    texts: Sequence[str],
    pair_texts: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> Corpus:
    """Return a corpus of texts in memory.

    Parameters
    ----------
    texts
        One text an example.
    pair_texts
        The second text of each, for pairs.
    ids
        A name for each, all different; "example 1" and so on where none are given.

    Raises
    ------
    InvalidInput
        Where the lists differ in length, hold something else than text, or a text has no words.
    """
    names = [f"example {number}" for number in range(1, len(texts) + 1)] if ids is None else ids
    for what, values in (("texts", texts), ("pair_texts", pair_texts), ("ids", names)):
        if isinstance(values, str):
            raise InvalidInput(f"{what} must be a list of texts, not one text")
        if values is None:
            continue
        if len(values) != len(texts):
            raise InvalidInput(f"{what} has {len(values)} entries for {len(texts)} texts")
        for index, value in enumerate(values):
            check_text(value, f"entry {index} of {what}")
    if len(set(names)) < len(names):
        raise InvalidInput("ids must all be different")
    return corpus_of_texts(
        list(texts),
        None if pair_texts is None else list(pair_texts),
        {"id": string_array(names)},
        {"format": "texts"},
    )


def check_text(value: object, where: str) -> str:
    """Return a value that is text which UTF-8 can say; raise InvalidInput otherwise."""
    if not isinstance(value, str):
        raise InvalidInput(f"{where} is {type(value).__name__}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise InvalidInput(
            f"{where} holds half of a surrogate pair (U+{code:04X} at character {error.start}), "
            "which is no Unicode text"
        ) from None
    return value


def choose_ids(
    columns: dict[str, NDArray[Any]], candidates: Sequence[str], fallback: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return the columns with "id": the first candidate without repetitions, else the fallback.

    A column called "id" that does not become the id is kept as "id_in_file".
    """
    names, chosen = list(fallback), ""
    for name in candidates:
        values = [str(value) for value in columns[name].tolist()] if name in columns else []
        if values and columns[name].dtype.kind in "Ti" and len(set(values)) == len(values):
            names, chosen = values, name
            break
    kept = dict(columns)
    if "id" in kept and chosen != "id":
        other = "id_in_file"
        while other in kept:
            other += "_"
        kept[other] = kept["id"]
    return {**kept, "id": string_array(names)}
