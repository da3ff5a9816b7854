"""Bars in a real kernel, with widgets and without; silence in scripts and for short work."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import pytest

import layerlake
from layerlake.engine import notebook_progress
from layerlake.engine.notebook_progress import to_notebook
from layerlake.engine.progress import automatic, in_notebook

WORK = """
import sys
import layerlake.engine.notebook_progress as bars
from layerlake.engine.progress import automatic, in_notebook
bars.SHOW_AFTER_SECONDS, bars.UPDATE_SECONDS = {after}, 0.0
assert in_notebook()
with automatic("running <b>", {total}, "rows") as stage:
    for _ in range(5):
        stage.advance(300)
"""
FAILS = """
try:
    with automatic("failing", 10, "rows") as stage:
        stage.advance(1)
        stage.advance(1)
        raise OSError("gone")
except OSError:
    pass
"""


def untimed(text: str) -> str:
    """Return a text with T in the place of its seconds."""
    return re.sub(r"\d+\.\d s", "T", text)


def run(*cells: str) -> list[list[Any]]:
    """Run cells in a kernel and return the outputs of each."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_client|zmq|tornado).*")


def test_a_kernel_shows_html_then_a_line() -> None:
    without = "import sys; sys.modules['ipywidgets'] = None"
    silent, shown, unknown, short, failed = run(
        without,
        WORK.format(after=0, total=1500),
        WORK.format(after=0, total=None),
        WORK.format(after=60, total=1500),
        "bars.SHOW_AFTER_SECONDS = 0\n" + FAILS,
    )
    assert silent == short == []
    for outputs, text in (
        (shown, "running <b>: 1,500 rows in T"),
        (unknown, "running <b>: 1,500 rows in T"),
        (failed, "failing: stopped after 2 of 10 rows, T"),
    ):
        (output,) = outputs  # one place, brought up to date; nothing on stdout or stderr
        assert output.output_type == "display_data"
        assert untimed(output.data["text/plain"]) == text
        assert "&lt;b&gt;" in output.data["text/html"] or outputs is failed
        assert "progress" not in output.data["text/html"]


def test_a_kernel_with_ipywidgets_shows_a_widget_then_a_line() -> None:
    pytest.importorskip("ipywidgets")
    look = """
from IPython.display import display
seen = []
begin = bars._Cell._begin
def watch(self, event):
    begin(self, event)
    seen.append((type(self._widget.box).__name__, self._widget))
bars._Cell._begin = watch
with automatic("one", 10, "rows") as stage:
    stage.advance(4)
    stage.advance(3)
    text = seen[0][1]._text.value, seen[0][1]._bar.value
print(seen[0][0], text)
"""
    _, outputs = run(WORK.format(after=60, total=3), "bars.SHOW_AFTER_SECONDS = 0\n" + look)
    shown = [output for output in outputs if output.output_type == "display_data"]
    (printed,) = [output for output in outputs if output.output_type == "stream"]
    assert re.match(r"HBox \('one: 7 of 10 rows, \d\.\d s, about \d\.\d s left', 7\)", printed.text)
    (output,) = shown
    assert untimed(output.data["text/plain"]) == "one: 7 rows in T"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is displayed, in order, with the bar of HTML and from the first event on."""
    display = pytest.importorskip("IPython.display")
    found: list[Any] = []

    class Handle:
        def update(self, thing: Any) -> None:
            found.append(thing)

    def show(thing: Any, display_id: bool) -> Handle:
        assert display_id
        found.append(thing)
        return Handle()

    monkeypatch.setattr(display, "display", show)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setattr(notebook_progress, "SHOW_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(notebook_progress, "UPDATE_SECONDS", 0.0)
    return found


@pytest.mark.parametrize("total", [1500, None])
def test_a_bar_moves(shown: list[Any], total: int | None) -> None:
    with to_notebook("extract", total, "rows") as stage:
        for _ in range(3):
            stage.advance(500)
    bars = [thing._repr_html_() for thing in shown]
    if total:
        assert '<progress value="500" max="1500">' in bars[1]
        assert "500 of 1,500 rows" in bars[1]
        assert "left" in bars[1]
    else:
        assert "<progress></progress>" in bars[1]
    assert untimed(bars[-1]) == "<small>extract: 1,500 rows in T</small>"
    assert untimed(repr(shown[-1])) == "extract: 1,500 rows in T"


def test_a_bar_never_leaves_its_track(shown: list[Any]) -> None:
    with to_notebook("extract", 10, "rows") as stage:
        stage.advance(25)
    assert all('value="25"' not in thing._repr_html_() for thing in shown)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60.4, "1:00 min"), (3725, "1:02:05")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert notebook_progress._duration(seconds) == text


def test_scripts_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert not in_notebook()
    with automatic("extract", 5, "rows") as stage:
        stage.advance(5)
    assert capsys.readouterr() == ("", "")
    code = (
        "import sys\n"
        "from layerlake.engine.progress import automatic\n"
        "with automatic('x', 5, 'rows') as stage: stage.advance(5)\n"
        "print(sorted({'IPython', 'ipywidgets', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_ipython_without_a_kernel_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython = pytest.importorskip("IPython")
    monkeypatch.setattr(ipython, "get_ipython", object)
    assert not in_notebook()


@pytest.mark.parametrize(
    "name", ["add_corpus", "extract", "import_activations", "read_corpus", "rsa", "verify"]
)
def test_public_functions_decide_by_themselves(name: str) -> None:
    parameter = inspect.signature(getattr(layerlake, name)).parameters["progress"]
    assert parameter.default is automatic
