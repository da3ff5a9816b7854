"""Which spaces of a lake are asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from layerlake.analyses.results.record import Key
from layerlake.engine.settings import parse_layers
from layerlake.store.errors import InvalidInput, NameNotFound, is_a
from layerlake.store.lake import Lake, nearest
from layerlake.store.sets import SetState
from layerlake.store.space import Space, incomplete
from layerlake.store.tables import table_paths


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


def unit_of(lake: Lake, corpus: str, reference: str, unit: str | None) -> str:
    """Return the unit that was asked for; else pieces, or the only one that the reference has."""
    if unit is not None:
        return unit
    held = sorted({str(s.plan.contents["unit"]) for s in lake.sets(corpus, reference)})
    if "piece" in held or not held:
        return "piece"
    if len(held) > 1:
        raise InvalidInput(
            f"{reference} over {corpus} has rows of the units {', '.join(held)}; choose one with "
            "--unit"
        )
    return held[0]


def sets_holding(
    lake: Lake,
    corpus: str,
    names: Sequence[str],
    site: str,
    unit: str,
    pooling: str | None,
    *,
    optional: Container[str] = (),
) -> dict[str, dict[int, list[SetState]]]:
    """Return the sets of every variant that hold each layer, the ones to prefer last.

    Optional variants that hold none are left out, unless none of them holds any.

    Rows that most variants have come first: else two variants could share few of them though both
    hold the same sample.
    """
    states = {
        name: [
            state
            for state in lake.sets(corpus, name)
            if state.plan.contents["unit"] == unit and state.plan.contents.get("pooling") == pooling
        ]
        for name in names
    }
    shared = Counter(
        row_set
        for held in states.values()
        for row_set in {state.plan.contents["row_set"] for state in held if state.sealed}
    )

    def preference(state: SetState) -> tuple[bool, int, int, bool, str]:
        plan = state.plan
        wide = plan.layout.dtype == "float32"
        common = shared[plan.contents["row_set"]]
        return state.sealed, common, plan.layout.n_rows, wide, plan.set_id

    found: dict[str, dict[int, list[SetState]]] = {}
    kind = f"{unit} rows" + ("" if pooling is None else f" pooled by {pooling}")
    some_optional = any(
        array.rpartition("/")[0] == site
        for name in names
        if name in optional
        for state in states[name]
        for array in state.plan.arrays
    )
    for name, held in states.items():
        layers: dict[int, list[SetState]] = {}
        for state in sorted(held, key=preference):
            for array in state.plan.arrays:
                where, _, layer = array.rpartition("/")
                if where == site:
                    layers.setdefault(int(layer), []).append(state)
        if not layers and name in optional and some_optional:
            continue
        if not layers:
            other = sorted(
                {
                    f"{array.rpartition('/')[0]} of {s.plan.contents['unit']} rows"
                    + (f" pooled by {p}" if (p := s.plan.contents.get("pooling")) else "")
                    for s in lake.sets(corpus, name)
                    for array in s.plan.arrays
                }
            )
            raise NameNotFound(
                f"{name} over {corpus} has no {site} layers of {kind}; it has {', '.join(other)}; "
                "ask for one of those, or name other variants"
            )
        found[name] = layers
    return found


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
    held: Mapping[str, Mapping[int, list[SetState]]],
    site: str,
    keys: Iterable[Key],
) -> dict[Key, Space]:
    """Open each space once, from the set to prefer."""
    spaces: dict[Key, Space] = {}
    for name, layer in dict.fromkeys(keys):
        state = held[name][layer][-1]
        if not state.sealed:
            raise incomplete(state, np.flatnonzero(~state.committed))
        spaces[name, layer] = lake.space_of(state, site, layer)
    return spaces


def corpora_of(corpus: str | Iterable[str] | None) -> list[str | None]:
    """Return the corpora asked for, each once; None for the only one."""
    if is_a(corpus, str) or not is_a(corpus, Iterable):
        return [corpus]  # type: ignore[list-item]
    names = list(dict.fromkeys(corpus or ()))
    if not names or not all(is_a(name, str) for name in names):
        raise InvalidInput(f"corpus {names!r} names no corpora; give one name or several")
    return list(names)
