"""Long jobs on a Dask cluster: one at a time on each of its workers, whatever threads it has.

Dask hands a worker as many tasks as it has threads. A job that takes a whole worker, for hours, is
therefore sent to a worker that has none yet, by this process; a job whose worker dies is sent to
another one.
"""

from __future__ import annotations

import queue
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import uuid4

from layerlake.engine.workers import dask_cluster
from layerlake.engine.workers.dask_cluster import check_workers, connected, scheduler_gone
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
    jobs: Sequence[P],
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
        into a result there; all of them are pickled.
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
    WorkersFailed
        Nobody answers at the address, or the cluster has no workers, or none with the resources.
    Exception
        What `work` raised; the others are stopped then.
    """
    needs = [dict(resources(job)) for job in jobs]
    content = [packed((work, job), f"job {number}") for number, job in enumerate(jobs)]
    with connected(address) as client:
        for distinct in {tuple(sorted(need.items())) for need in needs}:
            check_workers(client, address, dict(distinct))
        yield from _Sending(client, address, content, needs, most).results(
            lambda number: on_death(jobs[number])
        )


class _Sending:
    """Which jobs wait, and which worker has which."""

    def __init__(
        self,
        client: Any,
        address: str,
        content: Sequence[bytes],
        needs: Sequence[Mapping[str, float]],
        most: int | None,
    ) -> None:
        self._client, self._address = client, address
        self._content, self._needs, self._most = content, needs, most
        self._run = uuid4().hex[:12]
        self._waiting = deque(range(len(content)))
        self._running: dict[str, tuple[int, Any]] = {}
        """By address of the worker: the number of its job, and its future."""
        self._deaths: Counter[int] = Counter()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def results(self, on_death: Callable[[int], Any]) -> Generator[tuple[int, Any], None, None]:
        """Send jobs until all are done."""
        idle = 0.0
        while self._waiting or self._running:
            workers = self._workers()
            for worker in self._running.keys() - workers.keys():
                number, future = self._running.pop(worker)
                future.cancel()
                if self._given_up(number):
                    yield number, on_death(number)
            self._send(workers)
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
            for worker, (number, sent) in list(self._running.items()):
                if sent.key != future.key:
                    continue
                del self._running[worker]
                if future.status == "finished":
                    fine, found = unpacked(future.result())
                    if not fine:
                        raise found
                    yield number, found
                elif self._given_up(number):  # its worker died, and Dask was first to know
                    yield number, on_death(number)

    def _workers(self) -> dict[str, Any]:
        """Return the workers of the cluster, by address."""
        try:
            found: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, TimeoutError, RuntimeError) as error:
            raise scheduler_gone(self._address) from error
        return found

    def _given_up(self, number: int) -> bool:
        """Note that a worker died over a job; let it wait for another, unless several have died."""
        self._deaths[number] += 1
        if self._deaths[number] >= MOST_DEATHS:
            return True
        self._waiting.appendleft(number)
        return False

    def _send(self, workers: Mapping[str, Any]) -> None:
        """Send jobs to workers that have none."""
        for worker, about in workers.items():
            full = self._most is not None and len(self._running) >= self._most
            if worker in self._running or full:
                continue
            fitting = [n for n in self._waiting if _suffices(about["resources"], self._needs[n])]
            if not fitting:
                continue
            number = fitting[0]
            self._waiting.remove(number)
            key = f"layerlake-job-{number}-{self._run}-{self._deaths[number]}"
            future = self._client.submit(
                _result_of,
                self._content[number],
                key,
                key=key,
                workers=[worker],
                resources=dict(self._needs[number]) or None,
                pure=False,
            )
            future.add_done_callback(self._done.put)
            self._running[worker] = number, future


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
