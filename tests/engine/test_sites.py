"""Captured layers are what enters and leaves the blocks, for every architecture that is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layerlake.engine.models import LoadedModel
from layerlake.engine.sites import BLOCKS, Capture, block_list
from layerlake.store.errors import InvalidInput

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LAYERS = 4
ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
    "vocab_size": 60,
}
DECODER = ENCODER | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
GPT = {
    "n_embd": 32,
    "n_layer": LAYERS,
    "n_head": 4,
    "n_positions": 40,
    "vocab_size": 60,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
NEO = {
    "hidden_size": 32,
    "num_layers": LAYERS,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 3,
    "max_position_embeddings": 40,
    "vocab_size": 60,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
OPT = {
    "hidden_size": 32,
    "ffn_dim": 48,
    "word_embed_proj_dim": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "vocab_size": 60,
    "init_std": 0.3,
}
DISTIL = {
    "dim": 32,
    "hidden_dim": 48,
    "n_layers": LAYERS,
    "n_heads": 4,
    "max_position_embeddings": 40,
    "vocab_size": 60,
    "initializer_range": 0.3,
}
SLIDING = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2}
# For each architecture: its settings, where its blocks are, and its final norm (decoders).
ARCHITECTURES: dict[str, tuple[dict[str, Any], Callable[[Any], Any], str | None]] = {
    "bert": (ENCODER, lambda m: m.encoder.layer, None),
    "camembert": (ENCODER | {"pad_token_id": 1}, lambda m: m.encoder.layer, None),
    "distilbert": (DISTIL, lambda m: m.transformer.layer, None),
    "electra": (ENCODER | {"embedding_size": 16}, lambda m: m.encoder.layer, None),
    "gemma": (DECODER, lambda m: m.layers, "norm"),
    "gpt2": (GPT, lambda m: m.h, "ln_f"),
    "gpt_neo": (NEO, lambda m: m.h, "ln_f"),
    "gpt_neox": (ENCODER, lambda m: m.layers, "final_layer_norm"),
    "llama": (DECODER, lambda m: m.layers, "norm"),
    "mistral": (DECODER | {"sliding_window": 3}, lambda m: m.layers, "norm"),
    "mpnet": (ENCODER | {"pad_token_id": 1}, lambda m: m.encoder.layer, None),
    "opt": (OPT, lambda m: m.decoder.layers, "decoder.final_layer_norm"),
    "qwen2": (DECODER | SLIDING, lambda m: m.layers, "norm"),
    "qwen3": (DECODER, lambda m: m.layers, "norm"),
    "roberta": (ENCODER | {"pad_token_id": 1}, lambda m: m.encoder.layer, None),
    "xlm-roberta": (ENCODER | {"pad_token_id": 1}, lambda m: m.encoder.layer, None),
}
IDS = np.random.default_rng(0).integers(5, 60, (3, 9))
MASK = np.ones_like(IDS)
every_architecture = pytest.mark.parametrize("kind", sorted(ARCHITECTURES))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small run slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wrap(module: Any, kind: str) -> LoadedModel:
    return LoadedModel(
        module=module.eval().requires_grad_(False),
        tokenizer=None,
        source="tiny",
        revision=None,
        architecture=kind,
        config={},
        weights_digest="",
        n_layers=LAYERS,
        hidden=32,
        max_positions=40,
        randomize=None,
        truncate=None,
        device=torch.device("cpu"),
        compute_dtype="float32",
        attention="sdpa",
        pad_id=0,
    )


@cache
def tiny(kind: str) -> LoadedModel:
    config = transformers.AutoConfig.for_model(kind, **ARCHITECTURES[kind][0])
    # Keys and values that are kept for generation lie otherwise in memory, and round otherwise.
    config.use_cache = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return wrap(transformers.AutoModel.from_config(config), kind)


def watched(kind: str, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Wrap the forward of every block, so that what goes in and out is seen without hooks."""
    seen = SimpleNamespace(entered=None, left=[], calls=[])

    def wrap_block(number: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
            seen.calls.append(number)
            if number == 0:
                seen.entered = hidden_states.clone()
            out = forward(hidden_states, *args, **kwargs)
            seen.left.append((out[0] if isinstance(out, tuple) else out).clone())
            return out

        return run

    for number, block in enumerate(ARCHITECTURES[kind][1](tiny(kind).module)):
        monkeypatch.setattr(block, "forward", wrap_block(number, block.forward))
    return seen


def test_the_table_of_architectures_is_tested_whole() -> None:
    assert set(ARCHITECTURES) == set(BLOCKS)


@every_architecture
def test_layers_are_what_enters_and_leaves_the_blocks(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(kind, monkeypatch)
    with torch.inference_mode():
        tiny(kind).module(input_ids=torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK))
    expected = [seen.entered, *seen.left]
    with Capture(tiny(kind), range(LAYERS + 1)) as capture:
        taken = capture.run(IDS, MASK)
    assert list(taken) == list(range(LAYERS + 1))
    for layer, value in taken.items():
        assert value.shape == (*IDS.shape, 32)
        assert not value.requires_grad
        assert torch.equal(value, expected[layer]), layer


@every_architecture
def test_layers_agree_with_hidden_states_up_to_the_final_norm(kind: str) -> None:
    model, final_norm = tiny(kind), ARCHITECTURES[kind][2]
    with torch.inference_mode():
        states = model.module(torch.from_numpy(IDS), output_hidden_states=True).hidden_states
    with Capture(model, range(LAYERS + 1)) as capture:
        taken = capture.run(IDS)
    for layer in range(LAYERS):
        assert torch.equal(taken[layer], states[layer]), layer
    if final_norm is None:
        assert torch.equal(taken[LAYERS], states[LAYERS])
    else:
        assert (taken[LAYERS] - states[LAYERS]).abs().max() > 0.1
        normalised = model.module.get_submodule(final_norm)(taken[LAYERS])
        assert torch.allclose(normalised, states[LAYERS], atol=1e-5)


@every_architecture
@pytest.mark.parametrize("layers", [[0], [1], [2, 0]])
def test_nothing_runs_above_the_highest_layer(
    kind: str, layers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(kind, monkeypatch)
    with Capture(tiny(kind), layers) as capture:
        assert sorted(capture.run(IDS, MASK)) == sorted(layers)
    assert seen.calls == list(range(max(layers)))


@every_architecture
def test_padding_does_not_change_real_pieces(kind: str) -> None:
    model = tiny(kind)
    padding = 1 if ARCHITECTURES[kind][0].get("pad_token_id") == 1 else 0
    lengths = [9, 4, 6]
    mask = (np.arange(9) < np.array(lengths)[:, None]).astype(np.int64)
    with Capture(model, range(LAYERS + 1)) as capture:
        together = capture.run(np.where(mask, IDS, padding), mask)
        for row, length in enumerate(lengths):
            alone = capture.run(IDS[row : row + 1, :length])
            for layer, value in alone.items():
                error = (together[layer][row, :length] - value[0]).abs().max()
                assert error <= 1e-5 * max(1.0, value.abs().max()), layer


def test_segments_reach_the_models_that_have_them_and_no_others() -> None:
    segments = np.ones_like(IDS)
    for kind, changes in (("bert", True), ("distilbert", False), ("llama", False)):
        with Capture(tiny(kind), [1]) as capture:
            plain, marked = capture.run(IDS, MASK), capture.run(IDS, MASK, segments)
        assert torch.equal(plain[1], marked[1]) is not changes


def test_hooks_are_gone_after_the_block_even_after_an_error() -> None:
    model = tiny("bert")

    def hooks() -> list[int]:
        blocks = model.module.encoder.layer
        return [len(block._forward_pre_hooks) + len(block._forward_hooks) for block in blocks]

    before = hooks()
    capture = Capture(model, [0, 2])
    assert hooks() == before
    with capture:
        assert hooks() == [before[0] + 1, before[1] + 1, *before[2:]]
    assert hooks() == before
    with pytest.raises(IndexError), capture:
        capture.run(np.full_like(IDS, 10_000))
    assert hooks() == before
    with pytest.raises(RuntimeError, match=r"layers \[0, 2\] .* were not reached"):
        capture.run(IDS)


def test_what_was_taken_is_not_touched_by_a_call_from_elsewhere() -> None:
    model = tiny("bert")
    with Capture(model, [0, 2]) as capture:
        taken = capture.run(IDS)
        kept = {layer: hidden.clone() for layer, hidden in taken.items()}
        with pytest.raises(Exception):  # noqa: B017, PT011 (how the model is stopped is not told)
            model.module(torch.from_numpy(IDS[:, ::-1].copy()))
    assert all(torch.equal(taken[layer], kept[layer]) for layer in (0, 2))


def test_an_error_inside_the_model_is_not_mistaken_for_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny("bert")

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(model.module.encoder.layer[1], "forward", fail)
    with Capture(model, [1, 3]) as capture, pytest.raises(ZeroDivisionError):
        capture.run(IDS)


def test_a_block_that_is_skipped_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    monkeypatch.setattr(model.module.config, "num_hidden_layers", 2)
    with Capture(model, [1, 4]) as capture, pytest.raises(RuntimeError, match=r"layers \[4\]"):
        capture.run(IDS)


@pytest.mark.parametrize(
    ("layers", "site", "message"),
    [
        ([5], "resid", r"layer 5 asked of a model with 4 layers \(0-4\)"),
        ([0, -1], "resid", r"layer -1 asked of a model with 4 layers \(0-4\)"),
        ([], "resid", "no layers asked for; give some of 0-4"),
        ([1], "mlp_out", "site 'mlp_out' is not one of: resid"),
    ],
)
def test_layers_and_sites_the_model_lacks_are_refused(
    layers: list[int], site: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        Capture(tiny("bert"), layers, site)


def unknown(lists: dict[str, int]) -> Any:
    module = torch.nn.Module()
    for name, length in lists.items():
        blocks = torch.nn.ModuleList(torch.nn.Identity() for _ in range(length))
        module.add_module(name, blocks)
    module.config = SimpleNamespace(model_type="novel", num_hidden_layers=LAYERS)
    return module


def test_an_unknown_architecture_needs_one_list_as_long_as_its_layers() -> None:
    module = unknown({"stages": 2, "trunk": LAYERS})
    assert block_list(module) is module.trunk


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"a": LAYERS, "b": LAYERS}, r"2 of .*\(lists: a \(4\), b \(4\)\)"),
        ({"a": 2}, r"4 layers, and 0 of .*\(lists: a \(2\)\)"),
        ({}, r"\(lists: none\)"),
    ],
)
def test_an_ambiguous_architecture_is_refused(lists: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        block_list(unknown(lists))


def test_shared_blocks_are_refused_by_name() -> None:
    config = transformers.AlbertConfig(**ENCODER, embedding_size=16)
    with pytest.raises(InvalidInput, match="'albert' shares one block"):
        block_list(transformers.AutoModel.from_config(config))
