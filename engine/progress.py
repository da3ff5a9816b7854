"""Progress of long work, as one stream of events: to a terminal, a notebook, JSON, or a function.

What works long takes a `Progress` and knows nothing of where its events go:

    with progress("extract", n_rows, "rows") as stage:
        for window in windows:
            ...
            stage.advance(len(window))
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TextIO

from layerlake.store.errors import InvalidInput


class Stage(Protocol):
    """One piece of work under way."""

    def advance(self, n: int) -> None:
        """Say that `n` more units are done; any thread may say so."""

    def note(self, text: str) -> None:
        """Say how it goes, such as a loss, until the next such text."""


class Progress(Protocol):
    """Opens a stage: `with progress(label, total, unit) as stage`."""

    def __call__(self, label: str, total: int | None, unit: str) -> AbstractContextManager[Stage]:
        """Begin work of `total` units (None if it is not known) under a label."""


def check_progress(progress: Any) -> None:
    """Refuse what opens no stage.

    Raises
    ------
    InvalidInput
        `progress` cannot be called.
    """
    if not callable(progress):
        raise InvalidInput(
            f"progress is {progress!r}; give silent, to_terminal, or what to_function returns"
        )


@dataclass(frozen=True)
class ProgressEvent:
    """How far a stage is."""

    label: str
    done: int
    """Units done since the stage began."""
    total: int | None
    """Units in all, or None where that is not known beforehand."""
    unit: str
    """What is counted: `rows`, `pieces`, `bytes`."""
    seconds: float
    """Time since the stage began."""
    state: str
    """`started`, `running`, then `finished`, or `failed` where an exception ended the stage."""
    note: str = ""
    """How it goes, such as a loss, where the work says so."""


class _Nowhere:
    def advance(self, n: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Reporter:
    """Counts, and passes on events that are at least `min_seconds` apart."""

    def __init__(
        self,
        report: Callable[[ProgressEvent], object],
        label: str,
        total: int | None,
        unit: str,
        min_seconds: float,
    ) -> None:
        self._report = report
        self._label, self._total, self._unit = label, total, unit
        self._min_seconds = min_seconds
        self._done = 0
        self._note = ""
        self._began = self._reported = time.monotonic()
        self._lock = threading.Lock()

    def say(self, state: str) -> None:
        """Pass on one event, whatever time has gone by."""
        with self._lock:
            self._say(state)

    def advance(self, n: int) -> None:
        with self._lock:
            self._done += n
            if time.monotonic() - self._reported >= self._min_seconds:
                self._say("running")

    def note(self, text: str) -> None:
        with self._lock:
            self._note = text

    def _say(self, state: str) -> None:
        self._reported = time.monotonic()
        seconds = round(self._reported - self._began, 3)
        self._report(
            ProgressEvent(
                self._label, self._done, self._total, self._unit, seconds, state, self._note
            )
        )


@contextmanager
def silent(label: str, total: int | None, unit: str) -> Iterator[Stage]:
    """Report nothing."""
    yield _Nowhere()


def in_notebook() -> bool:
    """Say whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def automatic(label: str, total: int | None, unit: str) -> AbstractContextManager[Stage]:
    """Show a bar in a notebook, for what takes over two seconds; report nothing elsewhere.

    What public functions do where nobody says. A script that wants a bar asks for `to_terminal`, a
    notebook that wants none for `silent`.
    """
    if in_notebook():
        from layerlake.engine.notebook_progress import to_notebook

        return to_notebook(label, total, unit)
    return silent(label, total, unit)


def to_function(report: Callable[[ProgressEvent], object], *, min_seconds: float = 0.0) -> Progress:
    """Report events by calling a function, never by two threads at once.

    Parameters
    ----------
    report
        Takes a `ProgressEvent`. An exception that it raises ends the work.
    min_seconds
        Shortest time between two events of one stage; the first and the last always arrive.

    Returns
    -------
    Progress
        What long work takes.
    """

    @contextmanager
    def progress(label: str, total: int | None, unit: str) -> Iterator[Stage]:
        reporter = _Reporter(report, label, total, unit, min_seconds)
        reporter.say("started")
        try:
            yield reporter
        except BaseException:
            reporter.say("failed")
            raise
        reporter.say("finished")

    return progress


def to_json_lines(stream: TextIO | None = None, *, min_seconds: float = 1.0) -> Progress:
    """Report events as JSON objects, one a line, with the fields of `ProgressEvent`.

    Parameters
    ----------
    stream
        Where to; stderr at the time of the event if not given.
    min_seconds
        Shortest time between two lines of one stage; the first and the last always arrive.

    Returns
    -------
    Progress
        What long work takes.
    """

    def report(event: ProgressEvent) -> None:
        print(json.dumps(asdict(event)), file=stream or sys.stderr, flush=True)

    return to_function(report, min_seconds=min_seconds)


class _Bar:
    def __init__(self, bars: Any, task: Any) -> None:
        self._bars = bars
        self._task = task

    def advance(self, n: int) -> None:
        self._bars.advance(self._task, n)

    def note(self, text: str) -> None:
        self._bars.update(self._task, note=text)


@contextmanager
def to_terminal(label: str, total: int | None, unit: str) -> Iterator[Stage]:
    """Show a bar on stderr while the work lasts; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield _Nowhere()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    # What it showed goes when the work is done: results are for stdout to say.
    with Bars(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        yield _Bar(bars, bars.add_task(label, total=total, note=""))
