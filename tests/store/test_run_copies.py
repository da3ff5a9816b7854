"""Runs of rows in any order: every way of reading gives the rows that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlake.store.errors import SetIncomplete
from layerlake.store.lake import open_lake
from layerlake.store.run_copies import plan_copies
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

N_ROWS, HIDDEN = 1000, 3


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A lake with a plain and a compressed variant in windows of 256 rows, and its rows."""
    folder = tmp_path_factory.mktemp("lakes") / "lake"
    values = np.random.default_rng(0).standard_normal((N_ROWS, HIDDEN)).astype("float16")
    lake = open_lake(folder, "a")
    lake.add_table("corpora/c", {"row": np.zeros(1, "int64")}, {"fingerprint": "c"})
    for codec in ("none", "lz4"):
        layout = ActivationLayout(N_ROWS, HIDDEN, "float16", codec, 256, 64)
        plan = SetPlan("c", codec, {"row_set": "r", "codec": codec}, {}, {}, ("resid/0",), layout)
        with SetWriter(lake.location, plan) as writer:
            for window in range(layout.n_windows):
                writer.write_window(window, {"resid/0": values[slice(*layout.window(window))]})
            writer.seal()
    return folder, values


def copied(
    space: Any, parts: list[tuple[int, int, int]], *, apart: bool = False, mapped: bool = False
) -> list[np.ndarray]:
    """Return two arrays that runs (start, count, which array) were copied to one after another."""
    sizes = [0, 0]
    places = []
    parts = sorted(parts, key=lambda part: part[2])
    for _, count, out in parts:
        places.append(sizes[out])
        sizes[out] += count
    starts, counts, outs = np.array(parts, np.int64).reshape(-1, 3).T
    plans = plan_copies(
        starts,
        counts,
        np.array(places, np.int64),
        outs,
        step=space.copy_step,
        row_bytes=HIDDEN * space.dtype.itemsize,
        apart=apart,
    )
    arrays = [np.zeros((size, HIDDEN), space.dtype) for size in sizes]
    if apart:
        for plan, array in zip(plans, arrays, strict=False):
            space.copy_runs(plan, [array], mapped=mapped)
    else:
        (plan,) = plans
        space.copy_runs(plan, arrays, mapped=mapped)
    return arrays


RUNS = st.lists(
    st.tuples(st.integers(0, N_ROWS - 1), st.integers(1, 600), st.integers(0, 1)).map(
        lambda run: (run[0], min(run[1], N_ROWS - run[0]), run[2])
    ),
    max_size=12,
)


@given(RUNS, st.booleans(), st.booleans())
@pytest.mark.parametrize("variant", ["none", "lz4"])
@pytest.mark.parametrize("how", [{}, {"verified": True}, {"direct": False}], ids=str)
def test_runs_are_the_rows_that_were_written(written, variant, how, parts, apart, mapped) -> None:
    folder, values = written
    arrays = copied(
        open_lake(folder, **how).space("c", variant, 0), parts, apart=apart, mapped=mapped
    )
    for out, array in enumerate(arrays):
        expected = [values[start : start + count] for start, count, to in parts if to == out]
        np.testing.assert_array_equal(array, np.concatenate([values[:0], *expected]))


def test_a_chunk_is_decoded_once(written, monkeypatch) -> None:
    folder, _ = written
    space = open_lake(folder).space("c", "lz4", 0)
    decoded: list[int] = []
    chunk = type(space)._chunk
    monkeypatch.setattr(
        type(space), "_chunk", lambda self, *of: decoded.append(of[:2]) or chunk(self, *of)
    )
    copied(space, [(900, 20, 0), (10, 100, 0), (0, 64, 1), (905, 5, 0)])
    assert decoded == [(0, 0), (0, 1), (3, 2)]


def test_rows_that_are_not_committed_are_refused(tmp_path: Path) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/c", {"row": np.zeros(1, "int64")}, {"fingerprint": "c"})
    layout = ActivationLayout(N_ROWS, HIDDEN, "float16", "none", 256, 64)
    plan = SetPlan("c", "v", {"row_set": "r"}, {}, {}, ("resid/0",), layout)
    with SetWriter(lake.location, plan) as writer:
        writer.write_window(0, {"resid/0": np.zeros((256, HIDDEN), "float16")})
    space = lake.space("c", "v", 0)
    copied(space, [(0, 256, 0)])
    with pytest.raises(SetIncomplete, match="window 1"):
        copied(space, [(250, 10, 0)])
