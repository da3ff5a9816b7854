"""One run of fine-tuning, from what was asked to the checkpoint; it resumes, or finds itself done."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from layerlake.analyses.finetuning.checkpoint import stored_pooler, write_checkpoint
from layerlake.analyses.finetuning.data import Data
from layerlake.analyses.finetuning.event_log import LOG_FILE, EventLog
from layerlake.analyses.finetuning.finetune import FinetuneReport
from layerlake.analyses.finetuning.model import TaskModel, check_shape, task_model
from layerlake.analyses.finetuning.recipes import Recipe, SentenceRecipe
from layerlake.analyses.finetuning.run_folder import WORK_FOLDER, RunFolder
from layerlake.analyses.finetuning.run_loop import Loop, load_best
from layerlake.analyses.finetuning.saved_state import Progressed, load_state
from layerlake.analyses.finetuning.tasks.task import Task
from layerlake.analyses.finetuning.team import Team
from layerlake.analyses.finetuning.training import Trainer
from layerlake.engine.checkpoints import locate
from layerlake.engine.lineage_record import Lineage, read_lineage
from layerlake.engine.models import load_model
from layerlake.engine.placement import weights_digest
from layerlake.engine.progress import Progress
from layerlake.engine.settings import whole_number
from layerlake.engine.tokenizer_backend import learn_template, open_backend, tokenizer_fingerprint
from layerlake.store.errors import InvalidInput, LayerLakeError, NameConflict
from layerlake.store.identity import settings_fingerprint

TOKEN_BUDGET: Final = {"cpu": 2048, "cuda": 16384}
"""Most pieces of a micro-batch where nobody says."""


@dataclass(frozen=True)
class Settings:
    """What was asked for; see `finetune`."""

    task: Task
    model: str
    out: Path
    seed: int
    freeze: int
    truncate: int | None
    randomize: int | None
    keep: str
    recipe: Recipe
    token_budget: int | None
    save_steps: int | None
    memory: int | str
    device: str
    trust_remote_code: bool


class Run:
    """A run with its model in memory."""

    def __init__(self, settings: Settings, train: Data, dev: list[Data]) -> None:
        """Load the model, cut the data into inputs, and refuse what cannot be.

        Parameters
        ----------
        settings
            What was asked for.
        train, dev
            The data, read.
        """
        self.settings = settings
        self.train_data, self.dev_data = train, dev
        self.team = Team(settings.device)
        self.folder = RunFolder(settings.out)
        if settings.save_steps is not None:
            whole_number(settings.save_steps, "save steps", 1)
        self.loaded = load_model(
            settings.model,
            randomize=settings.randomize,
            device="cpu",
            compute_dtype="float32",
            trust_remote_code=settings.trust_remote_code,
        )
        task, loaded = settings.task, self.loaded
        self.shape = check_shape(loaded, settings.freeze, settings.truncate)
        self.parent = {
            "source": loaded.source,
            "revision": loaded.revision,
            "weights_digest": loaded.weights_digest,
            "randomize": loaded.randomize,
        }
        self.pooler = None
        if settings.randomize is None:
            located = locate(settings.model, settings.trust_remote_code, weights=True)
            self.pooler = stored_pooler(located)
        self.recipe = _resolved(settings.recipe, loaded.tokenizer)
        self.inventory = task.inventory(train.corpus, self.recipe)
        encode = (loaded.tokenizer, loaded.max_positions, self.recipe, self.inventory)
        self.examples = task.encode(train.corpus, *encode, train.name)
        self.dev = [task.encode(data.corpus, *encode, data.name) for data in dev]
        self.identity = settings_fingerprint(self._identity())

    def _identity(self) -> dict[str, Any]:
        """Return all that decides the result."""
        return {
            "task": self.settings.task.name,
            "parent": self.parent["weights_digest"],
            "tokenizer": tokenizer_fingerprint(self.loaded.tokenizer),
            "seed": self.settings.seed,
            "freeze": self.shape.freeze,
            "truncate": self.shape.truncate,
            "keep": self.settings.keep,
            "recipe": self.recipe.to_dict(),
            "train": self.train_data.corpus.fingerprint,
            "dev": [[data.name, data.corpus.fingerprint] for data in self.dev_data],
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the data."""
        every = [*self.examples.notes, *(note for dev in self.dev for note in dev.notes)]
        return tuple(dict.fromkeys(every))

    def run(self, progress: Progress) -> FinetuneReport:
        """Train, evaluate and write; or find that all of it is done."""
        done = self._finished()
        if done is not None:
            return done
        with self.folder.held(leads=self.team.leads):
            log = EventLog(
                self.settings.out / LOG_FILE if self.team.leads else None, self.identity[:12]
            )
            try:
                return self._run(progress, log)
            except LayerLakeError as error:
                log.add("failed", error=str(error))
                raise

    def _finished(self) -> FinetuneReport | None:
        """Return the report of a run that lies there; refuse to write over another one."""
        out = self.settings.out
        if out.exists() and not out.is_dir():
            raise InvalidInput(f"{out} is a file; name a folder with --out")
        lineage = read_lineage(out) if out.is_dir() else None
        if lineage is None:
            if (out / "config.json").exists() and not (out / WORK_FOLDER).is_dir():
                raise NameConflict(
                    f"{out} holds a model that is not of this run; choose another --out"
                )
            return None
        finished = lineage.training.get("finished")
        if not isinstance(finished, dict) or finished.get("identity") != self.identity:
            raise NameConflict(
                f"{out} holds another run ({_differing(lineage.training, self._training())}); "
                "choose another --out, or remove it"
            )
        return FinetuneReport(
            folder=str(out),
            task=self.settings.task.name,
            seed=self.settings.seed,
            scores=lineage.training["scores"],
            epoch=finished["epoch"],
            n_steps=lineage.training["n_steps"],
            n_computed=0,
            n_examples=self.train_data.corpus.n_examples,
            seconds=finished["seconds"],
            weights_digest=lineage.weights_digest,
            parent=lineage.parent,
            notes=self.notes,
        )

    def _training(self) -> dict[str, Any]:
        """Return what lineage says of the training, before it is done."""
        return {
            "task": self.settings.task.name,
            "seed": self.settings.seed,
            "recipe": self.recipe.to_dict(),
            "freeze": self.shape.freeze,
            "keep": self.settings.keep,
            "data": {
                "train": self.train_data.to_dict(),
                "dev": {data.name: data.to_dict() for data in self.dev_data},
            },
        }

    def _run(self, progress: Progress, log: EventLog) -> FinetuneReport:
        settings, team = self.settings, self.team
        model = task_model(
            self.loaded,
            settings.task,
            self.inventory,
            self.recipe,
            self.shape,
            settings.seed,
            self.pooler,
        )
        budget = settings.token_budget
        if budget is None:
            budget = TOKEN_BUDGET[team.device.type]
        trainer = Trainer(
            model=model.to(team.device),
            task=settings.task,
            examples=self.examples,
            recipe=self.recipe,
            seed=settings.seed,
            team=team,
            inventory=self.inventory,
            pad_id=self.loaded.pad_id,
            most_pieces=whole_number(budget, "token budget", 1),
        )
        self.folder.require_space(model, keeps_best=settings.keep == "best")
        optimiser = trainer.optimiser()
        progressed = load_state(self.folder.work, self.identity, model, optimiser)
        if progressed is None:
            progressed = Progressed(0)
            log.add(
                "started",
                identity=self.identity,
                settings=self._training() | {"parent": self.parent},
                n_steps=trainer.n_steps,
            )
        else:
            log.add("resumed", step=progressed.step)
        began = progressed.step
        label = f"{settings.task.name}, seed {settings.seed}"
        with progress(label, trainer.n_steps, "updates") as stage:
            stage.advance(progressed.step)
            progressed = Loop(
                trainer, optimiser, self.dev, self.folder, self.identity, log, stage,
                keeps_best=settings.keep == "best", save_steps=settings.save_steps,
            ).run(progressed)  # fmt: skip
        return self._finish(model, progressed, log, trainer.n_steps, began)

    def _finish(
        self, model: TaskModel, progressed: Progressed, log: EventLog, n_steps: int, began: int
    ) -> FinetuneReport:
        """Write the checkpoint, and remove what a resume would have needed."""
        settings = self.settings
        epoch = self.recipe.epochs
        if progressed.best is not None:
            epoch = progressed.best
            load_best(model, self.folder.work)
        scores = next(
            (dict(past["scores"]) for past in progressed.history if past["epoch"] == epoch), {}
        )
        digest = weights_digest(model.encoder)
        training = self._training() | {
            "n_steps": n_steps,
            "scores": scores,
            "versions": _versions(self.team),
            "finished": {
                "identity": self.identity,
                "history": list(progressed.history),
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "epoch": epoch,
                "seconds": round(progressed.seconds, 3),
            },
        }
        lineage = Lineage(
            weights_digest=digest,
            parent=self.parent,
            truncate=self.shape.truncate,
            training=training,
        )
        if self.team.leads:
            write_checkpoint(
                settings.out,
                model,
                settings.task,
                self.inventory,
                self.recipe,
                self.loaded.tokenizer,
                self.pooler,
                lineage,
            )
            shutil.rmtree(self.folder.work, ignore_errors=True)
        self.team.wait()
        log.add("finished", step=n_steps, scores=scores, seconds=round(progressed.seconds, 3))
        return FinetuneReport(
            folder=str(settings.out),
            task=settings.task.name,
            seed=settings.seed,
            scores=scores,
            epoch=epoch,
            n_steps=n_steps,
            n_computed=n_steps - began,
            n_examples=self.train_data.corpus.n_examples,
            seconds=progressed.seconds,
            weights_digest=digest,
            parent=self.parent,
            notes=self.notes,
        )


def _resolved(recipe: Recipe, tokenizer: Any) -> Recipe:
    """Return a recipe in which nothing is left to be told by the model."""
    if not isinstance(recipe, SentenceRecipe) or recipe.pool != "auto":
        return recipe
    opens = learn_template(open_backend(tokenizer), 1).parts[0]
    return dataclasses.replace(recipe, pool="first" if opens else "last")


def _differing(then: dict[str, Any], now: dict[str, Any]) -> str:
    """Say the first thing in which two trainings differ."""
    for name in ("task", "seed", "freeze", "keep"):
        if then.get(name) != now[name]:
            return f"{name} {then.get(name)!r} there, {now[name]!r} asked"
    recipe = then.get("recipe") or {}
    for name, value in now["recipe"].items():
        if recipe.get(name) != value:
            return f"{name.replace('_', ' ')} {recipe.get(name)!r} there, {value!r} asked"
    return "another model or other data"


def _versions(team: Team) -> dict[str, Any]:
    """Return what the weights depend on beside the recipe."""
    found = {
        name: importlib.metadata.version(name) for name in ("layerlake", "torch", "transformers")
    }
    return found | {
        "device": team.device.type,
        "threads": str(torch.get_num_threads()),
        "processes": str(team.size),
    }
