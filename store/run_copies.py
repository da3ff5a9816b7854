"""Runs of consecutive rows in any order: what to copy from where, planned once for many spaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlake.store.row_sets import runs

Copy = tuple[int, slice, slice]
"""Number of the array to write, bytes of it, and bytes of the group that they are copied from."""


@dataclass(frozen=True)
class RunCopies:
    """The copies that gather runs of rows, group by group of the rows as they are stored.

    Python's slices are made once and serve every layer, which is what makes short runs quick.
    """

    step: int
    """Rows of a group."""
    groups: tuple[tuple[int, tuple[Copy, ...]], ...]
    """Number of each group that is read, ascending, and what is copied from it."""


def plan_copies(
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    places: NDArray[np.int64],
    outs: NDArray[np.int64],
    *,
    step: int,
    row_bytes: int,
    apart: bool = False,
) -> list[RunCopies]:
    """Plan the copies of runs of rows into arrays.

    Parameters
    ----------
    starts, counts
        (run,): the rows of run i are [starts[i], starts[i] + counts[i]), one or more.
    places, outs
        (run,): the row where run i begins in the array that it is written to, and the number of
        that array: 0, 1, ..., never falling.
    step
        Rows of a group; a run may reach over several.
    row_bytes
        Bytes of a row.
    apart
        Whether to plan each array by itself, as number 0 of a plan of its own. A group that
        several arrays have rows of is then read for each of them.

    Returns
    -------
    list of RunCopies
        One plan, or with `apart` one for each array.
    """
    first, last = starts // step, (starts + counts - 1) // step
    run = np.repeat(np.arange(len(starts)), last - first + 1)
    group = runs(first, last - first + 1)
    low = np.maximum(starts[run], group * step)
    n_plans = int(outs[-1]) + 1 if apart and len(outs) else 1
    plan = outs[run] if apart else np.zeros(len(run), np.int64)
    order = np.lexsort((low, group, plan))
    run, group, low, plan = run[order], group[order], low[order], plan[order]
    high = np.minimum((starts + counts)[run], (group + 1) * step)
    to = (places[run] + low - starts[run]) * row_bytes
    of = (low - group * step) * row_bytes
    size = (high - low) * row_bytes
    to_stop, of_stop = (to + size).tolist(), (of + size).tolist()
    to_slices = map(slice, to.tolist(), to_stop)
    of_slices = map(slice, of.tolist(), of_stop)
    numbers = (outs[run] - plan).tolist()
    copies = list(zip(numbers, to_slices, of_slices, strict=True))
    changes = np.flatnonzero((np.diff(group) != 0) | (np.diff(plan) != 0)) + 1
    bounds = [0, *changes.tolist(), len(copies)] if copies else [0]
    found: list[list[tuple[int, tuple[Copy, ...]]]] = [[] for _ in range(n_plans)]
    heads = np.asarray(bounds[:-1], np.int64)
    for number, of_plan, a, b in zip(
        group[heads].tolist(), plan[heads].tolist(), bounds[:-1], bounds[1:], strict=True
    ):
        found[of_plan].append((number, tuple(copies[a:b])))
    return [RunCopies(step, tuple(groups)) for groups in found]
