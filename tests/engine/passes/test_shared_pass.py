"""Any accumulator shares a pass, in a loop or on workers, with or without a preparation."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.engine.passes.blocks import Block, cut_blocks
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import ArraySpace, Needs, SelectedRows, select_rows
from layerlake.engine.passes.shared_pass import SharedPass, as_read
from layerlake.store.errors import InvalidInput

N = 500
VALUES = np.arange(3 * N).reshape(N, 3) % 97
"""Whole numbers, whose sums have one answer in any order."""


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Send the classes of this module with their code: workers cannot import tests."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Odd:
    """What a preparation makes of a block: its rows whose first value is odd."""

    start: int
    stop: int
    dropped: NDArray[np.int64]
    rows: NDArray[Any]

    @property
    def n_bytes(self) -> int:
        return int(self.rows.nbytes)


def odd_rows(block: Block) -> Odd:
    """Leave out the rows whose first value is even."""
    (rows,) = block.arrays
    odd = rows[:, 0] % 2 == 1
    return Odd(block.start, block.stop, block.start + np.flatnonzero(~odd), rows[odd])


class Sum:
    """Sums of rows, of a block as it was read or as it was prepared."""

    def start(self) -> Any:
        return np.zeros(3, np.int64)

    def update(self, state: Any, block: Any) -> Any:
        return state + (block.rows if isinstance(block, Odd) else block.arrays[0]).sum(axis=0)

    def merge(self, state: Any, other: Any) -> Any:
        return state + other

    def finish(self, state: Any) -> list[int]:
        found: list[int] = state.tolist()
        return found


class Reads(ArraySpace):
    """A space that counts the rows read of it."""

    count = 0

    def rows(self, index: NDArray[np.int64], /) -> Any:
        type(self).count += len(index)
        return super().rows(index)


def selection(space: Any = None) -> SelectedRows:
    """Return all rows of one space."""
    space = ArraySpace(VALUES) if space is None else space
    return select_rows([space], [np.arange(N)], np.arange(N) // 5, ["base layer 0"])


CUTS = cut_blocks(np.arange(0, N + 1, 5), 60)


@pytest.mark.parametrize("scheduler", [None, "threads", "processes", "cluster"])
def test_every_scheduler_gives_the_sums_of_a_loop(
    scheduler: str | None, request: pytest.FixtureRequest
) -> None:
    if scheduler == "cluster":
        scheduler = request.getfixturevalue("cluster").scheduler_address
    shared: SharedPass[Any] = SharedPass(selection(), CUTS, Resources(scheduler=scheduler))
    seen: list[int] = []
    assert (
        shared.run([Sum(), Sum()], as_read, on_progress=seen.append)
        == [VALUES.sum(axis=0).tolist()] * 2
    )
    assert sum(seen) == N
    lost: list[NDArray[np.int64]] = []
    odd = VALUES[:, 0] % 2 == 1
    (found,) = shared.run([Sum()], odd_rows, on_dropped=lost.append)
    assert found == VALUES[odd].sum(axis=0).tolist()
    assert np.concatenate(lost).tolist() == np.flatnonzero(~odd).tolist()
    apart = [CUTS[:3], CUTS[3:4], CUTS[4:]]
    found = list(shared.each_part(apart, Sum(), str, as_read))
    edges = [0, CUTS[2][1], CUTS[3][1], N]
    assert found == [
        str(VALUES[low:high].sum(axis=0).tolist()) for low, high in itertools.pairwise(edges)
    ]


def test_blocks_that_fit_are_kept_and_not_read_again() -> None:
    one = 60 * 3 * VALUES.itemsize
    for cache_bytes, again in ((None, 0), (0, N), (2 * one, N - 120)):
        shared: SharedPass[Any] = SharedPass(
            selection(Reads(VALUES)), CUTS, Resources(), cache_bytes=cache_bytes
        )
        Reads.count = 0
        first = shared.run([Sum()], as_read, keep=True)
        assert Reads.count == N
        assert shared.run([Sum()], as_read) == first
        assert Reads.count == N + again
        for _ in range(3):  # blocks that are kept are kept once, whoever asks for them
            shared.run([Sum()], as_read, cuts=CUTS[:2], keep=True)
        assert Reads.count == N + again + (360 if cache_bytes == 0 else 0)
        shared.drop()
        shared.run([Sum()], as_read)
        assert Reads.count == 2 * N + again + (360 if cache_bytes == 0 else 0)


def test_fewer_rows_or_spaces_than_needed_are_refused() -> None:
    needs = Needs("a fit", rows=3, spaces=2, too_few_spaces="one space is no pair; name two")
    every, space = np.arange(2), ArraySpace(VALUES)
    with pytest.raises(InvalidInput, match=r"^one space is no pair; name two$"):
        select_rows([space], [every], every, ["a"], needs)
    with pytest.raises(InvalidInput, match=r"^2 rows are left; a fit needs at least 3 rows$"):
        select_rows([space] * 2, [every] * 2, every, ["a", "b"], needs)
    with pytest.raises(InvalidInput, match=r"^0 rows are left; an analysis needs at least 1 row$"):
        select_rows([space], [every[:0]], every[:0], ["a"])
