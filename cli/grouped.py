"""Commands whose help lists their options in groups: what, which rows, how, where, output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class Grouped(click.Command):
    """A command with its options in groups, in the order of use; rare ones come last.

    Parameters
    ----------
    groups
        The names of parameters in each group, by its title, in the order of the help. Other options
        are listed last, as `Other`.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.groups = dict(groups)

    def records(self, ctx: click.Context) -> dict[str, tuple[str, str]]:
        """Return how each option is written and what it does, by the name of its parameter."""
        return {
            str(parameter.name): record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            and (record := parameter.get_help_record(ctx)) is not None
        }

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list for each group."""
        left = self.records(ctx)
        for title, names in self.groups.items():
            _write(formatter, title, [left.pop(name) for name in names if name in left])
        _write(formatter, "Other", list(left.values()))


def _write(formatter: click.HelpFormatter, title: str, records: Sequence[tuple[str, str]]) -> None:
    if records:
        with formatter.section(title):
            formatter.write_dl(records)
