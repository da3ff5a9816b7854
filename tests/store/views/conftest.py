"""Lakes of pieces that no model made: cuts drawn at random, as awkward as tokenizers can be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.engine.catalogue import add_corpus, keep_inputs
from layerlake.engine.corpora.corpus import Corpus, WordSpans, string_array
from layerlake.engine.rows.choose import choose_rows
from layerlake.engine.tokenization.tokenize import Tokenization
from layerlake.store.identity import columns_fingerprint
from layerlake.store.lake import Lake, open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

_numbers = itertools.count()
TAGS = ("NOUN", "VERB", "ADJ")


def corpus_of(sizes: Sequence[int], name: str = "made here") -> Corpus:
    """Return a corpus of examples of so many words, each with a tag, examples with id and level."""
    spans, texts = WordSpans(), []
    for example, size in enumerate(sizes):
        texts.append(spans.add_words([f"w{example}.{place}" for place in range(size)]))
        spans.close_example()
    return Corpus(
        texts=texts,
        pair_texts=None,
        words_given=True,
        annotations={"tag": string_array([TAGS[word % 3] for word in range(sum(sizes))])},
        columns={
            "id": string_array([f"{name}-{example}" for example in range(len(sizes))]),
            "level": np.arange(len(sizes)) % 4,
        },
        source={"format": name},
        licence=None,
        **spans.arrays(),
    )


def cut_of(
    word: Sequence[int],
    special: Sequence[bool],
    repeated: Sequence[bool],
    inputs: Sequence[int],
    example: Sequence[int],
) -> Tokenization:
    """Return a tokenization of pieces; input i has `inputs[i]` of them, and is of `example[i]`."""
    columns = {
        "piece_ids": np.arange(len(word), dtype=np.int32),
        "piece_word": np.array(word, np.int64),
        "segment_ids": np.zeros(len(word), np.uint8),
        "special": np.array(special, np.bool_),
        "repeated": np.array(repeated, np.bool_),
        "input_offsets": np.concatenate([[0], np.cumsum(inputs)]).astype(np.int64),
        "input_example": np.array(example, np.int64),
    }
    settings = {"settings": {"packing": "single"}, "fingerprint": columns_fingerprint(columns)}
    return Tokenization.from_columns(columns, settings)


def drawn_cut(corpus: Corpus, seed: int, *, awkward: bool = False) -> Tokenization:
    """Cut a corpus at random.

    Words have no piece, a few or forty. Examples have no input, one, or several that overlap, at
    times within a word; some inputs begin with no special piece. The last example has one input.
    No tokenizer does what `awkward` adds: pieces of no word amid the pieces of some words, and words
    whose copies that count do not come in the order of the words.
    """
    draw = np.random.default_rng(seed)
    word: list[int] = []
    special: list[bool] = []
    repeated: list[bool] = []
    inputs: list[int] = []
    of_example: list[int] = []
    for example in range(corpus.n_examples):
        low, high = corpus.word_offsets[example : example + 2].tolist()
        last = example == corpus.n_examples - 1
        if not last and draw.random() < 0.08:
            continue
        base: list[int] = []
        for number in range(low, high):
            count = int(draw.choice([0, 1, 1, 1, 2, 3, 7, 40] if not last else [17, 40]))
            pieces = [number] * count
            if awkward and count > 2 and draw.random() < 0.4:
                pieces.insert(count // 2, -1)
            base += [-1] * int(draw.random() < 0.1) + pieces
        n_inputs = 1 if last else int(draw.integers(1, 4))
        size = -(-len(base) // n_inputs) + int(draw.integers(0, 6)) * (n_inputs > 1)
        step = max(1, -(-len(base) // n_inputs))
        windows = [range(k * step, min(k * step + size, len(base))) for k in range(n_inputs)]
        windows = [one for one in windows if len(one)] or [range(0)]
        places: dict[int, list[int]] = {}
        for place, number in enumerate(base):
            places.setdefault(number, []).append(place)
        whole: dict[int, int] = {}
        for number, own in places.items():
            holding = [k for k, w in enumerate(windows) if own[0] in w and own[-1] in w]
            if number >= 0 and holding:
                least = 0 if awkward else max(whole.values(), default=0)
                whole[number] = int(draw.choice([k for k in holding if k >= least]))
        counting = [
            whole.get(number, -1)
            if number >= 0 and number in whole
            else int(draw.choice([k for k, w in enumerate(windows) if place in w]))
            for place, number in enumerate(base)
        ]
        for k, window in enumerate(windows):
            own_word: list[int] = []
            own_repeated = []
            for place in window:
                number = base[place]
                held = number in whole and {places[number][0], places[number][-1]} <= {*window}
                own_word.append(number if held else -1)
                own_repeated.append(counting[place] != k)
            head, tail = [True] * int(draw.random() < 0.8), [True] * int(draw.random() < 0.8)
            if not own_word:
                head = [True]
            again = [bool(k and draw.random() < 0.3) for _ in range(2)]
            word += [-1] * len(head) + own_word + [-1] * len(tail)
            special += head + [False] * len(own_word) + tail
            repeated += again[: len(head)] + own_repeated + again[: len(tail)]
            inputs.append(len(head) + len(own_word) + len(tail))
            of_example.append(example)
    return cut_of(word, special, repeated, inputs, of_example)


@dataclass
class MadeLake:
    """A lake with one corpus, `c`, and sets of it whose values are drawn."""

    lake: Lake
    corpus: Corpus
    cut: Tokenization
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    """By variant: all rows of the set that was added last, (row, hidden) of each layer."""
    ids: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """By variant: its row ids."""

    def add(
        self,
        variant: str,
        rows: str = "all",
        *,
        unit: str = "piece",
        pooling: str | None = None,
        values: NDArray[Any] | None = None,
        hidden: int = 3,
        dtype: str = "float16",
        codec: str = "none",
        window_rows: int = 1024,
        chunk_rows: int = 64,
        n_layers: int = 1,
        windows: int | None = None,
        cut: Tokenization | None = None,
    ) -> SetPlan:
        """Write a set of rows that are chosen as `extract` chooses them, or begin one."""
        cut = self.cut if cut is None else cut
        kept = choose_rows(self.corpus, cut, rows, unit)
        keep_inputs(self.lake, "c", self.corpus, cut, kept)
        if values is None:
            seed = [len(variant), kept.n_rows, hidden]
            drawn = np.random.default_rng(seed).standard_normal((n_layers, kept.n_rows, hidden))
            values = drawn.astype(dtype)
        values = values.reshape(-1, kept.n_rows, values.shape[-1])
        layout = ActivationLayout(
            kept.n_rows, values.shape[-1], str(values.dtype), codec, window_rows, chunk_rows
        )
        contents = {
            "row_set": kept.fingerprint,
            "rows": kept.settings["rows"],
            "unit": unit,
            "pooling": pooling,
            "tokenization": cut.fingerprint,
            "dtype": str(values.dtype),
            "codec": codec,
            "layers": len(values),
        }
        arrays = tuple(f"resid/{layer}" for layer in range(len(values)))
        plan = SetPlan("c", variant, contents, {}, {}, arrays, layout)
        with SetWriter(self.lake.location, plan) as writer:
            for window in range(layout.n_windows if windows is None else windows):
                part = slice(*layout.window(window))
                writer.write_window(window, {f"resid/{k}": v[part] for k, v in enumerate(values)})
            if windows is None:
                writer.seal()
        self.values[variant], self.ids[variant] = values, kept.row_id
        return plan


@pytest.fixture(scope="session")
def make_lake() -> Callable[..., MadeLake]:
    """A function that makes a lake with a corpus and a cut of it, in memory or in a folder.

    `make_lake(sizes, cut)` takes the words of each example and a tokenization, `make_lake(seed=1)`
    draws both.
    """

    def make(
        sizes: Sequence[int] | None = None,
        cut: Tokenization | None = None,
        *,
        seed: int = 0,
        awkward: bool = False,
        where: Path | None = None,
    ) -> MadeLake:
        if sizes is None:
            draw = np.random.default_rng(seed)
            sizes = [*draw.integers(0, 9, 30).tolist(), 70]
        corpus = corpus_of(sizes)
        lake = open_lake(f"memory://cuts-{next(_numbers)}" if where is None else where, "a")
        add_corpus(lake, "c", corpus)
        return MadeLake(
            lake, corpus, drawn_cut(corpus, seed, awkward=awkward) if cut is None else cut
        )

    return make


@pytest.fixture(scope="session")
def make_cut() -> Callable[..., Tokenization]:
    """The function `cut_of`, for tokenizations that are written down."""
    return cut_of
