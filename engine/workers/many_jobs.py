"""Many long jobs: one after another, in processes of this machine, or on a Dask cluster.

A worker has one job at a time, with its share of the cores and, where jobs use GPUs, a GPU of its
own. A job whose worker died is begun again on the next free one, so jobs that resume from what they
saved lose little. A job that fails stops no other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from layerlake.engine.progress import Progress, silent
from layerlake.engine.workers.blas_threads import SINGLE_THREADED
from layerlake.engine.workers.job_feeds import Feed, NoJob, next_job
from layerlake.engine.workers.local_workers import MOST_DEATHS, finished_parts
from layerlake.engine.workers.one_job import (
    JobFailure,
    JobResources,
    Work,
    in_process,
    on_worker,
    outcome_of,
)
from layerlake.engine.workers.scheduler_names import Scheduler, scheduler_named, workers_here
from layerlake.engine.workers.worker_process import packed, unpacked
from layerlake.store.errors import InvalidInput

J = TypeVar("J")
R = TypeVar("R")


class JobNotSent(InvalidInput):
    """A job cannot be pickled."""

    def __init__(self, number: int) -> None:
        """Take the number of the job, from 0."""
        super().__init__(
            f"job {number + 1} cannot be sent to another process; give it names of files in place "
            "of open ones, or leave the scheduler out"
        )
        self.number = number


def _no_resources(job: Any) -> JobResources:
    return JobResources()


def _died(job: Any) -> JobFailure:
    return JobFailure(
        f"{MOST_DEATHS} workers died over it, as happens where memory runs out; allow fewer workers"
    )


def finished(
    jobs: Sequence[J] | Feed[J],
    run: Work[J, R],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    resources: Callable[[J], JobResources] = _no_resources,
    on_death: Callable[[J], R | JobFailure] = _died,
    progress: Progress = silent,
    label: str = "jobs",
    unit: str = "jobs",
) -> Generator[tuple[J, R | JobFailure], None, None]:
    """Do jobs, and yield each with its result or its failure as it ends.

    When the generator is closed, processes are ended, and jobs on a cluster are told to end.

    Parameters
    ----------
    jobs
        A sequence, whose jobs begin in order; or a feed, a function that returns the next job,
        `NoJob.YET` or `NoJob.LEFT`. A feed is asked when a worker is free, in the thread that reads
        the results and after it has read one, so that a job may depend on earlier results.
    run
        `run(job, progress, stopped)` returns the result of a job. For other processes it is
        pickled, and so are jobs and results; there, advancing a stage of `progress` ends a job that
        nobody waits for, and a job without stages asks `stopped()`.
    scheduler
        None (one job after another, in this process), `processes`, or the address of a Dask
        scheduler, `tcp://HOST:PORT`.
    workers
        Jobs at a time; by default one a GPU where jobs use GPUs, or one a core, or one a worker of
        the cluster.
    resources
        Returns what a job uses. Processes have a GPU each if some job uses GPUs and none names its
        own; for a feed, the first job says so for all. On a cluster, jobs whose GPU is `one` or
        `named` run on workers that were started with `--resources GPU=1`.
    on_death
        Returns what stands for the result of a job over which several workers died.
    progress
        Told of the stages of each job in this process, or, where jobs run elsewhere, of how many
        are done.
    label, unit
        Of the stage that says how many jobs are done.

    Yields
    ------
    tuple of job, and result or JobFailure
        In the order in which jobs end.

    Raises
    ------
    InvalidInput
        No such scheduler or number of workers.
    JobNotSent
        A job cannot be pickled; of a sequence, none has begun.
    WorkersFailed
        There is no cluster, or it has no workers, or none with a GPU that a job needs.
    """
    chosen = scheduler_named(scheduler)
    if chosen.kind == "threads":
        raise InvalidInput(
            "jobs cannot share a process, which has one state of random numbers and one number of "
            "threads; choose the scheduler processes"
        )
    if workers is not None:
        workers_here(workers)
        if chosen.kind == "loop" and workers > 1:
            raise InvalidInput(
                f"{workers} workers need a scheduler; give processes, or tcp://HOST:PORT"
            )
    if chosen.kind == "loop":
        return _in_turn(jobs, run, progress)
    try:
        packed(run, "the function")
    except InvalidInput as error:
        raise InvalidInput(
            "the function that does the jobs cannot be sent to another process; define it in a "
            "module, or leave the scheduler out"
        ) from error
    away = _Away(run, chosen, workers, resources, on_death)
    return _elsewhere(jobs, away, progress, label, unit)


def _in_turn(
    jobs: Sequence[J] | Feed[J], run: Work[J, R], progress: Progress
) -> Generator[tuple[J, R | JobFailure], None, None]:
    feed = jobs if callable(jobs) else _feed_of(jobs)
    while not isinstance(job := next_job(feed, running=False), NoJob):
        yield job, outcome_of(run, job, progress, _never)


def _elsewhere(
    jobs: Sequence[J] | Feed[J], away: _Away[J, R], progress: Progress, label: str, unit: str
) -> Generator[tuple[J, R | JobFailure], None, None]:
    total = None
    running: dict[int, J] = {}
    if callable(jobs):
        first = next_job(jobs, running=False)
        known = [] if isinstance(first, NoJob) else [first]
        ready: Sequence[J] | Feed[J] = _Noted(first, jobs, running)
    else:
        for number, job in enumerate(jobs):
            _check_sent(number, job)
        ready = known = list(jobs)
        running.update(enumerate(jobs))
        total = len(jobs)
    if not known:
        return
    with (
        progress(label, total, unit) as stage,
        closing(away.outcomes(ready, known)) as outcomes,
    ):
        for number, outcome in outcomes:
            stage.advance(1)
            yield running.pop(number), outcome


def _feed_of(jobs: Sequence[J]) -> Feed[J]:
    left = iter(jobs)
    return lambda: next(left, NoJob.LEFT)


class _Noted(Generic[J]):
    """A feed whose first job is known, and whose jobs are noted by number until they end."""

    def __init__(self, first: J | NoJob, feed: Feed[J], running: dict[int, J]) -> None:
        self._first: list[J | NoJob] = [first]
        self._feed, self._running = feed, running
        self._n_jobs = 0

    def __call__(self) -> J | NoJob:
        job = self._first.pop() if self._first else self._feed()
        if isinstance(job, NoJob):
            return job
        _check_sent(self._n_jobs, job)
        self._running[self._n_jobs] = job
        self._n_jobs += 1
        return job


def _check_sent(number: int, job: Any) -> None:
    try:
        packed(job, "a job")
    except InvalidInput as error:
        raise JobNotSent(number) from error


@dataclass(frozen=True)
class _Away(Generic[J, R]):
    """Other processes, here or on a cluster, and what they are to do."""

    run: Work[J, R]
    scheduler: Scheduler
    workers: int | None
    resources: Callable[[J], JobResources]
    on_death: Callable[[J], R | JobFailure]

    def outcomes(
        self, jobs: Sequence[J] | Feed[J], known: Sequence[J]
    ) -> Generator[tuple[int, R | JobFailure], None, None]:
        """Yield the number of each job and what became of it; `known` are jobs there are."""
        cluster = self.scheduler.kind == "cluster"
        finished = self._on_cluster(jobs) if cluster else self._in_processes(jobs, known)
        with closing(finished):
            for number, content in finished:
                yield number, unpacked(content)

    def _in_processes(
        self, jobs: Sequence[J] | Feed[J], known: Sequence[J]
    ) -> Generator[tuple[int, bytes], None, None]:
        uses = [self.resources(job) for job in known]
        gpus = _gpus_for(uses)
        count = workers_here(self.workers)
        if gpus and self.workers is None:
            count = len(gpus)
        if not callable(jobs):
            count = min(count, len(jobs))
        threads = max(workers_here(None) // count, 1)
        # Where jobs use torch, it alone has the share: its threads are set when it is there.
        several = {} if any(use.torch for use in uses) else dict.fromkeys(SINGLE_THREADED, threads)
        own = [
            {name: str(value) for name, value in several.items()}
            | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})
            for number in range(count)
        ]
        return finished_parts(
            jobs,
            partial(in_process, run=self.run, resources=self.resources, threads=threads),
            count,
            kind="processes",
            ahead=len(known),
            on_death=lambda job: packed(self.on_death(job), "a failure"),
            environments=own,
        )

    def _on_cluster(self, jobs: Sequence[J] | Feed[J]) -> Generator[tuple[int, bytes], None, None]:
        from layerlake.engine.workers.cluster_jobs import finished_jobs

        def needs(job: J) -> dict[str, float]:
            return {"GPU": 1} if self.resources(job).gpu in ("one", "named") else {}

        return finished_jobs(
            self.scheduler.address,
            jobs,
            partial(on_worker, run=self.run, resources=self.resources),
            most=self.workers,
            resources=needs,
            on_death=lambda job: packed(self.on_death(job), "a failure"),
        )


def _gpus_for(uses: Sequence[JobResources]) -> list[str]:
    """Return the names of the GPUs that processes are given; none if jobs use none or name one."""
    kinds = {use.gpu for use in uses}
    if not kinds & {"auto", "one"} or "named" in kinds:
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return [name for name in visible.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def _never() -> bool:
    return False
