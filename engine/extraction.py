"""Extraction: every layer of a model over a corpus, once, window by window into a set.

Two windows are in memory at most: one that is computed, one that is written. What is asked for is
fixed before the first forward pass (`ExtractionPlan`), so that it can be shown, refused, resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.batching import DEFAULT_TOKEN_BUDGET, pad_batch
from layerlake.engine.catalogue import (
    Source,
    add_variant,
)
from layerlake.engine.extraction_plan import ExtractionPlan, plan_extraction, variant_name
from layerlake.engine.memory import parse_bytes, require
from layerlake.engine.progress import Progress, silent
from layerlake.engine.tokenization import tokenizer_fingerprint
from layerlake.store import schema
from layerlake.store.errors import InvalidInput
from layerlake.store.reader import Lake
from layerlake.store.sets import read_state
from layerlake.store.writer import SetWriter

if TYPE_CHECKING:
    import torch

    from layerlake.engine.models import LoadedModel


TRIAL_BATCHES = 4
"""Batches that a dry run computes to say how long all will take."""


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did."""

    path: str
    corpus: str
    variant: str
    n_rows: int
    n_windows: int
    """Windows of the set."""
    n_missing: int
    """Windows that were missing when the call began."""
    n_computed: int
    """Windows computed by this call (0 where all was there, and in a dry run)."""
    n_pieces: int
    """Pieces that the missing windows run through the model."""
    n_bytes: int
    """Bytes of the set's activations, uncompressed."""
    peak_bytes: int
    """Most bytes of the windows in memory at a time."""
    seconds: float
    """Time that the call took; of a dry run, the time that the work would take."""


def _pooled(hidden: torch.Tensor, counts: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool consecutive pieces, shape (piece, hidden), into rows of `counts` pieces each."""
    import torch

    ends = torch.cumsum(counts, 0)
    if pooling == "first":
        return hidden[ends - counts]
    if pooling == "last":
        return hidden[ends - 1]
    owner = torch.repeat_interleave(torch.arange(len(counts), device=hidden.device), counts)
    out = torch.zeros(len(counts), hidden.shape[1], dtype=torch.float32, device=hidden.device)
    if pooling == "max":
        index = owner[:, None].expand_as(hidden)
        return out.scatter_reduce(0, index, hidden.float(), "amax", include_self=False)
    return out.index_add_(0, owner, hidden.float()) / counts[:, None]


class _Runner:
    """Computes the windows of a plan."""

    def __init__(self, model: LoadedModel, plan: ExtractionPlan) -> None:
        import torch

        from layerlake.engine.sites import Capture

        self.model = model
        self.plan = plan
        self.capture = Capture(model, plan.layers, plan.site)
        self.dtype = getattr(torch, plan.set_plan.layout.dtype)

    def seconds(self, windows: Sequence[int]) -> float:
        """Return about how long windows will take, from batches spread over the first of them."""
        plan = self.plan
        offsets = plan.tokenization.input_offsets
        batches = plan.batches(windows[0])
        chosen = np.linspace(0, len(batches) - 1, min(len(batches), TRIAL_BATCHES)).astype(int)
        pieces = 0
        self._trial(batches[chosen[0]])  # the first forward pass is slower
        began = time.perf_counter()
        for number in chosen:
            self._trial(batches[number])
            pieces += int((offsets[batches[number] + 1] - offsets[batches[number]]).sum())
        return (time.perf_counter() - began) / pieces * plan.n_pieces(windows)

    def _trial(self, batch: NDArray[np.int64]) -> None:
        import torch

        cut = self.plan.tokenization
        laid = pad_batch(
            cut.piece_ids, cut.segment_ids, cut.input_offsets, batch, self.model.pad_id
        )
        self.capture.run(*map(torch.from_numpy, laid))

    def window(self, window: int, on_pieces: Callable[[int], None]) -> dict[str, NDArray[Any]]:
        """Return the rows of a window, an array of shape (rows, hidden) for each layer."""
        plan = self.plan
        layout = plan.set_plan.layout
        start, stop = layout.window(window)
        out = {
            layer: np.empty((stop - start, layout.hidden), layout.dtype) for layer in plan.layers
        }
        offsets = plan.tokenization.input_offsets
        spans = plan.row_pieces[start:stop]
        # Rows ascend through the corpus, so those of an input are neighbours.
        row_input = np.searchsorted(offsets, spans[:, 0], "right") - 1
        for batch in plan.batches(window):
            low = np.searchsorted(row_input, batch, "left")
            high = np.searchsorted(row_input, batch, "right")
            self._batch(batch, low, high, spans, start, out)
            on_pieces(int((offsets[batch + 1] - offsets[batch]).sum()))
        return {f"{plan.site}/{layer}": rows for layer, rows in out.items()}

    def _batch(
        self,
        batch: NDArray[np.int64],
        low: NDArray[np.int64],
        high: NDArray[np.int64],
        spans: NDArray[np.int64],
        start: int,
        out: dict[int, NDArray[Any]],
    ) -> None:
        import torch

        cut = self.plan.tokenization
        ids, mask, segments = pad_batch(
            cut.piece_ids, cut.segment_ids, cut.input_offsets, batch, self.model.pad_id
        )
        width = ids.shape[1]
        rows = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
        owner = np.repeat(np.arange(len(batch)), high - low)
        counts = spans[rows, 1] - spans[rows, 0]
        firsts = owner * width + spans[rows, 0] - cut.input_offsets[batch][owner]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        flat = torch.from_numpy(np.repeat(firsts, counts) + within).to(self.model.device)
        sizes = torch.from_numpy(counts).to(self.model.device)
        taken = self.capture.run(*map(torch.from_numpy, (ids, mask, segments)))
        with torch.inference_mode():
            for layer, hidden in taken.items():
                values = hidden.reshape(-1, hidden.shape[-1]).index_select(0, flat)
                if self.plan.rows.unit == "word":
                    values = _pooled(values, sizes, self.plan.pooling)
                stored = values.to(self.dtype)
                if not bool(torch.isfinite(stored).all()):
                    self._refuse(layer, values, stored, rows + start)
                out[layer][rows] = stored.cpu().numpy()

    def _refuse(
        self, layer: int, values: torch.Tensor, stored: torch.Tensor, rows: NDArray[np.int64]
    ) -> None:
        import torch

        bad = int(torch.nonzero(~torch.isfinite(stored).all(dim=1))[0, 0])
        example = int(self.plan.rows.row_example[rows[bad]])
        where = f"layer {layer}, example {self.plan.corpus.example_name(example)!r}"
        if bool(torch.isfinite(values[bad]).all()):
            largest = float(values[bad].abs().max())
            raise InvalidInput(
                f"{where}: a value of {largest:.0f} does not fit float16 (65504 at most); extract "
                "with --store-dtype float32"
            )
        raise InvalidInput(
            f"{where}: the model gave NaN or infinite values; check the checkpoint, or compute "
            "with --compute-dtype float32"
        )


def run_extraction(
    lake: Lake,
    model: LoadedModel,
    plan: ExtractionPlan,
    *,
    progress: Progress = silent,
) -> ExtractionReport:
    """Compute and write the windows that are missing, then seal the set."""
    began = time.perf_counter()
    computed = 0
    with SetWriter(lake.location, plan.set_plan) as writer:
        missing = np.flatnonzero(~writer.committed).tolist()
        if missing:
            runner = _Runner(model, plan)
            with (
                runner.capture,
                ThreadPoolExecutor(1, "layerlake-writer") as pool,
                progress(plan.set_plan.path, plan.n_pieces(missing), "pieces") as stage,
            ):
                for _ in _overlapped(pool, writer, runner, missing, stage.advance):
                    computed += 1
        if not writer.sealed:
            writer.seal()
    return _report(plan, missing, computed, time.perf_counter() - began)


def forecast(lake: Lake, model: LoadedModel, plan: ExtractionPlan) -> ExtractionReport:
    """Say what `run_extraction` would do, and how long it would take; nothing is written."""
    layout = plan.set_plan.layout
    missing = list(range(layout.n_windows))
    if plan.set_plan.path in lake.set_paths():
        missing = np.flatnonzero(~read_state(lake.location, plan.set_plan.path).committed).tolist()
    seconds = 0.0
    if missing:
        runner = _Runner(model, plan)
        with runner.capture:
            seconds = runner.seconds(missing)
    return _report(plan, missing, 0, seconds)


def _report(
    plan: ExtractionPlan, missing: Sequence[int], computed: int, seconds: float
) -> ExtractionReport:
    layout = plan.set_plan.layout
    return ExtractionReport(
        plan.set_plan.path,
        plan.set_plan.corpus,
        plan.set_plan.variant,
        layout.n_rows,
        layout.n_windows,
        len(missing),
        computed,
        plan.n_pieces(missing),
        plan.n_bytes,
        plan.peak_bytes,
        seconds,
    )


def _overlapped(
    pool: ThreadPoolExecutor,
    writer: SetWriter,
    runner: _Runner,
    windows: Sequence[int],
    on_pieces: Callable[[int], None],
) -> Iterator[int]:
    """Write each window while the next one is computed; yield those that are committed."""
    pending: tuple[int, Future[None]] | None = None
    for window in windows:
        arrays = runner.window(window, on_pieces)
        if pending:
            pending[1].result()
            yield pending[0]
        pending = window, pool.submit(writer.write_window, window, arrays)
        del arrays
    if pending:
        pending[1].result()
        yield pending[0]


def extract(
    lake: Lake,
    model: str | LoadedModel,
    corpus: Source,
    *,
    variant: str | None = None,
    corpus_name: str | None = None,
    format: str | None = None,
    segment: str = "sentence",
    text_field: str | None = None,
    pair_field: str | None = None,
    words_field: str | None = None,
    rows: str = "all",
    unit: str = "piece",
    pooling: str = "mean",
    packing: str = "single",
    long: str = "refuse",
    layers: str | Sequence[int] | None = None,
    site: str = "resid",
    randomize: int | None = None,
    truncate: int | None = None,
    store_dtype: str = "float16",
    codec: str = "none",
    compute_dtype: str = "float32",
    device: str = "auto",
    token_budget: int = DEFAULT_TOKEN_BUDGET,
    window_rows: int = schema.WINDOW_ROWS,
    memory: int | str = "8GiB",
    dry_run: bool = False,
    progress: Progress = silent,
) -> ExtractionReport:
    """Run a model once over a corpus and keep its layers in a lake.

    The same call again resumes where it was stopped, or does nothing.

    Parameters
    ----------
    lake
        Opened for writing.
    model
        Hub name (`org/name@revision`), folder, or a `LoadedModel`.
    corpus
        Name in the lake, file, `Corpus`, or list of strings.
    variant, corpus_name
        Names in the lake; by default made from the model's and the file's.
    format, segment, text_field, pair_field, words_field
        How to read a file, as `read_corpus`.
    rows
        `all` pieces, or `sample:N@seed`.
    unit, pooling
        `piece`, or `word` with its pieces pooled by `mean`, `first`, `last` or `max`.
    packing, long
        `single` or `pair`; what to do with examples over the model's limit: `refuse`, `drop`,
        `split`.
    layers
        `0,8,16`, `0-4`, a sequence, or all.
    randomize, truncate
        As `load_model`.
    store_dtype, codec
        `float16` or `float32`; `none` or `lz4`.
    compute_dtype, device
        As `load_model`.
    token_budget
        Most pieces of a batch.
    window_rows
        Rows of a shard, a multiple of 1024.
    memory
        Bytes that the windows in memory may take.
    dry_run
        Say what would be done, and how long it would take, and write nothing.
    progress
        Told of examples tokenised, then of pieces run; see `engine.progress`.

    Returns
    -------
    What was done, or would be; the set's path among it.

    Raises
    ------
    InvalidInput, NameNotFound, NameConflict, LakeBusy, StorageFailed, MemoryRefused
        As their names say, each in one sentence.
    """
    from layerlake.engine.models import load_model

    if not dry_run:
        lake.require_writable()
    if isinstance(model, str):
        name = variant or variant_name(model, randomize, truncate)
        schema.check_name(name, "variant")
        loaded = load_model(
            model,
            randomize=randomize,
            truncate=truncate,
            device=device,
            compute_dtype=compute_dtype,
        )
    else:
        name = variant or variant_name(model.source, model.randomize, model.truncate)
        loaded = model
    options = {
        "name": corpus_name,
        "format": format,
        "segment": segment,
        "text_field": text_field,
        "pair_field": pair_field,
        "words_field": words_field,
    }
    plan = plan_extraction(
        lake,
        loaded,
        corpus,
        variant=name,
        corpus_options=options,
        rows=rows,
        unit=unit,
        pooling=pooling,
        packing=packing,
        long=long,
        layers=layers,
        site=site,
        store_dtype=store_dtype,
        codec=codec,
        token_budget=token_budget,
        window_rows=window_rows,
        keep=not dry_run,
        progress=progress,
    )
    require(
        plan.peak_bytes,
        parse_bytes(memory),
        "extraction",
        "ask for fewer --layers or smaller --window-rows, or allow more --memory",
    )
    if dry_run:
        return forecast(lake, loaded, plan)
    add_variant(lake, name, loaded, tokenizer_fingerprint(loaded.tokenizer))
    return run_extraction(lake, loaded, plan, progress=progress)
