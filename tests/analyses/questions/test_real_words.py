"""MiniLM against a model with other pieces over real text: words from pieces, and as extracted."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerlake as ll
from layerlake.store.lake import Lake, open_lake

pytestmark = pytest.mark.data
torch = pytest.importorskip("torch")

SENTENCES = 120
BATCHES = 2e-6
"""What batches of other texts move of a row, as a share of its length."""


def start_of(data_folder: Path, corpus: str, tmp_path: Path) -> Path:
    """Write the first sentences or lines of a corpus to a file of their own."""
    if corpus == "ewt":
        packed = data_folder / "ewt" / "en_ewt-ud-dev.conllu.gz"
        parts, end = gzip.decompress(packed.read_bytes()).decode().split("\n\n"), "\n\n"
        path = tmp_path / "ewt.conllu"
    else:
        packed = data_folder / "wikitext2" / "wiki.test.raw.first40.txt.gz"
        parts, end = gzip.decompress(packed.read_bytes()).decode().splitlines(), "\n"
        parts = [part for part in parts if part.strip()]
        path = tmp_path / "wiki.txt"
    path.write_text(end.join(parts[:SENTENCES]) + end, "utf-8")
    return path


@pytest.fixture
def lakes(
    data_folder: Path,
    minilm_folder: Path,
    byte_level_gpt: Callable[[list[str]], Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> tuple[str, Lake, Lake]:
    """A corpus, a lake of its pieces and a lake of its words, both of both models."""
    corpus = request.param
    source = start_of(data_folder, corpus, tmp_path)
    models = {"base": minilm_folder, "gpt": byte_level_gpt(source.read_text("utf-8").split("\n"))}
    made = []
    for unit in ("piece", "word"):
        lake = open_lake(tmp_path / unit, "a")
        for name, folder in models.items():
            ll.extract(
                lake,
                str(folder),
                str(source),
                variant=name,
                unit=unit,
                layers=[0, 2],
                store_dtype="float32",
                progress=ll.silent,
            )
        made.append(lake)
    return corpus, made[0], made[1]


@pytest.mark.parametrize("lakes", ["ewt", "wiki"], indirect=True)
def test_words_of_piece_lakes_are_those_of_word_lakes(lakes: tuple[str, Lake, Lake]) -> None:
    corpus, pieces, words = lakes
    for name in ("base", "gpt"):
        pooled = pieces.space(corpus, name, 2, unit="word")
        stored = words.space(corpus, name, 2, unit="word")
        assert pooled.row_set == stored.row_set
        found, expected = pooled.rows(slice(None)), stored.rows(slice(None))
        length = np.linalg.norm(expected, axis=1)[:, None]
        assert np.all(np.abs(found - expected) <= 2 * BATCHES * length)
    asked: dict[str, Any] = {"rows": 500, "progress": ll.silent}
    found_r, expected_r = ll.rsa(pieces, **asked), ll.rsa(words, **asked)
    assert "words are compared, not pieces" in found_r.notes[-2]
    for one, other in zip(found_r.records, expected_r.records, strict=True):
        assert one["value"] == pytest.approx(other["value"], abs=1e-6)
        assert (one["n"], one["n_clusters"]) == (other["n"], other["n_clusters"])
