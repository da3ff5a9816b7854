"""Long jobs on a Dask cluster: one at a time on each of its workers, whatever threads it has.

Dask hands a worker as many tasks as it has threads. A job that takes a whole worker, for hours, is
therefore sent to a worker that has none yet, by this process; a job whose worker dies is sent to
another one.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import uuid4

from layerlake.engine.workers import dask_cluster
from layerlake.engine.workers.dask_cluster import check_workers, connected, scheduler_gone
from layerlake.engine.workers.job_feeds import Feed, NoJob, next_job
from layerlake.engine.workers.local_workers import MOST_DEATHS
from layerlake.engine.workers.worker_process import packed, packed_error, unpacked
from layerlake.store.errors import WorkersFailed

P = TypeVar("P")
S = TypeVar("S")

Stopped = Callable[[], bool]
"""Says whether nobody waits for a job any more, which is then to end."""
_ENDED: Final = ("cancelled", "released", "forgotten")
"""States of a task that nobody waits for."""


def finished_jobs(
    address: str,
    jobs: Sequence[P] | Feed[P],
    work: Callable[[P, int, Stopped], S],
    *,
    most: int | None = None,
    resources: Callable[[P], Mapping[str, float]] = lambda job: {},
    on_death: Callable[[P], S],
) -> Generator[tuple[int, S], None, None]:
    """Yield the number and the result of every job, in the order in which they are done.

    Jobs begin in order. When the generator is closed, jobs that run are told so by `Stopped`.

    Parameters
    ----------
    address
        Of the scheduler, tcp://HOST:PORT.
    jobs, work
        What there is to do: a job, the threads of the worker it runs on, and `Stopped` are turned
        into a result there; all of them are pickled. A feed is asked for a job when a worker is
        free.
    most
        Jobs at a time; by default as many as there are workers.
    resources
        Returns what a job takes of the abstract resources that workers were started with.
    on_death
        Returns what stands for the result of a job over which several workers died.

    Raises
    ------
    MissingExtra
        `distributed` is not installed.
    InvalidInput
        A job cannot be pickled, or a feed waits while nothing runs.
    WorkersFailed
        Nobody answers at the address, or the cluster has no workers, or none with the resources.
    Exception
        What `work` raised; the others are stopped then.
    """

    def prepared(number: int, job: P) -> _Job:
        content = packed((work, job), f"job {number}")
        return _Job(number, job, content, dict(resources(job)))

    if callable(jobs):
        feed, known = jobs, []
    else:
        feed, known = None, [prepared(number, job) for number, job in enumerate(jobs)]
    with connected(address) as client:
        yield from _Sending(client, address, known, feed, prepared, most).results(on_death)


@dataclass(eq=False)
class _Job:
    number: int
    job: Any
    content: bytes
    """What turns it into its result, and the job, pickled."""
    needs: Mapping[str, float]
    """What it takes of a worker's resources."""
    deaths: int = 0
    """Workers that died over it."""


class _Sending:
    """Which jobs wait, and which worker has which."""

    def __init__(
        self,
        client: Any,
        address: str,
        known: Sequence[_Job],
        feed: Feed[Any] | None,
        prepared: Callable[[int, Any], _Job],
        most: int | None,
    ) -> None:
        self._client, self._address, self._most = client, address, most
        self._feed, self._prepared = feed, prepared
        self._run = uuid4().hex[:12]
        self._waiting: deque[_Job] = deque()
        self._n_jobs = 0
        self._checked: set[tuple[tuple[str, float], ...]] = set()
        """The needs that some worker of the cluster can meet."""
        self._running: dict[str, tuple[_Job, Any]] = {}
        """By address of the worker: its job, and the future of that."""
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for job in known:
            self._add(job)

    def results(self, on_death: Callable[[Any], Any]) -> Generator[tuple[int, Any], None, None]:
        """Send jobs until all are done."""
        idle = 0.0
        while self._waiting or self._running or self._feed is not None:
            workers = self._workers()
            for worker in self._running.keys() - workers.keys():
                job, future = self._running.pop(worker)
                future.cancel()
                if self._given_up(job):
                    yield job.number, on_death(job.job)
            self._ask(workers)
            self._send(workers)
            if not (self._waiting or self._running):
                continue  # all are done if the feed has no more
            idle = 0.0 if self._running else idle
            if self._waiting and idle >= dask_cluster.WORKERLESS_SECONDS:
                raise WorkersFailed(
                    f"the Dask cluster at {self._address} has had no worker for "
                    f"{idle:.0f} s; start one with `dask worker {self._address}`"
                )
            try:
                future = self._done.get(timeout=dask_cluster.LOOK_SECONDS)
            except queue.Empty:
                idle += dask_cluster.LOOK_SECONDS
                continue
            for worker, (job, sent) in list(self._running.items()):
                if sent.key != future.key:
                    continue
                del self._running[worker]
                if future.status == "finished":
                    fine, found = unpacked(future.result())
                    if not fine:
                        raise found
                    yield job.number, found
                elif self._given_up(job):  # its worker died, and Dask was first to know
                    yield job.number, on_death(job.job)

    def _workers(self) -> dict[str, Any]:
        """Return the workers of the cluster, by address."""
        try:
            found: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, TimeoutError, RuntimeError) as error:
            raise scheduler_gone(self._address) from error
        return found

    def _add(self, job: _Job) -> None:
        """Let a job wait, once some worker is known to have what it needs."""
        needs = tuple(sorted(job.needs.items()))
        if needs not in self._checked:
            check_workers(self._client, self._address, job.needs)
            self._checked.add(needs)
        self._waiting.append(job)
        self._n_jobs += 1

    def _ask(self, workers: Mapping[str, Any]) -> None:
        """Ask the feed for a job for every worker that has none, and for one where nothing runs."""
        most = len(workers) if self._most is None else min(self._most, len(workers))
        free = max(most - len(self._running), 0 if self._running else 1)
        while self._feed is not None and len(self._waiting) < free:
            job = next_job(self._feed, running=bool(self._running or self._waiting))
            if job is NoJob.YET:
                return
            if job is NoJob.LEFT:
                self._feed = None
                return
            self._add(self._prepared(self._n_jobs, job))

    def _given_up(self, job: _Job) -> bool:
        """Note that a worker died over a job; let it wait for another, unless several have died."""
        job.deaths += 1
        if job.deaths >= MOST_DEATHS:
            return True
        self._waiting.appendleft(job)
        return False

    def _send(self, workers: Mapping[str, Any]) -> None:
        """Send jobs to workers that have none."""
        for worker, about in workers.items():
            full = self._most is not None and len(self._running) >= self._most
            if worker in self._running or full:
                continue
            fitting = [job for job in self._waiting if _suffices(about["resources"], job.needs)]
            if not fitting:
                continue
            job = fitting[0]
            self._waiting.remove(job)
            key = f"layerlake-job-{job.number}-{self._run}-{job.deaths}"
            future = self._client.submit(
                _result_of,
                job.content,
                key,
                key=key,
                workers=[worker],
                resources=dict(job.needs) or None,
                pure=False,
            )
            future.add_done_callback(self._done.put)
            self._running[worker] = job, future


def _suffices(there: Mapping[str, float], needed: Mapping[str, float]) -> bool:
    return all(there.get(name, 0) >= amount for name, amount in needed.items())


def _result_of(content: bytes, key: str) -> bytes:
    """Return the pickled result of a job; runs on a worker."""
    from distributed import get_worker

    worker = get_worker()

    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state in _ENDED

    try:
        work, job = unpacked(content)
        return packed((True, work(job, worker.state.nthreads, stopped)), "the result of a job")
    except Exception as error:  # noqa: BLE001 - raised by whoever asked
        return packed_error(error)
