"""What an extraction will do, fixed before the first forward pass: shown, refused, resumed.

A plan is a pure function of corpus, tokenizer, row set, model and settings. Its batches depend on
nothing else, so that a resumed extraction computes what the interrupted one would have.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.catalogue import (
    Source,
    check_variant,
    find_tokenization,
    resolve_corpus,
)
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.reading import Reading
from layerlake.engine.extraction.request import ExtractionRequest
from layerlake.engine.models.batching_check import ALONE, PADDED, batching_of
from layerlake.engine.models.sites import Place, split_sites
from layerlake.engine.progress import Progress, silent
from layerlake.engine.rows.choose import choose_rows
from layerlake.engine.settings import parse_layers
from layerlake.engine.tokenization.batching import MAX_WASTE, plan_digest, plan_window
from layerlake.engine.tokenization.tokenize import Tokenization
from layerlake.store import schema
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake
from layerlake.store.row_sets import RowSet
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan

if TYPE_CHECKING:
    from layerlake.engine.models.loading import LoadedModel


@dataclass(frozen=True)
class ExtractionPlan:
    """Everything about an extraction that is known before it runs."""

    set_plan: SetPlan
    tokenization: Tokenization = field(repr=False)
    rows: RowSet = field(repr=False)
    row_pieces: NDArray[np.int64] = field(repr=False)
    """First piece and one past the last piece of each row, shape (row, 2)."""
    corpus: Corpus = field(repr=False)
    places: tuple[Place, ...]
    """Site and layer of every array, in the order of the set's."""
    pooling: str
    token_budget: int
    batching: str = PADDED
    """How inputs go through the model together; see `engine.models.batching_check`."""
    auto_dtype: bool = False
    """Whether the first window may change the stored dtype to float32."""

    def stored_as(self, dtype: str) -> ExtractionPlan:
        """Return the same plan for a set of another dtype."""
        draft = self.set_plan
        contents = {**draft.contents, "dtype": dtype}
        layout = replace(draft.layout, dtype=dtype)
        return replace(self, set_plan=replace(draft, contents=contents, layout=layout))

    def with_about(self, about: dict[str, Any]) -> ExtractionPlan:
        """Return the same plan for a set that says something more about itself."""
        draft = self.set_plan
        return replace(self, set_plan=replace(draft, about={**draft.about, **about}))

    @property
    def n_bytes(self) -> int:
        """Bytes of activations on disk, before compression."""
        layout = self.set_plan.layout
        return layout.n_rows * layout.chunk_bytes // layout.chunk_rows * len(self.places)

    @property
    def peak_bytes(self) -> int:
        """Bytes of the two windows that are in memory at a time."""
        layout = self.set_plan.layout
        rows = min(layout.window_rows, layout.n_rows)
        window = rows * layout.chunk_bytes // layout.chunk_rows * len(self.places)
        return window * min(2, layout.n_windows)

    def n_pieces(self, windows: Iterable[int]) -> int:
        """Return the pieces that windows run; an input that two of them share counts twice."""
        lengths = np.diff(self.tokenization.input_offsets)
        return sum(int(lengths[self.inputs_of(window)].sum()) for window in windows)

    def inputs_of(self, window: int) -> NDArray[np.int64]:
        """Return the inputs that hold rows of a window, in corpus order."""
        start, stop = self.set_plan.layout.window(window)
        offsets = self.tokenization.input_offsets
        return np.unique(np.searchsorted(offsets, self.row_pieces[start:stop, 0], "right") - 1)

    def batches(self, window: int) -> list[NDArray[np.int64]]:
        """Return the batches of a window, each an array of inputs."""
        inputs = self.inputs_of(window)
        offsets = self.tokenization.input_offsets
        budget = 1 if self.batching == ALONE else self.token_budget
        waste = MAX_WASTE if self.batching == PADDED else 0.0
        plan = plan_window(offsets[inputs + 1] - offsets[inputs], budget, max_waste=waste)
        return [inputs[batch] for batch in plan]


def _row_pieces(tokenization: Tokenization, rows: RowSet) -> NDArray[np.int64]:
    if rows.unit == "piece":
        return np.stack([rows.row_id, rows.row_id + 1], axis=1)
    # Of the copies of a word one counts; its pieces are neighbours, and words ascend through the
    # corpus.
    places = np.flatnonzero((tokenization.piece_word >= 0) & ~tokenization.repeated)
    words = tokenization.piece_word[places]
    first = np.searchsorted(words, rows.row_id, "left")
    last = np.searchsorted(words, rows.row_id, "right") - 1
    return np.stack([places[first], places[last] + 1], axis=1)


def variant_name(source: str, randomize: int | None, truncate: int | None) -> str:
    """Return the name a variant gets where none is given."""
    name = schema.name_from(Path(source.rstrip("/")).name)
    if randomize is not None:
        name += f"-random-s{randomize}"
    if truncate is not None:
        name += f"-truncated-{truncate}"
    return name


def _places(
    model: LoadedModel, sites: Sequence[str], layers: Sequence[int]
) -> tuple[tuple[Place, ...], int]:
    """Return the places to take and their width, which all places of a set share."""
    from layerlake.engine.extraction.capture import resolve_places

    widths = resolve_places(model, sites, layers)
    if len(set(widths.values())) > 1:
        of_width: dict[int, list[str]] = {}
        for place, width in widths.items():
            if place.site not in of_width.setdefault(width, []):
                of_width[width].append(place.site)
        said = "; ".join(f"{', '.join(names)}: {width}" for width, names in of_width.items())
        raise InvalidInput(
            f"the sites of a set share one width, and these have several ({said}); extract those "
            "of each width by a line of their own"
        )
    return tuple(widths), next(iter(widths.values()))


def plan_extraction(
    lake: Lake,
    model: LoadedModel,
    corpus: Source,
    *,
    variant: str,
    corpus_name: str | None,
    reading: Reading,
    request: ExtractionRequest,
    progress: Progress = silent,
) -> ExtractionPlan:
    """Tokenise, choose rows and lay out the set, writing nothing.

    Parameters
    ----------
    lake, corpus, variant, corpus_name, progress
        As `extract`.
    model
        Loaded.
    reading
        How the corpus is read, where it is not of the lake.
    request
        What is asked for.

    Raises
    ------
    InvalidInput, NameNotFound, NameConflict
        As `extract`.
    """
    import torch

    from layerlake.engine.extraction.capture import trial_runs, withheld_inputs

    schema.check_name(variant, "variant")
    asked = split_sites(request.places.sites)
    chosen = parse_layers(request.places.layers, model.n_layers)
    check_variant(lake, variant, model)
    places, width = _places(model, asked, chosen)
    corpus_name, content = resolve_corpus(lake, corpus_name, corpus, reading, progress)
    inputs = request.inputs
    cut = find_tokenization(
        lake,
        corpus_name,
        content,
        model.tokenizer,
        packing=inputs.packing,
        long=inputs.long,
        limit=model.max_positions,
        bos=inputs.bos,
        chat=inputs.chat,
        progress=progress,
    )
    rows, storage = request.rows, request.storage
    row_set = choose_rows(
        content, cut, rows.rows, rows.unit, tokenizer=model.tokenizer, progress=progress
    )
    auto_dtype = storage.store_dtype == "auto"
    dtype = "float16" if auto_dtype else storage.store_dtype
    layout = ActivationLayout(len(row_set.row_id), width, dtype, storage.codec, storage.window_rows)
    contents: dict[str, Any] = {
        "row_set": row_set.fingerprint,
        "rows": row_set.settings["rows"],
        "unit": rows.unit,
        "pooling": rows.pooling if rows.unit == "word" else None,
        "tokenization": cut.fingerprint,
        "sites": list(dict.fromkeys(place.site for place in places)),
        "layers": sorted({place.layer for place in places}),
        "dtype": dtype,
        "codec": storage.codec,
    }
    if len(places) != len(contents["sites"]) * len(contents["layers"]):
        contents["arrays"] = [place.name for place in places]
    draft = ExtractionPlan(
        SetPlan(
            corpus_name,
            variant,
            contents,
            {},
            {},
            tuple(place.name for place in places),
            layout,
        ),
        cut,
        row_set,
        _row_pieces(cut, row_set),
        content,
        places,
        rows.pooling,
        request.token_budget,
        batching_of(model, partial(trial_runs, places=places)),
        auto_dtype,
    )
    recipe = {
        "weights": model.weights_digest,
        "compute_dtype": model.compute_dtype,
        "device": model.device.type,
        "attention": model.attention,
        "token_budget": request.token_budget,
        "batch_plan": plan_digest(draft.batches(w) for w in range(layout.n_windows)),
        "torch": torch.__version__,
    }
    if draft.batching != PADDED:
        recipe["batching"] = draft.batching
    if withheld := withheld_inputs(model.module):
        recipe["withheld"] = sorted(withheld)
    versions = {
        name: importlib.metadata.version(name) for name in ("layerlake", "transformers", "numpy")
    }
    about = {"source": model.source, "versions": versions}
    return replace(draft, set_plan=replace(draft.set_plan, recipe=recipe, about=about))
