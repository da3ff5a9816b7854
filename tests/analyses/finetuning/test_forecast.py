"""Dry runs: what they say against what runs do, and the memory that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from layerlake.analyses.finetuning.finetune import finetune, plan_finetune
from layerlake.store.errors import InvalidInput, MemoryRefused, NameConflict

FILES = {"classify": "classes.jsonl", "tag": "tags.jsonl", "dep": "trees.conllu"}


@pytest.fixture
def asked(shore_bert: Path, labelled_data: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A function from a task to arguments of `finetune`."""

    def make(task: str = "classify", **more: Any) -> dict[str, Any]:
        data = labelled_data / FILES[task]
        sizes = {"epochs": 2, "batch": 8, "device": "cpu"}
        named = {"task": task, "model": shore_bert, "train": data, "dev": data}
        return named | sizes | {"out": tmp_path / "run"} | more

    return make


def test_a_dry_run_says_what_the_run_does_and_writes_nothing(
    asked: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    before = torch.random.get_rng_state()
    found = plan_finetune(**asked())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(tmp_path.iterdir()) == []
    report = finetune(**asked())
    assert (found.n_steps, found.n_examples) == (report.n_steps, report.n_examples)
    assert (found.n_done, found.n_inputs, found.task, found.seed) == (0, 24, "classify", 0)
    assert found.seconds > 0
    # The texts have six words that are pieces, and two special pieces.
    assert found.n_pieces == 24 * 8
    on_disk = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert found.disk > on_disk
    again = plan_finetune(**asked())
    assert (again.n_done, again.seconds) == (6, 0.0)
    assert json.loads(json.dumps(found.to_dict()))["memory"] == found.memory


def test_a_dry_run_of_a_run_that_was_stopped_is_of_what_is_left(
    asked: Callable[..., dict[str, Any]],
) -> None:
    class Stopped(Exception):
        pass

    def stop(label: str, total: int | None, unit: str) -> Any:
        if unit == "updates":
            raise Stopped
        from layerlake.engine.progress import silent

        return silent(label, total, unit)

    with pytest.raises(Stopped):
        finetune(**asked(), progress=stop)
    assert plan_finetune(**asked()).n_done == 0
    with pytest.raises(NameConflict, match="holds the beginning of another run"):
        plan_finetune(**asked(seed=1))


def test_frozen_weights_have_neither_gradients_nor_moments(
    asked: Callable[..., dict[str, Any]],
) -> None:
    whole, frozen = plan_finetune(**asked()), plan_finetune(**asked(freeze=2))
    assert whole.memory["gradients"] == 4 * whole.n_weights == whole.memory["moments"] / 2
    assert frozen.memory["weights"] == whole.memory["weights"]
    assert frozen.memory["gradients"] == 4 * frozen.n_weights < whole.memory["gradients"] / 10
    assert frozen.memory["activations"] < whole.memory["activations"]


def test_training_that_takes_more_than_is_allowed_is_refused_before_it_begins(
    asked: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    needed = sum(plan_finetune(**asked()).memory.values())
    for do in (finetune, plan_finetune):
        with pytest.raises(MemoryRefused, match=r"training .* lower --token-budget, freeze some"):
            do(**asked(memory=needed - 1))
    assert not (tmp_path / "run").exists()
    with pytest.raises(InvalidInput, match="memory"):
        finetune(**asked(memory="much"))


def test_a_dry_run_refuses_what_the_run_would(
    asked: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="freeze is 9"):
        plan_finetune(**asked(freeze=9))
    (tmp_path / "run").touch()
    with pytest.raises(InvalidInput, match="is a file; name a folder with --out"):
        plan_finetune(**asked())
