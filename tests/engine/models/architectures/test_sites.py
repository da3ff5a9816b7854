"""Names of sites: what each stands for, in whose words, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from layerlake.engine.extraction.capture import Capture, resolve_places
from layerlake.engine.models.architectures import find_trunk
from layerlake.engine.models.loading import LoadedModel
from layerlake.engine.models.sites import Place, split_sites
from layerlake.store.errors import InvalidInput

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LAYERS = 4
Tiny = Callable[[str], LoadedModel]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("blocks.2.hook_resid_post", Place("resid", 3)),
        ("blocks.2.hook_resid_pre", Place("resid", 2)),
        ("blocks.0.hook_resid_pre", Place("resid", 0)),
        ("blocks.3.hook_attn_out", Place("attn_out", 4)),
        ("blocks.3.hook_mlp_out", Place("mlp_out", 4)),
        ("hook_embed", Place("embed", 0)),
        ("ln_final.hook_normalized", Place("final_norm", 4)),
        ("h.2", Place("resid", 3)),
        ("h.2.mlp.c_proj", Place("block.mlp.c_proj", 3)),
        ("wte", Place("wte", 0)),
        ("drop", Place("drop", 0)),
        ("ln_f", Place("ln_f", 4)),
    ],
)
def test_a_name_of_one_place_is_that_place_whatever_layers_are_asked(
    name: str, place: Place, tiny: Tiny
) -> None:
    assert resolve_places(tiny("gpt2"), [name], [1]) == {place: 32}


def test_a_module_path_in_a_block_gives_what_the_module_gives(tiny: Tiny, pieces: Any) -> None:
    model, inputs = tiny("bert"), pieces("bert")
    places = resolve_places(model, ["encoder.layer.1.intermediate", "block.output.dense"], [2, 4])
    assert places == {
        Place("block.intermediate", 2): 48,
        Place("block.output.dense", 2): 32,
        Place("block.output.dense", 4): 32,
    }
    seen = []
    block = model.module.encoder.layer[1].intermediate
    handle = block.register_forward_hook(lambda *call: seen.append(call[2].clone()))
    with handle, Capture(model, places) as capture:
        taken = capture.run(inputs)
    assert torch.equal(taken[Place("block.intermediate", 2)], seen[0])
    with Capture(model, [Place("mlp_out", 4)]) as capture:
        (same,) = capture.run(inputs).values()
    assert torch.equal(taken[Place("block.output.dense", 4)], same)


def test_several_sites_come_in_the_order_asked_and_once(tiny: Tiny) -> None:
    names = split_sites("mlp_out, resid,mlp_out")
    assert names == ("mlp_out", "resid")
    places = resolve_places(tiny("llama"), [*names, "blocks.0.hook_resid_post"], [0, 1])
    assert list(places) == [Place("mlp_out", 1), Place("resid", 0), Place("resid", 1)]


@pytest.mark.parametrize(
    ("kind", "site", "layers", "message"),
    [
        ("bert", "resid", [5], r"layer 5 asked of a model with 4 layers \(0-4\)"),
        ("bert", "resid", [0, -1], r"layer -1 asked of a model with 4 layers \(0-4\)"),
        ("bert", "resid", [], "no layers asked for; give some of 0-4"),
        ("bert", "mlp_out", [0], "site 'mlp_out' has layers 1-4, and only layer 0 is asked for"),
        ("bert", "mlp-out", [1], "'mlp-out' is no site: give some of resid, attn_out"),
        ("bert", "mlp_outt", [1], "no site 'mlp_outt'; did you mean mlp_out"),
        ("bert", "block.outputt", [1], "no module 'outputt'; did you mean output"),
        ("bert", "encoder.layer.7.output", [1], "blocks encoder.layer.0 to encoder.layer.3"),
        ("bert", "blocks.4.hook_mlp_out", [1], "a model with blocks blocks.0 to blocks.3"),
        ("bert", "blocks.1.hook_resid_mid", [1], "of TransformerLens has no counterpart here"),
        ("bert", "blocks.1.attn.hook_z", [1], "of TransformerLens has no counterpart here"),
        ("bert", "encoder", [1], "not one vector a piece|belongs to no layer"),
        ("bert", "block.attention.self.dropout", [1], "did not run|not one vector a piece"),
        ("bert", "pooler.dense", [1], "not one vector a piece"),
        ("albert", "encoder.albert_layer_groups.0.albert_layers.0.ffn", [1], "share the block"),
        ("distilbert", "block.attention.dropout", [1], "did not run"),
        ("gpt2", "blocks.9.hook_resid_pre", [1], "blocks blocks.0 to blocks.3"),
    ],
)
def test_a_site_that_is_not_there_is_refused_in_a_sentence(
    kind: str, site: str, layers: list[int], message: str, tiny: Tiny
) -> None:
    with pytest.raises(InvalidInput, match=message):
        resolve_places(tiny(kind), [site], layers)


@pytest.mark.parametrize("sites", ["", " , ", [], [3], 7])
def test_sites_that_cannot_be_read_are_refused(sites: Any) -> None:
    with pytest.raises(InvalidInput, match=r"no sites asked for|not understood"):
        split_sites(sites)


def test_a_module_that_runs_twice_in_a_block_is_refused(tiny: Tiny) -> None:
    model = tiny("vit")
    pixels = {"pixel_values": torch.zeros(2, 3, 16, 16)}
    if not hasattr(model.module, "layers"):
        pytest.skip("this release gives each dropout a module of its own")
    with pytest.raises(InvalidInput, match=r"'block\.dropout' runs more than once in layer 1"):
        resolve_places(model, ["block.dropout"], [1], pixels)


def test_an_unknown_architecture_gives_its_blocks_and_their_modules(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("gpt2")
    monkeypatch.setattr(type(model.module.config), "model_type", "novel")
    assert len(resolve_places(model, ["resid"], range(5))) == 5
    assert resolve_places(model, ["block.mlp"], [4]) == {Place("block.mlp", 4): 32}
    with pytest.raises(InvalidInput, match=r"'novel' has its attn_out is not known; .*ln_1, attn"):
        resolve_places(model, ["attn_out"], [1])


def unknown(lists: dict[str, int]) -> Any:
    module = torch.nn.Module()
    for name, length in lists.items():
        blocks = torch.nn.ModuleList(torch.nn.Identity() for _ in range(length))
        module.add_module(name, blocks)
    module.config = SimpleNamespace(model_type="novel", num_hidden_layers=LAYERS)
    return module


def test_an_unknown_architecture_needs_one_list_as_long_as_its_layers() -> None:
    module = unknown({"stages": 2, "trunk": LAYERS})
    assert find_trunk(module).blocks is module.trunk


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
        find_trunk(unknown(lists))


def test_several_groups_of_shared_blocks_are_refused() -> None:
    config = transformers.AlbertConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        embedding_size=16,
        num_hidden_groups=2,
    )
    with pytest.raises(InvalidInput, match="'albert' with 2 groups of 1 blocks is not supported"):
        find_trunk(transformers.AutoModel.from_config(config))


def unusual(kind: str, **settings: Any) -> LoadedModel:
    from layerlake.engine.models.loading import describe

    config = transformers.AutoConfig.for_model(kind, **settings)
    with torch.random.fork_rng(devices=[]):
        module = transformers.AutoModel.from_config(config).eval()
    tokenizer = SimpleNamespace(pad_token_id=0)
    about = {"source": kind, "revision": None, "weights_digest": "", "randomize": None}
    about |= {"truncate": None, "device": torch.device("cpu"), "compute_dtype": "float32"}
    return describe(module, tokenizer, n_layers=2, **about)


def test_blocks_that_lay_pieces_before_examples_are_refused() -> None:
    model = unusual("xlnet", d_model=32, n_layer=2, n_head=2, d_inner=48, vocab_size=60)
    with pytest.raises(
        InvalidInput, match=r"'resid' gives \(3, 2, 32\) for pieces of shape \(2, 3\)"
    ):
        resolve_places(model, ["resid"], [0, 1, 2])


def test_a_model_that_takes_no_mask_is_not_given_padding() -> None:
    model = unusual(
        "fnet", hidden_size=32, num_hidden_layers=2, intermediate_size=48, vocab_size=60
    )
    places = resolve_places(model, ["resid"], [0, 1, 2])
    ids = torch.tensor([[4, 5, 6], [7, 8, 0]])
    with Capture(model, places) as capture:
        capture.run({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        with pytest.raises(InvalidInput, match="take no attention mask, so that padding would"):
            capture.run({"input_ids": ids, "attention_mask": (ids > 0).long()})
