"""The training loop: update after update, the same for a seed whether it was stopped or not.

Everything drawn is a function of the seed and the number of the update: which inputs it sees, and
what drops out. So a run that goes on from a saved state ends in the weights of one that was never
stopped (with the same torch, on one kind of processor, with as many threads and processes, and the
same micro-batches: elsewhere products of matrices are rounded differently).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerlake.analyses.finetuning.heads.task_model import TaskModel
from layerlake.analyses.finetuning.recipes import Recipe
from layerlake.analyses.finetuning.tasks.task import Answers, Examples, Task
from layerlake.analyses.finetuning.training.batches import (
    OVERHEAD_PIECES,
    batches_of_epoch,
    micro_batches,
)
from layerlake.analyses.finetuning.training.optimiser import Optimiser
from layerlake.analyses.runs.team import Team
from layerlake.engine.models.batching_check import PADDED
from layerlake.store.errors import TrainingDiverged

_NAMED = 4
"""Examples of a batch that a message names."""


@dataclass(frozen=True)
class Update:
    """One update of the weights, as it was."""

    step: int
    """Counted from 1."""
    epoch: int
    """Counted from 1."""
    loss: float
    """Mean over the batch."""
    rate: float
    """Learning rate of the encoder."""
    norm: float
    """Of the gradient, before it was clipped."""
    n_pieces: int
    """Pieces of the batch, without padding."""


@dataclass(frozen=True)
class Trainer:
    """A model, the examples it is trained on, and how."""

    model: TaskModel
    task: Task
    examples: Examples
    recipe: Recipe
    seed: int
    team: Team
    inventory: Mapping[str, Any]
    pad_id: int
    most_pieces: int
    """Of a micro-batch, padding included."""
    batching: str = PADDED
    """How inputs go through the model together; see `engine.models.batching_check`."""

    @property
    def steps_of_epoch(self) -> int:
        """Updates of an epoch."""
        return math.ceil(self.examples.n_inputs / self.recipe.batch)

    @property
    def n_steps(self) -> int:
        """Updates in all."""
        return self.recipe.epochs * self.steps_of_epoch

    def optimiser(self) -> Optimiser:
        """Return the optimiser of the weights that are trained."""
        head_rate = self.recipe.lr if self.recipe.head_lr is None else self.recipe.head_lr
        parts = [
            (self.model.encoder, "encoder.", self.recipe.lr),
            (self.model.head, "head.", head_rate),
        ]
        return Optimiser(parts, self.recipe, self.n_steps)

    def updates(
        self, optimiser: Optimiser, done: int, on_epoch: Callable[[int], None]
    ) -> Iterator[Update]:
        """Train on from so many updates; yield each when it is done.

        Parameters
        ----------
        optimiser
            In the state after these updates.
        done
            How many were done before.
        on_epoch
            Called with the number of an epoch (from 1) when all its updates were yielded.

        Raises
        ------
        TrainingDiverged
            The loss or the gradient is no number; the update is not made.
        """
        weights = self.task.weights(self.examples)
        for epoch in range(done // self.steps_of_epoch, self.recipe.epochs):
            batches = batches_of_epoch(self.examples.n_inputs, self.recipe.batch, self.seed, epoch)
            for number, batch in enumerate(batches):
                step = epoch * self.steps_of_epoch + number
                if step >= done:
                    yield self._update(optimiser, step, batch, weights)
            on_epoch(epoch + 1)

    def _update(
        self,
        optimiser: Optimiser,
        step: int,
        batch: NDArray[np.int64],
        weights: NDArray[np.float64],
    ) -> Update:
        model, team = self.model.train(), self.team
        lengths = self.examples.tokenization.lengths[batch]
        whole = float(weights[batch].sum())
        total = torch.zeros((), device=team.device)
        for place, part in enumerate(self._share(lengths)):
            torch.manual_seed(_step_seed(self.seed, step, team.rank, place))
            laid = self.task.lay(self.examples, batch[part], self.pad_id).to(team.device)
            with precision(team.device, self.recipe):
                loss = self.task.loss(model(laid), laid) / whole
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        parameters = optimiser.parameters
        if team.size > 1:
            # What no process has a gradient of is left as it is, decay and all, as by one alone.
            has = torch.tensor([p.grad is not None for p in parameters]).to(total)
            team.add([has])
            used = [p for p, some in zip(parameters, has.tolist(), strict=True) if some]
            for parameter in used:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            team.add([total, *(p.grad for p in used if p.grad is not None)])
        bound = self.recipe.clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, bound))
        mean = float(total)
        if not math.isfinite(mean) or not math.isfinite(norm):
            names = self.examples.input_names(batch)
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            what = "loss" if not math.isfinite(mean) else "gradient"
            raise TrainingDiverged(
                f"the {what} is no number ({mean if what == 'loss' else norm}) at update "
                f"{step + 1} of {self.n_steps}, on the batch of {', '.join(names[:_NAMED])}{more}; "
                "lower the learning rate, or look at these examples"
            )
        factor = optimiser.update(step)
        optimiser.clear()
        return Update(
            step + 1,
            step // self.steps_of_epoch + 1,
            mean,
            self.recipe.lr * factor,
            norm,
            int(lengths.sum()),
        )

    def _share(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the micro-batches of this process."""
        overhead = OVERHEAD_PIECES[self.team.device.type]
        parts = micro_batches(lengths, self.most_pieces, overhead, self.batching)
        while len(parts) < min(self.team.size, len(lengths)):
            longest = max(range(len(parts)), key=lambda number: len(parts[number]))
            part = parts.pop(longest)
            parts += [part[: len(part) // 2], part[len(part) // 2 :]]
        return parts[self.team.rank :: self.team.size]

    def evaluate(
        self,
        examples: Examples,
        answers: Answers,
        on_inputs: Callable[[int], None] = lambda n: None,
    ) -> Answers:
        """Let the model answer all examples; parameters as `answer`."""
        return answer(
            self.model,
            self.task,
            examples,
            answers,
            self.recipe,
            self.team,
            self.pad_id,
            self.most_pieces,
            self.batching,
            on_inputs,
        )


def answer(
    model: TaskModel,
    task: Task,
    examples: Examples,
    answers: Answers,
    recipe: Recipe,
    team: Team,
    pad_id: int,
    most_pieces: int,
    batching: str = PADDED,
    on_inputs: Callable[[int], None] = lambda n: None,
) -> Answers:
    """Let a model answer all examples, without dropout.

    Parameters
    ----------
    model, task, recipe, team, pad_id, most_pieces, batching
        As `Trainer`.
    examples
        What is asked.
    answers
        What takes in what the model gives.
    on_inputs
        Called now and then with the number of inputs done since it was called last.

    Returns
    -------
    The answers, complete in every process.
    """
    model.eval()
    cut = examples.tokenization
    # All inputs of one example go to one process, which finds its answer.
    mine = np.flatnonzero(cut.input_example % team.size == team.rank)
    lengths = cut.lengths[mine]
    order = np.argsort(lengths, kind="stable")
    overhead = OVERHEAD_PIECES[team.device.type]
    with torch.inference_mode():
        for start in range(0, len(order), _SORTED_AT_ONCE):
            some = order[start : start + _SORTED_AT_ONCE]
            for part in micro_batches(lengths[some], most_pieces, overhead, batching):
                laid = task.lay(examples, mine[some[part]], pad_id).to(team.device)
                with precision(team.device, recipe):
                    outputs = model(laid)
                answers.add(outputs, laid)
                on_inputs(len(part))
    if team.size > 1:
        for rank, state in enumerate(team.gather(answers.state())):
            if rank != team.rank:
                answers.join(state)
    return answers


_SORTED_AT_ONCE = 256
"""Inputs among which micro-batches are cut at the least cost."""


@contextlib.contextmanager
def precision(device: torch.device, recipe: Recipe) -> Iterator[None]:
    """Run forward passes in the precision of the recipe."""
    if recipe.precision == "float32":
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16):
        yield


def _step_seed(seed: int, step: int, rank: int, place: int) -> int:
    """Return the seed of what drops out in one micro-batch."""
    text = f"dropout {seed} {step} {rank} {place}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") % 2**63
