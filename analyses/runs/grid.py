"""Several runs from one description: tasks by seeds, each with a folder of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from layerlake.engine.settings import Choice, check_seed, parse_choices
from layerlake.store.errors import InvalidInput


def grid(
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    seeds: Choice = 0,
    out: str | os.PathLike[str],
    **shared: Any,
) -> list[dict[str, Any]]:
    """Return the runs of several tasks by several seeds, for `finetune_many`.

    Parameters
    ----------
    tasks
        By name, what is of its own: arguments of `finetune`, such as `train` and `dev`. The name is
        that of the task, where there is no `task` among them.
    seeds
        `0-2`, `0,3,7`, numbers, or one number.
    out
        The folder of each run: in it `{name}`, `{task}` and `{seed}` stand for what they say.
    **shared
        Arguments of `finetune` that all runs have, such as `model`.

    Raises
    ------
    InvalidInput
        Seeds that cannot be read, or folders that do not tell the runs apart.
    """
    runs = []
    for name, own in tasks.items():
        arguments = {"task": name, **shared, **own, "seed": seeds, "out": out}
        runs += by_seed(arguments, name)
    return runs


def by_seed(arguments: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a run for every seed of `arguments`, with its folder.

    Parameters
    ----------
    arguments
        Of `finetune`; `seed` may be several, as `grid`, and `out` may hold `{name}`, `{task}` and
        `{seed}`.
    name
        What `{name}` stands for.
    """
    seeds = _seeds(arguments.get("seed", 0))
    given = arguments.get("out")
    if given is None:
        return [dict(arguments) | {"seed": seed} for seed in seeds]
    pattern = os.fspath(given)
    if len(seeds) > 1 and "{seed}" not in pattern:
        raise InvalidInput(
            f"{len(seeds)} seeds cannot all be written to {pattern}; put {{seed}} into the name of "
            "the folder"
        )
    words = {"name": name, "task": str(arguments.get("task", name))}
    return [
        dict(arguments) | {"seed": seed, "out": _filled(pattern, words | {"seed": str(seed)})}
        for seed in seeds
    ]


def _seeds(given: Any) -> list[int]:
    found = []
    for seed in parse_choices(given, "seed"):
        if seed is None:
            raise InvalidInput(f"seed {given!r} not understood; give numbers as 0, 0-2 or 0,3,7")
        found.append(check_seed(seed))
    return found


def _filled(pattern: str, words: Mapping[str, str]) -> str:
    """Return a folder with words in the place of their names."""

    def word(found: re.Match[str]) -> str:
        if found[1] not in words:
            raise InvalidInput(
                f"the folder {pattern!r} cannot be read; {{name}}, {{task}} and {{seed}} are what "
                "it may hold"
            )
        return words[found[1]]

    return re.sub(r"\{([^{}]*)\}", word, pattern)
