"""Lineage files: what is written is read, what is wrong is said, and a model loads with its own."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlake.engine.catalogue import variant_attributes
from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.lineage_record import (
    LINEAGE_FILE,
    MOST_BYTES,
    Lineage,
    read_lineage,
    write_lineage,
)
from layerlake.engine.models.loading import load_model
from layerlake.store.errors import InvalidInput, StorageFailed
from layerlake.store.lake import open_lake

PARENT = {"source": "small", "revision": None, "weights_digest": "b" * 64, "randomize": None}
TRAINING = {
    "task": "mnli",
    "seed": 2**64 - 1,
    "recipe": {"learning_rate": 5e-5, "betas": [0.9, 0.999], "warm": None},
    "scores": {"dev": {"accuracy": 0.7125}},
    "note": "naïve ☕",
}
LINEAGE = Lineage("a" * 64, PARENT, 3, TRAINING)


def document(**changes: Any) -> dict[str, Any]:
    """Return a sound lineage as it lies in a file, but for some fields."""
    plain = {"format": "layerlake-checkpoint", "format_version": 1, "weights_digest": "a" * 64}
    return plain | {"parent": PARENT, "truncate": 3, "training": TRAINING} | changes


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_lineage(tmp_path) is None
    write_lineage(tmp_path, Lineage("c" * 64, PARENT, None, TRAINING))
    write_lineage(tmp_path, LINEAGE)
    assert read_lineage(tmp_path) == LINEAGE
    text = (tmp_path / LINEAGE_FILE).read_text("utf-8")
    assert json.loads(text) == document()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == list(document())
    # The first score is the one that is shown, so the order is kept.
    assert list(json.loads(text)["training"]) == list(TRAINING)
    assert [path.name for path in tmp_path.iterdir()] == [LINEAGE_FILE]


def test_more_than_is_asked_for_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / LINEAGE_FILE).write_text(json.dumps(document(comment="by hand")))
    assert read_lineage(tmp_path) == LINEAGE


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (json.dumps(document(truncate=float("nan"))).encode(), "NaN is no number"),
        (json.dumps(document()).replace("5e-05", "1e999").encode(), "no JSON of finite numbers"),
        (json.dumps(document()).replace("mnli", "\\ud800").encode(), "no JSON"),
        (json.dumps(document(more="x" * MOST_BYTES)).encode(), "is larger than 4 MiB"),
        (b"[]", "is no lineage"),
        (json.dumps(document(format="layerlake")).encode(), "is no lineage"),
        (json.dumps(document(format_version=2)).encode(), "format version 2, .* reads 1"),
    ],
)
def test_a_file_that_is_no_lineage_is_refused(raw: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / LINEAGE_FILE).write_bytes(raw)
    with pytest.raises(InvalidInput, match=f"{LINEAGE_FILE} .*{said}.*; restore it, or remove it"):
        read_lineage(tmp_path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / LINEAGE_FILE).symlink_to(tmp_path / "gone")
    with pytest.raises(InvalidInput, match="is no file"):
        read_lineage(tmp_path)


@pytest.mark.parametrize("name", ["weights_digest", "parent", "truncate", "training"])
def test_a_lineage_that_lacks_a_field_is_refused(name: str, tmp_path: Path) -> None:
    kept = {key: value for key, value in document().items() if key != name}
    (tmp_path / LINEAGE_FILE).write_text(json.dumps(kept))
    with pytest.raises(InvalidInput, match=f"lacks {name}"):
        read_lineage(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights_digest": "A" * 64}, "weights_digest is AAA"),
        ({"weights_digest": None}, "weights_digest is None; it is to be a sha256"),
        ({"parent": "small"}, "parent is small; it is to be a mapping"),
        ({"parent": PARENT | {"source": 3}}, "parent.source is 3"),
        ({"parent": PARENT | {"revision": False}}, "parent.revision is False"),
        ({"parent": PARENT | {"weights_digest": "b"}}, "parent.weights_digest is b"),
        ({"parent": PARENT | {"randomize": True}}, "parent.randomize is True"),
        ({"parent": PARENT | {"randomize": -1}}, "parent.randomize is -1"),
        ({"parent": {"source": "small"}}, "parent.revision is missing"),
        ({"truncate": -1}, "truncate is -1"),
        ({"truncate": 1.5}, "truncate is 1.5"),
        ({"training": [TRAINING]}, "training is "),
        ({"training": {"task": "mnli"}}, "training.seed is missing; it is to be a whole number"),
        ({"training": TRAINING | {"seed": "0"}}, "training.seed is 0"),
        ({"training": TRAINING | {"task": ""}}, "training.task is "),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / LINEAGE_FILE).write_text(json.dumps(document(**changes)))
    with pytest.raises(InvalidInput, match=said):
        read_lineage(tmp_path)
    fields = {key: value for key, value in document(**changes).items() if "format" not in key}
    with pytest.raises(InvalidInput, match=said):
        Lineage(**fields)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (float("nan"), "finite numbers"),
        (float("inf"), "finite numbers"),
        ({1, 2}, "not JSON serializable"),
        ("\ud800", "written as JSON"),
        ("x" * MOST_BYTES, "is larger than 4 MiB"),
    ],
)
def test_what_cannot_be_kept_is_not_written(extra: Any, said: str, tmp_path: Path) -> None:
    lineage = Lineage("a" * 64, PARENT, None, TRAINING | {"extra": extra})
    with pytest.raises(InvalidInput, match=said):
        write_lineage(tmp_path, lineage)
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_no_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no folder .*gone"):
        write_lineage(tmp_path / "gone", LINEAGE)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_lineage(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lineage(tmp_path, LINEAGE)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        if call == "fsync":
            patched.setattr(os, "fsync", full)
        else:
            patched.setattr(Path, "replace", full)
        with pytest.raises(StorageFailed, match="the disk is full"):
            write_lineage(tmp_path, Lineage("c" * 64, PARENT, None, TRAINING))
    assert read_lineage(tmp_path) == LINEAGE
    assert [path.name for path in tmp_path.iterdir()] == [LINEAGE_FILE]


@pytest.fixture
def tuned(small_bert: Path, perturbed: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a copy of the small model, trained (by chance), with its lineage."""

    def make(truncate: int | None = None) -> Path:
        return perturbed(small_bert, tmp_path / "tuned", 0, truncate=truncate)

    return make


def test_a_model_loads_with_its_lineage(tuned: Callable[..., Path], small_bert: Path) -> None:
    folder = tuned()
    said = read_lineage(folder)
    model = load_model(str(folder), device="cpu")
    assert said is not None
    assert (model.parent, model.training) == (said.parent, said.training)
    assert model.weights_digest == said.weights_digest
    (folder / LINEAGE_FILE).unlink()
    plain = load_model(str(folder), device="cpu")
    assert (plain.parent, plain.training) == (None, None)
    assert plain.weights_digest == model.weights_digest
    base = load_model(str(small_bert), device="cpu")
    assert base.weights_digest == said.parent["weights_digest"]


def test_a_cut_before_training_is_part_of_the_training(tuned: Callable[..., Path]) -> None:
    model = load_model(str(tuned(truncate=2)), device="cpu")
    assert model.truncate is None
    assert model.training is not None
    assert model.training["truncate"] == 2


def test_a_cut_copy_keeps_parent_and_training(tuned: Callable[..., Path]) -> None:
    folder = tuned()
    whole = load_model(str(folder), device="cpu")
    cut = load_model(str(folder), device="cpu", truncate=1)
    assert (cut.parent, cut.training) == (whole.parent, whole.training)
    assert cut.truncate == 1
    assert cut.weights_digest != whole.weights_digest
    (folder / LINEAGE_FILE).unlink()
    assert load_model(str(folder), device="cpu", truncate=1).weights_digest == cut.weights_digest


def test_random_weights_have_no_lineage(tuned: Callable[..., Path], small_bert: Path) -> None:
    random = load_model(str(tuned()), device="cpu", randomize=0)
    assert (random.parent, random.training) == (None, None)
    twin = load_model(str(small_bert), device="cpu", randomize=0)
    assert random.weights_digest == twin.weights_digest


@pytest.mark.parametrize("cut", [None, 1])
def test_a_lineage_of_other_weights_is_refused(
    tuned: Callable[..., Path], small_bert: Path, cut: int | None
) -> None:
    folder = tuned()
    shutil.copy(small_bert / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(
        InvalidInput,
        match=f"the weights of .*tuned are not those that its {LINEAGE_FILE} speaks of .*; restore",
    ):
        load_model(str(folder), device="cpu", truncate=cut)


def test_a_broken_lineage_is_said_before_weights_are_read(tuned: Callable[..., Path]) -> None:
    folder = tuned()
    (folder / LINEAGE_FILE).write_text("{")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InvalidInput, match=LINEAGE_FILE):
        load_model(str(folder), device="cpu")


def test_a_snapshot_of_the_hub_brings_its_lineage(
    tuned: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "cache" / commit
    shutil.copytree(tuned(), snapshot)
    wanted: list[str] = []

    def download(name: str, **options: Any) -> str:
        wanted.extend(options["allow_patterns"])
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = load_model("org/tuned", device="cpu")
    assert (model.source, model.revision) == ("org/tuned", commit)
    assert model.training is not None
    assert any(Path(LINEAGE_FILE).match(pattern) for pattern in wanted)


def test_a_variant_keeps_parent_and_training(tuned: Callable[..., Path], tmp_path: Path) -> None:
    folder = tuned()
    lake = open_lake(tmp_path / "lake", "a")
    extract(lake, folder, ["the tide"], corpus_name="c", device="cpu")
    model = load_model(str(folder), device="cpu")
    kept = lake.attributes("variants/tuned")
    assert (kept["parent"], kept["training"]) == (model.parent, model.training)
    assert (
        json.loads(json.dumps(variant_attributes(model, "t"), allow_nan=False)).items()
        <= (kept | {"tokenizer": "t"}).items()
    )


def test_a_variant_from_before_its_lineage_stays_as_it_is(
    tuned: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tuned()
    said = (folder / LINEAGE_FILE).read_bytes()
    (folder / LINEAGE_FILE).unlink()
    lake = open_lake(tmp_path / "lake", "a")
    extract(lake, folder, ["the tide"], corpus_name="c", device="cpu")
    before = lake.attributes("variants/tuned")
    assert "training" not in before
    (folder / LINEAGE_FILE).write_bytes(said)
    report = extract(lake, folder, ["the tide"], corpus_name="c", device="cpu")
    assert report.n_computed == 0
    assert lake.attributes("variants/tuned") == before
