"""What of a run decides its result, and what lineage says of the training."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from layerlake.analyses.finetuning.data import Data
from layerlake.analyses.finetuning.heads.task_model import Shape
from layerlake.analyses.finetuning.recipes import Recipe, SentenceRecipe
from layerlake.analyses.finetuning.settings import Settings
from layerlake.analyses.runs.team import Team
from layerlake.engine.catalogue import OF_NO_WEIGHT
from layerlake.engine.models.loading import LoadedModel
from layerlake.engine.tokenization.tokenizer_backend import (
    learn_template,
    open_backend,
    tokenizer_fingerprint,
)
from layerlake.store.identity import settings_fingerprint


@dataclass(frozen=True)
class RunRecord:
    """A run in words: all that decides its result, and all that is told of it."""

    settings: Settings
    recipe: Recipe
    """With nothing in it that is left to be told by the model."""
    shape: Shape
    loaded: LoadedModel
    pooler: Mapping[str, torch.Tensor] | None
    train: Data
    dev: Sequence[Data]

    def decides(self) -> dict[str, Any]:
        """Return all that decides the result but for machine and versions, ready for JSON."""
        loaded = self.loaded
        config = {key: v for key, v in loaded.config.items() if key not in OF_NO_WEIGHT}
        return {
            "task": self.settings.task.name,
            "seed": self.settings.seed,
            "freeze": self.shape.freeze,
            "truncate": self.shape.truncate,
            "keep": self.settings.keep,
            "recipe": self.recipe.to_dict(),
            "weights": loaded.weights_digest,
            "pooler": _digest(self.pooler),
            "config": settings_fingerprint(config),
            "tokenizer": tokenizer_fingerprint(loaded.tokenizer),
            "train": self.train.corpus.fingerprint,
            "dev": [[data.name, data.corpus.fingerprint] for data in self.dev],
        }

    def parent(self) -> dict[str, Any]:
        """Return what training begins from, as lineage has it."""
        loaded = self.loaded
        return {
            "source": loaded.source,
            "revision": loaded.revision,
            "weights_digest": loaded.weights_digest,
            "randomize": loaded.randomize,
        }

    def training(self) -> dict[str, Any]:
        """Return what lineage says of the training before it is done; alike for all seeds."""
        return {
            "task": self.settings.task.name,
            "seed": self.settings.seed,
            "recipe": self.recipe.to_dict(),
            "freeze": None if self.shape.freeze < 0 else self.shape.freeze,
            "keep": self.settings.keep,
            "data": {
                "train": self.train.to_dict(),
                "dev": {data.name: data.to_dict() for data in self.dev},
            },
        }


def _digest(tensors: Mapping[str, torch.Tensor] | None) -> str | None:
    if tensors is None:
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def resolved(recipe: Recipe, tokenizer: Any) -> Recipe:
    """Return a recipe in which nothing is left to be told by the model."""
    if not isinstance(recipe, SentenceRecipe) or recipe.pool != "auto":
        return recipe
    opens = learn_template(open_backend(tokenizer), 1).parts[0]
    return dataclasses.replace(recipe, pool="first" if opens else "last")


_WHAT: Final = {
    "weights": "another model",
    "pooler": "a model with another pooler",
    "config": "a model with another config",
    "tokenizer": "another tokenizer",
    "train": "other training data",
    "dev": "other data to evaluate on",
}
"""What is said where two runs differ in something whose value tells nobody anything."""


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Say the first thing in which two runs differ; None where nothing does.

    Parameters
    ----------
    then, now
        As `RunRecord.decides` returns it; the first comes from a file.
    """
    for name, value in now.items():
        there = then.get(name)
        if there == value:
            continue
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            return difference(there, value) or "another recipe"
        return _WHAT.get(name) or f"{name.replace('_', ' ')} {there!r} there, {value!r} asked"
    return None


def versions(team: Team) -> dict[str, Any]:
    """Return what the weights depend on beside what decides them."""
    found = {
        name: importlib.metadata.version(name) for name in ("layerlake", "torch", "transformers")
    }
    return found | {
        "device": team.device.type,
        "threads": str(torch.get_num_threads()),
        "processes": str(team.size),
    }
