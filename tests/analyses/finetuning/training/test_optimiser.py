"""Optimisers against torch and the textbook, and learning rates against their formulas."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from layerlake.analyses.finetuning.recipes import Recipe
from layerlake.analyses.finetuning.training.optimiser import Optimiser, learning_rate

STEPS = 20


class Net(torch.nn.Module):
    """Matrices, biases and a norm layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.LayerNorm = torch.nn.LayerNorm(4)
        self.last = torch.nn.Linear(4, 2, bias=False)


UNDECAYED = {"first.bias", "LayerNorm.weight", "LayerNorm.bias"}


def a_net(seed: int = 0) -> Net:
    generator = torch.Generator().manual_seed(seed)
    net = Net().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net


def gradients(net: Net, step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1000 + step)
    return {
        name: torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        for name, parameter in net.named_parameters()
    }


def give(net: Net, step: int) -> None:
    given = gradients(net, step)
    for name, parameter in net.named_parameters():
        parameter.grad = given[name]


def assert_equal(one: Net, two: Net, tolerance: float) -> None:
    other = dict(two.named_parameters())
    for name, parameter in one.named_parameters():
        assert torch.allclose(parameter, other[name], rtol=tolerance, atol=tolerance), name


def recipe(**entries: Any) -> Recipe:
    return Recipe(**{"lr": 0.05, "warmup": 0.2, "weight_decay": 0.1} | entries)


@pytest.mark.parametrize("schedule", ["bert", "linear", "constant"])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_twenty_updates_are_those_of_torch(name: str, schedule: str) -> None:
    entries = recipe(
        optimiser=name, schedule=schedule, weight_decay=0.1 if name == "adamw" else 0.0
    )
    ours, theirs = a_net(), a_net()
    optimiser = Optimiser([(ours, "", entries.lr)], entries, STEPS)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    decayed = [p for n, p in theirs.named_parameters() if n not in UNDECAYED]
    others = [p for n, p in theirs.named_parameters() if n in UNDECAYED]
    reference = kind(
        [
            {"params": decayed, "weight_decay": entries.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.999),
        eps=1e-6,
        fused=False,
        foreach=False,
    )
    for step in range(STEPS):
        give(ours, step)
        give(theirs, step)
        factor = optimiser.update(step)
        assert factor == learning_rate(entries, step, STEPS)
        for group in reference.param_groups:
            group["lr"] = 0.05 * factor
        reference.step()
        assert_equal(ours, theirs, 1e-12)


def test_bert_adamw_is_adam_without_correction_and_with_decay_apart() -> None:
    entries = recipe(optimiser="bert-adamw", schedule="bert")
    ours, theirs = a_net(), a_net()
    optimiser = Optimiser([(ours, "", entries.lr)], entries, STEPS)
    first = {name: torch.zeros_like(p) for name, p in theirs.named_parameters()}
    second = copy.deepcopy(first)
    for step in range(STEPS):
        give(ours, step)
        optimiser.update(step)
        # Devlin et al., optimization.py: decay is added to the update, and not to the moments.
        rate = 0.05 * (step / 4 if step < 4 else 1 - step / STEPS)
        given = gradients(theirs, step)
        with torch.no_grad():
            for name, parameter in theirs.named_parameters():
                first[name] = 0.9 * first[name] + 0.1 * given[name]
                second[name] = 0.999 * second[name] + 0.001 * given[name] ** 2
                change = first[name] / (second[name].sqrt() + 1e-6)
                if name not in UNDECAYED:
                    change = change + 0.1 * parameter
                parameter -= rate * change
        assert_equal(ours, theirs, 1e-9)
    moments = optimiser.moments()
    for name, value in first.items():
        assert torch.allclose(moments[f"first/{name}"], value, rtol=1e-9)
        assert torch.allclose(moments[f"second/{name}"], second[name], rtol=1e-9)


def test_no_bias_correction_holds_for_constants_close_to_one() -> None:
    entries = recipe(optimiser="bert-adamw", beta2=1 - 1e-12, schedule="constant", warmup=0.0)
    net = a_net()
    before = copy.deepcopy(net)
    give(net, 0)
    Optimiser([(net, "", entries.lr)], entries, STEPS).update(0)
    bias = dict(net.named_parameters())["first.bias"]
    given = gradients(net, 0)["first.bias"]
    change = 0.1 * given / ((1e-12 * given**2).sqrt() + 1e-6)
    assert torch.allclose(bias, before.first.bias - 0.05 * change, rtol=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "bert-adamw"])
def test_what_is_restored_goes_on_with_equal_bits(name: str) -> None:
    entries = recipe(optimiser=name, weight_decay=0.0 if name == "adam" else 0.1)
    straight = a_net().float()
    optimiser = Optimiser([(straight, "encoder.", entries.lr)], entries, STEPS)
    stopped: Any = None
    kept: dict[str, Any] = {}
    for step in range(STEPS):
        if step == 7:
            stopped = copy.deepcopy(straight)
            kept = {at: value.clone() for at, value in optimiser.moments().items()}
        for parameter, grad in zip(
            straight.parameters(), gradients(straight, step).values(), strict=True
        ):
            parameter.grad = grad.float()
        optimiser.update(step)
        optimiser.clear()
    assert sorted(kept) == sorted(
        f"{kind}/encoder.{name}"
        for kind in ("first", "second")
        for name, _ in straight.named_parameters()
    )
    again = Optimiser([(stopped, "encoder.", entries.lr)], entries, STEPS)
    again.restore(kept, 7)
    for step in range(7, STEPS):
        for parameter, grad in zip(
            stopped.parameters(), gradients(stopped, step).values(), strict=True
        ):
            parameter.grad = grad.float()
        again.update(step)
        again.clear()
    for parameter, other in zip(straight.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(parameter, other)
    assert all(torch.equal(again.moments()[at], value) for at, value in optimiser.moments().items())


def test_restoring_copies_the_moments() -> None:
    entries, net = recipe(), a_net()
    optimiser = Optimiser([(net, "", entries.lr)], entries, STEPS)
    give(net, 0)
    optimiser.update(0)
    kept = {at: value.clone() for at, value in optimiser.moments().items()}
    before = {at: value.clone() for at, value in kept.items()}
    again = Optimiser([(net, "", entries.lr)], entries, STEPS)
    again.restore(kept, 1)
    give(net, 1)
    again.update(1)
    assert all(torch.equal(kept[at], before[at]) for at in kept)
    assert Optimiser([(net, "", entries.lr)], entries, STEPS).moments() == {}


def test_parts_have_their_own_learning_rates() -> None:
    entries = recipe(optimiser="adam", weight_decay=0.0, schedule="constant", warmup=0.0)
    encoder, head = a_net(), a_net()
    before = copy.deepcopy(encoder)
    parts = [(encoder, "encoder.", 0.05), (head, "head.", 0.5)]
    optimiser = Optimiser(parts, entries, STEPS)
    give(encoder, 0)
    give(head, 0)
    optimiser.update(0)
    for old, one, two in zip(
        before.parameters(), encoder.parameters(), head.parameters(), strict=True
    ):
        assert torch.allclose(10 * (one - old), two - old, rtol=1e-6)
        assert float((one - old).detach().abs().max()) > 0.04


def test_what_is_frozen_is_left_out() -> None:
    entries, net = recipe(), a_net()
    net.first.requires_grad_(False)
    optimiser = Optimiser([(net, "", entries.lr)], entries, STEPS)
    assert sorted(optimiser.names) == ["LayerNorm.bias", "LayerNorm.weight", "last.weight"]
    before = net.first.weight.clone()
    give(net, 0)
    optimiser.update(5)
    assert torch.equal(net.first.weight, before)


def test_clearing_forgets_the_gradients() -> None:
    entries, net = recipe(), a_net()
    optimiser = Optimiser([(net, "", entries.lr)], entries, STEPS)
    give(net, 0)
    optimiser.clear()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_rate_of_bert_jumps_where_the_rise_ends() -> None:
    entries = Recipe(schedule="bert", warmup=0.1)
    found = [learning_rate(entries, step, 100) for step in range(100)]
    expected = [step / 10 if step < 10 else 1 - step / 100 for step in range(100)]
    assert found == pytest.approx(expected, abs=1e-15)
    # It would have reached 1.0 at update 10, and is at 0.9 there.
    assert found[9] == 0.9
    assert found[10] == 0.9
    assert found[9] + (found[9] - found[8]) == pytest.approx(1.0)
    assert found[99] == pytest.approx(0.01)


def test_the_linear_rate_has_no_jump() -> None:
    entries = Recipe(schedule="linear", warmup=0.1)
    found = [learning_rate(entries, step, 100) for step in range(101)]
    expected = [step / 10 if step < 10 else (100 - step) / 90 for step in range(101)]
    assert found == pytest.approx(expected, abs=1e-15)
    assert found[10] == max(found) == 1.0
    assert max(abs(a - b) for a, b in itertools.pairwise(found)) <= 0.1 + 1e-12
    assert found[100] == 0


def test_the_constant_rate_stays() -> None:
    entries = Recipe(schedule="constant", warmup=0.1)
    found = [learning_rate(entries, step, 100) for step in range(100)]
    assert found[:10] == [step / 10 for step in range(10)]
    assert found[10:] == [1.0] * 90


@pytest.mark.parametrize("schedule", ["bert", "linear", "constant"])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.999])
def test_rates_of_short_trainings_are_shares(schedule: str, n_steps: int, warmup: float) -> None:
    entries = Recipe(schedule=schedule, warmup=warmup)
    found = [learning_rate(entries, step, n_steps) for step in range(n_steps)]
    assert all(0 <= factor <= 1 for factor in found)
    assert found[-1] > 0


def test_counters_of_updates_lie_where_their_parameters_do() -> None:
    optimiser = Optimiser([(a_net(), "", 1.0)], Recipe(), STEPS)
    # No GPU is needed to see on which device something would be made.
    optimiser.names = ["one"]
    optimiser.parameters = [torch.nn.Parameter(torch.zeros(2, device="meta"))]
    zeros = torch.zeros(2)
    optimiser.restore({"first/one": zeros, "second/one": zeros}, 3)
    (state,) = (optimiser._adam.state[parameter] for parameter in optimiser.parameters)
    assert {name: value.device.type for name, value in state.items()} == dict.fromkeys(
        ("step", "exp_avg", "exp_avg_sq"), "meta"
    )
