"""After damage: what was dropped is made anew by the same line, and names keep their weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from layerlake.engine.catalogue import add_corpus
from layerlake.engine.extraction.extract import extract
from layerlake.store.errors import LakeCorrupt, NameConflict
from layerlake.store.lake import open_lake
from layerlake.store.verify import verify

pytest.importorskip("torch")

TEXTS = [f"line {number} of a text" for number in range(30)]


@pytest.fixture
def model(small_bert):
    """The small BERT, loaded."""
    from layerlake.engine.models.loading import load_model

    return load_model(str(small_bert), device="cpu")


@pytest.fixture
def place(tmp_path, model):
    """A lake with one variant over one corpus."""
    extract(open_lake(tmp_path / "lake", "a"), model, TEXTS, corpus_name="t", variant="base")
    return tmp_path / "lake"


def content(place: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "table", ["corpora/t/tokenizations/[!z]*", "corpora/t/rows/[!z]*", "variants/b*"]
)
def test_the_same_line_makes_anew_what_was_dropped(place, model, table):
    before = content(place)
    (node,) = place.glob(table)
    (node / "zarr.json").write_bytes(b"{}")
    with pytest.raises(LakeCorrupt):
        extract(open_lake(place, "a"), model, TEXTS, corpus_name="t", variant="base")
    assert verify(open_lake(place, "r+"), repair=True).sound
    assert not node.exists()
    report = extract(open_lake(place, "a"), model, TEXTS, corpus_name="t", variant="base")
    assert report.n_computed == 0
    assert content(place) == before


def test_a_corpus_comes_back_under_its_activations(place, model):
    before = content(place)
    (place / "corpora/t/text/bytes/c/0").unlink()
    with pytest.raises(LakeCorrupt, match="add the same again, which restores it"):
        extract(open_lake(place, "a"), model, "t", variant="next")
    assert not verify(open_lake(place, "r+"), repair=True).sound
    add_corpus(open_lake(place, "r+"), "t", TEXTS)
    assert content(place) == before


def test_a_name_that_was_dropped_keeps_its_weights(place, model):
    (place / "variants/base/zarr.json").unlink()
    assert verify(open_lake(place, "r+"), repair=True).sound
    other = dataclasses.replace(model, weights_digest="0" * 64)
    with pytest.raises(NameConflict, match="holds other weights"):
        extract(open_lake(place, "a"), other, "t", variant="base", layers=[1])
