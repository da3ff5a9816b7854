"""What a comparison found: values with their settings, and their way into tables and back."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.result_parts import in_order
from layerlake.store.errors import InvalidInput, MissingExtra, StorageFailed
from layerlake.store.overview import ranges_text

if TYPE_CHECKING:
    import xarray as xr

_TEXT: Final = ("corpus", "reference", "variant", "site", "measure")
_WHOLE: Final = ("reference_layer", "layer", "n", "n_clusters", "n_dropped", "n_seeds")
_NUMBERS: Final = ("value", "low", "high", "bound", "p")
MEASURES: Final = ("r_all", "r_between")
FIELDS: Final = (
    "corpus",
    "reference",
    "reference_layer",
    "variant",
    "site",
    "layer",
    "measure",
    "value",
    "low",
    "high",
    "bound",
    "p",
    "n",
    "n_clusters",
    "rows_per_cluster",
    "within_pair_share",
    "n_dropped",
    "n_seeds",
)
"""Fields of a record, in order. `value`, `low`, `high`, `bound` and `p` may be None: not defined, no
interval, exact but for rounding, and not tested. `bound` is how far `value` is off at most; `p` is
that of a difference, against none; `n_seeds` is above
1 for a mean over seeds; `reference_layer` is `layer` where spaces of the same layer are compared.
"""


@dataclass(frozen=True, repr=False)
class SimilarityResult:
    """Similarities of spaces: of variants to a reference, layer by layer or across layers."""

    settings: dict[str, Any]
    """What was asked for: kernel, interval, confidence, rows and so on."""
    identity: dict[str, Any]
    """Which inputs were read, by their fingerprints."""
    records: tuple[dict[str, Any], ...]
    """One flat mapping of `FIELDS` for each pair of spaces and measure."""
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
        if field in ("layer", "reference_layer"):
            return sorted(found)
        return in_order(found) if field == "measure" else found

    def to_xarray(self) -> xr.Dataset:
        """Return `value`, `low`, `high` and `bound` over (variant, layer, measure); NaN for None.

        What else tells records apart is a leading axis: `corpus`, `site`, `reference`,
        `reference_layer`. Where the variant alone, or the layer alone, says it (each variant its
        own reference, each layer compared with the same layer), it is a coordinate beside that.

        Raises
        ------
        InvalidInput
            Two records are of the same spaces and measure.
        """
        import xarray as xr

        apart, beside = self._axes()
        axes = (*apart, "variant", "layer", "measure")
        labels = {axis: self.labels(axis) for axis in axes}
        place = {axis: {label: k for k, label in enumerate(labels[axis])} for axis in axes}
        shape = tuple(len(labels[axis]) for axis in axes)
        arrays = {name: np.full(shape, np.nan) for name in _NUMBERS}
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
            coords={**labels, **beside},
            attrs={name: json.dumps(value) for name, value in self.to_attributes().items()},
        )

    def _axes(self) -> tuple[list[str], dict[str, Any]]:
        """Return the fields that need an axis of their own, and coordinates for the others."""
        apart: list[str] = []
        beside: dict[str, Any] = {}
        for field in ("corpus", "site", "reference", "reference_layer"):
            found = self.labels(field)
            along = [axis for axis in ("variant", "layer") if self._follows(field, axis)]
            if len(found) == 1:
                beside[field] = found[0]
            elif along:
                said = {record[along[0]]: record[field] for record in self.records}
                beside[field] = (along[0], [said[label] for label in self.labels(along[0])])
            elif found:
                apart.append(field)
        return apart, beside

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
                field: column.tolist() if field in _TEXT else column
                for field, column in columns.items()
            }
        )

    def to_matrix(
        self,
        measure: str | None = None,
        *,
        corpus: str | None = None,
        site: str | None = None,
        number: str = "value",
    ) -> xr.DataArray:
        """Return one measure between all spaces as a square matrix.

        Parameters
        ----------
        measure, corpus, site
            Which; needed where the result holds several.
        number
            `value`, `low`, `high` or `bound`.

        Returns
        -------
        DataArray over (space, other_space), both with the coordinates `variant` and `layer`
        (`other_variant`, `other_layer`): references as rows, variants as columns. A symmetric
        measure is mirrored. A space's own value is the record's, else 1 for similarities and 0 for
        distances; NaN where the space has no number with any other, since a constant has none.
        Pairs that were not compared are NaN.

        Raises
        ------
        InvalidInput
            Several measures, corpora or sites and none chosen; an unknown one; two records of the
            same spaces.
        """
        from layerlake.analyses.space_matrix import space_matrix

        return space_matrix(self, measure, corpus=corpus, site=site, number=number)

    def to_rsatoolbox(
        self, measure: str | None = None, *, corpus: str | None = None, site: str | None = None
    ) -> Any:
        """Return how unlike all spaces are as `rsatoolbox.rdm.RDMs` of one matrix.

        Its patterns are the spaces, with the descriptors `space`, `variant` and `layer`. A
        similarity s becomes 1 - s, distances stay; pairs that were not compared are NaN, and of a
        measure that is not symmetric the references are the first of each pair.

        Raises
        ------
        InvalidInput
            As `to_matrix`.
        MissingExtra
            rsatoolbox is not installed.
        """
        from layerlake.analyses.rsatoolbox_exchange import result_to_rdms

        return result_to_rdms(self, measure, corpus=corpus, site=site)

    def to_csv(self, file: str | Path | None = None) -> str:
        """Return the records as CSV, a line each under a line of `FIELDS`; write it where asked.

        Numbers are written so that they are read back to the bit; what is None is empty.

        Raises
        ------
        StorageFailed
            The file cannot be written.
        """
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(FIELDS)
        for record in self.records:
            lines.writerow([none_for_nan(record[field]) for field in FIELDS])
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
                    {field: none_for_nan(record[field]) for field in FIELDS}
                    for record in self.records
                ],
                "notes": list(self.notes),
            },
            ensure_ascii=False,
            allow_nan=False,
        )

    def table(self) -> str:
        """Return tables for people: layers as rows, variants as columns.

        A cell holds the value with its interval in brackets, and r_between beside r_all; a dash
        stands for what is not defined. Where there are more than four variants each is a line, and
        a cell is the value and the farther end of its interval. Several measures, corpora,
        references or sites make a table each. Where layers are compared across, a table is of one
        variant and the reference: its layers as rows, the variant's as columns.
        """
        from layerlake.analyses.result_tables import similarity_text

        return similarity_text(self)

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

    def plot(
        self,
        kind: str | None = None,
        measure: str | Iterable[str] | None = None,
        *,
        ax: Any = None,
        file: str | Path | None = None,
        **options: Any,
    ) -> Any:
        """Draw the result and return the figure.

        Parameters
        ----------
        kind
            `curves` over layers, with bands (`figures.curves.layer_curves`); `matrix`, heat maps
            of all pairs (`figures.matrices.heat_maps`); `map`, spaces as points
            (`figures.maps.space_maps`). By default curves, or a matrix where several layers of a
            reference met others.
        measure
            One or several, a panel each; by default all, but of r_all and r_between (and the like)
            the first.
        ax
            matplotlib axes to draw one panel on.
        file
            Where to write the figure: .png, .svg or .pdf.
        options
            `corpus` and `site` of a matrix or a map; `distance` of a map.

        Raises
        ------
        InvalidInput
            An unknown kind, measure or suffix; nothing to draw; an option of another kind.
        MissingExtra
            matplotlib is not installed.
        StorageFailed
            The file cannot be written.
        """
        from layerlake.analyses.figures.kinds import draw

        return draw(self, kind, measure, ax=ax, file=file, **options)


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
