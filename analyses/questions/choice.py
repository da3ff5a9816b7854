"""The spaces that a question is about: corpus, variants, layers, site and unit of rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from layerlake.analyses.questions.spaces import (
    all_names,
    corpora_of,
    open_spaces,
    present_layers,
    sets_holding,
    unit_of,
)
from layerlake.analyses.results.record import Key
from layerlake.store.lake import Lake
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
    """`piece`, `word` or `example`; None for pieces, or the only unit that there is."""
    pooling: str = "mean"
    """How the pieces of a word were pooled, where the unit is the word."""

    def by_corpus(self) -> list[SpaceChoice]:
        """Return a choice for each corpus.

        Raises
        ------
        InvalidInput
            No corpora are named.
        """
        return [replace(self, corpus=one) for one in corpora_of(self.corpus)]

    def pooling_of(self, unit: str) -> str | None:
        """Return how rows of a unit were pooled; None for rows that are not words."""
        return self.pooling if unit == "word" else None


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
    """Which variants were left out, and why."""


def chosen_spaces(lake: Lake, choice: SpaceChoice) -> ChosenSpaces:
    """Return the spaces of a choice over one corpus; nothing is read of them.

    Raises
    ------
    InvalidInput, NameNotFound, SetIncomplete
        As their names say.
    """
    (one,) = corpora_of(choice.corpus)
    corpus, names = all_names(lake, one, None, choice.variants)
    unit = unit_of(lake, corpus, names[0], choice.unit)
    pooling = choice.pooling_of(unit)
    optional = names if choice.variants is None else ()
    held = sets_holding(lake, corpus, names, choice.site, unit, pooling, optional=optional)
    left_out = [name for name in names if name not in held]
    notes = (f"{', '.join(left_out)}: left out, having no such layers of such rows",)
    layers = present_layers(choice.layers, {name: sorted(own) for name, own in held.items()})
    keys = [(name, layer) for name in held for layer in layers if layer in held[name]]
    spaces = open_spaces(lake, held, choice.site, keys)
    return ChosenSpaces(
        corpus, unit, pooling, tuple(held), tuple(layers), spaces, notes if left_out else ()
    )
