"""Every row once an epoch, whoever reads; and an order that is random as far as it says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from layerlake.store.views.row_streams import (
    epoch_blocks,
    part_of_rank,
    part_of_worker,
    shuffled,
    stretch,
)


def arriving(n: int, block: int):
    """Yield rows 0 to n in blocks; the value of a row is its number."""
    for start in range(0, n, block):
        numbers = np.arange(start, min(start + block, n))
        yield numbers, numbers.astype(np.float64)[:, None, None]


def drawn(n: int, block: int, buffer: int, batch: int, seed: int) -> list[np.ndarray]:
    """Return the batches of a shuffle buffer over rows 0 to n."""
    batches = []
    generator = np.random.default_rng(seed)
    for numbers, values in shuffled(arriving(n, block), buffer, batch, generator):
        assert values[:, 0, 0].tolist() == numbers.tolist()
        batches.append(numbers.copy())
    return batches


@given(
    n=st.integers(0, 300),
    block=st.integers(1, 80),
    buffer=st.integers(1, 400),
    batch=st.integers(1, 50),
    seed=st.integers(0, 9),
)
def test_a_buffer_gives_every_row_once(n, block, buffer, batch, seed):
    batches = drawn(n, block, max(buffer, batch), batch, seed)
    assert sorted(np.concatenate([*batches, np.empty(0, int)]).tolist()) == list(range(n))
    assert all(len(one) == batch for one in batches[:-1])


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    block=st.integers(1, 20),
    batch=st.integers(1, 16),
    world=st.integers(1, 5),
    workers=st.integers(1, 4),
    drop=st.booleans(),
    seed=st.one_of(st.none(), st.integers(0, 5)),
)
def test_readers_share_an_epoch_without_overlap_or_loss(
    sizes, block, batch, world, workers, drop, seed
):
    bounds = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    n = bounds[-1]
    seen: list[int] = []
    batches_a_rank = []
    for rank in range(world):
        low, high = part_of_rank(n, batch, rank, world, drop_last=drop)
        batches = 0
        for worker in range(workers):
            generator = None if seed is None else np.random.default_rng(seed)
            blocks = epoch_blocks(bounds, block, generator)
            first, last = part_of_worker(low, high, batch, worker, workers)
            read = [row for part in stretch(blocks, first, last) for row in range(*part)]
            assert len(read) == last - first
            batches += -(-len(read) // batch)
            seen += read
        batches_a_rank.append(batches)
        assert batches == -(-(high - low) // batch)
    assert len(set(seen)) == len(seen)
    if drop:
        assert len(set(batches_a_rank)) == 1
        assert n - len(seen) < batch * world
    else:
        assert sorted(seen) == list(range(n))


def test_blocks_keep_to_windows_and_whole_windows_follow_each_other():
    bounds = [0, 100, 200, 300, 350]
    blocks = epoch_blocks(bounds, 30, np.random.default_rng(0))
    windows = [start // 100 for start, _ in blocks]
    assert all(stop <= bounds[start // 100 + 1] for start, stop in blocks)
    assert len([k for k in range(1, len(windows)) if windows[k] != windows[k - 1]]) == 3
    assert blocks != epoch_blocks(bounds, 30, None)
    assert sorted(blocks) == epoch_blocks(bounds, 30, None)


def test_a_buffer_of_all_rows_draws_every_order_alike():
    """Chi-squared over which row comes at which place, in 4,000 epochs of 6 rows."""
    counts = np.zeros((6, 6))
    for seed in range(4000):
        order = np.concatenate(drawn(6, 2, 6, 2, seed))
        counts[np.arange(6), order] += 1
    expected = 4000 / 6
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < stats.chi2.ppf(0.999, 25)


def test_rows_of_a_small_buffer_lose_their_neighbours():
    n, buffer = 20_000, 2000
    order = np.concatenate(drawn(n, 100, buffer, 50, 1))
    place = np.argsort(order)
    # How long a row stays is geometric with mean buffer, where nothing ends.
    middle = slice(3 * buffer, n - 3 * buffer)
    waited = place[middle] + buffer - np.arange(n)[middle]
    assert abs(waited.mean() / buffer - 1) < 0.1
    assert abs(waited.std() / buffer - 1) < 0.2
    # Neighbours in the order are no neighbours in the file.
    steps = np.abs(np.diff(order))
    assert (steps == 1).mean() < 5 / buffer
    assert np.median(steps) > buffer / 4
