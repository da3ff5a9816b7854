"""Passes over the same rows of several spaces, for any accumulators, wherever they run.

Without a scheduler the blocks are read in a loop, and may be kept for the next pass. With one they
are divided into parts that any worker may take: threads, processes, or the workers of a Dask
cluster. The answer then differs from that of the loop by the order in which float64 sums are added.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.passes.blocks import (
    Accumulator,
    Block,
    expect_blocks,
    read_blocks,
    run_pass,
)
from layerlake.engine.passes.devices import spaces_apart, working_on
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import SelectedRows
from layerlake.engine.workers.schedulers import Cut, Part, cut_parts, reduce_parts

T = TypeVar("T")
P = TypeVar("P", bound="PreparedBlock")

OnDropped = Callable[[NDArray[np.int64]], None]
"""Called with the positions of rows that were left out; the same ones may come again."""
OnProgress = Callable[[int], None]
"""Called in the calling thread with the rows just gone through."""


class PreparedBlock(Protocol):
    """A block as accumulators take it: as it was read, or what a preparation made of it."""

    @property
    def start(self) -> int:
        """Position of the first row in the selection."""
        ...

    @property
    def stop(self) -> int:
        """Position after the last row in the selection."""
        ...

    @property
    def dropped(self) -> NDArray[np.int64]:
        """Positions in the selection of rows that were left out."""
        ...

    @property
    def n_bytes(self) -> int:
        """Bytes that the block takes."""
        ...


def as_read(block: Block) -> Block:
    """Return a block as it is: the preparation of accumulators that take rows as stored."""
    return block


class SharedPass(Generic[P]):
    """Passes over the blocks of a selection, each block read and prepared once for all accumulators.

    Parameters
    ----------
    selected
        The spaces and their rows. For processes and clusters they are pickled, and so are the
        preparation and the accumulators.
    cuts
        The blocks, in order.
    resources
        Where passes run.
    needed
        Bytes that a worker of a cluster needs for one part at a time.
    cache_bytes
        Most bytes of prepared blocks kept between passes of a loop; None keeps every block.
    """

    def __init__(
        self,
        selected: SelectedRows,
        cuts: Sequence[Cut],
        resources: Resources,
        *,
        needed: int = 0,
        cache_bytes: int | None = 0,
    ) -> None:
        """Start with nothing kept."""
        self.selected, self.cuts, self.resources = selected, cuts, resources
        self._needed, self._cache_bytes = needed, cache_bytes
        self._kept: dict[Cut, P] = {}
        self._kept_bytes = 0

    def drop(self) -> None:
        """Give up the blocks that are kept: their preparation has changed."""
        self._kept.clear()
        self._kept_bytes = 0

    def run(
        self,
        accumulators: Sequence[Accumulator[P, Any, Any]],
        prepare: Callable[[Block], P],
        *,
        cuts: Sequence[Cut] | None = None,
        keep: bool = False,
        on_dropped: OnDropped | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[Any]:
        """Feed every block to every accumulator and return what each finishes with.

        Parameters
        ----------
        accumulators
            The statistics that share the pass.
        prepare
            Turns a block into what the accumulators take; `as_read` where that is the block.
        cuts
            Other blocks than those of the pass, in order.
        keep
            Keep prepared blocks for the next pass.
        on_dropped, on_progress
            See `OnDropped` and `OnProgress`.

        Raises
        ------
        InvalidInput, MemoryRefused, MissingExtra, WorkersFailed
            As `reduce_parts`, and what reading, preparing and accumulating raise.
        """
        if self.resources.scheduler is not None:
            parts = cut_parts(self.cuts if cuts is None else cuts)
            return run_in_parts(
                self.selected,
                parts,
                self.resources,
                accumulators,
                prepare,
                needed=self._needed,
                on_dropped=on_dropped,
                on_progress=on_progress,
            )

        def done(block: P) -> None:
            """Report a block that all accumulators have absorbed."""
            if on_dropped is not None and len(block.dropped):
                on_dropped(block.dropped)
            if on_progress is not None:
                on_progress(block.stop - block.start)

        return run_pass(self._prepared(prepare, cuts, keep=keep), accumulators, done)

    def each_part(
        self,
        parts: Sequence[Part],
        accumulator: Accumulator[P, Any, Any],
        finish: Callable[[Any], T],
        prepare: Callable[[Block], P],
        on_progress: OnProgress | None = None,
    ) -> Iterator[T]:
        """Feed the blocks of each part to an accumulator of its own; yield a value for each.

        `finish` makes the value of what the accumulator finished with, there where the part was
        summed. Dropped rows are not reported. Errors as `run`.
        """
        if self.resources.scheduler is None:
            for cuts in parts:
                (found,) = self.run([accumulator], prepare, cuts=cuts, on_progress=on_progress)
                yield finish(found)
            return
        summarise = _Summarise(self.selected, prepare, (accumulator,), self.resources)
        yield from _reduced(
            parts,
            _Finish(summarise, finish),
            operator.add,
            self.resources,
            self._needed,
            on_progress,
        )

    def _prepared(
        self, prepare: Callable[[Block], P], cuts: Sequence[Cut] | None, *, keep: bool
    ) -> Iterator[P]:
        """Yield every block, from memory where it was kept."""
        kept, chosen = self._kept, self.cuts if cuts is None else cuts
        spaces, rows = self.selected.spaces, self.selected.rows
        expect_blocks(spaces, rows, [cut for cut in chosen if cut not in kept])
        for cut in chosen:
            # The rows as read die in the call: one block lies in memory prepared, none as read.
            block = kept.get(cut)
            if block is None:
                block = prepare(next(read_blocks(spaces, rows, [cut])))
            yield block
            if keep and cut not in kept and self._has_room(block):
                self._kept[cut] = block
                self._kept_bytes += block.n_bytes
            del block

    def _has_room(self, block: P) -> bool:
        """Say whether the block may be kept."""
        most = self._cache_bytes
        return most is None or self._kept_bytes + block.n_bytes <= most


class _PartState(NamedTuple):
    """What a part of a pass comes to."""

    states: tuple[Any, ...]  # of each accumulator
    dropped: list[NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class _Summarise:
    """Turns a part of a pass into the states of its accumulators."""

    selected: SelectedRows
    prepare: Callable[[Block], Any]
    accumulators: tuple[Accumulator[Any, Any, Any], ...]
    resources: Resources

    def __call__(self, part: Part) -> _PartState:
        """Read and absorb the blocks of a part.

        Workers of a cluster that see several devices see them under the numbers that they have
        there.
        """
        device, allowed = self.resources.device, self.resources.device_bytes
        with working_on(device, allowed):
            return self._absorbed(part)

    def _absorbed(self, part: Part) -> _PartState:
        """Read and absorb the blocks of a part, where it is worked on."""
        dropped: list[NDArray[np.int64]] = []
        states = [accumulator.start() for accumulator in self.accumulators]
        spaces, rows = spaces_apart(self.selected.spaces), self.selected.rows
        expect_blocks(spaces, rows, part)
        for block in read_blocks(spaces, rows, part):
            prepared = self.prepare(block)
            del block
            if len(prepared.dropped):
                dropped.append(prepared.dropped)
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

    accumulators: tuple[Accumulator[Any, Any, Any], ...]

    def __call__(self, left: _PartState, right: _PartState) -> _PartState:
        """Merge the states of each accumulator."""
        states = [
            accumulator.merge(*both)
            for accumulator, *both in zip(self.accumulators, left.states, right.states, strict=True)
        ]
        return _PartState(tuple(states), left.dropped + right.dropped)


def run_in_parts(
    selected: SelectedRows,
    parts: Sequence[Part],
    resources: Resources,
    accumulators: Sequence[Accumulator[Any, Any, Any]],
    prepare: Callable[[Block], Any],
    *,
    needed: int = 0,
    on_dropped: OnDropped | None = None,
    on_progress: OnProgress | None = None,
) -> list[Any]:
    """Feed every block to every accumulator, part by part; return what each finishes with.

    What `SharedPass.run` does under a scheduler; parameters and errors as there. `on_dropped` is
    called once the pass is over, with the positions in order. Without a scheduler the parts are
    summarised one after another and merged alike.
    """
    own = tuple(accumulators)
    found: _PartState = _reduced(
        parts,
        _Summarise(selected, prepare, own, resources),
        _Merge(own),
        resources,
        needed,
        on_progress,
    )
    if on_dropped is not None:
        for positions in found.dropped:
            on_dropped(positions)
    return [accumulator.finish(state) for accumulator, state in zip(own, found.states, strict=True)]


def _reduced(
    parts: Sequence[Part],
    summarise: Callable[[Part], T],
    merge: Callable[[T, T], T],
    resources: Resources,
    needed: int,
    on_progress: OnProgress | None,
) -> T:
    """Summarise and merge parts where the resources say."""

    def report(part: Part) -> None:
        """Report the rows of a part."""
        if on_progress is not None:
            on_progress(sum(stop - start for start, stop in part))

    return reduce_parts(
        parts,
        summarise,
        merge,
        scheduler=resources.scheduler,
        workers=resources.workers,
        needed=needed,
        on_part=report,
    )
