"""A model that lives in the caller's process gives its activations, and stays as it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.loading import load_model
from layerlake.store.errors import InvalidInput, NameConflict
from layerlake.store.lake import Lake, open_lake

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# What peft asks of transformers, not what is asked of either here.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

TEXTS = ["the tide comes in", "gulls"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake", "a")


def headed(folder: Path, head: str = "AutoModelForMaskedLM") -> Any:
    return getattr(transformers, head).from_pretrained(folder, local_files_only=True)


def tokenizer_of(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize("head", ["AutoModel", "AutoModelForMaskedLM"])
def test_a_live_model_equals_its_folder_and_is_left_alone(
    head: str, lake: Lake, small_bert: Path
) -> None:
    module = headed(small_bert, head).train()
    frozen = module.base_model.encoder.layer[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    tokenizer = tokenizer_of(small_bert)
    extract(lake, module, TEXTS, tokenizer=tokenizer, corpus_name="c", variant="live")
    extract(lake, small_bert, "c", variant="folder", device="cpu")
    for layer in range(4):
        live, folder = (lake.space("c", v, layer).rows(slice(None)) for v in ("live", "folder"))
        assert np.array_equal(live, folder)
    digests = {lake.attributes(f"variants/{v}")["weights_digest"] for v in ("live", "folder")}
    assert len(digests) == 1
    assert module.training
    assert not frozen.training
    assert module.base_model.encoder.layer[0].training
    assert all(p.requires_grad for p in module.parameters())
    assert not any(len(part._forward_hooks) for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_model_that_was_trained_on_is_another_variant(lake: Lake, small_bert: Path) -> None:
    module, tokenizer = headed(small_bert), tokenizer_of(small_bert)
    extract(lake, module, TEXTS, tokenizer=tokenizer, corpus_name="c", variant="v")
    module.base_model.encoder.layer[0].output.dense.bias.data += 1
    with pytest.raises(NameConflict, match="variant 'v' holds other weights"):
        extract(lake, module, "c", tokenizer=tokenizer, variant="v")


def test_the_same_weights_built_otherwise_are_another_variant(lake: Lake, small_bert: Path) -> None:
    tokenizer = tokenizer_of(small_bert)
    options = {"tokenizer": tokenizer, "variant": "v"}
    extract(lake, headed(small_bert), TEXTS, corpus_name="c", **options)
    extract(lake, headed(small_bert, "AutoModelForTokenClassification"), "c", **options)
    module = headed(small_bert)
    module.config.layer_norm_eps = 0.1
    with pytest.raises(
        NameConflict, match=r"another config \(layer_norm_eps 1e-12 then, 0.1 now\)"
    ):
        extract(lake, module, "c", **options)


def test_an_adapter_at_work_counts(lake: Lake, small_bert: Path) -> None:
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(target_modules=["query"], r=2, init_lora_weights=False)
    module = peft.get_peft_model(headed(small_bert), settings)
    tokenizer = tokenizer_of(small_bert)
    extract(lake, module, TEXTS, tokenizer=tokenizer, corpus_name="c", variant="lora")
    merged = module.merge_and_unload()
    extract(lake, merged, "c", tokenizer=tokenizer, variant="merged")
    lora, plain = (lake.space("c", v, 3).rows(slice(None)) for v in ("lora", "merged"))
    assert np.abs(lora.astype(float) - plain).max() < 1e-2
    assert lake.attributes("variants/lora")["source"] == "small"


def test_the_name_is_that_of_the_folder_it_came_from(lake: Lake, small_bert: Path) -> None:
    module, tokenizer = headed(small_bert), tokenizer_of(small_bert)
    extract(lake, module, TEXTS, tokenizer=tokenizer, corpus_name="c")
    assert lake.variants() == ["small"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": None}, "comes without a tokenizer; give it as tokenizer="),
        ({"tokenizer": SimpleNamespace(is_fast=False)}, "no fast tokenizer"),
        ({"truncate": 1}, "truncate cannot be asked of a model that is loaded already"),
        ({"randomize": 0, "device": "cpu"}, "randomize and device cannot be asked"),
    ],
)
def test_what_cannot_be_done_with_a_live_model_is_refused(
    options: dict[str, Any], message: str, lake: Lake, small_bert: Path
) -> None:
    given = {"tokenizer": tokenizer_of(small_bert)} | options
    with pytest.raises(InvalidInput, match=message):
        extract(lake, headed(small_bert), TEXTS, corpus_name="c", **given)
    assert lake.corpora() == []


def test_what_is_no_model_of_transformers_is_refused(lake: Lake, small_bert: Path) -> None:
    tokenizer = tokenizer_of(small_bert)
    with pytest.raises(InvalidInput, match=r"Linear has no config .* bring its activations"):
        extract(lake, torch.nn.Linear(2, 2), TEXTS, tokenizer=tokenizer, corpus_name="c")
    with pytest.raises(InvalidInput, match="a int is no model"):
        extract(lake, 3, TEXTS, corpus_name="c")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="tokenizer= is for a live model"):
        extract(lake, small_bert, TEXTS, tokenizer=tokenizer, corpus_name="c")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(InvalidInput, match="embeds 50 of them; they do not belong together"):
        extract(lake, transformers.BertModel(config), TEXTS, tokenizer=tokenizer, corpus_name="c")


def test_weights_that_are_nowhere_are_refused(lake: Lake, small_bert: Path) -> None:
    module = headed(small_bert).to("meta")
    tokenizer = tokenizer_of(small_bert)
    with pytest.raises(InvalidInput, match=r"not in memory \(device meta\)"):
        extract(lake, module, TEXTS, tokenizer=tokenizer, corpus_name="c")


@pytest.mark.parametrize("device_map", ["auto", "balanced", "sequential"])
def test_a_device_map_changes_no_value(device_map: str, small_bert: Path, lake: Lake) -> None:
    pytest.importorskip("accelerate")
    extract(lake, small_bert, TEXTS, corpus_name="c", variant="plain", device="cpu")
    extract(lake, small_bert, "c", variant="spread", device_map=device_map)
    for layer in range(4):
        plain, spread = (lake.space("c", v, layer).rows(slice(None)) for v in ("plain", "spread"))
        assert np.array_equal(plain, spread)


def test_a_device_map_is_checked(small_bert: Path) -> None:
    with pytest.raises(InvalidInput, match="device map 'x' is not one of: auto, balanced"):
        load_model(str(small_bert), device_map="x")
    with pytest.raises(InvalidInput, match="exclude each other"):
        load_model(str(small_bert), device="cpu", device_map="auto")


def test_each_adapter_of_a_live_model_is_a_variant_of_its_own(lake: Lake, small_bert: Path) -> None:
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    module = peft.get_peft_model(headed(small_bert), settings, adapter_name="one")
    module.add_adapter("two", settings)
    given: dict[str, Any] = {"tokenizer": tokenizer_of(small_bert), "corpus_name": "c"}
    extract(lake, module, TEXTS, variant="one", **given)
    module.set_adapter("two")
    with pytest.raises(NameConflict, match="holds other weights"):
        extract(lake, module, TEXTS, variant="one", **given)
    assert extract(lake, module, TEXTS, variant="two", **given).same_weights == ()
    with module.disable_adapter():
        assert extract(lake, module, TEXTS, variant="none", **given).same_weights == ()
    module.set_adapter("one")
    assert extract(lake, module, TEXTS, variant="one", **given).n_computed == 0
    one, two, none = (lake.space("c", v, 3).rows(slice(None)) for v in ("one", "two", "none"))
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, none)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neo", "openai-gpt"])
def test_what_a_decoder_makes_of_segments_is_not_added(
    kind: str, lake: Lake, small_bert: Path
) -> None:
    tokenizer = tokenizer_of(small_bert)
    sizes: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    if kind == "gpt_neo":
        sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
        sizes["attention_types"] = [[["global", "local"], 1]]
    special = {"bos_token_id": 101, "eos_token_id": 102, "pad_token_id": 0}
    config = transformers.AutoConfig.for_model(kind, vocab_size=len(tokenizer), **sizes, **special)
    module = transformers.AutoModel.from_config(config).eval()
    extract(
        lake,
        module,
        ["the tide"],
        tokenizer=tokenizer,
        corpus_name="c",
        variant="v",
        store_dtype="float32",
    )
    ids = torch.tensor([tokenizer("the tide")["input_ids"]])
    with torch.inference_mode():
        states = module(input_ids=ids, output_hidden_states=True).hidden_states
    for layer in (0, 1):
        found = lake.space("c", "v", layer).rows(slice(None))
        assert np.abs(found - states[layer][0].numpy()).max() < 1e-6
