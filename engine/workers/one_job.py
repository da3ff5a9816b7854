"""One long job on the worker that it was given to, and what became of it."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

from layerlake.engine.progress import Progress, Stage, silent
from layerlake.engine.workers.worker_process import packed
from layerlake.store.errors import InvalidInput, LayerLakeError

J = TypeVar("J")
R = TypeVar("R")

Stopped: TypeAlias = Callable[[], bool]
"""Says whether nobody waits for a job any more, which is then to end."""
Work: TypeAlias = Callable[[J, Progress, Stopped], R]
"""Does a job; pickled for other processes."""

_ONE_AT_A_TIME: Final = threading.Lock()
"""Of a process: what torch draws, and its number of threads, are the process's."""


@dataclass(frozen=True)
class JobResources:
    """What a job uses of the machine that it runs on."""

    gpu: Literal["none", "auto", "one", "named"] = "none"
    """`auto` is a GPU where there is one, `one` needs one, `named` is one that the job chooses."""
    torch: bool = False
    """Whether it computes with torch, whose number of threads is then set to the job's share."""


@dataclass(frozen=True)
class JobFailure:
    """Why a job has no result."""

    sentence: str
    """What went wrong."""
    trace: str = ""
    """Where, for an unexpected error."""


class _Abandoned(BaseException):
    """Nobody waits for the job, which has not failed; what it saved is there."""


def in_process(
    job: J, *, run: Work[J, R], resources: Callable[[J], JobResources], threads: int
) -> bytes:
    """Do a job in a process of this machine, which is left alone when its parent dies."""
    parent = os.getppid()
    return _sent(run, job, resources, threads, lambda: os.getppid() != parent)


def on_worker(
    job: J,
    threads: int,
    stopped: Stopped,
    *,
    run: Work[J, R],
    resources: Callable[[J], JobResources],
) -> bytes:
    """Do a job on a worker of a cluster."""
    return _sent(run, job, resources, threads, stopped)


def _sent(
    run: Work[J, R],
    job: J,
    resources: Callable[[J], JobResources],
    threads: int,
    stopped: Stopped,
) -> bytes:
    """Do a job, and return what became of it, pickled."""
    own = threads if resources(job).torch else None
    outcome = outcome_of(run, job, _until(stopped), stopped, own)
    try:
        return packed(outcome, "the result of a job")
    except InvalidInput:
        sentence = (
            "its result cannot be sent to another process; return plain values or names of files, "
            "or leave the scheduler out"
        )
        return packed(JobFailure(sentence), "a failure")


def outcome_of(
    run: Work[J, R], job: J, progress: Progress, stopped: Stopped, threads: int | None = None
) -> R | JobFailure:
    """Do a job, and return its result, or what went wrong."""
    try:
        with _ONE_AT_A_TIME, _torch_threads(threads):
            return run(job, progress, stopped)
    except _Abandoned:
        return JobFailure("nobody waits for it any more")
    except LayerLakeError as error:
        return JobFailure(str(error))
    except Exception as error:  # noqa: BLE001 - told by whoever reads the results
        said = str(error).split("\n")[0]
        return JobFailure(
            f"{type(error).__name__}: {said}", "".join(traceback.format_exception(error))
        )


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Give torch so many threads; None leaves it what it has."""
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Ending:
    """A stage that ends the job when nobody waits for it."""

    def __init__(self, stopped: Stopped) -> None:
        self._stopped = stopped

    def advance(self, n: int) -> None:
        if self._stopped():
            raise _Abandoned

    def note(self, text: str) -> None:
        pass


def _until(stopped: Stopped) -> Progress:
    """Return progress that shows nothing, and ends a job that nobody waits for."""

    @contextmanager
    def progress(label: str, total: int | None, unit: str) -> Iterator[Stage]:
        with silent(label, total, unit):
            yield _Ending(stopped)

    return progress
