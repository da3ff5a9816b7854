"""Fine-tuned models on disk: the encoder as Hugging Face has it, the head apart, lineage beside.

```
FOLDER/
    config.json, model.safetensors, tokenizer*      the encoder, for AutoModel and `layerlake extract`
    head/config.json, head/model.safetensors        the head, and what it was trained with
    layerlake.json                                  lineage; written last, so it says all is there
    log.jsonl                                       what happened while it was trained
    training/                                       while it is trained: saved state
```
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from layerlake.analyses.finetuning.heads import Pooler
from layerlake.analyses.finetuning.model import TaskModel
from layerlake.analyses.finetuning.recipes import Recipe, make_recipe
from layerlake.analyses.finetuning.run_folder import WORK_FOLDER
from layerlake.analyses.finetuning.saved_state import write_tensors
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.analyses.finetuning.tasks.task import Task
from layerlake.engine.checkpoints import Checkpoint, explained
from layerlake.engine.lineage_record import LINEAGE_FILE, Lineage, write_lineage
from layerlake.engine.models import LoadedModel, load_model
from layerlake.store.errors import InvalidInput, StorageFailed

HEAD_FOLDER: Final = "head"
WEIGHTS_FILE: Final = "model.safetensors"
_HEAD_FORMAT: Final = "layerlake-head"
_HEAD_VERSION: Final = 1


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model, loaded to be asked."""

    loaded: LoadedModel
    model: TaskModel
    task: Task
    inventory: dict[str, Any]
    recipe: Recipe


def stored_pooler(checkpoint: Checkpoint) -> dict[str, torch.Tensor] | None:
    """Return the weights of the pooler that a checkpoint of a BERT has; None where it has none."""
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    for file in sorted(checkpoint.folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                ending = name.partition("pooler.")[2]
                if ending in ("dense.weight", "dense.bias"):
                    found[ending] = weights.get_tensor(name).float()
    return found if len(found) == 2 else None


def write_checkpoint(
    folder: Path,
    model: TaskModel,
    task: Task,
    inventory: Mapping[str, Any],
    recipe: Recipe,
    tokenizer: Any,
    pooler: Mapping[str, torch.Tensor] | None,
    lineage: Lineage,
) -> None:
    """Write a fine-tuned model; lineage, the last of it, says that all is there.

    Parameters
    ----------
    folder
        An existing one.
    model, task, inventory, recipe, tokenizer
        What was trained, and with what.
    pooler
        Of the encoder it was trained from; the head's own takes its place.
    lineage
        Where it came from.

    Raises
    ------
    StorageFailed
        It cannot be written; what lies there has no lineage then.
    """
    aside = folder / WORK_FOLDER / "checkpoint"
    encoder: Any = model.encoder
    try:
        (folder / LINEAGE_FILE).unlink(missing_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        (aside / HEAD_FOLDER).mkdir(parents=True)
        (folder / HEAD_FOLDER).mkdir(exist_ok=True)
        encoder.config.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        about = {
            "format": _HEAD_FORMAT,
            "format_version": _HEAD_VERSION,
            "task": task.name,
            "inventory": dict(inventory),
            "recipe": recipe.to_dict(),
            "encoder": lineage.weights_digest,
        }
        text = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False)
        (aside / HEAD_FOLDER / "config.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageFailed(f"cannot write {folder}: {error.strerror}") from error
    weights = dict(encoder.state_dict())
    weights |= {f"pooler.{name}": value for name, value in _pooler_of(model, pooler).items()}
    write_tensors(aside / WEIGHTS_FILE, _unshared(weights), {"format": "pt"})
    write_tensors(aside / HEAD_FOLDER / WEIGHTS_FILE, model.head.state_dict(), {"format": "pt"})
    try:
        for file in sorted(path for path in aside.rglob("*") if path.is_file()):
            file.replace(folder / file.relative_to(aside))
        shutil.rmtree(aside)
    except OSError as error:
        raise StorageFailed(f"cannot write {folder}: {error.strerror}") from error
    write_lineage(folder, lineage)


def _pooler_of(
    model: TaskModel, pooler: Mapping[str, torch.Tensor] | None
) -> Mapping[str, torch.Tensor]:
    """Return the pooler that belongs to the encoder: the head's where it has one of its kind."""
    if pooler is None:
        return {}
    mine = next((part for part in model.head.modules() if isinstance(part, Pooler)), None)
    return mine.state_dict() if mine is not None and mine.pool == "first" else pooler


def _unshared(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of which no two share memory, which safetensors does not store twice."""
    seen: set[int] = set()
    found = {}
    for name, tensor in weights.items():
        place = tensor.data_ptr()
        found[name] = tensor.clone() if place in seen and tensor.numel() else tensor
        seen.add(place)
    return found


def load_finetuned(
    folder: str, *, device: str = "auto", task: str | None = None, trust_remote_code: bool = False
) -> Finetuned:
    """Load a fine-tuned model with its head.

    Parameters
    ----------
    folder
        As `finetune` writes it.
    device
        As `load_model`.
    task
        The one that it must be for; None for any.
    trust_remote_code
        As `load_model`.

    Raises
    ------
    InvalidInput
        No such folder, no head in it, a head of another task or another encoder, or files that are
        damaged.
    """
    place = Path(folder).expanduser()
    about = _read_head(place, folder)
    trained = task_named(about["task"])
    if task is not None and task_named(task).name != trained.name:
        raise InvalidInput(
            f"{folder} has a head for {trained.name}, and {task} was asked for; give a model that "
            f"was fine-tuned for {task}"
        )
    recipe = make_recipe(trained.recipe_class, trained.name, about["recipe"])
    loaded = load_model(
        folder, device=device, compute_dtype="float32", trust_remote_code=trust_remote_code
    )
    if loaded.weights_digest != about["encoder"]:
        raise InvalidInput(
            f"the head of {folder} belongs to other weights (digest {about['encoder'][:12]}, and "
            f"the encoder's is {loaded.weights_digest[:12]}); restore the folder"
        )
    head = trained.head(loaded.module, about["inventory"], recipe)
    _load_weights(head, place / HEAD_FOLDER / WEIGHTS_FILE)
    model = TaskModel(loaded.module, head.to(loaded.device))
    return Finetuned(loaded, model.eval(), trained, about["inventory"], recipe)


def _read_head(place: Path, given: str) -> dict[str, Any]:
    file = place / HEAD_FOLDER / "config.json"
    if not place.is_dir():
        raise InvalidInput(f"no folder {given}; give one that `layerlake finetune` wrote")
    if not file.is_file():
        unfinished = (place / WORK_FOLDER).is_dir()
        advice = (
            "its training is not finished; run the same line of `layerlake finetune` again"
            if unfinished
            else "fine-tune it for a task with `layerlake finetune`, or give a folder it wrote"
        )
        raise InvalidInput(f"{given} has no head for any task; {advice}")
    with explained(f"{file} cannot be read", "restore the folder"):
        about = json.loads(file.read_text(encoding="utf-8"))
    kinds = {"task": str, "inventory": dict, "recipe": dict, "encoder": str}
    if not isinstance(about, dict) or about.get("format") != _HEAD_FORMAT:
        raise InvalidInput(f"{file} is no head of LayerLake; give a folder that it wrote")
    if about.get("format_version") != _HEAD_VERSION:
        raise InvalidInput(
            f"{file} has format version {about.get('format_version')}, and this LayerLake reads "
            f"{_HEAD_VERSION}; update LayerLake"
        )
    for name, kind in kinds.items():
        if not isinstance(about.get(name), kind):
            raise InvalidInput(f"{file} has no {name} as it should; restore the folder")
    return about


def _load_weights(module: nn.Module, file: Path) -> None:
    from safetensors.torch import load_file

    with explained(f"the weights {file} cannot be loaded", "restore the folder"):
        module.load_state_dict(load_file(file))
