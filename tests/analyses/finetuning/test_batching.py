"""Training and scoring a model that padding would change: no input sees another one's padding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from layerlake.analyses.finetuning.evaluate import evaluate
from layerlake.analyses.finetuning.finetune import finetune

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture
def convbert(tmp_path: Path, shore_bert: Path) -> Path:
    """The folder of a random ConvBERT, whose convolutions reach into the padding."""
    place = tmp_path / "convbert"
    tokenizer = transformers.AutoTokenizer.from_pretrained(shore_bert, local_files_only=True)
    tokenizer.save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.ConvBertConfig(
        vocab_size=len(tokenizer), hidden_size=16, embedding_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    transformers.ConvBertModel(config).save_pretrained(place)
    return place


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Texts of 1 to 12 words with a label each."""
    generator = np.random.default_rng(0)
    lines = [
        {"text": " ".join(generator.choice(["gull", "is", "on", "rock"], n)), "label": "ab"[n % 2]}
        for n in generator.integers(1, 13, 24)
    ]
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_weights_and_scores_do_not_depend_on_how_inputs_share_batches(
    convbert: Path, data: Path, tmp_path: Path
) -> None:
    reports = {}
    for budget in (1, 100_000):
        reports[budget] = finetune(
            "classify", str(convbert), train=data, out=tmp_path / f"run-{budget}", epochs=1,
            batch=8, lr=1e-2, dropout=0.0, token_budget=budget, device="cpu",
        )  # fmt: skip
        assert any("Padding changes" in note for note in reports[budget].notes)
    one, many = (load_file(tmp_path / f"run-{b}" / "model.safetensors") for b in reports)
    start = load_file(convbert / "model.safetensors")
    moved = max(float(np.abs(one[name] - start[name]).max()) for name in one if name in start)
    for name, weights in one.items():
        np.testing.assert_allclose(weights, many[name], atol=1e-3 * moved, err_msg=name)
    lineage = json.loads((tmp_path / "run-1" / "layerlake.json").read_text())
    assert lineage["training"]["batching"] == "same-length"

    answers = []
    for budget in (1, 100_000):
        out = tmp_path / f"answers-{budget}.jsonl"
        report = evaluate(tmp_path / "run-1", data, out=out, token_budget=budget, device="cpu")
        assert any("Padding changes" in note for note in report.notes)
        lines = map(json.loads, out.read_text().splitlines())
        answers.append([line["probabilities"]["a"] for line in lines])
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_a_model_that_honours_its_mask_trains_as_ever(
    shore_bert: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    report = finetune(
        "classify", str(shore_bert), train=data, out=out, epochs=1, batch=8, device="cpu"
    )
    assert not report.notes
    assert "batching" not in json.loads((out / "layerlake.json").read_text())["training"]
    shutil.rmtree(out)
