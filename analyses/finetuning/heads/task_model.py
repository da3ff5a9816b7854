"""An encoder with a head on it: what is loaded, what is trained, and what stays as it was."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from layerlake.analyses.finetuning.heads.task_heads import Pooler, initialise
from layerlake.analyses.finetuning.recipes import Recipe
from layerlake.analyses.finetuning.tasks.task import INPUTS, Batch, Task
from layerlake.engine.extraction.capture import withheld_inputs
from layerlake.engine.models.architectures import (
    Trunk,
    anatomy,
    find_trunk,
    first_present,
    truncate_blocks,
)
from layerlake.engine.models.batching_check import Inputs, Run, batching_of, eval_mode
from layerlake.engine.models.loading import LoadedModel
from layerlake.engine.settings import whole_number
from layerlake.store.errors import InvalidInput


class TaskModel(nn.Module):
    """An encoder and a head; its bottom may be frozen."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        """Put them together; nothing is frozen."""
        super().__init__()
        self.encoder = encoder
        self.head = head
        self._frozen: list[nn.Module] = []
        self._frozen_dropout = False
        accepted = inspect.signature(encoder.forward).parameters.keys() - withheld_inputs(encoder)
        self._accepted = tuple(name for name in INPUTS if name in accepted)
        # A decoder would otherwise keep the keys and values of every block.
        self._options = {"use_cache": False} if "use_cache" in accepted else {}

    @property
    def trunk(self) -> Trunk:
        """The blocks of the encoder."""
        return find_trunk(self.encoder)

    def freeze(self, n_blocks: int, *, dropout: bool) -> None:
        """Freeze the embeddings and the lowest blocks; -1 freezes nothing.

        Parameters
        ----------
        n_blocks
            How many blocks, from -1 (none, and not the embeddings) to all.
        dropout
            Whether what is frozen drops out while the rest is trained.
        """
        self._frozen_dropout = dropout
        if n_blocks < 0:
            return
        trunk = self.trunk
        if n_blocks >= trunk.n_layers:
            self.encoder.requires_grad_(False)
            self._frozen = list(self.encoder.modules())
            return
        trained = [*trunk.blocks[n_blocks:], *_above_blocks(self.encoder)]
        ids = {id(parameter) for part in trained for parameter in part.parameters()}
        for parameter in self.encoder.parameters():
            parameter.requires_grad_(id(parameter) in ids)
        inside = {id(inner) for part in trained for inner in part.modules()}
        self._frozen = [
            part
            for part in self.encoder.modules()
            if id(part) not in inside
            and not any(id(parameter) in ids for parameter in part.parameters())
        ]

    def train(self, mode: bool = True) -> TaskModel:
        """Set the mode; what is frozen stays in eval mode, unless it is to drop out."""
        super().train(mode)
        if mode and not self._frozen_dropout:
            for part in self._frozen:
                part.training = False
        return self

    def batching(self, loaded: LoadedModel) -> str:
        """Return how inputs may go through the encoder together; errors as `batching_of`.

        Parameters
        ----------
        loaded
            What the encoder was loaded as.
        """

        def runner(tried: LoadedModel) -> Run:
            encoder: Any = tried.module
            device = next(encoder.parameters()).device

            def run(inputs: Inputs) -> dict[str, torch.Tensor]:
                given = {
                    name: torch.as_tensor(inputs[name], device=device) for name in self._accepted
                }
                with eval_mode(encoder), torch.inference_mode():
                    return {"output": encoder(**given, **self._options).last_hidden_state}

            return run

        return batching_of(dataclasses.replace(loaded, module=self.encoder), runner)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return what the head makes of a batch."""
        inputs = {name: batch.inputs[name] for name in self._accepted}
        hidden = self.encoder(**inputs, **self._options).last_hidden_state
        outputs: dict[str, torch.Tensor] = self.head(hidden, batch.inputs, batch.targets)
        return outputs


def _above_blocks(encoder: nn.Module) -> list[nn.Module]:
    """Return what lies behind the last block: the final norm."""
    config: Any = encoder.config
    known = anatomy(config.model_type)
    path = first_present(encoder, known.final_norm) if known else None
    return [] if path is None else [encoder.get_submodule(path)]


@dataclass(frozen=True)
class Shape:
    """Which part of the encoder is there, and which is trained."""

    freeze: int = -1
    """Blocks that are frozen, with the embeddings; -1 for nothing."""
    truncate: int | None = None
    """Blocks that are kept; None for all."""


def check_shape(loaded: LoadedModel, freeze: int, truncate: int | None) -> Shape:
    """Return how a model is cut and frozen; refuse what it has not the layers for.

    Raises
    ------
    InvalidInput
        A number out of range.
    """
    n = loaded.n_layers
    if truncate is not None:
        truncate = whole_number(truncate, "truncate", 1, n)
        n = truncate
    freeze = whole_number(freeze, "freeze", -1, n)
    if loaded.trunk.shared and 0 < freeze < n:
        raise InvalidInput(
            f"freeze is {freeze}, and the layers of {loaded.source} share one block, so that "
            f"freezing one freezes all; give -1, 0 or {n}"
        )
    return Shape(freeze, truncate)


def task_model(
    loaded: LoadedModel,
    task: Task,
    inventory: Mapping[str, Any],
    recipe: Recipe,
    shape: Shape,
    seed: int,
    pooler: Mapping[str, torch.Tensor] | None = None,
) -> TaskModel:
    """Put a new head on an encoder, cut and freeze it as asked, and let the rest be trained.

    Parameters
    ----------
    loaded
        The encoder, changed in place.
    task, inventory, recipe
        What the head is for.
    shape
        What is kept and what is frozen.
    seed
        Of the weights of the head.
    pooler
        The weights of the encoder's own pooler, where it has one: a head with a pooler of that
        shape begins with them.
    """
    encoder = loaded.module
    if shape.truncate is not None:
        truncate_blocks(encoder, shape.truncate)
    encoder.requires_grad_(True)
    if recipe.dropout is not None:
        set_dropout(encoder, recipe.dropout)
    head = task.head(encoder, inventory, recipe)
    mine = next((part for part in head.modules() if isinstance(part, Pooler)), None)
    shapes = {} if mine is None else {name: own.shape for name, own in mine.state_dict().items()}
    fits = pooler is not None and shapes == {name: own.shape for name, own in pooler.items()}
    if mine is not None and pooler is not None and mine.pool == "first" and fits:
        mine.load_state_dict(pooler)
        mine.trained = True
    initialise(head, seed)
    model = TaskModel(encoder, head)
    model.freeze(shape.freeze, dropout=recipe.frozen_dropout)
    return model


def set_dropout(encoder: nn.Module, dropout: float) -> None:
    """Set the dropout of all layers, and that which modules keep as a number of that name."""
    for part in encoder.modules():
        if isinstance(part, nn.Dropout):
            part.p = dropout
        for name, value in vars(part).items():
            if "dropout" in name and isinstance(value, int | float) and value is not True:
                setattr(part, name, dropout)
