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

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from layerlake.analyses.finetuning.heads.task_heads import Pooler
from layerlake.analyses.finetuning.heads.task_model import TaskModel
from layerlake.analyses.finetuning.recipes import Recipe, make_recipe
from layerlake.analyses.finetuning.run_files import WORK_FOLDER
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.analyses.finetuning.tasks.task import Task
from layerlake.analyses.runs.run_folder import BEGUN_FILE
from layerlake.analyses.runs.tensor_files import read_tensors, write_tensors
from layerlake.engine.models.adapters import base_of
from layerlake.engine.models.checkpoints import Checkpoint, explained
from layerlake.engine.models.lineage_record import LINEAGE_FILE, Lineage, write_lineage
from layerlake.engine.models.loading import LoadedModel, load_model
from layerlake.store.errors import InvalidInput, StorageFailed
from layerlake.store.folder import fsync

HEAD_FOLDER: Final = "head"
WEIGHTS_FILE: Final = "model.safetensors"
_HEAD_FORMAT: Final = "layerlake-head"
_HEAD_VERSION: Final = 1
_POOLER: Final = {"dense.weight": "pooler.dense.weight", "dense.bias": "pooler.dense.bias"}
_POOLER_OF: Final = {
    "albert": {"dense.weight": "pooler.weight", "dense.bias": "pooler.bias"},
}
"""What poolers' weights are called beside an encoder, by `config.model_type`, by our names."""
_RESTORE: Final = "restore the folder"
_MOST_BYTES: Final = 16 * 2**20
"""Of the config of a head, most of which are its labels."""


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

    if checkpoint.is_adapter:
        checkpoint = base_of(checkpoint, None)
    kind = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    names = _POOLER_OF.get(kind.get("model_type"), _POOLER)
    found: dict[str, torch.Tensor] = {}
    for file in sorted(checkpoint.folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for stored in weights.keys():  # noqa: SIM118
                for ours, name in names.items():
                    if stored == name or stored.endswith(f".{name}"):
                        found[ours] = weights.get_tensor(stored).float()
    return found if len(found) == len(names) else None


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
    config = copy.deepcopy(encoder.config)
    # What the parent was stored in would have the weights cast when they are loaded again.
    config.dtype = next(encoder.parameters()).dtype
    config.architectures = [type(encoder).__name__]
    if type(encoder).__name__.endswith("EncoderModel"):
        # The encoder of a T5 says that it is none of a pair, and would be taken for a whole one.
        config.is_encoder_decoder = type(config)().is_encoder_decoder
    about = {
        "format": _HEAD_FORMAT,
        "format_version": _HEAD_VERSION,
        "task": task.name,
        "inventory": dict(inventory),
        "recipe": recipe.to_dict(),
        "encoder": lineage.weights_digest,
    }
    text = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False)
    weights = dict(encoder.state_dict())
    names = _POOLER_OF.get(config.model_type, _POOLER)
    weights |= {names[name]: value for name, value in _pooler_of(model, pooler).items()}
    try:
        (folder / LINEAGE_FILE).unlink(missing_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        (aside / HEAD_FOLDER).mkdir(parents=True)
        config.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        (aside / HEAD_FOLDER / "config.json").write_text(text + "\n", encoding="utf-8")
        write_tensors(aside / WEIGHTS_FILE, _unshared(weights), {"format": "pt"}, checksums=False)
        # One entry of metadata alone: several would come in any order, and no two files be alike.
        write_tensors(aside / HEAD_FOLDER / WEIGHTS_FILE, model.head.state_dict(), {})
        _move_into(folder, aside)
    except OSError as error:
        if isinstance(error, StorageFailed):
            raise
        raise StorageFailed(
            f"cannot write {folder}: {error.strerror}; free some space and run the same line "
            "again, it resumes"
        ) from error
    write_lineage(folder, lineage)


def check_parts(folder: Path) -> None:
    """Refuse a folder with lineage of which a part is gone or cut short; weights are not read.

    Raises
    ------
    InvalidInput
        A file is not there, or is no whole safetensors file (it is named).
    """
    from safetensors import SafetensorError, safe_open

    advice = "restore it, or remove the folder to train anew"
    head = Path(HEAD_FOLDER)
    for part in (
        Path("config.json"),
        Path(WEIGHTS_FILE),
        head / "config.json",
        head / WEIGHTS_FILE,
    ):
        file = folder / part
        if not file.is_file():
            raise InvalidInput(f"{folder} has lineage, but no {part}; {advice}")
        if part.name == WEIGHTS_FILE:
            try:
                with safe_open(file, framework="pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise InvalidInput(f"{file} is damaged ({error}); {advice}") from error


def _move_into(folder: Path, aside: Path) -> None:
    """Move what was written aside into a folder, file by file, durably."""
    files = sorted(path for path in aside.rglob("*") if path.is_file())
    for file in files:
        fsync(file)
    places = {folder / file.relative_to(aside) for file in files}
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
    for file in files:
        file.replace(folder / file.relative_to(aside))
    for parent in {folder} | {place.parent for place in places}:
        fsync(parent)
    shutil.rmtree(aside)


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
    if task is not None:
        task_named(task)  # or it would be said of the folder
    try:
        trained = task_named(about["task"])
        recipe = make_recipe(trained.recipe_class, trained.name, about["recipe"])
    except InvalidInput as error:
        raise InvalidInput(
            f"{place / HEAD_FOLDER / 'config.json'} is not as it was written: {error}; {_RESTORE}"
        ) from error
    if task is not None and task_named(task).name != trained.name:
        raise InvalidInput(
            f"{folder} has a head for {trained.name}, and {task} was asked for; give a model that "
            f"was fine-tuned for {task}"
        )
    loaded = load_model(
        folder, device=device, compute_dtype="float32", trust_remote_code=trust_remote_code
    )
    if loaded.weights_digest != about["encoder"]:
        raise InvalidInput(
            f"the head of {folder} belongs to other weights (digest {about['encoder'][:12]}, and "
            f"the encoder's is {loaded.weights_digest[:12]}); {_RESTORE}"
        )
    file = place / HEAD_FOLDER / WEIGHTS_FILE
    _, weights = read_tensors(file, _RESTORE)
    with explained(f"the head of {folder} cannot be put together", _RESTORE):
        # Its config may ask for any width: memory is taken for what lies in the file alone.
        with torch.device("meta"):
            head = trained.head(loaded.module, about["inventory"], recipe)
        head.load_state_dict(weights, assign=True)
    if odd := [name for name, value in head.named_parameters() if value.dtype != torch.float32]:
        raise InvalidInput(f"{odd[0]} in {file} is not float32; {_RESTORE}")
    model = TaskModel(loaded.module, head.to(loaded.device))
    return Finetuned(loaded, model.eval(), trained, about["inventory"], recipe)


def _read_head(place: Path, given: str) -> dict[str, Any]:
    file = place / HEAD_FOLDER / "config.json"
    if not place.is_dir():
        raise InvalidInput(f"no folder {given}; give one that `layerlake finetune` wrote")
    if not (place / LINEAGE_FILE).is_file() and (place / WORK_FOLDER / BEGUN_FILE).is_file():
        raise InvalidInput(
            f"the training of {given} is not finished; run the same line of `layerlake finetune` "
            "again"
        )
    if not file.is_file():
        raise InvalidInput(
            f"{given} has no head for any task; fine-tune it for one with `layerlake finetune`, or "
            "give a folder that it wrote"
        )
    with explained(f"{file} cannot be read", _RESTORE), file.open("rb") as opened:
        raw = opened.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise InvalidInput(f"{file} is larger than {_MOST_BYTES // 2**20} MiB; {_RESTORE}")
        about = json.loads(raw.decode())
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
            raise InvalidInput(f"{file} has no {name} as it should; {_RESTORE}")
    for name, labels in about["inventory"].items():
        texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        if not texts or len(set(labels)) < len(labels):
            raise InvalidInput(f"the {name} in {file} are no list of different texts; {_RESTORE}")
    return about
