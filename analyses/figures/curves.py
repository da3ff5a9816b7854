"""Curves over layers: how a measure goes through the depth of each variant."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from layerlake.analyses.figures.captions import axis_title, caption
from layerlake.analyses.figures.files import check_figure, write_figure
from layerlake.analyses.figures.panels import (
    DASHES,
    add_legend,
    beside_width,
    label_outer,
    looks_of,
    measures_to_draw,
    panels,
)
from layerlake.analyses.results.measures import CEILINGS, known_measure
from layerlake.analyses.results.record import Record, Records
from layerlake.store.errors import InvalidInput

MOST_STRONG: Final = 8
"""Curves whose bands may be as dark as that of one; those of more would cover each other."""

MOST_UPRIGHT: Final = 32
"""Letters of an upright label that stand on one line; a longer one breaks before its bracket."""


@dataclass(frozen=True)
class _Curve:
    """One line with its band."""

    name: str
    variant: str
    beside: str
    """What of corpus, reference and site differs within the result."""
    layers: Sequence[int]
    values: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


def layer_curves(
    result: Records,
    measure: str | Iterable[str] | None = None,
    *,
    zoom: bool = False,
    ax: Any = None,
    file: str | Path | None = None,
) -> Any:
    """Draw measures over layers: a panel each, a line and a band (the interval) a variant.

    Noise ceilings are hatched bands behind the curves that they are of. The axis of a similarity
    goes from 0 to 1, from the lowest value where that is below 0; that of an angle from 0 to pi / 2.

    Where layers were compared across, the pairs of one layer are drawn; all with one layer of the
    reference, where it has no other.

    Parameters
    ----------
    measure
        One or several; by default all, but of r_all and r_between (and the like) the first.
    zoom
        Whether axes take the range of the data instead.
    ax
        matplotlib axes to draw one measure on; new ones where not given.
    file
        Where to write the figure; the suffix says how: .png, .svg or .pdf.

    Returns
    -------
    matplotlib.figure.Figure
        The figure that holds the axes; a notebook shows it, where it is the last thing of a cell.

    Raises
    ------
    InvalidInput
        The suffix is another one, there is no such folder, or there is nothing to draw.
    MissingExtra
        matplotlib is not installed.
    StorageFailed
        The file cannot be written.
    """
    target = None if file is None else check_figure(file)
    chosen = measures_to_draw(result, measure)
    records, at_layer = _of_one_layer(result.records)
    curves = {name: _curves(records, name, ("corpus", "reference", "site")) for name in chosen}
    if not any(curves.values()):
        raise InvalidInput(
            f"{', '.join(chosen)} has no number for two variants at a layer; there is nothing to "
            "draw over layers, but kind='matrix' shows layers against layers"
        )
    title = _title(records, chosen, at_layer)
    return _drawn(result, curves, title, ax, target, records, zoom=zoom)


def curves_of_spaces(
    result: Records,
    measure: str | Iterable[str] | None = None,
    *,
    usual: Iterable[str] = (),
    ax: Any = None,
    file: str | Path | None = None,
) -> Any:
    """Draw numbers of single spaces, with a variant and a layer, over layers.

    Parameters
    ----------
    usual
        The measures that are drawn where `measure` names none, as far as the result holds them.
    measure, ax, file
        As `layer_curves`, which says too what is returned and raised.
    """
    target = None if file is None else check_figure(file)
    held = result.labels("measure")
    chosen = measures_to_draw(
        result, [name for name in usual if name in held] if measure is None else measure
    )
    curves = {name: _curves(result.records, name, result.distinguishing) for name in chosen}
    if not any(curves.values()):
        raise InvalidInput(
            f"{', '.join(chosen)} is defined for no space; there is nothing to draw over layers"
        )
    corpora, variants = result.labels("corpus"), result.labels("variant")
    title = result.kind.capitalize()
    title += f" of {variants[0]}" if len(variants) == 1 else ""
    title += f", corpus {corpora[0]}" if len(corpora) == 1 else ""
    return _drawn(result, curves, title, ax, target, result.records, zoom=True)


def _drawn(
    result: Records,
    curves: Mapping[str, Sequence[_Curve]],
    title: str,
    ax: Any,
    target: Path | None,
    records: Sequence[Record],
    *,
    zoom: bool,
) -> Any:
    """Draw the curves of each measure in a panel of its own, and noise ceilings where there are."""
    chosen = list(curves)
    names = list(dict.fromkeys(curve.name for drawn in curves.values() for curve in drawn))
    size = (4.8, 3.4) if len(chosen) == 1 else (3.4, 3.0)
    ranges = {name: None if zoom else _range_of(name, curves[name]) for name in chosen}
    alike = None not in ranges.values() and len(set(ranges.values())) == 1
    axes = panels(len(chosen), size, ax, beside_width(names), share=(True, alike))
    from matplotlib.ticker import MaxNLocator

    looks = looks_of(list(dict.fromkeys(c.variant for drawn in curves.values() for c in drawn)))
    dashes = list(dict.fromkeys(c.beside for drawn in curves.values() for c in drawn))
    strength = 0.2 if len(names) <= MOST_STRONG else max(0.05, 0.2 * MOST_STRONG / len(names))
    for panel, name in zip(axes, chosen, strict=True):
        for curve in curves[name]:
            look = looks[curve.variant]
            panel.plot(
                curve.layers,
                curve.values,
                DASHES[dashes.index(curve.beside) % len(DASHES)],
                color=look.colour,
                marker=look.marker,
                markersize=4,
                linewidth=1.5 if len(names) <= MOST_STRONG else 1.0,
                label=curve.name,
            )
            if not all(map(math.isnan, curve.lows)):
                panel.fill_between(
                    curve.layers,
                    curve.lows,
                    curve.highs,
                    color=look.colour,
                    alpha=strength,
                    linewidth=0,
                )
        bands = _ceilings(records) if name in ("r_all", "cosine") else {}
        for (_corpus, variant), (layers, lows, highs) in bands.items():
            colour = looks[variant].colour if variant in looks else "0.6"
            panel.fill_between(
                layers, lows, highs, facecolor="none", edgecolor=colour, hatch="///", linewidth=0
            )
        panel.set_xlabel("layer")
        label = axis_title(name, result)
        label = label.replace(" (", "\n(", 1) if len(label) > MOST_UPRIGHT else label
        panel.set_ylabel(label + ("\nhatched: noise ceiling" if bands else ""))
        if (reach := ranges[name]) is not None:
            panel.set_ylim(reach[0] - 0.02 * (reach[1] - reach[0]), reach[1] * 1.02)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.25, linewidth=0.5)
    banded = any(not math.isnan(low) for drawn in curves.values() for c in drawn for low in c.lows)
    shown = [record for record in records if record["measure"] in chosen]
    title = f"{title}\n{caption(result, shown, bands=banded)}"
    if len(axes) == 1:
        axes[0].set_title(title, fontsize="medium")
    else:
        axes[0].figure.suptitle(title, fontsize="medium")
        label_outer(axes)
    add_legend(axes, names, own=ax is None)
    if target is not None:
        write_figure(axes[0].figure, target)
    return axes[0].figure


def _range_of(measure: str, curves: Sequence[_Curve]) -> tuple[float, float] | None:
    """Return the range that a measure is shown in, None for that of the data."""
    known = known_measure(measure)
    if known is None or known.kind not in ("similarity", "angle"):
        return None
    ends = (end for curve in curves for end in (*curve.values, *curve.lows))
    lowest = min((end for end in ends if not math.isnan(end)), default=0.0)
    return (min(0.0, math.floor(10 * lowest) / 10), known.highest)


def _of_one_layer(records: Iterable[Record]) -> tuple[list[Record], int | None]:
    """Return the records that make curves, and the layer of the reference if it is one for all."""
    apart = [record for record in records if _is_apart(record)]
    same = [record for record in apart if record["reference_layer"] == record["layer"]]
    layers = {record["reference_layer"] for record in apart}
    if len(same) < len(apart) and len(layers) == 1:
        return apart, layers.pop()
    return same, None


def _is_apart(record: Record) -> bool:
    """Whether two spaces are compared, not one with itself."""
    return (record["reference"], record["reference_layer"]) != (record["variant"], record["layer"])


def _curves(records: Iterable[Record], measure: str, fields: Sequence[str]) -> list[_Curve]:
    """Return the curves of a measure, in the order met; other fields tell curves apart."""
    kept = [r for r in records if r["measure"] == measure and _number(r["value"]) is not None]
    differing = [field for field in fields if len({record[field] for record in kept}) > 1]
    met: dict[tuple[str, str], list[Record]] = {}
    for record in kept:
        beside = ", ".join(str(record[field]) for field in differing)
        met.setdefault((str(record["variant"]), beside), []).append(record)
    curves = []
    for (variant, beside), points in met.items():
        points.sort(key=lambda record: int(record["layer"]))
        values, lows, highs = (
            [_nan(record[end]) for record in points] for end in ("value", "low", "high")
        )
        name = f"{variant} ({beside})" if beside else variant
        layers = [int(record["layer"]) for record in points]
        curves.append(_Curve(name, variant, beside, layers, values, lows, highs))
    return curves


def _ceilings(
    records: Iterable[Record],
) -> dict[tuple[str, str], tuple[list[int], list[float], list[float]]]:
    """Return the layers and both ends of the noise ceilings, by corpus and group of variants."""
    ends: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for record in records:
        if record["measure"] in CEILINGS:
            layers = ends.setdefault((str(record["corpus"]), str(record["variant"])), {})
            at = layers.setdefault(int(record["layer"]), {})
            at[record["measure"]] = _nan(record["value"])
    bands = {}
    for group, found in ends.items():
        numbers = sorted(found)
        lows, highs = ([found[number][end] for number in numbers] for end in CEILINGS)
        bands[group] = (numbers, lows, highs)
    return bands


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _title(records: Sequence[Record], measures: Sequence[str], at_layer: int | None) -> str:
    """Say what the curves compare, as far as it is the same for all."""
    references, corpora = (
        list(dict.fromkeys(record[field] for record in records))
        for field in ("reference", "corpus")
    )
    known = [known_measure(name) for name in measures]
    alike = all(one is None or one.kind == "similarity" for one in known)
    title = "Similarity to " if alike else "Comparison with "
    title += references[0] if len(references) == 1 else "each reference"
    if at_layer is not None:
        title += f", layer {at_layer}"
    return f"{title}, corpus {corpora[0]}" if len(corpora) == 1 else title
