"""Results as flat records, one for each number, and their way into tables and back."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.results.measures import in_order
from layerlake.store.errors import InvalidInput, MissingExtra, StorageFailed

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, repr=False)
class Recorded(ABC):
    """A result of flat records, whose fields a subclass names."""

    settings: dict[str, Any]
    """What was asked for: kernel, interval, confidence, rows and so on."""
    identity: dict[str, Any]
    """Which inputs were read, by their fingerprints."""
    records: tuple[dict[str, Any], ...]
    """One flat mapping of the fields for each number."""
    notes: tuple[str, ...] = ()
    """Sentences about what to be careful with."""

    kind: ClassVar[str]
    """What messages call it."""
    fields: ClassVar[tuple[str, ...]]
    """Of a record, in order; all that are neither text nor whole are numbers or None."""
    text: ClassVar[frozenset[str]]
    whole: ClassVar[frozenset[str]]
    numbers: ClassVar[tuple[str, ...]]
    """What `to_xarray` has arrays of."""
    beside: ClassVar[tuple[str, ...]]
    """What tells records apart beside variant, layer and measure."""

    def __post_init__(self) -> None:
        """Refuse records that lack a field or have one too many."""
        for record in self.records:
            if set(record) != set(self.fields):
                odd = ", ".join(sorted(set(record) ^ set(self.fields)))
                raise InvalidInput(
                    f"a record of a {self.kind} result differs in {odd}; give exactly "
                    f"{', '.join(self.fields)}"
                )

    def labels(self, field: str) -> list[Any]:
        """Return the different entries of a field: layers and measures in order, others as met."""
        found = list(dict.fromkeys(record[field] for record in self.records))
        if field in ("layer", "reference_layer"):
            return sorted(found)
        return in_order(found) if field == "measure" else found

    def named(self, field: str, many: str) -> str:
        """Return the different entries of a field in a line, or how many there are."""
        found = self.labels(field)
        return ", ".join(found) if len(found) <= 3 else f"{len(found)} {many}"

    @abstractmethod
    def table(self) -> str:
        """Return tables for people."""

    def to_xarray(self) -> xr.Dataset:
        """Return the numbers, `value` and what goes with it, over (variant, layer, measure).

        None is NaN. What else tells records apart (`corpus`, `site`, and of a comparison
        `reference` and `reference_layer`) is a leading axis. Where the variant alone, or the layer
        alone, says it (each variant its own reference, each layer compared with the same layer), it
        is a coordinate beside that.

        Raises
        ------
        InvalidInput
            Two records are of the same spaces and measure.
        """
        import xarray as xr

        apart, coordinates = self._axes()
        axes = (*apart, "variant", "layer", "measure")
        labels = {axis: self.labels(axis) for axis in axes}
        place = {axis: {label: k for k, label in enumerate(labels[axis])} for axis in axes}
        shape = tuple(len(labels[axis]) for axis in axes)
        arrays = {name: np.full(shape, np.nan) for name in self.numbers}
        taken = set()
        for record in self.records:
            at = tuple(place[axis][record[axis]] for axis in axes)
            if at in taken:
                raise InvalidInput(
                    f"{record['variant']} has two records for {record['measure']} at layer "
                    f"{record['layer']}; give one for each pair of spaces and measure"
                )
            taken.add(at)
            for name, array in arrays.items():
                array[at] = _nan(record[name])
        return xr.Dataset(
            {name: (axes, array) for name, array in arrays.items()},
            coords={**labels, **coordinates},
            attrs={name: json.dumps(value) for name, value in self.to_attributes().items()},
        )

    def _axes(self) -> tuple[list[str], dict[str, Any]]:
        """Return the fields that need an axis of their own, and coordinates for the others."""
        apart: list[str] = []
        coordinates: dict[str, Any] = {}
        for field in self.beside:
            found = self.labels(field)
            along = [axis for axis in ("variant", "layer") if self._follows(field, axis)]
            if len(found) == 1:
                coordinates[field] = found[0]
            elif along:
                said = {record[along[0]]: record[field] for record in self.records}
                coordinates[field] = (along[0], [said[label] for label in self.labels(along[0])])
            elif found:
                apart.append(field)
        return apart, coordinates

    def _follows(self, field: str, axis: str) -> bool:
        """Whether records of the same variant, or layer, never differ in a field."""
        said: dict[Any, Any] = {}
        return all(
            said.setdefault(record[axis], record[field]) == record[field] for record in self.records
        )

    def to_pandas(self) -> Any:
        """Return the records as a pandas DataFrame, one row each.

        Raises
        ------
        MissingExtra
            pandas is not installed.
        """
        try:
            frame = importlib.import_module("pandas").DataFrame
        except ImportError as error:
            raise MissingExtra(
                "to_pandas needs pandas, which is not installed; install it with: "
                "pip install pandas"
            ) from error
        columns = self.to_columns()
        return frame(
            {
                field: columns[field].tolist() if field in self.text else columns[field]
                for field in self.fields
            }
        )

    def to_csv(self, file: str | Path | None = None) -> str:
        """Return the records as CSV, a line each under a line of their fields; write it where asked.

        Numbers are written so that they are read back to the bit; what is None is empty.

        Raises
        ------
        StorageFailed
            The file cannot be written.
        """
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(self.fields)
        for record in self.records:
            lines.writerow([none_for_nan(record[field]) for field in self.fields])
        if file is not None:
            try:
                Path(file).write_text(text.getvalue(), encoding="utf-8", newline="")
            except OSError as error:
                raise StorageFailed(
                    f"the table cannot be written to {file}: {error.strerror}; choose another place"
                ) from error
        return text.getvalue()

    def to_json(self) -> str:
        """Return one JSON object of settings, identity, records and notes."""
        return json.dumps(
            {
                "settings": self.settings,
                "identity": self.identity,
                "records": [
                    {field: none_for_nan(record[field]) for field in self.fields}
                    for record in self.records
                ],
                "notes": list(self.notes),
            },
            ensure_ascii=False,
            allow_nan=False,
        )

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the records as one array per field, NaN in the place of None."""
        columns: dict[str, NDArray[Any]] = {}
        for field in self.fields:
            values = [record[field] for record in self.records]
            if field in self.text:
                columns[field] = np.array(values, dtype=np.dtypes.StringDType())
            elif field in self.whole:
                columns[field] = np.array(values, dtype=np.int64)
            else:
                columns[field] = np.array([_nan(value) for value in values], dtype=np.float64)
        return columns

    def dimensions(self) -> dict[str, tuple[str, ...]]:
        """Return what the axes of the columns are called."""
        return dict.fromkeys(self.fields, ("record",))

    def to_attributes(self) -> dict[str, Any]:
        """Return what is not in the columns, for JSON."""
        return {
            "settings": self.settings,
            "identity": self.identity,
            "notes": list(self.notes),
        }

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]
    ) -> Self:
        """Build the result from what `to_columns` and `to_attributes` gave."""
        lists = {field: cls._listed(field, columns[field]) for field in cls.fields}
        rows = zip(*lists.values(), strict=True)
        return cls(
            settings=dict(attributes["settings"]),
            identity=dict(attributes["identity"]),
            records=tuple(dict(zip(cls.fields, row, strict=True)) for row in rows),
            notes=tuple(attributes["notes"]),
        )

    @classmethod
    def _listed(cls, field: str, column: NDArray[Any]) -> list[Any]:
        """Return a column as Python values of its field."""
        if field in cls.text:
            return [str(value) for value in column]
        if field in cls.whole:
            return [int(value) for value in column]
        return [none_for_nan(float(value)) for value in column]


def _nan(value: float | None) -> float:
    """Return the number, NaN for None."""
    return math.nan if value is None else float(value)


def none_for_nan(value: Any) -> Any:
    """Return the value, None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


def gathered_notes(said: Iterable[tuple[Key, Iterable[str]]]) -> list[str]:
    """Return each note of spaces once, with the variants and layers that it is about."""
    noted: dict[tuple[str, str], dict[int, None]] = {}
    for (variant, layer), notes in said:
        for note in notes:
            noted.setdefault((variant, note), {})[layer] = None
    about: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (variant, note), layers in noted.items():
        about.setdefault((note, tuple(sorted(layers))), []).append(variant)
    return [
        f"{', '.join(names)}, layer {', '.join(map(str, layers))}: {note}"
        for (note, layers), names in about.items()
    ]


Key: TypeAlias = tuple[str, int]
"""A space within one corpus and site: variant and layer."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a pair of spaces was compared over."""

    n_rows: int
    n_clusters: int
    rows_per_cluster: float
    within_pair_share: float
    """Share of pairs of rows that come from one cluster."""
    n_dropped: int

    @classmethod
    def of(cls, sizes: NDArray[np.int64], n_dropped: int) -> Counts:
        """Count from the rows of each cluster, (cluster,), those without rows among them."""
        n_rows, n_clusters = int(sizes.sum()), int((sizes > 0).sum())
        ordered = float((sizes.astype(np.float64) * (sizes - 1.0)).sum())
        return cls(
            n_rows,
            n_clusters,
            n_rows / max(n_clusters, 1),
            ordered / max(n_rows * (n_rows - 1.0), 1.0),
            n_dropped,
        )
