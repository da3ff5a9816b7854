"""Carrying a plan out: windows computed and written, those that are missing and no others.

Two windows are in memory at most: one that is computed, one that is written. The first window of a
new set is computed before anything is written, since it says in which dtype the set can be stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.catalogue import add_variant, keep_inputs, same_weights
from layerlake.engine.extraction.plan import ExtractionPlan
from layerlake.engine.extraction.storage_error import (
    LARGEST_FLOAT16,
    MOST_LOST,
    StorageTrial,
    TooWide,
)
from layerlake.engine.extraction.window_runner import WindowRunner
from layerlake.engine.memory import require
from layerlake.engine.models.batching_check import batching_notes
from layerlake.engine.progress import Progress, silent
from layerlake.store.lake import Lake
from layerlake.store.sets import read_state
from layerlake.store.writer import SetWriter

if TYPE_CHECKING:
    from layerlake.engine.models.loading import LoadedModel


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
    store_dtype: str
    float32_because: str | None
    """Why `auto` chose float32; None where it did not."""
    storage_reliability: dict[str, float | None] | None
    """Of sets in float16, by array: 1 - RSA between rows as computed and as stored, on 2048 rows."""
    same_weights: tuple[str, ...]
    """Other variants of the lake with the same weights."""
    notes: tuple[str, ...] = ()
    """What to know of the rows, a sentence each."""


def run_extraction(
    lake: Lake,
    model: LoadedModel,
    plan: ExtractionPlan,
    *,
    allowed: int | None = None,
    progress: Progress = silent,
) -> ExtractionReport:
    """Compute and write the windows that are missing, then seal the set.

    Parameters
    ----------
    lake, model, plan
        As planned.
    allowed
        Bytes that windows may take, where the first one may ask for wider ones than planned.
    progress
        Told of the pieces run.

    Raises
    ------
    MemoryRefused
        Windows in float32 would take more; nothing is written then.
    """
    began = time.perf_counter()
    computed = 0
    plan = _begun(lake, plan)
    missing = _missing(lake, plan)
    with progress(plan.set_plan.path, plan.n_pieces(missing), "pieces") as stage:
        # What is computed already; taken out when it is written, so that nothing else holds it.
        ready: dict[int, dict[str, NDArray[Any]]] = {}
        if plan.set_plan.path not in lake.set_paths():
            plan, ready[0] = _first_window(model, plan, allowed, stage.advance)
        keep_inputs(lake, plan.set_plan.corpus, plan.corpus, plan.tokenization, plan.rows)
        add_variant(lake, plan.set_plan.variant, model, plan.tokenization.settings["tokenizer"])
        with SetWriter(lake.location, plan.set_plan) as writer:
            missing = np.flatnonzero(~writer.committed).tolist()
            if missing:
                runner = WindowRunner(model, plan)
                with runner.capture, ThreadPoolExecutor(1, "layerlake-writer") as pool:
                    for _ in _overlapped(pool, writer, runner, missing, ready, stage.advance):
                        computed += 1
            if not writer.sealed:
                writer.seal()
            plan = replace(plan, set_plan=writer.plan)
    return _report(lake, model, plan, missing, computed, time.perf_counter() - began)


def _begun(lake: Lake, plan: ExtractionPlan) -> ExtractionPlan:
    """Return the plan in the dtype that was chosen for its set, if that was begun."""
    present = lake.set_paths()
    if not plan.auto_dtype or plan.set_plan.path in present:
        return plan
    wider = plan.stored_as("float32")
    if wider.set_plan.path not in present:
        return plan
    # A float32 set that somebody asked for says nothing of what the first window would choose.
    about = read_state(lake.location, wider.set_plan.path).plan.about
    return wider if "float32_because" in about else plan


def _missing(lake: Lake, plan: ExtractionPlan) -> list[int]:
    """Return the windows that a set lacks; all, where there is no set."""
    if plan.set_plan.path not in lake.set_paths():
        return list(range(plan.set_plan.layout.n_windows))
    committed = read_state(lake.location, plan.set_plan.path).committed
    return [int(window) for window in np.flatnonzero(~committed)]


def _first_window(
    model: LoadedModel,
    plan: ExtractionPlan,
    allowed: int | None,
    on_pieces: Callable[[int], None],
) -> tuple[ExtractionPlan, dict[str, NDArray[Any]]]:
    """Compute window 0, and choose the dtype by it where that is left open."""
    layout = plan.set_plan.layout
    runner = WindowRunner(model, plan)
    if layout.dtype == "float32":
        with runner.capture:
            return plan, runner.window(0, on_pieces)
    start, stop = layout.window(0)
    trial = StorageTrial(stop - start, LARGEST_FLOAT16 if plan.auto_dtype else None)
    reason = ""
    try:
        with runner.capture:
            arrays = runner.window(0, on_pieces, trial)
    except TooWide as error:
        reason = str(error)
    else:
        lost = trial.lost(arrays)
        known = [(value, name) for name, value in lost.items() if value is not None]
        worst = max(known, default=(0.0, ""))
        about = {"storage_reliability": lost}
        if not plan.auto_dtype or worst[0] <= MOST_LOST:
            return plan.with_about(about), arrays
        reason = f"float16 would move an RSA of {worst[1]} by {worst[0]:.1g}"
    plan = plan.stored_as("float32").with_about({"float32_because": reason})
    if allowed is not None:
        require(
            plan.peak_bytes,
            allowed,
            f"extraction in float32 ({reason})",
            "ask for fewer --layers or smaller --window-rows, or allow more --memory",
        )
    runner = WindowRunner(model, plan)
    with runner.capture:
        return plan, runner.window(0, lambda _: None)


def forecast(lake: Lake, model: LoadedModel, plan: ExtractionPlan) -> ExtractionReport:
    """Say what `run_extraction` would do, and how long it would take; nothing is written."""
    plan = _begun(lake, plan)
    missing = _missing(lake, plan)
    seconds = 0.0
    if missing:
        runner = WindowRunner(model, plan)
        with runner.capture:
            seconds = runner.seconds(missing)
    return _report(lake, model, plan, missing, 0, seconds)


def _report(
    lake: Lake,
    model: LoadedModel,
    plan: ExtractionPlan,
    missing: Sequence[int],
    computed: int,
    seconds: float,
) -> ExtractionReport:
    layout = plan.set_plan.layout
    about = plan.set_plan.about
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
        layout.dtype,
        about.get("float32_because"),
        about.get("storage_reliability"),
        tuple(same_weights(lake, plan.set_plan.variant, model.weights_digest)),
        tuple(batching_notes(model.architecture, plan.batching)),
    )


def _overlapped(
    pool: ThreadPoolExecutor,
    writer: SetWriter,
    runner: WindowRunner,
    windows: Sequence[int],
    ready: dict[int, dict[str, NDArray[Any]]],
    on_pieces: Callable[[int], None],
) -> Iterator[int]:
    """Write each window while the next one is computed; yield those that are committed.

    Those that are ready are not computed again.
    """
    pending: tuple[int, Future[None]] | None = None
    for window in windows:
        arrays = ready.pop(window, None)
        if arrays is None:
            arrays = runner.window(window, on_pieces)
        if pending:
            pending[1].result()
            yield pending[0]
        pending = window, pool.submit(writer.write_window, window, arrays)
        del arrays
    if pending:
        pending[1].result()
        yield pending[0]
