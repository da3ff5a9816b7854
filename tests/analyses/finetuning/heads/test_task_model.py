"""What is frozen, cut and dropped out, on small random models of several architectures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from layerlake.store.errors import InvalidInput

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from layerlake.analyses.finetuning.heads.task_model import Shape, TaskModel, check_shape, task_model

LAYERS = 3
ENCODER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
    "vocab_size": 60,
    "hidden_dropout_prob": 0.4,
    "attention_probs_dropout_prob": 0.4,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "bert": ENCODER,
    "albert": ENCODER | {"embedding_size": 8},
    "mpnet": ENCODER | {"pad_token_id": 1},
    "distilbert": {
        "dim": 16,
        "hidden_dim": 24,
        "n_layers": LAYERS,
        "n_heads": 2,
        "max_position_embeddings": 40,
        "vocab_size": 60,
        "dropout": 0.4,
        "attention_dropout": 0.4,
    },
    "gpt2": {
        "n_embd": 16,
        "n_layer": LAYERS,
        "n_head": 2,
        "n_positions": 40,
        "vocab_size": 60,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "embd_pdrop": 0.4,
        "attn_pdrop": 0.4,
        "resid_pdrop": 0.4,
    },
    "opt": {
        "hidden_size": 16,
        "ffn_dim": 24,
        "word_embed_proj_dim": 16,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
        "vocab_size": 60,
    },
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 60,
    },
    "t5": {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 24,
        "num_layers": LAYERS,
        "num_heads": 2,
        "vocab_size": 60,
        "decoder_start_token_id": 0,
    },
}
"""Of each architecture."""

BLOCKS = {
    "bert": ("encoder.layer.", ()),
    "mpnet": ("encoder.layer.", ()),
    "distilbert": ("transformer.layer.", ()),
    "gpt2": ("h.", ("ln_f.",)),
    "opt": ("decoder.layers.", ("decoder.final_layer_norm.",)),
    "llama": ("layers.", ("norm.",)),
}
"""What the names of blocks begin with, and those of what lies above them."""

IDS = torch.arange(5, 26).reshape(3, 7)


def encoder_of(kind: str) -> Any:
    config = transformers.AutoConfig.for_model(kind, **SETTINGS[kind])
    loader = transformers.AutoModelForTextEncoding if kind == "t5" else transformers.AutoModel
    more = {"add_pooling_layer": False} if kind in ("bert", "albert", "mpnet") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return loader.from_config(config, **more).eval()


class LastHead(torch.nn.Module):
    """Return the encoder's last layer through a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 3)

    def forward(self, hidden: Any, inputs: Any, targets: Any) -> dict[str, Any]:
        return {"hidden": hidden, "logits": self.layer(hidden)}


def a_batch() -> Any:
    ones = torch.ones_like(IDS)
    inputs = {"input_ids": IDS, "attention_mask": ones, "token_type_ids": torch.zeros_like(IDS)}
    return SimpleNamespace(inputs=inputs, targets={})


def gradients(model: TaskModel) -> set[str]:
    """Return the names of the encoder's parameters that one backward pass gives a gradient."""
    model.train()
    model(a_batch())["logits"].square().sum().backward()
    named = model.encoder.named_parameters()
    return {n for n, p in named if p.grad is not None and float(p.grad.abs().max()) > 0}


@pytest.mark.parametrize("freeze", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_only_what_is_above_the_frozen_part_has_gradients(kind: str, freeze: int) -> None:
    encoder = encoder_of(kind)
    model = TaskModel(encoder, LastHead())
    model.freeze(freeze, dropout=False)
    prefix, above = BLOCKS[kind]
    expected = set()
    for name, _ in encoder.named_parameters():
        block = name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) else None
        high = int(block) >= freeze if block else name.startswith(above) and freeze < LAYERS
        if freeze == -1 or (high and freeze < LAYERS):
            expected.add(name)
    found = gradients(model)
    trained = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert trained == expected
    # A bias of keys moves all logits of a softmax alike, and no position is near enough to matter.
    idle = {n for n in expected - found if "bias" in n or "position" in n or "token_type" in n}
    assert found == expected - idle
    assert len(idle) <= 2 * LAYERS + 2
    assert all(p.grad is not None for p in model.head.parameters())


@pytest.mark.parametrize("freeze", [-1, 0, 3])
def test_a_shared_block_is_frozen_whole_or_not_at_all(freeze: int) -> None:
    encoder = encoder_of("albert")
    model = TaskModel(encoder, LastHead())
    model.freeze(freeze, dropout=False)
    gradients(model)
    for name, parameter in encoder.named_parameters():
        in_block = "albert_layer_groups" in name
        expected = freeze == -1 or (freeze == 0 and in_block)
        assert parameter.requires_grad == expected, name
        assert (parameter.grad is not None) == expected, name


def layer_outputs(model: TaskModel, kind: str) -> list[Any]:
    """Return what enters each block, and the last layer, in one forward pass."""
    found: list[Any] = []
    blocks = model.encoder.get_submodule(BLOCKS[kind][0].removesuffix("."))
    hooks = [
        block.register_forward_pre_hook(
            lambda module, given, named: found.append(
                (given[0] if given else named["hidden_states"]).detach()
            ),
            with_kwargs=True,
        )
        for block in blocks
    ]
    found.append(model(a_batch())["hidden"].detach())
    for hook in hooks:
        hook.remove()
    return [*found[:-1], found[-1]]


@pytest.mark.parametrize("frozen_dropout", [False, True])
@pytest.mark.parametrize("freeze", [-1, 0, 2, 3])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2"])
def test_frozen_parts_do_not_drop_out_unless_they_are_to(
    kind: str, freeze: int, frozen_dropout: bool
) -> None:
    model = TaskModel(encoder_of(kind), LastHead())
    model.freeze(freeze, dropout=frozen_dropout)
    calm = layer_outputs(model.eval(), kind)
    assert not any(part.training for part in model.modules())
    model.train()
    assert model.training
    assert model.head.layer.training
    torch.manual_seed(1)
    first = layer_outputs(model, kind)
    torch.manual_seed(2)
    second = layer_outputs(model, kind)
    assert len(first) == LAYERS + 1
    for layer in range(LAYERS + 1):
        still = freeze >= layer and not frozen_dropout
        assert torch.equal(first[layer], calm[layer]) == still
        assert torch.equal(first[layer], second[layer]) == still
    assert not any(part.training for part in model.eval().modules())


def test_a_frozen_encoder_is_in_eval_mode_as_a_whole() -> None:
    model = TaskModel(encoder_of("albert"), LastHead())
    model.freeze(3, dropout=False)
    model.train()
    assert not any(part.training for part in model.encoder.modules())
    assert model.head.training


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_cut_bert_gives_the_layer_it_was_cut_at(
    small_loaded: Any, made: Callable[..., Any], keep: int
) -> None:
    kind = made("tag", 3)
    batch = kind.task.lay(kind.examples, kind.examples.tokenization.input_example, 0)
    with torch.no_grad():
        whole = small_loaded.module(**batch.inputs, output_hidden_states=True).hidden_states
    own = replace(small_loaded, module=copy.deepcopy(small_loaded.module))
    shape = check_shape(own, -1, keep)
    model = task_model(own, kind.task, kind.inventory, kind.recipe, shape, 0).eval()
    seen = []
    model.head.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    model(batch)
    real = batch.inputs["attention_mask"] > 0
    assert torch.allclose(seen[0][real], whole[keep][real], atol=1e-6)
    assert len(own.module.encoder.layer) == own.module.config.num_hidden_layers == keep


def test_a_cut_gpt2_keeps_its_final_norm() -> None:
    encoder = encoder_of("gpt2")
    calm = encoder(IDS, output_hidden_states=True).hidden_states[2]
    expected = encoder.ln_f(calm)
    from layerlake.engine.models.architectures import truncate_blocks

    truncate_blocks(encoder, 2)
    found = TaskModel(encoder, LastHead()).eval()(a_batch())["hidden"]
    assert torch.allclose(found, expected, atol=1e-6)


def test_numbers_of_blocks_that_are_not_there_are_refused(small_loaded: Any) -> None:
    for freeze, truncate in ((-2, None), (4, None), (True, None), (2.0, None), (3, 2)):
        with pytest.raises(InvalidInput, match=r"^freeze is .*give a whole number from -1 to"):
            check_shape(small_loaded, freeze, truncate)  # type: ignore[arg-type]
    for truncate in (0, 4, -1):
        with pytest.raises(InvalidInput, match=r"^truncate is .*whole number from 1 to 3"):
            check_shape(small_loaded, -1, truncate)
    assert check_shape(small_loaded, 2, 2) == Shape(2, 2)
    assert check_shape(small_loaded, -1, None) == Shape(-1, None)
    shared = replace(small_loaded, module=encoder_of("albert"), source="albert")
    for freeze in (1, 2):
        with pytest.raises(InvalidInput, match="share one block"):
            check_shape(shared, freeze, None)
    assert [check_shape(shared, freeze, None).freeze for freeze in (-1, 0, 3)] == [-1, 0, 3]


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_the_recipe_s_dropout_reaches_every_place_that_drops_out(
    small_loaded: Any,
    made: Callable[..., Any],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = made("classify", 3, dropout=0.25)
    own = replace(small_loaded, module=encoder_of(kind), n_layers=LAYERS)
    model = task_model(own, task.task, task.inventory, task.recipe, Shape(), 0)
    functional = torch.nn.functional
    plain, attention = functional.dropout, functional.scaled_dot_product_attention
    seen: dict[str, list[float]] = {"plain": [], "attention": []}

    def dropped(given: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        assert training
        seen["plain"].append(p)
        return plain(given, p, training, inplace)

    def attended(*given: Any, dropout_p: float = 0.0, **named: Any) -> Any:
        seen["attention"].append(dropout_p)
        return attention(*given, dropout_p=dropout_p, **named)

    monkeypatch.setattr(functional, "dropout", dropped)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", attended)
    model.train()
    logits = model(a_batch())["logits"]
    assert logits.shape == (3, 3)
    assert set(seen["plain"]) == {0.25}  # before the head at least
    if kind == "mpnet":  # computes attention itself
        assert len(seen["plain"]) >= 2 * LAYERS + 1
    else:
        assert seen["attention"] == [0.25] * LAYERS
    model.eval()
    monkeypatch.setattr(functional, "dropout", plain)
    seen["attention"].clear()
    model(a_batch())
    assert set(seen["attention"]) <= {0.0}


def test_without_a_dropout_of_the_recipe_the_encoder_keeps_its_own(
    small_loaded: Any, made: Callable[..., Any]
) -> None:
    task = made("classify", 3)
    own = replace(small_loaded, module=encoder_of("bert"), n_layers=LAYERS)
    model = task_model(own, task.task, task.inventory, task.recipe, Shape(), 0)
    rates = {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)}
    assert rates == {0.4}


def test_the_frozen_dropout_of_the_recipe_is_followed(
    small_loaded: Any, made: Callable[..., Any]
) -> None:
    for given in (False, True):
        task = made("classify", 3, frozen_dropout=given)
        own = replace(small_loaded, module=encoder_of("bert"), n_layers=LAYERS)
        model = task_model(own, task.task, task.inventory, task.recipe, Shape(freeze=1), 0)
        model.train()
        assert own.module.embeddings.dropout.training == given
        assert own.module.encoder.layer[1].output.dropout.training


def test_segments_are_given_to_those_that_know_them() -> None:
    for kind, accepts in (("bert", True), ("distilbert", False), ("gpt2", False)):
        model = TaskModel(encoder_of(kind), LastHead()).eval()
        batch = a_batch()
        first = model(batch)["hidden"]
        batch.inputs["token_type_ids"] = torch.ones_like(IDS)
        assert torch.equal(first, model(batch)["hidden"]) != accepts


def test_a_decoder_keeps_no_keys_and_values() -> None:
    encoder = encoder_of("gpt2")
    kept = []
    encoder.register_forward_hook(lambda module, given, out: kept.append(out.past_key_values))
    TaskModel(encoder, LastHead())(a_batch())
    assert kept == [None]
