"""Pieces of a corpus and the word that each belongs to, before anything is put around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.tokenizer_backend import Backend
from layerlake.store.errors import InvalidInput

_BATCH_EXAMPLES = 1000
_BATCH_CHARACTERS = 4_000_000


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of some sequences (the texts of examples, or parts of them), end to end."""

    ids: NDArray[np.int32]
    """(piece,) ids."""
    word: NDArray[np.int64]
    """(piece,) word of the corpus, -1 where the piece belongs to none."""
    counts: NDArray[np.int64]
    """(sequence,) number of pieces; with pairs the sequences of an example follow each other."""
    unknown_words: int
    """Given words that yielded no piece and became the unknown piece."""


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (n + 1,) offsets of consecutive runs of the given lengths."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def runs(start: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices start[i], start[i] + 1, ... (counts[i] of them) for every i in turn."""
    offsets = offsets_of(counts)
    return np.arange(offsets[-1], dtype=np.int64) + np.repeat(start - offsets[:-1], counts)


def pieces_of_texts(
    corpus: Corpus, backend: Backend, on_progress: Callable[[int], None] | None
) -> Pieces:
    """Cut every text as it is, and map pieces to words by character offsets.

    A piece belongs to the first word that ends after the piece's first character: the word which
    that character lies in, or the next one where it is white space. Only the start is used, since
    tokenizers differ in whether a span covers the space before a word.
    """
    lengths, per_example = corpus.text_lengths, corpus.n_segments
    # One number line for all texts, with room for the place after the last character of each.
    text_base = offsets_of(lengths + 1)[:-1]
    word_sequence = corpus.word_sequence
    word_end = text_base[word_sequence] + corpus.word_stop
    ids: list[NDArray[np.int32]] = []
    words: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.int64]] = []
    for first, last in _batches(lengths.reshape(-1, per_example).sum(axis=1)):
        encodings = backend.encoder.encode_batch(
            _texts(corpus, first, last), add_special_tokens=False
        )
        batch_counts = np.array([len(encoding) for encoding in encodings], np.int64)
        total = int(batch_counts.sum())
        start = np.fromiter(
            (span[0] for encoding in encodings for span in encoding.offsets), np.int64, total
        )
        sequence = np.repeat(np.arange(len(batch_counts)) + first * per_example, batch_counts)
        word = np.searchsorted(word_end, text_base[sequence] + start, side="right")
        inside = np.minimum(word, len(word_end) - 1)
        owned = (word < len(word_end)) & (word_sequence[inside] == sequence)
        ids.append(_flat_ids(encodings, total))
        words.append(np.where(owned, word, -1))
        counts.append(batch_counts)
        if on_progress is not None:
            on_progress(last)
    return Pieces(np.concatenate(ids), np.concatenate(words), np.concatenate(counts), 0)


def pieces_of_words(
    corpus: Corpus, backend: Backend, leading_space: bool, on_progress: Callable[[int], None] | None
) -> Pieces:
    """Cut every word alone, with the whole pipeline; every word has at least one piece.

    Parameters
    ----------
    corpus, backend
        What is cut, and by what.
    leading_space
        Whether words other than the first of a text are given with a space before them.
    on_progress
        Called with the number of examples done so far.

    Raises
    ------
    InvalidInput
        Where a word yields no piece and the tokenizer has no unknown piece.
    """
    sequence = corpus.word_sequence
    opens = np.ones(corpus.n_words, np.bool_)
    opens[1:] = sequence[1:] != sequence[:-1]
    table: dict[str, int] = {}
    form = np.empty(corpus.n_words, np.int64)
    ids: list[NDArray[np.int32]] = []
    counts: list[NDArray[np.int64]] = []
    unknown: list[NDArray[np.bool_]] = []
    per_example = corpus.text_lengths.reshape(-1, corpus.n_segments).sum(axis=1)
    for first, last in _batches(per_example):
        known = len(table)
        texts = _texts(corpus, first, last)
        begin, end = int(corpus.word_offsets[first]), int(corpus.word_offsets[last])
        spans = zip(
            (sequence[begin:end] - first * corpus.n_segments).tolist(),
            corpus.word_start[begin:end].tolist(),
            corpus.word_stop[begin:end].tolist(),
            opens[begin:end].tolist(),
            strict=True,
        )
        for index, (text, start, stop, opening) in enumerate(spans, start=begin):
            word = texts[text][start:stop]
            if leading_space and not opening:
                word = " " + word
            form[index] = table.setdefault(word, len(table))
        new = list(table)[known:] if len(table) > known else []
        encodings = backend.encoder.encode_batch(new, add_special_tokens=False)
        new_counts = np.array([len(encoding) for encoding in encodings], np.int64)
        new_ids = _flat_ids(encodings, int(new_counts.sum()))
        nothing = new_counts == 0
        if nothing.any():
            if backend.unknown_id is None:
                raise InvalidInput(
                    f"the tokenizer {backend.name} makes no piece of the word "
                    f"{new[int(nothing.argmax())].strip()!r} and has no unknown piece; "
                    "leave that word out"
                )
            new_ids = np.insert(new_ids, offsets_of(new_counts)[:-1][nothing], backend.unknown_id)
            new_counts[nothing] = 1
        ids.append(new_ids)
        counts.append(new_counts)
        unknown.append(nothing)
        if on_progress is not None:
            on_progress(last)
    form_counts, form_ids = np.concatenate(counts), np.concatenate(ids)
    word_counts = form_counts[form]
    piece = runs(offsets_of(form_counts)[:-1][form], word_counts)
    piece_offsets = offsets_of(word_counts)
    sequences = corpus.n_examples * corpus.n_segments
    bounds = np.searchsorted(sequence, np.arange(sequences + 1), side="left")
    return Pieces(
        ids=form_ids[piece],
        word=np.repeat(np.arange(corpus.n_words, dtype=np.int64), word_counts),
        counts=np.diff(piece_offsets[bounds]),
        unknown_words=int(np.concatenate(unknown)[form].sum()),
    )


def _batches(characters: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of examples, bounded in number and in characters (but never empty)."""
    reach = offsets_of(characters)
    first = 0
    while first < len(characters):
        fits = int(np.searchsorted(reach, reach[first] + _BATCH_CHARACTERS, side="right")) - 1
        last = max(first + 1, min(fits, first + _BATCH_EXAMPLES, len(characters)))
        yield first, last
        first = last


def _texts(corpus: Corpus, first: int, last: int) -> list[str]:
    """Return the texts of a range of examples, in the order of sequences."""
    if corpus.pair_texts is None:
        return corpus.texts[first:last]
    pairs = zip(corpus.texts[first:last], corpus.pair_texts[first:last], strict=True)
    return list(chain.from_iterable(pairs))


def _flat_ids(encodings: list[Any], total: int) -> NDArray[np.int32]:
    """Return the ids of encodings end to end."""
    return np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32, total)
