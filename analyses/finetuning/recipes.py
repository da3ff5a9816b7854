"""Recipes: every number that decides how a variant is trained, with the defaults of its task."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Final

from layerlake.engine.settings import whole_number
from layerlake.store.errors import InvalidInput, is_a

OPTIMISERS: Final = ("bert-adamw", "adamw", "adam")
SCHEDULES: Final = ("bert", "linear", "constant")
LONG: Final = ("refuse", "drop")
POOLS: Final = ("auto", "first", "mean", "last")
ROOTS: Final = ("learned", "first")
PRECISIONS: Final = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all tasks have: Devlin et al. 2019, appendix A.3, and their released code."""

    epochs: int = 3
    batch: int = 32
    """Inputs of an update."""
    lr: float = 3e-5
    """Highest learning rate of the encoder."""
    head_lr: float | None = None
    """The head's; None for that of the encoder."""
    warmup: float = 0.1
    """Share of the updates over which the learning rate rises."""
    schedule: str = "bert"
    """`bert`: it falls to 0 along a line that begins at update 0, and so jumps down where the rise
    ends, as in the released code; `linear`: along a line from the end of the rise; `constant`."""
    optimiser: str = "bert-adamw"
    """`bert-adamw`: AdamW without bias correction, as in the released code; `adamw`; `adam`."""
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    """Of all but norm layers and biases; decoupled from the gradient."""
    clip: float = 1.0
    """Most that the norm of the gradient may be; 0 for no bound."""
    dropout: float | None = None
    """Everywhere in the encoder and before the head; None for what the encoder's config says."""
    frozen_dropout: bool = False
    """Whether frozen blocks drop out while the rest is trained, as in the reference."""
    long: str = "refuse"
    """What to do with examples that the encoder has no positions for: `refuse`, or for tasks
    whose examples are never cut `drop`."""
    precision: str = "float32"
    """Of the forward pass; weights are float32."""

    def __post_init__(self) -> None:
        """Check every number; raise `InvalidInput` naming the first that cannot be."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _WHOLE:
                whole = whole_number(value, field.name.replace("_", " "), _WHOLE[field.name])
                object.__setattr__(self, field.name, whole)
            elif field.name in _REAL and not (value is None and field.default is None):
                above = field.name in _ABOVE
                real = _real(value, field.name.replace("_", " "), *_REAL[field.name], above)
                object.__setattr__(self, field.name, real)
            elif field.name == "label" and not (is_a(value, str) and value):
                raise InvalidInput(f"label is {value!r}; give the name of a column or annotation")
            elif field.name == "frozen_dropout":
                if not is_a(value, bool):
                    raise InvalidInput(f"frozen dropout is {value!r}; give True or False")
            elif field.name in _CHOICES and not (
                is_a(value, str) and value in _CHOICES[field.name]
            ):
                raise InvalidInput(
                    f"{field.name.replace('_', ' ')} is {value!r}; choose one of "
                    f"{', '.join(_CHOICES[field.name])}"
                )
        if self.optimiser == "adam" and self.weight_decay:
            raise InvalidInput(
                f"weight decay is {self.weight_decay:g}, and adam has none; choose adamw, or give 0"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return every entry by name, ready for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class SentenceRecipe(Recipe):
    """One label for a text or a pair of texts: section 3.3 and appendix A.3 of Devlin et al."""

    length: int = 128
    """Most pieces of an input, specials included; the longer text is cut from its end."""
    label: str = "label"
    """The column of examples that holds the labels."""
    pool: str = "auto"
    """Which piece stands for the input: `first`, `last` or the `mean`; `auto`: the first where
    the tokenizer puts a special piece there, else the last."""

    def __post_init__(self) -> None:
        """Check every number; see `Recipe`."""
        super().__post_init__()
        _check_cut(self)


@dataclass(frozen=True, kw_only=True)
class WordRecipe(Recipe):
    """One label for every word."""

    label: str = "labels"
    """The annotation of words, or the column of lists, that holds the labels."""


@dataclass(frozen=True, kw_only=True)
class AnswerRecipe(Recipe):
    """A span of a passage that answers a question: Devlin et al. 2019, section 4.2."""

    lr: float = 5e-5
    length: int = 384
    """Most pieces of an input."""
    stride: int = 128
    """Pieces from one window of a passage to the next."""
    question_length: int = 64
    """Most pieces of a question."""
    n_starts: int = 20
    """Starts, and ends, of a window that are looked at."""
    max_answer: int = 30
    """Most pieces of an answer."""

    def __post_init__(self) -> None:
        """Check every number, and that windows hold more than a question; see `Recipe`."""
        super().__post_init__()
        _check_cut(self)
        for name in ("stride", "question_length"):
            if getattr(self, name) >= self.length:
                raise InvalidInput(
                    f"{name.replace('_', ' ')} is {getattr(self, name)}, and inputs have "
                    f"{self.length} pieces; give less, or raise the length"
                )


@dataclass(frozen=True, kw_only=True)
class ParsingRecipe(Recipe):
    """A biaffine parser: Dozat & Manning 2017; rates and epochs of Merchant et al. 2020."""

    epochs: int = 20
    schedule: str = "linear"
    optimiser: str = "adam"
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    arc_width: int = 500
    """Of the two layers whose outputs say who depends on whom."""
    label_width: int = 100
    """Of the two layers whose outputs say by which relation."""
    head_dropout: float = 0.33
    """Of the outputs of these layers."""
    root: str = "learned"
    """What stands for ROOT: a `learned` vector, or the `first` piece, special where there is one."""


_WHOLE: Final = {
    "epochs": 1, "batch": 1, "length": 8, "stride": 1, "question_length": 1, "n_starts": 1,
    "max_answer": 1, "arc_width": 1, "label_width": 1,
}  # fmt: skip
"""Whole numbers of recipes, and the least that each may be."""

_REAL: Final = {
    "lr": (0.0, math.inf), "head_lr": (0.0, math.inf), "warmup": (0.0, 1.0),
    "beta1": (0.0, 1.0), "beta2": (0.0, 1.0), "epsilon": (0.0, 1.0),
    "weight_decay": (0.0, math.inf), "clip": (0.0, math.inf), "dropout": (0.0, 1.0),
    "head_dropout": (0.0, 1.0),
}  # fmt: skip
"""Other numbers of recipes, and between what they lie (the upper bound itself is out)."""

_ABOVE: Final = ("lr", "head_lr", "epsilon")
"""Those that the lower bound is out for too: a rate of 0 trains nothing."""

_CHOICES: Final = {
    "schedule": SCHEDULES, "optimiser": OPTIMISERS, "long": LONG, "pool": POOLS, "root": ROOTS,
    "precision": PRECISIONS,
}  # fmt: skip


def _real(value: Any, what: str, low: float, high: float, above: bool) -> float:
    known = is_a(value, int, float) and not is_a(value, bool)
    if not known or not (low < value < high if above else low <= value < high):
        least = f"above {low:g}" if above else f"of {low:g} or more"
        below = f" and below {high:g}" if math.isfinite(high) else ""
        raise InvalidInput(f"{what} is {value!r}; give a number {least}{below}")
    return float(value)


def _check_cut(recipe: SentenceRecipe | AnswerRecipe) -> None:
    """Refuse to drop what is cut to a length and so is never too long."""
    if recipe.long != "refuse":
        raise InvalidInput(
            f"long is {recipe.long!r}, which is for tagging and parsing; here texts are cut to "
            "`length` pieces"
        )


def make_recipe(kind: type[Recipe], task: str, options: dict[str, Any]) -> Recipe:
    """Return the recipe of a task with some entries changed.

    Parameters
    ----------
    kind
        The class of the task's recipes.
    task
        Its name, for messages.
    options
        Entries by name; None stands for the default. With `adam` that of `weight_decay` is 0.

    Raises
    ------
    InvalidInput
        The task's recipe has no such entry, or one cannot be what it is.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    given = {name: value for name, value in options.items() if value is not None}
    if odd := [name for name in given if name not in known]:
        raise InvalidInput(
            f"{odd[0].replace('_', '-')} is no entry of the recipe of {task}; its entries are "
            f"{', '.join(name.replace('_', '-') for name in known)}"
        )
    if given.get("optimiser") == "adam":
        given.setdefault("weight_decay", 0.0)
    return kind(**given)
