"""The memory that training holds: weights, gradients, moments, and what a micro-batch keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from layerlake.analyses.finetuning.training import precision
from layerlake.engine.memory import MemoryPlan

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.training import Trainer

_PASSING: Final = 2
"""What lies beside what is kept for the gradient, in units of the largest thing kept."""


def memory_plan(trainer: Trainer) -> MemoryPlan:
    """Return what training holds on its device, by part.

    What a micro-batch keeps for its gradient is measured on the longest input, alone and twice
    over, and continued to as many of them as a micro-batch may hold.
    """
    parameters = list(trainer.model.parameters())
    trained = sum(parameter.nbytes for parameter in parameters if parameter.requires_grad)
    lengths = trainer.examples.tokenization.lengths
    longest = int(lengths.argmax())
    together = max(trainer.most_pieces // int(lengths[longest]), 1)
    together = min(together, trainer.recipe.batch, len(lengths))
    (one, _), (two, largest) = (_kept_bytes(trainer, [longest] * n) for n in (1, 2))
    kept = one + (together - 1) * max(two - one, 0)
    return MemoryPlan(
        {
            "weights": sum(value.nbytes for value in trainer.model.state_dict().values()),
            "gradients": trained,
            "moments": 2 * trained,
            "micro-batch": kept + _PASSING * largest * together // 2,
        }
    )


def _kept_bytes(trainer: Trainer, chosen: list[int]) -> tuple[int, int]:
    """Return the bytes that inputs keep for the gradient, and those of the largest thing."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in trainer.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = trainer.team.device
    laid = trainer.task.lay(trainer.examples, np.array(chosen), trainer.pad_id).to(device)
    trainer.model.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        precision(device, trainer.recipe),
    ):
        loss = trainer.task.loss(trainer.model(laid), laid)
    del loss
    return sum(kept.values()), max(kept.values(), default=0)
