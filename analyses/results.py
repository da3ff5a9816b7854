"""What a comparison found: values with their settings, and their way into tables and back."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput, MissingExtra
from layerlake.store.overview import ranges_text

if TYPE_CHECKING:
    import xarray as xr

_TEXT: Final = ("corpus", "reference", "variant", "site", "measure")
_WHOLE: Final = ("layer", "n", "n_clusters", "n_dropped")
_REAL: Final = ("value", "low", "high", "rows_per_cluster", "within_pair_share")
MEASURES: Final = ("r_all", "r_between")
FIELDS: Final = (
    "corpus",
    "reference",
    "variant",
    "site",
    "layer",
    "measure",
    "value",
    "low",
    "high",
    "n",
    "n_clusters",
    "rows_per_cluster",
    "within_pair_share",
    "n_dropped",
)
"""Fields of a record, in order; `value`, `low` and `high` may be None."""


@dataclass(frozen=True, repr=False)
class SimilarityResult:
    """Similarities of variants to a reference, layer by layer."""

    settings: dict[str, Any]
    """What was asked for: kernel, interval, confidence, rows and so on."""
    identity: dict[str, Any]
    """Which inputs were read, by their fingerprints."""
    records: tuple[dict[str, Any], ...]
    """One flat mapping of `FIELDS` for each variant, layer and measure."""
    notes: tuple[str, ...] = ()
    """Sentences about what to be careful with."""

    def __post_init__(self) -> None:
        """Refuse records that lack a field or have one too many."""
        for record in self.records:
            if set(record) != set(FIELDS):
                odd = ", ".join(sorted(set(record) ^ set(FIELDS)))
                raise InvalidInput(
                    f"a record of a similarity result differs in {odd}; give exactly "
                    f"{', '.join(FIELDS)}"
                )

    def __repr__(self) -> str:
        if not self.records:
            return "<SimilarityResult of nothing>"
        corpora, variants, references = (
            ", ".join(found) if len(found := self.labels(field)) <= 3 else f"{len(found)} {many}"
            for field, many in (
                ("corpus", "corpora"),
                ("variant", "variants"),
                ("reference", "references"),
            )
        )
        return (
            f"<SimilarityResult over {corpora}: {variants} against {references}, layers "
            f"{ranges_text(self.labels('layer'))}; .table() prints it>"
        )

    def _repr_html_(self) -> str:
        from layerlake.analyses.result_pages import similarity_html

        return similarity_html(self)

    def labels(self, field: str) -> list[Any]:
        """Return the different entries of a field: layers and measures in order, others as met."""
        found = list(dict.fromkeys(record[field] for record in self.records))
        if field == "layer":
            return sorted(found)
        if field == "measure":
            return sorted(found, key=lambda name: (name not in MEASURES, name))
        return found

    def to_xarray(self) -> xr.Dataset:
        """Return `value`, `low` and `high` over (variant, layer, measure); NaN stands for None.

        Raises
        ------
        InvalidInput
            The records hold more than one corpus, reference or site, so that three axes do not
            tell them apart.
        """
        import xarray as xr

        axes = ("variant", "layer", "measure")
        labels = {axis: self.labels(axis) for axis in axes}
        place = {axis: {label: k for k, label in enumerate(labels[axis])} for axis in axes}
        shape = tuple(len(labels[axis]) for axis in axes)
        arrays = {name: np.full(shape, np.nan) for name in ("value", "low", "high")}
        taken = set()
        for record in self.records:
            at = tuple(place[axis][record[axis]] for axis in axes)
            if at in taken:
                raise InvalidInput(
                    f"{record['variant']} has two records for {record['measure']} at layer "
                    f"{record['layer']}; take one corpus, reference and site at a time"
                )
            taken.add(at)
            for name, array in arrays.items():
                array[at] = _nan(record[name])
        return xr.Dataset(
            {name: (axes, array) for name, array in arrays.items()},
            coords=labels,
            attrs={name: json.dumps(value) for name, value in self.to_attributes().items()},
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
        return frame(list(self.records), columns=list(FIELDS))

    def to_json(self) -> str:
        """Return one JSON object of settings, identity, records and notes."""
        return json.dumps(
            {
                "settings": self.settings,
                "identity": self.identity,
                "records": [
                    {field: none_for_nan(record[field]) for field in FIELDS}
                    for record in self.records
                ],
                "notes": list(self.notes),
            },
            ensure_ascii=False,
            allow_nan=False,
        )

    def table(self) -> str:
        """Return a table for people: layers as rows, variants as columns.

        A cell holds r_all with its interval in brackets, then r_between with its own; a dash
        stands for what is not defined. Where there are more than four variants each is a line, and
        a cell is r_all and the farther end of its interval. Several corpora, references or sites
        make a table each.
        """
        from layerlake.analyses.result_tables import similarity_text

        return similarity_text(self)

    def parts(self) -> dict[str, list[dict[str, Any]]]:
        """Group the records by corpus, reference and site, each under a title."""
        parts: dict[str, list[dict[str, Any]]] = {}
        for record in self.records:
            title = f"{record['corpus']}, {record['site']}: similarity to {record['reference']}"
            parts.setdefault(title, []).append(record)
        return parts

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the records as one array per field, NaN in the place of None."""
        columns: dict[str, NDArray[Any]] = {}
        for field in FIELDS:
            values = [record[field] for record in self.records]
            if field in _TEXT:
                columns[field] = np.array(values, dtype=np.dtypes.StringDType())
            elif field in _WHOLE:
                columns[field] = np.array(values, dtype=np.int64)
            else:
                columns[field] = np.array([_nan(value) for value in values], dtype=np.float64)
        return columns

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
    ) -> SimilarityResult:
        """Build the result from what `to_columns` and `to_attributes` gave."""
        lists = {field: _listed(field, columns[field]) for field in FIELDS}
        rows = zip(*lists.values(), strict=True)
        return cls(
            settings=dict(attributes["settings"]),
            identity=dict(attributes["identity"]),
            records=tuple(dict(zip(FIELDS, row, strict=True)) for row in rows),
            notes=tuple(attributes["notes"]),
        )

    def plot(self, ax: Any = None, file: str | Path | None = None) -> Any:
        """Draw a line with a band for each variant over layers; see `report.layer_curves`."""
        from layerlake.analyses.report import layer_curves

        return layer_curves(self, ax=ax, file=file)


def _nan(value: float | None) -> float:
    """Return the number, NaN for None."""
    return math.nan if value is None else float(value)


def none_for_nan(value: Any) -> Any:
    """Return the value, None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _listed(field: str, column: NDArray[Any]) -> list[Any]:
    """Return a column as Python values of its field."""
    if field in _TEXT:
        return [str(value) for value in column]
    if field in _WHOLE:
        return [int(value) for value in column]
    return [none_for_nan(float(value)) for value in column]
