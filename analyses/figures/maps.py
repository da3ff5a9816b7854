"""Maps of spaces: alike spaces lie near each other, the layers of a variant on one line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from layerlake.analyses.figures.files import check_figure, write_figure
from layerlake.analyses.figures.matrices import (
    caption_of_panel,
    matrices_to_draw,
    title_of_panel,
)
from layerlake.analyses.figures.panels import add_legend, beside_width, looks_of, panels
from layerlake.analyses.results.record import Records
from layerlake.analyses.results.similarity_measures import measure_named
from layerlake.analyses.results.space_map import SpaceMap, space_map

MOST_NUMBERED: Final = 60
"""Points up to which all have the number of their layer; of more, each variant's ends have."""
NEAR: Final = 0.04
"""Of the width of the map: nearer points of one layer share its number, and of any points at half
that one has a number."""
MOST_WITH_ENDS: Final = 12
"""Variants up to which the ends have numbers."""


def space_maps(
    result: Records,
    measure: str | Iterable[str] | None = None,
    *,
    corpus: str | None = None,
    site: str | None = None,
    distance: str = "angle",
    ax: Any = None,
    file: str | Path | None = None,
) -> Any:
    """Draw a two-dimensional map of spaces: a panel for each measure, corpus and site.

    Classical multidimensional scaling (MDS) places the spaces such that distances on the map are as
    near to those of the measure as two dimensions allow; the axes say which part of the spread they
    show. A line joins the layers of a variant, from an
    open marker at the lowest.

    Parameters
    ----------
    distance
        How a similarity becomes a distance; see `space_map`.
    measure, corpus, site, ax, file
        As `heat_maps`.

    Raises
    ------
    InvalidInput
        As `heat_maps`; and where not all pairs were compared, or there are fewer than three.
    """
    target = None if file is None else check_figure(file)
    matrices = matrices_to_draw(result, measure, corpus, site)
    maps = [space_map(matrix, distance=distance) for matrix in matrices]
    names = list(dict.fromkeys(variant for drawn in maps for variant, _layer in drawn.spaces))
    wide = 6.0 if len(maps) == 1 else 4.6
    spans = (drawn.points.max(axis=0) - drawn.points.min(axis=0) for drawn in maps)
    tall = max(float(height / width) if width > 0 else 1.0 for width, height in spans)
    size = (wide, 0.9 + wide * min(max(tall, 0.4), 0.9))
    axes = panels(len(maps), size, ax, beside_width(names))
    for panel, matrix, drawn in zip(axes, matrices, maps, strict=True):
        _map(panel, drawn, names)
        about = measure_named(str(matrix.name))
        how = {"angle": "arccos ", "chord": "chord of "}[distance]
        how = how if about.kind == "similarity" else ""
        title = f"MDS by {how}{about.title}, {title_of_panel(matrix, result)}"
        title += f"\n{caption_of_panel(matrix, result)}"
        if drawn.left_out:
            title += f"\nwithout {_listed(drawn.left_out)} (undefined)"
        panel.set_title(title, fontsize="medium")
    add_legend(axes, names, own=ax is None)
    if target is not None:
        write_figure(axes[0].figure, target)
    return axes[0].figure


def _map(panel: Any, drawn: SpaceMap, names: Sequence[str]) -> None:
    looks = looks_of(names)
    members: dict[str, list[int]] = {}
    for k, (variant, _layer) in enumerate(drawn.spaces):
        members.setdefault(variant, []).append(k)
    every = len(drawn.spaces) <= MOST_NUMBERED
    written: list[tuple[int, float, float]] = []
    size = 5.0 if every else 3.0
    for variant, places in members.items():
        x, y = drawn.points[places].T
        look = looks[variant]
        panel.plot(
            x,
            y,
            "-",
            color=look.colour,
            marker=look.marker,
            markersize=size,
            linewidth=1.2 if every else 0.8,
            label=variant,
        )
        panel.plot(
            x[:1],
            y[:1],
            color=look.colour,
            marker=look.marker,
            markersize=size + 1.5,
            markerfacecolor="white",
            linestyle="none",
        )
        if len(places) > 1 and (every or len(members) <= MOST_WITH_ENDS):
            numbered = places if every else [places[0], places[-1]]
            _number(panel, drawn, numbered, look.colour, written)
    panel.set_xlabel(f"MDS axis 1 ({100 * drawn.shares[0]:.0f} % of the spread)")
    panel.set_ylabel(f"MDS axis 2 ({100 * drawn.shares[1]:.0f} %)")
    panel.set_aspect("equal", adjustable="datalim")
    panel.tick_params(labelsize="x-small")
    panel.grid(alpha=0.25, linewidth=0.5)


def _number(
    panel: Any,
    drawn: SpaceMap,
    places: Iterable[int],
    colour: str,
    written: list[tuple[int, float, float]],
) -> None:
    """Write layers beside their points, but where that number, or any, stands already."""
    near = NEAR * float(np.ptp(drawn.points, axis=0).max())
    for k in places:
        layer = drawn.spaces[k][1]
        x, y = drawn.points[k].tolist()
        if any(
            math.hypot(x - other_x, y - other_y) < (near if number == layer else near / 2)
            for number, other_x, other_y in written
        ):
            continue
        written.append((layer, x, y))
        panel.annotate(
            str(layer), (x, y), xytext=(3, 3), textcoords="offset points", fontsize=7, color=colour
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
