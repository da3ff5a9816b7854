"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from layerlake.cli.completion import folders, formats

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def lake_option() -> Decorator:
    """Return the option that names the lake."""
    return click.option(
        "--lake",
        metavar="PATH",
        shell_complete=folders,
        help="The lake: a folder [default: $LAYERLAKE, else ./lake].",
    )


def json_option() -> Decorator:
    """Return the option for machine-readable output."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def layers_option() -> Decorator:
    """Return the option that chooses layers."""
    return click.option("--layers", metavar="LIST", help="0,8,16 or 0-4  [default: all]")


def pooling_option() -> Decorator:
    """Return the option that says how words were made of pieces."""
    return click.option(
        "--pooling",
        type=click.Choice(["mean", "first", "last", "max"]),
        default="mean",
        show_default=True,
        help="How the pieces of a word become its row.",
    )


def unit_option(*units: str, default: str | None, help: str) -> Decorator:
    """Return the option that says what a row is."""
    return click.option(
        "--unit",
        type=click.Choice(units),
        default=default,
        show_default=default is not None,
        help=help,
    )


def field_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the fields of a corpus file."""
    for option in (
        click.option(
            "--words-field", metavar="NAME", help="jsonl, parquet: the field of a word list."
        ),
        click.option("--pair-field", metavar="NAME", help="The field of the second text."),
        click.option(
            "--text-field", metavar="NAME", help="jsonl, tsv, csv, parquet: the field of the text."
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
            type=click.Choice(["sentence", "paragraph"]),
            default="sentence",
            show_default=True,
            help="wikitext: what an example is.",
        ),
        click.option(
            "--format",
            metavar="NAME",
            shell_complete=formats,
            help="text, jsonl, tsv, csv, parquet, wikitext, conllu, mnli, snli or squad  "
            "[default: from the file's name]",
        ),
    ):
        function = option(function)
    return function
