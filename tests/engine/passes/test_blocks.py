"""Blocks that respect runs of rows, read once, and fed to every accumulator."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from layerlake.engine.passes.blocks import Block, cut_blocks, read_blocks, run_pass


@dataclass
class CountingSpace:
    """A matrix that remembers which rows were read."""

    values: NDArray[np.float32]
    read: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return self.values.dtype

    def rows(self, index: NDArray[np.int64], /) -> NDArray[np.float32]:
        self.read.extend(index.tolist())
        return self.values[index]


class ColumnSums:
    """Sums of the columns of one space of a pass, with a count of updates."""

    def __init__(self, space: int) -> None:
        self.space = space

    def start(self) -> tuple[float, int]:
        return (0.0, 0)

    def update(self, state: tuple[float, int], block: Block, /) -> tuple[float, int]:
        return (state[0] + float(block.arrays[self.space].sum()), state[1] + 1)

    def merge(self, state: tuple[float, int], other: tuple[float, int], /) -> tuple[float, int]:
        return (state[0] + other[0], state[1] + other[1])

    def finish(self, state: tuple[float, int], /) -> tuple[float, int]:
        return state


@given(st.lists(st.integers(1, 12), max_size=20), st.integers(1, 15))
def test_blocks_hold_whole_runs_or_a_part_of_one(lengths: list[int], block_rows: int) -> None:
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    blocks = cut_blocks(bounds, block_rows)
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(bounds[-1]))
    for start, stop in blocks:
        assert 0 < stop - start <= block_rows
        whole = start in bounds and stop in bounds
        run = int(np.searchsorted(bounds, start, side="right")) - 1
        part_of_a_long_run = stop <= bounds[run + 1] and lengths[run] > block_rows
        assert whole or part_of_a_long_run


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.integers(1, 15))
def test_a_block_of_whole_runs_has_no_room_for_the_next_run(
    lengths: list[int], block_rows: int
) -> None:
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    for start, stop in cut_blocks(bounds, block_rows)[:-1]:
        if start in bounds and stop in bounds:
            next_stop = int(bounds[np.searchsorted(bounds, stop, side="right")])
            assert next_stop - start > block_rows


def test_a_pass_reads_each_block_of_each_space_once_for_all() -> None:
    rng = np.random.default_rng(0)
    spaces = [
        CountingSpace(rng.standard_normal((30, width)).astype(np.float32)) for width in (3, 5)
    ]
    rows = [np.arange(4, 24), np.arange(0, 20)]
    seen: list[tuple[int, int]] = []
    found = run_pass(
        read_blocks(spaces, rows, [(0, 7), (7, 14), (14, 20)]),
        [ColumnSums(0), ColumnSums(1), ColumnSums(0)],
        lambda block: seen.append((block.start, block.stop)),
    )
    assert [space.read for space in spaces] == [list(range(4, 24)), list(range(20))]
    assert seen == [(0, 7), (7, 14), (14, 20)]
    sums = [spaces[0].values[4:24].sum(), spaces[1].values[:20].sum()]
    assert found == [(pytest.approx(sums[k], rel=1e-5), 3) for k in (0, 1, 0)]


def test_reading_waits_for_the_fold() -> None:
    space = CountingSpace(np.zeros((10, 2), np.float32))
    read_when_seen: list[int] = []
    run_pass(
        read_blocks([space], [np.arange(10)], [(0, 5), (5, 10)]),
        [ColumnSums(0)],
        lambda _: read_when_seen.append(len(space.read)),
    )
    assert read_when_seen == [5, 10]
