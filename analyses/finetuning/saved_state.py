"""What a run has saved of itself, so that it goes on where it was stopped.

One file of tensors holds the weights that are trained, the optimiser's moments and, as metadata,
how far it is. It is written whole beside the old one and renamed over it, so at any moment one of
the two is there and sound.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from layerlake.analyses.finetuning.model import TaskModel
from layerlake.analyses.finetuning.optimiser import Optimiser
from layerlake.store.errors import InvalidInput, StorageFailed

STATE_FILE: Final = "state.safetensors"
_ADVICE: Final = "free some space and run the same line again, it resumes"


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


def write_tensors(file: Path, tensors: Mapping[str, torch.Tensor], about: dict[str, str]) -> None:
    """Write tensors to a file, whole or not at all.

    Raises
    ------
    StorageFailed
        The file cannot be written.
    """
    from safetensors.torch import save_file

    aside = file.with_name(f"{file.name}.{os.getpid()}.part")
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(ready, aside, metadata=about)
        aside.chmod(0o666 & ~_umask())  # safetensors lets only the owner read
        _sync(aside)
        aside.replace(file)
        _sync(file.parent)
    except Exception as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise StorageFailed(f"cannot write {file}: {reason}; {_ADVICE}") from error
        raise


def _umask() -> int:
    """Return what new files are not permitted here."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / STATE_FILE, tensors, about)


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
    from safetensors import SafetensorError, safe_open

    file = folder / STATE_FILE
    if not file.exists():
        return None
    unusable = InvalidInput(
        f"the saved state {file} is damaged; remove it, and the run begins anew"
    )
    try:
        with safe_open(file, framework="pt") as saved:
            about = saved.metadata() or {}
            names = set(saved.keys())
            tensors = {name: saved.get_tensor(name) for name in names}
        if about.get("identity") != identity:
            raise InvalidInput(
                f"{folder.parent} holds the beginning of another run (other data, recipe, seed or "
                "model); choose another --out, or remove it"
            )
        progressed = Progressed(
            step=int(about["step"]),
            history=tuple(json.loads(about["history"])),
            best=json.loads(about["best"]),
            seconds=json.loads(about["seconds"]),
        )
        weights = trained_weights(model)
        with torch.no_grad():
            for name, parameter in weights.items():
                parameter.copy_(tensors[f"weight/{name}"])
        optimiser.restore(tensors, progressed.step)
    except InvalidInput:
        raise
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise unusable from error
    return progressed
