"""The settings of an extraction: model, rows, inputs, sites and storage."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from layerlake.engine.settings import whole_number
from layerlake.engine.tokenization.batching import DEFAULT_TOKEN_BUDGET
from layerlake.engine.tokenization.packing import parse_packing
from layerlake.store import schema
from layerlake.store.errors import InvalidInput
from layerlake.store.storage import Storage

MOST_WINDOW_ROWS = 2**24
"""Rows of the largest window: of 768 values in float16, 26 GB a layer."""


@dataclass(frozen=True)
class ModelForm:
    """How a model is loaded; see `engine.models.loading.load_model`."""

    randomize: int | None = None
    """Seed of random weights."""
    truncate: int | None = None
    """Number of blocks that are kept."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda[:N]`."""
    compute_dtype: str = "auto"
    """What the forward pass runs in."""
    device_map: str | None = None
    """How the model is spread over all devices; None for one device."""
    base: str | None = None
    """Base model of an adapter; None for the one that it names."""

    def changed(self) -> list[str]:
        """Return the names of the settings that are not the usual ones."""
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]


@dataclass(frozen=True)
class RowChoice:
    """Which rows are stored; the pooling is checked when it is built."""

    rows: str = "all"
    """Steps, as `engine.rows.choose.choose_rows`."""
    unit: str = "piece"
    """What a row is: one of `store.row_sets.UNITS`."""
    pooling: str = "mean"
    """How the pieces of a word become its row: one of `schema.POOLINGS`."""

    def __post_init__(self) -> None:
        """Refuse a pooling that there is not."""
        if self.pooling not in schema.POOLINGS:
            poolings = ", ".join(schema.POOLINGS)
            raise InvalidInput(f"pooling {self.pooling!r} is not one of {poolings}")


@dataclass(frozen=True)
class InputChoice:
    """How texts become inputs of the model; the packing is checked when it is built."""

    packing: str = "single"
    """As `engine.tokenization.packing.parse_packing`."""
    long: str = "refuse"
    """What happens to examples over the model's limit: one of `inputs.LONG`."""
    bos: str = "auto"
    """Whether inputs begin with the BOS: one of `tokenize.BOS`."""
    chat: bool = False
    """Whether texts are written as turns, with the chat template."""

    def __post_init__(self) -> None:
        """Refuse a packing that cannot be read."""
        parse_packing(self.packing)


@dataclass(frozen=True)
class PlaceChoice:
    """Which layers of which sites are stored."""

    layers: str | int | Iterable[int] | None = None
    """As `engine.settings.parse_layers`."""
    sites: str | Iterable[str] = "resid"
    """As `engine.models.sites.split_sites`."""


@dataclass(frozen=True)
class ExtractionRequest:
    """What is asked of an extraction of any model and corpus; numbers are checked when it is built."""

    rows: RowChoice = field(default_factory=RowChoice)
    inputs: InputChoice = field(default_factory=InputChoice)
    places: PlaceChoice = field(default_factory=PlaceChoice)
    storage: Storage = field(default_factory=Storage)
    token_budget: int = DEFAULT_TOKEN_BUDGET
    """Most pieces of a batch."""

    def __post_init__(self) -> None:
        """Refuse numbers that are none, or out of bounds."""
        budget = whole_number(self.token_budget, "the token budget", 1)
        n_rows = whole_number(self.storage.window_rows, "window_rows", 1, MOST_WINDOW_ROWS)
        object.__setattr__(self, "token_budget", budget)
        object.__setattr__(self, "storage", replace(self.storage, window_rows=n_rows))
