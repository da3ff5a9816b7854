"""The settings of a fine-tuning run, except its data; see `finetune`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from layerlake.analyses.finetuning.recipes import Recipe
from layerlake.engine.settings import check_seed, whole_number
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.tasks.task import Task

KEEP: Final = ("last", "best")
"""Which epoch's weights can be saved."""


@dataclass(frozen=True)
class Settings:
    """The settings of a run, except its data; checked when built."""

    task: Task
    model: str
    """A folder or a hub name."""
    out: Path
    """The folder that is written."""
    seed: int
    """Random seed for the head's weights, the order of the examples and dropout."""
    freeze: int
    """Number of the lowest blocks that are not trained; -1 trains the embeddings too."""
    truncate: int | None
    """Number of blocks that are used; None for all."""
    randomize: int | None
    """Seed of random initial weights; None for the weights of the model."""
    keep: str
    """One of `KEEP`."""
    recipe: Recipe
    token_budget: int | None
    """Most pieces computed at a time; None for what suits the device."""
    save_steps: int | None
    """Updates between saved states; None for every epoch and every ten minutes."""
    memory: int | None
    """Memory limit in bytes; None for the free memory that `run` finds."""
    device: str
    """`auto`, `cpu` or `cuda[:N]`."""
    trust_remote_code: bool
    """Whether code that comes with the model is run."""

    def __post_init__(self) -> None:
        """Refuse numbers out of bounds, and settings that do not go together."""
        object.__setattr__(self, "seed", check_seed(self.seed))
        if self.keep not in KEEP:
            raise InvalidInput(f"keep is {self.keep!r}; choose one of {', '.join(KEEP)}")
        if self.recipe.frozen_dropout and self.freeze == -1:
            raise InvalidInput(
                "frozen-dropout is for frozen blocks, and freeze -1 freezes nothing; leave it out, "
                "or freeze some"
            )
        for name in ("token_budget", "save_steps"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, whole_number(given, name.replace("_", " "), 1))
