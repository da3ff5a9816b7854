"""The pages say what is so: the format page's code reads a lake that LayerLake wrote."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerlake
from layerlake.cli.main import COMMANDS
from layerlake.engine.catalogue import add_corpus
from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.store.lake import open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

ROOT = Path(layerlake.__file__).resolve().parent
TEXTS = ["Gulls and güls.", "", "A lamp is lit."]


@pytest.fixture
def page(tmp_path: Path) -> dict[str, Any]:
    """The names that the code of the format page defines."""
    text = (ROOT / "docs/format.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "page.py").write_text(code, "utf-8")
    return runpy.run_path(str(tmp_path / "page.py"))


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_the_code_of_the_format_page_reads_a_lake(
    page: dict[str, Any], tmp_path: Path, codec: str
) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    add_corpus(lake, "shore", corpus_from_texts(TEXTS[:1] + TEXTS[2:]))
    layout = ActivationLayout(2500, 8, "float16", codec, window_rows=1024, chunk_rows=256)
    contents = {"row_set": "r", "unit": "piece", "rows": "all", "codec": codec}
    plan = SetPlan("shore", "base", contents, {}, {}, ("resid/0", "resid/3"), layout)
    rows = np.random.default_rng(0).standard_normal((2500, 8)).astype("float16")
    where = str(tmp_path / "lake")
    with SetWriter(lake.location, plan) as writer:
        for window in (0, 2):
            part = rows[slice(*layout.window(window))]
            writer.write_window(window, {"resid/0": part, "resid/3": part * 2})
        assert page["committed"](where, plan.path).tolist() == [True, False, True]
        part = rows[slice(*layout.window(1))]
        writer.write_window(1, {"resid/0": part, "resid/3": part * 2})
        writer.seal()
    assert page["committed"](where, plan.path).all()
    np.testing.assert_array_equal(page["layer"](where, plan.path, "resid/3"), rows * 2)
    for window, chunk in ((0, 0), (1, 3), (2, 1)):
        assert page["chunk_is_sound"](where, plan.path, "resid/3", window, chunk)
    shard = tmp_path / "lake" / plan.path / "resid/3/c/1/0"
    raw = bytearray(shard.read_bytes())
    raw[-16 * 4 - 4 - 40] ^= 1  # in the last chunk of the window
    shard.write_bytes(raw)
    assert not page["chunk_is_sound"](where, plan.path, "resid/3", 1, 3)
    columns, attributes = lake.table("corpora/shore")
    named = [name for name, kind in attributes["columns"].items() if kind == "utf8"]
    assert named
    for name in named:
        assert page["texts"](where, "corpora/shore", name) == columns[name].tolist()


def test_the_code_of_the_readme_runs(
    tmp_path: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("path/to").mkdir(parents=True)
    Path("path/to/model").symlink_to(small_bert)
    Path("corpus.txt").write_text("".join(f"line {n * n} of a text\n" for n in range(1000)))
    Path("page.py").write_text(code, "utf-8")
    names = runpy.run_path("page.py")
    assert names["some"].shape == (3, 32)
    assert names["result"].labels("variant") == ["random"]
    assert {record["n"] for record in names["result"].records} == {5000}


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [name for name in COMMANDS if f"layerlake {name}" not in readme] == []


def test_the_page_of_sites_lists_every_architecture_as_it_is() -> None:
    from layerlake.engine.models.architectures import ANATOMY
    from layerlake.engine.models.sites import NAMED

    page = (ROOT / "docs" / "sites.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 8]
    listed = {line.split("`")[1]: line for line in rows}
    assert set(listed) == set(ANATOMY)
    for kind, known in ANATOMY.items():
        cells = [cell.strip().strip("`") for cell in listed[kind].strip("|").split("|")]
        assert cells[1:4] == [known.blocks[0], known.attn_out[0], known.mlp_out[0]]
        assert cells[4] == (known.final_norm[0] if known.final_norm else "-")
        assert cells[6] == known.norms
    assert all(f"| `{site}` |" in page for site in NAMED)
