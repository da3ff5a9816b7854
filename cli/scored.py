"""What `finetune` and `evaluate` share: how data is named, and how scores are shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.data import Sources
    from layerlake.engine.progress import Progress

_MINUTE: Final = 60.0


def named_sources(given: Sequence[str]) -> Sources:
    """Return sources that people wrote as `FILE` or `NAME=FILE`.

    Raises
    ------
    InvalidInput
        Two have the same name.
    """
    from layerlake.store.errors import InvalidInput

    parted = [_parted(text) for text in given]
    if not any(name for name, _ in parted):
        return [source for _, source in parted]
    found: dict[str, str] = {}
    for name, source in parted:
        called = name or _usual_name(source)
        if called in found:
            raise InvalidInput(f"two sources are called {called}; name them, as NAME=FILE")
        found[called] = source
    return found


def _parted(text: str) -> tuple[str, str]:
    """Part `NAME=FILE`; a path may hold a `=` of its own."""
    name, equals, source = text.partition("=")
    if not equals or not name or "/" in name or Path(text).exists():
        return "", text
    return name, source


def _usual_name(source: str) -> str:
    """Return what a source is called where nobody names it."""
    from layerlake.engine.corpora.hub import is_hub_name, parse_hub_name
    from layerlake.store.schema import name_from

    if is_hub_name(source):
        return name_from(parse_hub_name(source).short)
    return name_from(Path(source).name.split(".")[0])


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
