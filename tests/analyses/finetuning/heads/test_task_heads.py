"""Heads on a real small BERT: what is padded changes nothing, and a pre-trained pooler is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from layerlake.analyses.finetuning.heads.task_heads import (
    AnswerHead,
    Pooler,
    SentenceHead,
    initialise,
)
from layerlake.analyses.finetuning.heads.task_model import Shape, TaskModel, task_model

KINDS = ("classify", "squad", "tag", "dep")
N = 4


def a_model(loaded: Any, kind: Any, seed: int = 0) -> TaskModel:
    """Return the small BERT with a head whose weights are large enough to tell inputs apart."""
    from dataclasses import replace

    own = replace(loaded, module=copy.deepcopy(loaded.module))
    model = task_model(own, kind.task, kind.inventory, kind.recipe, Shape(), seed)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter *= 10
    return model.eval()


def per_input(outputs: dict[str, Any], batch: Any, row: int, length: int) -> dict[str, Any]:
    """Return what a model gave for one input of a batch."""
    if "start" in outputs:
        return {name: outputs[name][row, :length] for name in ("start", "end")}
    if "arcs" in outputs:
        n = int(batch.targets["n_words"][row]) + 1
        parts = {name: outputs[name][row, :n] for name in ("dependents", "heads")}
        return parts | {"arcs": outputs["arcs"][row, :n, :n]}
    if "n_words" in batch.targets:
        counts = batch.targets["n_words"].tolist()
        first = sum(counts[:row])
        return {"logits": outputs["logits"][first : first + counts[row]]}
    return {"logits": outputs["logits"][row]}


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("classify", {"pool": "first"}),
        ("classify", {"pool": "mean"}),
        ("classify", {"pool": "last"}),
        ("squad", {}),
        ("tag", {}),
        ("dep", {"root": "learned"}),
        ("dep", {"root": "first"}),
    ],
)
def test_padding_changes_no_logit(
    small_loaded: Any, made: Callable[..., Any], name: str, entries: dict[str, str]
) -> None:
    kind = made(name, 10, **entries)
    model = a_model(small_loaded, kind)
    lengths = kind.examples.tokenization.lengths
    chosen = np.argsort(lengths)[:: max(1, len(lengths) // N)][:N]
    assert lengths[chosen].max() > lengths[chosen].min() + 5
    together = kind.task.lay(kind.examples, chosen, small_loaded.pad_id)
    other_pad = kind.task.lay(kind.examples, chosen, 40)
    with torch.no_grad():
        outputs, others = model(together), model(other_pad)
        for row, index in enumerate(chosen):
            alone = kind.task.lay(kind.examples, np.array([index]), small_loaded.pad_id)
            length = int(lengths[index])
            expected = per_input(model(alone), alone, 0, length)
            for given in (outputs, others):
                found = per_input(given, together, row, length)
                for key, value in expected.items():
                    assert float(value.abs().max()) > 0.05
                    assert torch.allclose(found[key], value, rtol=1e-5, atol=2e-6), key


@pytest.mark.parametrize("name", KINDS)
def test_padding_changes_neither_loss_nor_gradient(
    small_loaded: Any, made: Callable[..., Any], name: str
) -> None:
    kind = made(name, 10)
    model = a_model(small_loaded, kind).double()
    lengths = kind.examples.tokenization.lengths
    chosen = np.argsort(lengths)[:: max(1, len(lengths) // N)][:N]
    assert len(set(lengths[chosen].tolist())) > 2

    def gradient(parts: list[Any]) -> tuple[float, Any]:
        model.zero_grad(set_to_none=True)
        total = 0.0
        for part in parts:
            batch = kind.task.lay(kind.examples, part, small_loaded.pad_id)
            loss = kind.task.loss(model(batch), batch)
            loss.backward()
            total += float(loss.detach())
        grads = [p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]
        return total, torch.cat(grads)

    padded, alone = gradient([chosen]), gradient([chosen[i : i + 1] for i in range(N)])
    assert padded[0] == pytest.approx(alone[0], rel=1e-12)
    assert torch.allclose(padded[1], alone[1], rtol=1e-9, atol=1e-12)
    assert float(padded[1].abs().max()) > 1e-3


def test_poolers_take_the_piece_or_the_mean_of_what_is_not_padded() -> None:
    hidden = torch.arange(24.0).reshape(2, 4, 3) / 24
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    chosen = {
        "first": [hidden[0, 0], hidden[1, 0]],
        "last": [hidden[0, 3], hidden[1, 1]],
        "mean": [hidden[0].mean(dim=0), hidden[1, :2].mean(dim=0)],
    }
    for pool, rows in chosen.items():
        pooler = Pooler(3, pool)
        expected = torch.tanh(pooler.dense(torch.stack(rows)))
        assert torch.allclose(pooler(hidden, mask), expected)


def test_padding_has_the_least_logit_of_an_answer() -> None:
    head = AnswerHead(3)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    outputs = head(torch.ones(2, 3, 3), {"attention_mask": mask}, {})
    for ends in outputs.values():
        assert (ends[1, 1:] == torch.finfo(torch.float32).min).all()
        assert (ends.softmax(dim=1)[1] == torch.tensor([1.0, 0.0, 0.0])).all()


def test_a_pooler_that_came_with_the_encoder_keeps_its_weights() -> None:
    head = SentenceHead(8, 2, "first", 0.1)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.pooler.trained = True
    initialise(head, 0)
    after = head.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name], value) == name.startswith("pooler")
    head.pooler.trained = False
    initialise(head, 0)
    assert not torch.equal(head.state_dict()["pooler.dense.weight"], before["pooler.dense.weight"])
    assert (head.state_dict()["pooler.dense.bias"] == 0).all()


def test_norm_layers_of_a_head_begin_at_one() -> None:
    head = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    with torch.no_grad():
        head[1].weight.fill_(7.0)
    initialise(head, 0)
    assert (head[1].weight == 1).all()
    assert (head[1].bias == 0).all()


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_the_encoder_s_own_pooler_is_taken_where_it_fits(
    small_loaded: Any, made: Callable[..., Any], pool: str
) -> None:
    from dataclasses import replace

    kind = made("classify", 4, pool=pool)
    given = {"dense.weight": torch.full((32, 32), 0.5), "dense.bias": torch.full((32,), 0.25)}
    own = replace(small_loaded, module=copy.deepcopy(small_loaded.module))
    model = task_model(own, kind.task, kind.inventory, kind.recipe, Shape(), 0, given)
    kept = model.head.state_dict()
    assert torch.equal(kept["pooler.dense.weight"], given["dense.weight"]) == (pool == "first")
    assert torch.equal(kept["pooler.dense.bias"], given["dense.bias"]) == (pool == "first")
    assert float(kept["labels.weight"].abs().max()) <= 0.04
