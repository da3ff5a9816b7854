"""Epochs over the rows of spaces: their order, its parts, and the shuffle buffer; numpy only.

An epoch goes through the windows in a drawn order, through the blocks of each window in a drawn
order, and each block is read once, whole. What is read passes through a buffer from which batches
are drawn. The order of the epoch is one sequence that all readers compute alike; each takes its own
stretch of it, so that no row is read twice and none is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput
from layerlake.store.space import Space
from layerlake.store.views.lazy_arrays import require_alike

Rows = tuple[NDArray[np.int64], NDArray[Any]]
"""Numbers of rows (n,), and their values (n, space, hidden)."""


@dataclass(frozen=True)
class StackedRows:
    """The chosen rows of several spaces that are alike, read together.

    Raises
    ------
    InvalidInput, SetIncomplete
        The spaces differ in rows, width or dtype; not all rows are committed.
    OutOfRange
        Rows are chosen that are not there.
    """

    spaces: tuple[Space, ...]
    chosen: NDArray[np.int64] | None
    """(row,) rising numbers of the rows; None for all."""

    def __post_init__(self) -> None:
        """Check that the spaces can be stacked."""
        require_alike(self.spaces)
        for space in self.spaces:
            space.require_whole()
            if space.dtype != self.spaces[0].dtype:
                raise InvalidInput(
                    f"{space.path} is {space.dtype}, {self.spaces[0].path} "
                    f"{self.spaces[0].dtype}; only spaces of one dtype can be stacked"
                )

    def __len__(self) -> int:
        return self.spaces[0].shape[0] if self.chosen is None else len(self.chosen)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in all spaces."""
        first = self.spaces[0]
        return len(self.spaces) * first.shape[1] * first.dtype.itemsize

    def numbers(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the rows at places among those chosen."""
        return places if self.chosen is None else self.chosen[places]

    def at(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of these numbers, (n, space, hidden)."""
        if len(self.spaces) == 1:
            return self.spaces[0].rows(numbers)[:, None]
        shape = (len(numbers), len(self.spaces), self.spaces[0].shape[1])
        values = np.empty(shape, self.spaces[0].dtype)
        for k, space in enumerate(self.spaces):
            values[:, k] = space.rows(numbers)
        return values

    def between(self, start: int, stop: int) -> Rows:
        """Return the rows at places [start, stop)."""
        numbers = self.numbers(np.arange(start, stop))
        return numbers, self.at(numbers)

    def window_bounds(self) -> list[int]:
        """Return the places where windows begin, and the number of rows: (window + 1,)."""
        starts = self.spaces[0].window_bounds
        if self.chosen is None:
            return [int(start) for start in starts]
        return [int(place) for place in np.searchsorted(self.chosen, starts)]


def epoch_blocks(
    bounds: Sequence[int], block_rows: int, generator: np.random.Generator | None
) -> list[tuple[int, int]]:
    """Return the blocks (start, stop) of an epoch in the order in which they are read.

    Parameters
    ----------
    bounds
        (window + 1,) the rows of window w are [bounds[w], bounds[w + 1]).
    block_rows
        Most rows of a block.
    generator
        Draws the order of windows, and of the blocks in each; None leaves the order of the rows.
    """
    blocks: list[tuple[int, int]] = []
    windows: Iterable[int] = range(len(bounds) - 1)
    if generator is not None:
        windows = generator.permutation(len(bounds) - 1).tolist()
    for window in windows:
        start, stop = bounds[window], bounds[window + 1]
        within = [(at, min(at + block_rows, stop)) for at in range(start, stop, block_rows)]
        if generator is not None:
            within = [within[k] for k in generator.permutation(len(within)).tolist()]
        blocks += within
    return blocks


def stretch(blocks: Iterable[tuple[int, int]], low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield the part [low, high) of the sequence of rows that blocks, one after another, make."""
    at = 0
    for start, stop in blocks:
        first, last = max(low - at, 0), min(high - at, stop - start)
        if first < last:
            yield start + first, start + last
        at += stop - start


def part_of_rank(
    n_rows: int, batch_rows: int, rank: int, world_size: int, *, drop_last: bool
) -> tuple[int, int]:
    """Return the stretch of an epoch that belongs to one of several ranks.

    Stretches differ by one row at most; with `drop_last` each is the same number of whole batches,
    and fewer than `batch_rows * world_size` rows at the end belong to none.
    """
    if drop_last:
        each = n_rows // world_size // batch_rows * batch_rows
        return rank * each, (rank + 1) * each
    return rank * n_rows // world_size, (rank + 1) * n_rows // world_size


def part_of_worker(
    low: int, high: int, batch_rows: int, worker: int, n_workers: int
) -> tuple[int, int]:
    """Return the stretch of a rank that belongs to one of its workers: whole batches but the last.

    However many workers there are, a rank therefore has the same number of batches.
    """
    n_batches = -(-(high - low) // batch_rows)
    first = worker * n_batches // n_workers * batch_rows
    last = (worker + 1) * n_batches // n_workers * batch_rows
    return min(low + first, high), min(low + last, high)


def in_order(rows: StackedRows, low: int, high: int, batch_rows: int) -> Iterator[Rows]:
    """Yield batches of the rows at places [low, high) as they lie."""
    for start in range(low, high, batch_rows):
        yield rows.between(start, min(start + batch_rows, high))


def shuffled(
    parts: Iterable[Rows], buffer_rows: int, batch_rows: int, generator: np.random.Generator
) -> Iterator[Rows]:
    """Yield batches drawn from a buffer that is filled up from `parts`.

    Parameters
    ----------
    parts
        Rows as they are read.
    buffer_rows
        Rows that the buffer holds: at least `batch_rows`. With as many as there are rows, every
        order is as likely as any other.
    batch_rows
        Rows of a batch; the last one may have fewer.
    generator
        Draws the rows.
    """
    held: NDArray[Any] | None = None
    numbers = np.empty(buffer_rows, np.int64)
    free = np.arange(buffer_rows)  # places of the buffer that may be filled
    for arrived, values in parts:
        if held is None:
            held = np.empty((buffer_rows, *values.shape[1:]), values.dtype)
        at = 0
        while at < len(arrived):
            if not len(free):
                free = generator.choice(buffer_rows, batch_rows, replace=False)
                yield numbers[free], held[free]
            some = free[: len(arrived) - at]
            numbers[some] = arrived[at : at + len(some)]
            held[some] = values[at : at + len(some)]
            at, free = at + len(some), free[len(some) :]
    if held is not None:
        left = generator.permutation(np.setdiff1d(np.arange(buffer_rows), free))
        for at in range(0, len(left), batch_rows):
            some = left[at : at + batch_rows]
            yield numbers[some], held[some]
