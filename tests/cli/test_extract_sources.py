"""Sources and packings as people type them: what comes of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from layerlake.cli.main import main
from layerlake.store.lake import open_lake

pytest.importorskip("torch")

Run = Callable[..., tuple[int, str, str]]

PAIRS = [
    {"gold_label": "neutral", "sentence1": "The gull sat on the pier.", "sentence2": "It sat."},
    {"gold_label": "-", "sentence1": "Nobody came.", "sentence2": "Nobody was there at all."},
]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A function that runs a command on a lake and returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments), "--lake", str(tmp_path / "lake")])
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file of NLI."""
    path = tmp_path / "nli.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return path


# By hand: "gull" is two pieces, so the texts have 8 and 3, 3 and 6 pieces; an input has 2 or 3
# special ones. In windows of 10 the first pair makes one input of 10, the second two, with 6 special
# pieces, 3 of the first text once, and 6 of the second.
@pytest.mark.parametrize(
    ("packing", "options", "rows"),
    [
        ("pair", [], 26),
        ("first", [], 15),
        ("second", [], 13),
        ("trim(9)", [], 18),
        ("window(10,3,4)", [], 25),
        ("first", ["--unit", "word"], 8),
        ("first", ["--bos", "never", "--long", "window"], 15),
    ],
)
def test_packings(
    run: Run, pairs: Path, small_bert: Path, packing: str, options: list[str], rows: int
) -> None:
    line = ["extract", small_bert, pairs, "--format", "snli", "--packing", packing, *options]
    code, out, _ = run(*line, "--json")
    assert code == 0
    assert json.loads(out)["n_rows"] == rows
    code, out, _ = run(*line, "--json")  # the same line again does nothing
    assert (code, json.loads(out)["n_computed"]) == (0, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--packing", "pairs"], "there is no packing 'pairs'; choose one of single, pair, first"),
        (["--packing", "window(8,8)"], "a stride of 8 pieces in windows of 8; it must be shorter"),
        (["--packing", "trim(64)"], None),
        (["--packing", "trim(3)"], "leaves no room for text beside 3 pieces (3 of them special)"),
        (["--packing", "single"], "are pairs of texts; use --packing pair, or first or second"),
        (["--packing", "pair", "--chat"], "has no chat template; leave --chat out"),
        (["--packing", "pair", "--bos", "always"], "has no BOS to put in front"),
        (["--packing", "trim(9)", "--chat"], "would cut through the chat template"),
    ],
)
def test_packings_refused(
    run: Run, pairs: Path, small_bert: Path, tmp_path: Path, options: list[str], said: str | None
) -> None:
    code, _, err = run("extract", small_bert, pairs, "--format", "mnli", *options)
    if said is None:
        assert code == 0
        return
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert said in err
    assert open_lake(str(tmp_path / "lake"), "a").corpora() == []


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("a.tsv", "sentence1\tsentence2\nx\ty\n", ["--format", "mnli"], "no field 'gold_label'"),
        ("a.tsv", "text\tn\nx\t1\ny\n", [], "line 3 of a.tsv has 1 values, expected 2 (text, n"),
        ("squad.json", "[]", [], "squad.json is a JSON list, expected an object"),
        ("a.parquet", "no", [], "a.parquet cannot be read as Parquet"),
        ("a.json", "{}", [], "the name a.json does not say its format; choose one of text, jsonl"),
        ("a.csv", "body\nx\n", [], "line 2 of a.csv has no field 'text'; its fields are: body"),
    ],
)
def test_sources_refused(
    run: Run, tmp_path: Path, name: str, content: str, options: list[str], said: str
) -> None:
    pytest.importorskip("pyarrow", reason="the data extra is not installed")
    (tmp_path / name).write_text(content)
    code, _, err = run("corpus", "add", "c", tmp_path / name, *options)
    assert code == 1
    assert err.splitlines()[-1].startswith("error: ")
    assert said in err
    assert open_lake(str(tmp_path / "lake"), "a").corpora() == []


def test_pairs_without_consensus_are_kept_and_counted(run: Run, pairs: Path) -> None:
    code, out, _ = run("corpus", "add", "nli", pairs, "--format", "mnli")
    assert code == 0
    assert out == "corpora/nli: 2 examples, 15 words; 1 without consensus (label=-)\n"


def test_names_on_the_hub_refused(run: Run, small_bert: Path) -> None:
    pytest.importorskip("datasets", reason="the data extra is not installed")
    for line in (["corpus", "add", "c"], ["extract", small_bert]):
        code, _, err = run(*line, "hf://org/nothing:train")
        assert code == 1
        assert "is not in the local cache of data sets, and the hub cannot be reached" in err
        code, _, err = run(*line, "hf://nothing")
        assert (code, "write hf://ORG/NAME[/CONFIG][:SPLIT][@REVISION]" in err) == (1, True)
