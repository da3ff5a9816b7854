"""Pieces of a corpus and the word that each belongs to, before anything is put around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.tokenization.tokenizer_backend import Backend
from layerlake.store.errors import InvalidInput
from layerlake.store.row_sets import offsets_of, runs

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
    special: NDArray[np.bool_] | None = None
    """(piece,) whether a template put it there; None where no piece is such."""

    def word_bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (piece,) the first and the last piece of each piece's word.

        A piece without a word stands for itself.
        """
        opens = np.ones(len(self.word), np.bool_)
        opens[1:] = (self.word[1:] != self.word[:-1]) | (self.word[1:] < 0)
        first = np.flatnonzero(opens)
        sizes = np.diff(np.append(first, len(self.word)))
        return np.repeat(first, sizes), np.repeat(first + sizes - 1, sizes)


def pieces_of_texts(
    corpus: Corpus,
    backend: Backend,
    on_progress: Callable[[int], None] | None,
    segments: tuple[int, ...],
) -> Pieces:
    """Cut every text of some segments as it is, and map pieces to words by character offsets.

    A piece belongs to the first word that ends after the piece's first character: the word which
    that character lies in, or the next one where it is white space. Only the start is used, since
    tokenizers differ in whether a span covers the space before a word.
    """
    line = WordLine(corpus)
    ids: list[NDArray[np.int32]] = []
    words: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.int64]] = []
    for first, last in batches_of(corpus, segments):
        encodings = backend.encoder.encode_batch(
            _texts(corpus, first, last, segments), add_special_tokens=False
        )
        batch_counts = np.array([len(encoding) for encoding in encodings], np.int64)
        total = int(batch_counts.sum())
        start = np.fromiter(
            (span[0] for encoding in encodings for span in encoding.offsets), np.int64, total
        )
        sequences = np.arange(first, last)[:, None] * corpus.n_segments + np.array(segments)
        ids.append(flat_ids(encodings, total))
        words.append(line.words_at(np.repeat(sequences.reshape(-1), batch_counts), start))
        counts.append(batch_counts)
        if on_progress is not None:
            on_progress(last)
    return Pieces(np.concatenate(ids), np.concatenate(words), np.concatenate(counts), 0)


class WordLine:
    """The words of a corpus on one number line, to find those that lie at characters of texts."""

    def __init__(self, corpus: Corpus) -> None:
        # Room for the place after the last character of each text.
        self._base = offsets_of(corpus.text_lengths + 1)[:-1]
        self._sequence = corpus.word_sequence
        self._end = self._base[self._sequence] + corpus.word_stop

    def words_at(
        self, sequence: NDArray[np.int64], character: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the first word of each text that ends after a character, -1 where none does."""
        word = np.searchsorted(self._end, self._base[sequence] + character, side="right")
        inside = np.minimum(word, len(self._end) - 1)
        owned = (word < len(self._end)) & (self._sequence[inside] == sequence)
        return np.where(owned, word, -1)


def pieces_of_words(
    corpus: Corpus,
    backend: Backend,
    leading_space: bool,
    on_progress: Callable[[int], None] | None,
    segments: tuple[int, ...],
) -> Pieces:
    """Cut every word of some segments alone, with the whole pipeline; each has a piece at least.

    Parameters
    ----------
    corpus, backend
        What is cut, and by what.
    leading_space
        Whether words other than the first of a text are given with a space before them.
    on_progress
        Called with the number of examples done so far.
    segments
        0 for the first text of each example, 1 for the second.

    Raises
    ------
    InvalidInput
        Where a word yields no piece and the tokenizer has no unknown piece.
    """
    sequence = corpus.word_sequence
    opens = np.ones(corpus.n_words, np.bool_)
    opens[1:] = sequence[1:] != sequence[:-1]
    chosen = np.isin(corpus.word_segment, segments)
    table: dict[str, int] = {}
    form = np.zeros(corpus.n_words, np.int64)
    ids: list[NDArray[np.int32]] = []
    counts: list[NDArray[np.int64]] = []
    unknown: list[NDArray[np.bool_]] = []
    for first, last in batches_of(corpus, segments):
        known = len(table)
        texts = _texts(corpus, first, last, range(corpus.n_segments))
        begin, end = int(corpus.word_offsets[first]), int(corpus.word_offsets[last])
        spans = zip(
            (sequence[begin:end] - first * corpus.n_segments).tolist(),
            corpus.word_start[begin:end].tolist(),
            corpus.word_stop[begin:end].tolist(),
            opens[begin:end].tolist(),
            chosen[begin:end].tolist(),
            strict=True,
        )
        for index, (text, start, stop, opening, wanted) in enumerate(spans, start=begin):
            if not wanted:
                continue
            word = texts[text][start:stop]
            if leading_space and not opening:
                word = " " + word
            form[index] = table.setdefault(word, len(table))
        new = list(table)[known:] if len(table) > known else []
        encodings = backend.encoder.encode_batch(new, add_special_tokens=False)
        new_counts = np.array([len(encoding) for encoding in encodings], np.int64)
        new_ids = flat_ids(encodings, int(new_counts.sum()))
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
    word_counts = np.where(chosen, form_counts[form], 0)
    piece = runs(offsets_of(form_counts)[:-1][form], word_counts)
    piece_offsets = offsets_of(word_counts)
    sequences = corpus.n_examples * corpus.n_segments
    bounds = np.searchsorted(sequence, np.arange(sequences + 1), side="left")
    return Pieces(
        ids=form_ids[piece],
        word=np.repeat(np.arange(corpus.n_words, dtype=np.int64), word_counts),
        counts=np.diff(piece_offsets[bounds])
        .reshape(-1, corpus.n_segments)[:, segments]
        .reshape(-1),
        unknown_words=int(np.concatenate(unknown)[form[chosen]].sum()),
    )


def batches_of(corpus: Corpus, segments: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield ranges of examples, bounded in number and in characters (but never empty)."""
    lengths = corpus.text_lengths.reshape(-1, corpus.n_segments)[:, list(segments)]
    reach = offsets_of(lengths.sum(axis=1))
    first = 0
    while first < corpus.n_examples:
        fits = int(np.searchsorted(reach, reach[first] + _BATCH_CHARACTERS, side="right")) - 1
        last = max(first + 1, min(fits, first + _BATCH_EXAMPLES, corpus.n_examples))
        yield first, last
        first = last


def _texts(corpus: Corpus, first: int, last: int, segments: Sequence[int]) -> list[str]:
    """Return the texts of a range of examples, in the order of sequences."""
    every = [corpus.texts] if corpus.pair_texts is None else [corpus.texts, corpus.pair_texts]
    wanted = [every[segment][first:last] for segment in segments]
    return list(chain.from_iterable(zip(*wanted, strict=True)))


def flat_ids(encodings: list[Any], total: int) -> NDArray[np.int32]:
    """Return the ids of encodings end to end."""
    return np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32, total)
