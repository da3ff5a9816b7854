"""What `finetune` and `evaluate` share: how data is named, and how scores are shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from layerlake.engine.progress import Progress

_MINUTE: Final = 60.0


def leads() -> bool:
    """Say whether this process speaks for all that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def progress_of_leader() -> Progress:
    """Return a bar for the process that speaks; the others show none."""
    from layerlake.engine.progress import silent, to_terminal

    return to_terminal if leads() else silent


def seconds_text(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < 2 * _MINUTE**2:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _MINUTE**2:.1f} h"


def score_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Return scores as lines: data, measure, value in per cent."""
    rows = [
        (data, measure, f"{100 * value:.1f} %")
        for data, values in scores.items()
        for measure, value in values.items()
    ]
    return table([("data", "measure", "value"), *rows])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells side by side, the first row their titles, the last column to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[-1] = row[-1].rjust(widths[-1])
        lines.append("  ".join(cells))
    return "\n".join(lines)


def say_notes(notes: Sequence[str]) -> None:
    """Print notes on stderr."""
    for note in notes:
        click.echo(f"note: {note}", err=True)
