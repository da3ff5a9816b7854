"""The spaces of a corpus that are compared, with which, and over which rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from layerlake.analyses.questions.choice import SpaceChoice
from layerlake.analyses.questions.spaces import (
    all_names,
    corpora_of,
    layers_of,
    names_of,
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
from layerlake.store.errors import InvalidInput, NameNotFound, is_a
from layerlake.store.lake import Lake
from layerlake.store.sources import Source
from layerlake.store.space import Space
from layerlake.store.tables import table_paths

OWN: str = "own"
"""As the reference: each variant is compared with the one that it was made from."""


@dataclass(frozen=True)
class LakePairs:
    """The spaces of one corpus and site, and the pairs of them to compare."""

    corpus: str
    reference: str
    """As asked: a variant, or `own`."""
    variants: tuple[str, ...]
    """Compared, beside references."""
    unit: str
    pooling: str | None
    """How words were pooled; None for rows that are not words."""
    layers: tuple[int, ...]
    spaces: dict[Key, Space]
    pairs: tuple[KeyPair, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PairChoice:
    """Which spaces are compared with which; checked when built."""

    reference: str | None = None
    """A variant, `own` (the one that each variant was made from), or None for `base`."""
    reference_layer: int | None = None
    """Compare this layer of the reference with all others."""
    all_pairs: bool = False
    """Compare every space with every other one."""

    def __post_init__(self) -> None:
        """Refuse a layer that is no number."""
        layer = self.reference_layer
        if is_a(layer, bool) or not is_a(layer, int, type(None)):
            raise InvalidInput(f"reference_layer is {layer!r}; give the number of a layer")

    def check(self) -> None:
        """Refuse choices that exclude one another.

        Raises
        ------
        InvalidInput
            All pairs are asked for, and a layer or kind of reference with them.
        """
        if self.all_pairs and self.reference_layer is not None:
            raise InvalidInput(
                "all pairs and one layer of the reference are asked for; choose one of --all-pairs "
                "and --reference-layer"
            )
        if self.all_pairs and self.reference == OWN:
            raise InvalidInput(
                "all pairs have no reference, and --reference own is asked for; choose one of both"
            )


def pairs_of_lake(
    lake: Lake, choice: SpaceChoice, pairing: PairChoice, command: str = "layerlake rsa"
) -> LakePairs:
    """Choose the spaces of one corpus and the pairs of them.

    `command` is what people typed, for notes.

    Raises
    ------
    InvalidInput, NameNotFound, SetIncomplete
        As their names say.
    """
    pairing.check()
    reference, reference_layer = pairing.reference, pairing.reference_layer
    variants, layers, site = choice.variants, choice.layers, choice.site
    (corpus,) = corpora_of(choice.corpus)
    every_pair = pairing.all_pairs
    everyone = variants is None
    notes: list[str] = []
    if every_pair:
        corpus, names = all_names(lake, corpus, reference, variants)
        references: dict[str, str] = {}
        first = names[0]
    else:
        corpus, names, references, notes = _with_references(
            lake, corpus, reference, variants, alone=reference_layer is not None
        )
        first = next(iter(references.values()), names[0])
    states = {name: lake.sets(corpus, name) for name in names}
    unit = Unit(choice.unit or "", tuple(names))
    if choice.unit in (None, "piece"):

        def enough(there: States) -> bool:
            """Say whether some sets of pieces leave a pair to compare."""
            left = layers_left(there, site, layers)
            if every_pair:
                return sum(map(len, left.values())) > 1
            if reference_layer is None:
                return any(left[v] & left[r] for v, r in references.items() if v != r)
            one = {r: {reference_layer} & own for r, own in layers_left(there, site).items()}
            return any(
                one[r] and left[v] - (one[r] if v == r else set()) for v, r in references.items()
            )

        groups: list[tuple[str, ...]] = [(first,)]
        if reference == OWN:
            groups = [(r, v) for v, r in references.items()]
        elif every_pair and reference is None:
            groups = [(name,) for name in names]
        unit = unit_of(
            corpus,
            states,
            site,
            anchor=anchor_of(groups, states),
            named=not everyone,
            enough=enough,
            command=command,
            only_pieces=choice.unit is not None,
        )
        notes += [*unit.notes, *(layers_lost(unit, states, site, layers) if every_pair else ())]
        names = [name for name in names if name in unit.variants]
        references = {v: r for v, r in references.items() if v in names and r in names}
        first = first if first in names else names[0]
    rows = choice.rows_of(unit.name)
    needed = set(references.values()) or {first}
    held, left_out = sets_holding(
        lake,
        corpus,
        unit.of(states),
        rows,
        optional=[name for name in names if name not in needed] if everyone else (),
    )
    notes += left_out
    names = [name for name in names if name in held]
    references = {v: r for v, r in references.items() if v in held}
    numbers = {name: sorted(held[name]) for name in names}
    if every_pair or reference_layer is not None:
        wanted = present_layers(layers, numbers)
        if every_pair:
            pairs = all_pairs(names, numbers, wanted)
        else:
            number = int(reference_layer or 0)
            pairs = []
            for one in dict.fromkeys(references.values()):
                compared = [one, *(v for v, r in references.items() if r == one and v != one)]
                pairs += pairs_with_one((one, number), compared, numbers, wanted)
    else:
        own = {r: held[r] for r in dict.fromkeys(references.values())}
        wanted = _shared_layers(layers, held, own)
        pairs = aligned_pairs(references, numbers, wanted)
    if not pairs:
        raise InvalidInput("one space alone is left; name more variants or more layers to compare")
    spaces = open_spaces(lake, held, site, [key for pair in pairs for key in pair])
    kept = [name for name in names if any(name == key[0] for key in spaces)]
    apart = [name for name in references if name not in kept]
    if apart:
        notes.append(f"{', '.join(apart)}: left out, having no layer that is compared")
    notes += pooling_notes(spaces)
    return LakePairs(
        corpus,
        OWN if reference == OWN else first,
        tuple(name for name in kept if every_pair or name in references),
        unit.name,
        pooling_among(spaces),
        tuple(wanted),
        spaces,
        tuple(pairs),
        tuple(notes),
    )


def _with_references(
    lake: Lake,
    corpus: str | None,
    reference: str | None,
    variants: str | Iterable[str] | None,
    *,
    alone: bool,
) -> tuple[str, list[str], dict[str, str], list[str]]:
    """Return the corpus, all names, the reference of each variant, and notes."""
    if reference != OWN:
        chosen = "base" if reference is None else reference
        corpus, others = names_of(lake, corpus, chosen, variants, alone=alone)
        references = dict.fromkeys(others, chosen)
        if alone:
            references |= {chosen: chosen}
        return corpus, [chosen, *others], references, []
    from layerlake.store.lineage import own_bases

    corpus, others = all_names(lake, corpus, None, variants)
    present = table_paths(lake.location, f"activations/{corpus}")
    # Of several variants with the weights of a base, one that was run over the corpus serves.
    known = [name for name in lake.variants() if name in present]
    bases = own_bases({name: lake.attributes(f"variants/{name}") for name in known})
    references = {name: bases[name] for name in others if name in bases}
    without = [name for name in others if name not in bases]
    lost = [name for name in without if name not in references.values()]
    if variants is not None and without:
        raise NameNotFound(
            f"the lake does not hold the model that {without[0]} was made from, over {corpus}, or "
            "does not say which it is; name a reference, or leave the variant out"
        )
    if not references:
        raise NameNotFound(
            f"the lake holds the base of no variant over {corpus}, or does not say which it is; "
            "name a reference"
        )
    notes = [f"{', '.join(lost)}: left out, whose base the lake does not hold"] if lost else []
    names = list(dict.fromkeys([*references.values(), *references]))
    return corpus, names, references, notes


def _shared_layers(
    layers: str | int | Iterable[int] | None,
    held: Mapping[str, Mapping[int, list[Source]]],
    references: Mapping[str, Mapping[int, list[Source]]],
) -> list[int]:
    """Return the layers that a reference and another variant share."""
    if len(references) == 1:
        return layers_of(layers, held, next(iter(references)))
    return present_layers(layers, {name: sorted(own) for name, own in references.items()})


def pairs_among(asked: LakePairs, groups: Iterable[Sequence[str]]) -> list[KeyPair]:
    """Pair the members of each group, layer by layer, as far as they are not paired already."""
    there = {frozenset(pair) for pair in asked.pairs}
    pairs = []
    for names in groups:
        for layer in asked.layers:
            keys = [(name, layer) for name in names if (name, layer) in asked.spaces]
            pairs += [pair for pair in combinations(keys, 2) if frozenset(pair) not in there]
    return pairs


KeyPair: TypeAlias = tuple[Key, Key]
"""The space that is compared with, and the one that is compared."""


def aligned_pairs(
    references: Mapping[str, str], held: Mapping[str, Sequence[int]], layers: Sequence[int]
) -> list[KeyPair]:
    """Pair each variant with its reference, layer by layer, where both have the layer."""
    return [
        ((reference, layer), (variant, layer))
        for layer in layers
        for variant, reference in references.items()
        if layer in held[variant] and layer in held[reference]
    ]


def pairs_with_one(
    one: Key, variants: Sequence[str], held: Mapping[str, Sequence[int]], layers: Sequence[int]
) -> list[KeyPair]:
    """Pair one space with every other one.

    Raises
    ------
    InvalidInput
        The one is not there.
    """
    variant, layer = one
    if layer not in held[variant]:
        listed = ", ".join(map(str, held[variant]))
        raise InvalidInput(f"{variant} has no layer {layer} in the lake; it has {listed}")
    others = [(v, w) for v in variants for w in layers if w in held[v] and (v, w) != one]
    return [(one, other) for other in others]


def all_pairs(
    variants: Sequence[str], held: Mapping[str, Sequence[int]], layers: Sequence[int]
) -> list[KeyPair]:
    """Pair every space with every later one, by variant and then by layer."""
    keys = [(v, w) for v in variants for w in layers if w in held[v]]
    return [(one, other) for k, one in enumerate(keys) for other in keys[k + 1 :]]
