"""Several processes give what one gives; only the first of them writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
from safetensors.torch import load_file

from layerlake.analyses.finetuning.finetune import finetune
from layerlake.analyses.runs.team import Team
from layerlake.store.errors import InvalidInput

Call = Callable[..., dict[str, Any]]
SIZE = 2

CALLS: dict[str, dict[str, Any]] = {
    "mnli": {"kind": "mnli", "keep": "best", "save_steps": 4},
    # Passages that give three or four windows, with all windows of a question in one process.
    "squad": {"kind": "squad", "epochs": 1, "length": 16, "stride": 4},
    "dep": {"kind": "dep", "head_dropout": 0.0, "device": "auto"},
    # Fewer inputs than processes: every update of the first, the last one of the second.
    "single": {"kind": "tag", "batch": 1, "train_sample": 5},
    "odd": {"kind": "classify", "batch": 4, "train_sample": 9},
}


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.fixture(scope="module")
def together(
    tmp_path_factory: pytest.TempPathFactory, calls_in: Callable[[Path], Call]
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """The calls that two processes ran, and what each of them was told."""
    place = tmp_path_factory.mktemp("team")
    make = calls_in(place)
    calls = {}
    for name, options in CALLS.items():
        # Gradients that are zero but for rounding, as of what shifts all logits of a softmax alike,
        # Adam would make steps of the learning rate of; a large epsilon leaves them small.
        changes = {"dropout": 0.0, "lr": 3e-3, "epsilon": 1e-3, "device": "cpu"}
        changes |= {"out": str(place / name), **options}
        calls[name] = make(changes.pop("kind"), **changes)
    calls["again"] = calls["mnli"]
    calls["other"] = calls["mnli"] | {"seed": 3}
    calls["full"] = calls["odd"] | {"out": str(place / "full")}
    file = place / "calls.json"
    file.write_text(json.dumps(calls))
    shared = {"WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    program = [sys.executable, "-W", "error", str(Path(__file__).with_name("team_runs.py"))]
    running = [
        subprocess.Popen(
            [*program, file],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(SIZE)
    ]
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * SIZE, "\n".join(said)[-4000:]
    assert not any(word in text for text in said for word in ("Warning", "destroy_process_group"))
    return calls, [json.loads((place / f"report-{rank}.json").read_text()) for rank in range(SIZE)]


@pytest.mark.parametrize("name", CALLS)
def test_two_give_the_weights_and_scores_of_one(
    name: str, together: tuple[dict[str, dict[str, Any]], list[dict[str, Any]]], tmp_path: Path
) -> None:
    calls, told = together
    alone = finetune(**calls[name] | {"out": str(tmp_path / "alone"), "device": "cpu"})
    assert told[0][name] == told[1][name]
    assert told[0][name]["n_computed"] == alone.n_steps > 4
    assert told[0][name]["scores"] == alone.scores
    for file in ("model.safetensors", "head/model.safetensors"):
        ours = load_file(Path(calls[name]["out"]) / file)
        theirs = load_file(tmp_path / "alone" / file)
        base = load_file(Path(calls[name]["model"]) / "model.safetensors")
        assert ours.keys() == theirs.keys()
        for weight in ours:
            assert torch.allclose(ours[weight], theirs[weight], rtol=0, atol=1e-6), weight
            if weight.endswith("layer.2.output.dense.weight"):
                assert not torch.allclose(ours[weight], base[weight], rtol=0, atol=1e-5)


def test_only_the_first_writes(together: Any) -> None:
    _, (first, second) = together
    assert len(first["written"]) > 10
    assert second["written"] == []


def test_what_one_finds_all_are_told(together: Any) -> None:
    _, told = together
    for found in told:
        assert found["again"]["n_computed"] == 0
        assert "seed 0 there, 3 asked" in found["other"]
        assert found["full"].startswith("training into ")


def test_a_device_of_one_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInput, match="device 'cuda:0' is for one process, and 2 train"):
        Team("cuda:0")


@pytest.mark.parametrize("told", ["two", "0", "-1"])
def test_a_number_of_processes_that_is_none(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", told)
    with pytest.raises(InvalidInput, match=f"WORLD_SIZE is '{told}'"):
        Team()


def test_alone_nothing_is_sent_anywhere() -> None:
    team = Team("cpu")
    assert (team.size, team.rank, team.leads, team.device.type) == (1, 0, True, "cpu")
    assert team.gather("x") == ["x"]
    assert team.lead(lambda: 5) == 5
    tensor = torch.ones(2)
    team.add([tensor])
    assert tensor.tolist() == [1, 1]
