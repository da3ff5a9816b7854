"""Results as flat records, one for each number; their class declares what they hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    from layerlake.analyses.results.measures import Measure

FieldType: TypeAlias = Literal["text", "whole", "number"]
"""Text and whole numbers are always there; a number may be None."""
Record: TypeAlias = Mapping[str, Any]
"""One flat mapping of the fields for each number."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the records of a result are laid out in tables."""

    rows: tuple[str, ...]
    """Candidates for the field of the rows: the first that differs within the result is it, else
    the last."""
    columns: str = "measure"
    """The field of the columns. Where it is another, each family of measures has a table."""
    shown: tuple[str, ...] = ()
    """Measures that the tables show, in this order; all where empty."""


@dataclass(frozen=True, repr=False)
class Records:
    """Flat records, one for each number, with what was asked and of which inputs.

    A subclass declares the fields, their axes, their tables and its version; what is written,
    tabled, drawn and kept follows the declaration. Each has the fields `measure` and `value`.
    """

    settings: dict[str, Any]
    """What was asked for: kernel, interval, confidence, rows and so on."""
    identity: dict[str, Any]
    """Which inputs were read, by their fingerprints: of sets, labels, task files."""
    records: tuple[dict[str, Any], ...]
    """One flat mapping of the fields for each number."""
    notes: tuple[str, ...] = ()
    """Sentences about what to be careful with."""

    kind: ClassVar[str]
    """What messages call it."""
    analyses: ClassVar[tuple[str, ...]]
    """The folders under `results/` of a lake that it is kept in."""
    method_version: ClassVar[int]
    """Counts the changes that move a reported digit or the fields: older results are not reused."""
    fields: ClassVar[Mapping[str, FieldType]]
    """Of a record, in order."""
    axes: ClassVar[tuple[str, ...]]
    """The fields that are the axes of `to_xarray`, `measure` the last."""
    distinguishing: ClassVar[tuple[str, ...]] = ()
    """Fields that may tell records apart too: axes where they do."""
    numbers: ClassVar[tuple[str, ...]] = ("value",)
    """The fields that `to_xarray` has arrays of."""
    each: ClassVar[str]
    """What has one record a measure: a space, a pair of spaces, a run."""
    layout: ClassVar[Layout]
    """How tables are laid out, where a class has no `parts` of its own."""
    measures: ClassVar[Mapping[str, Measure]] = MappingProxyType({})
    """Measures of its own, by name; others are found in `results.measures`."""
    notes_across: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """By measure, a note for results of several corpora."""

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
        """Return the different entries of a field: whole numbers ascending, others as met.

        Measures that are shown beside others stand right behind them.
        """
        found = list(dict.fromkeys(record[field] for record in self.records))
        if self.fields[field] == "whole":
            return sorted(found)
        if field != "measure":
            return found
        from layerlake.analyses.results.measures import in_order

        return in_order(found, self.measures)

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Return a line on a result with these settings, for a list of kept results."""
        said = []
        for name, value in settings.items():
            if isinstance(value, list | tuple):
                text = ", ".join(map(str, value))
            elif value is None or isinstance(value, Mapping):
                text = ""
            else:
                text = str(value)
            said += [f"{name} {text}"] if text else []
        return ", ".join(said)

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the records as one array per field, NaN in the place of None."""
        columns: dict[str, NDArray[Any]] = {}
        for field, kind in self.fields.items():
            values = [record[field] for record in self.records]
            if kind == "text":
                columns[field] = np.array(values, dtype=np.dtypes.StringDType())
            elif kind == "whole":
                columns[field] = np.array(values, dtype=np.int64)
            else:
                columns[field] = np.array([nan_for_none(v) for v in values], dtype=np.float64)
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
        kind = cls.fields[field]
        if kind == "text":
            return [str(value) for value in column]
        if kind == "whole":
            return [int(value) for value in column]
        return [none_for_nan(float(value)) for value in column]


def nan_for_none(value: float | None) -> float:
    """Return the number, NaN for None."""
    return math.nan if value is None else float(value)


def none_for_nan(value: Any) -> Any:
    """Return the value, None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


def rows_text(rows: int | str | None) -> str:
    """Say how many rows were asked for."""
    return f"rows {'by default' if rows is None else rows}"


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
