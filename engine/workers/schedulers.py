"""The parts of a pass, spread over workers, and their states merged into one.

A pass is cut into parts, each a run of blocks. A function turns a part into a state, here or on a
worker, and neighbouring states are merged in pairs: 0 with 1, 2 with 3, then those two, and so on.
Neither the parts nor the pairs depend on the workers, so every number is summed up in the same
order with one worker or many, whichever is done first and whichever dies. The last digits of a
state are those of the BLAS that made it: another BLAS, another kind of processor or, under the
scheduler None, another number of threads may round its products differently.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Final, TypeAlias, TypeVar

from layerlake.engine.memory import MemoryPlan
from layerlake.engine.workers.local_workers import AHEAD, finished_parts
from layerlake.engine.workers.merging import Merging
from layerlake.engine.workers.scheduler_names import scheduler_named, workers_here
from layerlake.store.errors import InvalidInput

S = TypeVar("S")

Cut: TypeAlias = tuple[int, int]
"""A block of rows: the first one, and the one after the last."""
Part: TypeAlias = Sequence[Cut]
"""Blocks that follow one another."""

MOST_PARTS: Final = 64
"""Parts of a long pass: enough for many workers to end at about the same time."""
ENOUGH_PARTS: Final = 16
"""Parts of a pass too short for more: states of long parts are merged, and sent, less often."""
BLOCKS_OF_A_PART: Final = 4
"""Blocks of a part, if that leaves enough parts."""
INTERPRETER_BYTES: Final = 96 * 2**20
"""What a worker process holds before it has read a row."""


def cut_parts(cuts: Sequence[Cut], most: int | None = None) -> list[list[Cut]]:
    """Cut blocks into at most so many parts of about as many rows each.

    Parameters
    ----------
    cuts
        Blocks in order.
    most
        Most parts; by default 16 to 64, as many as there are blocks for.

    Returns
    -------
    list of list of cuts
        Together all blocks, in order; none is empty.
    """
    if most is None:
        most = min(max(len(cuts) // BLOCKS_OF_A_PART, ENOUGH_PARTS), MOST_PARTS)
    if most < 1:
        raise InvalidInput(f"a pass cannot be cut into {most} parts; give at least 1")
    total = sum(stop - start for start, stop in cuts)
    parts: list[list[Cut]] = []
    seen = last = 0
    for start, stop in cuts:
        # A block belongs to the part in which its middle row lies.
        number = (2 * seen + stop - start) * most // (2 * total) if total else 0
        if not parts or number != last:
            parts.append([])
            last = number
        parts[-1].append((start, stop))
        seen += stop - start
    return parts


def reduce_parts(
    parts: Sequence[Part],
    summarise: Callable[[Part], S],
    merge: Callable[[S, S], S],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    needed: int = 0,
    resources: Mapping[str, float] | None = None,
    on_part: Callable[[Part], None] | None = None,
) -> S:
    """Turn every part into a state, wherever the scheduler says, and merge the states.

    Parameters
    ----------
    parts
        At least one.
    summarise
        Turns a part into its state. For other processes it is pickled and must mean the same
        there: spaces that open their lake by its location do. Threads share it.
    merge
        Merges the states of neighbouring parts, the earlier one first, and may use up both.
    scheduler
        As `scheduler_named`. Threads and processes have one BLAS thread each, and so has whatever
        a cluster runs. A process that dies is replaced and its part summarised again.
    workers
        Threads or processes; by default one for each core that this process may use. A cluster has
        those that it has.
    needed
        Bytes that a worker needs for one part at a time. Workers of a cluster that are allowed
        less are refused.
    resources
        What a part takes of the abstract resources that the workers of a cluster were started
        with, such as {"GPU": 1}.
    on_part
        Called in this thread with each part whose state is done.

    Returns
    -------
    The merged state. In this process at most `states_held` states lie at a time.

    Raises
    ------
    InvalidInput
        No such scheduler, no such number of workers, or nothing that can be sent to workers.
    MissingExtra
        A cluster is asked for and `distributed` is not installed.
    MemoryRefused
        A worker of the cluster is allowed less than `needed`.
    WorkersFailed
        Nobody answers at the address, the cluster has no workers, or a part killed several.
    """
    chosen = scheduler_named(scheduler)
    count = workers_here(workers)  # checked even where a cluster has its own
    report = on_part or (lambda part: None)
    if not parts:
        raise InvalidInput("there are no rows to pass over; select some")
    if chosen.kind == "cluster":
        from layerlake.engine.workers.dask_cluster import reduce_on_cluster

        return reduce_on_cluster(
            chosen.address, parts, summarise, merge, needed, resources or {}, report
        )
    merging = Merging(len(parts), merge)
    finished: Generator[tuple[int, S], None, None]
    if chosen.kind == "loop":
        finished = ((number, summarise(part)) for number, part in enumerate(parts))
    else:
        finished = finished_parts(parts, summarise, min(count, len(parts)), kind=chosen.kind)
    with closing(finished):  # workers end before this returns, whatever happens
        for number, state in finished:
            merging.add(number, state)
            del state
            report(parts[number])
    return merging.whole()


def states_held(parts: int, workers: int) -> int:
    """Return the most states that lie in this process while threads or processes work.

    Parameters
    ----------
    parts, workers
        How many.
    """
    return min(parts, AHEAD * workers + math.ceil(math.log2(parts)) + 1)


def plan_workers(
    one: int, state: int, *, scheduler: str | None, workers: int | None, parts: int
) -> MemoryPlan:
    """Say what this machine holds while workers share a pass.

    Parameters
    ----------
    one
        Bytes that the pass needs where one worker runs it: its state, and a block.
    state
        Bytes of the state.
    scheduler, workers
        As `reduce_parts`.
    parts
        How many parts there are.

    Returns
    -------
    MemoryPlan
        Of this process and the processes that it starts; each worker needs what one alone would.
        A worker of a cluster, on whichever machine, needs `worker_bytes` for each of its threads.
    """
    kind = scheduler_named(scheduler).kind
    if kind == "cluster":
        return MemoryPlan({"merged state": 2 * state})
    count = min(workers_here(workers), parts) if kind != "loop" else 1
    held = states_held(parts, count) if kind != "loop" else math.ceil(math.log2(parts)) + 1
    plan = {"workers": count * one, "states": max(held - count, 0) * state}
    if kind == "processes":
        plan["states"] = held * state
        plan["messages"] = 2 * count * state  # a state is pickled there and unpickled here
        plan["interpreters"] = count * INTERPRETER_BYTES
    return MemoryPlan(plan)


def worker_bytes(one: int, state: int) -> int:
    """Return the bytes that a thread of a cluster's worker needs; parameters as `plan_workers`.

    A part is summarised and its state pickled; two pickled states are read, merged and pickled.
    """
    return max(one + state, 5 * state)
