"""Rows of packed texts are what the model gives for each input, each stimulus once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.catalogue import find_tokenization, load_corpus
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.extraction.extract import extract
from layerlake.engine.tokenization.tokenize import Tokenization
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake, open_lake
from layerlake.store.stored_space import load_rows
from layerlake.store.tables import table_paths

torch = pytest.importorskip("torch")

QUESTIONS = ["Where do gulls nest?", "Who painted the unbelievably old bridge, and when?", "Why?"]
PASSAGES = [
    "Gulls nest on unbelievably steep cliffs; they don't care for wind nor for photographers.",
    "Nobody did.",
    "Paper burns, and so do wood, straw and naïvely stored hay in barns that stand too close.",
]
PACKINGS = ["window(20,5,4)", "window(24,8,4)", "trim(14)", "first", "second"]


@pytest.fixture(scope="module")
def model(small_bert: Path) -> Any:
    """The small BERT, loaded once."""
    from layerlake.engine.models.loading import load_model

    return load_model(str(small_bert), device="cpu")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return open_lake(tmp_path / "lake", "a")


def forward(model: Any, found: Tokenization, layer: int) -> np.ndarray[Any, Any]:
    """Run every input alone and return one layer of all pieces, end to end."""
    out = []
    for start, stop in zip(found.input_offsets, found.input_offsets[1:], strict=False):
        ids = torch.tensor(found.piece_ids[None, start:stop].astype(np.int64))
        kinds = torch.tensor(found.segment_ids[None, start:stop].astype(np.int64))
        with torch.inference_mode():
            got = model.module(input_ids=ids, token_type_ids=kinds, output_hidden_states=True)
        out.append(got.hidden_states[layer][0].numpy())
    return np.concatenate(out)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("unit", ["piece", "word"])
def test_rows_of_every_packing(lake: Lake, model: Any, packing: str, unit: str) -> None:
    corpus = corpus_from_texts(QUESTIONS, PASSAGES)
    report = extract(
        lake,
        model,
        corpus,
        variant="base",
        corpus_name="asked",
        packing=packing,
        unit=unit,
        store_dtype="float32",
        window_rows=1024,
    )
    found = find_tokenization(lake, "asked", corpus, model.tokenizer, packing=packing, limit=32)
    space = lake.space("asked", "base", 2)
    rows = space.rows(range(report.n_rows))
    values = forward(model, found, 2)
    if unit == "piece":
        expected = values[~found.repeated]
    else:
        counts = ~found.repeated & (found.piece_word >= 0)
        words = np.unique(found.piece_word[counts])
        expected = np.stack(
            [values[counts & (found.piece_word == word)].mean(axis=0) for word in words]
        )
        contents = lake.attributes(report.path)["contents"]
        assert (
            load_rows(lake.location, "asked", contents["row_set"]).row_id.tolist() == words.tolist()
        )
        for word in words.tolist():  # all pieces of a word from one input
            pieces = np.flatnonzero(counts & (found.piece_word == word))
            assert len(set(np.searchsorted(found.input_offsets, pieces, "right").tolist())) == 1
    np.testing.assert_allclose(rows, expected, atol=2e-5)


def test_the_same_tokenization_is_found_again(
    lake: Lake, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerlake.engine import catalogue

    corpus = corpus_from_texts(QUESTIONS, PASSAGES)
    ways: list[dict[str, Any]] = [
        {"packing": "first"},
        {"packing": "trim(14)"},
        {"packing": "trim(15)"},
        {"packing": "window(20,5,4)"},
        {"packing": "first", "bos": "never"},
        {"packing": "pair", "long": "drop"},
        {"packing": "second", "long": "window"},
    ]
    for number, way in enumerate(ways):
        extract(lake, model, corpus, variant=f"v{number}", corpus_name="asked", **way)
    names = table_paths(lake.location, "corpora/asked/tokenizations")
    assert len(names) == len(ways)
    kept = load_corpus(lake, "asked")

    def never(*_: Any, **__: Any) -> Tokenization:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(catalogue, "tokenize", never)
    ways[3] |= {"packing": "window( 20, 5, 4)", "long": "drop"}  # the same, written otherwise
    fingerprints = {
        find_tokenization(lake, "asked", kept, model.tokenizer, limit=32, **way).fingerprint
        for way in ways
    }
    assert len(fingerprints) == len(ways)
    with pytest.raises(AssertionError, match="tokenised again"):
        find_tokenization(lake, "asked", kept, model.tokenizer, packing="window(20,4,4)", limit=32)
    with pytest.raises(AssertionError, match="tokenised again"):
        find_tokenization(lake, "asked", kept, model.tokenizer, packing="trim(14)", limit=9)


def test_long_documents_in_windows_have_every_word(lake: Lake, model: Any) -> None:
    corpus = corpus_from_texts([" ".join(PASSAGES * 3), "Short."])
    for packing, long in (("window(32,8)", "refuse"), ("single", "window")):
        report = extract(
            lake, model, corpus, variant=f"v-{long}", corpus_name="c", unit="word",
            packing=packing, long=long,
        )  # fmt: skip
        assert report.n_rows == corpus.n_words


def test_a_packing_that_cannot_be_read_is_refused_before_the_model_loads(lake: Lake) -> None:
    with pytest.raises(InvalidInput, match="no packing 'windows'"):
        extract(lake, "/nowhere", Corpus, packing="windows")  # type: ignore[arg-type]
