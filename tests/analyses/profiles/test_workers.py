"""Profiles on workers give the answer of the loop, and say beforehand what they would take."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
from click.testing import CliRunner

from layerlake.analyses.profiles.profile import plan_profile, profile
from layerlake.analyses.profiles.space_profile import plan_pass
from layerlake.cli.main import commands
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import ArraySpace, select_rows
from layerlake.engine.progress import silent
from layerlake.store.errors import InvalidInput, MemoryRefused

ROWS = 500
"""Of the lake of `tests/analyses/conftest.py`, 600 rows less 100 special ones."""


@pytest.mark.parametrize("scheduler", ["threads", "processes", "cluster"])
def test_workers_give_the_records_of_the_loop(
    lake: Any, scheduler: str, request: pytest.FixtureRequest
) -> None:
    if scheduler == "cluster":
        scheduler = request.getfixturevalue("cluster").scheduler_address
    here = profile(lake[0], unit="piece", fresh=True)
    counted: list[int] = []
    there = profile(
        lake[0], unit="piece", scheduler=scheduler, fresh=True, progress=count_into(counted)
    )
    assert sum(counted) == ROWS * 6
    assert there.settings == here.settings
    for one, other in zip(there.records, here.records, strict=True):
        assert one.keys() == other.keys()
        for field, value in one.items():
            # Sums of float64 are added in another order.
            expected = pytest.approx(value, rel=1e-10) if isinstance(value, float) else value
            assert other[field] == expected, (field, one)
    for name, own in here.spectra.items():
        np.testing.assert_allclose(there.spectra[name], own, rtol=1e-9)


def count_into(counted: list[int]) -> Any:
    """Return progress that keeps what it is advanced by."""

    class Stage:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def advance(self, n: int) -> None:
            counted.append(n)

        def note(self, text: str) -> None:
            pass

    return lambda label, total, unit: Stage()


def test_a_forecast_counts_rows_bytes_and_passes(lake: Any) -> None:
    found = plan_profile(lake[0], unit="piece")
    assert (found.rows, found.passes) == (ROWS * 6, 6)
    assert found.read == ROWS * 6 * 16 * 4
    assert 0 < found.held < 4 * 2**30
    assert found.seconds > 0
    shared = plan_profile(lake[0], unit="piece", scheduler="threads", workers=2)
    # One pass for the variants of each tokenizer.
    assert (shared.rows, shared.passes, shared.read) == (found.rows, 2, found.read)
    assert shared.held > found.held


def test_passes_of_workers_are_cut_to_the_memory(lake: Any) -> None:
    whole = plan_profile(lake[0], unit="piece", scheduler="threads", workers=2)
    less = plan_profile(
        lake[0], unit="piece", scheduler="threads", workers=2, memory=int(whole.held * 0.8)
    )
    assert less.passes > whole.passes
    assert less.held <= whole.held * 0.8
    with pytest.raises(MemoryRefused, match=r"^profiling 500 rows of base layer 0 needs"):
        plan_profile(lake[0], scheduler="threads", workers=2, memory=1000)
    with pytest.raises(MemoryRefused, match=r"^profiling 500 rows of base layer 0 needs"):
        profile(lake[0], memory=1000, progress=silent)


def test_workers_of_a_cluster_are_asked_for_what_each_needs() -> None:
    rows = np.arange(5000)
    space = ArraySpace(np.empty((5000, 256), "float32"))
    selected = select_rows([space] * 3, [rows] * 3, rows, "abc")
    alone = plan_pass(selected, Resources()).memory.needed
    away = Resources(scheduler="tcp://127.0.0.1:8786")
    plan = plan_pass(selected, away)
    assert plan.memory.needed < alone < plan.worker_bytes
    assert plan.worker_bytes == alone + plan.memory.needed // 2  # a part, and its pickled state
    with pytest.raises(MemoryRefused, match=r"^profiling 5000 rows of a, b, c needs"):
        plan_pass(selected, replace(away, allowed=alone))


def test_more_layers_hold_no_more_memory(lake_with: Any) -> None:
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((20_000, 2)).astype("float32") for _ in range(12)]
    lake = lake_with("wide", {"base": layers}, np.ones(20_000, np.int64))
    peaks = []
    for chosen in ("0", "0", "0-11"):  # the first one warms up
        tracemalloc.start()
        profile(lake, layers=chosen, rows="all", fresh=True, progress=silent)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.3 * peaks[1]
    assert peaks[2] < plan_profile(lake, rows="all").held


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scheduler": "dask"}, "scheduler 'dask' is not one of: threads, processes"),
        ({"workers": 2}, "workers is 2, and only the schedulers threads and processes"),
        ({"progress": 3}, "progress is 3; give silent, to_terminal"),
        ({"device": "gpu"}, "device 'gpu' is not one of: auto, cpu, cuda, cuda:N"),
    ],
)
def test_what_does_not_exist_is_refused(lake: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        profile(lake[0], **options)
    with pytest.raises(InvalidInput, match=said):
        plan_profile(lake[0], **options)


def test_a_dry_run_prints_its_forecast(lake: Any) -> None:
    arguments = ["profile", "--lake", str(lake[0].location.name), "--unit", "piece"]
    arguments += ["--scheduler", "threads"]
    said = CliRunner().invoke(commands, [*arguments, "--dry-run"], standalone_mode=False)
    assert said.exception is None
    assert said.output.startswith("rows     3,000 in 2 passes\n")
    machine = CliRunner().invoke(commands, [*arguments, "--dry-run", "--json"])
    assert json.loads(machine.output)["rows"] == 3000
    assert not lake[0].location.exists("results")
