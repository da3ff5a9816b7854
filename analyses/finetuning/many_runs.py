"""Several runs of fine-tuning: one after another, in processes, or on a Dask cluster.

A worker has one run at a time, with its share of the cores. What is done is not done again. A run
whose worker died goes on from its saved state, on whichever worker is next.
"""

from __future__ import annotations

import inspect
import os
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from layerlake.analyses.finetuning.finetune import finetune
from layerlake.analyses.finetuning.recipes import make_recipe
from layerlake.analyses.finetuning.report import FinetuneReport
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.engine.models.checkpoints import require_transformers
from layerlake.engine.progress import Progress, Stage, automatic, silent
from layerlake.engine.workers.local_workers import MOST_DEATHS, finished_parts
from layerlake.engine.workers.scheduler_names import Scheduler, scheduler_named, workers_here
from layerlake.engine.workers.worker_process import packed
from layerlake.store.errors import InvalidInput, LayerLakeError, RunsFailed, is_a

Stopped = Callable[[], bool]
"""Says whether nobody waits for a run any more."""

_NEEDED: Final = ("task", "model", "train", "out")
_NOT_OF_A_RUN: Final = ("progress", "recipe")
_ONE_AT_A_TIME: Final = threading.Lock()
"""Of a process: what torch draws, and its number of threads, are the process's."""


@dataclass(frozen=True)
class RunFailure:
    """What became of a run that is not done."""

    folder: str
    sentence: str
    """What went wrong."""
    trace: str = ""
    """Where, of an error that nobody expects."""


@dataclass(frozen=True)
class _Job:
    number: int
    arguments: dict[str, Any] = field(repr=False)

    @property
    def folder(self) -> str:
        return str(os.fspath(self.arguments["out"]))


_Outcome = FinetuneReport | RunFailure


class _Abandoned(BaseException):
    """Nobody waits for the run, which has not failed; its saved state is there."""


def finetune_many(
    runs: Sequence[Mapping[str, Any]],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    on_report: Callable[[FinetuneReport], None] | None = None,
    progress: Progress = automatic,
) -> list[FinetuneReport]:
    """Fine-tune several times; what is done already is skipped.

    A run that fails does not stop the others.

    Parameters
    ----------
    runs
        Arguments of `finetune` by name, a mapping a run; see `analyses.runs.grid`.
    scheduler
        None (one after another, in this process), `processes`, or the address of a Dask scheduler,
        `tcp://HOST:PORT`. A worker has one run at a time: of processes each has an equal share of
        the cores, and a GPU of its own where there are any; a worker of a cluster uses as many
        threads as it was started with, and takes runs with `device` cuda if it was started with
        `--resources GPU=1`. Folders and data must be where all workers find them.
    workers
        Runs at a time; by default one a GPU, or one a core, or one a worker of the cluster.
    on_report
        Called in this thread with what was done in each run, as it is done.
    progress
        Told of the updates of each run, or, where they are elsewhere, of the runs.

    Returns
    -------
    What was done, in the order of the runs.

    Raises
    ------
    InvalidInput
        A run has arguments that `finetune` lacks, two have one folder, or no such scheduler;
        nothing is begun.
    RunsFailed
        Some runs failed; `failures` says which and why, `reports` holds the others.
    WorkersFailed
        There is no cluster, or it has no workers.
    """
    if not callable(progress):
        raise InvalidInput(
            f"progress is {progress!r}; give silent, to_terminal, or what to_function returns"
        )
    jobs = _checked(runs)
    chosen = scheduler_named(scheduler)
    if chosen.kind == "threads":
        raise InvalidInput(
            "threads would share what torch draws at random; choose the scheduler processes"
        )
    if chosen.kind != "loop" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise InvalidInput(
            f"the scheduler {scheduler} is for one process, and several were launched; leave it "
            "out, and they train every run together"
        )
    if workers is not None:
        workers_here(workers)
        if chosen.kind == "loop" and workers > 1:
            raise InvalidInput(
                f"{workers} workers need a scheduler; give processes, or tcp://HOST:PORT"
            )
    require_transformers()
    outcomes: dict[int, _Outcome] = {}
    with closing(_finished(jobs, chosen, workers, progress)) as finished:
        for number, outcome in finished:
            outcomes[number] = outcome
            if on_report is not None and isinstance(outcome, FinetuneReport):
                on_report(outcome)
    ordered = [outcomes[number] for number in range(len(jobs))]
    reports = [outcome for outcome in ordered if isinstance(outcome, FinetuneReport)]
    failures = [outcome for outcome in ordered if isinstance(outcome, RunFailure)]
    if failures:
        said = "; ".join(f"{failure.folder}: {failure.sentence}" for failure in failures)
        error = RunsFailed(f"{len(failures)} of {len(jobs)} runs failed: {said}")
        error.reports, error.failures = tuple(reports), tuple(failures)
        raise error
    return reports


def _checked(runs: Sequence[Mapping[str, Any]]) -> list[_Job]:
    """Return runs as jobs; refuse the first that cannot be one."""
    if not is_a(runs, list, tuple) or not all(is_a(run, Mapping) for run in runs):
        raise InvalidInput("runs are no list of mappings; give arguments of finetune, by name")
    if not runs:
        raise InvalidInput("there are no runs; give one at least")
    known = [name for name in inspect.signature(finetune).parameters if name not in _NOT_OF_A_RUN]
    jobs = []
    taken: dict[Path, int] = {}
    for number, run in enumerate(runs):
        what = f"run {number + 1}"
        for name in _NEEDED:
            if run.get(name) is None:
                raise InvalidInput(f"{what} has no {name}; give one")
        try:
            task = task_named(run["task"])
            rest = {name: value for name, value in run.items() if name not in known}
            make_recipe(task.recipe_class, task.name, rest)
        except InvalidInput as error:
            raise InvalidInput(f"{what}: {error}") from error
        if not is_a(run["out"], str, os.PathLike):
            raise InvalidInput(f"{what} has no folder, but out is {run['out']!r}; name one")
        place = Path(run["out"]).expanduser().resolve()
        if place in taken:
            raise InvalidInput(
                f"runs {taken[place] + 1} and {number + 1} would both be written to "
                f"{run['out']}; give each a folder of its own"
            )
        taken[place] = number
        jobs.append(_Job(number, dict(run)))
    return jobs


def _finished(
    jobs: list[_Job], scheduler: Scheduler, workers: int | None, progress: Progress
) -> Generator[tuple[int, _Outcome], None, None]:
    """Yield the outcome of every run, as it is done."""
    if scheduler.kind == "loop":
        for job in jobs:
            place = f"run {job.number + 1} of {len(jobs)}: " if len(jobs) > 1 else ""
            yield job.number, _outcome(job, _labelled(progress, place))
        return
    for job in jobs:
        try:
            packed(job, "a run")
        except InvalidInput as error:
            raise InvalidInput(
                f"run {job.number + 1} holds what cannot be sent to another process; give files, "
                "or leave the scheduler out"
            ) from error
    elsewhere = _on_cluster if scheduler.kind == "cluster" else _in_processes
    with (
        progress("fine-tuning", len(jobs), "runs") as stage,
        closing(elsewhere(jobs, scheduler, workers)) as finished,
    ):
        for number, outcome in finished:
            stage.advance(1)
            yield number, outcome


def _in_processes(
    jobs: list[_Job], scheduler: Scheduler, workers: int | None
) -> Generator[tuple[int, _Outcome], None, None]:
    gpus = _gpus_of(jobs)
    count = workers_here(workers)
    if gpus and workers is None:
        count = len(gpus)
    count = min(count, len(jobs))
    threads = max(workers_here(None) // count, 1)
    own = [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(count) if gpus]
    return finished_parts(
        jobs,
        partial(_in_process, threads=threads),
        count,
        kind="processes",
        ahead=len(jobs),
        on_death=_died,
        environments=own,
    )


def _gpus_of(jobs: list[_Job]) -> list[str]:
    """Return the names of the GPUs among which processes are divided; none where a run chooses."""
    asked = {str(job.arguments.get("device", "auto")) for job in jobs}
    if not asked & {"auto", "cuda"} or any(device.startswith("cuda:") for device in asked):
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return [name for name in visible.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def _on_cluster(
    jobs: list[_Job], scheduler: Scheduler, workers: int | None
) -> Generator[tuple[int, _Outcome], None, None]:
    from layerlake.engine.workers.cluster_jobs import finished_jobs

    return finished_jobs(
        scheduler.address,
        jobs,
        _on_worker,
        most=workers,
        resources=_resources_of,
        on_death=_died,
    )


def _resources_of(job: _Job) -> dict[str, float]:
    """Return what a run takes of a worker's resources."""
    on_gpu = str(job.arguments.get("device", "auto")).startswith("cuda")
    return {"GPU": 1} if on_gpu else {}


def _died(job: _Job) -> RunFailure:
    """Say that workers died over a run."""
    return RunFailure(
        job.folder,
        f"{MOST_DEATHS} workers died over it, as happens where memory runs out; lower "
        "--token-budget or --workers, and run the same line again, it resumes",
    )


def _in_process(job: _Job, threads: int) -> _Outcome:
    """Run in a process of this machine, which is left alone when its parent dies."""
    parent = os.getppid()
    return _outcome(job, _until(lambda: os.getppid() != parent), threads)


def _on_worker(job: _Job, threads: int, stopped: Stopped) -> _Outcome:
    """Run on a worker of a cluster."""
    return _outcome(job, _until(stopped), threads)


def _outcome(job: _Job, progress: Progress, threads: int | None = None) -> _Outcome:
    """Run, and return the report, or what went wrong."""
    try:
        with _ONE_AT_A_TIME, _torch_threads(threads):
            return finetune(**job.arguments, progress=progress)
    except _Abandoned:
        return RunFailure(job.folder, "nobody waits for it any more")
    except LayerLakeError as error:
        return RunFailure(job.folder, str(error))
    except Exception as error:  # noqa: BLE001 - raised, with all others, when every run has ended
        said = str(error).split("\n")[0]
        return RunFailure(
            job.folder,
            f"{type(error).__name__}: {said}",
            "".join(traceback.format_exception(error)),
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


def _labelled(progress: Progress, place: str) -> Progress:
    """Return progress whose labels begin with which run it is."""

    def labelled(label: str, total: int | None, unit: str) -> AbstractContextManager[Stage]:
        return progress(place + label, total, unit)

    return labelled


class _Ending:
    """A stage that ends the run when nobody waits for it."""

    def __init__(self, stopped: Stopped) -> None:
        self._stopped = stopped

    def advance(self, n: int) -> None:
        if self._stopped():
            raise _Abandoned

    def note(self, text: str) -> None:
        pass


def _until(stopped: Stopped) -> Progress:
    """Return progress that shows nothing, and ends a run that nobody waits for."""

    @contextmanager
    def progress(label: str, total: int | None, unit: str) -> Iterator[Stage]:
        with silent(label, total, unit):
            yield _Ending(stopped)

    return progress
