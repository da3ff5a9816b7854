"""Extraction: every layer of a model over a corpus, once, window by window into a set.

What is asked for is fixed before the first forward pass (`ExtractionPlan`), so that it can be
shown, refused, resumed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from layerlake.engine.catalogue import Source
from layerlake.engine.corpora.reading import Reading
from layerlake.engine.extraction.plan import plan_extraction, variant_name
from layerlake.engine.extraction.request import (
    ExtractionRequest,
    InputChoice,
    ModelForm,
    PlaceChoice,
    RowChoice,
)
from layerlake.engine.extraction.run import ExtractionReport, forecast, run_extraction
from layerlake.engine.memory import parse_bytes, require
from layerlake.engine.progress import Progress, automatic, check_progress
from layerlake.engine.tokenization.batching import DEFAULT_TOKEN_BUDGET
from layerlake.store import schema
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake, require_lake
from layerlake.store.storage import Storage

if TYPE_CHECKING:
    import torch

    from layerlake.engine.models.loading import LoadedModel

    Model = str | os.PathLike[str] | LoadedModel | torch.nn.Module


def _loaded(model: Model, tokenizer: Any, form: ModelForm) -> LoadedModel:
    """Return a model ready to run, out of all that people may give for one."""
    from layerlake.engine.models.live import is_module, live_model
    from layerlake.engine.models.loading import LoadedModel, load_model

    if isinstance(model, str | os.PathLike):
        if tokenizer is not None:
            raise InvalidInput(
                "tokenizer= is for a live model; a folder or hub name comes with its own"
            )
        return load_model(os.fspath(model), **dataclasses.asdict(form))
    if not isinstance(model, LoadedModel) and not is_module(model):
        raise InvalidInput(
            f"a {type(model).__name__} is no model; give a folder, a hub name, a model of "
            "transformers, or what load_model returns"
        )
    if odd := form.changed():
        raise InvalidInput(
            f"{' and '.join(odd)} cannot be asked of a model that is loaded already; give its "
            "folder or hub name, or change the model yourself"
        )
    return model if isinstance(model, LoadedModel) else live_model(model, tokenizer)


def extract(
    lake: Lake,
    model: Model,
    corpus: Source,
    *,
    tokenizer: Any = None,
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
    bos: str = "auto",
    chat: bool = False,
    layers: str | int | Iterable[int] | None = None,
    sites: str | Iterable[str] = "resid",
    randomize: int | None = None,
    truncate: int | None = None,
    store_dtype: str = "auto",
    codec: str = "none",
    compute_dtype: str = "auto",
    device: str = "auto",
    device_map: str | None = None,
    base: str | None = None,
    token_budget: int = DEFAULT_TOKEN_BUDGET,
    window_rows: int = schema.WINDOW_ROWS,
    memory: int | str = "8GiB",
    dry_run: bool = False,
    progress: Progress = automatic,
) -> ExtractionReport:
    """Run a model once over a corpus and keep its layers in a lake.

    The same call again resumes where it was stopped, or does nothing.

    Parameters
    ----------
    lake
        Opened for writing.
    model, tokenizer
        Hub name (`org/name@revision`), folder (an adapter's too), a live model of transformers
        (with its `tokenizer`), or what `load_model` returns.
    corpus
        Name in the lake, file, `Corpus`, or list of strings.
    variant, corpus_name
        Names in the lake; by default made from the model's and the file's.
    format, segment, text_field, pair_field, words_field
        How to read a file, as `read_corpus`.
    rows
        What is kept: `all`, `last`, `first`, `cls`, `where upos=NOUN and position<64`,
        `cap:20`, `sample:N@seed by label`, or several of them parted by `;`; see `choose_rows`.
        Full context is always run.
    unit, pooling
        `piece`, or `word` with its pieces pooled by `mean`, `first`, `last` or `max`.
    packing, long, bos, chat
        How texts become inputs of the model, and what to do with those over its limit; see
        `engine.tokenization.tokenize.tokenize`.
    layers
        `0,8,16`, `0-4`, a sequence, or all.
    sites
        `resid,attn_out,mlp_out` and the others of `engine.models.sites`, all taken in one forward pass.
    randomize, truncate
        As `load_model`.
    store_dtype, codec
        `float16`, `float32`, or `auto`: float16 unless the first window shows values beyond 30,000,
        or that it would move an RSA by more than 1e-5; `none` or `lz4`.
    compute_dtype, device, device_map, base
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
    require_lake(lake)
    check_progress(progress)
    allowed = parse_bytes(memory)
    reading = Reading(format, segment, text_field, pair_field, words_field)
    form = ModelForm(randomize, truncate, device, compute_dtype, device_map, base)
    request = ExtractionRequest(
        RowChoice(rows, unit, pooling),
        InputChoice(packing, long, bos, chat),
        PlaceChoice(layers, sites),
        Storage(store_dtype, codec, window_rows),
        token_budget,
    )
    if not dry_run:
        lake.require_writable()
    if variant is not None:
        schema.check_name(variant, "variant")
    loaded = _loaded(model, tokenizer, form)
    if variant is None:
        given = os.fspath(model) if isinstance(model, str | os.PathLike) else loaded.source
        variant = variant_name(given, loaded.randomize, loaded.truncate)
    plan = plan_extraction(
        lake,
        loaded,
        corpus,
        variant=variant,
        corpus_name=corpus_name,
        reading=reading,
        request=request,
        progress=progress,
    )
    require(
        plan.peak_bytes,
        allowed,
        "extraction",
        "ask for fewer --layers or smaller --window-rows, or allow more --memory",
    )
    if dry_run:
        return forecast(lake, loaded, plan)
    return run_extraction(lake, loaded, plan, allowed=allowed, progress=progress)
