"""Runs of fine-tuning that commit 9470c02 wrote: one is found done, one that was killed goes on.

`make_archives.py` made `runs.tar.xz`. Nothing is claimed of the weights that the resumed run ends
in: they depend on the machine. That a run is the same one covers the model's whole config, with the
defaults that the installed transformers gives it, so that another version of transformers may find
another run.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import layerlake as ll
from layerlake.cli.main import main

pytest.importorskip("torch")


@pytest.fixture
def runs(
    unpack: Callable[[str, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What is recorded of the runs, unpacked into the working directory."""
    unpack("runs", tmp_path)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = json.loads(Path("runs.json").read_text("utf-8"))
    then, now = found["versions"]["transformers"], importlib.metadata.version("transformers")
    if then != now:
        pytest.skip(f"the runs are of transformers {then}, whose configs may not be those of {now}")
    return found


def events_of(out: str) -> list[dict[str, Any]]:
    """Return the log of a run."""
    lines = Path(out, "log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def content_of(out: str) -> dict[str, bytes]:
    """Return every file of a run."""
    files = sorted(file for file in Path(out).rglob("*") if file.is_file())
    return {str(file): file.read_bytes() for file in files}


def test_a_run_that_is_done_does_nothing(runs: dict[str, Any]) -> None:
    before = content_of("tag-s0")
    lineage = json.loads(Path("tag-s0/layerlake.json").read_text("utf-8"))
    worked: list[Any] = []
    report = ll.finetune(**runs["run"], out="tag-s0", progress=ll.to_function(worked.append))
    updates = [event for event in worked if event.unit == "updates"]
    assert (report.n_computed, updates) == (0, [])
    assert content_of("tag-s0") == before
    assert report.n_steps == lineage["training"]["n_steps"] == 12
    assert report.scores == lineage["training"]["scores"]
    assert report.epoch == lineage["training"]["finished"]["epoch"] == 2
    assert report.seconds == lineage["training"]["finished"]["seconds"]
    assert report.weights_digest == lineage["weights_digest"]
    assert report.parent == lineage["parent"]
    assert (report.task, report.seed, report.n_examples) == ("tag", 0, 24)


def test_another_run_is_not_taken_for_it(runs: dict[str, Any]) -> None:
    before = content_of("tag-s0")
    for change in ({"seed": 1}, {"lr": 2e-2}, {"train": "shore.conllu"}):
        with pytest.raises(FileExistsError, match="tag-s0 holds another run"):
            ll.finetune(**runs["run"] | change, out="tag-s0")
    assert content_of("tag-s0") == before


def test_the_command_line_finds_it_done(
    runs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["finetune", "tag", "tiny", "--train", "tags.jsonl", "--dev", "shore=shore.conllu"]
    line += ["--label", "upos", "--epochs", "2", "--batch", "4", "--lr", "1e-2", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main([*line, "--out", "tag-s0", "--json"])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert json.loads(said.out)["n_computed"] == 0


def test_a_run_that_was_killed_goes_on_to_the_end(runs: dict[str, Any]) -> None:
    before = events_of("killed")
    saved = [event["step"] for event in before if event["event"] == "saved"][-1]
    assert 0 < saved <= runs["killed_at"] < 12
    worked: list[Any] = []
    report = ll.finetune(**runs["run"], out="killed", progress=ll.to_function(worked.append))
    assert report.n_computed == report.n_steps - saved
    (first, *_, last) = [event for event in worked if event.unit == "updates"]
    assert (first.total, last.done, last.state) == (12 - saved, 12 - saved, "finished")
    events = events_of("killed")
    assert events[: len(before)] == before
    assert (events[len(before)]["event"], events[len(before)]["step"]) == ("resumed", saved)
    assert [event["step"] for event in events if event["event"] == "evaluated"] == [6, 12]
    assert (events[-1]["event"], events[-1]["step"]) == ("finished", 12)
    assert {event["run"] for event in events} == {before[0]["run"]}
    lineage = json.loads(Path("killed/layerlake.json").read_text("utf-8"))["training"]
    assert [past["epoch"] for past in lineage["finished"]["history"]] == [1, 2]
    assert report.scores == lineage["scores"]
    assert all(0 <= score <= 1 for score in report.scores["shore"].values())
    assert math.isfinite(report.seconds)
    assert not Path("killed/training").exists()
    assert set(content_of("killed")) == {
        name.replace("tag-s0", "killed") for name in content_of("tag-s0")
    }
    again = ll.finetune(**runs["run"], out="killed", progress=ll.silent)
    assert (again.n_computed, again.scores) == (0, report.scores)
    scored = ll.evaluate("killed", {"shore": "shore.conllu"}, device="cpu", progress=ll.silent)
    assert scored.scores["shore"] == pytest.approx(report.scores["shore"])
