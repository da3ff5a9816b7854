"""Fine-tuning against the Trainer of transformers: the same model, examples and batch size."""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from layerlake.analyses.finetuning.recipes import Recipe, make_recipe
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.analyses.finetuning.tasks.task import Examples
from layerlake.bench.measuring import BenchResult, about, interleaved, peak_bytes_of
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.reading import read_corpus
from layerlake.engine.corpora.subset import take_examples
from layerlake.engine.models.loading import load_model
from layerlake.store.errors import InvalidInput
from layerlake.synthetic.english.generated_corpora import entailment_corpus, question_corpus

if TYPE_CHECKING:
    from layerlake.engine.models.loading import LoadedModel

BASELINE: Final = "transformers Trainer"
GROUPED: Final = "transformers Trainer, by length"
"""Its batches are of examples of like length: hardly padded, but no plain random ones."""
OURS: Final = "layerlake"
TASKS: Final = ("mnli", "squad")
GENERATED: Final = {"mnli": entailment_corpus, "squad": question_corpus}


@dataclass
class _Job:
    """One epoch of one task; every method trains it."""

    source: str
    task: str
    corpus: str | None
    n_examples: int
    batch: int
    threads: int

    @cached_property
    def model(self) -> LoadedModel:
        return load_model(self.source, device="cpu", compute_dtype="float32")

    @cached_property
    def recipe(self) -> Recipe:
        kind = task_named(self.task).recipe_class
        pool = {"pool": "first"} if self.task == "mnli" else {}
        return make_recipe(kind, self.task, {"epochs": 1, "batch": self.batch, **pool})

    @cached_property
    def content(self) -> Corpus:
        if self.corpus is None:
            return GENERATED[self.task](self.n_examples, 0)
        found = read_corpus(self.corpus, self.task)
        if self.n_examples > found.n_examples:
            raise InvalidInput(
                f"{self.n_examples:,} examples asked of {self.corpus}, which has "
                f"{found.n_examples:,}; give fewer"
            )
        return take_examples(found, np.arange(self.n_examples))

    @cached_property
    def examples(self) -> Examples:
        task = task_named(self.task)
        return task.encode(
            self.content,
            self.model.tokenizer,
            self.model.max_positions,
            self.recipe,
            task.inventory(self.content, self.recipe),
            "bench",
        )

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The inputs as the Trainer takes them."""
        examples = self.examples
        cut = examples.tokenization
        names = {
            "mnli": {"label": "labels"},
            "squad": {"start": "start_positions", "end": "end_positions"},
        }
        rows = []
        for index in range(examples.n_inputs):
            low, high = cut.input_offsets[index : index + 2]
            rows.append(
                {
                    "input_ids": cut.piece_ids[low:high].tolist(),
                    "token_type_ids": cut.segment_ids[low:high].tolist(),
                    **{
                        theirs: int(examples.targets[ours][index])
                        for ours, theirs in names[self.task].items()
                    },
                }
            )
        return rows

    def prepare(self) -> None:
        """Load what is no part of any method's work."""
        _ = self.model, self.examples, self.rows

    def layerlake(self) -> None:
        """Train an epoch with ours."""
        from layerlake.analyses.finetuning.heads.task_model import Shape, task_model
        from layerlake.analyses.finetuning.training.trainer import Trainer
        from layerlake.analyses.runs.team import Team

        task = task_named(self.task)
        inventory = task.inventory(self.content, self.recipe)
        loaded = copy.deepcopy(self.model)
        trainer = Trainer(
            model=task_model(loaded, task, inventory, self.recipe, Shape(), 0),
            task=task,
            examples=self.examples,
            recipe=self.recipe,
            seed=0,
            team=Team("cpu"),
            inventory=inventory,
            pad_id=loaded.pad_id,
            most_pieces=2048,
        )
        for _ in trainer.updates(trainer.optimiser(), 0, lambda epoch: None):
            pass

    def trainer(self, *, by_length: bool) -> None:
        """Train an epoch with the Trainer of transformers."""
        import transformers
        from transformers import DataCollatorWithPadding, TrainingArguments

        kind: Any = {
            "mnli": transformers.AutoModelForSequenceClassification,
            "squad": transformers.AutoModelForQuestionAnswering,
        }[self.task]
        options = {"num_labels": 3} if self.task == "mnli" else {}
        with _quiet(), tempfile.TemporaryDirectory(prefix="layerlake-bench-") as folder:
            module = kind.from_pretrained(self.source, **options)
            arguments: Any = TrainingArguments(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=self.batch,
                learning_rate=self.recipe.lr,
                weight_decay=self.recipe.weight_decay,
                warmup_steps=0.1,
                train_sampling_strategy="group_by_length" if by_length else "random",
                use_cpu=True,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                remove_unused_columns=False,
            )
            transformers.Trainer(
                model=module,
                args=arguments,
                train_dataset=self.rows,
                data_collator=DataCollatorWithPadding(self.model.tokenizer),
            ).train()

    def methods(self) -> dict[str, Callable[[], Any]]:
        return {
            BASELINE: lambda: self.trainer(by_length=False),
            GROUPED: lambda: self.trainer(by_length=True),
            OURS: self.layerlake,
        }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the Trainer prints off the terminal."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def run_alone(job: _Job, method: str) -> None:
    """Run one method as a process of its own does: load the model, read the corpus, train."""
    import torch

    torch.set_num_threads(job.threads)
    job.methods()[method]()


def run(
    model: str,
    *,
    tasks: Sequence[str] = TASKS,
    mnli: str | Path | None = None,
    squad: str | Path | None = None,
    n_examples: int = 320,
    batch: int = 32,
    repeats: int = 3,
    threads: int | None = None,
    memory: bool = True,
) -> BenchResult:
    """Measure one epoch of fine-tuning, in float32 on the CPU.

    Parameters
    ----------
    model
        Folder or hub name of a BERT.
    tasks
        `mnli`, `squad` or both.
    mnli, squad
        Files of these formats; by default pairs and questions are generated (`synthetic.english`).
    n_examples
        Pairs, or questions.
    batch
        Inputs of an update.
    repeats
        Runs of each method, medians taken.
    threads
        Of torch; by default one for each core.
    memory
        Also run each method once in a process of its own, and report its peak.

    Returns
    -------
    `ratio` is the CPU time of the Trainer with plain random batches over that of the method.
    """
    import torch

    before = torch.get_num_threads()
    threads = threads or before
    torch.set_num_threads(threads)
    files = {"mnli": mnli, "squad": squad}
    records: list[dict[str, Any]] = []
    try:
        for task in tasks:
            corpus = None if files[task] is None else str(files[task])
            records += _workload(
                _Job(model, task, corpus, n_examples, batch, threads), repeats, memory
            )
    finally:
        torch.set_num_threads(before)
    settings = {
        "model": Path(model).name,
        "tasks": list(tasks),
        "data": {
            task: "generated" if files[task] is None else Path(str(files[task])).name
            for task in tasks
        },
        "examples": n_examples,
        "batch": batch,
        "repeats": repeats,
    }
    described = about("torch", "transformers", "accelerate", torch_threads=threads)
    return BenchResult("finetune", described, settings, tuple(records))


def _workload(job: _Job, repeats: int, memory: bool) -> list[dict[str, Any]]:
    job.prepare()
    pieces = job.examples.tokenization.n_pieces
    timings = interleaved(job.methods(), repeats)
    records = []
    for name, timing in timings.items():
        alone = _Job(job.source, job.task, job.corpus, job.n_examples, job.batch, job.threads)
        peak = peak_bytes_of(run_alone, alone, name) if memory else None
        records.append(
            {
                "task": job.task,
                "pieces": pieces,
                "method": name,
                "wall_seconds": timing.wall_seconds,
                "cpu_seconds": timing.cpu_seconds,
                "pieces_per_second": pieces / timing.wall_seconds,
                "baseline": BASELINE,
                "ratio": timings[BASELINE].cpu_seconds / timing.cpu_seconds,
                "peak_mib": None if peak is None else peak / 2**20,
            }
        )
    return records
