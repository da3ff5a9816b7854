"""Which spaces of a lake are compared, and which rows of them: the same stimuli everywhere."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.catalogue import load_rows
from layerlake.engine.extraction.plan import parse_layers
from layerlake.engine.rows.seeded_draw import draw
from layerlake.store.errors import InvalidInput, NameNotFound
from layerlake.store.lake import Lake, nearest
from layerlake.store.row_sets import RowSet
from layerlake.store.sets import SetState
from layerlake.store.space import Space
from layerlake.store.tables import table_paths

DEFAULT_ROWS = 5000
"""Rows that are compared where nobody says how many."""


def asked_rows(rows: int | str | None) -> int | str | None:
    """Return a number of rows, `all`, or None for the default."""
    if rows is None or (isinstance(rows, str) and rows == "all"):
        return rows
    try:
        number = operator.index(rows)  # type: ignore[arg-type]
    except TypeError:
        number = int(rows) if isinstance(rows, str) and rows.isascii() and rows.isdigit() else -1
    if number < 1:
        raise InvalidInput(f"rows {rows!r} is neither a number above 0 nor all")
    return number


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


def _common_rows(sets: Sequence[RowSet]) -> list[NDArray[np.int64]]:
    """Return, for each row set, the indices of the rows that all of them hold."""
    first = sets[0]
    for other in sets[1:]:
        if other.unit == "piece" and (
            other.settings["tokenization"] != first.settings["tokenization"]
        ):
            raise InvalidInput(
                "the variants were cut by different tokenizers, so that their pieces are not the "
                "same stimuli; extract both with --unit word and compare words"
            )
    common = first.row_id
    for other in sets[1:]:
        common = np.intersect1d(common, other.row_id, assume_unique=True)
    return [np.searchsorted(rows.row_id, common) for rows in sets]


def draw_rows(
    lake: Lake,
    corpus: str,
    spaces: dict[tuple[str, int], Space],
    rows: int | str | None,
    seed: int,
    specials: bool,
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Return the drawn rows of each set, and the example of each row."""
    plans = {space.state.plan.path: space.state.plan for space in spaces.values()}
    kept: dict[str, RowSet] = {}
    row_sets = []
    for plan in plans.values():
        fingerprint = str(plan.contents["row_set"])
        if fingerprint not in kept:
            kept[fingerprint] = load_rows(lake, corpus, fingerprint)
        row_sets.append(kept[fingerprint])
    common = _common_rows(row_sets)
    if not specials:
        plain = ~row_sets[0].row_special[common[0]]
        common = [part[plain] for part in common]
    if rows is None:
        rows = min(DEFAULT_ROWS, len(common[0]))
    if rows != "all":
        if int(rows) > len(common[0]):
            raise InvalidInput(
                f"{rows} rows asked for, but the variants share {len(common[0])}; give fewer with "
                "--rows, or --rows all"
            )
        drawn = draw(row_sets[0].row_id[common[0]], int(rows), seed)
        common = [part[drawn] for part in common]
    clusters = row_sets[0].row_example[common[0]]
    return dict(zip(plans, common, strict=True)), clusters
