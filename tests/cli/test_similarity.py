"""`layerlake compare` and `layerlake rsa`: what they print, write, draw, keep and refuse."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerlake as ll
from layerlake.analyses.results.similarity import FIELDS
from layerlake.cli.main import main
from layerlake.store.space import Space

SIZES = np.full(30, 4)
SEEDS = {
    name: {"parent": {"weights_digest": "b"}, "training": {"task": "nli", "seed": seed}}
    for seed, name in enumerate(("nli-s0", "nli-s1"))
}

Run = Callable[..., str]


@pytest.fixture
def lake(lake_with: Callable[..., ll.Lake]) -> ll.Lake:
    """A base and two seeds of what was made from it, two layers over two corpora."""
    rng = np.random.default_rng(0)
    about = {"base": {"weights_digest": "b"}, **SEEDS}
    for corpus in ("wiki", "nli"):
        spaces = {}
        base = [rng.standard_normal((120, 6)) for _ in range(2)]
        for name in about:
            own = [rows + rng.standard_normal(rows.shape) for rows in base]
            layers = base if name == "base" else own
            spaces[name] = [rows.astype("float32") for rows in layers]
        lake = lake_with(corpus, spaces, SIZES, about=about)
    return lake


@pytest.fixture
def run(lake: ll.Lake, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a line over the lake, expects an exit code, and returns stdout."""

    def run(*line: str, code: int = 0, stderr: bool = False) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([*line, "--lake", lake.location.name])
        said = capsys.readouterr()
        assert stopped.value.code == code, said.err
        return said.err if stderr else said.out

    return run


WIKI = ("--corpus", "wiki", "--rows", "100")


def test_json_is_one_object_on_stdout(lake: ll.Lake, run: Run) -> None:
    line = ("compare", "--measure", "rsa,cka", "--measure", "procrustes")
    found = json.loads(run(*line, "--corpus", "wiki", "--corpus", "nli", "--json"))
    assert set(found) == {"settings", "identity", "records", "notes"}
    assert all(tuple(record) == tuple(FIELDS) for record in found["records"])
    expected = ll.compare(lake, ["wiki", "nli"], measure="rsa,cka,procrustes")
    assert found == json.loads(expected.to_json())
    assert {r["corpus"] for r in found["records"]} == {"wiki", "nli"}


def test_rsa_is_one_measure_of_compare(run: Run) -> None:
    printed = run("rsa", *WIKI)
    assert run("compare", "--measure", "rsa", *WIKI) == printed
    assert "wiki, resid: similarity to base" in printed
    assert "layer" in printed
    assert "nli-s1" in printed


def test_all_that_a_line_can_ask_for(lake: ll.Lake, run: Run) -> None:
    said = run(
        *("rsa", *WIKI, "--reference", "own", "--variant", "nli-s0", "--variant", "nli-s1"),
        *("--layers", "0-1", "--kernel", "correlation", "--seed", "3", "--confidence", "0.9"),
        *("--differences", "--seeds", "--ceilings", "--permutations", "19", "--specials"),
        *("--method", "features", "--memory", "64MiB", "--device", "cpu"),
        *("--scheduler", "threads", "--workers", "2", "--json"),
    )
    expected = ll.rsa(
        lake,
        "wiki",
        "own",
        ["nli-s0", "nli-s1"],
        rows=100,
        layers="0-1",
        kernel="correlation",
        seed=3,
        confidence=0.9,
        differences=True,
        seeds=True,
        ceilings=True,
        permutations=19,
        specials=True,
        method="features",
    )
    assert json.loads(said) == json.loads(expected.to_json())
    measures = {record["measure"] for record in expected.records}
    assert {"r_all", "r_between_difference", "ceiling_lower", "ceiling_upper"} < measures
    table = run("rsa", *WIKI, "--differences", "--permutations", "19", "--seeds", "--ceilings")
    assert "p = 0.05" in table
    assert "wiki, resid: noise ceiling of similarity to base" in table
    assert "wiki, resid: difference in similarity to base" in table


def test_a_dry_run_writes_nothing(lake: ll.Lake, run: Run) -> None:
    files = sorted(lake.location.files_below(""))
    line = ("compare", "--measure", "rsa,mutual-knn", *WIKI, "--all-pairs", "--dry-run")
    table = run(*line)
    assert "100 of 6 spaces, 15 pairs of spaces" in table
    found = json.loads(run(*line, "--json"))
    assert (found["n_rows"], found["n_spaces"], found["n_pairs"]) == (100, 6, 15)
    assert found["bytes_held"] > 100 * 6 * 6 * 4
    assert found["seconds"] > 0
    assert "are allowed; allow more memory" in run(*line, "--memory", "1KiB", code=1, stderr=True)
    assert sorted(lake.location.files_below("")) == files


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (None, ()),
        ("curves", ("--reference-layer", "0")),
        ("matrix", ("--all-pairs",)),
        ("map", ("--all-pairs",)),
    ],
)
def test_pictures_and_tables_are_written(
    run: Run, tmp_path: Path, kind: str | None, line: tuple[str, ...]
) -> None:
    picture, table = tmp_path / "drawn.svg", tmp_path / "numbers.csv"
    more = () if kind is None else ("--plot-kind", kind)
    asked = ("rsa", *WIKI, *line, "--plot", str(picture), *more, "--out", str(table))
    said = run(*asked, stderr=True).splitlines()
    assert f"wrote {picture}" in said
    assert f"wrote {table}" in said
    assert "<svg" in picture.read_text()
    with table.open() as lines:
        rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == tuple(FIELDS)
    assert len(rows) == 2 * {"--all-pairs": 15, "--reference-layer": 5}.get((*line, "")[0], 4)


def test_the_same_line_answers_from_the_lake_without_reading(
    lake: ll.Lake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    rows_of = Space.rows

    def rows(self: Space, index: Any) -> Any:
        """Count the reads."""
        reads.append(len(index))
        return rows_of(self, index)

    monkeypatch.setattr(Space, "rows", rows)
    line = ("compare", "--measure", "cka,rsa", *WIKI, "--permutations", "9")
    printed = run(*line)
    assert reads
    (kept,) = lake.location.nodes("results/similarity")
    for more, read in (
        ((), False),
        (("--memory", "1GiB", "--scheduler", "threads"), False),
        (("--fresh",), True),
        (("--verified",), True),
    ):
        reads.clear()
        assert run(*line, *more) == printed
        assert bool(reads) == read
        assert lake.location.nodes("results/similarity") == [kept]
    reads.clear()
    run(*line[:-1], "10")
    assert reads
    assert len(lake.location.nodes("results/similarity")) == 2


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (("rsa",), 1, "error: the lake has activations over 2 corpora (nli, wiki); name one"),
        (("rsa", *WIKI, "--variant", "nli-s9"), 1, "did you mean nli-s"),
        (("rsa", *WIKI[:-1], "121"), 1, "error: 121 rows asked for, but the variants share 120"),
        (("compare", *WIKI), 2, "Missing option '--measure'"),
        (("compare", "--measure", "cca,ckaa", *WIKI), 1, "error: there is no measure 'ckaa'"),
        (("rsa", *WIKI, "--all-pairs", "--reference-layer", "1"), 1, "choose one of --all-pairs"),
        (("rsa", *WIKI, "--scheduler", "tcp://127.0.0.1:9"), 1, "no Dask scheduler answers at"),
        (("rsa", *WIKI, "--memory", "1KiB"), 1, "(1024 bytes) are allowed; allow more memory"),
        (("rsa", *WIKI, "--plot", "x.gif"), 1, "x.gif"),
        (("rsa", *WIKI, "--plot-kind", "map"), 2, "name its file with --plot FILE"),
        (("rsa", *WIKI, "--zoom"), 2, "name its file with --plot FILE"),
        (
            ("rsa", *WIKI, "--all-pairs", "--plot", "x.png", "--plot-kind", "map", "--zoom"),
            2,
            "--zoom does not apply to maps",
        ),
        (("rsa", *WIKI, "--out", "x.docx"), 1, "x.docx"),
        (("rsa", *WIKI, "--workers", "2"), 1, "only the schedulers threads and processes"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.setattr("layerlake.engine.workers.dask_cluster.ANSWER_SECONDS", 0.5)
    found = run(*line, code=code, stderr=True)
    assert said in found
    assert "Traceback" not in found
    if code == 1:
        assert found.startswith("error: ")
        assert found.count("\n") == 1
