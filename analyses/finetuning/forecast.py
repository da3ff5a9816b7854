"""What a run of fine-tuning would take, said before anything is trained: a dry run."""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from layerlake.engine.memory import format_bytes

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.tasks.task import Examples
    from layerlake.analyses.finetuning.training.optimiser import Optimiser
    from layerlake.analyses.finetuning.training.trainer import Trainer

_TRIAL_UPDATES: Final = 5
"""Most updates that are timed."""
_TRIAL_SECONDS: Final = 10.0
"""After which no further one is begun."""
_ANSWERING: Final = 1 / 3
"""Time of a forward pass, in that of a forward and a backward pass."""


@dataclass(frozen=True)
class TrainingForecast:
    """What a run would compute, hold and write."""

    folder: str
    task: str
    seed: int
    n_examples: int
    n_inputs: int
    """What they are cut into."""
    n_pieces: int
    """Of all inputs."""
    n_steps: int
    """Updates of the whole training."""
    n_done: int
    """Of these, those that a saved state, or the finished run, has."""
    n_weights: int
    """Numbers that are trained."""
    memory: dict[str, int]
    """Bytes on the device, by part."""
    disk: int
    """Bytes that are written at most, old beside new."""
    seconds: float
    """Time of what is left, at the speed of a few updates of a moment ago."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self) | {"notes": list(self.notes)}

    def table(self) -> str:
        """Return the forecast as lines for people."""
        held = ", ".join(f"{name} {format_bytes(size)}" for name, size in self.memory.items())
        done = f", {self.n_done:,} of them done" if self.n_done else ""
        lines = {
            "run": f"{self.task}, seed {self.seed}, into {self.folder}",
            "data": f"{self.n_examples:,} examples, {self.n_inputs:,} inputs, "
            f"{self.n_pieces:,} pieces",
            "updates": f"{self.n_steps:,}{done}",
            "trained": f"{self.n_weights:,} weights",
            "held": f"{format_bytes(sum(self.memory.values()))}: {held}",
            "disk": format_bytes(self.disk),
            "seconds": f"about {self.seconds:.3g}",
        }
        width = max(map(len, lines))
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines.items())


def forecast_training(
    trainer: Trainer, dev: list[Examples], optimiser: Optimiser, done: int
) -> float:
    """Return the seconds that a run would take from an update on.

    Parameters
    ----------
    trainer, optimiser
        In the state after so many updates; they are trained on.
    dev
        What is evaluated on after every epoch.
    done
        Updates done.
    """
    left = trainer.n_steps - done
    if not left:
        return 0.0
    times: list[float] = []
    pieces: list[int] = []
    updates = trainer.updates(optimiser, done, lambda epoch: None)
    began = start = time.perf_counter()
    for update in itertools.islice(updates, _TRIAL_UPDATES):
        times.append(time.perf_counter() - start)
        pieces.append(update.n_pieces)
        start = time.perf_counter()
        if start - began > _TRIAL_SECONDS:
            break
    if len(times) > 1:  # the first one also allocates
        del times[0], pieces[0]
    rate = sum(times) / sum(pieces)
    trained = trainer.examples.tokenization.n_pieces * left / trainer.steps_of_epoch
    epochs = trainer.recipe.epochs - done // trainer.steps_of_epoch
    answered = epochs * sum(examples.tokenization.n_pieces for examples in dev)
    return rate * (trained + _ANSWERING * answered)
