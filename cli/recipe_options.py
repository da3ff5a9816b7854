"""The entries of the recipes of fine-tuning as options, each with the tasks and defaults it has."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterator
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
from layerlake.analyses.finetuning.tasks.task import Task
from layerlake.cli.grouped import Grouped

_TASK: Final = "layerlake.task"
"""Key of a context's `meta`: the task that the line names."""

HELP: Final = {
    "epochs": "Number of passes over the training data.",
    "batch": "Number of inputs per update.",
    "lr": "Peak learning rate of the encoder.",
    "head_lr": "Peak learning rate of the head  [default: --lr]",
    "warmup": "Fraction of the updates during which the learning rate rises.",
    "schedule": "Decay of the learning rate: linear (from its peak), bert (linear from update 0, so "
    "that it drops where the warm-up ends) or constant.",
    "optimiser": "Optimiser; bert-adamw is AdamW without bias correction.",
    "beta1": "Decay rate of Adam's first moment.",
    "beta2": "Decay rate of Adam's second moment.",
    "epsilon": "Adam's epsilon.",
    "weight_decay": "Weight decay, except for norms and biases.",
    "clip": "Maximum norm of the gradient; 0 for no clipping.",
    "dropout": "Dropout of the encoder and before the head  [default: as in the encoder's config]",
    "frozen_dropout": "Whether dropout is active in frozen blocks.",
    "long": "Examples longer than the encoder's limit: refuse or drop.",
    "precision": "Dtype of the forward pass; weights stay float32.",
    "length": "Maximum number of tokens of an input; longer texts are cut, or split into windows.",
    "label": "Field, column or annotation of the labels.",
    "pool": "Representation of the input: the first token, the last, or the mean; auto is the first "
    "if the tokenizer puts a special token there, else the last.",
    "stride": "Number of tokens from one window of a passage to the next.",
    "question_length": "Maximum number of tokens of a question.",
    "n_starts": "Number of start and end candidates per window.",
    "max_answer": "Maximum number of tokens of an answer.",
    "arc_width": "Width of the layers that score arcs.",
    "label_width": "Width of the layers that score relations.",
    "head_dropout": "Dropout of the outputs of these layers.",
    "root": "Representation of the root: a learned vector, or the first token.",
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


def _help(name: str, tasks: Collection[Task] = TASKS.values()) -> str:
    """Say what an entry is, which of some tasks have it, and its defaults."""
    defaults = {
        task.name: field.default
        for task in tasks
        for field in _fields(task.recipe_class)
        if field.name == name
    }
    text = HELP[name]
    if len(defaults) < len(tasks):
        text = f"{text.removesuffix('.')} ({', '.join(defaults)})."
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


RECIPE: Final = tuple(_entries())
"""The names of all entries."""


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every entry of any recipe; None stands for the task's default."""
    for name in reversed(RECIPE):
        function = _option(name)(function)
    return function


class OfATask(Grouped):
    """A command whose help is that of one task where the line names one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the task that the line names, for its help."""
        ctx.meta[_TASK] = next((word for word in args if word in TASKS), None)
        return super().parse_args(ctx, args)

    def records(self, ctx: click.Context) -> dict[str, tuple[str, str]]:
        """Return what the help lists; of one task, the entries and the defaults of its recipe."""
        task = ctx.meta.get(_TASK)
        records = super().records(ctx)
        if task is not None:
            own = {field.name for field in _fields(TASKS[task].recipe_class)}
            for name in set(RECIPE) & records.keys():
                option, _ = records.pop(name)
                if name in own:
                    records[name] = option, _help(name, (TASKS[task],))
        return records

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description; of one task, with its examples alone."""
        whole, task = self.help, ctx.meta.get(_TASK)
        if whole is not None and task is not None:
            self.help = _of_task(whole, task)
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = whole


def _of_task(text: str, task: str) -> str:
    """Return a description without the examples of other tasks."""
    kept, ours = [], True
    for line in text.splitlines():
        if " layerlake finetune " in line:
            ours = f" finetune {task} " in line
        elif not line.startswith("      "):  # an example that goes on is indented further
            ours = True
        if ours:
            kept.append(line)
    return "\n".join(kept)
