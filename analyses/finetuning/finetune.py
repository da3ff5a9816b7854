"""Fine-tuning: a model, a task and data in; a checkpoint with its lineage out."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlake.analyses.finetuning.data import DataChoice, Sources
from layerlake.analyses.finetuning.recipes import make_recipe
from layerlake.analyses.finetuning.report import FinetuneReport
from layerlake.analyses.finetuning.settings import Settings
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.analyses.questions.choice import filled
from layerlake.engine.corpora.reading import Reading
from layerlake.engine.memory import parse_bytes
from layerlake.engine.models.checkpoints import require_transformers
from layerlake.engine.progress import Progress, automatic, check_progress
from layerlake.store.errors import InvalidInput, is_a

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.forecast import TrainingForecast
    from layerlake.analyses.finetuning.run import Run


def finetune(
    task: str,
    model: str | os.PathLike[str],
    train: Sources,
    dev: Sources | None = None,
    *,
    out: str | os.PathLike[str],
    seed: int = 0,
    freeze: int = -1,
    truncate: int | None = None,
    randomize: int | None = None,
    train_sample: int | str | None = None,
    keep: str = "last",
    format: str | None = None,
    text_field: str | None = None,
    pair_field: str | None = None,
    words_field: str | None = None,
    token_budget: int | None = None,
    save_steps: int | None = None,
    memory: int | str | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = automatic,
    **recipe: Any,
) -> FinetuneReport:
    """Fine-tune an encoder for a task, and keep encoder, head and lineage in a folder.

    The same call again goes on where it was stopped, or does nothing. With the same torch on one
    kind of CPU, as many threads and processes and the same `token_budget`, a run that was stopped
    ends in the same weights as one that was not.

    Parameters
    ----------
    task
        `mnli`, `snli`, `squad`, `dep`, `classify` or `tag`.
    model
        A folder or a hub name with an optional `@revision`; one that was fine-tuned before too.
    train
        A file, `hf://...`, a `Corpus`, or several of them, which are trained on as one.
    dev
        What is evaluated on after every epoch: one source, several, or a mapping from the names
        that their scores get. The first one selects where the best epoch is kept.
    out
        The folder that is written.
    seed
        Of the head's weights, the order of the examples and what drops out.
    freeze
        Keep the embeddings and the lowest so many blocks as they are; -1 keeps nothing, 0 the
        embeddings alone.
    truncate
        Keep so many blocks, with the head on the last of them.
    randomize
        A seed: begin from random weights of that architecture.
    train_sample
        Train on so many of the examples, drawn at random: `12000` or `12000@SEED`.
    keep
        `last`: the weights after the last epoch; `best`: after the one that scored best.
    format, text_field, pair_field, words_field
        As `read_corpus`; by default the format of the task.
    token_budget
        Most pieces that are computed at a time, padding included; by default 2048 on a CPU, 16384
        on a GPU. It decides memory; of what is learned only which units drop out.
    save_steps
        Save the state after so many updates; by default after every epoch, and every ten minutes.
    memory
        Most that weights, gradients, moments, a micro-batch and the data may take, as `6GiB`; more
        is refused before it starts. By default 8 GiB on a CPU, and what is free on a GPU.
    device
        `auto`, `cpu` or `cuda[:N]`. Started by `accelerate launch`, every process has its own.
    trust_remote_code
        Run code that comes with the model.
    progress
        Told of updates, with loss and score; see `engine.progress`.
    **recipe
        Entries of the task's recipe, such as `lr`, `epochs`, `batch`; see
        `analyses.finetuning.recipes`.

    Returns
    -------
    What was done: scores, updates, time.

    Raises
    ------
    InvalidInput
        Something given cannot be used.
    NameConflict
        The folder holds another run, or a model that is none of a run.
    TrainingDiverged
        The loss is no number any more.
    StorageFailed
        The disk is too small, which is said before anything is trained, or a write failed.
    MemoryRefused, MissingExtra, LakeBusy
        As their names say.
    """
    chosen = task_named(task)
    settings = Settings(
        task=chosen,
        model=_model_name(model),
        out=_folder(out),
        seed=seed,
        freeze=freeze,
        truncate=truncate,
        randomize=randomize,
        keep=keep,
        recipe=make_recipe(chosen.recipe_class, chosen.name, recipe),
        token_budget=token_budget,
        save_steps=save_steps,
        memory=_bytes(memory),
        device=device,
        trust_remote_code=trust_remote_code,
    )
    reading = Reading(format, text_field=text_field, pair_field=pair_field, words_field=words_field)
    data = DataChoice(train, dev, train_sample, reading)
    return _run_of(settings, data, progress).run(progress)


def _model_name(model: str | os.PathLike[str]) -> str:
    """Return a model's folder or hub name; raise `InvalidInput` for anything else."""
    if not is_a(model, str, os.PathLike):
        raise InvalidInput(f"{model!r} names no model; give a model's folder or a hub name")
    return os.fspath(model)


def _folder(out: str | os.PathLike[str]) -> Path:
    """Return the folder that is written; raise `InvalidInput` for anything that is no path."""
    if not is_a(out, str, os.PathLike):
        raise InvalidInput(f"out is {out!r}; give the folder that is to be written")
    return Path(out).expanduser()


def _bytes(memory: int | str | None) -> int | None:
    """Return an amount of memory in bytes; None for what the run finds."""
    return None if memory is None else parse_bytes(memory)


def _run_of(settings: Settings, data: DataChoice, progress: Progress) -> Run:
    """Return a run that is ready to be done, with its data read."""
    if settings.keep == "best" and not _named(data.dev):
        raise InvalidInput("the best epoch is told by a score; give data to evaluate on")
    check_progress(progress)
    require_transformers()
    from layerlake.analyses.finetuning.run import Run

    train = data.read_training(settings.task, progress)
    return Run(settings, train, data.read_dev(settings.task, progress))


def _named(dev: Sources | None) -> bool:
    """Say whether there is anything to evaluate on."""
    return dev is not None and not (is_a(dev, Mapping, list, tuple) and not dev)


def plan_finetune(
    task: str,
    model: str | os.PathLike[str],
    train: Sources,
    dev: Sources | None = None,
    *,
    out: str | os.PathLike[str],
    **options: Any,
) -> TrainingForecast:
    """Say what `finetune` would do with the same arguments; train a few updates, write nothing.

    Raises
    ------
    InvalidInput, NameConflict, StorageFailed, MemoryRefused, MissingExtra
        As `finetune`, before it trains.
    """
    bound = inspect.signature(finetune).bind(task, model, train, dev, out=out, **options)
    bound.apply_defaults()
    given = bound.arguments
    chosen = task_named(task)
    named = {
        "task": chosen,
        "model": _model_name(model),
        "out": _folder(out),
        "recipe": make_recipe(chosen.recipe_class, chosen.name, given["recipe"]),
        "memory": _bytes(given["memory"]),
    }
    settings = filled(Settings, given | named)
    data = filled(DataChoice, given | {"reading": filled(Reading, given)})
    return _run_of(settings, data, given["progress"]).forecast()
