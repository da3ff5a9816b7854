"""Batches: a partition within the budget, little padding, and nothing but the inputs in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from layerlake.engine.tokenization.batching import MAX_WASTE, pad_batch, plan_digest, plan_window
from layerlake.store.errors import InvalidInput

lengths_of_inputs = st.lists(st.integers(1, 130), max_size=80).map(lambda x: np.array(x, np.int64))
budgets = st.integers(1, 600)


def padded_tokens(lengths: NDArray[np.int64], batch: NDArray[np.int64]) -> int:
    return len(batch) * int(lengths[batch].max())


@given(lengths_of_inputs, budgets)
def test_every_input_is_in_exactly_one_batch(lengths: NDArray[np.int64], budget: int) -> None:
    plan = plan_window(lengths, budget)
    assert all(len(batch) for batch in plan)
    assert sorted(index for batch in plan for index in batch.tolist()) == list(range(len(lengths)))


@given(lengths_of_inputs, budgets)
def test_no_batch_exceeds_the_budget_but_one_long_input(
    lengths: NDArray[np.int64], budget: int
) -> None:
    for batch in plan_window(lengths, budget):
        assert len(batch) == 1 or padded_tokens(lengths, batch) <= budget


@given(lengths_of_inputs, budgets)
def test_padding_is_a_bounded_share_of_every_batch(lengths: NDArray[np.int64], budget: int) -> None:
    for batch in plan_window(lengths, budget):
        padded = padded_tokens(lengths, batch)
        assert padded - int(lengths[batch].sum()) <= MAX_WASTE * padded


@given(lengths_of_inputs, budgets, st.randoms(use_true_random=False))
def test_the_shapes_of_the_batches_do_not_depend_on_the_order_of_the_inputs(
    lengths: NDArray[np.int64], budget: int, random: object
) -> None:
    order = np.arange(len(lengths))
    random.shuffle(order)  # type: ignore[attr-defined]
    straight, shuffled = plan_window(lengths, budget), plan_window(lengths[order], budget)
    assert [sorted(lengths[b]) for b in straight] == [sorted(lengths[order][b]) for b in shuffled]


@given(lengths_of_inputs, budgets)
def test_the_same_inputs_give_the_same_plan(lengths: NDArray[np.int64], budget: int) -> None:
    once, again = plan_window(lengths, budget), plan_window(lengths.copy(), budget)
    assert plan_digest([once]) == plan_digest([again])


def test_batches_are_filled_up() -> None:
    plan = plan_window(np.full(100, 10), 200)
    assert [len(batch) for batch in plan] == [20] * 5
    assert plan_window(np.array([7]), 3)[0].tolist() == [0]
    assert plan_window(np.array([], np.int64), 10) == []


def test_ties_keep_their_order() -> None:
    (batch,) = plan_window(np.array([5, 4, 5, 4, 5]) * 20, 10_000)[1:]
    assert batch.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("lengths", "budget", "message"),
    [([3, 4], 0, "give at least 1"), ([3, 0], 10, "input 1 is empty")],
)
def test_what_cannot_be_planned_is_refused(lengths: list[int], budget: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        plan_window(np.array(lengths), budget)


def test_the_digest_tells_plans_apart() -> None:
    plan = [np.array([0, 1]), np.array([2])]
    others = [
        [np.array([0]), np.array([1, 2])],
        [np.array([1, 0]), np.array([2])],
        [np.array([0, 1, 2])],
    ]
    digests = {plan_digest([p]) for p in [plan, *others]}
    digests |= {plan_digest([]), plan_digest([plan, plan]), plan_digest([plan[:1], plan[1:]])}
    assert len(digests) == 7
    assert all(len(digest) == 64 for digest in digests)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
def test_a_padded_batch_holds_its_inputs_and_nothing_else(
    lengths: list[int], data: st.DataObject
) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    pieces = np.arange(100, 100 + offsets[-1], dtype=np.int32)
    segments = (np.arange(offsets[-1]) % 2).astype(np.uint8)
    batch = data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, unique=True))
    ids, mask, kinds = pad_batch(pieces, segments, offsets, np.array(batch), pad_id=7)
    assert ids.dtype == mask.dtype == kinds.dtype == np.int64
    assert ids.shape == mask.shape == kinds.shape == (len(batch), max(lengths[i] for i in batch))
    for row, index in enumerate(batch):
        stop = lengths[index]
        own = slice(offsets[index], offsets[index + 1])
        assert ids[row, :stop].tolist() == pieces[own].tolist()
        assert kinds[row, :stop].tolist() == segments[own].tolist()
        assert mask[row].tolist() == [1] * stop + [0] * (ids.shape[1] - stop)
        assert set(ids[row, stop:].tolist()) <= {7}
        assert not kinds[row, stop:].any()
