"""A result class of other axes and a measure of its own: declared here, known everywhere."""

import csv
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from layerlake.analyses.results.files import write_result
from layerlake.analyses.results.kept import find_result, keep_result
from layerlake.analyses.results.measures import Measure
from layerlake.analyses.results.record import Layout
from layerlake.analyses.results.result import Result
from layerlake.cli.main import commands
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import open_lake


@dataclass(frozen=True, repr=False)
class Probes(Result):
    """Scores of probes of the first k layers, over tasks and seeds."""

    kind: ClassVar = "probe"
    analyses: ClassVar = ("probes",)
    method_version: ClassVar = 1
    fields: ClassVar = {
        "task": "text", "seed": "whole", "k": "whole", "measure": "text", "value": "number"
    }  # fmt: skip
    axes: ClassVar = ("task", "seed", "k", "measure")
    each: ClassVar = "run"
    layout: ClassVar = Layout(rows=("k",), columns="seed")
    measures: ClassVar = {"bits": Measure("bits", "codelength", "quantity", 0.0, written=".1f")}


def test_a_class_declared_here_is_tabled_written_kept_and_listed(tmp_path: Path) -> None:
    cells = list(itertools.product(("pos", "ner"), (0, 1), (1, 2, 3)))
    records = [
        {"task": task, "seed": seed, "k": k, "measure": "bits", "value": 10.0 * k + seed}
        for task, seed, k in cells
    ]
    records[0]["value"] = None
    settings = {"tasks": ["pos", "ner"], "k": 3, "labels": None}
    result = Probes(settings, {"labels": "ab12", "task_file": "cd34"}, tuple(records), ("<note>",))
    assert repr(result) == f"{result.table()}\nnote: <note>"
    first, second = result.table().split("\n\n")
    assert first.splitlines()[:4] == [
        "pos: codelength", "k  |  0     |  1", "---+--------+------", "1  |  -     |  11.0"
    ]  # fmt: skip
    assert second.splitlines()[0] == "ner: codelength"
    html = result._repr_html_()
    assert html.count("<table>") == 2
    assert "<th>k</th><th>seed 0</th><th>seed 1</th>" in html
    assert "<td>21.0</td>" in html
    assert "note: &lt;note&gt;" in html
    dataset = result.to_xarray()
    assert dataset["value"].dims == ("task", "seed", "k", "measure")
    for name in ("probes.csv", "probes.json"):
        write_result(result, tmp_path / name)
    lines = list(csv.DictReader((tmp_path / "probes.csv").read_text().splitlines()))
    written = json.loads((tmp_path / "probes.json").read_text())["records"]
    for (task, seed, k), line, record in zip(cells, lines, written, strict=True):
        value = float(dataset["value"].sel(task=task, seed=seed, k=k, measure="bits"))
        assert line["value"] == ("" if record["value"] is None else str(value))
    lake = open_lake(tmp_path / "lake", "a")
    assert find_result(lake, "probes", settings, result.identity, Probes) is None
    assert keep_result(lake, "probes", result) == result
    assert find_result(lake, "probes", settings, result.identity, Probes) == result
    assert find_result(lake, "probes", settings, {"labels": "other"}, Probes) is None
    done = CliRunner().invoke(commands, ["ls", "--lake", str(tmp_path / "lake")])
    assert done.output.startswith("results/probes/")
    assert done.output.endswith("  probes result: tasks pos, ner, k 3\n")


def test_a_place_holds_one_record() -> None:
    record = {"task": "pos", "seed": 0, "k": 1, "measure": "bits", "value": 1.0}
    with pytest.raises(
        InvalidInput,
        match="pos has two records for bits at seed 0, k 1; give one for each run and measure",
    ):
        Probes({}, {}, (record, record)).to_xarray()


def test_measures_side_by_side_and_many_columns() -> None:
    records = tuple(
        {"task": "pos", "seed": seed, "k": 1, "measure": measure, "value": seed / 100}
        for seed in range(20)
        for measure in ("accuracy", "bits")
    )

    @dataclass(frozen=True, repr=False)
    class Flat(Probes):
        """One table of all measures."""

        layout: ClassVar = Layout(rows=("k", "seed"), shown=("bits",))

    lines = Flat({}, {}, records).table().splitlines()
    assert lines[0] == "pos, k 1"
    assert lines[1] == "seed  |  bits"
    assert lines[-1] == "cells: value; --json has more numbers"
    assert len(lines) == 24
    one, other = Probes({}, {}, records).table().split("\n\n")
    assert one.splitlines()[0] == "pos: accuracy"
    assert one.splitlines()[1] == " k  |  1"  # many seeds are rows
    assert other.splitlines()[3] == " 0  |  0.0"
    assert Probes({}, {}, ()).table() == ""


def test_a_new_version_of_the_method_is_another_answer(tmp_path: Path) -> None:
    @dataclass(frozen=True, repr=False)
    class Newer(Probes):
        """The same, computed in another way."""

        method_version: ClassVar = 2

    lake = open_lake(tmp_path / "lake", "a")
    older = keep_result(lake, "probes", Probes({"k": 1}, {}, ()))
    assert find_result(lake, "probes", {"k": 1}, {}, Newer) is None
    newer = keep_result(lake, "probes", Newer({"k": 1}, {}, (), ("new",)))
    assert find_result(lake, "probes", {"k": 1}, {}, Newer) == newer
    assert find_result(lake, "probes", {"k": 1}, {}, Probes) == older
