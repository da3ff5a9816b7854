"""The report of a fine-tuning run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FinetuneReport:
    """The outcome of a run that was trained now, or found finished."""

    folder: str
    task: str
    seed: int
    scores: dict[str, dict[str, float]]
    """Scores by evaluation file, then by name; each from 0 to 1."""
    epoch: int
    """The epoch whose weights were saved, counted from 1."""
    n_steps: int
    """Number of updates of the whole training."""
    n_computed: int
    """Number of updates made by this call; 0 if the run was already finished."""
    n_examples: int
    """Number of training examples."""
    seconds: float
    """Time spent on updates and evaluations, excluding interruptions."""
    weights_digest: str
    """Digest of the encoder's weights, as `layerlake extract` records it."""
    parent: dict[str, Any]
    """The model that training started from: source, revision and weights digest."""
    notes: tuple[str, ...] = ()
    """Remarks on the run, one sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Return the `--json` object: settings, identity and one record per score."""
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
