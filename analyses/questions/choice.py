"""The spaces that a question is about: corpus, variants, layers, site and unit of rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from layerlake.analyses.questions.spaces import (
    RowChoice,
    all_names,
    corpora_of,
    open_spaces,
    pooling_among,
    pooling_notes,
    present_layers,
    sets_holding,
)
from layerlake.analyses.questions.units import (
    States,
    Unit,
    anchor_of,
    layers_left,
    layers_lost,
    unit_of,
)
from layerlake.analyses.results.record import Key
from layerlake.store.amounts import parse_bytes
from layerlake.store.errors import InvalidInput, is_a
from layerlake.store.lake import Lake
from layerlake.store.sources import check_pooling
from layerlake.store.space import Space

T = TypeVar("T")


@dataclass(frozen=True)
class SpaceChoice:
    """Spaces as they are asked for; what is left open is filled in by what the lake holds."""

    corpus: str | Iterable[str] | None = None
    """One or several; None for the only one with activations."""
    variants: str | Iterable[str] | None = None
    """None for all over the corpus."""
    layers: str | int | Iterable[int] | None = None
    """`0,8`, `0-4`, numbers, or None for all."""
    site: str = "resid"
    """Where in a block."""
    unit: str | None = None
    """`piece`, `word` or `example`; None for pieces, where those named share a tokenizer."""
    pooling: str = "mean"
    """How the pieces of a word, or of an example, are pooled."""
    specials: bool = False
    """Whether special pieces are pieces of an example."""
    memory: int | str | None = None
    """Most bytes to find out in which pieces make up rows; None for any."""

    def __post_init__(self) -> None:
        """Keep layers, which are read more than once; refuse units and poolings there are not."""
        if is_a(self.layers, Iterable) and not is_a(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers))  # type: ignore[arg-type]
        check_pooling(self.unit, None if self.unit == "piece" else self.pooling)

    def by_corpus(self) -> list[SpaceChoice]:
        """Return a choice for each corpus.

        Raises
        ------
        InvalidInput
            No corpora are named.
        """
        return [replace(self, corpus=one) for one in corpora_of(self.corpus)]

    def rows_of(self, unit: str) -> RowChoice:
        """Return what the rows are, the unit being known.

        Examples come as they were brought, or as the mean of their pieces, where nobody asks for
        another pooling.

        Raises
        ------
        InvalidInput
            Pieces are to be pooled.
        """
        if unit == "piece" and self.pooling != "mean":
            raise InvalidInput(
                f"pooling {self.pooling!r} is of words or examples, and rows are pieces; name the "
                "unit: --unit word or --unit example"
            )
        said = unit == "word" or (unit == "example" and self.pooling != "mean")
        pooling = self.pooling if said else None
        allowed = None if self.memory is None else parse_bytes(self.memory)
        return RowChoice(self.site, unit, pooling, self.specials, allowed)


def filled(build: Callable[..., T], given: Mapping[str, Any]) -> T:
    """Build a value from settings by the names of its parameters.

    Settings that the value has no parameter for are left to others; parameters without a setting
    keep their defaults.
    """
    names = inspect.signature(build).parameters
    return build(**{name: given[name] for name in names if name in given})


@dataclass(frozen=True)
class ChosenSpaces:
    """The spaces of one corpus that a choice comes to."""

    corpus: str
    unit: str
    pooling: str | None
    variants: tuple[str, ...]
    """Those that have such layers."""
    layers: tuple[int, ...]
    spaces: dict[Key, Space]
    """By variant and layer; a variant that lacks a layer has no space there."""
    notes: tuple[str, ...]
    """Which variants were left out, and why; how rows were pooled."""


def chosen_spaces(lake: Lake, choice: SpaceChoice, command: str) -> ChosenSpaces:
    """Return the spaces of a choice over one corpus; nothing is read of them.

    `command` is what people typed, for notes.

    Raises
    ------
    InvalidInput, NameNotFound, SetIncomplete
        As their names say.
    """
    (one,) = corpora_of(choice.corpus)
    corpus, names = all_names(lake, one, None, choice.variants)
    states = {name: lake.sets(corpus, name) for name in names}
    unit = Unit(choice.unit or "", tuple(names))
    lost: list[str] = []
    if choice.unit is None:
        anchor = anchor_of([(name,) for name in names], states)

        def enough(there: States) -> bool:
            """Say whether some sets of pieces have layers of the anchor: all that are asked for."""
            own, all_own = (
                layers_left({anchor: some[anchor]}, choice.site, choice.layers)[anchor]
                for some in (there, states)
            )
            return not all_own or (bool(own) and (choice.layers is None or own == all_own))

        unit = unit_of(
            corpus,
            states,
            choice.site,
            anchor=anchor,
            named=choice.variants is not None,
            enough=enough,
            command=command,
        )
        lost = layers_lost(unit, states, choice.site, choice.layers)
    rows = choice.rows_of(unit.name)
    optional = names if choice.variants is None else ()
    held, left_out = sets_holding(lake, corpus, unit.of(states), rows, optional=optional)
    layers = present_layers(choice.layers, {name: sorted(own) for name, own in held.items()})
    keys = [(name, layer) for name in held for layer in layers if layer in held[name]]
    spaces = open_spaces(lake, held, choice.site, keys)
    notes = (*unit.notes, *lost, *left_out, *pooling_notes(spaces))
    return ChosenSpaces(
        corpus,
        unit.name,
        pooling_among(spaces),
        tuple(held),
        tuple(layers),
        spaces,
        notes,
    )
