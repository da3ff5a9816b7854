"""Results as labelled arrays over the axes that their class declares."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlake.analyses.results.record import Record, Records, nan_for_none
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import xarray as xr


def labelled_numbers(result: Records) -> xr.Dataset:
    """Return the numbers of a result as arrays; see `Result.to_xarray`."""
    import xarray as xr

    leading, coordinates = leading_axes(result)
    axes = (*leading, *result.axes)
    labels = {axis: result.labels(axis) for axis in axes}
    place = {axis: {label: k for k, label in enumerate(labels[axis])} for axis in axes}
    shape = tuple(len(labels[axis]) for axis in axes)
    arrays = {name: np.full(shape, np.nan) for name in result.numbers}
    taken = set()
    for record in result.records:
        at = tuple(place[axis][record[axis]] for axis in axes)
        if at in taken:
            raise InvalidInput(_doubled(result, record))
        taken.add(at)
        for name, array in arrays.items():
            array[at] = nan_for_none(record[name])
    return xr.Dataset(
        {name: (axes, array) for name, array in arrays.items()},
        coords={**labels, **coordinates},
        attrs={name: json.dumps(value) for name, value in result.to_attributes().items()},
    )


def leading_axes(result: Records) -> tuple[list[str], dict[str, Any]]:
    """Return the distinguishing fields that need an axis of their own, and coordinates for others."""
    leading: list[str] = []
    coordinates: dict[str, Any] = {}
    for field in result.distinguishing:
        found = result.labels(field)
        along = [
            axis for axis in result.axes if axis != "measure" and _follows(result, field, axis)
        ]
        if len(found) == 1:
            coordinates[field] = found[0]
        elif along:
            said = {record[along[0]]: record[field] for record in result.records}
            coordinates[field] = (along[0], [said[label] for label in result.labels(along[0])])
        elif found:
            leading.append(field)
    return leading, coordinates


def _follows(result: Records, field: str, axis: str) -> bool:
    """Whether records with one label on an axis never differ in a field."""
    said: dict[Any, Any] = {}
    return all(
        said.setdefault(record[axis], record[field]) == record[field] for record in result.records
    )


def _doubled(result: Records, record: Record) -> str:
    """Return the message for two records in one place."""
    first, *others = (axis for axis in result.axes if axis != "measure")
    subject = record[first] if result.fields[first] == "text" else f"{first} {record[first]}"
    at = f" at {', '.join(f'{axis} {record[axis]}' for axis in others)}" if others else ""
    return (
        f"{subject} has two records for {record['measure']}{at}; give one for each {result.each} "
        "and measure"
    )
