"""The log of any work: whole lines of JSON, whatever a killed process left."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from layerlake.analyses.runs.event_log import EventLog
from layerlake.store.errors import StorageFailed


def test_events_are_lines_of_json_with_time_and_run(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    EventLog(file, "abc").add("probed", layer=3, scores={"uuas": 0.5})
    EventLog(file, "def").add("finished")
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert list(first) == ["event", "time", "run", "layer", "scores"]
    then = time.strptime(first.pop("time"), "%Y-%m-%dT%H:%M:%SZ")
    assert abs(time.mktime(time.gmtime()) - time.mktime(then)) < 60
    assert first == {"event": "probed", "run": "abc", "layer": 3, "scores": {"uuas": 0.5}}
    assert (second["event"], second["run"]) == ("finished", "def")


def test_a_log_nowhere_takes_events(tmp_path: Path) -> None:
    EventLog(None, "abc").add("probed", layer=3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("there", "then"),
    [
        (b'{"a": 1}', b'{"a": 1}\n'),
        (b'x\n{"event": "sav', b"x\n"),
        (b'x\n{"ev', b"x\n"),
        (b"x\n", b"x\n"),
        (b"", b""),
    ],
)
def test_of_what_lies_there_half_a_line_of_ours_alone_is_cut_off(
    there: bytes, then: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(there)
    EventLog(file, "run").add("saved", step=1)
    assert file.read_bytes().startswith(then + b'{"event": "saved"')


def test_one_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    log = EventLog(file, "run")
    file.mkdir()
    said = r"^cannot write .*log\.jsonl: Is a directory; free some space and run the same line agai"
    with pytest.raises(StorageFailed, match=said):
        log.add("saved")
    with pytest.raises(StorageFailed, match=said):
        EventLog(file, "run")
