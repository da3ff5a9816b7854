"""Heat maps of all pairs of spaces, grouped by variant."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.figures.captions import axis_title, caption
from layerlake.analyses.figures.files import check_figure, write_figure
from layerlake.analyses.figures.panels import measures_to_draw, panels
from layerlake.analyses.results.measures import DIFFERENCE
from layerlake.analyses.results.record import Records
from layerlake.analyses.results.similarity_measures import measure_named
from layerlake.analyses.results.space_matrix import space_matrix
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import xarray as xr

MOST_WRITTEN: Final = 10
"""Spaces up to which the numbers are written into the cells."""
CELL_INCHES: Final = 0.17
"""Of a cell whose layer can be read; smaller cells have no layer at the side."""
LEAST_SIDE: Final = 3.0
"""Inches of a heat map's side."""
MOST_SIDE: Final = 8.0
LAYER_INCHES: Final = 0.12
"""Least room for the number of a layer."""
LAYERS_POINTS: Final = 14
"""Room between a heat map and the names of variants, where layers have numbers."""
COLOUR_BAR_INCHES: Final = 1.0
TITLE_INCHES: Final = 0.5
SIGNED: Final = -0.1
"""Lowest similarity below which the colours show signs."""
NO_NUMBER: Final = "#d9d9d9"


def heat_maps(
    result: Records,
    measure: str | Iterable[str] | None = None,
    *,
    corpus: str | None = None,
    site: str | None = None,
    zoom: bool = False,
    ax: Any = None,
    file: str | Path | None = None,
) -> Any:
    """Draw all pairs of spaces as a heat map: a panel for each measure, corpus and site.

    Spaces of a variant lie side by side, its layers ascending; lines part the variants. What was
    not compared or is not defined is grey. Colours of similarities go from 0 to 1 (from -1 where one
    is below 0), those of angles from 0 to pi / 2.

    Parameters
    ----------
    measure
        One or several; by default all, but of r_all and r_between (and the like) the first.
    corpus, site
        Of several, the one to draw.
    zoom
        Whether colours take the range of the data instead.
    ax, file
        As `layer_curves`, which says too what is returned and raised.
    """
    target = None if file is None else check_figure(file)
    matrices = matrices_to_draw(result, measure, corpus, site)
    side = max(_side(matrix, len(matrices)) for matrix in matrices)
    layouts = [_Layout.of(matrix, side) for matrix in matrices]
    size = (
        side + max(layout.left for layout in layouts) + COLOUR_BAR_INCHES,
        side + max(layout.below for layout in layouts) + TITLE_INCHES,
    )
    axes = panels(len(matrices), size, ax, layout="compressed")
    scales = {
        name: _scale(name, [matrix.to_numpy() for matrix in matrices if matrix.name == name], zoom)
        for name in {str(matrix.name) for matrix in matrices}
    }
    for panel, matrix, layout in zip(axes, matrices, layouts, strict=True):
        scale = scales[str(matrix.name)]
        title = f"{title_of_panel(matrix, result)}\n{caption_of_panel(matrix, result)}"
        _heat_map(panel, matrix, layout, scale, title, axis_title(str(matrix.name), result))
    if target is not None:
        write_figure(axes[0].figure, target)
    return axes[0].figure


def matrices_to_draw(
    result: Records,
    measure: str | Iterable[str] | None,
    corpus: str | None,
    site: str | None,
) -> list[xr.DataArray]:
    """Return the matrix of every panel.

    Raises
    ------
    InvalidInput
        There is nothing of that measure, corpus or site.
    """
    chosen = measures_to_draw(result, measure)
    if measure is None:
        chosen = [name for name in chosen if not name.endswith(DIFFERENCE)] or chosen
    places = list(dict.fromkeys((r["measure"], r["corpus"], r["site"]) for r in result.records))
    drawn = [
        space_matrix(result, name, corpus=where, site=at)
        for name in chosen
        for of, where, at in places
        if of == name and corpus in (None, where) and site in (None, at)
    ]
    if not drawn:
        asked = [f"{field} {name}" for field, name in (("corpus", corpus), ("site", site)) if name]
        held = dict.fromkeys(f"{record['corpus']}, {record['site']}" for record in result.records)
        raise InvalidInput(
            f"there is nothing to draw of {', '.join(asked)}; the result holds {'; '.join(held)}"
        )
    return drawn


def title_of_panel(matrix: xr.DataArray, result: Records) -> str:
    """Name the corpus, and the site where there are several."""
    about = f"corpus {matrix.attrs['corpus']}"
    if len(result.labels("site")) > 1:
        about += f", site {matrix.attrs['site']}"
    return about


def caption_of_panel(matrix: xr.DataArray, result: Records) -> str:
    """Say how many rows the pairs of a panel were compared over."""
    about = (matrix.name, matrix.attrs["corpus"], matrix.attrs["site"])
    held = (r for r in result.records if (r["measure"], r["corpus"], r["site"]) == about)
    return caption(result, held)


@dataclass(frozen=True)
class _Layout:
    """What of a heat map can be labelled, and how much room that takes."""

    groups: tuple[tuple[str, int, int], ...]
    """Variant, first and end of every run of spaces of one variant."""
    name_size: float
    """Points of a variant's name."""
    rotation: int
    """Degrees of the names below."""
    every: int
    """Layers from one that is named to the next; 0 where none is."""
    layer_size: float
    line_width: float
    left: float
    """Inches of the names."""
    below: float

    @classmethod
    def of(cls, matrix: xr.DataArray, side: float) -> _Layout:
        """Lay out a matrix on a square of a side in inches."""
        groups, start = [], 0
        for variant, members in itertools.groupby(matrix["variant"].to_numpy().tolist()):
            end = start + len(list(members))
            groups.append((variant, start, end))
            start = end
        cell = side / len(matrix)
        block = min(end - start for _variant, start, end in groups)
        name_size = min(9.0, max(4.0, 72 * cell * block * 0.8))
        longest = max(len(variant) for variant, _start, _end in groups) * name_size * 0.62 / 72
        upright = longest > cell * block
        every = max(1, math.ceil(LAYER_INCHES / cell))
        if block == 1 or (every > 1 and block * cell < 3 * LAYER_INCHES):
            every = 0
        layers = LAYERS_POINTS / 72 if every else 0.05
        return cls(
            groups=tuple(groups),
            name_size=name_size,
            rotation=90 if upright else 0,
            every=every,
            layer_size=min(7.0, max(4.5, 72 * cell * every * 0.6)),
            line_width=1.2 if cell > 0.1 else 0.5,
            left=longest + layers,
            below=(longest if upright else name_size * 1.3 / 72) + layers,
        )


def _side(matrix: xr.DataArray, n_panels: int) -> float:
    """Return the inches of a side, such that layers can be read where that is possible at all."""
    most = MOST_SIDE if n_panels == 1 else MOST_SIDE / 1.6
    wide = 0.45 if len(matrix) <= MOST_WRITTEN else CELL_INCHES
    return min(max(wide * len(matrix), LEAST_SIDE), most)


@dataclass(frozen=True)
class _Scale:
    """The colours of a measure, the same in all its panels."""

    lowest: float
    highest: float
    name: str
    """Of a colour map of matplotlib."""


def _scale(measure: str, matrices: Iterable[NDArray[np.float64]], zoom: bool) -> _Scale:
    """Return the colours of a measure: bright is alike, white is 0 where there are signs."""
    about = measure_named(measure)
    values = np.concatenate([matrix.ravel() for matrix in matrices])
    known = values[~np.isnan(values)]
    if not len(known):
        return _Scale(0.0, 1.0, "viridis")
    lowest, highest = float(known.min()), float(known.max())
    if about.kind != "similarity":
        end = highest if zoom or math.isinf(about.highest) else about.highest
        return _Scale(0.0, end if end > 0 else 1.0, "viridis_r")
    if lowest < SIGNED:
        end = max(-lowest, highest) if zoom else 1.0
        return _Scale(-end, end, "RdBu_r")
    return _Scale(min(lowest, 0.999) if zoom else 0.0, 1.0, "viridis")


def _heat_map(
    panel: Any, matrix: xr.DataArray, layout: _Layout, scale: _Scale, title: str, about: str
) -> None:
    import matplotlib as mpl

    values = matrix.to_numpy()
    image = panel.imshow(
        values,
        cmap=mpl.colormaps[scale.name].with_extremes(bad=NO_NUMBER),
        vmin=scale.lowest,
        vmax=scale.highest,
        interpolation="nearest",
        aspect="equal",
    )
    bar = panel.figure.colorbar(image, ax=panel, fraction=0.046, pad=0.02)
    bar.set_label(about, fontsize="small")
    bar.ax.tick_params(labelsize="x-small")
    bar.outline.set_visible(False)
    _label(panel, matrix, layout)
    if len(values) <= MOST_WRITTEN:
        _write_numbers(panel, values, image)
    panel.set_title(title, fontsize="medium")


def _label(panel: Any, matrix: xr.DataArray, layout: _Layout) -> None:
    """Name the variants, and their layers where a cell is large enough; part the variants."""
    middles = [(start + end - 1) / 2 for _variant, start, end in layout.groups]
    names = [variant for variant, _start, _end in layout.groups]
    # Layers are minor ticks, and would be dropped where a variant's name stands at the same place.
    panel.xaxis.remove_overlapping_locs = panel.yaxis.remove_overlapping_locs = False
    panel.set_xticks(middles, names, fontsize=layout.name_size, rotation=layout.rotation)
    panel.set_yticks(middles, names, fontsize=layout.name_size)
    panel.tick_params(which="major", length=0, pad=LAYERS_POINTS if layout.every else 3)
    if layout.every:
        shown = [
            k
            for _variant, start, end in layout.groups
            for k in range(start, end - layout.every + 1, layout.every)
        ]
        layers = matrix["layer"].to_numpy()[shown].tolist()
        panel.set_xticks(shown, layers, minor=True, fontsize=layout.layer_size)
        panel.set_yticks(shown, layers, minor=True, fontsize=layout.layer_size)
        panel.tick_params(which="minor", length=1.5, width=0.4, pad=1)
    if any(end - start > 1 for _variant, start, end in layout.groups):
        for _variant, start, _end in layout.groups[1:]:
            panel.axhline(start - 0.5, color="white", linewidth=layout.line_width)
            panel.axvline(start - 0.5, color="white", linewidth=layout.line_width)
    for edge in panel.spines.values():
        edge.set_visible(False)


def _write_numbers(panel: Any, values: NDArray[np.float64], image: Any) -> None:
    """Write every number into its cell, dark on bright and bright on dark."""
    for i, j in np.ndindex(*values.shape):
        if math.isnan(values[i, j]):
            continue
        red, green, blue, _ = image.cmap(image.norm(values[i, j]))
        bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        text = _short(float(values[i, j]))
        panel.text(
            j, i, text, ha="center", va="center", fontsize=6.5, color="black" if bright else "white"
        )


def _short(value: float) -> str:
    """Write a number in few characters: .93, -.12, 12.3; 1 only where four digits are no less."""
    if abs(value) >= 10:
        return f"{value:.3g}"
    text = f"{value:.2f}"
    if abs(float(text)) == 1 and abs(value) < 1:
        text = f"{value:.4f}"
    if float(text) in (-1.0, 0.0, 1.0):
        return f"{float(text) + 0.0:.0f}"  # adding 0 makes 0 of -0
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
