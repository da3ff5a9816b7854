"""The entries of the recipes of fine-tuning as options, each with the tasks and defaults it has."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from layerlake.analyses.finetuning.recipes import (
    LONG,
    OPTIMISERS,
    POOLS,
    PRECISIONS,
    ROOTS,
    SCHEDULES,
)
from layerlake.analyses.finetuning.tasks.registry import TASKS

HELP: Final = {
    "epochs": "Passes over the training data.",
    "batch": "Inputs of an update.",
    "lr": "Highest learning rate of the encoder.",
    "head_lr": "The head's  [default: --lr]",
    "warmup": "Share of the updates over which the learning rate rises.",
    "schedule": "How it falls: along a line from update 0, so that it jumps down where the rise "
    "ends (bert), along a line from there, or not.",
    "optimiser": "bert-adamw is AdamW without bias correction.",
    "beta1": "Of the mean of gradients.",
    "beta2": "Of the mean of their squares.",
    "epsilon": "Added to the root of that.",
    "weight_decay": "Of all but norm layers and biases.",
    "clip": "Most that the norm of the gradient may be; 0 for no bound.",
    "dropout": "In the encoder and before the head  [default: as the encoder's config]",
    "frozen_dropout": "Whether frozen blocks drop out.",
    "long": "What to do with examples that the encoder has no positions for.",
    "precision": "Of the forward pass; weights are float32.",
    "length": "Most pieces of an input; longer ones are cut, or parted into windows.",
    "label": "The field, column or annotation of the labels.",
    "pool": "What stands for the input: the first piece, the last, or the mean; auto: the first "
    "where the tokenizer puts a special piece there, else the last.",
    "stride": "Pieces from one window of a passage to the next.",
    "question_length": "Most pieces of a question.",
    "n_starts": "Starts, and ends, of a window that are looked at.",
    "max_answer": "Most pieces of an answer.",
    "arc_width": "Of the layers that say who depends on whom.",
    "label_width": "Of the layers that say by which relation.",
    "head_dropout": "Of the outputs of these layers.",
    "root": "What stands for the root: a learned vector, or the first piece.",
}
"""What each entry is, in the words of `analyses.finetuning.recipes`."""

_CHOICES: Final = {
    "schedule": SCHEDULES,
    "optimiser": OPTIMISERS,
    "long": LONG,
    "precision": PRECISIONS,
    "pool": POOLS,
    "root": ROOTS,
}


def _entries() -> Iterator[str]:
    """Yield the name of every entry of any recipe, those that all have first."""
    every = [field.name for task in TASKS.values() for field in _fields(task.recipe_class)]
    yield from dict.fromkeys(every)


def _fields(recipe_class: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(recipe_class)


def _help(name: str) -> str:
    """Say which tasks have an entry, what it is, and its defaults."""
    defaults = {
        task.name: field.default
        for task in TASKS.values()
        for field in _fields(task.recipe_class)
        if field.name == name
    }
    text = HELP[name]
    if len(defaults) < len(TASKS):
        text = f"{', '.join(defaults)}: {text[0].lower()}{text[1:]}"
    ((usual, _),) = Counter(defaults.values()).most_common(1)
    if usual is None:
        return text
    shown = [_shown(usual)]
    for value in dict.fromkeys(defaults.values()):
        if value != usual:
            others = ", ".join(task for task, own in defaults.items() if own == value)
            shown.append(f"{others}: {_shown(value)}")
    return f"{text}  [default: {'; '.join(shown)}]"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _option(name: str) -> Callable[..., Any]:
    flag = f"--{name.replace('_', '-')}"
    defaults = [
        field
        for task in TASKS.values()
        for field in _fields(task.recipe_class)
        if field.name == name
    ]
    if isinstance(defaults[0].default, bool):
        return click.option(f"{flag}/--no{flag[1:]}", name, default=None, help=_help(name))
    kind: Any = click.Choice(_CHOICES[name]) if name in _CHOICES else None
    if kind is None:
        kind = {"int": int, "float": float, "float | None": float, "str": str}[
            str(defaults[0].type)
        ]
    metavar = None if kind is not str else "NAME"
    return click.option(flag, name, type=kind, metavar=metavar, help=_help(name))


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every entry of any recipe; None stands for the task's default."""
    for name in reversed(list(_entries())):
        function = _option(name)(function)
    return function


class WithRecipe(click.Command):
    """A command whose help lists the entries of recipes apart."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two lists."""
        names = set(_entries())
        lists: dict[str, list[tuple[str, str]]] = {"Options": [], "Recipe": []}
        for parameter in self.get_params(ctx):
            option = isinstance(parameter, click.Option)
            record = parameter.get_help_record(ctx) if option else None
            if record is not None:
                lists["Recipe" if parameter.name in names else "Options"].append(record)
        for title, records in lists.items():
            with formatter.section(title):
                formatter.write_dl(records)
