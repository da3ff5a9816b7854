"""Options that say how a source of examples is read: the fields of `Reading`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from layerlake.cli.completion import formats
from layerlake.engine.corpora.formats import FORMATS, SEGMENTS, WITH_FIELDS


def field_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the fields of a corpus file."""
    for option in (
        click.option(
            "--words-field", metavar="NAME", help="Field of the list of words (jsonl, parquet)."
        ),
        click.option("--pair-field", metavar="NAME", help="Field of the second text of a pair."),
        click.option(
            "--text-field", metavar="NAME", help=f"Field of the text ({', '.join(WITH_FIELDS)})."
        ),
    ):
        function = option(function)
    return function


def reading_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to read a corpus file."""
    function = field_options(function)
    for option in (
        click.option(
            "--segment",
            type=click.Choice(SEGMENTS),
            default=SEGMENTS[0],
            show_default=True,
            help="Unit of an example (wikitext).",
        ),
        click.option(
            "--format",
            metavar="NAME",
            shell_complete=formats,
            help=f"Format of the file: {', '.join(FORMATS[:-1])} or {FORMATS[-1]}  "
            "[default: from the file's name]",
        ),
    ):
        function = option(function)
    return function
