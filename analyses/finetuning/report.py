"""What a fine-tuning says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FinetuneReport:
    """What was done, or was found done."""

    folder: str
    task: str
    seed: int
    scores: dict[str, dict[str, float]]
    """By file that was evaluated on, then by name; each from 0 to 1."""
    epoch: int
    """Whose weights were kept, from 1."""
    n_steps: int
    """Updates of the whole training."""
    n_computed: int
    """Of these, the ones that were made now; 0 where all was done before."""
    n_examples: int
    """Of the training data."""
    seconds: float
    """Time spent on all updates and evaluations, stops left out."""
    weights_digest: str
    """Of the encoder, as `layerlake extract` will know it."""
    parent: dict[str, Any]
    """What training began from."""
    notes: tuple[str, ...] = ()
    """What a person should know, a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: settings, identity and a record a score."""
        return {
            "settings": {"task": self.task, "seed": self.seed, "folder": self.folder},
            "identity": {"weights_digest": self.weights_digest, "parent": self.parent},
            "records": [
                {
                    "task": self.task,
                    "seed": self.seed,
                    "data": data,
                    "measure": measure,
                    "value": value,
                    "epoch": self.epoch,
                }
                for data, scores in self.scores.items()
                for measure, value in scores.items()
            ],
            "n_steps": self.n_steps,
            "n_computed": self.n_computed,
            "n_examples": self.n_examples,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }
