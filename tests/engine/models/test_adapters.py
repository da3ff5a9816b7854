"""Adapters: merged into their base they give what peft gives; others are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.extraction.capture import Capture
from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.loading import load_model
from layerlake.engine.models.sites import Place
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import open_lake

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

# What peft asks of transformers, not what is asked of either here.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

IDS = np.random.default_rng(0).integers(999, 1200, (2, 7))


def nudge(model: Any) -> None:
    """Give the adapter weights that change something (a fresh one changes nothing)."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)


@pytest.fixture
def adapter(small_bert: Path, tmp_path: Path) -> Callable[..., tuple[Path, Any]]:
    """Return a function that trains (by chance) an adapter, and its folder and model."""

    def make(head: str = "AutoModelForSequenceClassification", **settings: Any) -> tuple[Path, Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            base = getattr(transformers, head).from_pretrained(small_bert, local_files_only=True)
            options = {"target_modules": ["query", "value"], "r": 4} | settings
            model = peft.get_peft_model(base.eval(), peft.LoraConfig(**options))
            nudge(model)
        folder = tmp_path / "adapter"
        model.save_pretrained(folder)
        return folder, model.eval()

    return make


def layers(model: Any, inputs: dict[str, Any]) -> list[Any]:
    with Capture(model, [Place("resid", layer) for layer in range(4)]) as capture:
        return list(capture.run(inputs).values())


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("AutoModelForSequenceClassification", {"task_type": "SEQ_CLS"}),
        ("AutoModelForMaskedLM", {}),
        ("AutoModel", {"task_type": "FEATURE_EXTRACTION"}),
        ("AutoModelForTokenClassification", {"target_modules": ["dense"], "use_rslora": True}),
        ("AutoModel", {"modules_to_save": ["LayerNorm"]}),
        (
            "AutoModelForSequenceClassification",
            {"alpha_pattern": {"bert.encoder.layer.1.attention.self.query": 64}},
        ),
        (
            "AutoModelForSequenceClassification",
            {"rank_pattern": {"^bert.encoder.layer.1.attention.self.query": 2}},
        ),
        (
            "AutoModelForMaskedLM",
            {"target_modules": r"bert\.encoder\.layer\.\d+\..*\.(query|value)"},
        ),
        (
            "AutoModelForSequenceClassification",
            {"target_modules": "all-linear", "task_type": "SEQ_CLS"},
        ),
        (
            "AutoModelForSequenceClassification",
            {"modules_to_save": ["pooler", "bert.embeddings.word_embeddings"], "bias": "all"},
        ),
    ],
)
def test_a_merged_adapter_gives_what_peft_gives(
    head: str, settings: dict[str, Any], adapter: Any, small_bert: Path
) -> None:
    folder, reference = adapter(head, **settings)
    model = load_model(str(folder), device="cpu")
    inputs = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.inference_mode():
        states = reference(**tensors, output_hidden_states=True).hidden_states
    for ours, theirs in zip(layers(model, inputs), states, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    base = load_model(str(small_bert), device="cpu")
    assert (layers(base, inputs)[3] - states[3]).abs().max() > 1e-3
    assert model.parent == {
        "source": small_bert.name,
        "revision": None,
        "weights_digest": base.weights_digest,
    }
    assert model.weights_digest != base.weights_digest
    assert set(model.module.state_dict()) == set(base.module.state_dict())


def test_an_adapter_is_a_variant_with_its_parent(adapter: Any, tmp_path: Path) -> None:
    folder, _ = adapter()
    lake = open_lake(tmp_path / "lake", "a")
    extract(lake, folder, ["the tide"], corpus_name="c", truncate=2, device="cpu")
    assert lake.variants() == ["adapter-truncated-2"]
    assert lake.attributes("variants/adapter-truncated-2")["parent"]["source"] == "small"


def test_a_base_may_lie_elsewhere(adapter: Any, small_bert: Path, tmp_path: Path) -> None:
    folder, _ = adapter()
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "/nowhere/base"
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(InvalidInput, match=r"the base of adapter .* cannot be had .*with --base"):
        load_model(str(folder))
    moved = load_model(str(folder), base=str(small_bert), device="cpu")
    shutil.copytree(small_bert, folder / "base")
    settings["base_model_name_or_path"] = "base"
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    assert load_model(str(folder), device="cpu").weights_digest == moved.weights_digest


def other_base(folder: Path, width: int, layers: int, kind: str = "bert") -> Path:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2}
    if kind == "distilbert":
        sizes = {"dim": width, "n_layers": layers, "n_heads": 2}
    config = transformers.AutoConfig.for_model(kind, **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(folder / "other")
    return folder / "other"


@pytest.mark.parametrize(
    ("width", "layers", "kind", "message"),
    [
        (48, 3, "bert", r"does not fit this base \(.*size mismatch"),
        (32, 2, "bert", r"does not fit this base: .* on one side only, such as"),
        (32, 4, "bert", r"does not fit this base: .* on one side only, such as"),
        (32, 3, "distilbert", r"does not fit this base"),
    ],
)
def test_an_adapter_of_another_base_is_refused(
    width: int, layers: int, kind: str, message: str, adapter: Any, tmp_path: Path
) -> None:
    folder, _ = adapter()
    with pytest.raises(InvalidInput, match=message) as caught:
        load_model(str(folder), base=str(other_base(tmp_path, width, layers, kind)))
    assert "--base" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_merged_is_refused(adapter: Any, small_bert: Path, tmp_path: Path) -> None:
    folder, _ = adapter()
    (shutil.copytree(folder, tmp_path / "torn") / "adapter_config.json").write_text("{")
    with pytest.raises(InvalidInput, match="is not JSON"):
        load_model(str(tmp_path / "torn"))
    with pytest.raises(InvalidInput, match="which random weights have no use for"):
        load_model(str(folder), randomize=1)
    with pytest.raises(InvalidInput, match="is a whole model; a base is for adapters"):
        load_model(str(small_bert), base=str(small_bert))
    with pytest.raises(InvalidInput, match="is an adapter itself"):
        load_model(str(folder), base=str(folder))
    (folder / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(InvalidInput, match=r"weights of adapter .* cannot be loaded"):
        load_model(str(folder))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InvalidInput, match="holds no weights"):
        load_model(str(folder))
    base = transformers.AutoModel.from_pretrained(small_bert, local_files_only=True)
    prompts = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=3)
    peft.get_peft_model(base, prompts).save_pretrained(tmp_path / "prompts")
    with pytest.raises(InvalidInput, match="changes inputs, not weights"):
        load_model(str(tmp_path / "prompts"))
