"""`layerlake finetune` and `layerlake evaluate`: help, what they print and write, what they refuse."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from layerlake.analyses.finetuning.data import named_sources
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
def line(shore_bert: Path, labelled_data: Path, tmp_path: Path) -> tuple[Any, ...]:
    """A line that fine-tunes a tiny model for two classes."""
    file = labelled_data / "classes.jsonl"
    out = tmp_path / "run"
    return ("finetune", "classify", shore_bert, "--train", file, "--out", out, *SMALL)


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
    assert "Number of passes over the training data. [default: 3; dep: 20]" in recipe
    assert "Peak learning rate of the encoder. [default: 3e-05; squad: 5e-05]" in recipe
    assert "from one window of a passage to the next (squad). [default: 128]" in recipe
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
        (("--lr", "-1"), "lr is -1.0; give a number above 0"),
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
    run: Run, tiny_finetuned: Callable[[str], Path], shore_bert: Path, labelled_data: Path
) -> None:
    data = labelled_data / "squad.json"
    said = run("evaluate", shore_bert, data, code=1, stderr=True)
    assert said.startswith(f"error: {shore_bert} has no head for any task; fine-tune it")
    said = run("evaluate", tiny_finetuned("squad"), data, "--task", "dep", code=1, stderr=True)
    assert "has a head for squad, and dep was asked for" in said
    assert "Missing argument" in run("evaluate", shore_bert, code=2, stderr=True)


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
    assert named_sources(["a.jsonl", "lr=3.jsonl"]) == ["a.jsonl", "lr=3.jsonl"]
    assert named_sources(["runs/x=1/a.jsonl"]) == ["runs/x=1/a.jsonl"]
    assert named_sources(["m=a.jsonl", "data/b.c.jsonl"]) == {
        "m": "a.jsonl",
        "b": "data/b.c.jsonl",
    }
    hub = "hf://nyu-mll/multi_nli:validation_matched"
    assert named_sources(["m=a=b.jsonl", hub, f"h={hub}"]) == {
        "m": "a=b.jsonl",
        "multi_nli-validation_matched": hub,
        "h": hub,
    }
    with pytest.raises(InvalidInput, match="two sources are called m; name them, as NAME=FILE"):
        named_sources(["m=a.jsonl", "m=b.jsonl"])


def test_times_are_said_as_people_do() -> None:
    assert [scored.seconds_text(s) for s in (0.04, 119.9, 1234, 54321)] == [
        "0.0 s",
        "119.9 s",
        "21 min",
        "15.1 h",
    ]


# Several runs, and what they would take


def test_several_seeds_are_several_runs(
    run: Run, line: tuple[Any, ...], labelled_data: Path, tmp_path: Path
) -> None:
    dev = ("--dev", labelled_data / "classes.jsonl")
    assert "2 seeds cannot all be written to" in run(*line, "--seed", "0,3", code=1, stderr=True)
    several = (*line, *dev, "--out", tmp_path / "{task}-s{seed}", "--seed", "0,3")
    said = run(*several)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classify-s0", "classify-s3"]
    assert said.count("3 of 3 updates made") == 2
    summary = [row.split() for row in said[said.index("over seeds:") :].splitlines()[1:]]
    assert summary[0] == ["runs", "data", "measure", "n", "mean", "sd"]
    found = json.loads(run(*several, "--json"))
    values = [
        record["value"]
        for document in found["runs"]
        for record in document["records"]
        if record["measure"] == "accuracy"
    ]
    mean = sum(values) / 2
    deviation = abs(values[0] - values[1]) / 2**0.5
    expected = [f"{100 * mean:.1f}", "%", f"{100 * deviation:.2f}"]
    assert summary[1] == [str(tmp_path / "{task}-s{seed}"), "classes", "accuracy", "2", *expected]
    assert [document["settings"]["seed"] for document in found["runs"]] == [0, 3]
    assert [document["n_computed"] for document in found["runs"]] == [0, 0]
    assert found["failed"] == []


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    run: Run, line: tuple[Any, ...], tmp_path: Path
) -> None:
    said = run(*line, "--dry-run").splitlines()
    assert said[0].split() == ["run", "classify,", "seed", "0,", "into", str(tmp_path / "run")]
    assert said[1].split()[:3] == ["data", "24", "examples,"]
    assert said[2].split() == ["updates", "3"]
    assert said[-2].startswith("seconds  about ")
    assert said[-1] == "nothing was written"
    assert list(tmp_path.iterdir()) == []
    found = json.loads(run(*line, "--dry-run", "--json"))
    assert (found["n_steps"], found["n_done"], found["n_inputs"]) == (3, 0, 24)
    parts = {"weights", "gradients", "moments", "activations", "working memory", "data"}
    assert set(found["memory"]) == parts
    seeds = ("--out", tmp_path / "s{seed}", "--seed", "0-1", "--dry-run")
    assert run(*line, *seeds).splitlines()[-2].startswith("2 runs, about ")
    assert len(json.loads(run(*line, *seeds, "--json"))["runs"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def runs_file(shore_bert: Path, labelled_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a file of runs of two tasks, with lines added to the second run."""

    def write(*lines: str) -> Path:
        text = [
            "[defaults]",
            f"model = {json.dumps(str(shore_bert))}",
            f"out = {json.dumps(str(tmp_path / '{name}-{task}-s{seed}'))}",
            'device = "cpu"',
            "epochs = 1",
            "seed = [0, 1]",
            "[[run]]",
            'task = "classify"',
            'name = "two"',
            f"train = {json.dumps(str(labelled_data / 'classes.jsonl'))}",
            f"dev = {{ first = {json.dumps(str(labelled_data / 'classes.jsonl'))} }}",
            "lr = 0.001",
            "frozen-dropout = true",
            "freeze = 0",
            "[[run]]",
            'task = "tag"',
            f"train = [{json.dumps(str(labelled_data / 'tags.jsonl'))}]",
            f"dev = {json.dumps('t=' + str(labelled_data / 'tags.jsonl'))}",
            *lines,
        ]
        file = tmp_path / "runs.toml"
        file.write_text("\n".join(text))
        return file

    return write


def test_a_file_of_runs_is_tasks_by_seeds(
    run: Run, runs_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = runs_file('seed = "3"', "head_lr = 1")
    found = json.loads(run("finetune", "--runs", file, "--json"))
    assert [Path(document["settings"]["folder"]).name for document in found["runs"]] == [
        "two-classify-s0",
        "two-classify-s1",
        "tag-tag-s3",
    ]
    assert [document["records"][0]["data"] for document in found["runs"]] == ["first", "first", "t"]
    told = json.loads((tmp_path / "two-classify-s1/layerlake.json").read_text())["training"]
    assert told["recipe"].items() >= {"lr": 0.001, "frozen_dropout": True, "epochs": 1}.items()
    told = json.loads((tmp_path / "tag-tag-s3/layerlake.json").read_text())["training"]
    assert told["recipe"]["head_lr"] == 1


def test_means_over_seeds_are_of_runs_that_differ_in_nothing_else(
    run: Run, line: tuple[Any, ...], labelled_data: Path, tmp_path: Path
) -> None:
    _, task, model, *_ = line
    data = labelled_data / "classes.jsonl"
    text = f"""
[defaults]
task = "{task}"
model = "{model}"
train = "{data}"
dev = "{data}"
epochs = 1
out = "{tmp_path}/r{{seed}}"
[[run]]
seed = 0
[[run]]
seed = 1
freeze = 1
"""
    file = tmp_path / "runs.toml"
    file.write_text(text)
    assert "over seeds" not in run("finetune", "--runs", file)
    file.write_text(text + "[[run]]\nseed = 2\n")
    said = run("finetune", "--runs", file)
    summary = [row.split() for row in said[said.index("over seeds:") :].splitlines()[2:]]
    assert [row[2:4] for row in summary] == [["accuracy", "2"], ["majority", "2"]]


def test_a_run_that_fails_is_said_at_the_end(
    run: Run, runs_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = runs_file("freeze = 9", "seed = 0")
    said = run("finetune", "--runs", file, code=1, stderr=True)
    assert said == (
        f"error: {tmp_path / 'tag-tag-s0'}: freeze is 9; give a whole number from -1 to 2\n"
    )
    found = json.loads(run("finetune", "--runs", file, "--json", code=1))
    assert [one["folder"] for one in found["failed"]] == [str(tmp_path / "tag-tag-s0")]
    assert len(found["runs"]) == 2


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["stride = 3"], "run 3: stride is no entry of the recipe of tag"),
        (["learning_rate = 3"], "run 2: 'learning_rate' is no option of a run"),
        (["progress = 3"], "run 2: 'progress' is no option of a run"),
        (["freeze = 'two'"], "run 2: freeze is 'two'; give a whole number"),
        (["freeze = true"], "run 2: freeze is True; give a whole number"),
        (["head-lr = 1", "head_lr = 1"], "run 2: 'head_lr' is there twice"),
        (["seed = 'x'"], "run 2: seed 'x' not understood"),
        (["out = 'here'"], "run 2: 2 seeds cannot all be written to here; put {seed}"),
        (["[[run]]", "task = 'dep'"], "run 3 has no train; name it there"),
        (["[[run]]", "train = 3"], "run 3: train is 3; give a text or a list"),
        (["[extra]"], "has 'extra'; it may hold [defaults] and [[run]]"),
        (["model = "], "is no TOML"),
    ],
)
def test_files_of_runs_that_cannot_be_are_refused(
    run: Run, runs_file: Callable[..., Path], lines: list[str], sentence: str, tmp_path: Path
) -> None:
    said = run("finetune", "--runs", runs_file(*lines), code=1, stderr=True)
    assert sentence in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["runs.toml"]


def test_a_line_and_a_file_do_not_mix(
    run: Run, runs_file: Callable[..., Path], tmp_path: Path
) -> None:
    said = run("finetune", "--runs", runs_file(), "--lr", "1", code=2, stderr=True)
    assert "'--lr' is for a run of the line, and --runs names a file of runs" in said
    assert "'TASK'" in run("finetune", "mnli", "--runs", runs_file(), code=2, stderr=True)
    said = run("finetune", "--runs", tmp_path / "none.toml", code=1, stderr=True)
    assert "none.toml cannot be read (No such file or directory)" in said
    empty = tmp_path / "empty.toml"
    empty.touch()
    assert "has no runs; write a table [[run]]" in run(
        "finetune", "--runs", empty, code=1, stderr=True
    )
    assert "Missing argument 'TASK'" in run("finetune", code=2, stderr=True)


def test_workers_need_a_scheduler(run: Run, line: tuple[Any, ...]) -> None:
    said = run(*line, "--workers", "2", code=1, stderr=True)
    assert "2 workers need a scheduler; give processes, or tcp://HOST:PORT" in said
