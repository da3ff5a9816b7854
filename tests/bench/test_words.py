"""Words of pieces in the store suite: a corpus like real ones, and no figures of other words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.bench import words
from layerlake.bench.store import generated


def test_a_corpus_is_cut_as_real_ones_are() -> None:
    cut = words.cut_of(50_000, seed=0)
    special = cut.piece_word < 0
    assert 49_000 < len(special) <= 50_000
    assert cut.counts.mean() == pytest.approx(1.3, abs=0.02)
    assert set(cut.counts.tolist()) == {1, 2, 3, 4, 5, 6}
    assert np.diff(cut.input_offsets).mean() == pytest.approx(25, abs=1)
    assert special.sum() == 2 * (len(cut.input_offsets) - 1)
    assert special[cut.input_offsets[:-1]].all()
    assert special[cut.input_offsets[1:] - 1].all()
    np.testing.assert_array_equal(np.bincount(cut.piece_word[~special]), cut.counts)
    np.testing.assert_array_equal(cut.piece_word[cut.firsts], np.arange(len(cut.counts)))
    assert words.cut_of(3, seed=5).piece_word.tolist() == [-1, 0, -1]


def _readers(folder: Path, dtype: str = "float16", codec: str = "none") -> Any:
    rows = generated(12_000, 64, dtype)
    np.save(folder / "rows.npy", rows)
    return words.readers_of_words(folder, folder / "rows.npy", rows, codec, 2048, 50, 0)


@pytest.mark.parametrize(("dtype", "codec"), [("float16", "lz4"), ("float32", "none")])
def test_memory_is_that_of_blocks(tmp_path: Path, dtype: str, codec: str) -> None:
    of = _readers(tmp_path, dtype, codec)
    layer, scattered = of["layer of words"], of["scattered words"]
    assert set(layer.methods) == set(scattered.methods) == set(layer.memory) == set(layer.sizes)
    assert not scattered.memory
    for name, (peak, stated) in layer.memory.items():
        returned = layer.methods[name]().nbytes
        if stated is None:
            assert peak > 1.5 * returned
        else:
            assert peak < 1.5 * stated
    pooled, by_hand = (layer.memory[name][0] for name in ("layerlake, pooled", "numpy, by hand"))
    assert pooled < by_hand


def test_other_words_are_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = words.Space.rows
    monkeypatch.setattr(
        words.Space, "rows", lambda self, index: real(self, index) * np.float16(1.1)
    )
    with pytest.raises(RuntimeError, match="layer of words, none: layerlake, word set in float32"):
        _readers(tmp_path)
