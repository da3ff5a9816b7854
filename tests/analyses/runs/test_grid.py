"""Grids over named axes: every combination once, in order, in a folder of its own."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlake.analyses.runs.grid import Point, by_seed, folders, grid
from layerlake.store.errors import InvalidInput

AXES = {"task": ["mnli", "dep"], "k": [0, 4, 8], "seed": [3, 5]}


def test_a_grid_is_every_combination_the_last_axis_fastest() -> None:
    points = grid(AXES, {"model": "bert", "k": None})
    assert [(p.arguments["task"], p.arguments["k"], p.arguments["seed"]) for p in points] == list(
        itertools.product(*AXES.values())
    )
    assert points[0] == Point(
        {"model": "bert", "k": 0, "task": "mnli", "seed": 3},
        {"task": "mnli", "k": 0, "seed": 3},
        (0, 0, 0),
    )
    assert pickle.loads(pickle.dumps(points)) == points


def test_results_are_put_on_labelled_axes() -> None:
    xarray = pytest.importorskip("xarray")
    values = np.empty((2, 3, 2))
    for point in grid(AXES):
        values[point.index] = 10 * point.arguments["k"] + point.arguments["seed"]
    array = xarray.DataArray(values, coords=AXES, dims=list(AXES))
    for point in grid(AXES):
        found = array.sel(point.labels).item()
        assert found == 10 * point.arguments["k"] + point.arguments["seed"]


def test_values_may_have_labels() -> None:
    points = grid({"data": {"small": {"rows": 9}, "large": {"rows": 99}}, "seed": range(2)})
    assert [point.labels for point in points] == [
        {"data": "small", "seed": 0},
        {"data": "small", "seed": 1},
        {"data": "large", "seed": 0},
        {"data": "large", "seed": 1},
    ]
    assert points[2].arguments == {"data": {"rows": 99}, "seed": 0}
    assert folders(Path("runs") / "{data}-s{seed}", points)[2] == "runs/large-s0"


def test_folders_hold_labels_and_words() -> None:
    points = grid({"task": ["mnli"], "k": [0, 8]})
    assert folders("{model}/{task}-k{k}-{k}", points, {"model": "bert"}) == [
        "bert/mnli-k0-0",
        "bert/mnli-k8-8",
    ]
    assert folders("runs/k{k}", points) == ["runs/k0", "runs/k8"]
    assert folders("runs", []) == []
    assert folders("runs", grid({})) == ["runs"]


@given(
    st.dictionaries(
        st.sampled_from(["task", "k", "seed"]),
        st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True),
    )
)
def test_folders_tell_points_apart_or_are_refused(axes: dict[str, list[int]]) -> None:
    points = grid(axes)
    parted = "-".join(f"{axis}{{{axis}}}" for axis in axes)
    assert len(set(folders(parted, points))) == len(points)
    joined = "".join(f"{{{axis}}}" for axis in axes)
    try:
        found = folders(joined, points)
    except InvalidInput as error:
        assert "would both be written to" in str(error)  # noqa: PT017 - either may be
    else:
        assert len(set(found)) == len(points)


@pytest.mark.parametrize(
    ("pattern", "axes", "sentence"),
    [
        ("r-{k}", {"seed": [0, 1, 2], "k": [1]}, "3 seeds cannot all be written to r-{k}; put {s"),
        ("r-{seed}", {"k": [0, 1], "seed": [0]}, "2 values of k cannot all be written to r-{seed"),
        ("{k}", {"k": [0]} | {"task": ["a", "b"]}, "2 tasks cannot all be written to {k}; put {t"),
        ("r{lr}", {"k": [0], "seed": [1]}, "the folder 'r{lr}' cannot be read; {k} and {seed} are"),
        ("r{lr}", {"k": [0]}, "the folder 'r{lr}' cannot be read; {k} is what it may hold"),
        ("r{lr}", {}, "the folder 'r{lr}' cannot be read; nothing is what it may hold"),
        ("{k}{s}", {"k": [1, 11], "s": [1, 11]}, "two points of the grid would both be written to"),
        ("r", {"k": []}, "the axis k has no values; give one at least"),
        ("r{k}", {"k": [1, "1"]}, "the axis k has 1 twice; give each value once"),
    ],
)
def test_grids_that_cannot_be_told_apart_are_refused(
    pattern: str, axes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        folders(pattern, grid(axes))
    assert str(caught.value).startswith(sentence)


def test_runs_by_seed_have_folders_of_their_own() -> None:
    given = {"task": "mnli", "train": "m", "seed": "3,5", "out": "runs/{name}-{task}-s{seed}"}
    assert by_seed(given, "short") == [
        {"task": "mnli", "train": "m", "seed": 3, "out": "runs/short-mnli-s3"},
        {"task": "mnli", "train": "m", "seed": 5, "out": "runs/short-mnli-s5"},
    ]
    assert by_seed({"out": Path("r") / "{task}{seed}"}, "dep") == [{"out": "r/dep0", "seed": 0}]
    assert by_seed({"seed": (1, 2), "out": None}, "dep") == [
        {"seed": 1, "out": None},
        {"seed": 2, "out": None},
    ]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"seed": "0-2", "out": "runs/a"}, "3 seeds cannot all be written to runs/a; put {seed}"),
        ({"seed": 0, "out": "runs/{lr}"}, "the folder 'runs/{lr}' cannot be read; {name}, {task} "),
        ({"seed": "none,1", "out": "r{seed}"}, "seed 'none,1' not understood"),
        ({"seed": "2-1", "out": "r{seed}"}, "seed '2-1' not understood"),
        ({"seed": -1, "out": "r{seed}"}, "seed is -1"),
    ],
)
def test_seeds_that_cannot_be_told_apart_are_refused(how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        by_seed({"task": "mnli", **how}, "mnli")
    assert str(caught.value).startswith(sentence)
