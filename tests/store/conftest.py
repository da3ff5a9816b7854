"""Lakes and sets to write, in a folder and in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from layerlake.store.reader import Lake, open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

_numbers = itertools.count()


@pytest.fixture(params=["local", "memory"])
def lake(request, tmp_path) -> Lake:
    """An empty lake of each kind of location."""
    where = tmp_path / "lake" if request.param == "local" else f"memory://{next(_numbers)}"
    opened = open_lake(where, "a")
    opened.add_table("corpora/wiki", {"text": np.array(["a b", "ü"])}, {"fingerprint": "f"})
    return opened


@pytest.fixture
def values() -> np.ndarray:
    """Rows to keep: (2500, 8) float16."""
    return np.random.default_rng(3).standard_normal((2500, 8)).astype("float16")


@pytest.fixture
def plan() -> Callable[..., SetPlan]:
    """Make the plan of a set of 2500 rows in windows of 1024 (chunks of 256)."""

    def make(codec: str = "none", variant: str = "base", **recipe: object) -> SetPlan:
        layout = ActivationLayout(2500, 8, "float16", codec, window_rows=1024, chunk_rows=256)
        contents = {"row_set": "r", "unit": "piece", "rows": "all", "codec": codec}
        arrays = ("resid/0", "resid/1")
        return SetPlan("wiki", variant, contents, {"torch": "1", **recipe}, {}, arrays, layout)

    return make


@pytest.fixture
def fill(values) -> Callable[..., None]:
    """Write windows of a set (all and the seal by default)."""

    def write(lake: Lake, plan: SetPlan, windows: range | None = None) -> None:
        with SetWriter(lake.location, plan) as writer:
            for window in windows or range(plan.layout.n_windows):
                start, stop = plan.layout.window(window)
                rows = values[start:stop]
                writer.write_window(window, {"resid/0": rows, "resid/1": rows * 2})
            if windows is None:
                writer.seal()

    return write
