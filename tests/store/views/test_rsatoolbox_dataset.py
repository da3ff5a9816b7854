"""Rows for rsatoolbox: float64, described as the corpus describes them, within stated memory."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest

from layerlake.engine.catalogue import load_corpus
from layerlake.store.errors import MemoryRefused, MissingExtra, OutOfRange
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.views.rsatoolbox_dataset import dataset_bytes
from layerlake.store.writer import SetWriter


def test_rows_are_described_as_the_corpus_says(labelled):
    pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    corpus = load_corpus(labelled, "pairs")
    space = labelled.space("pairs", "base", 2)
    index = [1399, 1, 512]
    dataset = space.to_rsatoolbox(index, columns=["label"])
    assert dataset.measurements.dtype == np.float64
    np.testing.assert_array_equal(dataset.measurements, space.rows(index))
    assert dataset.descriptors == {
        "corpus": "pairs",
        "variant": "base",
        "site": "resid",
        "layer": 2,
    }
    described = dataset.obs_descriptors
    assert np.asarray(described["row"]).tolist() == index
    assert np.asarray(described["example"]).tolist() == [199, 0, 73]
    assert list(described["example_id"]) == ["pair-199", "pair-0", "pair-73"]
    assert list(described["word_text"]) == [corpus.word(1399), corpus.word(1), ""]
    assert np.asarray(described["label"]).tolist() == [199 % 3, 0, 73 % 3]
    assert dataset.split_obs("word_text")[1].n_obs == 1
    assert dataset.n_channel == 6


def test_rows_are_chosen_as_elsewhere(labelled):
    pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    space = labelled.space("pairs", "base", 0)
    mask = np.arange(1400) % 700 == 3
    assert space.to_rsatoolbox(mask).obs_descriptors["row"].tolist() == [3, 703]
    assert space.to_rsatoolbox(slice(5, 12, 3)).obs_descriptors["row"].tolist() == [5, 8, 11]
    every = space.to_rsatoolbox(words=False)
    np.testing.assert_array_equal(every.measurements, space.rows(slice(None)))
    assert "word_text" not in every.obs_descriptors
    with pytest.raises(OutOfRange):
        space.to_rsatoolbox([1400])


def test_more_memory_than_is_allowed_is_refused_before_reading(labelled):
    space = labelled.space("pairs", "base", 0)
    with pytest.raises(MemoryRefused, match=r"a dataset of 1400 rows needs .*; choose fewer rows"):
        space.to_rsatoolbox(memory="100kB")


def test_rsatoolbox_is_asked_for_by_name(labelled, monkeypatch):
    monkeypatch.setitem(sys.modules, "rsatoolbox.data", None)
    with pytest.raises(MissingExtra, match=r"pip install 'layerlake\[rsatoolbox\]'"):
        labelled.space("pairs", "base", 0).to_rsatoolbox([1])


def test_the_peak_is_what_is_stated(lake):
    pytest.importorskip("rsatoolbox.data", reason="rsatoolbox is not installed")
    layout = ActivationLayout(6000, 64, "float16", "none", window_rows=2048, chunk_rows=512)
    contents = {"row_set": "r", "unit": "piece", "rows": "all"}
    plan = SetPlan("wiki", "wide", contents, {}, {}, ("resid/0",), layout)
    with SetWriter(lake.location, plan) as writer:
        for window in range(layout.n_windows):
            start, stop = layout.window(window)
            writer.write_window(window, {"resid/0": np.ones((stop - start, 64), "float16")})
        writer.seal()
    space = lake.space("wiki", "wide", 0)
    tracemalloc.start()
    dataset = space.to_rsatoolbox()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dataset.n_obs == 6000
    assert 0.8 * dataset_bytes(space, 6000) < peak <= dataset_bytes(space, 6000)
