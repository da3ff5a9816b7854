"""Updates and answers of the training loop, on tiny models."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from layerlake.store.errors import TrainingDiverged

torch = pytest.importorskip("torch")

from layerlake.analyses.finetuning.heads.task_model import Shape, task_model
from layerlake.analyses.finetuning.training.batches import batches_of_epoch
from layerlake.analyses.finetuning.training.trainer import Trainer, _step_seed
from layerlake.analyses.runs.team import Team

KINDS = ("classify", "squad", "tag", "dep")


def a_trainer(loaded: Any, kind: Any, seed: int = 0, most: int = 200) -> Trainer:
    own = replace(loaded, module=copy.deepcopy(loaded.module))
    model = task_model(own, kind.task, kind.inventory, kind.recipe, Shape(), seed)
    return Trainer(
        model, kind.task, kind.examples, kind.recipe, seed, Team("cpu"), kind.inventory, 0, most
    )


def weights(trainer: Trainer) -> Any:
    return torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters()])


def trained(trainer: Trainer, done: int = 0) -> list[Any]:
    return list(trainer.updates(trainer.optimiser(), done, lambda epoch: None))


def test_updates_are_numbered_and_timed(small_loaded: Any, made: Callable[..., Any]) -> None:
    kind = made("tag", 10, batch=4, epochs=2, lr=1e-3, schedule="linear", warmup=0.5)
    trainer = a_trainer(small_loaded, kind)
    assert (trainer.steps_of_epoch, trainer.n_steps) == (3, 6)
    epochs: list[int] = []
    found = list(trainer.updates(trainer.optimiser(), 0, epochs.append))
    assert [update.step for update in found] == [1, 2, 3, 4, 5, 6]
    assert [update.epoch for update in found] == [1, 1, 1, 2, 2, 2]
    assert epochs == [1, 2]
    rates = [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]
    assert [update.rate for update in found] == pytest.approx([1e-3 * rate for rate in rates])
    lengths = kind.examples.tokenization.lengths
    batches = [batch for epoch in (0, 1) for batch in batches_of_epoch(10, 4, 0, epoch)]
    assert [update.n_pieces for update in found] == [int(lengths[b].sum()) for b in batches]
    assert all(update.norm > 0 for update in found)


def test_an_epoch_calls_when_its_updates_were_yielded(
    small_loaded: Any, made: Callable[..., Any]
) -> None:
    trainer = a_trainer(small_loaded, made("tag", 5, batch=4, epochs=2))
    told: list[Any] = []
    for update in trainer.updates(trainer.optimiser(), 0, told.append):
        told.append((update.epoch, update.step))
    assert told == [(1, 1), (1, 2), 1, (2, 3), (2, 4), 2]


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_falls_on_what_is_trained_on(
    small_loaded: Any, made: Callable[..., Any], name: str
) -> None:
    # Adam without its correction takes larger steps in the beginning.
    more = {"head_dropout": 0.0, "lr": 3e-3} if name == "dep" else {"lr": 1e-3}
    kind = made(name, 8, batch=8, epochs=30, dropout=0.0, schedule="constant", **more)
    losses = [update.loss for update in trained(a_trainer(small_loaded, kind, most=10_000))]
    assert losses[-1] < 0.6 * losses[0]


def test_training_is_a_function_of_the_seed(small_loaded: Any, made: Callable[..., Any]) -> None:
    kind = made("classify", 8, batch=4, epochs=1, lr=1e-3)

    def run(seed: int) -> Any:
        trainer = a_trainer(small_loaded, kind, seed)
        trained(trainer)
        return weights(trainer)

    first = run(1)
    torch.manual_seed(99)  # what the caller drew before has no say
    assert torch.equal(first, run(1))
    assert not torch.equal(first, run(2))


def test_something_else_drops_out_in_every_update(
    small_loaded: Any, made: Callable[..., Any]
) -> None:
    spread = {}
    for dropout in (0.0, 0.3):
        kind = made("classify", 2, batch=2, epochs=6, lr=1e-12, dropout=dropout)
        losses = np.array([update.loss for update in trained(a_trainer(small_loaded, kind))])
        spread[dropout] = float(np.diff(np.sort(losses)).min())
    assert spread[0.0] < 1e-7
    assert spread[0.3] > 1e-6  # no two of them are alike


def test_no_two_micro_batches_share_what_drops_out() -> None:
    seeds = [
        _step_seed(seed, step, rank, place)
        for seed, step, rank, place in itertools.product((0, 1, 11), (0, 1, 11), range(3), range(3))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_head_has_its_own_rate(small_loaded: Any, made: Callable[..., Any]) -> None:
    moved = {}
    for head_lr in (None, 1e-2):
        kind = made(
            "classify", 4, batch=4, epochs=1, lr=1e-3, head_lr=head_lr,
            optimiser="adam", schedule="constant", warmup=0.0, dropout=0.0,
        )  # fmt: skip
        trainer = a_trainer(small_loaded, kind)
        before = copy.deepcopy(trainer.model)
        trained(trainer)
        for name, part, other in (
            ("head", trainer.model.head, before.head),
            ("encoder", trainer.model.encoder, before.encoder),
        ):
            moved[head_lr, name] = max(
                float((a - b).detach().abs().max())
                for a, b in zip(part.parameters(), other.parameters(), strict=True)
            )
    # The first update of Adam moves by the rate.
    assert moved[None, "head"] == pytest.approx(1e-3, rel=0.02)
    assert moved[1e-2, "head"] == pytest.approx(1e-2, rel=0.02)
    assert moved[None, "encoder"] == moved[1e-2, "encoder"] == pytest.approx(1e-3, rel=0.02)


def test_gradients_are_clipped_by_their_norm(small_loaded: Any, made: Callable[..., Any]) -> None:
    seen = {}
    for clip in (0.0, 0.05, 1e6):
        kind = made("tag", 4, batch=4, epochs=1, clip=clip, dropout=0.0)
        trainer = a_trainer(small_loaded, kind)
        optimiser = trainer.optimiser()
        norms: list[float] = []

        def update(step: int, given: Any = optimiser, kept: list[float] = norms) -> float:
            grads = [p.grad.reshape(-1) for p in given.parameters if p.grad is not None]
            kept.append(float(torch.cat(grads).norm()))
            return 1.0

        optimiser.update = update  # type: ignore[method-assign]
        (one,) = trainer.updates(optimiser, 0, lambda epoch: None)
        seen[clip] = one.norm, norms[0]
    whole = seen[0.0][0]
    assert whole > 0.1
    assert seen[0.0] == pytest.approx((whole, whole), rel=1e-5)
    assert seen[1e6] == pytest.approx((whole, whole), rel=1e-5)
    assert seen[0.05] == pytest.approx((whole, 0.05), rel=1e-4)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_training_that_diverges_names_update_and_examples(
    small_loaded: Any, made: Callable[..., Any], what: str
) -> None:
    kind = made("classify", 9, batch=6, epochs=1)
    trainer = a_trainer(small_loaded, kind)
    if what == "loss":
        with torch.no_grad():
            trainer.model.head.labels.bias[0] = float("nan")  # type: ignore[union-attr,index]
    else:
        weight: Any = trainer.model.head.labels.weight  # type: ignore[union-attr]
        weight.register_hook(lambda grad: grad * float("inf"))
    before = weights(trainer)
    names = [f"example {i + 1}" for i in batches_of_epoch(9, 6, 0, 0)[0][:4]]
    said = f"^the {what} is no number .* at update 1 of 2, on the batch of {', '.join(names)} and 2"
    with pytest.raises(TrainingDiverged, match=said):
        trained(trainer)
    assert torch.equal(torch.nan_to_num(weights(trainer)), torch.nan_to_num(before))


@pytest.mark.parametrize("name", KINDS)
def test_answers_do_not_depend_on_how_inputs_are_batched(
    small_loaded: Any, made: Callable[..., Any], name: str
) -> None:
    kind = made(name, 14)
    found = []
    for most in (1, 100, 10_000):
        trainer = a_trainer(small_loaded, kind, most=most)
        with torch.no_grad():
            for parameter in trainer.model.head.parameters():
                parameter *= 10
        trainer.model.train()
        answers = kind.task.answers(kind.examples, kind.inventory, kind.recipe)
        told: list[int] = []
        assert trainer.evaluate(kind.examples, answers, told.append) is answers
        assert sum(told) == kind.examples.n_inputs
        assert not trainer.model.training
        found.append(answers.scores())
    assert found[0] == found[1] == found[2]


def test_in_bfloat16_weights_stay_in_float32(small_loaded: Any, made: Callable[..., Any]) -> None:
    for name in KINDS:
        kind = made(name, 6, batch=3, epochs=1, precision="bfloat16")
        trainer = a_trainer(small_loaded, kind)
        exact = a_trainer(small_loaded, made(name, 6, batch=3, epochs=1))
        losses = [update.loss for update in trained(trainer)]
        assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
        # Another precision drops out the same, and rounds a little otherwise.
        others = [update.loss for update in trained(exact)]
        assert losses == pytest.approx(others, rel=0.05)
        assert losses != others
        answers = kind.task.answers(kind.examples, kind.inventory, kind.recipe)
        assert all(
            0 <= score <= 1 for score in trainer.evaluate(kind.examples, answers).scores().values()
        )


class TwoOfATeam:
    """One of two processes of which the other has no gradient at all."""

    device = torch.device("cpu")
    size, rank = 2, 0

    def __init__(self) -> None:
        self.sums: list[list[Any]] = []

    def add(self, tensors: Any) -> None:
        self.sums.append(list(tensors))


def test_a_team_leaves_what_nobody_has_a_gradient_of(
    small_loaded: Any, made: Callable[..., Any]
) -> None:
    kind = made("classify", 4, batch=4, epochs=1, weight_decay=0.5, lr=0.1, warmup=0.0)
    trainer = a_trainer(small_loaded, kind, most=1)
    model: Any = trainer.model
    model.encoder.unused = torch.nn.Linear(3, 3)
    before = model.encoder.unused.weight.detach().clone()
    team: Any = TwoOfATeam()
    both = replace(trainer, team=team)
    optimiser = both.optimiser()
    both._update(optimiser, 0, np.arange(4), np.ones(4))
    assert len(team.sums[0]) == 1
    assert len(team.sums[1]) == 1 + int(team.sums[0][0].sum())
    assert torch.equal(model.encoder.unused.weight, before)
    assert len(both._share(kind.examples.tokenization.lengths)) == 2
