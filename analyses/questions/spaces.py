"""Which spaces of a lake are asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerlake.analyses.results.record import Key
from layerlake.engine.settings import parse_layers
from layerlake.store.errors import InvalidInput, LayerLakeError, NameNotFound, is_a
from layerlake.store.lake import Lake, nearest
from layerlake.store.sets import SetState
from layerlake.store.sources import Source, sources_of
from layerlake.store.space import Space
from layerlake.store.stored_space import incomplete
from layerlake.store.tables import table_paths


@dataclass(frozen=True)
class RowChoice:
    """Where in a block rows are taken, and what a row is."""

    site: str
    unit: str
    pooling: str | None
    """How the pieces of a row are pooled; None where nobody says."""
    specials: bool = False
    """Whether special pieces are pieces of an example."""
    memory: int | None = None
    """Most bytes to find out in which pieces make up rows; None for any."""

    @property
    def kind(self) -> str:
        """What messages call the rows."""
        return f"{self.unit} rows" + ("" if self.pooling is None else f" pooled by {self.pooling}")


def names_of(
    lake: Lake,
    corpus: str | None,
    reference: str | None,
    variants: str | Iterable[str] | None,
    *,
    alone: bool = False,
) -> tuple[str, list[str]]:
    """Return the corpus and the variants to compare, each of which has activations over it.

    Without a reference all variants; `alone` where the layers of one variant are something to
    compare.
    """
    corpora = table_paths(lake.location, "activations")
    if corpus is None:
        if len(corpora) != 1:
            raise InvalidInput(
                f"the lake has activations over {len(corpora)} corpora "
                f"({', '.join(corpora) or 'none'}); name one with --corpus"
            )
        corpus = corpora[0]
    lake.check_corpus(corpus)
    present = table_paths(lake.location, f"activations/{corpus}")
    if isinstance(variants, str):
        variants = [variants]
    chosen = [v for v in present if v != reference] if variants is None else list(variants)
    for what, names in (
        ("reference", [] if reference is None else [reference]),
        ("variant", chosen),
    ):
        for name in names:
            if name not in present:
                near = nearest(name, present)
                if what == "reference" and near.startswith("there are "):
                    near += "; choose one with --reference"
                raise NameNotFound(f"no activations of {what} {name!r} over {corpus}; {near}")
    if not chosen and (reference is None or not alone):
        raise InvalidInput(
            f"{corpus} holds {reference} alone; extract a variant to compare it with"
            if variants is None
            else "no variants asked for; name at least one"
        )
    twice = [name for name in chosen if chosen.count(name) > 1 or name == reference]
    if twice:
        raise InvalidInput(
            f"variant {twice[0]!r} is named twice, counting the reference; name each once"
        )
    return corpus, chosen


def sets_holding(
    lake: Lake,
    corpus: str,
    states: Mapping[str, Sequence[SetState]],
    choice: RowChoice,
    *,
    optional: Container[str] = (),
) -> tuple[dict[str, dict[int, list[Source]]], list[str]]:
    """Return what every variant's layers can be read from, the sources to prefer last, and notes.

    Optional variants that have none are left out, and named by a note, unless none of them has any.

    Rows that were written so come before rows pooled from pieces, and rows that most variants have
    before others: else two variants could share few of them though both hold the same sample. Of
    the same words, those of the tokenization that most variants have come first, then those of the
    one that was there first: else words in the context of other inputs would be compared.
    """
    sources: dict[str, list[Source]] = {}
    refused: dict[str, list[LayerLakeError]] = {}
    for name, held in states.items():
        sited = [state for state in held if choice.site in _sites(state)]
        sources[name], refused[name] = sources_of(
            lake.location,
            sited,
            choice.unit,
            choice.pooling,
            specials=choice.specials,
            memory=choice.memory,
        )
        if choice.pooling is None:  # not: pooled in any way
            sources[name] = [
                s for s in sources[name] if s.state.plan.contents.get("pooling") is None
            ]
    shared = Counter(
        row_set
        for own in sources.values()
        for row_set in {source.row_set for source in own if source.state.sealed}
    )
    cuts = _cuts_by_preference(sources)
    found: dict[str, dict[int, list[Source]]] = {}
    some_optional = any(own for name, own in sources.items() if name in optional)
    for name, own in sources.items():
        if own:
            found[name] = {}
            for source in sorted(
                own, key=lambda one: one.preference(shared[one.row_set], cuts.index(one.cut))
            ):
                for layer in _layers(source.state, choice.site):
                    found[name].setdefault(layer, []).append(source)
        elif name not in optional or not some_optional:
            raise _none_of(corpus, name, states[name], choice, refused[name])
    lacking = [name for name in sources if name not in found and not refused[name]]
    notes = [
        f"{name}: left out, since {refused[name][0]}"
        for name in sources
        if refused[name] and name not in found
    ]
    if lacking:
        notes.insert(0, f"{', '.join(lacking)}: left out, having no such layers of such rows")
    return found, notes


def _cuts_by_preference(sources: Mapping[str, Sequence[Source]]) -> list[str]:
    """Return the tokenizations of sources, the one to prefer last."""
    shared: Counter[str] = Counter()
    begun: dict[str, int] = {}
    for own in sources.values():
        shared.update({source.cut for source in own if source.state.sealed})
        for source in own:
            when = source.state.begun
            begun[source.cut] = min(when, begun.get(source.cut, when))
    latest_first = sorted(begun, key=lambda cut: (begun[cut], cut), reverse=True)
    return sorted(latest_first, key=lambda cut: shared[cut])


def _sites(state: SetState) -> set[str]:
    """Return the sites of a set."""
    return {array.rpartition("/")[0] for array in state.plan.arrays}


def _layers(state: SetState, site: str) -> list[int]:
    """Return the layers of a set at a site."""
    parts = (array.rpartition("/") for array in state.plan.arrays)
    return [int(layer) for where, _, layer in parts if where == site]


def _none_of(
    corpus: str,
    name: str,
    states: Sequence[SetState],
    choice: RowChoice,
    refused: Sequence[LayerLakeError],
) -> LayerLakeError:
    """Return the error for a variant that has no rows as they are asked for."""
    if refused:
        return refused[0]
    kinds = {
        f"{site} of {state.plan.contents['unit']} rows"
        + (f" pooled by {pooling}" if (pooling := state.plan.contents.get("pooling")) else "")
        for state in states
        for site in _sites(state)
    }
    units = sorted({str(state.plan.contents["unit"]) for state in states} - {choice.unit})
    how = f" ({' or '.join(f'--unit {unit}' for unit in units)})" if units else ""
    return NameNotFound(
        f"{name} over {corpus} has no {choice.site} layers of {choice.kind}; it has "
        f"{', '.join(sorted(kinds))}; ask for one of those{how}, or name other variants"
    )


def layers_of(
    layers: str | int | Iterable[int] | None,
    held: Mapping[str, Mapping[int, Any]],
    reference: str,
) -> list[int]:
    """Return the layers to compare, each of which the reference and another variant have."""
    own = sorted(held[reference])
    listed = ", ".join(map(str, own))
    if layers is None:
        wanted = own
    else:
        wanted = list(parse_layers(layers, max(own)))
        absent = [layer for layer in wanted if layer not in own]
        if absent:
            raise NameNotFound(f"{reference} has no layer {absent[0]} in the lake; it has {listed}")
    # Others are not compared, and the sets that hold them have no say in the rows.
    common = [w for w in wanted if any(w in held[v] for v in held if v != reference)]
    if not common:
        raise NameNotFound(
            f"no variant has layer {', '.join(map(str, wanted))} of {reference} in the lake; give "
            "other --layers, or extract them"
        )
    return common


def all_names(
    lake: Lake, corpus: str | None, reference: str | None, variants: str | Iterable[str] | None
) -> tuple[str, list[str]]:
    """Return the corpus and the variants of all pairs, the reference first where it is among them."""
    corpus, names = names_of(lake, corpus, None, variants, alone=True)
    if reference is not None and reference not in names:
        names = names_of(lake, corpus, reference, [*names], alone=True)[1]
        names = [reference, *names]
    first = reference or ("base" if "base" in names else names[0])
    return corpus, [first, *(name for name in names if name != first)]


def present_layers(
    layers: str | int | Iterable[int] | None, numbers: Mapping[str, Sequence[int]]
) -> list[int]:
    """Return the layers asked for, each of which some variant has."""
    present = sorted({layer for own in numbers.values() for layer in own})
    if layers is None:
        return present
    wanted = list(parse_layers(layers, max(present)))
    absent = [layer for layer in wanted if layer not in present]
    if absent:
        listed = ", ".join(map(str, present))
        raise NameNotFound(f"no variant has layer {absent[0]} in the lake; they have {listed}")
    return wanted


def open_spaces(
    lake: Lake,
    held: Mapping[str, Mapping[int, list[Source]]],
    site: str,
    keys: Iterable[Key],
) -> dict[Key, Space]:
    """Open each space once, from the source to prefer."""
    spaces: dict[Key, Space] = {}
    for name, layer in dict.fromkeys(keys):
        source = held[name][layer][-1]
        if not source.state.sealed:
            raise incomplete(source.state, np.flatnonzero(~source.state.committed))
        spaces[name, layer] = source.open(lake, site, layer)
    return spaces


def pooling_among(spaces: Mapping[Key, Space]) -> str | None:
    """Return how the rows of spaces are pooled; None where they all are as nobody says."""
    return next((space.pooling for space in spaces.values() if space.pooling), None)


def pooling_notes(spaces: Mapping[Key, Space]) -> list[str]:
    """Say which variants' rows are pooled from pieces, and what of the corpus is no row."""
    if all(space.unit == space.state.plan.contents.get("unit") for space in spaces.values()):
        return []
    from layerlake.store.views.pooled_rows import PooledSpace

    pooled = {v: space for (v, _layer), space in spaces.items() if isinstance(space, PooledSpace)}
    first = next(iter(pooled.values()))
    said = f"{', '.join(pooled)}: {first.unit}s are pooled ({first.pooling}) from stored pieces"
    missing = {name: space.groups.n_missing for name, space in pooled.items()}
    lost = [f"{count:,} of {name}" for name, count in missing.items() if count]
    if lost:
        said += f"; {first.unit}s without a piece, or whole in no input, are no rows: " + ", ".join(
            lost
        )
    return [said]


def corpora_of(corpus: str | Iterable[str] | None) -> list[str | None]:
    """Return the corpora asked for, each once; None for the only one."""
    if is_a(corpus, str) or not is_a(corpus, Iterable):
        return [corpus]  # type: ignore[list-item]
    names = list(dict.fromkeys(corpus or ()))
    if not names or not all(is_a(name, str) for name in names):
        raise InvalidInput(f"corpus {names!r} names no corpora; give one name or several")
    return list(names)
