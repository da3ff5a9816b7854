"""Options that several commands share."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import click

from layerlake.cli.completion import folders

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class KnownChoice(click.Choice[str]):
    """A choice among names that a module lists.

    The module is imported when a choice is checked or shown, not with the command: a shell that
    completes the names of options waits for none of it.

    Parameters
    ----------
    module, name
        Where the tuple of names is.
    *first
        Further names, which come before these.
    """

    def __init__(self, module: str, name: str, *first: str) -> None:
        # Not the parent's: it would ask for the names at once.
        self.case_sensitive = True
        self._place = module, name
        self._first = first

    @cached_property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names, in the order of the module."""
        module, name = self._place
        return (*self._first, *getattr(importlib.import_module(module), name))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return one of the names; anything while a shell completes the line."""
        if ctx is not None and ctx.resilient_parsing:
            return str(value)
        return super().convert(value, param, ctx)


POOLING = KnownChoice("layerlake.store.schema", "POOLINGS")
ANY_POOLING = KnownChoice("layerlake.store.schema", "ALL_POOLINGS")
CODEC = KnownChoice("layerlake.store.schema", "CODECS")
STORE_DTYPE = KnownChoice("layerlake.store.storage", "STORE_DTYPES")


def lake_option() -> Decorator:
    """Return the option that names the lake."""
    return click.option(
        "--lake",
        metavar="PATH",
        shell_complete=folders,
        help="Folder of the lake  [default: $LAYERLAKE, else ./lake]",
    )


def json_option() -> Decorator:
    """Return the option for machine-readable output."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def layers_option() -> Decorator:
    """Return the option that chooses layers."""
    return click.option("--layers", metavar="LIST", help="Layers, as 0,8,16 or 0-4  [default: all]")


def pooling_option(poolings: KnownChoice = POOLING, whose: str = "a word") -> Decorator:
    """Return the option that says how rows are made of pieces."""
    return click.option(
        "--pooling",
        type=poolings,
        default="mean",
        show_default=True,
        help=f"How the tokens of {whose} are pooled.",
    )


def store_dtype_option(help: str) -> Decorator:
    """Return the option that says which dtype rows are stored in."""
    return click.option(
        "--store-dtype", type=STORE_DTYPE, default="auto", show_default=True, help=help
    )


def codec_option(help: str) -> Decorator:
    """Return the option that says how rows are compressed."""
    return click.option("--codec", type=CODEC, default="none", show_default=True, help=help)


def window_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options on the rows that are written at a time."""
    for option in (
        click.option(
            "--memory",
            default="8GiB",
            show_default=True,
            help="Memory limit for rows that wait to be written.",
        ),
        click.option(
            "--window-rows", type=int, default=16384, show_default=True, help="Rows per shard."
        ),
    ):
        function = option(function)
    return function


def unit_option(*units: str, default: str | None, help: str) -> Decorator:
    """Return the option that says what a row is."""
    return click.option(
        "--unit",
        type=click.Choice(units),
        default=default,
        show_default=default is not None,
        help=help,
    )
