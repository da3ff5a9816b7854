"""Long jobs on a Dask cluster: each once, one a worker, again where a worker died."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from layerlake.engine import dask_cluster
from layerlake.engine.cluster_jobs import Stopped, finished_jobs
from layerlake.store.errors import InvalidInput, WorkersFailed

AT_WORK: Counter[str] = Counter()
MOST: Counter[str] = Counter()
_LOCK = threading.Lock()


def lost(job: Any) -> Any:
    """Stand for what killed several workers."""
    return "lost", job


def squared(job: int, threads: int, stopped: Stopped) -> tuple[int, int]:
    """Return the square of a number, and the process that found it."""
    return job**2, os.getpid()


def test_every_job_is_done_once_on_any_worker(cluster: Any) -> None:
    address = cluster.scheduler_address
    found = list(finished_jobs(address, list(range(7)), squared, on_death=lost))
    assert sorted((number, square) for number, (square, _) in found) == [
        (number, number**2) for number in range(7)
    ]
    assert len({process for _, (_, process) in found}) == 2


@pytest.fixture
def wide_worker() -> Iterator[Any]:
    """A cluster in this process: one worker of four threads, with one GPU as they are named."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=4,
        processes=False,
        dashboard_address=None,
        resources={"GPU": 1},
        silence_logs=50,
    ) as made:
        yield made


def counted(job: str, threads: int, stopped: Stopped) -> int:
    """Note how many jobs are at work in this process."""
    with _LOCK:
        AT_WORK[job] += 1
        MOST[job] = max(MOST[job], AT_WORK[job])
    time.sleep(0.05)
    with _LOCK:
        AT_WORK[job] -= 1
    return threads


def test_a_worker_of_many_threads_has_one_job_at_a_time_and_all_its_threads(
    wide_worker: Any,
) -> None:
    address = wide_worker.scheduler_address
    jobs = ["wide"] * 4
    found = list(finished_jobs(address, jobs, counted, on_death=lost))
    assert found == [(number, 4) for number in range(4)]
    assert MOST["wide"] == 1
    takes = finished_jobs(
        address, ["gpu"], counted, resources=lambda job: {"GPU": 1}, on_death=lost
    )
    assert list(takes) == [(0, 4)]


def waiting(job: Path | None, threads: int, stopped: Stopped) -> None:
    """Say that it began, and end when nobody waits any more; or end at once."""
    if job is None:
        return
    job.with_suffix(".begun").touch()
    while not stopped():
        time.sleep(0.01)
    job.with_suffix(".ended").touch()


def wait_for(file: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_is_told_when_nobody_waits_for_it(cluster: Any, tmp_path: Path) -> None:
    address, jobs = cluster.scheduler_address, [None, tmp_path / "job"]
    with closing(finished_jobs(address, jobs, waiting, on_death=lost)) as results:
        assert next(results) == (0, None)
        wait_for(tmp_path / "job.begun")
        assert not (tmp_path / "job.ended").exists()
    wait_for(tmp_path / "job.ended")


def dying(job: tuple[int, Path | None], threads: int, stopped: Stopped) -> int:
    """Die over a job: always, or the first time."""
    number, once = job
    if number == 1 and not (once is not None and once.exists()):
        if once is not None:
            once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_job_whose_worker_dies_is_done_by_another(cluster: Any, tmp_path: Path) -> None:
    once = tmp_path / "died"
    jobs = [(number, once) for number in range(4)]
    found = dict(finished_jobs(cluster.scheduler_address, jobs, dying, on_death=lost))
    assert found == {number: number for number in range(4)}
    assert once.exists()


def test_a_job_that_kills_every_worker_is_given_up_and_the_others_are_done(cluster: Any) -> None:
    jobs: list[tuple[int, Path | None]] = [(number, None) for number in range(4)]
    found = dict(finished_jobs(cluster.scheduler_address, jobs, dying, on_death=lost))
    assert found == {0: 0, 1: ("lost", (1, None)), 2: 2, 3: 3}


def failing(job: int, threads: int, stopped: Stopped) -> int:
    """Refuse one job."""
    if job == 1:
        raise InvalidInput("job 1 is no good")
    return job


def test_what_a_job_raises_is_raised(cluster: Any) -> None:
    address = cluster.scheduler_address
    with pytest.raises(InvalidInput, match=r"^job 1 is no good$"):
        list(finished_jobs(address, [0, 1, 2], failing, on_death=lost))


def test_clusters_that_cannot_do_it_are_refused(
    cluster: Any, own_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = cluster.scheduler_address
    with pytest.raises(WorkersFailed, match="has 1 GPU; start some with"):
        list(finished_jobs(address, [0], squared, resources=lambda job: {"GPU": 1}, on_death=lost))
    monkeypatch.setattr(dask_cluster, "WORKERLESS_SECONDS", 0.2)
    monkeypatch.setattr(dask_cluster, "LOOK_SECONDS", 0.1)
    gone = pytest.raises(WorkersFailed, match="has had no worker for 0 s; start one")
    with own_cluster(0) as empty, gone:
        list(finished_jobs(empty.scheduler_address, [0], squared, on_death=lost))
