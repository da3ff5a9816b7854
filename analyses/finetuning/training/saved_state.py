"""What a run has saved of itself, so that it goes on where it was stopped.

One file of tensors holds the weights that are trained, the optimiser's moments and, as metadata,
how far it is. It is written whole beside the old one and renamed over it, so at any moment one of
the two is there and sound. The weights of the best epoch lie in a file of their own, which bears
its number: the state says which of them counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from layerlake.analyses.finetuning.heads.task_model import TaskModel
from layerlake.analyses.finetuning.training.optimiser import Optimiser
from layerlake.analyses.runs.tensor_files import read_tensors, write_tensors
from layerlake.store.errors import InvalidInput

STATE_FILE: Final = "state.safetensors"


@dataclass(frozen=True)
class Progressed:
    """How far a run is."""

    step: int
    """Updates done."""
    history: tuple[dict[str, Any], ...] = ()
    """The scores of every epoch that was evaluated."""
    best: int | None = None
    """The epoch (from 1) whose weights are kept as the best, where the best are to be kept."""
    seconds: float = 0.0
    """Time spent on these updates, by all processes that had a part in them one after another."""


def save_state(
    folder: Path,
    identity: str,
    model: TaskModel,
    optimiser: Optimiser,
    progressed: Progressed,
) -> None:
    """Save how far a run is, in place of what was saved before.

    Parameters
    ----------
    folder
        Where the state lies.
    identity
        What decides the run's result; a state is taken up by a run of the same identity alone.
    model, optimiser
        Their state after `progressed.step` updates.
    progressed
        What is said of it.

    Raises
    ------
    StorageFailed
        It cannot be written; what was saved before is still there.
    """
    tensors = {f"weight/{name}": value for name, value in trained_weights(model).items()}
    tensors |= optimiser.moments()
    about = {
        "identity": identity,
        "step": str(progressed.step),
        "history": json.dumps(progressed.history),
        "best": json.dumps(progressed.best),
        "seconds": json.dumps(progressed.seconds),
    }
    write_tensors(folder / STATE_FILE, tensors, about)
    for file in folder.glob(_best_file(folder, "*").name):
        if progressed.best is None or file != _best_file(folder, progressed.best):
            file.unlink()


def trained_weights(model: TaskModel) -> dict[str, torch.Tensor]:
    """Return the weights that training changes, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def load_state(
    folder: Path, identity: str, model: TaskModel, optimiser: Optimiser
) -> Progressed | None:
    """Put a run into the state that was saved; None where there is none.

    Raises
    ------
    InvalidInput
        What is saved is another run's, or damaged.
    """
    file = folder / STATE_FILE
    if not file.exists():
        return None
    advice = f"remove {folder}, and the run begins anew"
    about, tensors = read_tensors(file, advice)
    if about.get("identity") != identity:
        raise InvalidInput(f"{file} is the state of another run; {advice}")
    try:
        progressed = Progressed(
            step=int(about["step"]),
            history=tuple(json.loads(about["history"])),
            best=json.loads(about["best"]),
            seconds=json.loads(about["seconds"]),
        )
        _put(tensors, model, "weight/")
        optimiser.restore(tensors, progressed.step)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise InvalidInput(f"{file} is damaged; {advice}") from error
    return progressed


def _put(tensors: Mapping[str, torch.Tensor], model: TaskModel, prefix: str = "") -> None:
    with torch.no_grad():
        for name, parameter in trained_weights(model).items():
            parameter.copy_(tensors[f"{prefix}{name}"])


def _best_file(folder: Path, epoch: int | str) -> Path:
    return folder / f"best-{epoch}.safetensors"


def save_best(folder: Path, model: TaskModel, epoch: int) -> None:
    """Save the weights of an epoch that is the best so far; it counts once the state says so.

    Raises
    ------
    StorageFailed
        They cannot be written.
    """
    write_tensors(_best_file(folder, epoch), trained_weights(model), {"epoch": str(epoch)})


def load_best(folder: Path, model: TaskModel, epoch: int) -> None:
    """Put the weights of the best epoch into a model.

    Raises
    ------
    InvalidInput
        They are missing or damaged.
    """
    file = _best_file(folder, epoch)
    advice = f"remove {folder}, and the run begins anew"
    _, tensors = read_tensors(file, advice)
    try:
        _put(tensors, model)
    except (KeyError, RuntimeError) as error:
        raise InvalidInput(f"{file} is damaged; {advice}") from error
