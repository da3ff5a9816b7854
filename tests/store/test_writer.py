"""The commit protocol: whole windows or none, one writer, resume, faults."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from layerlake.store import folder as folder_module
from layerlake.store.errors import (
    InvalidInput,
    LakeBusy,
    LakeCorrupt,
    NameConflict,
    StorageFailed,
)
from layerlake.store.lake import open_lake
from layerlake.store.removal import gc, remove
from layerlake.store.sets import read_state
from layerlake.store.verify import verify
from layerlake.store.writer import SetWriter, write_attributes


def test_a_resumed_set_equals_one_never_interrupted(lake, plan, fill, values):
    fill(lake, plan(), range(2, 3))
    with SetWriter(lake.location, plan()) as writer:
        assert writer.committed.tolist() == [False, False, True]
        with pytest.raises(InvalidInput, match="2 windows are missing"):
            writer.seal()
        for window in (0, 1):
            start, stop = plan().layout.window(window)
            rows = values[start:stop]
            writer.write_window(window, {"resid/0": rows, "resid/1": rows * 2})
        writer.seal()
    fill(lake, plan(variant="twin"))
    resumed, whole = (lake.space("wiki", v, 1) for v in ("base", "twin"))
    assert resumed.rows(range(2500)).tobytes() == whole.rows(range(2500)).tobytes()
    assert (resumed.state.commits == whole.state.commits).all()
    assert verify(lake).findings == ()


def test_another_recipe_is_refused(lake, plan, fill):
    fill(lake, plan(), range(1))
    with (
        pytest.raises(NameConflict, match="torch '1' then, '2' now"),
        SetWriter(lake.location, plan(torch="2")),
    ):
        pass


def test_one_writer_at_a_time(lake, plan):
    with (
        SetWriter(lake.location, plan()),
        pytest.raises(LakeBusy, match="being written by another"),
        SetWriter(lake.location, plan()),
    ):
        pass
    with SetWriter(lake.location, plan()):
        pass


def test_wrong_arrays_are_refused(lake, plan, values):
    with SetWriter(lake.location, plan()) as writer:
        with pytest.raises(InvalidInput, match="expected"):
            writer.write_window(0, {"resid/0": values[:1024]})
        both = {"resid/0": values[:1000], "resid/1": values[:1024]}
        with pytest.raises(InvalidInput, match=r"\(1024, 8\)"):
            writer.write_window(0, both)
        assert not writer.committed.any()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("nth", range(1, 7))  # two shards and a commit a window
def test_a_failing_disk_leaves_a_set_that_resumes(
    tmp_path, plan, fill, values, monkeypatch, code, nth
):
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/wiki", {"text": np.array(["a"])}, {"fingerprint": "f"})
    fill(lake, plan(), range(1))
    calls = 0
    real = os.writev

    def failing(descriptor, parts):
        nonlocal calls
        calls += 1
        if calls == nth:
            whole = b"".join(parts)
            real(descriptor, [whole[: len(whole) // 2]])
            raise OSError(code, os.strerror(code))
        return real(descriptor, parts)

    with monkeypatch.context() as patch:
        patch.setattr(folder_module.os, "writev", failing)
        with pytest.raises(StorageFailed, match="cannot write"):
            fill(lake, plan(), range(1, 3))
    assert calls == nth
    state = read_state(lake.location, plan().path)
    assert state.committed[0]
    start, stop = plan().layout.window(0)
    read = lake.space("wiki", "base", 0).rows(range(start, stop))
    assert (read == values[start:stop]).all()
    fill(lake, plan())
    assert verify(lake).findings == ()


@pytest.mark.parametrize("most", [97, 5000])
def test_short_writes_are_continued(tmp_path, plan, fill, values, monkeypatch, most):
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/wiki", {"text": np.array(["a"])}, {"fingerprint": "f"})
    real = os.writev
    short = 0

    def some(descriptor, parts):
        nonlocal short
        whole = b"".join(parts)
        short += len(whole) > most
        return real(descriptor, [whole[:most]])

    with monkeypatch.context() as patch:
        patch.setattr(folder_module.os, "writev", some)
        fill(lake, plan())
    assert short
    assert (lake.space("wiki", "base", 0).rows(slice(None)) == values).all()
    assert verify(lake).findings == ()


KILLED = """
import sys
import numpy as np
from layerlake.store.lake import open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

lake = open_lake(sys.argv[1], "a")
layout = ActivationLayout(40 * 64, 16, "float32", "none", window_rows=64, chunk_rows=32)
plan = SetPlan("wiki", "base", {"unit": "piece", "rows": "all"}, {}, {}, ("resid/0",), layout)
values = np.arange(40 * 64 * 16, dtype="float32").reshape(-1, 16)
with SetWriter(lake.location, plan) as writer:
    print("ready", flush=True)
    for window in np.flatnonzero(~writer.committed).tolist():
        start, stop = layout.window(window)
        writer.write_window(window, {"resid/0": values[start:stop]})
        print(window, flush=True)
    writer.seal()
"""


def test_killed_at_random_moments_nothing_is_lost(tmp_path):
    folder = tmp_path / "lake"
    opened = open_lake(folder, "a")
    opened.add_table("corpora/wiki", {"text": np.array(["a"])}, {"fingerprint": "f"})
    values = np.arange(40 * 64 * 16, dtype="float32").reshape(-1, 16)
    rng = np.random.default_rng(5)
    said: set[int] = set()
    kills = 0
    for _ in range(30):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        # A random time after none to a few of its windows: on a fast disk all of them take less
        # time than any fixed pause.
        lines = [child.stdout.readline() for _ in range(int(rng.integers(0, 4)))]
        time.sleep(float(rng.uniform(0, 0.002)))
        child.send_signal(signal.SIGKILL)
        lines = [line for line in [*lines, *child.stdout.read().split()] if line.strip()]
        child.stdout.close()
        kills += child.wait() == -signal.SIGKILL
        windows = {int(line) for line in lines}
        assert not windows & said, "a committed window was computed again"
        said |= windows
        state = open_lake(folder).sets()[0]
        committed = set(np.flatnonzero(state.committed).tolist())
        assert said <= committed
        said = committed
        assert verify(open_lake(folder)).findings == ()
        space = open_lake(folder, verified=True).space("wiki", "base", 0)
        for window in committed:
            rows = np.arange(window * 64, window * 64 + 64)
            assert (space.rows(rows) == values[rows]).all()
        if state.sealed:
            break
    assert kills >= 2
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=True, capture_output=True)
    space = open_lake(folder, verified=True).space("wiki", "base", 0, sealed=True)
    assert space.rows(range(40 * 64)).tobytes() == values.tobytes()
    gc(open_lake(folder, "a"))
    left = [f for f in (folder / "staging").rglob("*") if f.is_file() and f.name != "zarr.json"]
    assert left == []


def test_a_flipped_byte_anywhere_is_named_and_dropped(tmp_path, plan, fill, values):
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/wiki", {"text": np.array(["a"])}, {"fingerprint": "f"})
    rng = np.random.default_rng(1)
    for codec in ("none", "lz4"):
        fill(lake, plan(codec))
        root = tmp_path / "lake" / plan(codec).path
        for file in sorted(f for f in root.rglob("*") if f.is_file()):
            original = file.read_bytes()
            for place in {0, len(original) - 1, int(rng.integers(len(original)))}:
                damaged = bytearray(original)
                damaged[place] ^= 1 << int(rng.integers(8))
                file.write_bytes(damaged)
                found = verify(lake, plan(codec).path)
                key = file.relative_to(tmp_path / "lake").as_posix()
                named = [f.path for f in found.findings]
                assert key in named, f"byte {place} of {key} was not found"
                assert not found.sound
                file.write_bytes(original)
        assert verify(lake, plan(codec).path).findings == ()


def test_repair_drops_the_window_and_extraction_resumes(tmp_path, plan, fill, values):
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/wiki", {"text": np.array(["a"])}, {"fingerprint": "f"})
    fill(lake, plan())
    root = tmp_path / "lake" / plan().path
    shard = root / "resid/1/c/1/0"
    shard.write_bytes(shard.read_bytes()[:-9])
    (root / "resid/0/c/0/stray").write_bytes(b"x")
    found = verify(lake, repair=True)
    assert {f.path.rpartition("/")[2] for f in found.findings} == {"0", "stray"}
    assert found.sound
    state = read_state(lake.location, plan().path)
    assert not state.sealed
    assert state.committed.tolist() == [True, False, True]
    assert verify(lake).findings == ()
    fill(lake, plan())
    rows = lake.space("wiki", "base", 1, sealed=True).rows(range(2500))
    assert (rows == values * 2).all()


def test_removed_and_written_again(lake, plan, fill, values):
    fill(lake, plan())
    with pytest.raises(InvalidInput, match="used by activations"):
        remove(lake, "corpora/wiki")
    with pytest.raises(InvalidInput, match="kept or removed whole"):
        remove(lake, f"{plan().path}/resid")
    with pytest.raises(InvalidInput, match="no path inside"):
        remove(lake, "activations/../..")
    remove(lake, "activations/wiki/base")
    assert lake.sets() == []
    fill(lake, plan())
    assert (lake.space("wiki", "base", 0).rows(range(2500)) == values).all()


def test_a_removal_killed_after_its_tombstone(lake, plan, fill):
    fill(lake, plan())
    write_attributes(lake.location, plan(), sealed=False, tombstone=True)
    assert lake.sets() == []
    assert gc(lake) > 2500 * 8 * 2 * 2
    assert lake.location.children(plan().path) == []
    fill(lake, plan())
    write_attributes(lake.location, plan(), sealed=False, tombstone=True)
    fill(lake, plan())
    assert verify(lake).findings == ()


def test_a_removal_that_stops_half_way_shows_no_set(lake, plan, fill, monkeypatch):
    fill(lake, plan())

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lake.location, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(lake, plan().path)
    assert lake.location.children(plan().path) != []
    assert lake.sets() == []
    assert verify(lake).findings == ()
    gc(lake)
    assert lake.location.children(plan().path) == []


def test_damaged_attributes_are_refused(lake, plan, fill):
    fill(lake, plan())
    key = f"{plan().path}/zarr.json"
    raw = lake.location.read(key)
    lake.location.put(key, [raw.replace(b'"n_rows": 2500', b'"n_rows": 2501')])
    with pytest.raises(LakeCorrupt, match="digest does not match"):
        lake.sets()
    lake.location.put(key, [raw[:-20]])
    with pytest.raises(LakeCorrupt, match="no Zarr metadata"):
        lake.sets()


def test_a_set_is_begun_though_its_group_is_removed_meanwhile(tmp_path, plan, monkeypatch):
    lake, asked, removals = open_lake(tmp_path / "lake", "a"), plan(), []
    publish = type(lake.location).publish

    def after_a_removal(self, path, files):
        if path == asked.path and len(removals) < 2:
            removals.append(path)
            shutil.rmtree(self.local_path(path.rpartition("/")[0]))
        return publish(self, path, files)

    monkeypatch.setattr(type(lake.location), "publish", after_a_removal)
    with SetWriter(lake.location, asked):
        assert lake.location.exists(f"{asked.path.rpartition('/')[0]}/zarr.json")
    assert len(removals) == 2
