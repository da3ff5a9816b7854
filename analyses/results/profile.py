"""What profiles of spaces found: a record for each number, and the spectra."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.results.record import FieldType, Layout, rows_text
from layerlake.analyses.results.result import Result

if TYPE_CHECKING:
    import xarray as xr

PROFILE_FIELDS: Final[Mapping[str, FieldType]] = {
    "variant": "text",
    "layer": "whole",
    "measure": "text",
    "value": "number",
    "low": "number",
    "high": "number",
    "bound": "number",
    "corpus": "text",
    "site": "text",
    "n": "whole",
    "n_clusters": "whole",
    "rows_per_cluster": "number",
    "within_pair_share": "number",
    "n_without_direction": "whole",
}
"""Fields of a record, in order. `value`, `low`, `high` and `bound` may be None: not defined, no
interval, exact but for rounding. `n_without_direction` rows are of length zero: they have no cosine,
and count in all else.
"""

SpaceName = tuple[str, str, str, int]
"""Corpus, variant, site and layer."""


@dataclass(frozen=True, repr=False)
class ProfileResult(Result):
    """How the rows of spaces are spread.

    A record is a flat mapping of `PROFILE_FIELDS`, one for each space and number
    (`profile_measures.MEASURES`).
    """

    spectra: dict[SpaceName, NDArray[np.float64]] = field(default_factory=dict, compare=False)
    """(axis,) of each space: the variances along its principal axes, falling, in squared units."""

    kind: ClassVar[str] = "profile"
    analyses: ClassVar[tuple[str, ...]] = ("profile",)
    method_version: ClassVar[int] = 4
    fields: ClassVar[Mapping[str, FieldType]] = PROFILE_FIELDS
    axes: ClassVar[tuple[str, ...]] = ("variant", "layer", "measure")
    distinguishing: ClassVar[tuple[str, ...]] = ("corpus", "site")
    numbers: ClassVar[tuple[str, ...]] = ("value", "low", "high", "bound")
    each: ClassVar[str] = "space"
    layout: ClassVar[Layout] = Layout(
        rows=("layer", "variant"),
        shown=(
            "anisotropy",
            "participation-ratio",
            "effective-rank",
            "dimensions-90",
            "variance",
            "norm-mean",
            "norm-sd",
        ),
    )

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Say in a line what a kept result is of, from its settings."""
        about = f"{', '.join(settings['variants'])} over {settings['corpus']}"
        return f"{about}, {rows_text(settings['rows'])}"

    def spaces(self) -> list[SpaceName]:
        """Return the spaces in the order of the records."""
        names = (
            (record["corpus"], record["variant"], record["site"], record["layer"])
            for record in self.records
        )
        return list(dict.fromkeys(names))

    def table(self) -> str:
        """Return a table for each variant: layers as rows, numbers as columns.

        A cell holds the value with its interval in brackets, and a dash stands for what is not
        defined. Where there is one layer, variants are the rows of one table.
        """
        return super().table()

    def to_spectrum(self) -> xr.Dataset:
        """Return the spectra over (variant, layer, axis), axes counted from 1.

        `variance` along each principal axis, its `share` of the variance of the space, and
        `cumulative`, the share up to and with that axis. NaN beyond the width of a space, for
        spaces that are not there, and for the shares of a constant one. Several corpora or sites
        are leading axes.
        """
        import xarray as xr

        from layerlake.analyses.results.arrays import leading_axes

        apart, coordinates = leading_axes(self)
        leading = (*apart, "variant", "layer")
        labels = {axis: self.labels(axis) for axis in leading}
        widest = max((len(spectrum) for spectrum in self.spectra.values()), default=0)
        shape = (*(len(labels[axis]) for axis in leading), widest)
        variance = np.full(shape, np.nan)
        for space, spectrum in self.spectra.items():
            named = dict(zip(("corpus", "variant", "site", "layer"), space, strict=True))
            at = tuple(labels[axis].index(named[axis]) for axis in leading)
            variance[at][: len(spectrum)] = spectrum
        total = np.nansum(variance, axis=-1, keepdims=True)
        with np.errstate(invalid="ignore"):
            share = variance / total
        axes = (*leading, "axis")
        return xr.Dataset(
            {
                "variance": (axes, variance),
                "share": (axes, share),
                "cumulative": (axes, np.cumsum(share, axis=-1)),
            },
            coords={**labels, "axis": np.arange(1, widest + 1), **coordinates},
        )

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the records as one array per field, and `spectrum`, (space, axis), NaN beyond."""
        widest = max((len(spectrum) for spectrum in self.spectra.values()), default=0)
        names = self.spaces()
        spectrum = np.full((len(names), widest), np.nan)
        for row, name in zip(spectrum, names, strict=True):
            own = self.spectra.get(name, ())
            row[: len(own)] = own
        return {**super().to_columns(), "spectrum": spectrum}

    def dimensions(self) -> dict[str, tuple[str, ...]]:
        """Return what the axes of the columns are called."""
        return {**super().dimensions(), "spectrum": ("space", "axis")}

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]
    ) -> Self:
        """Build the result from what `to_columns` and `to_attributes` gave."""
        result = super().from_columns(columns, attributes)
        spectra = {
            name: row[~np.isnan(row)]
            for name, row in zip(result.spaces(), columns["spectrum"], strict=True)
        }
        return dataclasses.replace(
            result, spectra={name: own for name, own in spectra.items() if len(own)}
        )

    def plot(
        self,
        measure: str | Iterable[str] | None = None,
        *,
        ax: Any = None,
        file: str | Path | None = None,
    ) -> Any:
        """Draw numbers over layers, and return the figure.

        Parameters
        ----------
        measure
            One or several, a panel each; by default anisotropy, participation ratio, the axes of
            90 % of the variance and the mean length.
        ax
            matplotlib axes to draw one panel on.
        file
            Where to write the figure: .png, .svg or .pdf.

        Raises
        ------
        InvalidInput
            An unknown measure or suffix; nothing to draw.
        MissingExtra
            matplotlib is not installed.
        StorageFailed
            The file cannot be written.
        """
        from layerlake.analyses.figures.curves import curves_of_spaces

        usual = ("anisotropy", "participation-ratio", "dimensions-90", "norm-mean")
        return curves_of_spaces(self, measure, usual=usual, ax=ax, file=file)
