"""What programs read: keys of `--json`, columns of tables, names in xarray objects.

Recorded in `outputs.json` (and `outputs_with_torch.json`): keys and the kinds of their values. A
list is described by what all of its elements have. `conftest.py` says how to record anew.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerlake as ll
from layerlake.cli.main import main

Recorded = Callable[[str, Any], None]
Run = Callable[..., Any]


def shape_of(value: Any) -> Any:
    """Return the keys of a JSON value, and what kind of values they have."""
    if isinstance(value, dict):
        return {key: shape_of(one) for key, one in value.items()}
    if isinstance(value, list):
        return [reduce(union, map(shape_of, value))] if value else []
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true or false"
    return "text" if isinstance(value, str) else "number"


def union(one: Any, other: Any) -> Any:
    """Return what two elements of a list have between them."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            key: union(one[key], other[key])
            if key in one and key in other
            else one.get(key, other.get(key))
            for key in {**one, **other}
        }
    if isinstance(one, list) and isinstance(other, list):
        return [reduce(union, one + other)] if one + other else []
    if isinstance(one, str) and isinstance(other, str):
        return ", ".join(sorted({*one.split(", "), *other.split(", ")}))
    return other if one in ("null", []) else one


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERLAKE", raising=False)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a line, expects an exit code, and returns the shape of its JSON."""

    def run(*line: str, code: int = 0) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*line, "--json"])
        said = capsys.readouterr()
        assert ended.value.code == code, said.err
        return shape_of(json.loads(said.out))

    return run


def names_in(data: Any) -> dict[str, Any]:
    """Return the names in an xarray object."""
    found = {
        "dims": [str(name) for name in data.dims],
        "coords": {str(name): list(one.dims) for name, one in data.coords.items()},
        "attrs": sorted(map(str, data.attrs)),
    }
    if hasattr(data, "data_vars"):
        found["data_vars"] = {str(name): list(one.dims) for name, one in data.data_vars.items()}
    return found


def forms_of(result: Any) -> dict[str, Any]:
    """Return what each form of a result calls its parts."""
    pytest.importorskip("pandas")
    return {
        "json": shape_of(json.loads(result.to_json())),
        "pandas": list(result.to_pandas().columns),
        "csv": next(csv.reader(io.StringIO(result.to_csv()))),
        "xarray": names_in(result.to_xarray()),
    }


def test_forms_of_results(stored: Path, as_recorded: Recorded) -> None:
    lake = ll.open_lake(stored / "lake")
    record = json.loads(Path(__file__).with_name("lake.json").read_text("utf-8"))
    results = {
        name: getattr(ll, about["function"])(lake, **about["arguments"])
        for name, about in record["questions"].items()
    }
    found = {name: forms_of(result) for name, result in results.items()}
    found["all pairs"]["matrix"] = names_in(results["all pairs"].to_matrix("cka"))
    found["profile"]["spectrum"] = names_in(results["profile"].to_spectrum())
    found["plan_compare"] = shape_of(ll.plan_compare(lake, "shore", measure="rsa,cka").to_dict())
    found["spaces"] = {
        "Space.to_xarray, words": names_in(lake.space("shore", "base", 1, unit="word").to_xarray()),
        "Space.to_xarray, pairs": names_in(
            lake.space("claims", "base", 1).to_xarray(columns=["label"])
        ),
        "Lake.to_xarray": names_in(lake.to_xarray("shore", ["base", "tag-s0"], unit="piece")),
    }
    as_recorded("results", found)


def test_json_of_commands(place: Path, stored: Path, run: Run, as_recorded: Recorded) -> None:
    Path("lines.txt").write_text("a gull\na seal\n")
    np.save("two.npy", np.zeros((2, 3), np.float32))
    there = ("--lake", str(stored / "lake"))
    theirs = ("import", "two.npy", "--corpus", "lines", "--as", "theirs", "--layer", "0")
    asked = ("compare", "--corpus", "shore", "--variant", "tag-s0", "--measure", "rsa,cka")
    found = {
        "corpus add": run("corpus", "add", "lines", "lines.txt"),
        "import --dry-run": run(*theirs, "--unit", "example", "--dry-run"),
        "import": run(*theirs, "--unit", "example"),
        "import again": run(*theirs, "--unit", "example"),
        "ls": run("ls", *there),
        "verify": run("verify", "corpora/shore", *there),
        "compare --dry-run": run(*asked, "--dry-run", *there),
        "rsa": run("rsa", "--reference", "own", "--variant", "tag-s0", "--variant", "tag-s1",
                   "--corpus", "shore", *there),
        "profile": run("profile", "--corpus", "shore", "--rows", "all", *there),
        "rm": run("rm", "activations/lines/theirs"),
        "gc": run("gc"),
    }  # fmt: skip
    Path("lake/corpora/lines/text/zarr.json").write_text("{")
    found["verify, damage"] = run("verify", code=1)
    as_recorded("outputs", found)


def test_json_of_commands_with_models(
    place: Path, unpack: Callable[[str, Path], None], run: Run, as_recorded: Recorded
) -> None:
    pytest.importorskip("torch")
    unpack("runs", place)
    Path("runs.toml").write_text(
        '[defaults]\nmodel = "tiny"\ntask = "tag"\ntrain = "tags.jsonl"\nlabel = "upos"\n'
        'dev = ["shore=shore.conllu"]\nepochs = 2\nbatch = 4\nlr = 1e-2\ndevice = "cpu"\n'
        '[[run]]\nout = "tag-s0"\n[[run]]\nout = "tiny"\nseed = 1\n'
    )
    cpu = ("--device", "cpu")
    extract = ("extract", "tiny", "shore.conllu", *cpu)
    one = ("finetune", "tag", "tiny", "--train", "tags.jsonl", "--label", "upos", "--epochs", "1")
    found = {
        "extract --dry-run": run(*extract, "--as", "base", "--dry-run"),
        "extract": run(*extract, "--as", "base"),
        "extract --dry-run, several": run(*extract, "--truncate", "0-1", "--dry-run"),
        "finetune, several": run("finetune", "--runs", "runs.toml", code=1),
        "finetune --dry-run": run(*one, *cpu, "--out", "new", "--dry-run"),
        "finetune --dry-run, several": run(
            *one, *cpu, "--out", "new-{seed}", "--seed", "0-1", "--dry-run"
        ),
        "evaluate": run("evaluate", "tag-s0", "shore.conllu", *cpu),
    }
    as_recorded("outputs_with_torch", found)
