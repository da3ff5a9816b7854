"""Lakes and sets to write, in a folder and in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from layerlake.engine.catalogue import add_corpus
from layerlake.engine.corpora.corpus import Corpus, WordSpans, string_array
from layerlake.engine.rows.choose import RowSet
from layerlake.store.lake import Lake, open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

_numbers = itertools.count()


@pytest.fixture(params=["local", "memory"])
def lake(request, tmp_path) -> Lake:
    """An empty lake of each kind of location."""
    where = tmp_path / "lake" if request.param == "local" else f"memory://{next(_numbers)}"
    opened = open_lake(where, "a")
    opened.add_table("corpora/wiki", {"text": np.array(["a b", "ü"])}, {"fingerprint": "f"})
    return opened


@pytest.fixture
def values() -> np.ndarray:
    """Rows to keep: (2500, 8) float16."""
    return np.random.default_rng(3).standard_normal((2500, 8)).astype("float16")


@pytest.fixture
def plan() -> Callable[..., SetPlan]:
    """Make the plan of a set of 2500 rows in windows of 1024 (chunks of 256)."""

    def make(codec: str = "none", variant: str = "base", **recipe: object) -> SetPlan:
        layout = ActivationLayout(2500, 8, "float16", codec, window_rows=1024, chunk_rows=256)
        contents = {"row_set": "r", "unit": "piece", "rows": "all", "codec": codec}
        arrays = ("resid/0", "resid/1")
        return SetPlan("wiki", variant, contents, {"torch": "1", **recipe}, {}, arrays, layout)

    return make


@pytest.fixture
def fill(values) -> Callable[..., None]:
    """Write windows of a set (all and the seal by default)."""

    def write(lake: Lake, plan: SetPlan, windows: range | None = None) -> None:
        with SetWriter(lake.location, plan) as writer:
            for window in windows or range(plan.layout.n_windows):
                start, stop = plan.layout.window(window)
                rows = values[start:stop]
                writer.write_window(window, {"resid/0": rows, "resid/1": rows * 2})
            if windows is None:
                writer.seal()

    return write


@pytest.fixture
def labelled(tmp_path) -> Lake:
    """A lake of pairs with annotations and columns; word rows of `base` and `other`, all known.

    Rows are 1,400 words of 200 pairs in windows of 512 rows (chunks of 128), 6 wide; layer l of
    `base` holds `row * 10 + l` in every column, of `other` minus that.
    """
    spans = WordSpans()
    texts, pair_texts = [], []
    for number in range(200):
        texts.append(spans.add_words(["a", f"word{number}", "stands", "here"]))
        pair_texts.append(spans.add_words(["naïve", "word", f"no{number % 7}"], 1))
        spans.close_example()
    tags = ["DET", "NOUN", "VERB", "ADV", "ADJ", "NOUN", "NUM"] * 200
    corpus = Corpus(
        texts=texts,
        pair_texts=pair_texts,
        words_given=True,
        annotations={"upos": string_array(tags), "both": np.arange(1400)},
        columns={
            "id": string_array([f"pair-{number}" for number in range(200)]),
            "label": np.arange(200) % 3,
            "score/é": np.linspace(0, 1, 200),
            "both": np.arange(200),
        },
        source={"format": "made here"},
        licence=None,
        **spans.arrays(),
    )
    lake = open_lake(tmp_path / "labelled", "a")
    add_corpus(lake, "pairs", corpus)
    ids = np.arange(1400)
    # The first row of every window stands for a special piece, which has no word.
    special = ids % 512 == 0
    rows = RowSet(
        unit="word",
        row_id=ids,
        row_example=ids // 7,
        row_word=np.where(special, -1, ids),
        row_position=(ids % 7).astype(np.int32),
        row_special=special,
        settings={"rows": "all", "unit": "word"},
        fingerprint="f" * 64,
    )
    lake.add_table(f"corpora/pairs/rows/{'f' * 12}", rows.to_columns(), rows.to_attributes())
    layout = ActivationLayout(1400, 6, "float32", "none", window_rows=512, chunk_rows=128)
    for variant, sign in (("base", 1), ("other", -1)):
        contents = {"row_set": "f" * 64, "unit": "word", "rows": "all", "pooling": "mean"}
        arrays = ("resid/0", "resid/1", "resid/2")
        plan = SetPlan("pairs", variant, contents, {}, {}, arrays, layout)
        with SetWriter(lake.location, plan) as writer:
            for window in range(layout.n_windows):
                part = np.arange(*layout.window(window), dtype=np.float32)[:, None] * np.ones(6)
                layers = {
                    f"resid/{k}": (sign * (part * 10 + k)).astype("float32") for k in range(3)
                }
                writer.write_window(window, layers)
            writer.seal()
    return open_lake(tmp_path / "labelled")
