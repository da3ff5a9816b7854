"""Time and memory of a suite, drawn: against rows where they vary, else method by method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from layerlake.analyses.figures.files import check_figure, write_figure
from layerlake.analyses.figures.panels import COLOURS, MARKERS, panels
from layerlake.bench.measuring import BenchResult
from layerlake.store.errors import InvalidInput

MEASURES: Final = (
    ("cpu_seconds", "CPU time (s)"),
    ("peak_mib", "memory beyond what was there (MiB)"),
)
_LEAST_MIB: Final = 0.1
"""Below this what the system counts is chance, and not drawn."""
_COLOURS: Final = (*COLOURS, "#8c6d31", "#7f7f7f", "#b3de69")


def draw(result: BenchResult, file: str | Path) -> None:
    """Draw the time and the memory of every method, on logarithmic axes, side by side.

    Parameters
    ----------
    result
        Of the suites `rsa` (lines against the number of rows, of one pair; of the star where
        nothing else was measured) or `similarity` (a point for each workload and method).
    file
        Where to: .png, .svg or .pdf.

    Raises
    ------
    InvalidInput
        The suffix is another one, there is no such folder, or nothing was measured.
    MissingExtra
        matplotlib is not installed.
    StorageFailed
        The file cannot be written.
    """
    target = check_figure(file)
    if not result.records:
        raise InvalidInput("nothing was measured, so there is nothing to draw")
    if result.suite == "rsa":
        axes = panels(len(MEASURES), (5.4, 4.4), None, 2.6)
        pairs = [record for record in result.records if record["workload"] != "star"]
        for ax, (key, title) in zip(axes, MEASURES, strict=True):
            _lines(ax, pairs or result.records, key)
            ax.set(xscale="log", yscale="log", xlabel="rows", ylabel=title)
    else:
        kinds = _kinds(result.records)
        axes = panels(len(MEASURES), (5.0, 1.2 + 0.45 * len(kinds)), None, 2.2)
        for ax, (key, title) in zip(axes, MEASURES, strict=True):
            _points(ax, result.records, kinds, key)
            ax.set(xscale="log", xlabel=title)
    handles, labels = axes[0].get_legend_handles_labels()
    figure = axes[0].figure
    figure.legend(handles, labels, loc="outside right upper", fontsize="small", frameon=False)
    write_figure(figure, target)


def _drawn(record: dict[str, Any], key: str) -> float | None:
    value = record[key]
    if value is None or (key == "peak_mib" and value < _LEAST_MIB):
        return None
    return float(value)


def _looks(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the look of every method, the same in both panels."""
    names = dict.fromkeys(record["method"] for record in records)
    return {
        name: {
            "color": _COLOURS[k % len(_COLOURS)],
            "marker": MARKERS[k % len(MARKERS)],
        }
        for k, name in enumerate(names)
    }


def _lines(ax: Any, records: Sequence[dict[str, Any]], key: str) -> None:
    """Draw a line for each workload and method; what is read from a lake is dashed."""
    looks = _looks(records)
    workloads = dict.fromkeys(record["workload"] for record in records)
    styles = dict(zip(workloads, ("-", ":", "--", "-."), strict=False))
    for workload, style in styles.items():
        for name, look in looks.items():
            own = sorted(
                (record["n_rows"], _drawn(record, key))
                for record in records
                if (record["workload"], record["method"]) == (workload, name)
                and _drawn(record, key) is not None
            )
            if own:
                label = f"{name} ({workload})"
                ax.plot(*zip(*own, strict=True), style, label=label, markersize=4, **look)
    ax.grid(alpha=0.3)


def _kind(record: dict[str, Any]) -> str:
    """Name what a record measures."""
    if record["workload"] == "all-pairs":
        return f"all pairs of {record['spaces']}"
    return str(record["workload"])


def _kinds(records: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(map(_kind, records)))


def _points(ax: Any, records: Sequence[dict[str, Any]], kinds: Sequence[str], key: str) -> None:
    """Draw a row of points for each workload."""
    for name, look in _looks(records).items():
        own = [
            (_drawn(record, key), kinds.index(_kind(record)))
            for record in records
            if record["method"] == name and _drawn(record, key) is not None
        ]
        if own:
            ax.plot(*zip(*own, strict=True), linestyle="", label=name, **look)
    ax.set_yticks(range(len(kinds)), kinds)
    ax.invert_yaxis()
    ax.grid(alpha=0.3)
