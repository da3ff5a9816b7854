"""Several runs at once: the same as one by one, whoever does them and whoever dies."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from layerlake.analyses.finetuning import many_runs
from layerlake.analyses.finetuning.many_runs import finetune_many
from layerlake.analyses.finetuning.report import FinetuneReport
from layerlake.analyses.runs.grid import by_seed
from layerlake.engine.corpora.reading import read_corpus
from layerlake.engine.progress import ProgressEvent, to_function
from layerlake.engine.workers.one_job import JobResources
from layerlake.store.errors import InvalidInput, RunsFailed, WorkersFailed

Runs = list[dict[str, Any]]
EPOCHS = 6
"""Of runs that are to be killed before they are done."""


def two_tasks(model: Path, data: Path, under: Path, seeds: str = "0-1", **more: Any) -> Runs:
    """Return two tasks by some seeds, in folders below one."""
    tasks = {
        "classify": {"train": data / "classes.jsonl"},
        "tag": {"train": data / "tags.jsonl", "batch": 12},
    }
    shared = {"model": model, "out": under / "{name}-s{seed}", "seed": seeds}
    shared |= {"epochs": 1, "batch": 8, "device": "cpu", **more}
    return [
        run for task, own in tasks.items() for run in by_seed({"task": task, **shared, **own}, task)
    ]


@pytest.fixture
def runs(shore_bert: Path, labelled_data: Path, tmp_path: Path) -> Callable[..., Runs]:
    """A function from the name of a folder (and seeds, and arguments) to runs below it."""

    def make(under: str, seeds: str = "0-1", **more: Any) -> Runs:
        return two_tasks(shore_bert, labelled_data, tmp_path / under, seeds, **more)

    return make


def digests(reports: list[FinetuneReport]) -> list[tuple[str, str]]:
    """Return the folder's name and the weights of every run."""
    return [(Path(report.folder).name, report.weights_digest) for report in reports]


@pytest.fixture(scope="module")
def expected(
    shore_bert: Path, labelled_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, str]]:
    """The weights of runs that were done one by one, with one thread of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = tmp_path_factory.mktemp("alone")
        return digests(finetune_many(two_tasks(shore_bert, labelled_data, alone, epochs=EPOCHS)))
    finally:
        torch.set_num_threads(before)


def test_runs_are_done_once_in_order(runs: Callable[..., Runs]) -> None:
    seen: list[FinetuneReport] = []
    events: list[ProgressEvent] = []
    reports = finetune_many(
        runs("here"), on_report=seen.append, progress=to_function(events.append)
    )
    assert seen == reports
    assert [Path(report.folder).name for report in reports] == [
        "classify-s0",
        "classify-s1",
        "tag-s0",
        "tag-s1",
    ]
    assert [report.n_computed for report in reports] == [3, 3, 2, 2]
    assert len({report.weights_digest for report in reports}) == 4
    assert "run 3 of 4: tag, seed 0" in {event.label for event in events}
    again = finetune_many(runs("here"))
    assert [report.n_computed for report in again] == [0, 0, 0, 0]
    assert digests(again) == digests(reports)


def test_runs_on_gpus_need_workers_with_gpus(runs: Callable[..., Runs], cluster: Any) -> None:
    with pytest.raises(WorkersFailed, match="has 1 GPU; start some with"):
        finetune_many(runs("gpu", device="cuda"), scheduler=cluster.scheduler_address)


def test_a_cluster_gives_the_same_weights_and_loses_no_run_with_a_worker(
    runs: Callable[..., Runs], expected: list[tuple[str, str]], cluster: Any
) -> None:
    killed: list[int] = []

    def kill_one(report: FinetuneReport) -> None:
        if not killed:
            killed.extend(worker.process.pid for worker in cluster.workers.values())
            os.kill(killed[0], signal.SIGKILL)

    reports = finetune_many(
        runs("far", save_steps=1, epochs=EPOCHS),
        scheduler=cluster.scheduler_address,
        on_report=kill_one,
    )
    assert killed
    assert digests(reports) == expected


def holders(folder: Path) -> list[int]:
    """Return the processes started by this one that have a folder open."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return [
        int(child)
        for child in children
        if folder in [Path(os.path.realpath(fd)) for fd in Path(f"/proc/{child}/fd").iterdir()]
    ]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="there is no /proc here")
def test_processes_give_the_same_weights_though_one_is_killed_and_replaced(
    runs: Callable[..., Runs], expected: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Then each of two processes has one thread, as the runs that were done one by one.
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    asked = runs("there", save_steps=1, epochs=EPOCHS)
    log = Path(asked[0]["out"]) / "log.jsonl"
    done = threading.Event()

    def kill_when_saved() -> None:
        while not log.exists() or '"saved"' not in log.read_text():
            if done.wait(0.002):
                return
        for process in holders(log.parent.resolve()):
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_saved)
    killer.start()
    events: list[ProgressEvent] = []
    try:
        reports = finetune_many(
            asked, scheduler="processes", workers=2, progress=to_function(events.append)
        )
    finally:
        done.set()
        killer.join()
    assert digests(reports) == expected
    told = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert "resumed" in told
    assert 0 < reports[0].n_computed < reports[0].n_steps == 3 * EPOCHS
    assert (events[-1].done, events[-1].total, events[-1].unit) == (4, 4, "runs")
    lineage = json.loads((Path(reports[0].folder) / "layerlake.json").read_text())
    assert lineage["training"]["versions"]["threads"] == "1"


def test_a_run_that_fails_stops_no_other(
    runs: Callable[..., Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = runs("some", seeds="0")
    bad = asked[0] | {"freeze": 9, "out": tmp_path / "bad"}
    seen: list[FinetuneReport] = []
    with pytest.raises(RunsFailed) as caught:
        finetune_many([bad, *asked], on_report=seen.append)
    (failure,) = caught.value.failures
    assert failure.folder == str(tmp_path / "bad")
    assert failure.sentence.startswith("freeze is 9; give a whole number from -1 to 2")
    assert str(caught.value) == f"1 of 3 runs failed: {tmp_path / 'bad'}: {failure.sentence}"
    assert list(caught.value.reports) == seen
    assert [report.task for report in seen] == ["classify", "tag"]


def test_an_error_that_nobody_expects_is_kept_with_its_trace(
    runs: Callable[..., Runs], monkeypatch: pytest.MonkeyPatch
) -> None:
    @functools.wraps(many_runs.finetune)
    def broken(task: str, **_arguments: Any) -> FinetuneReport:
        raise ZeroDivisionError(f"{task} by nought\nand more")

    monkeypatch.setattr(many_runs, "finetune", broken)
    with pytest.raises(RunsFailed) as caught:
        finetune_many(runs("broken", seeds="0"))
    failure, _ = caught.value.failures
    assert failure.sentence == "ZeroDivisionError: classify by nought"
    assert "in broken" in failure.trace


class Killer:
    """Kills the process that unpickles it."""

    def __reduce__(self) -> Any:
        """Say how to."""
        return signal.raise_signal, (signal.SIGKILL,)


def test_a_run_that_kills_every_worker_is_a_run_that_failed(runs: Callable[..., Runs]) -> None:
    bad = runs("kills", seeds="0")[0] | {"train": Killer()}
    with pytest.raises(RunsFailed) as caught:
        finetune_many([bad], scheduler="processes")
    (failure,) = caught.value.failures
    assert failure.folder == str(bad["out"])
    assert failure.sentence == (
        "3 workers died over it, as happens where memory runs out; lower --token-budget or "
        "--workers, and run the same line again, it resumes"
    )


def test_a_run_that_nobody_waits_for_ends_and_is_not_called_failed(
    runs: Callable[..., Runs], cluster: Any
) -> None:
    short, long = runs("left", seeds="0")
    long |= {"epochs": 1000, "save_steps": 1}
    log = Path(long["out"]) / "log.jsonl"

    def leave(report: FinetuneReport) -> None:
        wait_until(lambda: log.exists() and '"saved"' in log.read_text())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune_many([short, long], scheduler=cluster.scheduler_address, on_report=leave)
    wait_until(lambda: not is_held(log.parent))
    told = {json.loads(line)["event"] for line in log.read_text().splitlines()}
    assert {"started", "saved"} <= told <= {"started", "saved", "trained"}


def wait_until(met: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_held(folder: Path) -> bool:
    """Say whether a run is writing to a folder."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(opened)
    return False


def test_what_a_run_uses_is_what_its_device_says(
    runs: Callable[..., Runs], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[JobResources] = []

    def finished(jobs: Any, run: Any, *, resources: Any, **how: Any) -> Iterator[Any]:
        used.extend(resources(job) for job in jobs)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(many_runs, "finished", finished)
    devices: list[Any] = ["cpu", "auto", "cuda", torch.device("cuda"), "cuda:1"]
    run = runs("gpus", seeds="0")[0]
    asked = [run | {"device": one, "out": f"{n}"} for n, one in enumerate(devices)]
    asked.append({key: run[key] for key in ("task", "model", "train", "out")})
    with pytest.raises(KeyboardInterrupt):
        finetune_many(asked)
    assert [use.gpu for use in used] == ["none", "auto", "one", "one", "named", "auto"]
    assert all(use.torch for use in used)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"out": None}, "run 1 has no out; give one"),
        ({"task": "spam"}, "run 1: there is no task 'spam'"),
        ({"stride": 3}, "run 1: stride is no entry of the recipe of classify"),
        ({"lr": "much"}, "run 1: lr is 'much'"),
        ({"out": 3}, "run 1 has no folder, but out is 3; name one"),
        ({"progress": print}, "run 1: progress is no entry of the recipe"),
    ],
)
def test_runs_that_cannot_be_are_refused_before_any_is_begun(
    runs: Callable[..., Runs], change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    first, *others = runs("refused", seeds="0")
    with pytest.raises(InvalidInput) as caught:
        finetune_many([first | change, *others])
    assert str(caught.value).startswith(sentence)
    assert not (tmp_path / "refused").exists()


def test_ways_that_cannot_be_are_refused(
    runs: Callable[..., Runs], labelled_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = runs("ways", seeds="0")
    with pytest.raises(InvalidInput, match="runs 1 and 3 would both be written to"):
        finetune_many([*asked, asked[0]])
    with pytest.raises(InvalidInput, match="there are no runs"):
        finetune_many([])
    with pytest.raises(InvalidInput, match="runs are no list of mappings"):
        finetune_many({"run": 1})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="choose the scheduler processes"):
        finetune_many(asked, scheduler="threads")
    with pytest.raises(InvalidInput, match="scheduler 'dask' is not one of"):
        finetune_many(asked, scheduler="dask")
    with pytest.raises(InvalidInput, match="2 workers need a scheduler"):
        finetune_many(asked, workers=2)
    with pytest.raises(InvalidInput, match="progress is 3"):
        finetune_many(asked, progress=3)  # type: ignore[arg-type]
    live = asked[0] | {"train": read_corpus(labelled_data / "classes.jsonl")}
    live["train"].source["lock"] = threading.Lock()
    with pytest.raises(InvalidInput, match="run 1 holds what cannot be sent to another process"):
        finetune_many([live], scheduler="processes")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInput, match="is for one process, and several were launched"):
        finetune_many(asked, scheduler="processes")
