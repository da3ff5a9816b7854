"""A lake that commit 9470c02 wrote is read, and its kept results still answer their questions.

`make_archives.py` made `lake.tar.xz` and `lake.json`. Nothing here needs torch, nor the machine
that the numbers come from: what is kept is compared exactly, what is computed to a tolerance.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerlake as ll
from layerlake.analyses.similarity.question import METHOD_VERSIONS
from layerlake.cli.main import main

RECORD: dict[str, Any] = json.loads(Path(__file__).with_name("lake.json").read_text("utf-8"))
QUESTIONS: dict[str, Any] = RECORD["questions"]
MARK = 1234.5
"""A value that nothing would compute."""
JUMPING = ("spearman", "kendall", "mutual-knn", "cknna")
"""Measures of ranks and neighbours: equal rows, as of one word at one position before the first
block, are told apart by roundings, which are the machine's."""


def is_newer(question: str) -> bool:
    """Say whether a question is about measures that are computed otherwise since."""
    named = QUESTIONS[question]["arguments"].get("measure", [])
    measures = named.split(",") if isinstance(named, str) else named
    return bool(METHOD_VERSIONS.keys() & set(measures))


@pytest.fixture(scope="module")
def answers(stored: Path) -> dict[str, Any]:
    """The answers of that commit, by question."""
    found: dict[str, Any] = json.loads((stored / "answers.json").read_text("utf-8"))
    return found


@pytest.fixture
def lake(stored: Path) -> ll.Lake:
    """The stored lake, opened for writing: it could keep what it should not compute."""
    return ll.open_lake(stored / "lake", "r+")


@pytest.fixture
def run(lake: ll.Lake, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """A function that runs a line over the lake, and returns its JSON."""

    def run(*line: str, lake: ll.Lake = lake) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([*line, "--lake", lake.location.name, "--json"])
        said = capsys.readouterr()
        assert ended.value.code == 0, said.err
        return json.loads(said.out)

    return run


def files_of(place: Path) -> dict[str, tuple[int, str]]:
    """Return time and digest of every file below a folder."""
    return {
        file.relative_to(place).as_posix(): (
            file.stat().st_mtime_ns,
            hashlib.sha256(file.read_bytes()).hexdigest(),
        )
        for file in place.rglob("*")
        if file.is_file()
    }


def asked(lake: ll.Lake, question: str, progress: Any, **more: Any) -> dict[str, Any]:
    """Ask a recorded question; return the answer as JSON has it, with the spectra of a profile."""
    about = QUESTIONS[question]
    result = getattr(ll, about["function"])(lake, **about["arguments"], progress=progress, **more)
    found: dict[str, Any] = json.loads(result.to_json())
    if about["function"] == "profile":
        spectrum = result.to_spectrum()["variance"].values
        found["spectrum"] = np.where(np.isnan(spectrum), None, spectrum).tolist()
    return found


def test_it_says_of_itself_what_it_said(lake: ll.Lake, run: Callable[..., Any]) -> None:
    listed = run("ls")["records"]
    assert all(record.pop("what") for record in listed)  # words for people
    assert listed == RECORD["ls"]
    for path, attributes in RECORD["info"].items():
        assert run("info", path) == attributes, path
    assert run("verify") == RECORD["verify"]
    assert lake.corpora() == ["claims", "firsts", "shore"]
    assert lake.variants() == ["base", "noise", "outside", "short", "tag-s0", "tag-s1"]


def test_spaces_hold_the_recorded_bytes(lake: ll.Lake) -> None:
    found = {}
    for state in lake.sets():
        for name in state.plan.arrays:
            site, layer = name.split("/")
            rows = lake.space_of(state, site, int(layer)).rows(slice(None))
            found[f"{state.plan.path}/{name}"] = {
                "shape": list(rows.shape),
                "dtype": rows.dtype.name,
                "sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
            }
    assert found == RECORD["spaces"]


def test_words_and_labels_go_with_the_rows(lake: ll.Lake) -> None:
    words = lake.space("shore", "base", 2, unit="word").to_xarray()
    assert words.shape == (sum(7 if number % 3 == 0 else 6 for number in range(24)), 8)
    assert " ".join(words.coords["word_text"].values[:7]) == "the gull sleeps on the shore now"
    assert list(words.coords["example_id"].values[6:8]) == ["s0", "s1"]
    pairs = lake.space("claims", "base", 2).to_xarray(columns=["label"])
    assert list(pairs.dims) == ["row", "hidden"]
    assert set(pairs.coords["label"].values) == {"entailment", "neutral", "contradiction"}
    tags = lake.table("corpora/shore", names=["annotations/upos"])[0]["annotations/upos"]
    assert " ".join(tags[:7]) == "DET NOUN VERB ADP DET NOUN ADV"


def test_kept_answers_are_found(lake: ll.Lake, answers: dict[str, Any]) -> None:
    place = Path(lake.location.name)
    before = files_of(place)
    worked: list[Any] = []
    told = ll.to_function(worked.append)  # of a kept answer it is told nothing
    for question in QUESTIONS:
        if is_newer(question):
            continue
        assert asked(lake, question, told) == answers[question], question
        assert not worked, f"{question} was computed: {worked[0]}"
    assert files_of(place) == before


def test_answers_of_older_methods_are_not_given(lake: ll.Lake) -> None:
    newer = [question for question in QUESTIONS if is_newer(question)]
    assert newer
    for question in newer:
        worked: list[Any] = []
        asked(lake, question, ll.to_function(worked.append))
        assert worked, question


def test_what_is_asked_and_of_which_bytes_names_no_machine(answers: dict[str, Any]) -> None:
    recipe = next(about["recipe"] for about in RECORD["info"].values() if "recipe" in about)
    for question, answer in answers.items():
        assert "device" not in answer["settings"], question
        several = "sets" not in answer["identity"]  # several corpora have an identity each
        identities = answer["identity"].values() if several else [answer["identity"]]
        assert all(set(identity) == {"corpus", "sets"} for identity in identities), question
        assert recipe["torch"] not in json.dumps([answer["settings"], answer["identity"]])


def numbers_of(answer: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, float | None]]:
    """Return the numbers of an answer by what its records are about."""
    numbers = ("value", "low", "high", "p")
    names = ("corpus", "reference", "reference_layer", "variant", "layer", "site", "measure")
    return {
        tuple(record.get(name) for name in names): {n: record[n] for n in numbers if n in record}
        for record in answer["records"]
    }


@pytest.fixture(scope="module")
def emptied(
    unpack: Callable[[str, Path], None], tmp_path_factory: pytest.TempPathFactory
) -> ll.Lake:
    """The stored lake without any result, to be written to."""
    place = tmp_path_factory.mktemp("emptied")
    unpack("lake", place)
    lake = ll.open_lake(place / "lake", "r+")
    kept = {
        file.parent.relative_to(place / "lake").as_posix()
        for file in place.glob("lake/results/*/*/zarr.json")
    }
    assert kept == {path for about in QUESTIONS.values() for path in about["kept"]}
    for path in kept:
        ll.remove(lake, path)
    return lake


@pytest.mark.parametrize("question", QUESTIONS)
def test_computed_anew_it_says_the_same_and_lies_in_the_same_place(
    question: str, emptied: ll.Lake, answers: dict[str, Any]
) -> None:
    then, now = answers[question], asked(emptied, question, ll.silent)
    if is_newer(question):
        assert now["settings"].pop("methods").items() <= METHOD_VERSIONS.items()
    else:
        for path in QUESTIONS[question]["kept"]:
            assert Path(emptied.location.name, path, "zarr.json").is_file(), f"{path} is not there"
    assert (now["settings"], now["identity"]) == (then["settings"], then["identity"])
    old, new = numbers_of(then), numbers_of(now)
    assert list(new) == list(old)
    for about, numbers in old.items():
        measure = about[-1]
        if measure in METHOD_VERSIONS:
            continue
        for name, number in numbers.items():
            if "short" in about and name != "value":
                continue  # equal to the base, so that its interval is one of roundings
            if number is None or new[about][name] is None:
                assert new[about][name] is number, (about, name)
            elif measure.startswith(JUMPING):
                assert new[about][name] == pytest.approx(number, abs=0.05), (about, name)
            else:
                assert new[about][name] == pytest.approx(number, rel=1e-5, abs=1e-5), (about, name)
    if "spectrum" in then:
        spectra = [np.asarray(answer["spectrum"], np.float64) for answer in (now, then)]
        np.testing.assert_allclose(*spectra, rtol=1e-5, atol=1e-9)


def test_the_command_line_answers_from_what_is_kept(
    emptied: ll.Lake, run: Callable[..., Any]
) -> None:
    asked(emptied, "many measures", ll.silent)
    many = QUESTIONS["many measures"]["arguments"]["measure"]
    (path,) = [
        path
        for name in emptied.location.nodes("results/similarity")
        if emptied.attributes(path := f"results/similarity/{name}")["settings"]["measures"] == many
    ]
    columns, attributes = emptied.table(path)
    columns["value"] = np.full_like(columns["value"], MARK)
    ll.remove(emptied, path)
    emptied.add_table(path, columns, attributes)
    measures = ",".join(many)
    line = ("compare", "--corpus", "shore", "--variant", "tag-s0", "--rows", "all")
    found = run(*line, "--neighbours", "3", "--measure", measures, lake=emptied)
    assert {record["value"] for record in found["records"]} == {MARK}
    assert len(found["records"]) == len(columns["value"])
    ll.remove(emptied, path)


def test_it_is_read_without_torch(stored: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import layerlake as ll; lake = ll.open_lake('lake')\n"
        "print(lake.space('shore', 'tag-s0', 2).rows([0]).shape, "
        "len(ll.rsa(lake, 'shore', 'own', ['tag-s0', 'tag-s1']).records))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=stored,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["(1,", "8)", "12"], done.stderr
