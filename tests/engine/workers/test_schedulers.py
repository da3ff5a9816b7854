"""Parts of a pass on threads, processes and a real Dask cluster, with workers that die."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from layerlake.engine.workers import dask_cluster
from layerlake.engine.workers.local_workers import finished_parts
from layerlake.engine.workers.merging import Merging
from layerlake.engine.workers.scheduler_names import scheduler_named
from layerlake.engine.workers.schedulers import (
    INTERPRETER_BYTES,
    Part,
    cut_parts,
    plan_workers,
    reduce_parts,
    states_held,
    worker_bytes,
)
from layerlake.store.errors import InvalidInput, MemoryRefused, MissingExtra, WorkersFailed

PARTS = cut_parts([(k, k + 1) for k in range(20)], 20)


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Send the functions of this module with their code: workers cannot import tests."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Sums:
    """Sums whose last bits depend on the order of adding; may die or fail over a part."""

    die: tuple[int, ...] = ()
    fail: tuple[int, ...] = ()
    once: str = ""
    """A file that says that the worker has died already."""
    seconds: float = 0.0

    def __call__(self, part: Part) -> dict[str, Any]:
        """Return sums of numbers drawn for each row of a part."""
        numbers = [row for start, stop in part for row in range(start, stop)]
        time.sleep(self.seconds * len(numbers))
        if set(numbers) & set(self.fail):
            raise InvalidInput(f"row {numbers[0]} is no good")
        if set(numbers) & set(self.die) and not (self.once and os.path.exists(self.once)):  # noqa: PTH110
            if self.once:
                with open(self.once, "x"):  # noqa: PTH123
                    pass
            os.kill(os.getpid(), signal.SIGKILL)
        drawn = np.stack([np.random.default_rng(row).standard_normal(50) for row in numbers])
        return {"sum": (drawn * 10.0 ** np.arange(-5, 5).repeat(5)).sum(axis=0), "rows": numbers}


def merge(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """Merge the sums of neighbours, using up the left ones."""
    left["sum"] += right["sum"]
    left["rows"] += right["rows"]
    right["sum"] *= 0  # whoever merges may use up both
    return left


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What the parts come to in this thread."""
    return reduce_parts(PARTS, Sums(), merge)


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Hold an answer to the bits of another."""
    assert found["rows"] == expected["rows"] == list(range(20))
    assert found["sum"].tobytes() == expected["sum"].tobytes()


@given(st.lists(st.integers(1, 40), max_size=80), st.integers(1, 20))
def test_parts_hold_all_blocks_in_order(lengths: list[int], most: int) -> None:
    edges = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    cuts = list(itertools.pairwise(edges))
    parts = cut_parts(cuts, most)
    assert [cut for part in parts for cut in part] == cuts
    assert all(parts)
    assert len(parts) <= most
    if len(cuts) >= most and len(set(lengths)) == 1:
        assert len(parts) == most
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("blocks", "parts"), [(1, 1), (16, 16), (49, 16), (100, 25), (489, 64)])
def test_parts_are_as_many_as_there_are_blocks_for(blocks: int, parts: int) -> None:
    assert len(cut_parts([(2048 * k, 2048 * (k + 1)) for k in range(blocks)])) == parts


def test_a_pass_is_not_cut_into_no_parts() -> None:
    with pytest.raises(InvalidInput, match="into 0 parts; give at least 1"):
        cut_parts([(0, 1)], 0)


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_states_merge_in_the_same_pairs_in_whatever_order_they_come(count: int, order: Any) -> None:
    def shape(numbers: list[int]) -> str:
        merging = Merging[str](count, lambda left, right: f"({left} {right})")
        for number in numbers:
            merging.add(number, str(number))
        return merging.whole()

    shuffled = list(range(count))
    order.shuffle(shuffled)
    assert shape(shuffled) == shape(list(range(count)))
    assert [int(n) for n in shape(shuffled).replace("(", "").replace(")", "").split()] == list(
        range(count)
    )


def test_the_pairs_are_neighbours() -> None:
    merging = Merging[str](5, lambda left, right: f"({left} {right})")
    for number in (4, 2, 0, 3, 1):
        merging.add(number, str(number))
    assert merging.whole() == "(((0 1) (2 3)) 4)"


@pytest.mark.parametrize("scheduler", [None, "threads", "processes"])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_bits_here(scheduler: str | None, workers: int, expected: dict[str, Any]) -> None:
    seen: list[Part] = []
    found = reduce_parts(
        PARTS, Sums(), merge, scheduler=scheduler, workers=workers, on_part=seen.append
    )
    check(found, expected)
    assert sorted(seen) == PARTS


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_the_first_part_that_fails_says_so(scheduler: str) -> None:
    before = threading.active_count()
    with pytest.raises(InvalidInput, match=r"^row 3 is no good$"):
        reduce_parts(PARTS, Sums(fail=(3, 4, 5)), merge, scheduler=scheduler, workers=2)
    assert threading.active_count() == before


def broken(part: Part) -> Any:
    """Raise what nobody expects."""
    raise KeyError("no such thing")


def test_a_failure_that_nobody_expects_brings_its_trace() -> None:
    with pytest.raises(KeyError) as caught:
        reduce_parts(PARTS, broken, merge, scheduler="processes", workers=1)
    assert "in broken" in caught.value.__notes__[0]


def test_what_is_printed_does_not_get_between_answers(capfd: Any) -> None:
    def loud(part: Part) -> list[Part]:
        print("so many parts")  # goes to stderr there
        return [part]

    found = reduce_parts(PARTS, loud, lambda a, b: a + b, scheduler="processes", workers=1)
    assert found == PARTS
    assert "so many parts" in capfd.readouterr().err


def test_a_process_that_dies_is_replaced(tmp_path: Path, expected: dict[str, Any]) -> None:
    sums = Sums(die=(7,), once=str(tmp_path / "died"))
    check(reduce_parts(PARTS, sums, merge, scheduler="processes", workers=2), expected)
    assert (tmp_path / "died").exists()


def test_a_part_that_kills_every_process_is_given_up() -> None:
    with pytest.raises(WorkersFailed, match=r"^3 worker processes died over the same rows \(SIGK"):
        reduce_parts(PARTS, Sums(die=(7,)), merge, scheduler="processes", workers=2)


def own_name(part: Part) -> str:
    """Return what the environment says, or die over one part."""
    if part == PARTS[3]:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ["LAYERLAKE_TEST"]


def test_a_part_that_kills_every_process_may_end_no_other() -> None:
    environments = [{"LAYERLAKE_TEST": "one"}, {"LAYERLAKE_TEST": "two"}]
    found = dict(
        finished_parts(
            PARTS,
            own_name,
            2,
            kind="processes",
            ahead=len(PARTS),
            on_death=lambda part: f"lost {part}",
            environments=environments,
        )
    )
    assert found.pop(3) == f"lost {PARTS[3]}"
    assert found.keys() == set(range(len(PARTS))) - {3}
    assert set(found.values()) <= {"one", "two"}


def test_parts_run_as_far_ahead_as_is_asked() -> None:
    begun: list[Part] = []
    all_begun = threading.Event()

    def held_up(part: Part) -> None:
        begun.append(part)
        if len(begun) == len(PARTS):
            all_begun.set()
        if part == PARTS[0]:  # all the others are begun before the first one is done
            assert all_begun.wait(30)

    found = finished_parts(PARTS, held_up, 2, kind="threads", ahead=len(PARTS))
    assert sorted(number for number, _ in found) == list(range(len(PARTS)))


def test_an_error_of_the_one_who_asks_ends_the_workers() -> None:
    before = threading.active_count()
    for scheduler in ("threads", "processes"):
        with pytest.raises(ZeroDivisionError):
            reduce_parts(
                PARTS, Sums(), merge, scheduler=scheduler, workers=2, on_part=lambda part: 1 / 0
            )
        assert threading.active_count() == before


def test_what_cannot_be_sent_is_told() -> None:
    lock = threading.Lock()
    with pytest.raises(InvalidInput, match=r"sent to another process: cannot pickle .*lock.*thr"):
        reduce_parts(PARTS, lambda part: lock.locked(), max, scheduler="processes", workers=1)


def blas_threads(part: Part) -> set[int]:
    """Return the numbers of threads that BLAS libraries may use, numpy's among them."""
    assert np.ones((2, 2)).sum() == 4
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_each_worker_has_one_blas_thread(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "2")
    with threadpool_limits(2, user_api="blas"):
        found = reduce_parts(PARTS, blas_threads, set.union, scheduler=scheduler, workers=2)
        assert found == {1}
        assert blas_threads([]) == {2}


def test_no_more_states_lie_about_than_promised() -> None:
    lock, lying, most = threading.Lock(), [0], [0]

    class State:
        def __init__(self) -> None:
            with lock:
                lying[0] += 1
                most[0] = max(most[0], lying[0])

        def __del__(self) -> None:
            with lock:
                lying[0] -= 1

    def slow_first(part: Part) -> State:
        time.sleep(0.2 if part == parts[0] else 0)  # the others may run ahead of it
        return State()

    parts = cut_parts([(k, k + 1) for k in range(64)], 64)
    reduce_parts(parts, slow_first, lambda left, right: left, scheduler="threads", workers=2)
    assert 2 < most[0] <= states_held(64, 2) == 11


def test_memory_is_that_of_one_for_each_worker() -> None:
    plans = {
        (kind, n): plan_workers(100, 10, scheduler=kind, workers=n, parts=64).needed
        for kind in ("threads", "processes", None, "tcp://somewhere:8786")
        for n in (1, 4)
    }
    assert plans["threads", 4] == 4 * 100 + (states_held(64, 4) - 4) * 10
    assert plans["processes", 4] - plans["processes", 1] > 3 * INTERPRETER_BYTES
    assert plans[None, 4] == plans[None, 1] == 100 + 6 * 10
    assert plans["tcp://somewhere:8786", 4] == 20
    assert worker_bytes(100, 10) == 110
    assert worker_bytes(100, 40) == 200


@pytest.mark.parametrize(
    "name",
    ["thread", "", "tcp://", "tcp://host", "tcp://host:0", "tcp://host:70000", "http://a:1", 3],
)
def test_schedulers_that_do_not_exist_are_refused(name: Any) -> None:
    with pytest.raises(InvalidInput, match=r"is not one of: threads, processes, tcp://HOST:PORT"):
        reduce_parts(PARTS, Sums(), merge, scheduler=name)


def test_addresses_have_a_host_and_a_port() -> None:
    for address in ("tcp://127.0.0.1:8786", "tcp://node-7.cluster:1", "tcp://[::1]:8786"):
        assert scheduler_named(address).address == address


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "two"])
def test_workers_are_a_whole_number(workers: Any) -> None:
    with pytest.raises(InvalidInput, match="give a whole number of at least 1"):
        reduce_parts(PARTS, Sums(), merge, scheduler="threads", workers=workers)


def test_a_pass_over_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no rows to pass over"):
        reduce_parts([], Sums(), merge)


# On a cluster


def test_without_distributed_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtra, match=r"pip install 'layerlake\[distributed\]'"):
        reduce_parts(PARTS, Sums(), merge, scheduler="tcp://127.0.0.1:8786")


@pytest.mark.parametrize("listening", [False, True], ids=["closed port", "no Dask behind it"])
def test_an_address_that_nobody_answers(
    listening: bool, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_cluster, "ANSWER_SECONDS", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(WorkersFailed, match=f"^no Dask scheduler answers at {address}; start"):
            reduce_parts(PARTS, Sums(), merge, scheduler=address)
    assert capfd.readouterr().err == ""


def test_a_cluster_gives_the_same_bits(cluster: Any, expected: dict[str, Any]) -> None:
    seen: list[Part] = []
    found = reduce_parts(
        PARTS, Sums(), merge, scheduler=cluster.scheduler_address, on_part=seen.append
    )
    check(found, expected)
    assert sorted(seen) == PARTS


def test_a_worker_of_a_cluster_has_one_blas_thread(cluster: Any) -> None:
    found = reduce_parts(PARTS, blas_threads, set.union, scheduler=cluster.scheduler_address)
    assert found == {1}


def test_a_worker_that_dies_over_a_part_changes_nothing(
    cluster: Any, tmp_path: Path, expected: dict[str, Any]
) -> None:
    sums = Sums(die=(11,), once=str(tmp_path / "died"))
    check(reduce_parts(PARTS, sums, merge, scheduler=cluster.scheduler_address), expected)
    assert (tmp_path / "died").exists()


def test_a_worker_killed_with_states_in_it_changes_nothing(
    cluster: Any, expected: dict[str, Any]
) -> None:
    killed: list[int] = []
    seen: list[Part] = []

    def kill_one(part: Part) -> None:
        seen.append(part)
        if len(seen) == 6:
            pids = [worker.process.pid for worker in cluster.workers.values()]
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)

    found = reduce_parts(
        PARTS,
        Sums(seconds=0.03),
        merge,
        scheduler=cluster.scheduler_address,
        on_part=kill_one,
    )
    check(found, expected)
    assert len(killed) == 1
    assert sorted(seen) == PARTS


def test_errors_of_workers_arrive_as_they_are(cluster: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^row 3 is no good$"):
        reduce_parts(PARTS, Sums(fail=(3,)), merge, scheduler=cluster.scheduler_address)


def test_unexpected_errors_of_workers_bring_their_trace(cluster: Any) -> None:
    with pytest.raises(KeyError) as caught:
        reduce_parts(PARTS, broken, merge, scheduler=cluster.scheduler_address)
    assert "in broken" in caught.value.__notes__[0]


def test_a_part_that_kills_every_worker_is_given_up(cluster: Any) -> None:
    address = cluster.scheduler_address
    with pytest.raises(WorkersFailed, match=f"^4 workers of the cluster at {address} died over"):
        reduce_parts(PARTS, Sums(die=(7,)), merge, scheduler=address)


def test_workers_that_may_use_too_little_are_refused(cluster: Any) -> None:
    with pytest.raises(
        MemoryRefused, match=r"^the worker at tcp:.* needs 1.0 TiB .* and may use 1.0 GiB"
    ):
        reduce_parts(PARTS, Sums(), merge, scheduler=cluster.scheduler_address, needed=2**40)


def test_resources_that_no_worker_has_are_refused(cluster: Any) -> None:
    with pytest.raises(WorkersFailed, match=r"has 1 GPU; start some with `dask worker .*GPU=1`"):
        reduce_parts(
            PARTS, Sums(), merge, scheduler=cluster.scheduler_address, resources={"GPU": 1}
        )


def test_the_address_of_a_worker_is_none_of_a_scheduler(cluster: Any) -> None:
    worker = next(iter(cluster.scheduler.workers))
    with pytest.raises(WorkersFailed, match=f"^no Dask scheduler answers at {worker}"):
        reduce_parts(PARTS, Sums(), merge, scheduler=worker)


def test_a_cluster_without_workers_is_told(
    own_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "WORKERLESS_SECONDS", 0.2)
    monkeypatch.setattr(dask_cluster, "LOOK_SECONDS", 0.1)
    with own_cluster(0) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(WorkersFailed, match=f"cluster at {address} has had no worker for 0 s"):
            reduce_parts(PARTS, Sums(), merge, scheduler=address)


def test_a_scheduler_that_goes_away_is_told(own_cluster: Any) -> None:
    with own_cluster(1) as cluster:
        address = cluster.scheduler_address

        def close(part: Part) -> None:
            cluster.close()

        with pytest.raises(WorkersFailed, match=f"^the Dask scheduler at {address} went away"):
            reduce_parts(PARTS, Sums(seconds=0.1), merge, scheduler=address, on_part=close)


class Answering:
    """A client whose workers answer so when they are asked for the version of LayerLake."""

    def __init__(self, *answers: object) -> None:
        self._answers = {f"tcp://10.0.0.{k}:9": answer for k, answer in enumerate(answers)}

    def run(self, *_asked: object, **_how: object) -> dict[str, object]:
        return self._answers

    def scheduler_info(self, **_how: object) -> dict[str, object]:
        return {"workers": {}}


def test_workers_with_another_version_are_refused_and_dying_ones_are_not() -> None:
    here = importlib.metadata.version("layerlake")
    check = partial(dask_cluster.check_workers, address="tcp://10.0.0.9:9", resources={})
    check(Answering(here, ConnectionResetError("closed"), OSError("timed out")))
    with pytest.raises(WorkersFailed, match=r"10\.0\.0\.1:9 has no LayerLake, and this process"):
        check(Answering(here, importlib.metadata.PackageNotFoundError("layerlake")))
    with pytest.raises(WorkersFailed, match=r"has LayerLake 0\.0\.7, and"):
        check(Answering("0.0.7"))
