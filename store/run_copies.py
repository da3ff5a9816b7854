"""Runs of consecutive rows in any order: what to copy from where, planned once for many spaces."""

from __future__ import annotations

import itertools
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
    outs: NDArray[np.int64],
    places: NDArray[np.int64],
    *,
    step: int,
    row_bytes: int,
) -> RunCopies:
    """Plan the copies of runs of rows, in ascending order of their rows.

    Parameters
    ----------
    starts, counts
        (run,): the rows of run i are [starts[i], starts[i] + counts[i]).
    outs, places
        (run,): the array that run i is written to, and the row of it where the run begins.
    step
        Rows of a group; a run may reach over several.
    row_bytes
        Bytes of a row.
    """
    order = np.argsort(starts, kind="stable")
    order = order[counts[order] > 0]
    starts, counts, outs, places = starts[order], counts[order], outs[order], places[order]
    first, last = starts // step, (starts + counts - 1) // step
    run = np.repeat(np.arange(len(starts)), last - first + 1)
    group = runs(first, last - first + 1)
    low = np.maximum(starts[run], group * step)
    high = np.minimum((starts + counts)[run], (group + 1) * step)
    # A run of several groups comes before others of its first group: sort the parts once more.
    order = np.argsort(group, kind="stable")
    run, group, low, high = run[order], group[order], low[order], high[order]
    to = (places[run] + low - starts[run]) * row_bytes
    of = (low - group * step) * row_bytes
    size = (high - low) * row_bytes
    copies = [
        (out, slice(a, a + n), slice(b, b + n))
        for out, a, b, n in zip(
            outs[run].tolist(), to.tolist(), of.tolist(), size.tolist(), strict=True
        )
    ]
    numbers, begins = np.unique(group, return_index=True)
    bounds = [*begins.tolist(), len(copies)]
    groups = (
        (number, tuple(copies[a:b]))
        for number, (a, b) in zip(numbers.tolist(), itertools.pairwise(bounds), strict=True)
    )
    return RunCopies(step, tuple(groups))
