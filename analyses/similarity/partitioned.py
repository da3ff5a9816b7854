"""A similarity pass shared by workers: each reads and prepares its own blocks of every space."""

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.preparation import Preparation, Prepared
from layerlake.engine.passes.blocks import Accumulator, SpaceLike, expect_blocks, read_blocks
from layerlake.engine.passes.devices import CPU, Device, spaces_apart, working_on
from layerlake.engine.workers.schedulers import Cut, Part, cut_parts, reduce_parts

T = TypeVar("T")
_Accumulators = tuple[Accumulator[Prepared, Any, Any], ...]


class _PartState(NamedTuple):
    """What a part of a pass comes to."""

    states: tuple[Any, ...]  # of each accumulator
    dropped: list[NDArray[np.int64]]  # positions of rows that a kernel cannot take


@dataclass(frozen=True, slots=True)
class _RowNames:
    """Names rows for messages; unlike a method of a group it can be sent to workers alone."""

    rows: tuple[NDArray[np.int64], ...]
    names: tuple[str, ...]

    def __call__(self, space: int, position: int) -> str:
        """Name a row of a space."""
        return f"row {self.rows[space][position]} of {self.names[space]}"


@dataclass(frozen=True, slots=True)
class _Summarise:
    """Turns a part of a pass into the states of its accumulators."""

    spaces: tuple[SpaceLike, ...]
    rows: tuple[NDArray[np.int64], ...]
    preparation: Preparation
    accumulators: _Accumulators
    device: Device
    device_bytes: int | None

    def __call__(self, part: Part) -> _PartState:
        """Read and absorb the blocks of a part."""
        with working_on(self.device, self.device_bytes):
            return self._absorbed(part)

    def _absorbed(self, part: Part) -> _PartState:
        """Read and absorb the blocks of a part, where it is worked on."""
        dropped: list[NDArray[np.int64]] = []
        preparation = dataclasses.replace(self.preparation, on_dropped=dropped.append)
        states = [accumulator.start() for accumulator in self.accumulators]
        spaces = spaces_apart(self.spaces)
        expect_blocks(spaces, self.rows, part)
        for block in read_blocks(spaces, self.rows, part):
            prepared = preparation(block)
            del block
            for k, accumulator in enumerate(self.accumulators):
                states[k] = accumulator.update(states[k], prepared)
            del prepared
        return _PartState(tuple(states), dropped)


@dataclass(frozen=True, slots=True)
class _Finish:
    """Turns a part of a pass into a list of what its one accumulator comes to."""

    summarise: _Summarise
    finish: Callable[[Any], Any]

    def __call__(self, part: Part) -> list[Any]:
        """Read, absorb and finish the blocks of a part."""
        (accumulator,) = self.summarise.accumulators
        return [self.finish(accumulator.finish(self.summarise(part).states[0]))]


@dataclass(frozen=True, slots=True)
class _Merge:
    """Merges the states of neighbouring parts."""

    accumulators: _Accumulators

    def __call__(self, left: _PartState, right: _PartState) -> _PartState:
        """Merge the states of each accumulator."""
        states = [
            accumulator.merge(*both)
            for accumulator, *both in zip(self.accumulators, left.states, right.states, strict=True)
        ]
        return _PartState(tuple(states), left.dropped + right.dropped)


def run_partitioned(
    spaces: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    names: Sequence[str],
    cuts: Sequence[Cut],
    preparation: Preparation,
    accumulators: Sequence[Accumulator[Prepared, Any, Any]],
    *,
    scheduler: str | None,
    workers: int | None = None,
    needed: int = 0,
    device: Device = CPU,
    device_bytes: int | None = None,
    resources: Mapping[str, float] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Any]:
    """Feed every block to every accumulator, on workers, and return what each finishes with.

    What `run_pass` does with prepared blocks, in parts that any worker may take; the answer differs
    from that of a loop by the order in which float64 sums are added.

    Parameters
    ----------
    spaces, rows, names
        What is read, `rows[k]` of space k, and what messages call it. For processes and clusters
        the spaces are pickled.
    cuts
        The blocks, in order.
    preparation
        Prepares them; its `on_dropped` is called here, with the positions of each part in order,
        once the pass is over.
    accumulators
        The statistics that share the pass.
    scheduler, workers, needed, resources
        As `engine.workers.schedulers.reduce_parts`.
    device, device_bytes
        Where the arrays of the spaces lie, and the memory that each worker may use of it; as
        `engine.passes.devices.working_on`. Workers of a cluster that see several devices see them under
        the numbers that they have there.
    on_progress
        Called in this thread with the rows of each part that is done.

    Raises
    ------
    InvalidInput, MemoryRefused, MissingExtra, WorkersFailed
        As `reduce_parts`, and what preparing and reading raise.
    """
    slim = dataclasses.replace(
        preparation, describe=_RowNames(tuple(rows), tuple(names)), on_dropped=None
    )

    def report(part: Part) -> None:
        """Tell how many rows a part held."""
        if on_progress is not None:
            on_progress(sum(stop - start for start, stop in part))

    found = reduce_parts(
        cut_parts(cuts),
        _Summarise(tuple(spaces), tuple(rows), slim, tuple(accumulators), device, device_bytes),
        _Merge(tuple(accumulators)),
        scheduler=scheduler,
        workers=workers,
        needed=needed,
        resources=resources,
        on_part=report,
    )
    if preparation.on_dropped is not None:
        for positions in found.dropped:
            preparation.on_dropped(positions)
    return [
        accumulator.finish(state)
        for accumulator, state in zip(accumulators, found.states, strict=True)
    ]


def run_apart(
    spaces: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    names: Sequence[str],
    parts: Sequence[Part],
    preparation: Preparation,
    accumulator: Accumulator[Prepared, Any, Any],
    finish: Callable[[Any], T],
    *,
    scheduler: str | None,
    workers: int | None = None,
    needed: int = 0,
    device: Device = CPU,
    device_bytes: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[T]:
    """Feed the blocks of each part to an accumulator of its own, on workers.

    Parameters
    ----------
    spaces, rows, names, preparation, scheduler, workers, needed, device, device_bytes
        As `run_partitioned`; nobody is told of rows that are dropped.
    parts
        The blocks of each part, in order.
    accumulator
        What sums a part.
    finish
        Makes of what the accumulator finished with what is returned, there where the part was
        summed; for processes and clusters it is pickled.
    on_progress
        Called in this thread with the rows of each part that is done.

    Returns
    -------
    What became of each part, in order.

    Raises
    ------
    InvalidInput, MemoryRefused, MissingExtra, WorkersFailed
        As `run_partitioned`.
    """
    slim = dataclasses.replace(
        preparation, describe=_RowNames(tuple(rows), tuple(names)), on_dropped=None
    )

    def report(part: Part) -> None:
        """Tell how many rows a part held."""
        if on_progress is not None:
            on_progress(sum(stop - start for start, stop in part))

    summarise = _Summarise(tuple(spaces), tuple(rows), slim, (accumulator,), device, device_bytes)
    found: list[T] = reduce_parts(
        parts,
        _Finish(summarise, finish),
        operator.add,
        scheduler=scheduler,
        workers=workers,
        needed=needed,
        on_part=report,
    )
    return found
