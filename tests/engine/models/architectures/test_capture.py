"""What is captured is what the modules get and give, and nothing runs that need not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layerlake.engine.extraction.capture import Capture, NotReached, resolve_places
from layerlake.engine.models.architectures import ANATOMY
from layerlake.engine.models.loading import LoadedModel
from layerlake.engine.models.sites import Place
from layerlake.store.errors import InvalidInput

torch = pytest.importorskip("torch")

LAYERS = 4
RESID = [Place("resid", layer) for layer in range(LAYERS + 1)]
Tiny = Callable[[str], LoadedModel]
Inputs = Callable[[str], dict[str, Any]]


def run_whole(model: LoadedModel, inputs: Mapping[str, Any], **options: Any) -> Any:
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        return model.module(**tensors, **options)


def watch(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Wrap a module's forward, so that what it gives is seen without hooks."""
    seen: list[Any] = []
    forward = module.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        first = out[0] if isinstance(out, tuple) else out
        seen.append(first.clone())
        return out

    monkeypatch.setattr(module, "forward", run)
    return seen


def watch_blocks(blocks: Any, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Wrap the forward of every block; see what goes in and out, in the order of running."""
    seen = SimpleNamespace(entered=[], left=[])

    def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
            seen.entered.append(hidden_states.clone())
            out = forward(hidden_states, *args, **kwargs)
            seen.left.append((out[0] if isinstance(out, tuple) else out).clone())
            return out

        return run

    for block in blocks:
        monkeypatch.setattr(block, "forward", wrap(block.forward))
    return seen


def test_every_architecture_of_the_table_is_tested(known: dict[str, Any]) -> None:
    assert set(known) == set(ANATOMY)


def test_layers_are_what_enters_and_leaves_the_blocks(
    kind: str, tiny: Tiny, known: dict[str, Any], pieces: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = tiny(kind), pieces(kind)
    seen = watch_blocks(known[kind].blocks(model.module), monkeypatch)
    run_whole(model, inputs)
    expected = [seen.entered[0], *seen.left]
    with Capture(model, RESID) as capture:
        taken = capture.run(inputs)
    assert list(taken) == RESID
    assert len(expected) == len(RESID)
    for place, value in taken.items():
        assert not value.requires_grad
        assert torch.equal(value, expected[place.layer]), place


def test_branches_are_what_their_modules_give_and_add_up_to_the_stream(
    kind: str, tiny: Tiny, known: dict[str, Any], pieces: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs, reader = tiny(kind), pieces(kind), known[kind]
    blocks = reader.blocks(model.module)
    attended = [watch(reader.attention(block), monkeypatch) for block in blocks]
    fed = [watch(reader.feed_forward(block), monkeypatch) for block in blocks]
    run_whole(model, inputs)
    expected = {
        "attn_out": [value for seen in attended for value in seen],
        "mlp_out": [value for seen in fed for value in seen],
    }
    monkeypatch.undo()
    places = resolve_places(model, ["resid", "attn_out", "mlp_out"], range(LAYERS + 1), inputs)
    assert set(places.values()) == {32}
    with Capture(model, places) as capture:
        taken = capture.run(inputs)
    assert len(taken) == 3 * LAYERS + 1
    for layer in range(1, LAYERS + 1):
        for site, values in expected.items():
            value = taken[Place(site, layer)]
            assert torch.equal(value, values[layer - 1].reshape(value.shape)), (site, layer)
            assert value.abs().max() > 1e-3
        block = blocks[(layer - 1) % len(blocks)]
        with torch.inference_mode():
            total = reader.add(
                block,
                taken[Place("resid", layer - 1)],
                taken[Place("attn_out", layer)],
                taken[Place("mlp_out", layer)],
            )
        left = taken[Place("resid", layer)]
        assert (total - left).abs().max() <= 1e-5 * left.abs().max(), layer


def test_embedding_and_final_norm_are_what_their_modules_give(
    kind: str, tiny: Tiny, known: dict[str, Any], pieces: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs, reader = tiny(kind), pieces(kind), known[kind]
    for site, find, layer in (("embed", reader.embedding, 0), ("final_norm", reader.final_norm, 4)):
        if find is None:
            with pytest.raises(InvalidInput, match=f"architecture '{kind}' has no"):
                resolve_places(model, [site], [1], inputs)
            continue
        with monkeypatch.context() as patch:
            seen = watch(find(model.module), patch)
            run_whole(model, inputs)
        places = resolve_places(model, [site], [1], inputs)
        assert list(places) == [Place(site, layer)]
        with Capture(model, places) as capture:
            (value,) = capture.run(inputs).values()
        assert value.shape[-1] == places[Place(site, layer)]
        assert torch.equal(value, seen[0])


def test_layers_agree_with_hidden_states_up_to_the_final_norm(
    kind: str, tiny: Tiny, known: dict[str, Any], pieces: Inputs
) -> None:
    model, inputs, final_norm = tiny(kind), pieces(kind), known[kind].final_norm
    states = run_whole(model, inputs, output_hidden_states=True).hidden_states
    with Capture(model, RESID) as capture:
        taken = [capture.run(inputs)[place] for place in RESID]
    # Factorised embeddings are shown before they are widened to the stream.
    first = 1 if states[0].shape != taken[0].shape else 0
    for layer in range(first, LAYERS):
        assert torch.equal(taken[layer], states[layer]), layer
    if final_norm is None or kind == "vit":
        assert torch.equal(taken[LAYERS], states[LAYERS])
    else:
        assert (taken[LAYERS] - states[LAYERS]).abs().max() > 0.01
        normalised = final_norm(model.module)(taken[LAYERS])
        assert torch.allclose(normalised, states[LAYERS], atol=1e-5)


@pytest.mark.parametrize("layers", [[0], [1], [2, 0]])
def test_nothing_runs_above_the_highest_layer(
    kind: str,
    layers: list[int],
    tiny: Tiny,
    known: dict[str, Any],
    pieces: Inputs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny(kind)
    seen = watch_blocks(known[kind].blocks(model.module), monkeypatch)
    with Capture(model, [Place("resid", layer) for layer in layers]) as capture:
        assert sorted(place.layer for place in capture.run(pieces(kind))) == sorted(layers)
    assert len(seen.left) == max(layers)


def test_a_branch_stops_the_model_within_its_block(
    kind: str, tiny: Tiny, known: dict[str, Any], pieces: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(kind)
    seen = watch_blocks(known[kind].blocks(model.module), monkeypatch)
    with Capture(model, [Place("attn_out", 2)]) as capture:
        capture.run(pieces(kind))
    assert (len(seen.entered), len(seen.left)) == (2, 1)


def test_padding_does_not_change_real_pieces(
    kind: str, tiny: Tiny, known: dict[str, Any], pieces: Inputs
) -> None:
    if kind == "vit":
        pytest.skip("images are not padded")
    model = tiny(kind)
    ids = pieces(kind)["input_ids"]
    padding = 1 if known[kind].settings.get("pad_token_id") == 1 else 0
    lengths = [9, 4, 6]
    mask = (np.arange(9) < np.array(lengths)[:, None]).astype(np.int64)
    padded = {"input_ids": np.where(mask, ids, padding), "attention_mask": mask}
    with Capture(model, RESID) as capture:
        together = capture.run(padded)
        for row, length in enumerate(lengths):
            alone = {"input_ids": ids[row : row + 1, :length]}
            alone["attention_mask"] = np.ones_like(alone["input_ids"])
            for place, value in capture.run(alone).items():
                error = (together[place][row, :length] - value[0]).abs().max()
                assert error <= 1e-5 * max(1.0, value.abs().max()), place


def test_segments_reach_the_models_that_have_them_and_no_others(tiny: Tiny, pieces: Inputs) -> None:
    for kind, changes in (("bert", True), ("distilbert", False), ("llama", False)):
        inputs = pieces(kind)
        segments = {"token_type_ids": np.ones_like(inputs["input_ids"])}
        with Capture(tiny(kind), [Place("resid", 1)]) as capture:
            (plain,) = capture.run(inputs).values()
            (marked,) = capture.run(inputs | segments).values()
        assert torch.equal(plain, marked) is not changes


def test_hooks_are_gone_after_the_block_even_after_an_error(tiny: Tiny, pieces: Inputs) -> None:
    model, inputs = tiny("bert"), pieces("bert")

    def hooks() -> int:
        return sum(
            len(part._forward_pre_hooks) + len(part._forward_hooks)
            for part in model.module.modules()
        )

    before = hooks()
    capture = Capture(model, [Place("resid", 0), Place("mlp_out", 2)])
    assert hooks() == before
    with capture:
        assert hooks() > before
    assert hooks() == before
    with pytest.raises(IndexError), capture:
        capture.run({"input_ids": np.full_like(inputs["input_ids"], 10_000)})
    assert hooks() == before
    with pytest.raises(NotReached, match=r"resid/0, mlp_out/2 of a bert model did not run"):
        capture.run(inputs)


def test_what_was_taken_is_not_touched_by_a_call_from_elsewhere(tiny: Tiny, pieces: Inputs) -> None:
    model, inputs = tiny("bert"), pieces("bert")
    places = [Place("resid", 0), Place("resid", 2)]
    with Capture(model, places) as capture:
        taken = capture.run(inputs)
        kept = {place: hidden.clone() for place, hidden in taken.items()}
        other = torch.from_numpy(inputs["input_ids"][:, ::-1].copy())
        with torch.inference_mode():
            whole = model.module(other).last_hidden_state
    with torch.inference_mode():
        assert torch.equal(model.module(other).last_hidden_state, whole)
    assert all(torch.equal(taken[place], kept[place]) for place in places)


def test_an_error_inside_the_model_is_not_mistaken_for_the_end(
    tiny: Tiny, pieces: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("bert")

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(model.module.encoder.layer[1], "forward", fail)
    with Capture(model, RESID[1:4:2]) as capture, pytest.raises(ZeroDivisionError):
        capture.run(pieces("bert"))


def test_a_block_that_is_skipped_is_an_error(
    tiny: Tiny, pieces: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    monkeypatch.setattr(model.module.config, "num_hidden_layers", 2)
    with (
        Capture(model, [RESID[1], RESID[4]]) as capture,
        pytest.raises(NotReached, match="resid/4"),
    ):
        capture.run(pieces("llama"))
