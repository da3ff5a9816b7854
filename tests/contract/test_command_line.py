"""Commands with their options and arguments, as `command_line.json` records them.

Spellings, defaults, choices and what must be given; no help texts, which may be put better.
`conftest.py` says how to record anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import click

from layerlake.cli.main import commands


def default_of(parameter: click.Parameter) -> Any:
    """Return the default for JSON: None where there is none."""
    value = parameter.to_info_dict()["default"]
    if callable(value):
        return value.__name__
    if isinstance(value, tuple | list):
        return [one if isinstance(one, int | float | str | bool) else repr(one) for one in value]
    if value is None or isinstance(value, int | float | str | bool):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def type_of(kind: click.ParamType) -> dict[str, Any]:
    """Describe what a value may be."""
    about: dict[str, Any] = {"type": kind.name}
    if isinstance(kind, click.Choice):
        about["choices"] = [str(choice) for choice in kind.choices]
    for name in ("min", "max"):
        if getattr(kind, name, None) is not None:
            about[name] = getattr(kind, name)
    return about


def parameter_of(parameter: click.Parameter) -> dict[str, Any]:
    """Describe an option or an argument, without its words for people."""
    about = type_of(parameter.type)
    about |= {"default": default_of(parameter), "required": parameter.required}
    about |= {"multiple": parameter.multiple, "nargs": parameter.nargs}
    if isinstance(parameter, click.Option):
        about |= {"is_flag": parameter.is_flag, "count": parameter.count}
        about["opposites"] = list(parameter.secondary_opts)
    return about


def described(command: click.Command, context: click.Context) -> dict[str, Any]:
    """Describe the options, by their spellings, and the arguments, in their order."""
    options, arguments = {}, []
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option):
            options[" ".join(sorted(parameter.opts))] = parameter_of(parameter)
        else:
            arguments.append(parameter_of(parameter))
    return {"options": options, "arguments": arguments}


def walk(command: click.Command, context: click.Context) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every command below one, and itself, by the words that are typed."""
    yield context.command_path, described(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            settings = {**below.context_settings}
            yield from walk(below, click.Context(below, context, name, **settings))


def test_commands_options_and_arguments(as_recorded: Callable[[str, Any], None]) -> None:
    context = click.Context(commands, info_name="layerlake", **commands.context_settings)
    found = dict(walk(commands, context))
    assert "layerlake corpus add" in found
    as_recorded("command_line", found)
