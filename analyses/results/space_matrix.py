"""All pairs of spaces as one square matrix, labelled by variant and layer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from layerlake.analyses.results.measures import DIFFERENCE
from layerlake.analyses.results.record import Record, Records
from layerlake.analyses.results.similarity_measures import pairwise_measure
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import xarray as xr

NUMBERS = ("value", "low", "high", "bound")


def space_matrix(
    result: Records,
    measure: str | None = None,
    *,
    corpus: str | None = None,
    site: str | None = None,
    number: str = "value",
) -> xr.DataArray:
    """Return one measure between all spaces of a result; see `SimilarityResult.to_matrix`."""
    import xarray as xr

    if number not in NUMBERS:
        raise InvalidInput(
            f"there is no number {number!r} in a record; choose one of {', '.join(NUMBERS)}"
        )
    if measure is not None and str(measure).endswith(DIFFERENCE):
        pairwise_measure(measure)  # raises, and says what to choose
    records = spaces_alone(result.records)
    chosen = {}
    for field, given in (("measure", measure), ("corpus", corpus), ("site", site)):
        records, chosen[field] = _only(records, field, given)
    about = pairwise_measure(chosen["measure"])
    spaces = _spaces(records)
    place = {space: k for k, space in enumerate(spaces)}
    matrix = np.full((len(spaces), len(spaces)), np.nan)
    told = np.zeros(matrix.shape, dtype=np.bool_)
    defined = np.zeros(len(spaces), dtype=np.bool_)
    for record in records:
        at = place[_of_reference(record)], place[_of_variant(record)]
        if told[at]:
            raise InvalidInput(
                f"{' layer '.join(map(str, spaces[at[0]]))} and "
                f"{' layer '.join(map(str, spaces[at[1]]))} have two records for {about.name}; "
                "give one for each pair of spaces"
            )
        told[at] = True
        matrix[at] = math.nan if record[number] is None else record[number]
        value = record["value"]
        defined[list(at)] |= value is not None and not math.isnan(value)
    if about.symmetric:
        matrix = np.where(told, matrix, np.where(told.T, matrix.T, np.nan))
    own = 0.0 if number == "bound" else about.own
    itself = np.flatnonzero(defined & ~told.diagonal())
    matrix[itself, itself] = own
    variants, layers = (
        [variant for variant, _layer in spaces],
        [layer for _variant, layer in spaces],
    )
    labels = [f"{variant} {layer}" for variant, layer in spaces]
    return xr.DataArray(
        matrix,
        dims=("space", "other_space"),
        coords={
            "space": labels,
            "variant": ("space", variants),
            "layer": ("space", layers),
            "other_space": labels,
            "other_variant": ("other_space", variants),
            "other_layer": ("other_space", layers),
        },
        name=about.name,
        attrs={**chosen, "kind": about.kind, "title": about.title},
    )


def spaces_alone(records: Iterable[Record]) -> list[Record]:
    """Return the records of two spaces: no means over seeds, no differences of two records.

    A result of nothing else is returned whole.
    """
    every = [*records]
    alone = [
        record
        for record in every
        if record["n_seeds"] == 1 and not record["measure"].endswith(DIFFERENCE)
    ]
    return alone or every


def _only(records: list[Record], field: str, given: str | None) -> tuple[list[Record], str]:
    """Return the records with one entry in a field, and that entry."""
    found = list(dict.fromkeys(record[field] for record in records))
    if given is None and len(found) == 1:
        given = found[0]
    if given is None or given not in found:
        was = "the result holds" if given is None else f"there is no {field} {given!r}, but"
        raise InvalidInput(
            f"{was} {', '.join(map(str, found)) or 'no record'}; a matrix is of one {field}, "
            "choose it by name"
        )
    return [record for record in records if record[field] == given], given


def _of_reference(record: Record) -> tuple[str, int]:
    return record["reference"], record["reference_layer"]


def _of_variant(record: Record) -> tuple[str, int]:
    return record["variant"], record["layer"]


def _spaces(records: Iterable[Record]) -> list[tuple[str, int]]:
    """Return the spaces: variants as met, references first, layers ascending."""
    met: dict[str, set[int]] = {}
    for space in map(_of_reference, records):
        met.setdefault(space[0], set()).add(space[1])
    for space in map(_of_variant, records):
        met.setdefault(space[0], set()).add(space[1])
    return [(variant, layer) for variant, layers in met.items() for layer in sorted(layers)]
