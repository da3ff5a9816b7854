"""What storing loses is measured as the textbook says, recorded, and decides the dtype."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.corpora.reading import Reading
from layerlake.engine.extraction.extract import extract
from layerlake.engine.extraction.storage_error import similarity_lost
from layerlake.store.errors import InvalidInput, LakeBusy, MemoryRefused, StorageFailed
from layerlake.store.lake import Lake, open_lake
from layerlake.store.storage import Storage
from layerlake.store.writer import SetWriter

torch = pytest.importorskip("torch")

TEXTS = [f"the {word} of harbour number {i}" for i, word in enumerate(["gulls", "ropes"] * 4)]


def textbook(computed: Any, stored: Any) -> float:
    """1 - Pearson over the upper triangles of cosine similarities, in extended precision."""
    similarities = []
    for rows in (computed, stored):
        unit = np.asarray(rows, np.longdouble)
        unit = unit / np.sqrt((unit**2).sum(axis=1, keepdims=True))
        similarities.append((unit @ unit.T)[np.triu_indices(len(unit), 1)])
    x, y = (values - values.mean() for values in similarities)
    return float(1 - (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


@pytest.mark.parametrize(("rows", "shift"), [(3, 0.0), (40, 0.0), (700, 2.0), (300, 100.0)])
def test_the_loss_is_that_of_the_textbook(rows: int, shift: float) -> None:
    rng = np.random.default_rng(rows)
    computed = (rng.normal(size=(rows, 24)) + shift).astype(np.float32)
    stored = computed.astype(np.float16)
    expected = textbook(computed, stored)
    assert expected > 0
    assert similarity_lost(computed, stored) == pytest.approx(expected, rel=1e-6, abs=1e-14)
    assert similarity_lost(computed, computed) == 0


def test_rows_without_direction_do_not_count() -> None:
    computed = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    with_zeros = np.concatenate([computed, np.zeros((3, 8), np.float32)])
    lost = similarity_lost(with_zeros, with_zeros.astype(np.float16))
    assert lost == similarity_lost(computed, computed.astype(np.float16))
    assert similarity_lost(computed[:2], computed[:2]) is None
    assert similarity_lost(np.ones((5, 2)), np.ones((5, 2))) is None


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake", "a")


@pytest.fixture
def model(small_bert: Path) -> Any:
    from layerlake.engine.models.loading import load_model

    return load_model(str(small_bert), device="cpu")


def widen(model: Any, factor: float, layer: int = 2) -> None:
    """Make what a layer gives as large as some models' outlier dimensions."""
    norm = model.module.encoder.layer[layer - 1].output.LayerNorm
    norm.weight.data *= factor
    norm.bias.data += factor


def test_the_loss_of_every_array_is_recorded(lake: Lake, model: Any) -> None:
    report = extract(lake, model, TEXTS, corpus_name="c", variant="v")
    extract(lake, model, "c", variant="exact", store_dtype="float32")
    assert (report.store_dtype, report.float32_because) == ("float16", None)
    lost = report.storage_reliability
    assert lost is not None
    for layer in range(4):
        computed, stored = (lake.space("c", v, layer).rows(slice(None)) for v in ("exact", "v"))
        assert lost[f"resid/{layer}"] == pytest.approx(textbook(computed, stored), rel=1e-3)
    (state,) = lake.sets("c", "v")
    assert state.plan.about["storage_reliability"] == lost
    again = extract(lake, model, "c", variant="v")
    assert (again.n_computed, again.storage_reliability) == (0, lost)


def test_values_that_float16_may_not_hold_are_stored_in_float32(lake: Lake, model: Any) -> None:
    widen(model, 20_000)
    report = extract(lake, model, TEXTS, corpus_name="c", variant="v")
    assert report.store_dtype == "float32"
    assert str(report.float32_because).startswith("resid/2 reaches ")
    assert lake.space("c", "v", 2).dtype == np.float32
    assert np.abs(lake.space("c", "v", 2).rows(slice(None))).max() > 30_000
    again = extract(lake, model, "c", variant="v")
    assert (again.path, again.n_computed) == (report.path, 0)
    assert again.float32_because == report.float32_because


def test_windows_that_turn_out_wider_are_refused_where_they_do_not_fit(
    lake: Lake, model: Any
) -> None:
    told = extract(lake, model, TEXTS, corpus_name="c", variant="v", dry_run=True)
    memory = told.peak_bytes + 1
    widen(model, 20_000)
    with pytest.raises(MemoryRefused, match=r"in float32 \(resid/2 reaches .*\) needs"):
        extract(lake, model, TEXTS, corpus_name="c", variant="v", memory=memory)
    assert (lake.corpora(), lake.variants()) == ([], [])
    allowed = extract(lake, model, TEXTS, corpus_name="c", variant="v", memory=2 * memory)
    assert allowed.store_dtype == "float32"


def test_layers_whose_similarity_float16_would_blur_are_stored_in_float32(
    lake: Lake, model: Any
) -> None:
    norm = model.module.encoder.layer[1].output.LayerNorm
    norm.weight.data *= 1e-3
    norm.bias.data += 1.0  # all rows point the same way, but for a thousandth
    report = extract(lake, model, TEXTS, corpus_name="c", variant="v", layers="2")
    assert report.store_dtype == "float32"
    assert str(report.float32_because).startswith("float16 would move an RSA of resid/2 by ")
    plain = extract(lake, model, "c", variant="v", layers="2", store_dtype="float16")
    assert plain.store_dtype == "float16"
    assert plain.storage_reliability["resid/2"] > 1e-5  # type: ignore[index, operator]


def test_float16_that_was_asked_for_refuses_what_it_cannot_hold(lake: Lake, model: Any) -> None:
    widen(model, 100_000)
    with pytest.raises(InvalidInput, match=r"does not fit float16 .* --store-dtype float32"):
        extract(lake, model, TEXTS, corpus_name="c", variant="v", store_dtype="float16")
    assert (lake.corpora(), lake.variants()) == ([], [])


@pytest.mark.parametrize("wide", [False, True])
def test_what_was_interrupted_goes_on_in_the_same_dtype(
    wide: bool, lake: Lake, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wide:
        widen(model, 20_000)
    options: dict[str, Any] = {"variant": "v", "window_rows": 1024}
    texts = [f"{text} {i}" for i in range(40) for text in TEXTS]
    whole = extract(lake, model, texts, corpus_name="whole", **options)
    assert whole.n_windows > 2

    write = SetWriter.write_window

    def fail(self: SetWriter, window: int, arrays: Any) -> None:
        if window == 1:
            raise StorageFailed("the disk is full")
        write(self, window, arrays)

    monkeypatch.setattr(SetWriter, "write_window", fail)
    with pytest.raises(StorageFailed):
        extract(lake, model, texts, corpus_name="cut", **options)
    monkeypatch.undo()
    rest = extract(lake, model, "cut", **options)
    assert (rest.n_missing, rest.store_dtype) == (whole.n_windows - 1, whole.store_dtype)
    assert rest.storage_reliability == whole.storage_reliability
    for layer in range(4):
        a, b = (lake.space(c, "v", layer).rows(slice(None)) for c in ("whole", "cut"))
        assert np.array_equal(a, b)


def test_two_that_begin_the_same_set_do_not_both_write(lake: Lake, model: Any) -> None:
    from layerlake.engine.extraction.plan import plan_extraction
    from layerlake.engine.extraction.request import ExtractionRequest
    from layerlake.engine.extraction.run import run_extraction

    plan = plan_extraction(
        lake,
        model,
        TEXTS,
        variant="v",
        corpus_name="c",
        reading=Reading(),
        request=ExtractionRequest(storage=Storage("float16")),
    )
    with SetWriter(lake.location, plan.set_plan), pytest.raises(LakeBusy):
        run_extraction(lake, model, plan)


def test_the_same_weights_under_two_names_are_said_to_be_so(lake: Lake, model: Any) -> None:
    first = extract(lake, model, TEXTS, corpus_name="c", variant="base")
    second = extract(lake, model, "c", variant="again")
    assert (first.same_weights, second.same_weights) == ((), ("base",))


def test_a_float32_set_that_was_asked_for_is_not_what_auto_chose(lake: Lake, model: Any) -> None:
    first = extract(lake, model, TEXTS, corpus_name="c", variant="v")
    extract(lake, model, "c", variant="v", store_dtype="float32", window_rows=2048)
    again = extract(lake, model, "c", variant="v")
    assert (again.path, again.n_computed) == (first.path, 0)
    extract(lake, model, "c", variant="w", store_dtype="float32", window_rows=2048)
    assert extract(lake, model, "c", variant="w").store_dtype == "float16"
