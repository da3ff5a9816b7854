"""The life of a lake from the command line: what each command says, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlake.cli.main import main

pytest.importorskip("torch")

Say = Callable[..., str]


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """A function from a command line that must succeed to what it prints; the lake is ./lake."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERLAKE", raising=False)

    def run(*line: str | Path, code: int = 0) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(part) for part in line])
        out, err = capsys.readouterr()
        assert (ended.value.code, err) == (code, "")
        return out

    return run


def records(said: str) -> dict[str, str]:
    """Return what `ls --json` says of each path."""
    return {record["path"]: record["what"] for record in json.loads(said)["records"]}


def test_from_a_text_to_an_empty_lake(say: Say, tmp_path: Path, small_bert: Path) -> None:
    (tmp_path / "shore.txt").write_text("Gulls cry.\nThe tide turns at noon.\nNobody minds.\n")
    said = say("corpus", "add", "shore", "shore.txt", "--json")
    assert json.loads(said)["n_examples"] == 3
    assert say("corpus", "add", "shore", "shore.txt") == "corpora/shore: 3 examples, 9 words\n"

    line = ("extract", small_bert, "shore", "--as", "base")
    assert "nothing was written" in say(*line, "--dry-run")
    foretold: dict[str, Any] = json.loads(say(*line, "--dry-run", "--json"))
    assert (foretold["n_missing"], foretold["n_computed"]) == (1, 0)
    assert records(say("ls", "--json")).keys() == {"corpora/shore"}
    done = json.loads(say(*line, "--json"))
    assert (done["n_missing"], done["n_computed"]) == (1, 1)
    assert {k: done[k] for k in ("path", "n_rows", "n_bytes", "n_pieces")} == {
        k: foretold[k] for k in ("path", "n_rows", "n_bytes", "n_pieces")
    }
    assert "0 of 1 windows computed" in say(*line)
    say("extract", small_bert, "shore", "--as", "random", "--randomize", "3")
    say("extract", small_bert, "shore", "--as", "twin", "--layers", "0-1")

    asked = ("rsa", "--rows", "all", "--variant", "random", "--interval", "none")
    first = say(*asked)
    assert "shore, resid: similarity to base" in first
    assert say(*asked) == first

    listed = records(say("ls", "--json"))
    assert listed["variants/twin"] == "bert, 3 layers of 32, the same weights as base"
    rows = done["n_rows"]
    assert listed[done["path"]] == f"{rows} piece rows (all), 4 layers, float16, 0.3 MB, sealed"
    (result,) = (path for path in listed if path.startswith("results/rsa/"))
    assert listed[result] == "random against base over shore, cosine, rows all"
    table = say("ls")
    assert all(path in table for path in listed)
    assert say("ls", "variants").count("\n") == 3
    assert json.loads(say("info", "variants/base", "--json"))["n_layers"] == 3
    assert "\nn_layers: 3\n" in say("info", "variants/base")

    sound = json.loads(say("verify", "--json"))
    assert (sound["findings"], sound["n_incomplete"]) == ([], 0)
    assert say("verify").startswith("sound: ")
    shard = tmp_path / "lake" / done["path"] / "resid/2/c/0/0"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    assert f"{done['path']}/resid/2/c/0/0: is damaged" in say("verify", code=1)
    assert "(dropped)" in say("verify", done["path"], "--repair")
    assert "1 of 1 windows computed" in say(*line)
    assert say("verify").startswith("sound: ")

    assert say("rm", result) == f"removed {result}\n"
    for path in ("activations/shore", "variants/random", "variants/twin", "variants/base"):
        assert json.loads(say("rm", path, "--json")) == {"removed": path}
    say("rm", "corpora/shore")
    assert say("ls") == ""
    assert json.loads(say("gc", "--json"))["freed_bytes"] == 0
    assert say("gc") == "freed 0 bytes\n"


def test_the_lake_is_named_by_option_or_variable(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shore.txt").write_text("Gulls cry.\n")
    say("corpus", "add", "shore", "shore.txt", "--lake", "one")
    monkeypatch.setenv("LAYERLAKE", "two")
    say("corpus", "add", "port", "shore.txt")
    assert records(say("ls", "--json")).keys() == {"corpora/port"}
    assert records(say("ls", "--json", "--lake", "one")).keys() == {"corpora/shore"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "shore.txt", "two"]


def test_trained_models_are_listed_under_their_base(
    say: Say, tmp_path: Path, small_bert: Path, perturbed: Callable[..., Path]
) -> None:
    (tmp_path / "shore.txt").write_text("Gulls cry.\nThe tide turns at noon.\n")
    scores = {"dev": {"accuracy": 0.7123}}
    for seed in (0, 1):
        perturbed(small_bert, tmp_path / f"a-mnli-s{seed}", seed, scores=scores)
    alone = ("extract", "a-mnli-s0", "shore.txt", "--corpus", "shore")
    say(*alone)
    size = "bert, 3 layers of 32"
    assert records(say("ls", "variants", "--json")) == {
        "variants/a-mnli-s0": f"{size}, mnli, seed 0, accuracy 0.712, made from small, which is "
        "not here"
    }
    assert "own base" not in say("info", "variants/a-mnli-s0")
    say("extract", "a-mnli-s1", "shore")
    say("extract", small_bert, "shore", "--as", "base")
    say("extract", small_bert, "shore", "--as", "random", "--randomize", "3")
    assert say("ls", "variants") == (
        f"variants/base         {size}\n"
        f"  variants/a-mnli-s0  {size}, mnli, seed 0, accuracy 0.712\n"
        f"  variants/a-mnli-s1  {size}, mnli, seed 1, accuracy 0.712\n"
        f"  variants/random     {size}, random weights, seed 3\n"
    )
    listed = json.loads(say("ls", "--json"))["records"]
    made = {r["path"]: (r["parent"], r["training"]) for r in listed if "parent" in r}
    training = {"task": "mnli", "recipe": {"learning_rate": 5e-5}, "scores": scores}
    assert made == {
        "variants/base": (None, None),
        "variants/a-mnli-s0": ("base", training | {"seed": 0}),
        "variants/a-mnli-s1": ("base", training | {"seed": 1}),
        "variants/random": ("base", None),
    }
    assert say("ls", "variants/a-mnli-s1").startswith(f"variants/a-mnli-s1  {size}, mnli, seed 1")
    told = say("info", "variants/a-mnli-s1")
    for line in ("own base: variants/base", "parent.source: small", "training.task: mnli",
                 "training.scores.dev.accuracy: 0.7123"):  # fmt: skip
        assert f"{line}\n" in told
    joined = say("rsa", "--reference", "own", "--seeds", "--rows", "all", "--interval", "none")
    assert "a-mnli-s*" in joined
