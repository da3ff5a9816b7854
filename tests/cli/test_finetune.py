"""`layerlake finetune` and `layerlake evaluate`: help, what they print and write, what they refuse."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from layerlake.analyses.finetuning.evaluate import evaluate
from layerlake.analyses.finetuning.tasks.registry import TASKS
from layerlake.cli import recipe_options, scored
from layerlake.cli.finetune import finetune as command
from layerlake.cli.main import main
from layerlake.store.errors import InvalidInput

Run = Callable[..., str]
SMALL = ("--device", "cpu", "--epochs", "1", "--batch", "8", "--lr", "1e-3")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a line, expects an exit code, and returns stdout, or stderr."""

    def run(*line: Any, code: int = 0, stderr: bool = False) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in line])
        said = capsys.readouterr()
        assert stopped.value.code == code, said.err
        return said.err if stderr else said.out

    return run


@pytest.fixture
def line(tiny_bert: Path, labelled_data: Path, tmp_path: Path) -> tuple[Any, ...]:
    """A line that fine-tunes a tiny model for two classes."""
    file = labelled_data / "classes.jsonl"
    out = tmp_path / "run"
    return ("finetune", "classify", tiny_bert, "--train", file, "--out", out, *SMALL)


def test_help_has_every_entry_of_every_recipe_with_the_defaults_of_its_tasks(run: Run) -> None:
    fields = {
        field.name for task in TASKS.values() for field in dataclasses.fields(task.recipe_class)
    }
    assert set(recipe_options.HELP) == fields
    assert fields <= {parameter.name for parameter in command.params}
    said = " ".join(run("finetune", "--help").split())
    options, recipe = said.split("Recipe:")
    assert "layerlake finetune dep MODEL --train" in options
    assert "--train-sample N[@SEED]" in options
    assert "--epochs INTEGER Passes over the training data. [default: 3; dep: 20]" in recipe
    assert "highest learning rate of the encoder. [default: 3e-05; squad: 5e-05]" in recipe.lower()
    assert "squad: pieces from one window of a passage to the next. [default: 128]" in recipe
    assert "--frozen-dropout / --no-frozen-dropout" in recipe
    assert "layerlake evaluate runs/squad-s0 dev-v1.1.json" in run("evaluate", "--help")


def test_a_line_trains_and_the_same_line_finds_it_done(
    run: Run, line: tuple[Any, ...], labelled_data: Path, tmp_path: Path
) -> None:
    dev = ("--dev", f"first={labelled_data / 'classes.jsonl'}", "--keep", "best")
    said = run(*line, *dev).splitlines()
    assert said[0].startswith(
        f"{tmp_path / 'run'}: classify, seed 0, 24 examples; 3 of 3 updates made, "
    )
    assert said[0].endswith("the weights after epoch 1 are kept")
    assert said[1].split() == ["data", "measure", "value"]
    assert said[2].split() == ["first", "accuracy", "50.0", "%"]
    assert len({len(row) for row in said[1:]}) == 1
    found = json.loads(run(*line, *dev, "--json"))
    assert found["n_computed"] == 0
    assert found["settings"] == {
        "task": "classify",
        "seed": 0,
        "folder": str(tmp_path / "run"),
    }
    assert [(r["data"], r["measure"], r["value"]) for r in found["records"]] == [
        ("first", "accuracy", 0.5),
        ("first", "majority", 0.5),
    ]
    assert "0 of 3 updates made" in run(*line, *dev)


def test_options_arrive_where_they_belong(run: Run, line: tuple[Any, ...], tmp_path: Path) -> None:
    run(
        *line,
        *("--seed", "3", "--freeze", "1", "--truncate", "1", "--randomize", "7"),
        *("--train-sample", "16@2", "--save-steps", "1", "--token-budget", "64"),
        *("--memory", "1GiB", "--head-lr", "0.01", "--warmup", "0.2", "--schedule", "constant"),
        *("--frozen-dropout", "--label", "label", "--pool", "mean", "--text-field", "text"),
    )
    told = json.loads((tmp_path / "run/layerlake.json").read_text())
    assert (told["truncate"], told["parent"]["randomize"]) == (1, 7)
    training = told["training"]
    assert (training["seed"], training["freeze"], training["n_steps"]) == (3, 1, 2)
    assert training["data"]["train"]["sample"] == "16@2"
    expected = {"head_lr": 0.01, "warmup": 0.2, "schedule": "constant", "frozen_dropout": True}
    expected |= {"pool": "mean", "batch": 8, "lr": 1e-3, "epochs": 1}
    assert training["recipe"].items() >= expected.items()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--stride", "3"), "stride is no entry of the recipe of classify; its entries are epochs"),
        (("--lr", "-1"), "lr is -1.0; give a number of 0 or more"),
        (("--keep", "best"), "the best epoch is told by a score; give data to evaluate on"),
        (("--freeze", "9"), "freeze is 9; give a whole number from -1 to 2"),
        (("--train-sample", "many"), "train sample 'many' is not understood; give a number"),
        (("--train", "no.jsonl"), "no.jsonl"),
        (("--label", "topic"), "has no field 'topic'"),
        (("--device", "abacus"), "abacus"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    run: Run, line: tuple[Any, ...], more: tuple[str, ...], sentence: str
) -> None:
    said = run(*line, *more, code=1, stderr=True)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert sentence in said


def test_wrong_usage(run: Run, line: tuple[Any, ...]) -> None:
    assert "Missing option '--out'" in run(*line[:5], code=2, stderr=True)
    assert "'many' is not a valid integer" in run(*line, "--epochs", "many", code=2, stderr=True)
    assert "'sgd' is not one of" in run(*line, "--optimiser", "sgd", code=2, stderr=True)
    assert "there is no task 'spam'" in run("finetune", "spam", *line[2:], code=1, stderr=True)


def test_evaluate_prints_scores_and_writes_predictions(
    run: Run, tiny_finetuned: Callable[[str], Path], labelled_data: Path, tmp_path: Path
) -> None:
    folder, data, out = tiny_finetuned("squad"), labelled_data / "squad.json", tmp_path / "p.json"
    line = ("evaluate", folder, f"dev={data}", "--device", "cpu", "--out", out)
    said = run(*line).splitlines()
    assert said[0].startswith(f"{folder}: squad, 24 examples in ")
    assert said[0].endswith(f"; predictions are in {out}")
    report = evaluate(folder, {"dev": data}, device="cpu")
    measured = [row.split() for row in said[2:]]
    assert measured == [
        ["dev", name, f"{100 * value:.1f}", "%"] for name, value in report.scores["dev"].items()
    ]
    assert len(json.loads(out.read_text())) == 24
    assert "note: dev is what the model was trained on" in run(*line, stderr=True)
    found, expected = json.loads(run(*line, "--json")), report.to_dict()
    assert found.pop("predictions") == {"dev": str(out)}
    for document in (found, expected):
        document.pop("seconds")
    assert found == {key: value for key, value in expected.items() if key != "predictions"}


def test_evaluate_refuses_in_one_sentence(
    run: Run, tiny_finetuned: Callable[[str], Path], tiny_bert: Path, labelled_data: Path
) -> None:
    data = labelled_data / "squad.json"
    said = run("evaluate", tiny_bert, data, code=1, stderr=True)
    assert said.startswith(f"error: {tiny_bert} has no head for any task; fine-tune it")
    said = run("evaluate", tiny_finetuned("squad"), data, "--task", "dep", code=1, stderr=True)
    assert "has a head for squad, and dep was asked for" in said
    assert "Missing argument" in run("evaluate", tiny_bert, code=2, stderr=True)


def test_only_the_first_of_several_processes_speaks(
    run: Run, line: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run(*line) == ""
    assert not scored.leads()
    monkeypatch.setenv("RANK", "0")
    assert "0 of 3 updates made" in run(*line)


def test_sources_are_files_or_files_with_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lr=3.jsonl").touch()
    assert scored.named_sources(["a.jsonl", "lr=3.jsonl"]) == ["a.jsonl", "lr=3.jsonl"]
    assert scored.named_sources(["runs/x=1/a.jsonl"]) == ["runs/x=1/a.jsonl"]
    assert scored.named_sources(["m=a.jsonl", "data/b.c.jsonl"]) == {
        "m": "a.jsonl",
        "b": "data/b.c.jsonl",
    }
    hub = "hf://nyu-mll/multi_nli:validation_matched"
    assert scored.named_sources(["m=a=b.jsonl", hub, f"h={hub}"]) == {
        "m": "a=b.jsonl",
        "multi_nli-validation_matched": hub,
        "h": hub,
    }
    with pytest.raises(InvalidInput, match="two sources are called m; name them, as NAME=FILE"):
        scored.named_sources(["m=a.jsonl", "m=b.jsonl"])


def test_times_are_said_as_people_do() -> None:
    assert [scored.seconds_text(s) for s in (0.04, 119.9, 1234, 54321)] == [
        "0.0 s",
        "119.9 s",
        "21 min",
        "15.1 h",
    ]
