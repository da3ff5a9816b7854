"""An analysis of one file: what every analysis shares needs to know nothing of it."""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import pytest
from click.testing import CliRunner

from layerlake.analyses.questions.answering import answered
from layerlake.analyses.results.measures import Measure
from layerlake.analyses.results.record import Layout
from layerlake.analyses.results.result import Result
from layerlake.analyses.runs.grid import grid
from layerlake.cli.main import commands
from layerlake.engine.passes.blocks import Block, cut_blocks
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import ArraySpace, select_rows
from layerlake.engine.passes.shared_pass import SharedPass
from layerlake.engine.workers.many_jobs import finished
from layerlake.store.lake import open_lake

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
AXES, VALUE = ("task", "seed", "k", "measure"), {"value": "number"}


@dataclass(frozen=True, repr=False)
class Toy(Result):
    kind: ClassVar = "toy"
    analyses: ClassVar = ("toys",)
    method_version: ClassVar = 1
    fields: ClassVar = dict.fromkeys(AXES, "whole") | {"task": "text", "measure": "text", **VALUE}
    axes: ClassVar = AXES
    each: ClassVar = "run"
    layout: ClassVar = Layout(rows=("k",), columns="seed")
    measures: ClassVar = {"size": Measure("size", "mean square", "quantity", 0.0, written=".2f")}


class MeanSquare:
    start = staticmethod(lambda: (0, 0.0))
    update = staticmethod(lambda s, b: (s[0] + b.arrays[0].size, s[1] + (b.arrays[0] ** 2).sum()))
    merge = staticmethod(lambda one, other: (one[0] + other[0], one[1] + other[1]))
    finish = staticmethod(lambda state: float(state[1] / state[0]))


def job(point: Any, progress: Any, stopped: Any) -> float:
    chosen, every = point.arguments, np.arange(100)
    rows = np.random.default_rng(chosen["seed"]).standard_normal((100, 3)) * len(chosen["task"])

    def scaled(block: Block) -> Block:
        return Block(block.start, block.stop, (block.arrays[0] * chosen["k"],))

    selected = select_rows([ArraySpace(rows)], [every], every, ["toy"])
    resources = Resources(scheduler=chosen["scheduler"], workers=2)
    shared: SharedPass[Block] = SharedPass(selected, cut_blocks(np.arange(101), 8), resources)
    return float(shared.run([MeanSquare()], scaled)[0])


@pytest.mark.parametrize(("jobs", "rows"), [(None,) * 2, (None, "threads"), ("processes", None)])
def test_a_toy(tmp_path: Any, jobs: str | None, rows: str | None) -> None:
    axes = {"task": ["pos", "chunk"], "seed": [0, 1], "k": [1, 2]}
    points = grid(axes, {"scheduler": rows})

    def compute() -> Toy:
        done = {point.index: value for point, value in finished(points, job, scheduler=jobs)}
        records = [{**p.labels, "measure": "size", "value": done[p.index]} for p in points]
        return Toy({"axes": [*axes]}, {}, tuple(records))

    asked: Any = (open_lake(tmp_path, "a"), "toys", {"axes": [*axes]}, {}, Toy)
    result = answered(*asked, compute, fresh=False)
    assert answered(*asked, lambda: pytest.fail("it was kept"), fresh=False) == result
    drawn = np.random.default_rng(1).standard_normal((100, 3))
    found = result.to_xarray()["value"].sel(task="chunk", seed=1, k=2, measure="size")
    assert float(found) == pytest.approx((100 * drawn**2).mean())
    assert result.table().startswith("pos: mean square\nk  |  0")
    assert (result.to_csv().count(",size,"), result.to_json().count('"size"')) == (8, 8)
    said = CliRunner().invoke(commands, ["ls", "--lake", str(tmp_path)])
    assert "toys result: axes task, seed, k" in said.output
