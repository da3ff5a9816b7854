"""The folder of any resumable work: one writer, its own files, nobody else's, and the room."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from layerlake.analyses.runs.run_folder import BEGUN_FILE, PART, RunFolder
from layerlake.store.errors import InvalidInput, LakeBusy, NameConflict, StorageFailed

DECIDES = {"layers": [0, 8], "name": "wörter"}


def probing_folder(out: Path) -> RunFolder:
    """Return the folder of work that has nothing to do with fine-tuning."""
    own = re.compile(r"weights-[0-9]+\.npy(\.part)?|sums")
    return RunFolder(out, own=own, what="probing", contents="weights")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A folder in which work was begun, and wrote two files and a folder of its own."""
    folder = probing_folder(tmp_path / "deep" / "out")
    with folder.held():
        folder.begin(DECIDES)
        (folder.work / "weights-3.npy").write_bytes(b"three")
        (folder.work / "sums").mkdir()
        (folder.work / "sums" / "any.npy").write_bytes(b"sum")
    return folder


def test_what_was_begun_is_found_again(folder: RunFolder, tmp_path: Path) -> None:
    assert folder.work == tmp_path / "deep" / "out" / "probing"
    assert probing_folder(folder.out).begun() == DECIDES
    assert json.loads((folder.work / "run.json").read_text()) == DECIDES
    folder.begin({"layers": [1]})  # whose folder it is was said when the work began
    assert folder.begun() == DECIDES
    assert probing_folder(tmp_path / "none").begun() is None


@pytest.mark.parametrize(("content", "reason"), [("{", r"no JSON"), ("[]", "is damaged")])
def test_a_damaged_beginning_is_said(folder: RunFolder, content: str, reason: str) -> None:
    (folder.work / BEGUN_FILE).write_text(content)
    with pytest.raises(InvalidInput, match=f"{reason}.*; remove .*probing, and the run begins"):
        folder.begun()


def test_half_written_files_go_when_work_is_taken_up(folder: RunFolder) -> None:
    half = folder.work / f"weights-4.npy{PART}"
    deep = folder.work / "sums" / f"other{PART}"
    for file in (half, deep):
        file.write_bytes(b"half")
    folder.begin(DECIDES)
    assert not half.exists()
    assert not deep.exists()
    assert (folder.work / "weights-3.npy").read_bytes() == b"three"


def test_what_safetensors_left_half_written_goes_as_well(folder: RunFolder) -> None:
    left = folder.work / ".tmpmG2wEH"
    left.touch()
    folder.begin(DECIDES)
    assert not left.exists()


def test_what_no_run_wrote_is_left_alone(folder: RunFolder) -> None:
    mine = folder.work / f"thesis{PART}"
    mine.write_text("mine")
    with pytest.raises(NameConflict, match=r"probing holds thesis\.part, which no run wrote, and"):
        folder.begin(DECIDES)
    folder.clear()
    assert [file.name for file in folder.work.iterdir()] == [mine.name]
    mine.unlink()
    folder.clear()
    assert list(folder.out.iterdir()) == []
    folder.clear()


def test_one_writes_at_a_time(folder: RunFolder) -> None:
    other = os.open(folder.out, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        said = f"another process is probing into {folder.out}; wait for it, or choose another --out"
        with pytest.raises(LakeBusy, match=f"^{re.escape(said)}$"), folder.held():
            pass
    finally:
        os.close(other)
    with folder.held():
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unmade = probing_folder(tmp_path / "file" / "out")
    with pytest.raises(StorageFailed, match=r"out: Not a directory; choose"), unmade.held():
        pass
    (tmp_path / "probing").touch()
    with pytest.raises(StorageFailed, match=r"cannot write .*probing: File exists; choose"):
        probing_folder(tmp_path).begin(DECIDES)


def test_a_disk_too_small_is_refused_but_for_what_lies_there(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = sum(file.stat().st_size for file in folder.work.rglob("*") if file.is_file())
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    folder.require_space(1000 + there)
    with pytest.raises(StorageFailed) as caught:
        folder.require_space(1001 + there)
    assert str(caught.value).startswith(f"probing into {folder.out} needs ")
    assert f"({1001 + there} bytes) for its weights, and the disk has " in str(caught.value)
    assert str(caught.value).endswith(" left; free some space, or choose another --out")
    probing_folder(tmp_path / "none" / "yet").require_space(1000)
