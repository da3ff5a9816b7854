"""Evaluation: a fine-tuned model and data in; scores and predictions out."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlake.analyses.finetuning.data import Data, Sources, listed, read_dev
from layerlake.analyses.results.destinations import check_place
from layerlake.engine.corpora.hub import is_hub_name
from layerlake.engine.corpora.reading import Reading
from layerlake.engine.models.batching_check import batching_notes
from layerlake.engine.models.checkpoints import require_transformers
from layerlake.engine.models.lineage_record import Lineage, read_lineage
from layerlake.engine.progress import Progress, automatic, check_progress
from layerlake.engine.settings import whole_number
from layerlake.store.errors import InvalidInput, StorageFailed, is_a

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.tasks.task import Answers, Examples, Task


@dataclass(frozen=True)
class EvaluationReport:
    """How good a fine-tuned model is on some data."""

    model: str
    """The folder of the model."""
    task: str
    scores: dict[str, dict[str, float]]
    """By data, then by name; each from 0 to 1."""
    data: dict[str, dict[str, Any]]
    """By name: `files`, `fingerprint`, `n_examples`, and `n`, the examples that were scored."""
    weights_digest: str
    """Of the encoder."""
    seconds: float
    """Time that the model took to answer."""
    predictions: dict[str, str] = field(default_factory=dict)
    """By data, the file that predictions were written to."""
    notes: tuple[str, ...] = ()
    """What a person should know, a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: settings, identity and a record a score."""
        return {
            "settings": {"task": self.task, "model": self.model},
            "identity": {
                "weights_digest": self.weights_digest,
                "data": {name: about["fingerprint"] for name, about in self.data.items()},
            },
            "records": [
                {
                    "task": self.task,
                    "data": name,
                    "measure": measure,
                    "value": value,
                    "n": self.data[name]["n"],
                }
                for name, scores in self.scores.items()
                for measure, value in scores.items()
            ],
            "data": self.data,
            "predictions": self.predictions,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def evaluate(
    model: str | os.PathLike[str],
    data: Sources,
    *,
    task: str | None = None,
    out: str | os.PathLike[str] | None = None,
    format: str | None = None,
    text_field: str | None = None,
    pair_field: str | None = None,
    words_field: str | None = None,
    token_budget: int | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = automatic,
) -> EvaluationReport:
    """Score a fine-tuned model on data, and write what it says.

    Parameters
    ----------
    model
        A folder that `finetune` wrote.
    data
        One source, several, or a mapping from the names that their scores get; as `dev` of
        `finetune`.
    task
        The one that the model must have been fine-tuned for; None for any.
    out
        Where predictions go, in the task's own format: a file; a folder for several sources.
        SQuAD: a JSON object from ids to answers; dependency trees: CoNLL-U; others: JSON lines.
    format, text_field, pair_field, words_field
        As `read_corpus`; by default the format of the task.
    token_budget
        Most pieces that are computed at a time, padding included; by default 2048 on a CPU, 16384
        on a GPU.
    device
        `auto`, `cpu` or `cuda[:N]`. Started by `accelerate launch`, every process has its own.
    trust_remote_code
        Run code that comes with the model.
    progress
        Told of the inputs answered; see `engine.progress`.

    Returns
    -------
    The scores, and what they are of.

    Raises
    ------
    InvalidInput
        The folder holds no finished model with a head for the task, the data is none for it, or
        predictions cannot go where they are to.
    StorageFailed
        Predictions could not be written.
    MissingExtra
        As its name says.
    """
    check_progress(progress)
    require_transformers()
    from layerlake.analyses.finetuning.checkpoint import load_finetuned
    from layerlake.analyses.finetuning.run import TOKEN_BUDGET
    from layerlake.analyses.finetuning.training.trainer import answer
    from layerlake.analyses.runs.team import Team

    team = Team(device)
    folder = Path(model).expanduser()
    found = load_finetuned(
        str(folder), device="cpu", task=task, trust_remote_code=trust_remote_code
    )
    reading = Reading(format, text_field=text_field, pair_field=pair_field, words_field=words_field)
    sources = read_dev(data, found.task, reading=reading, progress=progress)
    files = [_file_of(source) for _, source in listed(data)]
    targets = _targets(out, [one.name for one in sources], files, found.task, folder)
    budget = TOKEN_BUDGET[team.device.type] if token_budget is None else token_budget
    budget = whole_number(budget, "token budget", 1)

    loaded = found.loaded
    encode = (loaded.tokenizer, loaded.max_positions, found.recipe, found.inventory)
    every = [found.task.encode(one.corpus, *encode, one.name) for one in sources]
    placed = found.model.to(team.device)
    batching = placed.batching(loaded)
    scores: dict[str, dict[str, float]] = {}
    began = time.perf_counter()
    for examples, file, target in zip(every, files, targets, strict=True):
        with progress(f"{found.task.name}, {examples.named}", examples.n_inputs, "inputs") as stage:
            answers = answer(
                placed,
                found.task,
                examples,
                found.task.answers(examples, found.inventory, found.recipe),
                found.recipe,
                team,
                loaded.pad_id,
                budget,
                batching,
                stage.advance,
            )
        scores[examples.named] = {key: float(value) for key, value in answers.scores().items()}
        if target is not None and team.leads:
            _write(answers, target, file)
    seconds = time.perf_counter() - began
    notes = [note for examples in every for note in examples.notes]
    notes += batching_notes(loaded.architecture, batching)
    notes += _seen_in_training(read_lineage(folder), sources)
    return EvaluationReport(
        model=str(folder),
        task=found.task.name,
        scores=scores,
        data={
            one.name: one.to_dict() | {"n": _n_scored(examples)}
            for one, examples in zip(sources, every, strict=True)
        },
        weights_digest=loaded.weights_digest,
        seconds=seconds,
        predictions={
            one.name: str(target)
            for one, target in zip(sources, targets, strict=True)
            if target is not None
        },
        notes=tuple(dict.fromkeys(notes)),
    )


def _file_of(source: Any) -> Path | None:
    """Return the file that a source is; None for what is no file."""
    if not is_a(source, str, os.PathLike) or is_hub_name(source):
        return None
    return Path(source)


def _n_scored(examples: Examples) -> int:
    """Return how many examples were answered."""
    return len(np.unique(examples.tokenization.input_example))


def _targets(
    out: str | os.PathLike[str] | None,
    names: list[str],
    files: list[Path | None],
    task: Task,
    model: Path,
) -> list[Path | None]:
    """Return the file that the predictions on each source go to.

    Raises
    ------
    InvalidInput
        A file with another suffix, in no folder, in the model's folder, or one of the data.
    """
    if out is None:
        return [None] * len(names)
    place = Path(out).expanduser()
    into_folder = len(names) > 1 or place.is_dir()
    if into_folder:
        chosen = [place / f"{name}{task.suffix}" for name in names]
        if place.exists() and not place.is_dir():
            raise InvalidInput(f"{place} is a file, and {len(names)} are written; name a folder")
        if not place.absolute().parent.is_dir():
            raise InvalidInput(
                f"there is no folder {place.parent} for {place.name}; create it, or choose "
                "another place"
            )
    else:
        lacking = f"say that it holds predictions for {task.name}"
        chosen = [check_place(place, [task.suffix], what="the predictions", lacking=lacking)]
    own = model.resolve()
    given = {file.resolve() for file in files if file is not None}
    for file in chosen:
        if file.resolve() in given:
            raise InvalidInput(
                f"{file} is what is evaluated on, and predictions do not go over it; choose "
                "another place"
            )
        if own in file.resolve().parents:
            raise InvalidInput(
                f"{file} lies in the folder of the model, which predictions stay out of; choose "
                "another place"
            )
    return list(chosen)


def _write(answers: Answers, target: Path, source: Path | None) -> None:
    """Write predictions, whole or not at all."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(exist_ok=True)
        answers.write(aside, source)
        aside.replace(target)
    except OSError as error:
        raise StorageFailed(
            f"the predictions cannot be written to {target}: {error.strerror}; choose another place"
        ) from error
    finally:
        with suppress(OSError):  # a read-only file system refuses this even where nothing lies
            aside.unlink()


def _seen_in_training(lineage: Lineage | None, sources: list[Data]) -> list[str]:
    """Return a sentence for each source that the model was trained on."""
    data = None if lineage is None else lineage.training.get("data")
    trained = data.get("train") if isinstance(data, dict) else None
    if not isinstance(trained, dict):
        return []  # what a folder from elsewhere says need not be said as ours is
    return [
        f"{one.name} is what the model was trained on; its scores say nothing of new examples"
        for one in sources
        if one.corpus.fingerprint == trained.get("fingerprint")
    ]
