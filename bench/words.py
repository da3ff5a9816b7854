"""Words pooled from stored pieces as they are read: against the same words stored, and by hand."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerlake.store.lake import Lake, open_lake
from layerlake.store.row_sets import offsets_of, runs
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.space import BLOCK_ROWS, Space
from layerlake.store.writer import SetWriter

BASELINE = "layerlake, word set in float32"
"""The words as a lake stores them, cast to float32, which pooled ones are in."""

BY_HAND = "numpy, by hand"
"""`np.load` memory-mapped, a cast to float32, `np.add.reduceat` and a division."""

SHARES = (0.83, 0.1, 0.04, 0.015, 0.01, 0.005)
"""Share of words with 1, 2, ... 6 pieces: 1.3 pieces a word on average."""

LONGEST = 34
"""Words of the longest example; its input has 25 pieces on average, specials at both ends."""


class WordReaders(NamedTuple):
    """Ways to read words, and what is known of each before it is timed."""

    methods: dict[str, Callable[[], NDArray[Any]]]
    sizes: dict[str, float]
    """Bytes on disk for each value of what a method reads: words, or pieces."""
    memory: dict[str, tuple[int, int | None]]
    """Most bytes held while all words are read in blocks, and what the space states, with one
    block. By hand all are read at once, and nothing is stated."""


class _Way(NamedTuple):
    """A space that is read, and how."""

    variant: str
    unit: str
    pooling: str | None = None
    wide: bool = False
    """Whether rows are cast to float32."""

    def open(self, lake: Lake) -> Space:
        return lake.space("words", self.variant, 0, unit=self.unit, pooling=self.pooling)

    def cast(self, rows: NDArray[Any]) -> NDArray[Any]:
        return rows.astype(np.float32, copy=False) if self.wide else rows

    def read(self, space: Space, index: Any) -> NDArray[Any]:
        return self.cast(space.rows(index))


_WAYS = {
    BASELINE: _Way("words", "word", wide=True),
    "layerlake, word set": _Way("words", "word"),
    "layerlake, pooled": _Way("pieces", "word", "mean"),
    "layerlake, pooled (first)": _Way("pieces", "word", "first"),
    "layerlake, piece set in float32": _Way("pieces", "piece", wide=True),
}


class Cut(NamedTuple):
    """A made-up corpus, and the pieces of its words."""

    counts: NDArray[np.int64]
    """(word,) pieces of each."""
    word_offsets: NDArray[np.int64]
    """(example + 1,): the words of example e are [offsets[e], offsets[e + 1])."""
    input_offsets: NDArray[np.int64]
    """(example + 1,): the same of pieces."""
    piece_word: NDArray[np.int64]
    """(piece,) the word of each, -1 for specials."""

    @property
    def firsts(self) -> NDArray[np.int64]:
        """(word,) the first piece of each."""
        return np.flatnonzero(self.piece_word >= 0)[offsets_of(self.counts)[:-1]]


def cut_of(n_pieces: int, seed: int) -> Cut:
    """Return a corpus of at most so many pieces, three or more."""
    rng = np.random.default_rng(seed)
    counts = rng.choice(np.arange(1, len(SHARES) + 1), n_pieces, p=SHARES)
    lengths = rng.integers(1, LONGEST + 1, n_pieces)
    counts[0] = lengths[0] = 1  # an example for the fewest pieces
    word_offsets = offsets_of(lengths[np.cumsum(lengths) <= n_pieces])
    input_offsets = offsets_of(counts)[word_offsets] + 2 * np.arange(len(word_offsets))
    n_examples = int(np.searchsorted(input_offsets, n_pieces, "right")) - 1
    word_offsets, input_offsets = word_offsets[: n_examples + 1], input_offsets[: n_examples + 1]
    counts = counts[: word_offsets[-1]]
    ordinary = np.ones(int(input_offsets[-1]), np.bool_)
    ordinary[input_offsets[:-1]] = ordinary[input_offsets[1:] - 1] = False
    piece_word = np.full(len(ordinary), -1, np.int64)
    piece_word[ordinary] = np.repeat(np.arange(len(counts)), counts)
    return Cut(counts, word_offsets, input_offsets, piece_word)


def readers_of_words(
    folder: Path,
    file: Path,
    rows: NDArray[Any],
    codec: str,
    window_rows: int,
    scattered: int,
    seed: int,
) -> dict[str, WordReaders]:
    """Write rows as the pieces of words, and the words, to a lake; return ways to read words.

    Parameters
    ----------
    folder
        Where the lake is made.
    file, rows
        (row, hidden), in a file of numpy's and in memory. What is left over behind the last whole
        example is not written.
    codec, window_rows
        Of the lake.
    scattered
        Words of a scattered reading, drawn and ascending; at most those that there are.
    seed
        Of the corpus, and of the words that are drawn.

    Returns
    -------
    By operation: all words of the layer, and scattered ones.

    Raises
    ------
    RuntimeError
        Pooled words are not those by hand to 1e-3, or stored ones not to a rounding.
    """
    cut = cut_of(len(rows), seed)
    pieces = rows[: len(cut.piece_word)]
    every = np.arange(len(cut.counts))
    words = _by_hand(file, *_pieces_of(cut, every))
    lake, bytes_of = _written(folder / codec, cut, pieces, words, codec, window_rows)
    sizes = {name: bytes_of[way.variant] for name, way in _WAYS.items()}
    sizes[BY_HAND] = file.stat().st_size / rows.size
    for way in _WAYS.values():
        way.read(way.open(lake), slice(0, 1))  # or what is imported for it would be counted
    # Before any space is kept: spaces share what tells which pieces words are made of.
    memory: dict[str, tuple[int, int | None]] = {
        name: _held(lake, way) for name, way in _WAYS.items()
    }
    memory[BY_HAND] = _peak(partial(_by_hand, file, *_pieces_of(cut, every))), None
    spaces = {name: way.open(lake) for name, way in _WAYS.items()}
    drawn = np.random.default_rng(seed).choice(every, min(scattered, len(every)), replace=False)
    found = {}
    for operation, index in (("layer of words", None), ("scattered words", np.sort(drawn))):
        places, counts = _pieces_of(cut, every if index is None else index)
        # A slice says that rows are neighbours.
        asked: Any = slice(None) if index is None else index
        among: Any = slice(None) if index is None else places
        methods: dict[str, Callable[[], NDArray[Any]]] = {
            name: partial(way.read, spaces[name], asked if way.unit == "word" else among)
            for name, way in _WAYS.items()
        }
        methods[BY_HAND] = partial(_by_hand, file, places, counts)
        for name, method in methods.items():
            expected, error = words[asked], 1e-3
            if name.endswith("(first)"):
                expected, error = pieces[cut.firsts[asked]], 0.0
            elif name.startswith("layerlake, piece"):
                expected, error = pieces[among], 0.0
            stored = "word set" in name
            if not _close(method(), expected, error, rows.dtype if stored else None):
                raise RuntimeError(f"{operation}, {codec}: {name} gives other rows")
        found[operation] = WordReaders(methods, sizes, memory if index is None else {})
    return found


def _written(
    folder: Path,
    cut: Cut,
    pieces: NDArray[Any],
    words: NDArray[Any],
    codec: str,
    window_rows: int,
) -> tuple[Lake, dict[str, float]]:
    """Write a variant of pieces and one of words; return the bytes on disk for each value."""
    lake = open_lake(folder, "a")
    about = {"fingerprint": "words", "n_examples": len(cut.word_offsets) - 1}
    lake.add_table("corpora/words", {"word_offsets": cut.word_offsets}, about)
    columns = {
        "piece_word": cut.piece_word,
        "special": cut.piece_word < 0,
        "input_offsets": cut.input_offsets,
        "input_example": np.arange(len(cut.input_offsets) - 1),
    }
    lake.add_table("corpora/words/tokenizations/cut", columns, {"fingerprint": "cut"})
    ids = {"row_id": np.arange(len(pieces))}
    lake.add_table("corpora/words/rows/pieces", ids, {"fingerprint": "pieces"})
    found = {}
    for variant, rows, made in (
        ("pieces", pieces, {"unit": "piece", "tokenization": "cut"}),
        ("words", words, {"unit": "word", "pooling": "mean"}),
    ):
        layout = ActivationLayout(len(rows), rows.shape[1], pieces.dtype.name, codec, window_rows)
        contents = {**made, "row_set": variant, "rows": "all", "codec": codec}
        plan = SetPlan("words", variant, contents, {}, {}, ("resid/0",), layout)
        with SetWriter(lake.location, plan) as writer:
            for window in range(layout.n_windows):
                part = rows[slice(*layout.window(window))].astype(pieces.dtype, copy=False)
                writer.write_window(window, {"resid/0": part})
            writer.seal()
        files = [file for file in (folder / plan.path / "resid/0").rglob("*") if file.is_file()]
        found[variant] = sum(file.stat().st_size for file in files) / rows.size
    return lake, found


def _pieces_of(cut: Cut, words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pieces of words, and how many each has."""
    counts = cut.counts[words]
    return runs(cut.firsts[words], counts), counts


def _by_hand(file: Path, places: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[Any]:
    """Pool pieces of a mapped file, all at once."""
    pieces = np.load(file, mmap_mode="r")[places].astype(np.float32)
    words: NDArray[Any] = np.add.reduceat(pieces, offsets_of(counts)[:-1], axis=0)
    words /= counts.astype(np.float32)[:, None]
    return words


def _held(lake: Lake, way: _Way) -> tuple[int, int]:
    """Return the most bytes held while a space is read in blocks, and what it states."""
    opened: list[Space] = []

    def blocks() -> None:
        for rows in opened[0].blocks():
            way.cast(rows)
            del rows  # or it would be there still when the next one is read

    peak = _peak(blocks, lambda: opened.append(way.open(lake)))
    (space,) = opened
    n_values = min(BLOCK_ROWS, space.shape[0]) * space.shape[1]
    block = n_values * (space.dtype.itemsize + (4 if way.wide and space.dtype.itemsize < 4 else 0))
    return peak, space.held_bytes + space.reading_bytes + block


def _peak(read: Callable[[], Any], prepare: Callable[[], Any] = lambda: None) -> int:
    """Return the most bytes that Python and numpy held while they read; maps are not among them.

    What was prepared for it counts where it is kept.
    """
    tracemalloc.start()
    try:
        prepare()
        tracemalloc.reset_peak()
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _close(
    found: NDArray[Any], expected: NDArray[Any], error: float, stored: np.dtype[Any] | None
) -> bool:
    """Say whether rows are those that are expected, to an error or to what storing them rounds."""
    share = 0.0
    if stored is not None:
        share, error = float(np.finfo(stored).eps), float(np.finfo(stored).smallest_subnormal)
    # Some at a time: a comparison holds several times what it compares.
    return found.shape == expected.shape and all(
        np.allclose(found[low : low + BLOCK_ROWS], expected[low : low + BLOCK_ROWS], share, error)
        for low in range(0, len(found), BLOCK_ROWS)
    )
