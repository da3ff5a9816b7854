"""Progress: what each variant reports, and that none of them changes the work."""

from __future__ import annotations

import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlake.engine.progress import (
    Progress,
    ProgressEvent,
    silent,
    to_function,
    to_json_lines,
    to_terminal,
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


@given(steps=st.lists(st.integers(min_value=0, max_value=1000), max_size=20))
def test_function_gets_every_step_in_order(steps: list[int]) -> None:
    events: list[ProgressEvent] = []
    with to_function(events.append)("extract", sum(steps), "rows") as stage:
        for step in steps:
            stage.advance(step)

    assert [event.state for event in events] == ["started", *["running"] * len(steps), "finished"]
    running = [sum(steps[: i + 1]) for i in range(len(steps))]
    assert [event.done for event in events] == [0, *running, sum(steps)]
    assert {(event.label, event.total, event.unit) for event in events} == {
        ("extract", sum(steps), "rows")
    }
    seconds = [event.seconds for event in events]
    assert seconds == sorted(seconds)


def test_steps_close_together_are_told_as_one() -> None:
    events: list[ProgressEvent] = []
    with to_function(events.append, min_seconds=3600)("extract", None, "rows") as stage:
        for _ in range(1000):
            stage.advance(3)
    assert [(event.state, event.done) for event in events] == [("started", 0), ("finished", 3000)]


def test_failure_is_told_and_passed_on() -> None:
    events: list[ProgressEvent] = []

    def work() -> None:
        with to_function(events.append)("verify", 10, "bytes") as stage:
            stage.advance(4)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        work()
    assert (events[-1].state, events[-1].done) == ("failed", 4)


def test_error_of_the_function_ends_the_work() -> None:
    def refuse(event: ProgressEvent) -> None:
        if event.done > 5 and event.state == "running":
            raise RuntimeError("enough")

    def work() -> None:
        with to_function(refuse)("verify", 10, "bytes") as stage:
            stage.advance(3)
            stage.advance(3)

    with pytest.raises(RuntimeError, match="enough"):
        work()


def test_threads_lose_no_step() -> None:
    events: list[ProgressEvent] = []
    with (
        to_function(events.append)("extract", None, "rows") as stage,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(stage.advance, [1] * 2000))
    assert [event.done for event in events] == [*range(2001), 2000]


def test_json_lines_hold_every_field() -> None:
    stream = io.StringIO()
    with to_json_lines(stream, min_seconds=0)("tokenize", 7, "examples") as stage:
        stage.advance(7)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["state"], line["done"]) for line in lines] == [
        ("started", 0),
        ("running", 7),
        ("finished", 7),
    ]
    assert {(line["label"], line["total"], line["unit"]) for line in lines} == {
        ("tokenize", 7, "examples")
    }
    assert all(line.keys() == ProgressEvent.__dataclass_fields__.keys() for line in lines)


def test_json_lines_go_to_stderr_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    with to_json_lines()("tokenize", 7, "examples"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2


@pytest.mark.parametrize("progress", [silent, to_terminal], ids=["silent", "no-terminal"])
def test_nothing_is_written_without_a_terminal(
    progress: Progress, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("extract", 5, "rows") as stage:
        stage.advance(5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [5, None], ids=["known", "unknown"])
def test_terminal_shows_a_bar(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with to_terminal("extract [base]", total, "rows") as stage:
        stage.advance(3)
        stage.advance(2)
    shown = terminal.getvalue()
    assert "extract [base]" in shown
    assert "rows" in shown
    assert f"5/{total or '?'}" in shown
