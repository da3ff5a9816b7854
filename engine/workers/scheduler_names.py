"""The names of schedulers, and how many workers this machine has room for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from layerlake.store.errors import InvalidInput, is_a


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Where the parts of a pass run."""

    kind: str
    """`loop`, `threads`, `processes` or `cluster`."""
    address: str = ""
    """Of a cluster: tcp://HOST:PORT."""


def scheduler_named(name: str | None) -> Scheduler:
    """Return the scheduler of a name.

    Parameters
    ----------
    name
        None (one part after another, in this process), `threads`, `processes`, or the address of a
        Dask scheduler, `tcp://HOST:PORT`.

    Raises
    ------
    InvalidInput
        The name is none of these.
    """
    if name is None:
        return Scheduler("loop")
    if is_a(name, str):
        if name in ("threads", "processes"):
            return Scheduler(name)
        matched = re.fullmatch(r"tcp://(?:\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})", name)
        if matched and 0 < int(matched[1]) < 2**16:
            return Scheduler("cluster", name)
    raise InvalidInput(
        f"scheduler {name!r} is not one of: threads, processes, tcp://HOST:PORT (the address of a "
        "Dask scheduler)"
    )


def workers_here(workers: int | None) -> int:
    """Return how many workers to use on this machine: as many as asked for, or one a core.

    Raises
    ------
    InvalidInput
        It is not a whole number above 0.
    """
    if workers is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if not is_a(workers, int) or is_a(workers, bool) or workers < 1:
        raise InvalidInput(f"workers is {workers!r}; give a whole number of at least 1")
    return workers
