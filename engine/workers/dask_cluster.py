"""The parts of a pass on a Dask cluster: summarised by its workers, and merged by them in a tree."""

import contextlib
import importlib.metadata
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from uuid import uuid4

from layerlake.engine.memory import format_bytes
from layerlake.engine.workers.blas_threads import one_blas_thread
from layerlake.engine.workers.merging import pairs_of_level
from layerlake.engine.workers.worker_process import packed, packed_error, unpacked
from layerlake.store.errors import MemoryRefused, MissingExtra, WorkersFailed

P = TypeVar("P")
S = TypeVar("S")

ANSWER_SECONDS: Final = 5.0
"""How long an address may take to answer."""
WORKERLESS_SECONDS: Final = 30.0
"""How long a cluster may have no worker: adaptive ones start theirs once there is work."""
LOOK_SECONDS: Final = 1.0
"""Between two looks at whether any worker is left."""


def reduce_on_cluster(
    address: str,
    parts: Sequence[P],
    summarise: Callable[[P], S],
    merge: Callable[[S, S], S],
    needed: int,
    resources: Mapping[str, float],
    on_part: Callable[[P], None],
) -> S:
    """Return the merged state of all parts; parameters and errors as `schedulers.reduce_parts`.

    States travel and lie pickled: a merge works on copies that are its own, so it may be run again
    over the same states after a worker has died, and the cluster knows how large they are.
    """
    functions = packed(summarise, "the work"), packed(merge, "the work")
    with connected(address) as client:
        check_workers(client, address, resources)
        whole, ticks = _graph(functions, parts, needed, resources)
        # Large graphs are warned of, and the rows chosen of a large corpus are large.
        with _setting("distributed.admin.large-graph-warning-threshold", "1TiB"):
            futures = client.compute([whole, *ticks], optimize_graph=False)
        numbers = {future.key: number for number, future in enumerate(futures[1:])}
        for future in _as_done(client, address, futures):
            if future.key in numbers:
                on_part(parts[numbers[future.key]])
        content: bytes = _result(futures[0], address)
    state: S = unpacked(content)
    return state


@contextmanager
def _setting(name: str, value: object) -> Iterator[None]:
    """Hold a setting of Dask to a value."""
    import dask

    with dask.config.set({name: value}):
        yield


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a scheduler; what was computed there is forgotten in the end."""
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtra(
            "a Dask cluster needs distributed, which is not installed; install it with: "
            "pip install 'layerlake[distributed]'"
        ) from error
    try:
        _identity(address)
        client: Any = Client(  # type: ignore[no-untyped-call]
            address, timeout=ANSWER_SECONDS, set_as_default=False
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise WorkersFailed(
            f"no Dask scheduler answers at {address}; start one with `dask scheduler` and give the "
            "address that it prints"
        ) from error
    with client:
        yield client


def _identity(address: str) -> None:
    """Ask a scheduler who it is: a client waits for ever where something else listens.

    Raises
    ------
    OSError, TimeoutError, ValueError
        Nobody answers in time, or not a scheduler.
    """
    import asyncio

    from distributed import rpc

    async def ask() -> Any:
        """Return what is said at the address."""
        async with asyncio.timeout(ANSWER_SECONDS):
            async with rpc(address) as there:  # type: ignore[no-untyped-call]
                return await there.identity()

    # A thread of its own, since a notebook's has a loop that runs.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(asyncio.run, ask()).result()
    if found.get("type") != "Scheduler":
        raise ValueError(f"a {found.get('type')} answers")


def check_workers(client: Any, address: str, resources: Mapping[str, float]) -> None:
    """Refuse workers on which the work cannot run, as far as they are there yet."""
    here = importlib.metadata.version("layerlake")
    versions = client.run(importlib.metadata.version, "layerlake", on_error="return")
    for worker, version in versions.items():
        lacking = isinstance(version, importlib.metadata.PackageNotFoundError)
        if isinstance(version, Exception) and not lacking:
            continue  # it is dying or dead, and whoever takes its place will say
        if version != here:
            found = "no LayerLake" if lacking else f"LayerLake {version}"
            raise WorkersFailed(
                f"the worker at {worker} has {found}, and this process {here}; install the same "
                "version on every worker"
            )
    workers = client.scheduler_info(n_workers=-1)["workers"]
    for name, amount in resources.items():
        if workers and all(w["resources"].get(name, 0) < amount for w in workers.values()):
            raise WorkersFailed(
                f"no worker of the cluster at {address} has {amount:g} {name}; start some with "
                f"`dask worker {address} --resources {name}={amount:g}`"
            )


def _graph(
    functions: tuple[bytes, bytes],
    parts: Sequence[Any],
    needed: int,
    resources: Mapping[str, float],
) -> tuple[Any, list[Any]]:
    """Return the pickled state of all parts, and a tick for each part, as delayed values.

    Nobody waits for the states themselves, so each goes as soon as it is merged.
    """
    from dask.base import annotate
    from dask.delayed import delayed

    run = uuid4().hex[:12]

    def task(function: Callable[..., Any], name: str, *inputs: Any) -> Any:
        """Return a task with a name of this run."""
        return delayed(function, pure=False)(*inputs, dask_key_name=f"{name}-{run}")

    # As tasks of their own the functions are sent to each worker once, and again where they were
    # lost with one.
    summarise = task(_kept, "layerlake-summarise", functions[0])
    merge = task(_kept, "layerlake-merge", functions[1])
    with annotate(resources=dict(resources)) if resources else contextlib.nullcontext():
        states = [
            task(_summarised, f"layerlake-part-{number}", summarise, part, needed)
            for number, part in enumerate(parts)
        ]
    ticks = [task(_tick, f"layerlake-tick-{number}", state) for number, state in enumerate(states)]
    level = 0
    while len(states) > 1:
        with annotate(resources=dict(resources)) if resources else contextlib.nullcontext():
            states = [
                task(_merged, f"layerlake-merged-{level}-{k}", merge, *(states[n] for n in pair))
                if len(pair) == 2
                else states[pair[0]]
                for k, pair in enumerate(pairs_of_level(len(states)))
            ]
        level += 1
    return states[0], ticks


def _kept(content: bytes) -> bytes:
    """Return a pickled function."""
    return content


class _Carried(Exception):
    """An error of ours on its way: the cluster's own pickles lose those of some kinds."""

    def __str__(self) -> str:
        return "an error on a worker"


def _packed_answer(function: bytes, *inputs: Any) -> bytes:
    """Return the pickled answer of a pickled function that has one BLAS thread."""
    try:
        call = unpacked(function)  # first, since it loads the libraries that are to be held
        with one_blas_thread():
            return packed(call(*inputs), "the state of a part")
    except Exception as error:  # noqa: BLE001 - raised by whoever asked
        content = packed_error(error)
    raise _Carried(content)


def _summarised(summarise: bytes, part: Any, needed: int) -> bytes:
    """Return the pickled state of a part; runs on a worker."""
    _require_memory(needed)
    return _packed_answer(summarise, part)


def _require_memory(needed: int) -> None:
    """Refuse a worker that may use less than each of its threads needs."""
    from distributed import get_worker

    worker = get_worker()
    limit, threads = worker.memory_manager.memory_limit, worker.state.nthreads
    if limit and threads * needed > limit:
        refused = MemoryRefused(
            f"the worker at {worker.address} needs {format_bytes(threads * needed)} "
            f"({threads * needed} bytes) of memory for its {threads} threads and may use "
            f"{format_bytes(limit)} ({limit} bytes); start it with more memory or fewer threads, "
            "or read fewer rows at a time"
        )
        raise _Carried(packed_error(refused))


def _merged(merge: bytes, left: bytes, right: bytes) -> bytes:
    """Return the pickled state of two neighbours; runs on a worker."""
    return _packed_answer(merge, unpacked(left), unpacked(right))


def _tick(state: bytes) -> None:
    """Say that a state is there."""


def _as_done(client: Any, address: str, futures: Sequence[Any]) -> Iterator[Any]:
    """Yield futures as they are done; raise where one failed, or no worker is left to do them."""
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(done.put)
    left, workerless = len(futures), 0.0
    while left:
        try:
            future = done.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            workerless = 0.0 if _has_workers(client, address) else workerless + LOOK_SECONDS
            if workerless >= WORKERLESS_SECONDS:
                raise WorkersFailed(
                    f"the Dask cluster at {address} has had no worker for "
                    f"{WORKERLESS_SECONDS:.0f} s; start one with `dask worker {address}`"
                ) from None
            continue
        if future.status != "finished":
            _result(future, address)
        left -= 1
        yield future


def _has_workers(client: Any, address: str) -> bool:
    """Ask the scheduler whether it has any worker."""
    try:
        return bool(client.nthreads())
    except (OSError, TimeoutError, RuntimeError) as error:
        raise scheduler_gone(address) from error


def scheduler_gone(address: str) -> WorkersFailed:
    """Return the error that says that the scheduler has gone."""
    return WorkersFailed(f"the Dask scheduler at {address} went away; start it, and this, again")


def _result(future: Any, address: str) -> Any:
    """Return what a future holds, or raise what became of it."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except _Carried as carried:
        error: BaseException = unpacked(carried.args[0])[1]
        raise error from None
    except KilledWorker as error:
        raise WorkersFailed(
            f"{error.allowed_failures + 1} workers of the cluster at {address} died over the same "
            "rows, as happens where memory runs out; give workers more memory or fewer threads, or "
            "read fewer rows at a time"
        ) from error
    except CancelledError as error:
        raise scheduler_gone(address) from error
