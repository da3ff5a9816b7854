"""Between the updates of a run: evaluating, saving, logging, and saying how far it is."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

from layerlake.analyses.finetuning.tasks.task import Examples
from layerlake.analyses.finetuning.training.optimiser import Optimiser
from layerlake.analyses.finetuning.training.saved_state import Progressed, save_best, save_state
from layerlake.analyses.finetuning.training.trainer import Trainer, Update
from layerlake.analyses.runs.event_log import EventLog
from layerlake.analyses.runs.run_folder import RunFolder
from layerlake.engine.progress import Stage

SAVE_SECONDS: Final = 600.0
"""Between two saves within an epoch, where no number of updates is named."""
LOG_SECONDS: Final = 5.0
"""Between two lines of the log, and two notes of the progress bar."""


class Loop:
    """Takes a run from where it is to its last update."""

    def __init__(
        self,
        trainer: Trainer,
        optimiser: Optimiser,
        dev: list[Examples],
        folder: RunFolder,
        identity: str,
        log: EventLog,
        stage: Stage,
        *,
        keeps_best: bool,
        save_steps: int | None,
    ) -> None:
        """Take what is trained and where it is saved; see `run.Run`."""
        self.trainer, self.optimiser, self.dev = trainer, optimiser, dev
        self.folder, self.identity, self.log, self.stage = folder, identity, log, stage
        self.keeps_best, self.save_steps = keeps_best, save_steps
        self._progressed = Progressed(0)
        self._since = self._saved_at = self._logged_at = time.monotonic()
        # The last shifts over evaluations and saves: rates in the log are those of training.
        self._losses: list[float] = []
        self._pieces = 0
        self._score = ""
        self._began = 0

    def run(self, progressed: Progressed) -> Progressed:
        """Train on to the end; return what was reached."""
        self._progressed = progressed
        self._began = progressed.step
        self._score = _score_text(progressed.history[-1]["scores"]) if progressed.history else ""
        for update in self.trainer.updates(self.optimiser, progressed.step, self._on_epoch):
            self._on_update(update)
        return self._progressed

    def _on_update(self, update: Update) -> None:
        self._progressed = replace(self._progressed, step=update.step)
        self._losses.append(update.loss)
        self._pieces += update.n_pieces
        self.stage.advance(1)
        now = time.monotonic()
        ends_epoch = update.step % self.trainer.steps_of_epoch == 0
        if ends_epoch or now - self._logged_at >= LOG_SECONDS:
            self._report(update, now)
        if ends_epoch:
            return  # saved with its evaluation
        if self.save_steps is not None:
            due = update.step % self.save_steps == 0
        else:
            # Every process must come to the same answer, so the clock of one decides.
            due = bool(self.trainer.team.gather(now - self._saved_at >= SAVE_SECONDS)[0])
        if due:
            self._save()

    def _report(self, update: Update, now: float) -> None:
        """Write a line of the log, and the note of the bar."""
        loss = sum(self._losses) / len(self._losses)
        seconds = now - self._logged_at
        seconds_an_update = (now - self._since) / (update.step - self._began)
        left = seconds_an_update * (self.trainer.n_steps - update.step)
        self.log.add(
            "trained",
            step=update.step,
            epoch=update.epoch,
            loss=round(loss, 6),
            rate=update.rate,
            norm=round(update.norm, 6),
            pieces_per_second=round(self._pieces / max(seconds, 1e-9), 1),
            seconds_left=round(left, 1),
        )
        self.stage.note(f"loss {loss:.3f}" + (f", {self._score}" if self._score else ""))
        self._losses, self._pieces, self._logged_at = [], 0, now

    def _on_epoch(self, epoch: int) -> None:
        """Evaluate on all of dev, and save."""
        if self.dev:
            trainer, began = self.trainer, time.monotonic()
            scores = {}
            for examples in self.dev:
                answers = trainer.task.answers(examples, trainer.inventory, trainer.recipe)
                found = trainer.evaluate(examples, answers).scores()
                scores[examples.named] = {name: float(value) for name, value in found.items()}
            step = self._progressed.step
            entry = {"epoch": epoch, "step": step, "scores": scores}
            self._progressed = replace(self._progressed, history=(*self._progressed.history, entry))
            self.log.add("evaluated", step=step, epoch=epoch, scores=scores)
            self._score = _score_text(scores)
            self.stage.note(self._score)
            if self.keeps_best and _is_best(self._progressed.history):
                self._progressed = replace(self._progressed, best=epoch)
                trainer.team.lead(lambda: save_best(self.folder.work, trainer.model, epoch))
            self._logged_at += time.monotonic() - began
        self._save()

    def _save(self) -> None:
        now = time.monotonic()
        spent = self._progressed.seconds + now - self._since
        self._progressed = replace(self._progressed, seconds=spent)
        self._since = now
        self._began = self._progressed.step
        self.trainer.team.lead(
            lambda: save_state(
                self.folder.work,
                self.identity,
                self.trainer.model,
                self.optimiser,
                self._progressed,
            )
        )
        self.log.add("saved", step=self._progressed.step)
        self._saved_at = time.monotonic()
        self._logged_at += self._saved_at - now


def _first_score(scores: dict[str, dict[str, float]]) -> tuple[str, float]:
    """Return name and value of the score that selects: the first on the first data."""
    first = next(iter(scores.values()))
    return next(iter(first.items()))


def _score_text(scores: dict[str, dict[str, float]]) -> str:
    name, value = _first_score(scores)
    return f"dev {name} {100 * value:.1f} %"


def _is_best(history: tuple[dict[str, Any], ...]) -> bool:
    """Say whether the last epoch is better than all before it; the first of equals is kept."""
    values = [_first_score(past["scores"])[1] for past in history]
    return all(values[-1] > value for value in values[:-1])
