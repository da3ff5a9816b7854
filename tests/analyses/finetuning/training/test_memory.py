"""What training is said to take is what it takes, and more than is allowed is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from layerlake.analyses.finetuning import run
from layerlake.analyses.finetuning.finetune import finetune
from layerlake.analyses.finetuning.training.memory import training_plan
from layerlake.analyses.finetuning.training.trainer import Trainer
from layerlake.engine.memory import MemoryPlan
from layerlake.store.errors import MemoryRefused

Call = Callable[..., dict[str, Any]]

TOLERANCE = 0.25
"""Of what is said, up and down."""


@pytest.fixture(scope="module")
def wide_bert(
    tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory, save_bert: Callable[..., None]
) -> Path:
    """The folder of a random BERT of MiniLM's shape, with the tokenizer of the tiny one."""
    from transformers import BertConfig

    place = tmp_path_factory.mktemp("models") / "wide"
    shutil.copytree(tiny_bert, place)
    save_bert(
        place,
        pooler=True,
        vocab_size=BertConfig.from_pretrained(tiny_bert).vocab_size,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=512,
    )
    return place


def planned(call: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> MemoryPlan:
    """Return the plan of a run that is not made."""
    found: list[MemoryPlan] = []

    def kept(*given: Any) -> MemoryPlan:
        found.append(training_plan(*given))
        return MemoryPlan({"all": 2**60})

    monkeypatch.setattr(run, "training_plan", kept)
    with pytest.raises(MemoryRefused):
        finetune(**call)
    return found[0]


LONG_INPUTS = {
    "epochs": 1,
    "train_sample": 16,
    "batch": 8,
    "dev": None,
    "token_budget": 1024,
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of Linux")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("classify", {"length": 128}, id="all"),
        pytest.param("classify", {"length": 128, "freeze": 4}, marks=pytest.mark.slow, id="two"),
        pytest.param("dep", {"arc_width": 500, "label_width": 100}, marks=pytest.mark.slow, id="b"),
    ],
)
def test_a_run_takes_what_was_said(
    kind: str, options: dict[str, Any], wide_bert: Path, small_call: Call, tmp_path: Path
) -> None:
    warm_up = small_call(kind, out=str(tmp_path / "first"))
    call = small_call(kind, model=str(wide_bert), **LONG_INPUTS | options)
    long = Path(call["train"]).with_name(f"long{Path(call['train']).suffix}")
    if kind == "dep":
        words = [f"{n}\ttide\t_\tX\t_\t_\t{n - 1}\tr{n % 30}\t_\t_" for n in range(1, 121)]
        long.write_text("\n".join([*words, ""] * 16) + "\n")
    else:
        texts = [{"id": f"l{n}", "text": "tide " * 300, "label": "ab"[n % 2]} for n in range(16)]
        long.write_text("".join(json.dumps(text) + "\n" for text in texts))
    call["train"] = str(long)
    file = tmp_path / "calls.json"
    file.write_text(json.dumps([warm_up, call]))
    program = [sys.executable, "-W", "error", Path(__file__).with_name("measured_run.py"), file]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    parts, said, taken = json.loads(done.stdout)
    assert (1 - TOLERANCE) * said < taken < (1 + TOLERANCE) * said, parts


def test_the_parts_of_a_bert_are_those_of_its_formula(
    small_call: Call, wide_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = small_call("classify", model=str(wide_bert), length=64)
    texts = [{"id": f"l{n}", "text": "tide " * 100, "label": "ab"[n % 2]} for n in range(8)]
    Path(call["train"]).write_text("".join(json.dumps(text) + "\n" for text in texts))
    parts = planned(call, monkeypatch).parts
    h, i, a, layers, n, batch = 384, 1536, 12, 6, 64, 4
    a_layer = 4 * batch * n * (10 * h + 2 * i + 4 + 3 * a * n)
    around = 4 * batch * n * (2 * h + 16) + 4 * batch * 8 * h  # embeddings, pooler and labels
    assert parts["activations"] == pytest.approx(layers * a_layer + around, rel=0.01)
    assert parts["moments"] == 2 * parts["gradients"]
    assert parts["gradients"] == pytest.approx(parts["weights"], rel=0.001)


def test_frozen_blocks_keep_nothing(small_call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        freeze: planned(small_call("classify", freeze=freeze), monkeypatch).parts
        for freeze in (-1, 0, 1, 2, 3)
    }
    kept = [parts[freeze]["activations"] for freeze in parts]
    assert kept == sorted(kept, reverse=True)
    steps = [kept[k] - kept[k + 1] for k in range(1, 4)]
    assert steps == [pytest.approx(steps[0], rel=0.02)] * 3
    assert kept[-1] < steps[0] / 2
    assert parts[3]["gradients"] < parts[2]["gradients"] < parts[-1]["gradients"]
    assert parts[3]["weights"] == parts[-1]["weights"]


def test_more_pieces_take_more_and_a_batch_is_the_most(
    small_call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [
        planned(small_call("classify", batch=8, token_budget=budget), monkeypatch).parts[
            "activations"
        ]
        for budget in (1, 40, 80, 10_000, 20_000)
    ]
    assert kept[0] < kept[1] < kept[2] < kept[3] == kept[4]


def test_a_head_of_pairs_of_words_counts(small_call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wide = (
        planned(small_call("dep", arc_width=width, freeze=3), monkeypatch).parts["activations"]
        for width in (16, 500)
    )
    assert wide > 5 * narrow


def test_more_than_is_allowed_is_refused_before_it_starts(
    small_call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = small_call("classify")

    def refuse(*_: Any) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(Trainer, "_update", refuse)
    with pytest.raises(
        MemoryRefused,
        match=r"training classify from tiny with micro-batches of 2048 pieces needs .* \(\d+ bytes"
        r"\) of memory and 100\.0 KiB \(102400 bytes\) are allowed; lower --token-budget, freeze",
    ):
        finetune(**call, memory="100KiB")
    assert not Path(call["out"]).exists()


def test_the_plan_changes_no_weight_and_no_random_number(
    small_call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    planless = finetune(**small_call("tag"))
    monkeypatch.setattr(run, "training_plan", lambda *given: MemoryPlan({}))
    call = small_call("tag")
    with_none = finetune(**call | {"out": f"{call['out']}-2"})
    assert planless.weights_digest == with_none.weights_digest
