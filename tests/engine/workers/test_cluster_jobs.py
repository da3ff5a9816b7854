"""Long jobs on a Dask cluster: each once, one a worker, again where a worker died."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

pytest.importorskip("distributed")

from layerlake.engine.workers import cluster_jobs, dask_cluster
from layerlake.engine.workers.cluster_jobs import Stopped, finished_jobs
from layerlake.store.errors import InvalidInput, WorkersFailed


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Send the functions of this module with their code: workers cannot import tests."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


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


def timed(job: str, threads: int, stopped: Stopped) -> tuple[float, float, int]:
    """Return when the job began and ended, and the threads it may use."""
    began = time.monotonic()
    time.sleep(0.05)
    return began, time.monotonic(), threads


def test_a_worker_of_many_threads_has_one_job_at_a_time_and_all_its_threads(
    wide_worker: Any,
) -> None:
    address = wide_worker.scheduler_address
    found = list(finished_jobs(address, ["a job"] * 4, timed, on_death=lost))
    assert [number for number, _ in found] == [0, 1, 2, 3]
    assert {threads for _, (_, _, threads) in found} == {4}
    for (_, (_, ended, _)), (_, (began, _, _)) in itertools.pairwise(found):
        assert ended <= began
    on_gpu = finished_jobs(address, ["x"], timed, resources=lambda job: {"GPU": 1}, on_death=lost)
    assert [number for number, _ in on_gpu] == [0]


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


# What follows kills workers, which take their time to come back.


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


def test_a_job_that_kills_workers_is_given_up_and_the_others_are_done(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_jobs, "MOST_DEATHS", 1)
    jobs: list[tuple[int, Path | None]] = [(number, None) for number in range(4)]
    found = dict(finished_jobs(cluster.scheduler_address, jobs, dying, on_death=lost))
    assert found == {0: 0, 1: ("lost", (1, None)), 2: 2, 3: 3}
