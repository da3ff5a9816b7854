"""A run that was killed, and run again, ends as one that was not; damage is said."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from layerlake.analyses.finetuning.finetune import finetune
from layerlake.analyses.finetuning.training import loop as run_loop
from layerlake.analyses.finetuning.training.saved_state import STATE_FILE
from layerlake.analyses.runs.tensor_files import read_tensors, write_tensors
from layerlake.store.errors import InvalidInput, StorageFailed

Call = Callable[..., dict[str, Any]]

KINDS = {
    "mnli": {"keep": "best", "save_steps": 4, "every": True},
    "squad": {"keep": "last", "save_steps": 3, "every": False},
    "dep": {"keep": "best", "save_steps": 4, "every": True},
    "classify": {"keep": "last", "save_steps": 4, "every": False},
    "tag": {"keep": "best", "save_steps": 4, "every": False},
}


@pytest.fixture(scope="module")
def survivors(
    tmp_path_factory: pytest.TempPathFactory, calls_in: Callable[[Path], Call]
) -> dict[str, Any]:
    """What `killed_runs.py` found, by kind of task."""
    place = tmp_path_factory.mktemp("killed")
    calls = {kind: calls_in(place)(kind, **options) for kind, options in KINDS.items()}
    for call in calls.values():
        del call["out"]
    (place / "calls.json").write_text(json.dumps(calls))
    program = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", program, place / "calls.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", KINDS)
class TestKilled:
    def test_weights_scores_and_history_are_those_of_a_run_that_was_not(
        self, kind: str, survivors: dict[str, Any]
    ) -> None:
        found = survivors[kind]
        assert found["killed"] == found["whole"]
        assert len(found["whole"]["history"]) == 2

    def test_nor_does_a_kill_from_outside_at_any_moment_change_them(
        self, kind: str, survivors: dict[str, Any]
    ) -> None:
        found = survivors[kind]
        assert found["n_outside"] >= 1
        assert found["outside"] == found["whole"]

    def test_it_went_on_from_what_was_saved_last(
        self, kind: str, survivors: dict[str, Any]
    ) -> None:
        found = survivors[kind]
        n, save = found["whole"]["n_steps"], KINDS[kind]["save_steps"]
        states = found["states"]
        assert states["between saves"] == save
        assert save <= states["after evaluating"] < n // 2
        assert states["when two files are moved"] == n
        if KINDS[kind]["every"]:
            assert states["after the first update"] is states["in the first file"] is None
            # Later files are those of the first epoch's end, or of saves before it.
            assert save <= states["in a later file"] <= states["after evaluating"]
            assert states["in the second epoch"] >= n // 2
            assert states["at the very end"] == n

    def test_in_the_end_nothing_is_left_over(self, kind: str, survivors: dict[str, Any]) -> None:
        found = survivors[kind]
        assert found["left"] == [
            *("config.json", "config.json", "layerlake.json", "log.jsonl"),
            *("model.safetensors", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        ]
        assert found["report"]["n_computed"] == 0
        assert found["report"]["scores"] == found["whole"]["scores"]

    def test_the_log_says_where_it_went_on(self, kind: str, survivors: dict[str, Any]) -> None:
        found = survivors[kind]
        names = [event["event"] for event in found["events"]]
        assert names[0] == "started"
        assert {"resumed", "saved", "trained", "evaluated"} <= set(names)
        resumed = [event["step"] for event in found["events"] if event["event"] == "resumed"]
        assert resumed == sorted(resumed)
        assert resumed[-1] == found["whole"]["n_steps"]


class Interrupted(Exception):
    """What a test stops a run with."""


@pytest.fixture
def begun(small_call: Call, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A call of a run that was stopped in its second epoch."""
    call = small_call("classify", keep="best")
    with monkeypatch.context() as stopping:
        on_update = run_loop.Loop._on_update

        def stopped(self: Any, update: Any) -> None:
            on_update(self, update)
            if update.step == 9:
                raise Interrupted

        stopping.setattr(run_loop.Loop, "_on_update", stopped)
        with pytest.raises(Interrupted):
            finetune(**call)
    return call


class TestDamage:
    @pytest.mark.parametrize("name", [STATE_FILE, "best-1.safetensors"])
    @pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
    def test_what_was_saved_is_looked_at(self, name: str, how: str, begun: dict[str, Any]) -> None:
        file = Path(begun["out"]) / "training" / name
        content = bytearray(file.read_bytes())
        if how == "flipped":
            content[-9] ^= 1
        file.write_bytes(content[: {"cut": -20, "flipped": None, "empty": 0}[how]])
        with pytest.raises(InvalidInput, match=rf"{name} is damaged; remove .*training, and the"):
            # Only if the second epoch is no better, which random labels see to.
            finetune(**begun)

    def test_the_best_epoch_is_missed(self, begun: dict[str, Any]) -> None:
        (Path(begun["out"]) / "training" / "best-1.safetensors").unlink()
        with pytest.raises(InvalidInput, match=r"best-1\.safetensors is missing; remove"):
            finetune(**begun)

    def test_a_state_of_other_tensors_is_damaged_too(self, begun: dict[str, Any]) -> None:
        file = Path(begun["out"]) / "training" / STATE_FILE
        about, tensors = read_tensors(file, "")
        del about["checksums"]
        name = next(name for name in tensors if name.startswith("weight/"))
        write_tensors(file, {k: v for k, v in tensors.items() if k != name}, about)
        with pytest.raises(InvalidInput, match="is damaged; remove"):
            finetune(**begun)
        write_tensors(file, tensors, about | {"identity": "another"})
        with pytest.raises(InvalidInput, match="is the state of another run; remove"):
            finetune(**begun)

    @pytest.mark.parametrize("content", ["{", "[]"])
    def test_and_so_is_what_says_whose_the_folder_is(
        self, content: str, begun: dict[str, Any]
    ) -> None:
        (Path(begun["out"]) / "training" / "run.json").write_text(content)
        with pytest.raises(InvalidInput, match=r"run\.json .*; remove .*, and the run begins anew"):
            finetune(**begun)

    def test_removing_it_helps(self, begun: dict[str, Any]) -> None:
        shutil.rmtree(Path(begun["out"]) / "training")
        assert finetune(**begun).n_computed == 12


def test_a_disk_that_fills_up_during_a_save_leaves_the_state_before(
    begun: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(begun["out"]) / "training"
    before = (folder / STATE_FILE).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(StorageFailed, match=r"cannot write .*; free some space and run the"):
            finetune(**begun)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (folder / STATE_FILE).read_bytes() == before
    assert not list(folder.rglob("*.part"))
    report = finetune(**begun)
    assert (report.n_computed, report.epoch) == (6, 1)


def test_a_disk_that_turns_read_only_during_a_save_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(file))

    monkeypatch.setattr(Path, "chmod", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    said = r"^cannot write .*state\.safetensors: Read-only file system; "
    with pytest.raises(StorageFailed, match=said):
        write_tensors(tmp_path / "state.safetensors", {"a": torch.zeros(2)}, {})


def test_half_written_files_of_killed_processes_are_cleared_away(begun: dict[str, Any]) -> None:
    folder = Path(begun["out"])
    (folder / "training" / f"{STATE_FILE}.part").write_bytes(b"x" * 1000)
    (folder / "training" / "checkpoint").mkdir()
    (folder / "training" / "checkpoint" / "model.safetensors.part").write_bytes(b"x")
    finetune(**begun)
    assert not list(folder.rglob("*.part"))
