"""What all figures share: panels, the looks of many variants, legends that fit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from layerlake.analyses.results.measures import CEILINGS, family_of, in_order
from layerlake.analyses.results.record import Records
from layerlake.store.errors import InvalidInput, MissingExtra

# Told apart by people who see few colours (Okabe and Ito 2008), yellow left out on white.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_STEM: Final = re.compile(r"[-_@.]?[A-Za-z]?\d+$")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
DASHES: Final = ("-", "--", ":", "-.")
MOST_INSIDE: Final = 7
"""Entries of a legend that lie within the panel; more lie beside it."""
ENTRIES_A_COLUMN: Final = 22
MOST_PANELS_A_ROW: Final = 3


@dataclass(frozen=True)
class Look:
    """How the curve or the points of one variant are drawn."""

    colour: str
    marker: str


def looks_of(names: Sequence[str]) -> dict[str, Look]:
    """Return a look for each name, such that what goes together looks alike.

    Names that differ in a number at their end alone are a group (`mnli-s0`, `mnli-s1`): of several
    groups each has a colour, and its members differ in markers, then in shade. Many names of a
    single group are stages of one thing (`step1`, `step1000`), and go from dark to bright in order.
    Otherwise colours come first, then colours with other markers.
    """
    import matplotlib as mpl

    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_STEM.sub("", name), []).append(name)
    if len(groups) == 1 and len(names) > len(COLOURS):
        shades = mpl.colormaps["viridis"].resampled(len(names) + 1)
        return {
            name: Look(mpl.colors.to_hex(shades(k)), MARKERS[k % len(MARKERS)])
            for k, name in enumerate(names)
        }
    if 1 < len(groups) <= len(COLOURS) and len(groups) < len(names):
        return {
            name: Look(
                _lighter(colour, min(0.25 * (k // len(MARKERS)), 0.75)), MARKERS[k % len(MARKERS)]
            )
            for colour, members in zip(COLOURS, groups.values(), strict=False)
            for k, name in enumerate(members)
        }
    return {
        name: Look(COLOURS[k % len(COLOURS)], MARKERS[k // len(COLOURS) % len(MARKERS)])
        for k, name in enumerate(names)
    }


def _lighter(colour: str, share: float) -> str:
    """Return a colour (#rrggbb) with a share of white."""
    parts = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def measures_to_draw(result: Records, asked: str | Iterable[str] | None) -> list[str]:
    """Return the measures asked for; by default all but what is shown beside others.

    Raises
    ------
    InvalidInput
        The result holds none, or not one that was asked for.
    """
    held = in_order((record["measure"] for record in result.records), result.measures)
    if asked is None:
        first = {family_of(name, result.measures): name for name in reversed(held)}
        if len(first) > 1:  # else they are drawn beside what they are the ceiling of
            first.pop(CEILINGS[0], None)
        chosen = list(first.values())[::-1]
    else:
        chosen = [asked] if isinstance(asked, str) else list(dict.fromkeys(asked))
    missing = [name for name in chosen if name not in held]
    if missing or not chosen:
        raise InvalidInput(
            f"there is nothing to draw of {', '.join(missing) or 'no measure'}; the result holds "
            f"{', '.join(held) or 'no record'}"
        )
    return chosen


def panels(
    number: int,
    size: tuple[float, float],
    ax: Any,
    beside: float = 0.0,
    *,
    layout: Literal["constrained", "compressed"] = "constrained",
    share: tuple[bool, bool] = (False, False),
) -> list[Any]:
    """Return axes: new ones of a size (width, height) in inches, or the one that was given.

    Parameters
    ----------
    beside
        Inches left at the right, for a legend.
    layout
        Of matplotlib; `compressed` where panels are of a fixed aspect.
    share
        Whether panels share their horizontal, and their vertical axis.

    Raises
    ------
    InvalidInput
        Axes were given, and more than one panel is needed.
    MissingExtra
        matplotlib is not installed.
    """
    try:
        from layerlake.analyses.figures.inline import InlineFigure
    except ImportError as error:
        raise MissingExtra(
            "plots need matplotlib, which is not installed; install it with: "
            "pip install 'layerlake[plots]'"
        ) from error
    if ax is not None:
        if number > 1:
            raise InvalidInput(
                f"{number} panels do not fit on the axes given; choose one measure and corpus, "
                "or give no axes"
            )
        return [ax]
    rows = math.ceil(number / MOST_PANELS_A_ROW)
    columns = math.ceil(number / rows)
    figure = InlineFigure(figsize=(columns * size[0] + beside, rows * size[1]), layout=layout)
    across, upright = share
    axes = figure.subplots(rows, columns, squeeze=False, sharex=across, sharey=upright).ravel()
    for unused in axes[number:]:
        unused.remove()
    return list(axes[:number])


def label_outer(axes: Sequence[Any]) -> None:
    """Leave the label of a shared horizontal axis, and its numbers, to the lowest panels.

    A panel is the lowest of its column, too, where the last row is not full.
    """
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    for k, panel in enumerate(axes):
        lowest = k + columns >= len(axes)
        panel.tick_params(labelbottom=lowest)
        if not lowest:
            panel.set_xlabel("")


def beside_width(names: Sequence[str]) -> float:
    """Return the inches that a legend beside the panels takes, 0 where it lies within."""
    if len(names) <= MOST_INSIDE:
        return 0.0
    columns = math.ceil(len(names) / ENTRIES_A_COLUMN)
    return columns * (0.45 + 0.075 * max(map(len, names)))


def add_legend(axes: Sequence[Any], names: Sequence[str], *, own: bool) -> None:
    """Name what is drawn: within the first panel, or beside all of them where it is much.

    Parameters
    ----------
    own
        Whether the figure is ours, with room at its right.
    """
    handles, labels = axes[0].get_legend_handles_labels()
    for other in axes[1:]:
        for handle, label in zip(*other.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    if len(names) <= MOST_INSIDE:
        axes[0].legend(handles, labels, fontsize="small", framealpha=0.7)
        return
    columns = math.ceil(len(names) / ENTRIES_A_COLUMN)
    settings = {"ncols": columns, "fontsize": "x-small", "frameon": False}
    if own:
        axes[0].figure.legend(handles, labels, loc="outside right center", **settings)
    else:
        axes[0].legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), **settings)
