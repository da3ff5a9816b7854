"""What a comparison found: values of pairs of spaces, with their settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from layerlake.analyses.results.record import FieldType, rows_text
from layerlake.analyses.results.result import Result

if TYPE_CHECKING:
    import xarray as xr

    from layerlake.analyses.results.parts import Part

FIELDS: Final[Mapping[str, FieldType]] = {
    "variant": "text",
    "layer": "whole",
    "measure": "text",
    "value": "number",
    "low": "number",
    "high": "number",
    "bound": "number",
    "p": "number",
    "corpus": "text",
    "site": "text",
    "reference": "text",
    "reference_layer": "whole",
    "n": "whole",
    "n_clusters": "whole",
    "rows_per_cluster": "number",
    "within_pair_share": "number",
    "n_dropped": "whole",
    "n_seeds": "whole",
}
"""Fields of a record, in order. `value`, `low`, `high`, `bound` and `p` may be None: not defined, no
interval, exact but for rounding, and not tested. `bound` is how far `value` is off at most; `p` is
that of a difference, against none; `n_seeds` is above
1 for a mean over seeds; `reference_layer` is `layer` where spaces of the same layer are compared.
"""


@dataclass(frozen=True, repr=False)
class SimilarityResult(Result):
    """Similarities of spaces: of variants to a reference, layer by layer or across layers.

    A record is a flat mapping of `FIELDS`, one for each pair of spaces and measure.
    """

    kind: ClassVar[str] = "similarity"
    analyses: ClassVar[tuple[str, ...]] = ("rsa", "similarity")
    method_version: ClassVar[int] = 4
    fields: ClassVar[Mapping[str, FieldType]] = FIELDS
    axes: ClassVar[tuple[str, ...]] = ("variant", "layer", "measure")
    distinguishing: ClassVar[tuple[str, ...]] = ("corpus", "site", "reference", "reference_layer")
    numbers: ClassVar[tuple[str, ...]] = ("value", "low", "high", "bound", "p")
    each: ClassVar[str] = "pair of spaces"
    notes_across: ClassVar[Mapping[str, str]] = {
        "r_all": "r_all depends on how many rows each example gave; compare corpora by r_between, "
        "or draw equally many rows from equally many examples"
    }

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Say in a line what a kept result is of, from its settings."""
        about = ", ".join(settings["variants"])
        if settings.get("all_pairs"):
            about += " in all pairs"
        elif "reference" in settings:
            about += f" against {settings['reference']}"
        parts = [f"{about} over {settings['corpus']}"]
        if "kernel" in settings:
            parts.append(str(settings["kernel"]))
        parts += [measure for measure in settings.get("measures", ()) if measure != "rsa"]
        return ", ".join([*parts, rows_text(settings["rows"])])

    def parts(self) -> list[Part]:
        """Return a part for each corpus, site, reference and measure with what is beside it."""
        from layerlake.analyses.results.similarity_parts import similarity_parts

        return similarity_parts(self)

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
        from layerlake.analyses.results.space_matrix import space_matrix

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
        from layerlake.analyses.results.rsatoolbox import result_to_rdms

        return result_to_rdms(self, measure, corpus=corpus, site=site)

    def table(self) -> str:
        """Return tables for people: layers as rows, variants as columns.

        A cell holds the value with its interval in brackets, and r_between beside r_all; a dash
        stands for what is not defined. Where there are more than four variants each is a line, and
        a cell is the value and the farther end of its interval. Several measures, corpora,
        references or sites make a table each. Where layers are compared across, a table is of one
        variant and the reference: its layers as rows, the variant's as columns.
        """
        return super().table()

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
            `corpus` and `site` of a matrix or a map; `zoom=True` of curves or a matrix, for the
            range of the data instead of 0 to 1; `distance` of a map.

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

        if kind is None:
            from layerlake.analyses.results.similarity_parts import meets_several_layers

            kind = "matrix" if meets_several_layers(self) else "curves"
        return draw(self, kind, measure, ax=ax, file=file, **options)
