"""The finetune suite at toy size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerlake.bench.finetune import BASELINE, GROUPED, OURS, run
from layerlake.cli.main import main
from layerlake.store.errors import InvalidInput

pytest.importorskip("torch")


def test_every_method_trains_the_same_pieces(
    small_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(str(small_bert), tasks=("mnli",), n_examples=12, batch=4, repeats=1, memory=False)
    assert [record["method"] for record in result.records] == [BASELINE, GROUPED, OURS]
    first = result.records[0]
    for record in result.records:
        assert record["pieces"] == first["pieces"] > 12 * 5
        assert record["ratio"] == pytest.approx(first["cpu_seconds"] / record["cpu_seconds"])
    assert first["ratio"] == 1
    assert capsys.readouterr().out == ""  # the Trainer prints what it did


def test_the_command_prints_one_object(
    small_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--task", "mnli", "--examples", "8", "--batch", "4", "--repeats", "1"]
    with pytest.raises(SystemExit) as ended:
        main(["bench", "finetune", str(small_bert), *options, "--no-memory", "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["settings"]["data"] == {"mnli": "generated"}


def test_more_examples_than_there_are_is_one_sentence(small_bert: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text('{"gold_label": "neutral", "sentence1": "A lamp.", "sentence2": "A light."}\n')
    with pytest.raises(InvalidInput, match=r"9 examples asked of .*few\.jsonl, which has 1"):
        run(str(small_bert), tasks=("mnli",), mnli=few, n_examples=9, repeats=1)
