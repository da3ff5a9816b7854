"""Batches of epochs, and micro-batches against all ways to cut and the gradient of the whole."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.finetuning.training.batches import batches_of_epoch, micro_batches
from layerlake.engine.models.batching_check import ALONE, SAME_LENGTH


@pytest.mark.parametrize(("n", "batch"), [(1, 1), (7, 3), (32, 32), (33, 32), (10, 100)])
def test_every_input_comes_once_an_epoch(n: int, batch: int) -> None:
    found = batches_of_epoch(n, batch, 3, 0)
    assert sorted(np.concatenate(found).tolist()) == list(range(n))
    assert [len(part) for part in found[:-1]] == [batch] * (len(found) - 1)
    assert 1 <= len(found[-1]) <= batch


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(np.concatenate(batches_of_epoch(40, 7, seed, epoch)).tolist())

    seeds = (0, 1, 5, 2**63 + 5, 2**63 + 6, 2**64 - 1)
    every = [order(seed, epoch) for seed in seeds for epoch in (0, 1, 2)]
    assert len(set(every)) == len(every)
    assert every == [order(seed, epoch) for seed in seeds for epoch in (0, 1, 2)]
    # The size of batches does not change the order.
    assert tuple(np.concatenate(batches_of_epoch(40, 11, 0, 0)).tolist()) == every[0]


def test_the_order_of_a_small_set_is_uniform() -> None:
    orders = [
        tuple(np.concatenate(batches_of_epoch(3, 3, seed, epoch)).tolist())
        for seed in range(60)
        for epoch in range(20)
    ]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    # 1200 draws of six kinds: the chi-square of 5 degrees exceeds 20.5 once in a thousand times.
    assert sum((count - 200) ** 2 / 200 for count in counts) < 20.5


def ways_to_cut(n: int) -> Iterator[list[range]]:
    """Yield all ways to divide n things in a row into runs."""
    for cuts in itertools.product([False, True], repeat=n - 1):
        bounds = [0, *(at for at, cut in enumerate(cuts, start=1) if cut), n]
        yield [range(a, b) for a, b in itertools.pairwise(bounds)]


def cost_of(parts: list[list[int]], overhead: int) -> int:
    return sum(len(part) * max(part) + overhead for part in parts)


@pytest.mark.parametrize("seed", range(12))
def test_micro_batches_cost_the_least_of_all_ways_to_cut(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 9))
    lengths = generator.integers(1, 20, n)
    most, overhead = int(generator.integers(5, 60)), int(generator.integers(0, 30))
    found = micro_batches(lengths, most, overhead)
    parts = [lengths[part].tolist() for part in found]
    assert sorted(np.concatenate(found).tolist()) == list(range(n))
    assert all(len(part) == 1 or len(part) * max(part) <= most for part in parts)
    rising = sorted(lengths.tolist())
    best = min(
        cost_of(cut, overhead)
        for runs in ways_to_cut(n)
        if all(
            len(run) == 1 or len(run) * rising[run[-1]] <= most
            for cut in [[[rising[i] for i in run] for run in runs]]
            for run in runs
        )
        for cut in [[[rising[i] for i in run] for run in runs]]
    )
    assert cost_of(parts, overhead) == best


@pytest.mark.parametrize("seed", range(4))
def test_no_division_at_all_costs_less_than_one_of_runs(seed: int) -> None:
    """Runs of inputs by length are as good as any sets of inputs."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 12, 6)
    most, overhead = 30, 7

    def divisions(items: list[int]) -> Iterator[list[list[int]]]:
        if not items:
            yield []
            return
        head, *rest = items
        for others in divisions(rest):
            yield [[head], *others]
            for at, part in enumerate(others):
                yield [*others[:at], [head, *part], *others[at + 1 :]]

    best = min(
        cost_of(parts, overhead)
        for parts in divisions(lengths.tolist())
        if all(len(part) == 1 or len(part) * max(part) <= most for part in parts)
    )
    found = micro_batches(lengths, most, overhead)
    assert cost_of([lengths[part].tolist() for part in found], overhead) == best


def test_an_input_longer_than_the_bound_is_alone() -> None:
    lengths = np.array([50, 3, 3, 60, 2])
    found = micro_batches(lengths, 10, 0)
    assert [part.tolist() for part in found if len(part) == 1][-2:] == [[0], [3]]
    assert sorted(np.concatenate(found).tolist()) == [0, 1, 2, 3, 4]


def test_without_overhead_nothing_is_padded() -> None:
    lengths = np.array([3, 5, 3, 9, 5, 3])
    found = micro_batches(lengths, 100, 0)
    assert all(len(set(lengths[part].tolist())) == 1 for part in found)


def test_a_high_overhead_makes_one_micro_batch() -> None:
    lengths = np.arange(1, 20)
    assert len(micro_batches(lengths, 10_000, 10_000)) == 1


@pytest.mark.parametrize("name", ["classify", "squad", "tag", "dep"])
def test_the_gradient_of_micro_batches_is_that_of_the_batch_and_a_mean(
    small_loaded: Any, made: Callable[..., Any], name: str
) -> None:
    torch = pytest.importorskip("torch")
    from layerlake.analyses.finetuning.heads.task_model import Shape, task_model
    from layerlake.analyses.finetuning.training.trainer import Trainer
    from layerlake.analyses.runs.team import Team

    more = {"head_dropout": 0.0} if name == "dep" else {}
    kind = made(name, 12, batch=8, dropout=0.0, clip=0.0, **more)
    own = replace(small_loaded, module=copy.deepcopy(small_loaded.module))
    model = task_model(own, kind.task, kind.inventory, kind.recipe, Shape(), 0).double()
    batch = np.arange(8)
    weights = kind.task.weights(kind.examples)

    class Kept:
        """An optimiser that keeps the gradient instead of following it."""

        def __init__(self) -> None:
            self.parameters = [p for p in model.parameters() if p.requires_grad]

        def update(self, step: int) -> float:
            grads = [p.grad.reshape(-1) for p in self.parameters if p.grad is not None]
            self.gradient = torch.cat(grads)
            return 1.0

        def clear(self) -> None:
            model.zero_grad(set_to_none=True)

    found = {}
    for most in (1, 60, 10_000):
        trainer = Trainer(
            model, kind.task, kind.examples, kind.recipe, 0, Team("cpu"), {}, 0, most
        )  # fmt: skip
        kept: Any = Kept()
        update = trainer._update(kept, 0, batch, weights)
        found[most] = update.loss, kept.gradient
        n_parts = len(trainer._share(kind.examples.tokenization.lengths[batch]))
        assert (n_parts == 8) == (most == 1)
    # The mean over inputs or words, one by one.
    model.eval()
    total, count = 0.0, 0.0
    for index in batch:
        laid = kind.task.lay(kind.examples, np.array([index]), 0)
        loss = kind.task.loss(model(laid), laid)
        (loss / weights[batch].sum()).backward()
        total += float(loss.detach())
        example = kind.examples.tokenization.input_example[index]
        of_words = name in ("tag", "dep")
        count += int(np.diff(kind.examples.corpus.word_offsets)[example]) if of_words else 1
    gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
    assert float(gradient.abs().max()) > 1e-4
    for loss, one in found.values():
        assert loss == pytest.approx(total / count, rel=1e-6)
        assert torch.allclose(one, gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("most", [1, 12, 10_000])
def test_micro_batches_hold_what_a_model_bears_together(most: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 9, 40)
    found = micro_batches(lengths, most, 96, SAME_LENGTH)
    assert sorted(np.concatenate(found).tolist()) == list(range(40))
    assert all(len(set(lengths[part].tolist())) == 1 for part in found)
    assert all(len(part) == 1 or lengths[part].sum() <= most for part in found)
    if most == 10_000:
        assert len(found) == len(set(lengths.tolist()))
    alone = micro_batches(lengths, most, 96, ALONE)
    assert sorted(part.tolist() for part in alone) == [[k] for k in range(40)]
