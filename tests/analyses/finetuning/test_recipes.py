"""Recipes: what is out of range is refused by name, and so is what another task has."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.finetuning.recipes import (
    AnswerRecipe,
    ParsingRecipe,
    Recipe,
    SentenceRecipe,
    WordRecipe,
    make_recipe,
)
from layerlake.store.errors import InvalidInput

KINDS = {"mnli": SentenceRecipe, "tag": WordRecipe, "squad": AnswerRecipe, "dep": ParsingRecipe}

WRONG: dict[str, list[Any]] = {
    "epochs": [0, -1, 1.0, "3", True],
    "batch": [0, 2.5],
    "lr": [0, 0.0, -1e-5, math.nan, math.inf, "3e-5", True],
    "head_lr": [0.0, -1.0, math.nan],
    "warmup": [-0.1, 1.0, 1, 2, math.nan],
    "schedule": ["cosine", "", 1],
    "optimiser": ["sgd", "Adam", ["adam"]],
    "beta1": [-0.1, 1.0],
    "beta2": [-0.1, 1],
    "epsilon": [0.0, -1e-8, 1.0],
    "weight_decay": [-0.01, math.inf],
    "clip": [-1.0, math.inf, math.nan],
    "dropout": [-0.1, 1.0, "0.1"],
    "frozen_dropout": [1, 0, "yes", 0.0],
    "long": ["split", "window", True],
    "precision": ["float16", 32],
    "length": [7, 0, 128.0],
    "label": ["", 3],
    "pool": ["max", "cls", 0],
    "stride": [0, -1, 1.5],
    "question_length": [0],
    "n_starts": [0],
    "max_answer": [0],
    "arc_width": [0],
    "label_width": [0],
    "head_dropout": [-0.1, 1.0],
    "root": ["last", ""],
}

RIGHT: dict[str, list[Any]] = {
    "epochs": [1, np.int64(2)],
    "batch": [1, 512],
    "lr": [1e-9, 1],
    "head_lr": [1e-3],
    "warmup": [0, 0.0, 0.999],
    "schedule": ["bert", "linear", "constant"],
    "optimiser": ["bert-adamw", "adamw", "adam"],
    "beta1": [0.0, 0.99],
    "beta2": [0, 0.98],
    "epsilon": [1e-12],
    "weight_decay": [0, 0.1],
    "clip": [0, 5],
    "dropout": [0, 0.5],
    "frozen_dropout": [False, True],
    "long": ["refuse"],
    "precision": ["float32", "bfloat16"],
    "length": [400, 512],
    "label": ["gold"],
    "pool": ["auto", "first", "mean", "last"],
    "stride": [1, 383],
    "question_length": [1, 383],
    "n_starts": [1],
    "max_answer": [1],
    "arc_width": [1],
    "label_width": [1],
    "head_dropout": [0, 0.9],
    "root": ["learned", "first"],
}


def fields_of(kind: type[Recipe]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def test_every_entry_is_in_these_tests() -> None:
    every = {name for kind in KINDS.values() for name in fields_of(kind)}
    assert every == set(WRONG) == set(RIGHT)


@pytest.mark.parametrize("task", KINDS)
def test_every_entry_is_refused_by_name_where_it_is_out_of_range(task: str) -> None:
    kind = KINDS[task]
    for name in fields_of(kind):
        for value in WRONG[name]:
            with pytest.raises(InvalidInput, match=f"^{name.replace('_', ' ')} is .*(give|choose)"):
                make_recipe(kind, task, {name: value})


@pytest.mark.parametrize("task", KINDS)
def test_every_entry_is_taken_at_its_bounds(task: str) -> None:
    kind = KINDS[task]
    for name in fields_of(kind):
        for value in RIGHT[name]:
            more = {"optimiser": "adamw"} if name == "weight_decay" else {}
            made = make_recipe(kind, task, {name: value} | more)
            assert getattr(made, name) == value
            # JSON and back gives the same recipe.
            assert make_recipe(kind, task, json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize("task", KINDS)
def test_an_entry_of_another_task_is_refused(task: str) -> None:
    others = {name for kind in KINDS.values() for name in fields_of(kind)}
    for name in [*sorted(others - set(fields_of(KINDS[task]))), "learning_rate"]:
        with pytest.raises(
            InvalidInput, match=f"^{name.replace('_', '-')} is no entry of the"
        ) as e:
            make_recipe(KINDS[task], task, {name: 1})
        assert f"the recipe of {task}; its entries are epochs, batch, lr, head-lr" in str(e.value)


def test_none_stands_for_the_default() -> None:
    nothing = dict.fromkeys(fields_of(AnswerRecipe))
    assert make_recipe(AnswerRecipe, "squad", nothing) == AnswerRecipe()
    assert make_recipe(AnswerRecipe, "squad", {"arc_width": None}) == AnswerRecipe()


def test_the_defaults_are_those_of_the_papers() -> None:
    mnli, squad, dep = SentenceRecipe(), AnswerRecipe(), ParsingRecipe()
    assert (mnli.lr, mnli.batch, mnli.epochs, mnli.length) == (3e-5, 32, 3, 128)
    assert (squad.lr, squad.batch, squad.epochs) == (5e-5, 32, 3)
    assert (squad.length, squad.stride, squad.question_length) == (384, 128, 64)
    assert (squad.n_starts, squad.max_answer) == (20, 30)
    for recipe in (mnli, squad):
        assert (recipe.optimiser, recipe.schedule, recipe.warmup) == ("bert-adamw", "bert", 0.1)
        assert (recipe.beta1, recipe.beta2, recipe.epsilon) == (0.9, 0.999, 1e-6)
        assert (recipe.weight_decay, recipe.clip) == (0.01, 1.0)
    assert (dep.lr, dep.epochs, dep.warmup, dep.batch) == (3e-5, 20, 0.1, 32)
    assert (dep.optimiser, dep.schedule, dep.weight_decay) == ("adam", "linear", 0.0)
    assert (dep.arc_width, dep.label_width, dep.head_dropout) == (500, 100, 0.33)


def test_adam_has_no_decay() -> None:
    assert make_recipe(SentenceRecipe, "mnli", {"optimiser": "adam"}).weight_decay == 0.0
    with pytest.raises(InvalidInput, match=r"^weight decay is 0.02, and adam has none"):
        make_recipe(SentenceRecipe, "mnli", {"optimiser": "adam", "weight_decay": 0.02})
    both = {"optimiser": "adamw", "weight_decay": 0.02}
    assert make_recipe(ParsingRecipe, "dep", both).weight_decay == 0.02


@pytest.mark.parametrize("task", ["mnli", "squad"])
def test_what_is_cut_to_a_length_is_never_dropped(task: str) -> None:
    with pytest.raises(InvalidInput, match=r"^long is 'drop', which is for tagging and parsing"):
        make_recipe(KINDS[task], task, {"long": "drop"})
    assert make_recipe(ParsingRecipe, "dep", {"long": "drop"}).long == "drop"
    assert make_recipe(WordRecipe, "tag", {"long": "drop"}).long == "drop"


@pytest.mark.parametrize("name", ["stride", "question_length"])
def test_windows_are_longer_than_their_stride_and_their_question(name: str) -> None:
    said = f"^{name.replace('_', ' ')} is 384, and inputs have 384 pieces"
    with pytest.raises(InvalidInput, match=said):
        make_recipe(AnswerRecipe, "squad", {name: 384})
