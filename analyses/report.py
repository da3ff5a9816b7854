"""Figures of results, drawn with matplotlib's own objects: no window, no global state."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from layerlake.store.errors import InvalidInput, MissingExtra, StorageFailed

if TYPE_CHECKING:
    from layerlake.analyses.results import SimilarityResult

SUFFIXES: Final = (".png", ".svg", ".pdf")
_MEASURE: Final = "r_all"


def check_figure(file: str | Path) -> Path:
    """Return the path of a figure that can be written: a known suffix, a folder that is there.

    Raises
    ------
    InvalidInput
        The suffix is another one, or there is no such folder.
    """
    target = Path(file)
    if target.suffix.lower() not in SUFFIXES:
        raise InvalidInput(
            f"{target.name!r} does not name a figure; give a name that ends in "
            f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        )
    if not target.absolute().parent.is_dir():
        raise InvalidInput(
            f"there is no folder {target.parent} for the figure {target.name}; create it, or "
            "choose another place"
        )
    return target


def layer_curves(result: SimilarityResult, ax: Any = None, file: str | Path | None = None) -> Any:
    """Draw similarity over layers: a line and a band (the interval) for each variant.

    Parameters
    ----------
    result
        What to draw; of its measures, r_all.
    ax
        matplotlib axes to draw on; new ones where not given.
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
    curves = _curves(result)
    if not curves:
        raise InvalidInput(f"the result holds no {_MEASURE}; there is nothing to draw")
    try:
        from matplotlib.ticker import MaxNLocator

        from layerlake.analyses.inline_figures import InlineFigure
    except ImportError as error:
        raise MissingExtra(
            "plots need matplotlib, which is not installed; install it with: "
            "pip install 'layerlake[plots]'"
        ) from error
    if ax is None:
        ax = InlineFigure(figsize=(6.4, 4.0), layout="constrained").subplots()
    for name, points in curves.items():
        layers, values, lows, highs = zip(*sorted(points), strict=True)
        (line,) = ax.plot(layers, values, marker="o", markersize=4, label=name)
        if not all(math.isnan(low) for low in lows):
            ax.fill_between(layers, lows, highs, color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set_xlabel("layer")
    ax.set_ylabel("RSA")
    ax.set_title(_title(result))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    if target is not None:
        drawn = io.BytesIO()
        ax.figure.savefig(drawn, dpi=150, format=target.suffix[1:].lower())
        try:
            target.write_bytes(drawn.getvalue())
        except OSError as error:
            raise StorageFailed(
                f"the figure cannot be written to {target}: {error.strerror}; choose another place"
            ) from error
    return ax.figure


def _curves(result: SimilarityResult) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return layer, value, low and high of every point, by the name of the curve.

    A name holds, beside the variant, what of corpus, reference and site differs within the result.
    """
    differing = [
        field for field in ("corpus", "reference", "site") if len(result.labels(field)) > 1
    ]
    curves: dict[str, list[tuple[float, float, float, float]]] = {}
    for record in result.records:
        if record["measure"] != _MEASURE or record["value"] is None:
            continue
        beside = ", ".join(str(record[field]) for field in differing)
        name = f"{record['variant']} ({beside})" if beside else str(record["variant"])
        low, value, high = (
            math.nan if record[end] is None else float(record[end])
            for end in ("low", "value", "high")
        )
        curves.setdefault(name, []).append((float(record["layer"]), value, low, high))
    return curves


def _title(result: SimilarityResult) -> str:
    """Say what the curves compare, as far as it is the same for all."""
    references, corpora = result.labels("reference"), result.labels("corpus")
    title = "Similarity to " + (references[0] if len(references) == 1 else "each reference")
    return f"{title}, {corpora[0]}" if len(corpora) == 1 else title
