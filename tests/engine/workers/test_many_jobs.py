"""Many jobs: each done once wherever it runs, whoever dies, and whatever the others do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import pytest

from layerlake.engine.progress import Progress, ProgressEvent, silent, to_function
from layerlake.engine.workers.job_feeds import Feed, NoJob
from layerlake.engine.workers.many_jobs import JobNotSent, finished
from layerlake.engine.workers.one_job import JobFailure, JobResources, Stopped
from layerlake.store.errors import InvalidInput, WorkersFailed


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Send the functions of this module with their code: workers cannot import tests."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(params=["loop", "processes", "cluster"])
def where(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments that choose each way of doing jobs, two at a time where that is possible."""
    if request.param == "loop":
        return {}
    if request.param == "processes":
        return {"scheduler": "processes", "workers": 2}
    pytest.importorskip("distributed")
    return {"scheduler": request.getfixturevalue("cluster").scheduler_address}


def summed(job: int, progress: Progress, stopped: Stopped) -> float:
    """Return the sum of the first numbers, and say that they were added."""
    with progress(f"adding {job}", 1, "sums") as stage:
        stage.advance(1)
    assert not stopped()
    return float(np.arange(job).sum())


def test_jobs_give_the_same_results_wherever_they_run(where: dict[str, Any]) -> None:
    found = list(finished([5, 3, 8, 2], summed, **where))
    assert sorted(found) == [(2, 1.0), (3, 3.0), (5, 10.0), (8, 28.0)]
    if not where:
        assert [job for job, _ in found] == [5, 3, 8, 2]


def test_no_jobs_have_no_results(where: dict[str, Any]) -> None:
    assert list(finished([], summed, **where)) == []
    assert list(finished(lambda: NoJob.LEFT, summed, **where)) == []


def dividing(job: int, progress: Progress, stopped: Stopped) -> float:
    """Divide by a number, which one cannot, or may not, do by all."""
    if job < 0:
        raise InvalidInput(f"{job} is negative")
    return 12 / job


def test_a_job_that_fails_stops_no_other(where: dict[str, Any]) -> None:
    found = dict(finished([4, 0, -1, 3], dividing, **where))
    failed, refused = found.pop(0), found.pop(-1)
    assert found == {4: 3.0, 3: 4.0}
    assert refused == JobFailure("-1 is negative")
    assert isinstance(failed, JobFailure)
    assert failed.sentence == "ZeroDivisionError: division by zero"
    assert "in dividing" in failed.trace


class Tree:
    """A feed: two jobs, and for every result below 40 its double, once it is known."""

    def __init__(self) -> None:
        self.ready = [5, 7]
        self.n_running = 0
        self.threads: set[int] = set()

    def __call__(self) -> int | NoJob:
        """Return the next job, as `Feed` says."""
        self.threads.add(threading.get_ident())
        if self.ready:
            self.n_running += 1
            return self.ready.pop(0)
        return NoJob.YET if self.n_running else NoJob.LEFT

    def ended(self, result: int) -> None:
        """Take note of a result."""
        self.n_running -= 1
        if result < 40:
            self.ready.append(result)


def doubled(job: int, progress: Progress, stopped: Stopped) -> int:
    """Return twice a number."""
    return 2 * job


def test_a_feed_makes_jobs_from_earlier_results(where: dict[str, Any]) -> None:
    feed = Tree()
    found = []
    with closing(finished(feed, doubled, **where)) as results:
        for job, result in results:
            assert not isinstance(result, JobFailure)
            found.append((job, result))
            feed.ended(result)
    assert sorted(found) == [(job, 2 * job) for job in (5, 7, 10, 14, 20, 28)]
    assert feed.threads == {threading.get_ident()}


def test_a_feed_is_asked_no_earlier_than_a_worker_is_free() -> None:
    asked: list[int] = []

    def feed() -> int | NoJob:
        asked.append(len(asked))
        return asked[-1] if len(asked) <= 6 else NoJob.LEFT

    with closing(finished(feed, doubled, scheduler="processes", workers=2)) as results:
        for n_read, _ in enumerate(results, start=1):
            assert len(asked) == min(n_read + 1, 7)
    assert len(asked) == 7


def test_a_feed_that_waits_for_nothing_is_refused(where: dict[str, Any]) -> None:
    jobs = [1]

    def feed() -> int | NoJob:
        return jobs.pop() if jobs else NoJob.YET

    with closing(finished(feed, doubled, **where)) as results:
        assert next(results) == (1, 2)
        with pytest.raises(InvalidInput, match=r"returned NoJob\.YET while no job was running"):
            next(results)


def test_progress_tells_of_stages_here_and_of_jobs_elsewhere(where: dict[str, Any]) -> None:
    events: list[ProgressEvent] = []
    told = to_function(events.append)
    list(finished([5, 3], summed, progress=told, label="adding up", unit="sums", **where))
    last = events[-1]
    if where:
        assert {event.label for event in events} == {"adding up"}
        assert (last.done, last.total, last.unit, last.state) == (2, 2, "sums", "finished")
    else:
        assert {event.label for event in events} == {"adding 5", "adding 3"}


def locked(job: int, progress: Progress, stopped: Stopped) -> Any:
    """Return what cannot be pickled."""
    return threading.Lock() if job else job


def test_a_result_that_cannot_be_sent_is_a_failure() -> None:
    found = dict(finished([0, 1], locked, scheduler="processes", workers=1))
    assert found[0] == 0
    assert isinstance(found[1], JobFailure)
    assert found[1].sentence.startswith("its result cannot be sent to another process; return")


def test_a_job_that_cannot_be_sent_is_refused_before_any_begins(tmp_path: Path) -> None:
    def leaving(job: Any, progress: Progress, stopped: Stopped) -> None:
        (tmp_path / "begun").touch()

    jobs = [1, threading.Lock()]
    with pytest.raises(JobNotSent, match=r"^job 2 cannot be sent to another process; give") as one:
        list(finished(jobs, leaving, scheduler="processes", workers=1))
    assert one.value.number == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JobNotSent, match=r"^job 2 "):
        list(finished(iter([*jobs, NoJob.LEFT]).__next__, leaving, scheduler="processes"))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"scheduler": "threads"}, "jobs cannot share a process, .*; choose the scheduler proces"),
        ({"scheduler": "dask"}, "scheduler 'dask' is not one of"),
        ({"workers": 2}, "2 workers need a scheduler; give processes, or tcp://HOST:PORT"),
        ({"workers": 0}, "workers is 0; give a whole number of at least 1"),
    ],
)
def test_ways_that_there_are_not_are_refused_at_once(how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        finished([1], doubled, **how)


def surroundings(job: Any, progress: Progress, stopped: Stopped) -> dict[str, Any]:
    """Return what a job finds in its process."""
    time.sleep(0.05)  # so that no process does two of these jobs while another starts
    loaded = sys.modules.get("torch")
    return {
        "process": os.getpid(),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "blas": os.environ["OPENBLAS_NUM_THREADS"],
        "torch": loaded and loaded.get_num_threads(),
    }


def found_by(jobs: Any, **how: Any) -> list[dict[str, Any]]:
    """Return the surroundings of jobs in processes."""
    found = [found for _, found in finished(jobs, surroundings, scheduler="processes", **how)]
    assert not any(isinstance(each, JobFailure) for each in found)
    return found  # type: ignore[return-value]


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process believe that it may use eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


def test_processes_share_the_cores_and_load_no_torch_unasked(eight_cores: None) -> None:
    pairs = found_by([1, 2], workers=2)
    assert [(each["blas"], each["torch"]) for each in pairs] == [("4", None), ("4", None)]
    # There are no more processes than jobs, and of cores no fewer than one a process.
    assert [each["blas"] for each in found_by([1], workers=2)] == ["8"]
    code = (
        "import sys; from layerlake.engine.workers.many_jobs import finished\n"
        "for where in (None, 'processes'):\n"
        "    list(finished([1], lambda job, progress, stopped: job, scheduler=where))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def with_torch(job: Any) -> JobResources:
    """Return what a job uses that computes with torch."""
    return JobResources("none", torch=True)


def test_jobs_with_torch_have_its_threads(eight_cores: None) -> None:
    pytest.importorskip("torch")
    (found,) = found_by([1], workers=1, resources=with_torch)
    assert (found["blas"], found["torch"]) == ("1", 8)


def on_gpu(job: str) -> JobResources:
    """Return what a job uses whose name says how it uses GPUs."""
    return JobResources(job)  # type: ignore[arg-type]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch see two GPUs, in this process."""
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_each_process_has_a_gpu_of_its_own(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_by(["auto", "none", "one", "auto"], resources=on_gpu)
    assert {each["gpu"] for each in found} == {"0", "1"}
    assert len({each["process"] for each in found}) == 2
    feed = iter(["one", "one", NoJob.LEFT]).__next__
    assert {each["gpu"] for each in found_by(feed, resources=on_gpu)} <= {"0", "1"}
    # Jobs that name their GPU see them all, and those that use none have no need of any.
    for jobs in (["auto", "named"], ["none", "none"]):
        assert {each["gpu"] for each in found_by(jobs, resources=on_gpu)} == {None}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c")
    found = found_by(["one"], workers=4, resources=on_gpu)
    assert [each["gpu"] for each in found] == ["GPU-a"]


def test_jobs_on_gpus_need_workers_with_gpus(cluster: Any) -> None:
    address = cluster.scheduler_address
    for gpu in ("one", "named"):
        with pytest.raises(WorkersFailed, match="has 1 GPU; start some with"):
            list(finished([gpu], surroundings, scheduler=address, resources=on_gpu))
    feed: Feed[str] = iter(["auto", "one"]).__next__
    with pytest.raises(WorkersFailed, match="has 1 GPU; start some with"):
        list(finished(feed, doubled, scheduler=address, resources=on_gpu))  # type: ignore[arg-type]


def waiting(job: Path | None, progress: Progress, stopped: Stopped) -> None:
    """End at once; or say that it began, and go on until somebody ends it."""
    if job is None:
        return
    job.with_suffix(".begun").touch()
    try:
        with progress("waiting", None, "turns") as stage:
            while True:
                stage.advance(1)
                time.sleep(0.01)
    finally:
        assert stopped()
        job.with_suffix(".ended").touch()


def wait_for(file: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_progress_ends_a_job_that_nobody_waits_for(cluster: Any, tmp_path: Path) -> None:
    jobs = [None, tmp_path / "job"]
    with closing(finished(jobs, waiting, scheduler=cluster.scheduler_address)) as results:
        assert next(results) == (None, None)
        wait_for(tmp_path / "job.begun")
        assert not (tmp_path / "job.ended").exists()
    wait_for(tmp_path / "job.ended")


def test_a_process_whose_parent_is_gone_ends_its_job(tmp_path: Path) -> None:
    job = tmp_path / "job"
    code = (
        "import cloudpickle, sys\n"
        "from layerlake.engine.workers.many_jobs import finished\n"
        "run, job = cloudpickle.load(sys.stdin.buffer)\n"
        "list(finished([job], run, scheduler='processes'))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert parent.stdin is not None
    parent.stdin.write(cloudpickle.dumps((waiting, job)))
    parent.stdin.close()
    wait_for(tmp_path / "job.begun")
    parent.kill()
    parent.wait()
    wait_for(tmp_path / "job.ended")


# What follows kills workers, which take their time to come back.


def resuming(job: tuple[int, Path], progress: Progress, stopped: Stopped) -> list[int]:
    """Count to three in a file, in as many processes as it takes; die once half-way."""
    number, file = job
    lines = file.read_text().splitlines() if file.exists() else []
    for count in range(len(lines), 3):
        with file.open("a") as out:
            out.write(f"{os.getpid()}\n")
        if number == 1 and count == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return [int(line) for line in file.read_text().splitlines()]


@pytest.fixture
def died() -> Callable[[Any], str]:
    """What stands for the result of a job that kills every worker."""
    return lambda job: f"lost {job}"


def killing(job: int, progress: Progress, stopped: Stopped) -> int:
    """Die over one job, always."""
    if job == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


@pytest.mark.parametrize("where", ["processes", "cluster"], indirect=True)
@pytest.mark.parametrize("fed", [False, True])
def test_a_job_whose_worker_is_killed_goes_on_in_another(
    where: dict[str, Any], fed: bool, tmp_path: Path
) -> None:
    jobs = [(number, tmp_path / str(number)) for number in range(4)]
    feed = iter([*jobs, NoJob.LEFT]).__next__
    found = dict(finished(feed if fed else jobs, resuming, **where))
    assert found.keys() == set(jobs)
    for job, processes in found.items():
        assert not isinstance(processes, JobFailure)
        assert len(processes) == 3
        assert len(set(processes)) == (2 if job[0] == 1 else 1)


@pytest.mark.parametrize("fed", [False, True])
def test_a_job_that_kills_every_worker_is_given_up(fed: bool, died: Callable[[Any], str]) -> None:
    feed = iter([0, 1, 2, NoJob.LEFT]).__next__
    how: dict[str, Any] = {"scheduler": "processes", "workers": 2}
    found = dict(finished(feed if fed else [0, 1, 2], killing, **how))
    failure = found.pop(1)
    assert found == {0: 0, 2: 2}
    assert isinstance(failure, JobFailure)
    assert failure.sentence.startswith("3 workers died over it, as happens where memory runs out")
    assert list(finished([1], killing, on_death=died, **how)) == [(1, "lost 1")]


def test_the_caller_of_a_closed_generator_leaves_no_process() -> None:
    before = threading.active_count()
    with closing(
        finished(list(range(8)), doubled, scheduler="processes", workers=2, progress=silent)
    ) as results:
        next(results)
    assert threading.active_count() == before


def test_a_function_that_cannot_be_sent_is_refused_before_anything_begins() -> None:
    lock = threading.Lock()

    def work(job: int, progress: Any, stopped: Any) -> int:
        with lock:
            return job

    with pytest.raises(InvalidInput, match=r"^the function that does the jobs cannot be sent"):
        finished([1], work, scheduler="processes")
