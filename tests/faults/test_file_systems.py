"""A disk that is really full, and a file system that is really read-only."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerlake.cli.main import main
from layerlake.store.lake import open_lake
from layerlake.store.verify import verify

pytest.importorskip("torch")

Mount = Callable[[str], None]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A file system in memory, and a function that mounts it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
            check=True,
            capture_output=True,
        )

    try:
        mount("size=12m")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("file systems cannot be mounted here (it takes root on Linux)")
    try:
        yield place, lambda options: mount(f"remount,{options}")
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus that makes about 25 MB of activations."""
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"line {n} of a corpus, and {n * n}\n" for n in range(7000)))
    return path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """A function from a command line to exit code, stdout and stderr."""

    def run(*line: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(part) for part in line])
        assert isinstance(ended.value.code, int)
        return (ended.value.code, *capsys.readouterr())

    return run


def test_a_full_disk_costs_one_sentence_and_no_data(
    disk: tuple[Path, Mount], corpus: Path, small_bert: Path, command: Command, tmp_path: Path
) -> None:
    place, remount = disk
    lake = place / "lake"
    line = ("extract", small_bert, corpus, "--as", "base", "--window-rows", "1024", "--lake")
    for _ in range(2):  # full, and still full
        code, out, err = command(*line, lake)
        assert (code, out) == (1, "")
        assert err.startswith("error: cannot write ")
        assert "the disk is full; free some space and run the same line again" in err
        assert err.count("\n") == 1
        opened = open_lake(lake)
        (state,) = opened.sets()
        assert 0 < state.committed.sum() < state.plan.layout.n_windows
        assert verify(opened).findings == ()
    remount("size=64m")
    before = int(state.committed.sum())
    code, out, err = command(*line, lake)
    assert (code, err) == (0, "")
    layout = state.plan.layout
    assert f"{layout.n_windows - before} of {layout.n_windows} windows computed" in out
    assert command(*line, tmp_path / "whole")[0] == 0
    for layer in range(4):
        left, right = (
            open_lake(path, verified=True).space("numbers", "base", layer, sealed=True)
            for path in (lake, tmp_path / "whole")
        )
        assert left.rows(slice(None)).tobytes() == right.rows(slice(None)).tobytes()


def test_a_disk_without_room_for_a_lake(
    disk: tuple[Path, Mount], corpus: Path, small_bert: Path, command: Command
) -> None:
    place, remount = disk
    remount("size=64k")
    code, out, err = command("extract", small_bert, corpus, "--lake", place / "lake")
    assert (code, out) == (1, "")
    assert "the disk is full" in err
    remount("size=64m")
    assert command("extract", small_bert, corpus, "--lake", place / "lake")[0] == 0


def test_a_read_only_file_system_can_be_read(
    disk: tuple[Path, Mount], corpus: Path, small_bert: Path, command: Command
) -> None:
    place, remount = disk
    remount("size=64m")
    where = ("--lake", place / "lake")
    for variant in (["--as", "base"], ["--as", "random", "--randomize", "0"]):
        assert command("extract", small_bert, corpus, *variant, *where)[0] == 0
    remount("ro")
    assert command("ls", *where)[0] == 0
    assert command("verify", *where)[0] == 0
    code, out, err = command("rsa", "--rows", "500", *where)
    assert code == 0
    assert "similarity to base" in out
    assert "the result was not kept in the lake" in err
    for line in (
        ("extract", small_bert, corpus, "--as", "more", "--randomize", "1"),
        ("corpus", "add", "more", corpus),
        ("rm", "activations/numbers/base"),
        ("gc",),
        ("verify", "--repair"),
    ):
        code, out, err = command(*line, *where)
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    code, out, err = command("extract", small_bert, corpus, "--lake", place / "new")
    assert (code, out) == (1, "")
    assert "Read-only file system; name another place" in err
    code, out, err = command("rsa", "--rows", "500", "--plot", place / "a.png", *where)
    assert code == 1
    assert "the figure cannot be written" in err
