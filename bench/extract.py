"""Extraction against its forward passes alone, and against the loop that one usually writes."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlake.bench.measuring import BenchResult, about, interleaved, peak_bytes_of
from layerlake.engine.batching import pad_batch
from layerlake.engine.corpora import read_corpus
from layerlake.engine.extraction import extract
from layerlake.engine.extraction_plan import ExtractionPlan, plan_extraction
from layerlake.engine.models import load_model
from layerlake.store import schema
from layerlake.store.errors import InvalidInput
from layerlake.store.reader import open_lake

if TYPE_CHECKING:
    from layerlake.engine.models import LoadedModel

BASELINE = "usual loop"
USUAL_BATCH = 32
CHECKED_ROWS = 512
"""Rows of every layer that are compared between the lake and the files of the usual loop."""


@dataclass
class _Job:
    """One model over the first examples of a corpus; every method runs this."""

    source: str
    corpus: Path
    format: str | None
    n_examples: int | None
    window_rows: int
    folder: Path

    @cached_property
    def model(self) -> LoadedModel:
        return load_model(self.source, device="cpu")

    @cached_property
    def texts(self) -> list[str]:
        return list(read_corpus(self.corpus, self.format).texts[: self.n_examples])

    @cached_property
    def plan(self) -> ExtractionPlan:
        nowhere = open_lake("memory://bench-extract", "a")
        return plan_extraction(
            nowhere,
            self.model,
            self.texts,
            variant="bench",
            corpus_options={"name": "bench"},
            window_rows=self.window_rows,
        )

    @cached_property
    def batches(self) -> list[Any]:
        """Every batch that an extraction runs, laid out."""
        cut = self.plan.tokenization
        return [
            pad_batch(cut.piece_ids, cut.segment_ids, cut.input_offsets, batch, self.model.pad_id)
            for window in range(self.plan.set_plan.layout.n_windows)
            for batch in self.plan.batches(window)
        ]

    @cached_property
    def padder(self) -> Any:
        """The tokenizer, with something to pad with: many decoders have nothing of the kind."""
        tokenizer = copy.deepcopy(self.model.tokenizer)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        return tokenizer

    def prepare(self) -> None:
        """Load what is no part of any method's work."""
        _ = self.model, self.texts, self.batches, self.padder
        self.forward_only(self.batches[:2])

    def forward_only(self, batches: Sequence[Any] | None = None) -> None:
        """Run the batches of an extraction through the model, and forget what comes out."""
        import torch

        with torch.inference_mode():
            for ids, mask, segments in self.batches if batches is None else batches:
                inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
                if "token_type_ids" not in self.padder.model_input_names:
                    del inputs["token_type_ids"]
                self.model.module(**{k: torch.from_numpy(v) for k, v in inputs.items()})

    def usual_loop(self) -> None:
        """Tokenise, run, keep and save as most scripts do: 32 texts at a time, `hidden_states`."""
        import torch

        kept: list[list[Any]] = [[] for _ in range(self.model.n_layers + 1)]
        for low in range(0, len(self.texts), USUAL_BATCH):
            inputs = self.padder(
                self.texts[low : low + USUAL_BATCH], padding=True, return_tensors="pt"
            )
            with torch.no_grad():
                out = self.model.module(**inputs, output_hidden_states=True)
            real = inputs["attention_mask"].bool()
            for rows, hidden in zip(kept, out.hidden_states, strict=True):
                rows.append(hidden[real].half().numpy())
        for layer, rows in enumerate(kept):
            np.save(self.folder / f"{layer}.npy", np.concatenate(rows))

    def layerlake(self, *, known: bool) -> None:
        """Extract into a new lake, or as a new variant into the one that holds the pieces."""
        place = self.folder / "lake"
        shutil.rmtree(place / "activations/bench" if known else place, ignore_errors=True)
        extract(
            open_lake(place, "a"),
            self.model,
            "bench" if known else self.texts,
            variant="bench",
            corpus_name="bench",
            window_rows=self.window_rows,
        )

    def methods(self) -> dict[str, Callable[[], None]]:
        return {
            "forward only": self.forward_only,
            BASELINE: self.usual_loop,
            "layerlake": partial(self.layerlake, known=False),
            "layerlake, next variant": partial(self.layerlake, known=True),
        }

    def padding(self) -> dict[str, float]:
        """Return pieces run over real pieces, for the plan of an extraction and the usual loop."""
        lengths = np.diff(self.plan.tokenization.input_offsets)
        usual = sum(
            len(batch) * int(batch.max())
            for batch in np.split(lengths, range(USUAL_BATCH, len(lengths), USUAL_BATCH))
        )
        ours = sum(ids.size for ids, _, _ in self.batches) / sum(
            int(mask.sum()) for _, mask, _ in self.batches
        )
        return {"layerlake": ours, BASELINE: usual / int(lengths.sum())}

    def difference(self) -> float:
        """Return the largest difference between the lake and the usual loop's files."""
        space_of = partial(open_lake(self.folder / "lake").space, "bench", "bench")
        worst = 0.0
        # The last hidden state is normalised in most decoders, so that it is another quantity.
        for layer in range(self.model.n_layers):
            theirs = np.load(self.folder / f"{layer}.npy", mmap_mode="r")
            chosen = np.linspace(0, len(theirs) - 1, CHECKED_ROWS).astype(int)
            ours = space_of(layer).rows(np.unique(chosen)).astype("float32")
            worst = max(worst, float(np.abs(ours - theirs[np.unique(chosen)]).max()))
        return worst


def run_alone(job: _Job, method: str, threads: int) -> None:
    """Run one method as a process of its own does: load the model, read the corpus, work."""
    import torch

    torch.set_num_threads(threads)
    job.methods()[method]()


def run(
    model: str,
    corpus: str | Path,
    *,
    format: str | None = None,
    n_examples: Sequence[int] | None = None,
    repeats: int = 3,
    threads: int | None = None,
    window_rows: int = schema.WINDOW_ROWS,
    memory: bool = True,
) -> BenchResult:
    """Measure every layer of a model over a corpus, in float32, stored as float16.

    Parameters
    ----------
    model
        Folder or hub name; on the CPU.
    corpus, format
        A file, as `read_corpus`.
    n_examples
        How many of its first examples, once or several times; by default all.
    repeats
        Runs of each method, medians taken.
    threads
        Of torch; by default one for each core.
    window_rows
        Rows of a shard.
    memory
        Also run each method once in a process of its own, and report its peak.

    Returns
    -------
    `ratio` is the baseline's wall time over the method's, `of_forward_only` the share of the wall
    time that the forward passes alone take, `padding` the pieces run over the real pieces,
    `difference` the largest difference to the baseline's rows (float16 steps).

    Raises
    ------
    InvalidInput
        Of model or corpus, as `load_model` and `read_corpus`.
    """
    import torch

    available = len(read_corpus(corpus, format).texts)
    sizes = list(n_examples or [available])
    if max(sizes) > available:
        raise InvalidInput(
            f"{max(sizes):,} examples asked of {corpus}, which has {available:,}; give fewer"
        )
    before = torch.get_num_threads()
    threads = threads or before
    torch.set_num_threads(threads)
    records: list[dict[str, Any]] = []
    try:
        for size in sizes:
            with tempfile.TemporaryDirectory(prefix="layerlake-bench-") as folder:
                job = _Job(model, Path(corpus), format, size, window_rows, Path(folder))
                records += _workload(job, repeats, threads, memory)
    finally:
        torch.set_num_threads(before)
    settings = {
        "model": job.model.source,
        "corpus": Path(corpus).name,
        "layers": job.model.n_layers + 1,
        "hidden": job.model.hidden,
        "examples": sizes,
        "repeats": repeats,
        "window_rows": window_rows,
    }
    described = about("torch", "transformers", "numpy", torch_threads=threads)
    return BenchResult("extract", described, settings, tuple(records))


def _workload(job: _Job, repeats: int, threads: int, memory: bool) -> list[dict[str, Any]]:
    job.prepare()
    padding = job.padding()
    pieces = job.plan.tokenization.n_pieces
    timings = interleaved(job.methods(), repeats)
    difference = job.difference()
    records = []
    for name, timing in timings.items():
        # A copy has loaded nothing yet, so that nothing is sent to the process but its names.
        alone = dataclasses.replace(job)
        peak = peak_bytes_of(run_alone, alone, name, threads) if memory else None
        records.append(
            {
                "examples": job.n_examples,
                "pieces": pieces,
                "method": name,
                "wall_seconds": timing.wall_seconds,
                "cpu_seconds": timing.cpu_seconds,
                "pieces_per_second": pieces / timing.wall_seconds,
                "padding": padding[BASELINE if name == BASELINE else "layerlake"],
                "baseline": BASELINE,
                "ratio": timings[BASELINE].wall_seconds / timing.wall_seconds,
                "of_forward_only": timings["forward only"].wall_seconds / timing.wall_seconds,
                "peak_mib": None if peak is None else peak / 2**20,
                "difference": difference if name.startswith("layerlake") else None,
            }
        )
    return records
