"""Completion: the names that a lake holds, quickly, and nothing at all where there is no lake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from layerlake.cli import completion
from layerlake.cli.completion import COMPLETION_VARIABLE
from layerlake.cli.main import COMMANDS, commands, main
from layerlake.engine.corpora.formats import FORMATS
from layerlake.store.lake import open_lake

Offered = list[tuple[str, str]]


def make_lake(where: Path) -> Path:
    """Write a lake of two corpora, three variants and a result, with names that bash cuts."""
    lake = open_lake(where, "a")
    for name in ("wiki", "mnli"):
        lake.add_table(f"corpora/{name}", {}, {"fingerprint": name})
    for name in ("base", "m@step1", "m@step2"):
        lake.add_table(f"variants/{name}", {}, {"fingerprint": name})
        lake.add_table(f"activations/wiki/{name}/0123456789ab", {}, {"fingerprint": name})
    lake.add_table("results/rsa/ffff", {}, {"fingerprint": "r"})
    (where / "corpora/no-node").mkdir()
    return where


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Offered]:
    """A function from the words of a line to what is offered, in a folder with a lake."""
    make_lake(tmp_path / "lake")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERLAKE", raising=False)

    def offered(*words: str) -> Offered:
        asked = ShellComplete(commands, {}, "layerlake", COMPLETION_VARIABLE)
        found = asked.get_completions(list(words[:-1]), words[-1])
        return [(item.type, item.value) for item in found]

    return offered


def plain(*names: str) -> Offered:
    """Return what plain names look like."""
    return [("plain", name) for name in names]


def test_commands_and_options(offered: Callable[..., Offered]) -> None:
    assert offered("") == plain(*COMMANDS)
    assert offered("r") == plain("rm", "rsa")
    assert offered("--comp") == plain("--completion")
    assert ("plain", "--lake") in offered("rsa", "--l")
    assert offered("rsa", "--kernel", "co") == plain("cosine", "correlation")
    assert offered("corpus", "") == plain("add")


def test_names_of_the_lake(offered: Callable[..., Offered]) -> None:
    assert offered("rsa", "--corpus", "") == plain("mnli", "wiki")
    assert offered("rsa", "--reference", "b") == plain("base")
    assert offered("rsa", "--variant", "m") == plain("m@step1", "m@step2")
    assert offered("rsa", "--variant=m@step2") == plain("m@step2")
    assert offered("extract", "model", "w") == [("file", "w"), *plain("wiki")]
    assert offered("extract", "model", "wiki", "--as", "b") == plain("base")
    assert offered("extract", "model", "--corpus", "m") == plain("mnli")
    assert offered("extract", "mo") == [("dir", "mo")]
    assert offered("corpus", "add", "x", "y", "--format", "") == plain(*FORMATS)
    assert offered("profile", "--variant", "m") == plain("m@step1", "m@step2")
    assert offered("profile", "--interval", "") == plain("cluster", "none")
    assert offered("profile", "--out", "p") == [("file", "p")]
    assert offered("rsa", "--plot", "c") == [("file", "c")]
    assert offered("extract", "m", "--sites", "resid,a") == plain("resid,attn_out")
    assert offered("rsa", "--site", "m") == plain("mlp_out")
    assert offered("import", "f") == [("file", "f")]
    assert offered("import", "f.npy", "--corpus", "w") == plain("wiki")
    assert offered("compare", "--measure", "cka,mutual") == plain("cka,mutual-knn")
    assert offered("compare", "--measure", "rbf") == plain("rbf-cka")
    assert offered("compare", "--corpus", "w") == plain("wiki")
    assert offered("compare", "--reference", "o") == plain("own")
    assert offered("compare", "--reference", "") == plain("base", "m@step1", "m@step2", "own")
    assert offered("compare", "--score", "ken") == plain("kendall")
    assert offered("compare", "--plot-kind", "m") == plain("matrix", "map")
    assert offered("compare", "--out", "t") == [("file", "t")]
    for option in ("--all-pairs", "--ceilings", "--permutations", "--reference-layer", "--dry-run"):
        assert offered("compare", option[:-2]) == offered("rsa", option[:-2]) == plain(option)
    assert offered("demo", "--out", "d") == [("dir", "d")]
    assert offered("finetune", "s") == plain("snli", "squad")
    assert offered("finetune", "mnli", "mo") == [("dir", "mo")]
    assert offered("finetune", "mnli", "m", "--train", "t") == [("file", "t")]
    assert offered("finetune", "mnli", "m", "--dev", "d") == [("file", "d")]
    assert offered("finetune", "mnli", "m", "--dev", "matched=d") == []
    assert offered("finetune", "dep", "m", "--optimiser", "adam") == plain("adamw", "adam")
    assert offered("finetune", "--runs", "r") == [("file", "r")]
    assert offered("finetune", "mnli", "m", "--format", "s") == plain("snli", "squad")
    assert offered("evaluate", "r") == [("dir", "r")]
    assert offered("evaluate", "run", "d") == [("file", "d")]
    assert offered("evaluate", "run", "--task", "c") == plain("classify")


@pytest.mark.parametrize("command", ["ls", "info", "verify", "rm"])
def test_paths_in_the_lake(offered: Callable[..., Offered], command: str) -> None:
    assert offered(command, "cor") == plain("corpora/mnli", "corpora/wiki")
    assert offered(command, "activations/wiki/m@step1/") == plain(
        "activations/wiki/m@step1/0123456789ab"
    )
    assert offered(command, "results") == plain("results/rsa", "results/rsa/ffff")
    assert len(offered(command, "")) == 2 + 3 + 1 + 3 * 2 + 2
    assert offered(command, "../") == offered(command, "/") == offered(command, "staging") == []


def test_another_lake(
    offered: Callable[..., Offered], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_lake(tmp_path / "other", "a")
    other.add_table("corpora/news", {}, {"fingerprint": "n"})
    assert offered("rsa", "--lake", "other", "--corpus", "") == plain("news")
    monkeypatch.setenv("LAYERLAKE", str(tmp_path / "other"))
    assert offered("ls", "") == plain("corpora/news")
    assert offered("ls", "--lake", "lake", "corpora/w") == plain("corpora/wiki")


@pytest.mark.parametrize("place", ["nowhere", "memory://x", "s3://bucket/lake", "file.txt", ""])
def test_no_lake_offers_nothing(
    offered: Callable[..., Offered], place: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.txt").write_text("no lake")
    (tmp_path / "lake").rename(tmp_path / "elsewhere")
    assert offered("rsa", "--lake", place, "--corpus", "") == []
    assert offered("ls", "--lake", place, "") == []
    assert offered("nonsense", "x") == []
    assert capfd.readouterr() == ("", "")


def test_very_many_names_are_cut(
    offered: Callable[..., Offered], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "MOST_NAMES", 4)
    assert len(offered("ls", "")) == 4


def test_names_come_without_anything_heavy(tmp_path: Path) -> None:
    make_lake(tmp_path / "lake")
    code = (
        "import sys\n"
        "from layerlake.cli.main import main\n"
        "try:\n"
        "    main([])\n"
        "finally:\n"
        "    print(sorted({'numpy', 'torch', 'zarr', 'dask', 'rich'} & set(sys.modules)))"
    )
    asked = {
        COMPLETION_VARIABLE: "bash_complete",
        "COMP_WORDS": "layerlake rsa --variant m@",
        "LAYERLAKE": str(tmp_path / "lake"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["plain,m@step1", "plain,m@step2", "[]"]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(
    shell: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a machine with that shell: click looks at the version of bash.
    monkeypatch.setattr(completion.BashComplete, "_check_version", staticmethod(lambda: None))
    with pytest.raises(SystemExit) as ended:
        main(["--completion", shell])
    out, err = capfd.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert f"{COMPLETION_VARIABLE}={shell}_complete" in out
    assert "layerlake" in out


def test_help_says_how_to_switch_it_on(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert 'eval "$(layerlake --completion bash)"' in capfd.readouterr().out


BASH = r"""
eval "$(layerlake --completion bash)" || exit 9
compopt() { echo "option $2"; }  # outside of a completion bash refuses it
ask() {
    COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
    _layerlake_completion layerlake "$2" before
    echo "$1|${COMPREPLY[*]}"
}
complete -p layerlake
ask 'layerlake r' r
ask 'layerlake rsa --variant ' ''
ask 'layerlake rsa --variant m@st' @st
ask 'layerlake rsa --variant=m@st' m@st
ask 'layerlake rsa --corpus=w' w
ask 'layerlake rm activations/wiki/m@step2/' @step2/
ask 'layerlake extract mod w' w
ask 'layerlake ls --lake nowhere ' ''
COMP_LINE='layerlake ls corpora/w and more' COMP_POINT=22 COMPREPLY=()
_layerlake_completion layerlake corpora/w ls; echo "${COMPREPLY[*]}"
"""


@pytest.fixture
def bash(tmp_path: Path) -> tuple[str, dict[str, str]]:
    """Bash and the environment of one that finds the command, in a folder with a lake."""
    found = shutil.which("bash")
    if found is None:
        pytest.skip("there is no bash here")
    make_lake(tmp_path / "lake")
    command = tmp_path / "bin" / "layerlake"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m layerlake.cli "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "TERM": "dumb"}
    environment.pop("LAYERLAKE", None)
    return found, environment


def test_bash_is_told_the_ends_of_words(tmp_path: Path, bash: tuple[str, dict[str, str]]) -> None:
    done = subprocess.run(
        [bash[0], "--norc", "-c", BASH],
        env=bash[1],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -o nosort -F _layerlake_completion layerlake",
        "layerlake r|rm rsa",
        "layerlake rsa --variant |base m@step1 m@step2",
        "layerlake rsa --variant m@st|@step1 @step2",
        "layerlake rsa --variant=m@st|m@step1 m@step2",
        "layerlake rsa --corpus=w|wiki",
        "layerlake rm activations/wiki/m@step2/|@step2/0123456789ab",
        "option default",
        "layerlake extract mod w|wiki",
        "layerlake ls --lake nowhere |",
        "corpora/wiki",
    ]


def test_keys_typed_into_bash_make_whole_names(
    tmp_path: Path, bash: tuple[str, dict[str, str]]
) -> None:
    pexpect = pytest.importorskip("pexpect")
    shell = pexpect.spawn(
        bash[0], ["--norc"], env=bash[1], cwd=str(tmp_path), encoding="utf-8", timeout=60
    )
    try:
        shell.sendline('eval "$(layerlake --completion bash)"')
        shell.sendline("said() { printf '{%s}' \"$@\"; echo; }; echo rea''dy")
        shell.expect("ready")
        for typed, meant in (
            ("rsa --variant m@s\t2", "{rsa}{--variant}{m@step2}"),
            ("rsa --reference=m@s\t1", "{rsa}{--reference=m@step1}"),
            ("rsa --corpus=w\t", "{rsa}{--corpus=wiki}"),
            ("rm var\tm\t1", "{rm}{variants/m@step1}"),
        ):
            # Ctrl-A and Ctrl-E: the line is said, not run.
            shell.send(f"layerlake {typed}\x01said \x05\r")
            shell.expect_exact("{layerlake}" + meant)
    finally:
        shell.close(force=True)
