"""The tables of similarities: of all variants to a reference, or of layers against layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from layerlake.analyses.results.measures import CEILINGS, DIFFERENCE, family_of, in_order
from layerlake.analyses.results.parts import Part
from layerlake.analyses.results.record import Record, Records

LAYERS_AGAINST_LAYERS: Final = "tables of layers against layers"
_HEADINGS: Final = {"r_all": "similarity", CEILINGS[0]: "noise ceiling of similarity"}


def similarity_parts(result: Records) -> list[Part]:
    """Group the records by corpus, site, measure and reference.

    Layers compared with their own of the reference, or all with one of its layers, make one part
    for all variants. Where several layers of a reference meet others, every variant is a part.
    """
    by_measure: dict[str, list[Record]] = {}
    for one in result.records:
        by_measure.setdefault(one["measure"], []).append(one)
    alike: dict[tuple[str, str, str], list[Record]] = {}
    for measure in in_order(by_measure, result.measures):
        family = family_of(measure, result.measures)
        for record in by_measure[measure]:
            alike.setdefault((record["corpus"], record["site"], family), []).append(record)
    parts = []
    for (corpus, site, family), records in alike.items():
        first = family.removesuffix(DIFFERENCE)
        what = _HEADINGS.get(first, first)
        what = what if first == family else f"difference in {what}"
        layers = _reference_layers(records)
        across = any(layer == "several" for layer in layers.values())
        grouped: dict[str, list[Record]] = {}
        for record in records:
            reference = record["reference"]
            if across:
                heading = f"{what} of {reference} (rows) and {record['variant']} (columns)"
            else:
                heading = f"{what} to {reference}{layers[reference]}"
            grouped.setdefault(heading, []).append(record)
        measures = tuple(in_order((record["measure"] for record in records), result.measures))
        parts += [
            _part(f"{corpus}, {site}: {heading}", tuple(members), measures, across=across)
            for heading, members in grouped.items()
        ]
    return parts


def _part(
    title: str, records: tuple[Record, ...], measures: tuple[str, ...], *, across: bool
) -> Part:
    if not across:
        return Part(title, records, "layer", "variant", measures, turns=True)
    return Part(
        title,
        records,
        "reference_layer",
        "layer",
        measures,
        short=True,
        head="layer",
        series=LAYERS_AGAINST_LAYERS,
    )


def meets_several_layers(result: Records) -> bool:
    """Whether several layers of a reference meet others, so that a table of layers shows them."""
    return any(part.series for part in similarity_parts(result))


def _reference_layers(records: Iterable[Record]) -> dict[str, str]:
    """Return, for each reference, what to say of its layers: nothing, which one, or `several`."""
    pairs: dict[str, set[tuple[int, int]]] = {}
    for record in records:
        pairs.setdefault(record["reference"], set()).add(
            (record["reference_layer"], record["layer"])
        )
    said = {}
    for reference, met in pairs.items():
        own = {layer for layer, _other in met}
        if all(layer == other for layer, other in met):
            said[reference] = ""
        else:
            said[reference] = f", layer {own.pop()}" if len(own) == 1 else "several"
    return said
