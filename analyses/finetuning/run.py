"""One run of fine-tuning, from what was asked to the checkpoint; it resumes, or finds itself done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import torch

from layerlake.analyses.finetuning.checkpoint import (
    check_parts,
    stored_pooler,
    write_checkpoint,
)
from layerlake.analyses.finetuning.data import Data
from layerlake.analyses.finetuning.forecast import TrainingForecast, forecast_training
from layerlake.analyses.finetuning.heads.task_model import check_shape, task_model
from layerlake.analyses.finetuning.report import FinetuneReport
from layerlake.analyses.finetuning.run_files import LOG_FILE, bytes_written, training_folder
from layerlake.analyses.finetuning.run_record import (
    RunRecord,
    difference,
    resolved,
    versions,
)
from layerlake.analyses.finetuning.settings import Settings
from layerlake.analyses.finetuning.tasks.task import Examples
from layerlake.analyses.finetuning.training.loop import Loop
from layerlake.analyses.finetuning.training.memory import training_plan
from layerlake.analyses.finetuning.training.saved_state import Progressed, load_best, load_state
from layerlake.analyses.finetuning.training.trainer import Trainer
from layerlake.analyses.runs.event_log import EventLog
from layerlake.analyses.runs.team import Team
from layerlake.engine.memory import MemoryPlan, require
from layerlake.engine.models.batching_check import PADDED, batching_notes
from layerlake.engine.models.checkpoints import locate
from layerlake.engine.models.lineage_record import Lineage, check_lineage, read_lineage
from layerlake.engine.models.loading import load_model
from layerlake.engine.models.placement import weights_digest
from layerlake.engine.progress import Progress
from layerlake.store.errors import InvalidInput, MemoryRefused, NameConflict, StorageFailed
from layerlake.store.identity import settings_fingerprint

_DEFAULT_BYTES: Final = 8 * 2**30
"""Most memory of a training on CPUs where nobody says."""

TOKEN_BUDGET: Final = {"cpu": 2048, "cuda": 16384}
"""Most pieces of a micro-batch where nobody says."""


class Run:
    """A run with its model in memory."""

    def __init__(self, settings: Settings, train: Data, dev: list[Data]) -> None:
        """Load the model, and refuse what it cannot be asked.

        Parameters
        ----------
        settings
            What was asked for.
        train, dev
            The data, read.
        """
        self.settings = settings
        self.team = Team(settings.device)
        self.folder = training_folder(settings.out)
        loaded = load_model(
            settings.model,
            randomize=settings.randomize,
            device="cpu",
            compute_dtype="float32",
            trust_remote_code=settings.trust_remote_code,
        )
        pooler = None
        if settings.randomize is None:
            pooler = stored_pooler(locate(settings.model, settings.trust_remote_code, weights=True))
        self.record = RunRecord(
            settings=settings,
            recipe=resolved(settings.recipe, loaded.tokenizer),
            shape=check_shape(loaded, settings.freeze, settings.truncate),
            loaded=loaded,
            pooler=pooler,
            train=train,
            dev=dev,
        )
        self.decides = self.record.decides()
        self.identity = settings_fingerprint(self.decides)

    def run(self, progress: Progress) -> FinetuneReport:
        """Train, evaluate and write; or find that all of it is done."""
        done = self.team.lead(self._found)
        if done is not None:
            return done
        with ExitStack() as stack:
            on_gpu = [self.team.device] if self.team.device.type == "cuda" else []
            # Training seeds torch anew for every micro-batch, which is no affair of the caller's.
            stack.enter_context(torch.random.fork_rng(devices=on_gpu))
            trainer, dev, _ = self._prepared()
            self.team.lead(lambda: stack.enter_context(self.folder.held()))
            # Another process may have been at it until now.
            done = self.team.lead(self._found)
            if done is not None:
                return done
            self.team.lead(lambda: self.folder.begin(self.decides))
            log = EventLog(
                self.settings.out / LOG_FILE if self.team.leads else None, self.identity[:12]
            )
            try:
                return self._run(trainer, dev, progress, log)
            except Exception as error:
                with suppress(StorageFailed):
                    log.add("failed", error=str(error) or type(error).__name__)
                raise

    def forecast(self) -> TrainingForecast:
        """Say what `run` would do, after a few updates; nothing is written."""
        settings = self.settings
        done = self.team.lead(self._found)
        on_gpu = [self.team.device] if self.team.device.type == "cuda" else []
        with torch.random.fork_rng(devices=on_gpu):
            trainer, dev, plan = self._prepared()
            optimiser = trainer.optimiser()
            step = trainer.n_steps
            if done is None:
                saved = load_state(self.folder.work, self.identity, trainer.model, optimiser)
                step = 0 if saved is None else saved.step
            seconds = forecast_training(trainer, dev, optimiser, step)
        cut = trainer.examples.tokenization
        trained = [p.numel() for p in trainer.model.parameters() if p.requires_grad]
        return TrainingForecast(
            folder=str(settings.out),
            task=settings.task.name,
            seed=settings.seed,
            n_examples=self.record.train.corpus.n_examples,
            n_inputs=cut.n_inputs,
            n_pieces=cut.n_pieces,
            n_steps=trainer.n_steps,
            n_done=step,
            n_weights=sum(trained),
            memory=plan.parts,
            disk=bytes_written(trainer.model, keeps_best=settings.keep == "best"),
            seconds=seconds,
            notes=self._notes(trainer, dev),
        )

    def _found(self) -> FinetuneReport | None:
        """Return the report of this run where it lies there done; refuse what is of another one."""
        out = self.settings.out
        if out.exists() and not out.is_dir():
            raise InvalidInput(f"{out} is a file; name a folder with --out")
        lineage = read_lineage(out) if out.is_dir() else None
        begun = self.folder.begun()
        if lineage is None:
            if begun is not None:
                self._refuse_other(begun, "the beginning of another run")
            elif (out / "config.json").exists():
                raise NameConflict(
                    f"{out} holds a model that is not of this run; choose another --out"
                )
            return None
        finished = lineage.training.get("finished")
        of = finished.get("of") if isinstance(finished, dict) else None
        if not isinstance(finished, dict) or not isinstance(of, dict):
            raise NameConflict(
                f"{out} holds a model that was trained otherwise; choose another --out"
            )
        self._refuse_other(of, "another run")
        check_parts(out)
        self.folder.clear()  # a process that was killed right at the end leaves it
        return self._report(lineage, n_computed=0)

    def _refuse_other(self, then: dict[str, Any], what: str) -> None:
        differing = difference(then, self.decides)
        if differing is not None:
            raise NameConflict(
                f"{self.settings.out} holds {what} ({differing}); choose another --out, or remove "
                "it"
            )

    def _prepared(self) -> tuple[Trainer, list[Examples], MemoryPlan]:
        """Cut the data into inputs and put the model together; refuse what has not the room."""
        settings, record, team = self.settings, self.record, self.team
        task, loaded = settings.task, record.loaded
        inventory = task.inventory(record.train.corpus, record.recipe)
        encode = (loaded.tokenizer, loaded.max_positions, record.recipe, inventory)
        examples = task.encode(record.train.corpus, *encode, record.train.name)
        dev = [task.encode(data.corpus, *encode, data.name) for data in record.dev]
        for each in (examples, *dev):
            if not each.n_inputs:
                raise InvalidInput(f"{each.named} holds no example that can be used; give others")
        # A name of a file may be no text; that is to be said now, and not when all is trained.
        about = record.training() | {"finished": {"of": self.decides}}
        check_lineage(Lineage(loaded.weights_digest, record.parent(), record.shape.truncate, about))
        model = task_model(
            loaded, task, inventory, record.recipe, record.shape, settings.seed, record.pooler
        )
        budget = settings.token_budget
        trainer = Trainer(
            model=model,
            task=task,
            examples=examples,
            recipe=record.recipe,
            seed=settings.seed,
            team=team,
            inventory=inventory,
            pad_id=loaded.pad_id,
            most_pieces=TOKEN_BUDGET[team.device.type] if budget is None else budget,
        )
        disk = bytes_written(model, keeps_best=settings.keep == "best")
        team.lead(lambda: self.folder.require_space(disk))
        with self._enough_memory(trainer):
            model.to(team.device)
            trainer = replace(trainer, batching=model.batching(loaded))
            plan = training_plan(
                trainer, dev, [data.corpus for data in (record.train, *record.dev)]
            )
        require(
            plan.needed,
            settings.memory or _free_bytes(team.device),
            f"training {task.name} from {loaded.source} with micro-batches of "
            f"{trainer.most_pieces} pieces",
            "lower --token-budget, freeze some layers with --freeze, or allow more --memory",
        )
        return trainer, dev, plan

    def _notes(self, trainer: Trainer, dev: list[Examples]) -> tuple[str, ...]:
        """Return what a person should know of the model and the data."""
        notes = [*trainer.examples.notes, *(note for each in dev for note in each.notes)]
        notes += batching_notes(self.record.loaded.architecture, trainer.batching)
        return tuple(dict.fromkeys(notes))

    @contextmanager
    def _enough_memory(self, trainer: Trainer) -> Iterator[None]:
        """Say in a sentence that a GPU is full."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise MemoryRefused(
                f"{self.team.device} has not the memory for micro-batches of "
                f"{trainer.most_pieces} pieces; lower --token-budget"
            ) from error

    def _run(
        self, trainer: Trainer, dev: list[Examples], progress: Progress, log: EventLog
    ) -> FinetuneReport:
        settings = self.settings
        optimiser = trainer.optimiser()
        progressed = load_state(self.folder.work, self.identity, trainer.model, optimiser)
        # Nobody writes before all have read.
        self.team.gather(None)
        if progressed is None:
            progressed = Progressed(0)
            log.add(
                "started",
                identity=self.identity,
                settings=self.record.training() | {"parent": self.record.parent()},
                n_steps=trainer.n_steps,
            )
        else:
            log.add("resumed", step=progressed.step)
        began = progressed.step
        label = f"{settings.task.name}, seed {settings.seed}"
        if began:
            # Only what is left counts, or the time that it takes would be told too low.
            label += f", from update {began:,} on"
        left = trainer.n_steps - began
        with self._enough_memory(trainer), progress(label, left, "updates") as stage:
            progressed = Loop(
                trainer, optimiser, dev, self.folder, self.identity, log, stage,
                keeps_best=settings.keep == "best", save_steps=settings.save_steps,
            ).run(progressed)  # fmt: skip
        return self._finish(trainer, progressed, log, began, list(self._notes(trainer, dev)))

    def _finish(
        self, trainer: Trainer, progressed: Progressed, log: EventLog, began: int, notes: list[str]
    ) -> FinetuneReport:
        """Write the checkpoint, and remove what a resume would have needed."""
        record, epoch = self.record, self.record.recipe.epochs
        if progressed.best is not None:
            epoch = progressed.best
            load_best(self.folder.work, trainer.model, epoch)
            self.team.gather(None)
        lineage = self._lineage(trainer, progressed, epoch, notes)

        def write() -> FinetuneReport:
            write_checkpoint(
                self.settings.out,
                trainer.model,
                self.settings.task,
                trainer.inventory,
                record.recipe,
                record.loaded.tokenizer,
                record.pooler,
                lineage,
            )
            finished = lineage.training["finished"]
            log.add(
                "finished",
                step=trainer.n_steps,
                scores=lineage.training["scores"],
                seconds=finished["seconds"],
            )
            self.folder.clear()
            return self._report(lineage, n_computed=trainer.n_steps - began)

        return self.team.lead(write)

    def _lineage(
        self, trainer: Trainer, progressed: Progressed, epoch: int, notes: list[str]
    ) -> Lineage:
        scores = next(
            (dict(past["scores"]) for past in progressed.history if past["epoch"] == epoch), {}
        )
        training = self.record.training() | {
            "n_steps": trainer.n_steps,
            "scores": scores,
            "versions": versions(self.team),
            "finished": {
                "identity": self.identity,
                "of": self.decides,
                "history": list(progressed.history),
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "epoch": epoch,
                "seconds": round(progressed.seconds, 3),
                "notes": notes,
            },
        }
        if trainer.batching != PADDED:
            training["batching"] = trainer.batching
        return Lineage(
            weights_digest=weights_digest(trainer.model.encoder),
            parent=self.record.parent(),
            truncate=self.record.shape.truncate,
            training=training,
        )

    def _report(self, lineage: Lineage, *, n_computed: int) -> FinetuneReport:
        training, finished = lineage.training, lineage.training["finished"]
        return FinetuneReport(
            folder=str(self.settings.out),
            task=self.settings.task.name,
            seed=self.settings.seed,
            scores=training["scores"],
            epoch=finished["epoch"],
            n_steps=training["n_steps"],
            n_computed=n_computed,
            n_examples=self.record.train.corpus.n_examples,
            seconds=finished["seconds"],
            weights_digest=lineage.weights_digest,
            parent=lineage.parent,
            notes=tuple(finished["notes"]),
        )


def _free_bytes(device: torch.device) -> int:
    """Return what may be used where nobody says: what is free on a GPU, else 8 GiB."""
    if device.type != "cuda":
        return _DEFAULT_BYTES
    used_here = torch.cuda.memory_reserved(device)
    return int(torch.cuda.mem_get_info(device)[0]) + used_here
