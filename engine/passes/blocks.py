"""One pass over blocks of rows feeds any number of accumulators.

A pass has three parts: where to cut the rows (`cut_blocks`), reading the same rows of several
spaces once (`read_blocks`), and folding blocks into running states (`run_pass`). A state can start,
absorb a block, merge with another state and finish, so the same accumulator serves a loop here and
a tree of workers elsewhere.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.passes.arrays import Array, item_bytes

S = TypeVar("S")
B = TypeVar("B")
B_contra = TypeVar("B_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class SpaceLike(Protocol):
    """What a pass reads: a matrix of rows on which only `rows` does any work."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and hidden."""
        ...

    @property
    def dtype(self) -> Any:
        """The dtype of the stored values."""
        ...

    def rows(self, index: NDArray[np.int64], /) -> Array:
        """Return the rows at a sorted index, (len(index), hidden)."""
        ...


@runtime_checkable
class FetchesAhead(Protocol):
    """A space that fetches rows before they are asked for, where it is told which."""

    def expect(self, indexes: Iterable[NDArray[np.int64]], /) -> None:
        """Take note that `rows` will be called with these indexes in this order."""
        ...


@runtime_checkable
class MakesRows(Protocol):
    """A space that makes its rows of what it reads, and says what that takes."""

    @property
    def held_bytes(self) -> int:
        """Bytes that it holds, shared with the other spaces of its corpus and row set."""
        ...

    @property
    def reading_bytes(self) -> int:
        """Bytes that a read takes for a moment, beside the rows that it returns."""
        ...

    @property
    def table_bytes(self) -> int:
        """Bytes that finding out what its rows are made of takes for a moment."""
        ...

    @property
    def row_set(self) -> str:
        """What names the rows."""
        ...


class Accumulator(Protocol[B_contra, S, R_co]):
    """A statistic that absorbs blocks in any order and merges over any partition of them."""

    def start(self) -> S:
        """Return the state of no rows."""
        ...

    def update(self, state: S, block: B_contra, /) -> S:
        """Return the state with a block absorbed; the old state may be used up."""
        ...

    def merge(self, state: S, other: S, /) -> S:
        """Return the state of both, over disjoint rows; both may be used up."""
        ...

    def finish(self, state: S, /) -> R_co:
        """Return what the state amounts to."""
        ...


_NOTHING: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Block:
    """The same rows of every space of a pass."""

    start: int
    """Position of the first row in the selection."""
    stop: int
    """Position after the last row in the selection."""
    arrays: tuple[Array, ...]
    """(stop - start, hidden) of every space."""

    @property
    def dropped(self) -> NDArray[np.int64]:
        """No positions: a block as it was read holds all of its rows."""
        return _NOTHING

    @property
    def n_bytes(self) -> int:
        """Bytes that the rows take."""
        return sum(math.prod(rows.shape) * item_bytes(rows.dtype) for rows in self.arrays)


def cut_blocks(bounds: NDArray[np.int64], block_rows: int) -> list[tuple[int, int]]:
    """Cut rows into blocks of at most `block_rows` that respect the bounds of runs of rows.

    Parameters
    ----------
    bounds
        (run + 1,): run g holds the rows [bounds[g], bounds[g + 1]).
    block_rows
        Most rows of a block.

    Returns
    -------
    list of (start, stop)
        Blocks in order. A block holds whole runs, or a part of one run longer than `block_rows`
        and nothing else.
    """
    blocks: list[tuple[int, int]] = []
    run, n_runs = 0, len(bounds) - 1
    while run < n_runs:
        start = int(bounds[run])
        after = int(np.searchsorted(bounds, start + block_rows, side="right")) - 1
        if after > run:
            blocks.append((start, int(bounds[after])))
            run = after
        else:
            run_stop = int(bounds[run + 1])
            pieces = range(start, run_stop, block_rows)
            blocks.extend((at, min(at + block_rows, run_stop)) for at in pieces)
            run += 1
    return blocks


def read_blocks(
    spaces: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    cuts: Iterable[tuple[int, int]],
) -> Iterator[Block]:
    """Read the same blocks of every space, each once; `rows[k]` selects the rows of space k."""
    for start, stop in cuts:
        arrays = tuple(
            space.rows(index[start:stop]) for space, index in zip(spaces, rows, strict=True)
        )
        yield Block(start, stop, arrays)
        del arrays  # or two blocks would lie in memory while the next one is read


def expect_blocks(
    spaces: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    cuts: Sequence[tuple[int, int]],
) -> None:
    """Tell spaces that fetch ahead which blocks `read_blocks` will read; parameters as there."""
    for space in {id(space): space for space in spaces}.values():
        if isinstance(space, FetchesAhead):
            own = [index for other, index in zip(spaces, rows, strict=True) if other is space]
            space.expect([index[start:stop] for start, stop in cuts for index in own])


def run_pass(
    blocks: Iterable[B],
    accumulators: Sequence[Accumulator[B, Any, Any]],
    on_block: Callable[[B], None] | None = None,
) -> list[Any]:
    """Feed every block to every accumulator and return what each finishes with.

    Parameters
    ----------
    blocks
        Blocks of whatever kind the accumulators absorb; iterated once.
    accumulators
        The statistics that share the pass.
    on_block
        Called with each block once all accumulators have absorbed it.
    """
    states = [accumulator.start() for accumulator in accumulators]
    for block in blocks:
        for k, accumulator in enumerate(accumulators):
            states[k] = accumulator.update(states[k], block)
        if on_block is not None:
            on_block(block)
        del block
    return [
        accumulator.finish(state) for accumulator, state in zip(accumulators, states, strict=True)
    ]
