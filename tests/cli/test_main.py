"""The command: its list, how each way of ending looks to the shell, and what help costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

import layerlake
from layerlake.cli.main import COMMANDS, CommandHome, main
from layerlake.store.errors import InvalidInput, LayerLakeError, StorageFailed
from layerlake.store.lake import open_lake

Outcome = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """A function from arguments to exit code, stdout and stderr."""

    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return (ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """A function that makes `layerlake ls` do what it is given."""

    def install(action: Callable[[], object]) -> None:
        module = types.ModuleType("layerlake_test_command")
        module.__dict__["command"] = click.command()(action)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, "ls", CommandHome(module.__name__, "command", "A test."))

    return install


def raising(error: BaseException) -> Callable[[], None]:
    """Return a function that raises."""

    def action() -> None:
        raise error

    return action


def test_version(run: Callable[..., Outcome]) -> None:
    assert run("--version") == (0, f"layerlake {layerlake.__version__}\n", "")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_every_command_and_shows_an_example(
    run: Callable[..., Outcome], option: str
) -> None:
    code, out, err = run(option)
    assert (code, err) == (0, "")
    listed = out[out.index("Commands:") :].splitlines()[1:]
    assert [line.split(maxsplit=1) for line in listed] == [
        [name, home.summary] for name, home in COMMANDS.items()
    ]
    assert "layerlake extract MODEL corpus.txt" in out


def test_help_imports_no_command() -> None:
    program = (
        "import sys\n"
        "from layerlake.cli.main import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    print(*sorted(m for m in sys.modules if m.startswith('layerlake.')), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr.split() == [
        "layerlake.cli",
        "layerlake.cli.completion",
        "layerlake.cli.main",
        "layerlake.store",
        "layerlake.store.errors",
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_explains_itself(run: Callable[..., Outcome], name: str) -> None:
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: layerlake {name}")


def test_unknown_command_is_wrong_usage(run: Callable[..., Outcome]) -> None:
    code, out, err = run("extrct")
    assert (code, out) == (2, "")
    assert "There is no command 'extrct'; did you mean extract?" in err
    assert "layerlake --help lists them." in run("zzzz")[2]


def test_unknown_option_is_wrong_usage(run: Callable[..., Outcome]) -> None:
    code, out, err = run("--nonsense")
    assert (code, out) == (2, "")
    assert "--nonsense" in err


@pytest.mark.parametrize("kind", [LayerLakeError, InvalidInput, StorageFailed])
def test_expected_error_is_one_sentence(
    run: Callable[..., Outcome], install: Callable[..., None], kind: type[LayerLakeError]
) -> None:
    install(raising(kind("layer 13 asked of a model with 12 layers (0-12)")))
    sentence = "error: layer 13 asked of a model with 12 layers (0-12)\n"
    assert run("ls") == (1, "", sentence)


def test_unexpected_error_keeps_its_traceback(install: Callable[..., None]) -> None:
    install(raising(ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        main(["ls"])


def test_interrupt_says_how_to_go_on(
    run: Callable[..., Outcome], install: Callable[..., None]
) -> None:
    install(lambda: signal.raise_signal(signal.SIGINT))
    # A process begun in the background by a shell ignores the interrupt.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, out, err = run("ls")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, out) == (130, "")
    assert err.strip() == "stopped; run the same line again to resume"


def test_exit_code_of_a_command_is_kept(
    run: Callable[..., Outcome], install: Callable[..., None]
) -> None:
    install(lambda: click.get_current_context().exit(3))
    assert run("ls")[0] == 3
    install(lambda: "a value is no code")
    assert run("ls")[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break in another way there")
@pytest.mark.parametrize("lines", [1, 100_000], ids=["at-the-end", "while-writing"])
def test_reader_that_leaves_is_met_in_silence(lines: int) -> None:
    program = (
        "import sys, types, click\n"
        "from layerlake.cli.main import COMMANDS, CommandHome, main\n"
        "def action():\n"
        f"    for _ in range({lines}): print('a line')\n"
        "module = types.ModuleType('layerlake_test_command')\n"
        "module.command = click.command()(action)\n"
        "sys.modules[module.__name__] = module\n"
        "COMMANDS['ls'] = CommandHome(module.__name__, 'command', 'A test.')\n"
        "main(['ls'])\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "layerlake.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"layerlake {layerlake.__version__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="shells close streams in another way there")
@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&-", 0, ""),
        (
            ">/dev/full",
            1,
            "error: the output cannot be written: No space left on device\n",
        ),
    ],
)
def test_an_output_that_takes_nothing(
    tmp_path: Path, redirection: str, code: int, said: str
) -> None:
    if redirection == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    (tmp_path / "shore.txt").write_text("Gulls cry.\n")
    line = f'"{sys.executable}" -m layerlake.cli corpus add shore shore.txt {redirection}'
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, said)
    # The corpus was written all the same, and nothing else was left.
    assert open_lake(tmp_path / "lake").corpora() == ["shore"]
    assert [path.name for path in (tmp_path / "lake" / "staging").iterdir()] == ["zarr.json"]
