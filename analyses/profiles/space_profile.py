"""The profile of one space: how its rows are spread, in one pass over them.

Anisotropy is the mean cosine over all pairs of rows, exact from the sum of the unit rows
(Ethayarajh 2019 estimates it from a sample); the participation ratio and the spectrum come from
the covariance.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.profiles.profile_sums import Profile, ProfileSums
from layerlake.analyses.profiles.row_lengths import (
    NORM_BYTES,
)
from layerlake.analyses.statistics.group_jackknife import GROUPS, even_groups
from layerlake.engine.memory import DEFAULT_ALLOWED_BYTES, MemoryPlan, parse_bytes, require
from layerlake.engine.passes.arrays import (
    Array,
)
from layerlake.engine.passes.blocks import Block, SpaceLike
from layerlake.engine.passes.devices import BLOCKS_HELD, spaces_on, working_on
from layerlake.engine.passes.resources import BLOCK_ROWS, Resources
from layerlake.engine.passes.selected_rows import (
    ArraySpace,
    SelectedRows,
    making_bytes,
    value_bytes,
)
from layerlake.engine.passes.shared_pass import SharedPass, as_read
from layerlake.engine.settings import check_confidence
from layerlake.engine.workers.scheduler_names import scheduler_named
from layerlake.engine.workers.schedulers import cut_parts, plan_workers, worker_bytes
from layerlake.store.errors import InvalidInput, is_a

_OBJECTS: Final = 2**17
"""Bytes for what is not an array."""
_FEWEST: Final = 64
"""Rows read at a time at least: fewer would make the products slow, and save little."""


def profile_memory(
    hidden: int, stored_bytes: int, n_rows: int, block_rows: int = BLOCK_ROWS
) -> MemoryPlan:
    """Say what profiling a space holds at its peak.

    Parameters
    ----------
    hidden
        Width of the space.
    stored_bytes
        Bytes of a value as it is read.
    n_rows, block_rows
        Rows selected, and rows read at a time.
    """
    rows = min(block_rows, n_rows)
    return MemoryPlan(
        {
            "block": rows * (hidden * (stored_bytes + 8) + 64),
            "sums": _sums_bytes(hidden),
            "norms": min(NORM_BYTES, 6 * 16 * n_rows),
            "rows": 16 * n_rows,
            "objects": _OBJECTS,
        }
    )


def _sums_bytes(hidden: int) -> int:
    """Return the bytes of the sums over the rows of a space."""
    return 8 * hidden * (2 * hidden + 4 * GROUPS)


def profile_space(
    space: SpaceLike,
    rows: NDArray[np.int64] | None = None,
    clusters: NDArray[Any] | None = None,
    *,
    confidence: float = 0.95,
    block_rows: int | None = None,
    memory: int | str = DEFAULT_ALLOWED_BYTES,
    name: str = "the space",
    on_progress: Callable[[int], None] | None = None,
) -> Profile:
    """Profile a space, reading each row once.

    Parameters
    ----------
    space
        (row, hidden).
    rows
        Ascending indices of the rows to take; by default all.
    clusters
        (row,): what each row taken came from, such as its sentence; equal ids lie side by side.
        Without them there is no interval.
    confidence
        Nominal coverage of the intervals of the anisotropy and the mean length of a row: the
        jackknife over some dozens of groups of clusters (see `statistics.group_jackknife`), on atanh
        and on the logarithm.
    block_rows
        Rows read at a time; by default as many as the memory is enough for, up to 2048.
    memory
        Bytes allowed, or an amount such as `4GiB`.
    name
        What to call the space in messages.
    on_progress
        Called after each block with the number of rows just absorbed.

    Raises
    ------
    InvalidInput
        There are no rows, indices do not ascend within the space, clusters do not fit the rows,
        or a row holds NaN or infinity.
    MemoryRefused
        The pass needs more memory than is allowed; raised before anything is read.
    """
    index = np.arange(space.shape[0]) if rows is None else np.asarray(rows)
    if index.ndim != 1 or (
        len(index) and (index[0] < 0 or index[-1] >= space.shape[0] or (np.diff(index) < 1).any())
    ):
        raise InvalidInput(
            f"rows of {name} are ascending indices from 0 to {space.shape[0] - 1}; sort them and "
            "name each once"
        )
    check_confidence(confidence)
    groups = groups_of(clusters, len(index))
    ids = np.arange(len(index))
    selected = SelectedRows((space,), (index,), (name,), ids, np.append(ids, len(index)))
    (found,) = profile_selected(
        selected,
        groups,
        Resources(parse_bytes(memory)),
        confidence=confidence,
        block_rows=block_rows,
        on_progress=on_progress,
    )
    return found


def profile_selected(
    selected: SelectedRows,
    groups: NDArray[np.int64] | None,
    resources: Resources,
    *,
    confidence: float = 0.95,
    block_rows: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Profile]:
    """Profile several spaces in one pass over the same rows, here or on workers.

    Parameters
    ----------
    selected
        The spaces and their rows.
    groups
        (row,): the group that each row is left out with, from 0 without gaps; None for no interval.
    resources
        Where the pass runs.
    confidence
        Nominal coverage of the intervals.
    block_rows
        Rows read at a time; by default as many as the memory is enough for, up to 2048.
    on_progress
        Called with the rows just gone through, of each space.

    Raises
    ------
    InvalidInput
        A row holds NaN or infinity, or there are no rows.
    MemoryRefused
        The pass needs more memory than is allowed; raised before anything is read.
    WorkersFailed
        Workers are asked for that do not answer.
    """
    plan = plan_pass(selected, resources, block_rows)
    step, n_rows, count = plan.block_rows, selected.n_rows, len(selected.spaces)
    cuts = [(at, min(at + step, n_rows)) for at in range(0, n_rows, step)]
    if not cuts:
        raise InvalidInput("a profile needs at least one row, and there are none")
    sums = [ProfileSums(s, selected.row_names, groups, confidence) for s in range(count)]
    placed = replace(selected, spaces=spaces_on(resources.device, selected.spaces))
    shared: SharedPass[Block] = SharedPass(placed, cuts, resources, needed=plan.worker_bytes)

    def report(rows: int) -> None:
        """Report the rows of every space."""
        if on_progress is not None:
            on_progress(rows * count)

    here = resources.device_bytes if resources.scheduler is None else None
    with working_on(resources.device, here):
        return shared.run(sums, as_read, on_progress=report)


def profile_array(
    rows: Array,
    clusters: NDArray[Any] | None = None,
    *,
    confidence: float = 0.95,
    block_rows: int | None = None,
    memory: int | str = DEFAULT_ALLOWED_BYTES,
    name: str = "the array",
) -> Profile:
    """Profile an array of rows, (row, hidden), of any library and real floating dtype.

    Other parameters and errors as `profile_space`; the memory is beside the array itself.
    """
    if len(rows.shape) != 2:
        raise InvalidInput(f"{name} is of shape {tuple(rows.shape)}; give (row, hidden)")
    return profile_space(
        ArraySpace(rows),
        clusters=clusters,
        confidence=confidence,
        block_rows=block_rows,
        memory=memory,
        name=name,
    )


def groups_of(clusters: NDArray[Any] | None, n_rows: int) -> NDArray[np.int64] | None:
    """Deal the clusters of rows into groups; None where there are none, or only one."""
    if clusters is None:
        return None
    ids = np.asarray(clusters)
    if ids.shape != (n_rows,):
        raise InvalidInput(f"clusters are of shape {ids.shape}; give one for each of {n_rows} rows")
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if n_rows else ids[:0]
    if len(np.unique(ids[starts])) != len(starts):
        raise InvalidInput("rows of one cluster lie apart; sort rows by cluster")
    lengths = np.diff(np.append(starts, n_rows))
    if len(lengths) < 2:
        return None
    return np.repeat(even_groups(lengths), lengths)


class PassPlan(NamedTuple):
    """How a pass that profiles spaces is made."""

    block_rows: int
    """Rows read at a time."""
    memory: MemoryPlan
    """What this machine holds."""
    worker_bytes: int
    """Bytes that a worker of a cluster needs; 0 where the pass runs here."""

    @property
    def needed(self) -> int:
        """Bytes that the machine needs that needs most."""
        return max(self.memory.needed, self.worker_bytes)


def plan_pass(
    selected: SelectedRows, resources: Resources, block_rows: int | None = None
) -> PassPlan:
    """Choose the rows to read at a time, and say what a pass over the spaces holds then.

    Parameters
    ----------
    selected, resources
        As `profile_selected`; on a cluster the memory allowed is that of each worker, too.
    block_rows
        As asked for, None for as many as fit.

    Raises
    ------
    InvalidInput
        The rows asked for are no whole number above 0.
    MemoryRefused
        The pass needs more than is allowed.
    """
    what = f"profiling {selected.n_rows} rows of {', '.join(selected.names)}"
    advice = "allow more memory, or take fewer rows"
    if block_rows is not None:
        if not is_a(block_rows, int, np.integer) or block_rows < 1:
            raise InvalidInput(f"block_rows is {block_rows!r}; give a whole number from 1")
        step, advice = int(block_rows), "allow more memory, or give a lower block_rows"
    else:
        step = BLOCK_ROWS
        while step > _FEWEST and _planned(selected, resources, step).needed > resources.allowed:
            step //= 2
    plan = _planned(selected, resources, step)
    require(plan.needed, resources.allowed, what, advice)
    return plan


def _planned(selected: SelectedRows, resources: Resources, block_rows: int) -> PassPlan:
    """Say what a pass over several spaces holds in blocks of so many rows."""
    n_rows = selected.n_rows
    parts: dict[str, int] = {}
    state = 0
    for space in selected.spaces:
        hidden, stored = space.shape[1], value_bytes(space)
        for name, held in profile_memory(hidden, stored, n_rows, block_rows).parts.items():
            parts[name] = parts.get(name, 0) + held
        if resources.device.kind != "cpu":
            ahead = (BLOCKS_HELD - 1) * min(block_rows, n_rows) * hidden * stored
            parts["blocks fetched ahead"] = parts.get("blocks fetched ahead", 0) + ahead
        state += _sums_bytes(hidden) + min(NORM_BYTES, 6 * 16 * n_rows)
    parts["making rows"] = making_bytes(selected.spaces)
    alone = MemoryPlan(parts)
    if resources.scheduler is None:
        return PassPlan(block_rows, alone, 0)
    n_parts = len(cut_parts([(at, at + 1) for at in range(-(-n_rows // block_rows))]))
    here = plan_workers(
        alone.needed,
        state,
        scheduler=resources.scheduler,
        workers=resources.workers,
        parts=max(n_parts, 1),
    )
    on_cluster = scheduler_named(resources.scheduler).kind == "cluster"
    return PassPlan(block_rows, here, worker_bytes(alone.needed, state) if on_cluster else 0)
