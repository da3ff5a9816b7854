"""What cannot be done is said in one sentence, with exit code 1, and leaves nothing half-written."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.cli.main import main
from layerlake.store import folder as folder_module
from layerlake.store.lake import open_lake
from layerlake.store.schema import STAGING
from layerlake.store.verify import verify

torch = pytest.importorskip("torch")

TEXTS = [
    "The harbour woke before the town did.",
    "Nobody had told the gulls.",
    "A cart of flour went up the hill.",
]
LIMIT = 32
"""Pieces that the small model takes."""

Refused = Callable[..., str]


@pytest.fixture
def altered(small_bert: Path, tmp_path: Path) -> Callable[..., str]:
    """A function that changes one parameter of the model and returns the folder of the result."""

    def alter(parameter: str, change: Callable[[Any], None]) -> str:
        from safetensors.torch import load_file, save_file

        place = tmp_path / "altered"
        shutil.copytree(small_bert, place)
        weights = load_file(place / "model.safetensors")
        change(weights[parameter])
        save_file(weights, place / "model.safetensors", {"format": "pt"})
        return str(place)

    return alter


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A corpus of three lines."""
    path = tmp_path / "harbour.txt"
    path.write_text("\n".join(TEXTS))
    return path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, small_bert: Path) -> Path:
    """A lake with `base` and `random` over `harbour`."""
    folder = tmp_path_factory.mktemp("filled")
    text = folder / "harbour.txt"
    text.write_text("\n".join(TEXTS))
    for line in (["--as", "base"], ["--as", "random", "--randomize", "1"]):
        with pytest.raises(SystemExit, match="0"):
            main(["extract", str(small_bert), str(text), *line, "--lake", str(folder / "lake")])
    return folder / "lake"


@pytest.fixture
def lake(tmp_path: Path, filled: Path) -> Path:
    """A copy of that lake."""
    return shutil.copytree(filled, tmp_path / "lake")


def contents(place: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {
        str(file.relative_to(place)): file.read_bytes()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def refused(lake: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """A function that runs a command line and returns the sentence with which it is refused."""
    capsys.readouterr()

    def run(*line: str | Path, place: Path = lake, same: bool = True) -> str:
        before = contents(place) if place.is_dir() else None
        with pytest.raises(SystemExit) as ended:
            main([*map(str, line), "--lake", str(place)])
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (1, "")
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        if before is None:
            assert not place.is_dir()
        elif same:
            assert contents(place) == before
        if (place / "zarr.json").exists():
            assert not any(
                name.startswith(f"{STAGING}/") and name != f"{STAGING}/zarr.json"
                for name in contents(place)
            )
        return err.removeprefix("error: ").rstrip("\n")

    return run


def test_a_file_that_is_not_there(refused: Refused, small_bert: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.txt"
    assert f"there is no file {missing}" in refused("corpus", "add", "x", missing)
    assert "is neither a file nor a corpus" in refused("extract", small_bert, missing)
    assert "is neither a file nor a corpus" in refused(
        "extract", small_bert, missing, place=tmp_path / "new"
    )


@pytest.mark.parametrize(
    ("name", "content", "format", "said"),
    [
        ("a.jsonl", b'{"text": "a"}\n', "conllu", "line 1 of a.jsonl is not CoNLL-U"),
        ("a.txt.gz", gzip.compress(b"words " * 999)[:-9], "text", "in the middle of its gzip data"),
        ("a.txt", b"fine\nna\xefve\n", "text", "line 2 of a.txt is not UTF-8"),
        ("a.conllu", b"1\ta\ta\tX\tX\t_\t0\troot\t_\n", "conllu", "9 tab-separated columns"),
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', "jsonl", "line 2 of a.jsonl"),
        ("a.txt", b"\n \n", "text", "a.txt holds no examples"),
        ("a.raw", b"words", None, "does not say its format"),
        ("a.txt", b"words", "docx", "there is no format 'docx'"),
    ],
    ids=["json", "gzip", "utf8", "columns", "jsonl", "empty", "unknown", "unheard"],
)
def test_a_file_of_another_kind(
    refused: Refused,
    small_bert: Path,
    tmp_path: Path,
    name: str,
    content: bytes,
    format: str | None,
    said: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    how = ["--format", format] if format else []
    assert said in refused("corpus", "add", "x", path, *how)
    assert said in refused("extract", small_bert, path, *how)


def test_an_example_over_the_limit_is_named_and_can_be_dropped_or_split(
    refused: Refused,
    small_bert: Path,
    lake: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "long.txt"
    path.write_text(f"short\n{'gull ' * 40}\n")
    sentence = refused("extract", small_bert, path, "--as", "base")
    assert "line 2" in sentence
    assert f"{LIMIT}" in sentence
    assert "drop" in sentence
    assert "split" in sentence
    for choice, rows in (("drop", 3), ("split", 3 + 80 + 3 * 2)):
        line = ["extract", str(small_bert), str(path), "--as", "base", "--long", choice, "--json"]
        with pytest.raises(SystemExit, match="0"):
            main([*line, "--lake", str(lake)])
        assert json.loads(capsys.readouterr().out)["n_rows"] == rows


def test_a_model_that_cannot_be_had(refused: Refused, text: Path, tmp_path: Path) -> None:
    assert "nowhere" in refused("extract", tmp_path / "nowhere", text)
    assert "some-org/some-model" in refused("extract", "some-org/some-model", text)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty" in refused("extract", empty, text)


def test_a_device_that_is_not_there(refused: Refused, small_bert: Path, text: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "cuda" in refused("extract", small_bert, text, "--as", "x", "--device", "cuda")
    assert "quantum" in refused("extract", small_bert, text, "--as", "x", "--device", "quantum")


def test_layers_and_rows_that_are_not_there(refused: Refused, small_bert: Path, text: Path) -> None:
    line = ("extract", small_bert, text, "--as", "base")
    assert "layer 4 asked of a model with 3 layers (0-3)" in refused(*line, "--layers", "0,4")
    assert "0,8,16 or 0-4" in refused(*line, "--layers", "top")
    assert "999" in refused(*line, "--rows", "sample:999")
    assert "sample:N" in refused(*line, "--rows", "some")
    assert "layer 9 asked" in refused("rsa", "--layers", "9", "--rows", "all")
    assert "9000 rows asked for, but the variants share" in refused("rsa", "--rows", "9000")
    assert "needs at least 4" in refused("rsa", "--rows", "3")
    assert "neither a number above 0 nor all" in refused("rsa", "--rows", "many")
    assert "neither a number above 0 nor all" in refused("rsa", "--rows", "\N{SUPERSCRIPT TWO}")
    assert "not understood" in refused("rsa", "--layers", "\N{SUPERSCRIPT TWO}")
    assert "layer 99999999999 asked" in refused("rsa", "--layers", "0-99999999999")
    assert "go down" in refused("rsa", "--layers", "3-1")


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", ".hidden", "x" * 200])
def test_a_name_that_is_none(refused: Refused, small_bert: Path, text: Path, name: str) -> None:
    assert "cannot name a variant" in refused("extract", small_bert, text, "--as", name or "..")
    assert "cannot name a corpus" in refused("corpus", "add", name, text)
    assert "cannot name a corpus" in refused("extract", small_bert, text, "--corpus", name or "..")


@pytest.mark.parametrize("command", ["rm", "info", "verify"])
@pytest.mark.parametrize("path", ["../x", "corpora/../..", "corpora/nothing", "zarr.json"])
def test_a_path_that_leads_nowhere(refused: Refused, command: str, path: str) -> None:
    assert path in refused(command, path)


@pytest.mark.parametrize("path", ["activations", "activations/harbour/base", "variants"])
def test_what_only_groups_others_has_no_attributes(refused: Refused, path: str) -> None:
    assert f"name one that `layerlake ls {path}` lists" in refused("info", path)
    assert f"{path} only groups others" in refused("info", path, "--json")


def test_a_corpus_of_the_lake_under_another_name(refused: Refused, small_bert: Path) -> None:
    line = ("extract", small_bert, "harbour", "--as", "base", "--corpus")
    assert "corpus 'harbour' is in the lake already" in refused(*line, "port")


def test_a_line_that_was_wrong_does_not_stand_in_the_way(
    refused: Refused, small_bert: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"a": "Gulls cry.", "b": "Nobody minds."}\n')
    line = ("extract", small_bert, pairs, "--text-field", "a", "--packing", "pair", "--as", "base")
    assert "needs two texts" in refused(*line)
    with pytest.raises(SystemExit, match="0"):
        main([*map(str, line), "--pair-field", "b", "--lake", str(tmp_path / "lake")])


def test_a_path_that_nothing_is_listed_below(refused: Refused) -> None:
    assert "nothing called nope" in refused("ls", "nope")
    assert "no path inside a lake" in refused("ls", "../")


def test_a_name_that_is_taken(
    refused: Refused, small_bert: Path, text: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("Something else.")
    assert "taken by other content" in refused("corpus", "add", "harbour", other)
    line = ("extract", small_bert, text, "--as", "base", "--randomize", "7")
    assert "variant 'base' holds other weights" in refused(*line)
    # The same content again changes nothing and is no error.
    with pytest.raises(SystemExit, match="0"):
        main(["corpus", "add", "harbour", str(text), "--lake", str(tmp_path / "lake")])


def test_a_lake_of_a_newer_format(
    refused: Refused, lake: Path, small_bert: Path, text: Path
) -> None:
    document = json.loads((lake / "zarr.json").read_text())
    document["attributes"]["format_version"] = 99
    (lake / "zarr.json").write_text(json.dumps(document))
    for line in (["ls"], ["rsa"], ["gc"], ["extract", small_bert, text]):
        assert "format version 99" in refused(*line)


def test_a_folder_that_is_no_lake(
    refused: Refused, small_bert: Path, text: Path, tmp_path: Path
) -> None:
    other = tmp_path / "photos"
    other.mkdir()
    (other / "beach.jpg").write_bytes(b"sand")
    for line in (["ls"], ["rsa"], ["gc"], ["verify"], ["rm", "x"], ["extract", small_bert, text]):
        assert "no lake" in refused(*line, place=other)
        if line[0] != "extract":
            assert "no lake at" in refused(*line, place=tmp_path / "new")
    assert "is a file; a lake is a folder" in refused("ls", place=other / "beach.jpg")


def test_pieces_of_another_tokenizer_are_not_compared(
    refused: Refused,
    small_bert: Path,
    text: Path,
    lake: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cased = tmp_path / "cased"
    shutil.copytree(small_bert, cased)
    described = json.loads((cased / "tokenizer_config.json").read_text())
    described["do_lower_case"] = False
    (cased / "tokenizer_config.json").write_text(json.dumps(described))
    with pytest.raises(SystemExit, match="0"):
        main(["extract", str(cased), str(text), "--as", "cased", "--lake", str(lake)])
    capsys.readouterr()
    assert "--unit word" in refused("rsa", "--variant", "cased", "--unit", "piece")


def test_activations_that_are_no_numbers(
    refused: Refused, altered: Callable[..., str], text: Path, lake: Path
) -> None:
    broken = altered("encoder.layer.1.output.dense.bias", lambda bias: bias[3].fill_(np.nan))
    sentence = refused("extract", broken, text, "--as", "broken", same=False)
    assert sentence.startswith("resid of layer 2, example 'line ")
    assert "NaN or infinite" in sentence
    assert verify(open_lake(lake)).findings == ()


def test_activations_beyond_float16(
    refused: Refused,
    altered: Callable[..., str],
    text: Path,
    lake: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    large = altered("encoder.layer.1.output.LayerNorm.weight", lambda weight: weight.mul_(1e6))
    narrow = "--store-dtype", "float16"
    sentence = refused("extract", large, text, "--as", "large", *narrow)
    assert sentence.startswith("resid of layer 2, example 'line ")
    assert "does not fit float16" in sentence
    assert "--store-dtype float32" in sentence
    line = ["extract", large, str(text), "--as", "large"]  # auto finds out by itself
    with pytest.raises(SystemExit, match="0"):
        main([*line, "--lake", str(lake)])


def test_a_full_disk_is_said_and_resumed(
    refused: Refused,
    small_bert: Path,
    text: Path,
    lake: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = os.writev
    line = ["extract", str(small_bert), str(text), "--as", "more", "--randomize", "9"]

    def full(descriptor: int, parts: list[memoryview]) -> int:
        if sum(part.nbytes for part in parts) > 20_000:  # a shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, parts)

    with monkeypatch.context() as patch:
        patch.setattr(folder_module.os, "writev", full)
        assert "the disk is full; free some space" in refused(*line, same=False)
    opened = open_lake(lake)
    assert verify(opened).findings == ()
    with pytest.raises(SystemExit, match="0"):
        main([*line, "--lake", str(lake)])
    assert len(opened.sets("harbour", "more")) == 1


def test_memory_and_figures_are_refused_before_the_work(
    refused: Refused, small_bert: Path, text: Path, tmp_path: Path
) -> None:
    line = ("extract", small_bert, text, "--as", "base", "--unit", "word")
    assert "no amount of memory" in refused(*line, "--memory", "plenty")
    assert "are allowed" in refused(*line, "--memory", "1kB")
    assert "are allowed" in refused("rsa", "--rows", "all", "--memory", "1kB")
    assert "ends in .png, .svg or .pdf" in refused(
        "rsa", "--rows", "all", "--plot", tmp_path / "a.gif"
    )
    nowhere = tmp_path / "nowhere" / "a.png"
    assert "nowhere" in refused("rsa", "--rows", "all", "--plot", nowhere)
