"""Results in the parts that a reader takes in at once: a table, a panel, a page's section each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from layerlake.analyses.results.measures import CEILINGS, DIFFERENCE, family_of, in_order

if TYPE_CHECKING:
    from layerlake.analyses.results.profile import ProfileResult
    from layerlake.analyses.results.similarity import SimilarityResult

Record = Mapping[str, Any]


_HEADINGS: Final = {"r_all": "similarity", CEILINGS[0]: "noise ceiling of similarity"}


def p_text(record: Record) -> str:
    """Return the p of a record for people, empty where nothing was tested."""
    p = record.get("p")
    if p is None or math.isnan(p):
        return ""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


@dataclass(frozen=True)
class Part:
    """Records that make a table."""

    title: str
    measures: tuple[str, ...]
    """One, or one and what is shown beside it."""
    across: bool
    """Whether the layers of one variant (rows) meet those of another (columns)."""
    records: tuple[Record, ...]
    """Of one corpus, site and reference; of one variant where `across`."""

    def labels(self, field: str) -> list[Any]:
        """Return the different entries of a field, layers ascending, others as met."""
        found = list(dict.fromkeys(record[field] for record in self.records))
        return sorted(found) if field in ("layer", "reference_layer") else found

    def cells(self, row: str, column: str) -> dict[tuple[Any, Any], dict[str, Record]]:
        """Return the records of each cell, by measure."""
        cells: dict[tuple[Any, Any], dict[str, Record]] = {}
        for record in self.records:
            cells.setdefault((record[row], record[column]), {})[record["measure"]] = record
        return cells


def parts_of(result: SimilarityResult) -> list[Part]:
    """Group the records by corpus, site, measure and reference.

    Layers compared with their own of the reference, or all with one of its layers, make one part
    for all variants. Where several layers of a reference meet others, every variant is a part.
    """
    by_measure: dict[str, list[Record]] = {}
    for one in result.records:
        by_measure.setdefault(one["measure"], []).append(one)
    alike: dict[tuple[str, str, str], list[Record]] = {}
    for measure in in_order(by_measure):
        for record in by_measure[measure]:
            key = (record["corpus"], record["site"], family_of(measure))
            alike.setdefault(key, []).append(record)
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
        measures = tuple(in_order(record["measure"] for record in records))
        parts += [
            Part(f"{corpus}, {site}: {heading}", measures, across, tuple(members))
            for heading, members in grouped.items()
        ]
    return parts


def profile_parts(result: ProfileResult, measures: Sequence[str]) -> list[tuple[Part, str]]:
    """Group the records of a profile by corpus, site and variant; return the field of rows too.

    Where all is of one layer, variants are the rows of one part.
    """
    field = "layer" if len(result.labels("layer")) > 1 else "variant"
    grouped: dict[str, list[Record]] = {}
    for record in result.records:
        of = f"layer {record['layer']}" if field == "variant" else record["variant"]
        grouped.setdefault(f"{record['corpus']}, {record['site']}: {of}", []).append(record)
    held = set(result.labels("measure"))
    shown = tuple(measure for measure in measures if measure in held)
    return [(Part(title, shown, False, tuple(found)), field) for title, found in grouped.items()]


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


def divided(parts: Sequence[Part], most_across: int) -> tuple[list[Part], list[Part]]:
    """Return the parts to show, and those of layers against layers that are too many."""
    across = [k for k, part in enumerate(parts) if part.across]
    folded = set(across[most_across:])
    return (
        [part for k, part in enumerate(parts) if k not in folded],
        [part for k, part in enumerate(parts) if k in folded],
    )
