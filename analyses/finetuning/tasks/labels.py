"""What tasks with labels share: which labels there are, their loss, and how often they are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.finetuning.recipes import Recipe
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from torch import nn


def label_inventory(labels: Iterable[str]) -> dict[str, Any]:
    """Return the labels of the training data, in order; raise `InvalidInput` where there is one."""
    found = sorted(set(labels))
    if len(found) < 2:
        raise InvalidInput(
            f"the training data has one label, {found[0]!r}; give data with two or more"
        )
    return {"labels": found}


def label_text(label: Any, where: str, field: str, each: str) -> str:
    """Return a label as text.

    Parameters
    ----------
    label
        As it was read: text, a number or a truth value.
    where, field, each
        For the message: whose it is, the name of its field, and what is to have one.

    Raises
    ------
    InvalidInput
        It is missing, or several.
    """
    missing = label is None or label == "" or label != label  # noqa: PLR0124 - NaN
    if missing or isinstance(label, list | dict):
        held = "no label" if missing or not label else f"{str(label)[:40]} for a label"
        raise InvalidInput(f"{where} has {held} in {field!r}; {each}")
    return str(label)


def label_loss(outputs: Mapping[str, torch.Tensor], gold: torch.Tensor) -> torch.Tensor:
    """Return the sum of the cross-entropies of `logits`, (label's bearer, label)."""
    from torch.nn.functional import cross_entropy

    from layerlake.analyses.finetuning.heads.task_heads import at_least_float32

    return cross_entropy(at_least_float32(outputs["logits"]), gold, reduction="sum")


def label_scores(gold: NDArray[np.int64], found: NDArray[np.int64]) -> dict[str, float]:
    """Return the accuracy, and the share of the commonest label."""
    common = Counter(gold.tolist()).most_common(1)[0][1]
    return {"accuracy": float((found == gold).mean()), "majority": common / len(gold)}


def head_dropout(encoder: nn.Module, recipe: Recipe) -> float:
    """Return the dropout before a head: the recipe's, else what the config says of its layers."""
    if recipe.dropout is not None:
        return recipe.dropout
    config: Any = encoder.config
    text = config.get_text_config()
    names = ("classifier_dropout", "hidden_dropout_prob", "dropout", "dropout_rate", "resid_pdrop")
    for name in names:
        value = getattr(text, name, None)
        if isinstance(value, int | float):
            return float(value)
    return 0.1
