"""Progress: what the events say, how often they come, and what each renderer makes of them."""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from layerlake.engine.progress import (
    Bar,
    JsonLines,
    Progress,
    ProgressEvent,
    default_renderer,
    format_bytes,
    silent,
)


def ticking(*moments: float) -> Callable[[], float]:
    """Return a clock that shows the given moments, one per look, and then stands still."""
    looks: Iterator[float] = iter(moments)
    last = moments[-1]
    return lambda: next(looks, last)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def event(**fields: object) -> ProgressEvent:
    """Return an event with some fields of interest."""
    usual = {
        "task": "extract",
        "state": "running",
        "done": 10,
        "total": 40,
        "resumed": 0,
        "unit": "rows",
        "bytes": 0,
        "seconds": 2.0,
    }
    return ProgressEvent(**{**usual, **fields})  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 10**12)), max_size=30))
def test_without_an_interval_every_advance_is_reported(steps: list[tuple[int, int]]) -> None:
    events: list[ProgressEvent] = []
    with Progress("t", 100, renderer=events.append, interval_seconds=0.0) as progress:
        for done, n_bytes in steps:
            progress.advance(done, n_bytes)
    assert [e.state for e in events] == ["started", *["running"] * len(steps), "finished"]
    assert events[-1].done == sum(done for done, _ in steps)
    assert events[-1].bytes == sum(n_bytes for _, n_bytes in steps)
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(events))


def test_events_in_between_are_rare_but_the_ends_are_not() -> None:
    events: list[ProgressEvent] = []
    now = 0.0
    progress = Progress("t", renderer=events.append, interval_seconds=1.0, clock=lambda: now)
    with progress:
        for step in range(100):
            now = step / 20  # 0 to 4.95 seconds
            progress.advance(1)
    assert [e.state for e in events] == ["started", *["running"] * 4, "finished"]
    assert [e.seconds for e in events] == [0.0, 1.0, 2.0, 3.0, 4.0, 4.95]
    assert events[-1].done == 100


def test_an_exception_is_reported_and_passes_through() -> None:
    events: list[ProgressEvent] = []

    def fail() -> None:
        with Progress("t", renderer=events.append):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [e.state for e in events] == ["started", "failed"]
    assert events[-1].over
    assert not events[0].over


def test_the_clock_starts_on_entering() -> None:
    events: list[ProgressEvent] = []
    with Progress("t", renderer=events.append, clock=ticking(0.0, 50.0, 50.0, 53.0)):
        pass
    assert [e.seconds for e in events] == [0.0, 3.0]


def test_what_an_earlier_run_did_counts_as_done_but_not_towards_the_rate() -> None:
    events: list[ProgressEvent] = []
    clock = ticking(0.0, 0.0, 0.0, 2.0)
    with Progress("t", 100, renderer=events.append, resumed=60, clock=clock) as progress:
        progress.advance(20)
    assert (events[0].done, events[0].rate) == (60, 0.0)
    assert (events[-1].done, events[-1].rate) == (80, 10.0)


def test_threads_may_share_one() -> None:
    inside = threading.Lock()
    events: list[ProgressEvent] = []

    def one_at_a_time(event: ProgressEvent) -> None:
        assert inside.acquire(blocking=False)
        events.append(event)
        inside.release()

    with Progress("t", renderer=one_at_a_time, interval_seconds=0.0) as progress:
        threads = [
            threading.Thread(target=lambda: [progress.advance(1, 2) for _ in range(500)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(events), events[-1].done, events[-1].bytes) == (2002, 2000, 4000)


def test_json_lines_hold_every_field() -> None:
    stream = io.StringIO()
    with Progress("lire café", 3, renderer=JsonLines(stream), clock=lambda: 7.0) as progress:
        progress.advance(3, 12)
    started, finished = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert started["state"] == "started"
    assert finished == {
        "task": "lire café",
        "state": "finished",
        "done": 3,
        "total": 3,
        "resumed": 0,
        "unit": "rows",
        "bytes": 12,
        "seconds": 0.0,
    }


def test_the_bar_shows_figures_and_leaves_no_thread_behind() -> None:
    stream = io.StringIO()
    before = threading.active_count()
    console = Console(file=stream, force_terminal=True, width=120)
    clock = ticking(0.0, 0.0, 0.0, 2.0)
    with Progress("read [b]", 4000, renderer=Bar(console), clock=clock) as progress:
        progress.advance(3000, 18_900_000)
    shown = stream.getvalue()
    assert "read [b]" in shown  # not taken for markup
    assert "3,000/4,000 rows, 1,500 rows/s, 18.9 MB" in shown
    assert "75%" in shown
    assert threading.active_count() == before


def test_one_bar_renderer_serves_tasks_inside_and_after_each_other() -> None:
    stream = io.StringIO()
    bar = Bar(Console(file=stream, force_terminal=True, width=120))
    before = threading.active_count()
    with Progress("outer", 2, renderer=bar):
        with Progress("inner", renderer=bar, unit="examples") as inner:
            inner.advance(5)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    bar(event(task="later", state="started"))
    bar(event(task="later", state="failed"))
    assert threading.active_count() == before
    shown = stream.getvalue()
    assert "5 examples" in shown
    assert "10/40 rows, 5.0 rows/s, stopped" in shown


def test_only_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert default_renderer(io.StringIO()) is silent
    assert isinstance(default_renderer(Terminal()), Bar)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (18_900_000, "18.9 MB"),
        (4_200_000_000_000, "4.2 TB"),
        (9_100_000_000_000_000, "9100.0 TB"),
    ],
)
def test_sizes_for_people(n_bytes: int, text: str) -> None:
    assert format_bytes(n_bytes) == text
