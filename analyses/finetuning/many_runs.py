"""Several runs of fine-tuning: one after another, in processes, or on a Dask cluster.

A worker has one run at a time, with its share of the cores. What is done is not done again. A run
whose worker died goes on from its saved state, on whichever worker is next.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from layerlake.analyses.finetuning.finetune import finetune
from layerlake.analyses.finetuning.recipes import make_recipe
from layerlake.analyses.finetuning.report import FinetuneReport
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.engine.models.checkpoints import require_transformers
from layerlake.engine.progress import Progress, Stage, automatic, check_progress
from layerlake.engine.workers.local_workers import MOST_DEATHS
from layerlake.engine.workers.many_jobs import JobNotSent, finished
from layerlake.engine.workers.one_job import JobFailure, JobResources, Stopped
from layerlake.engine.workers.scheduler_names import scheduler_named
from layerlake.store.errors import InvalidInput, RunsFailed, is_a

_NEEDED: Final = ("task", "model", "train", "out")
_NOT_OF_A_RUN: Final = ("progress", "recipe")


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
    place: str
    """Which of several runs it is, as labels of its progress begin."""
    arguments: dict[str, Any] = field(repr=False)

    @property
    def folder(self) -> str:
        return str(os.fspath(self.arguments["out"]))


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
    check_progress(progress)
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
    ended = finished(
        jobs,
        _run,
        scheduler=scheduler,
        workers=workers,
        resources=_resources,
        on_death=_died,
        progress=progress,
        label="fine-tuning",
        unit="runs",
    )
    require_transformers()
    outcomes: dict[int, FinetuneReport | RunFailure] = {}
    try:
        with closing(ended):
            for job, outcome in ended:
                if isinstance(outcome, JobFailure):
                    outcomes[job.number] = RunFailure(job.folder, outcome.sentence, outcome.trace)
                    continue
                outcomes[job.number] = outcome
                if on_report is not None:
                    on_report(outcome)
    except JobNotSent as unsent:
        raise InvalidInput(
            f"run {unsent.number + 1} holds what cannot be sent to another process; give files, or "
            "leave the scheduler out"
        ) from unsent
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
        folder = Path(run["out"]).expanduser().resolve()
        if folder in taken:
            raise InvalidInput(
                f"runs {taken[folder] + 1} and {number + 1} would both be written to "
                f"{run['out']}; give each a folder of its own"
            )
        taken[folder] = number
        place = f"run {number + 1} of {len(runs)}: " if len(runs) > 1 else ""
        jobs.append(_Job(number, place, dict(run)))
    return jobs


def _run(job: _Job, progress: Progress, stopped: Stopped) -> FinetuneReport:
    """Do one run; on a worker, progress ends it when nobody waits for it any more."""
    return finetune(**job.arguments, progress=_labelled(progress, job.place))


def _resources(job: _Job) -> JobResources:
    device = str(job.arguments.get("device", "auto"))
    if device.startswith("cuda:"):
        return JobResources("named", torch=True)
    if device.startswith("cuda"):
        return JobResources("one", torch=True)
    return JobResources("auto" if device == "auto" else "none", torch=True)


def _died(job: _Job) -> JobFailure:
    """Say that workers died over a run."""
    return JobFailure(
        f"{MOST_DEATHS} workers died over it, as happens where memory runs out; lower "
        "--token-budget or --workers, and run the same line again, it resumes"
    )


def _labelled(progress: Progress, place: str) -> Progress:
    """Return progress whose labels begin with which run it is."""

    def labelled(label: str, total: int | None, unit: str) -> AbstractContextManager[Stage]:
        return progress(place + label, total, unit)

    return labelled
