"""What becomes of damage that a person can mend, and of two who mend at once."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from layerlake.store import folder, writer
from layerlake.store.errors import (
    FormatTooNew,
    LakeBusy,
    LakeCorrupt,
    NameNotFound,
    NotALake,
    StorageFailed,
)
from layerlake.store.lake import open_lake
from layerlake.store.removal import gc, remove
from layerlake.store.sets import parse_plan
from layerlake.store.tables import read_attributes
from layerlake.store.verify import verify
from layerlake.store.writer import SetWriter, write_attributes

COLUMNS = {"text": np.array(["a b", "ü"])}
KEPT = {"fingerprint": "f"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a lake that holds one corpus with a row set, one variant and one result."""
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/wiki", COLUMNS, KEPT)
    for path in ("corpora/wiki/rows/r", "variants/base", "results/rsa/one"):
        lake.add_table(path, {"row": np.arange(5)}, {"fingerprint": path})
    return tmp_path / "lake"


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("how", [damage, Path.unlink])
@pytest.mark.parametrize(
    "group", ["corpora", "corpora/wiki/rows", "results/rsa", "activations/wiki/base"]
)
def test_a_group_is_written_again(place, plan, fill, group, how) -> None:
    fill(open_lake(place, "a"), plan())
    how(place / group / "zarr.json")
    lake = open_lake(place, "r+")
    (finding,) = verify(lake).findings
    assert finding.path == f"{group}/zarr.json"
    assert verify(lake, repair=True).sound
    assert verify(lake).findings == ()
    assert len(lake.sets()) == 1


def test_writing_brings_back_a_group_that_is_missing(place, plan, fill) -> None:
    lake = open_lake(place, "a")
    fill(lake, plan())
    (place / "activations/wiki/zarr.json").unlink()
    assert lake.sets() == []
    fill(lake, plan())
    assert lake.sets()[0].sealed


@pytest.mark.parametrize("how", [damage, Path.unlink])
@pytest.mark.parametrize("table", ["corpora/wiki/rows/r", "variants/base", "results/rsa/one"])
@pytest.mark.parametrize("file", ["zarr.json", "row/zarr.json", "row/c/0"])
def test_a_table_that_can_be_made_anew_is_dropped(place, table, file, how) -> None:
    how(place / table / file)
    lake = open_lake(place, "r+")
    assert not verify(lake).sound
    found = verify(lake, repair=True)
    assert found.sound
    assert found.findings[0].path.startswith(table)
    assert verify(lake).findings == ()
    assert lake.add_table(table, {"row": np.arange(5)}, {"fingerprint": table})


@pytest.mark.parametrize("how", [damage, Path.unlink])
@pytest.mark.parametrize("file", ["zarr.json", "text/bytes/zarr.json", "text/offsets/c/0"])
def test_a_corpus_is_restored_by_adding_it_again(place, file, how) -> None:
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    how(place / "corpora/wiki" / file)
    lake = open_lake(place, "r+")
    with contextlib.suppress(LakeCorrupt):
        lake.add_table("corpora/wiki", COLUMNS, KEPT)
    lake.restore_table("corpora/wiki", COLUMNS, KEPT)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before
    assert not lake.restore_table("corpora/wiki", COLUMNS, KEPT)


def test_a_damaged_corpus_is_not_replaced_by_another(place) -> None:
    (place / "corpora/wiki/zarr.json").unlink()
    lake = open_lake(place, "r+")
    other = {"text": np.array(["something", "else"])}
    for write in (lake.add_table, lake.restore_table):
        with pytest.raises(LakeCorrupt, match="does not show that this was its content"):
            write("corpora/wiki", other, {"fingerprint": "g"})
    (finding,) = verify(lake, repair=True).findings
    assert (finding.path, finding.repaired) == ("corpora/wiki", False)
    assert "add the same corpus again" in finding.problem
    assert not lake.add_table("corpora/wiki", COLUMNS, KEPT)
    assert verify(lake).findings == ()


def test_the_root_is_written_again(place) -> None:
    before = (place / "zarr.json").read_bytes()
    damage(place / "zarr.json")
    with pytest.raises(NotALake, match="is damaged; delete that file, then `layerlake verify"):
        open_lake(place, "r+")
    (place / "zarr.json").write_bytes(
        before.replace(b'"format_version": 1', b'"format_version": 3')
    )
    with pytest.raises(FormatTooNew, match=r"or its zarr\.json is damaged"):
        open_lake(place)
    (place / "zarr.json").unlink()
    assert verify(open_lake(place, "r+"), repair=True).findings == ()
    assert (place / "zarr.json").read_bytes() == before


@pytest.mark.parametrize("how", [damage, Path.unlink])
def test_a_set_without_its_attributes_can_be_removed(place, plan, fill, how) -> None:
    lake = open_lake(place, "a")
    fill(lake, plan())
    how(place / plan().path / "zarr.json")
    (finding,) = verify(lake, repair=True).findings
    assert not finding.repaired
    with pytest.raises(LakeCorrupt, match=r"(is damaged|is missing)"):
        fill(lake, plan())
    remove(lake, plan().path)
    fill(lake, plan())
    assert verify(lake).findings == ()
    with pytest.raises(NameNotFound):
        remove(lake, "activations/wiki/nothing")


def test_a_set_that_was_begun_anew_is_not_collected(place, plan, fill, monkeypatch) -> None:
    lake = open_lake(place, "a")
    fill(lake, plan())
    written = parse_plan(plan().path, read_attributes(lake.location, plan().path))
    write_attributes(lake.location, written, sealed=False, tombstone=True)
    real = writer.read_attributes
    answers = []

    def stale(location, path):
        """Read the tombstone; then another process extracts the set anew."""
        answers.append(real(location, path))
        if len(answers) == 1:
            monkeypatch.setattr(writer, "read_attributes", real)
            fill(open_lake(place, "a"), plan())
            monkeypatch.setattr(writer, "read_attributes", stale)
        return answers[-1]

    monkeypatch.setattr(writer, "read_attributes", stale)
    gc(lake)
    assert [answer.get("tombstone") for answer in answers] == [True, None]
    assert lake.sets()[0].sealed


def test_repair_drops_only_what_is_damaged_when_it_holds_the_set(
    place, plan, fill, monkeypatch
) -> None:
    lake = open_lake(place, "a")
    fill(lake, plan())
    damage(place / plan().path / "resid/0/c/1/0")
    real = folder.LocalLocation.lock
    begun = []

    @contextlib.contextmanager
    def late(self, path):
        """Let another process repair and resume before this one gets the lock."""
        if not begun:
            begun.append(path)
            other = open_lake(place, "r+")
            verify(other, repair=True)
            fill(other, plan())
        with real(self, path):
            yield

    monkeypatch.setattr(folder.LocalLocation, "lock", late)
    assert verify(lake, repair=True).findings[0].repaired
    (state,) = lake.sets()
    assert begun
    assert state.sealed
    assert state.committed.all()


def test_a_lock_holds_what_lies_at_the_path(place, plan, fill, monkeypatch) -> None:
    lake = open_lake(place, "a")
    fill(lake, plan())
    real = folder._flock

    def late(descriptor: int) -> bool:
        """Let another process put a new folder in the place of the one that was opened."""
        target = place / plan().path
        shutil.move(target, place.parent / "old")
        shutil.copytree(place.parent / "old", target)
        return real(descriptor)

    monkeypatch.setattr(folder, "_flock", late)
    with pytest.raises(LakeBusy, match="by another process"), lake.location.lock(plan().path):
        pass
    monkeypatch.setattr(folder, "_flock", real)
    with SetWriter(lake.location, plan()) as held:
        assert held.sealed
    with pytest.raises(LakeBusy), lake.location.lock("activations/wiki/none"):
        pass


@pytest.mark.parametrize("call", ["stat", "scandir"])
def test_a_disk_that_cannot_be_read(place, monkeypatch, call) -> None:
    location = open_lake(place).location

    def broken(*arguments, **options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, broken)
        with pytest.raises(StorageFailed, match=r"cannot read .*: Input/output error"):
            location.size("zarr.json") if call == "stat" else location.children("corpora")
