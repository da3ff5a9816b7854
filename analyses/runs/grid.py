"""Every combination of values along named axes, such as tasks by layers by seeds."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from layerlake.engine.settings import check_seed, parse_choices
from layerlake.store.errors import InvalidInput

Axis: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""Values, each its own label; or values by their labels."""


@dataclass(frozen=True)
class Point:
    """One combination: a value of each axis."""

    arguments: Mapping[str, Any]
    """The value of each axis by its name, after what all points share."""
    labels: Mapping[str, Any]
    """By axis, what the value is called on a labelled axis and in the name of a folder."""
    index: tuple[int, ...]
    """Where the point lies in an array with these axes."""


def grid(axes: Mapping[str, Axis], shared: Mapping[str, Any] | None = None) -> list[Point]:
    """Return every combination of values; the last axis varies fastest.

    Parameters
    ----------
    axes
        The values of each axis, by its name; in a mapping, by their labels.
    shared
        Arguments that all points have.

    Raises
    ------
    InvalidInput
        An axis has no values, or one label twice.

    Examples
    --------
    >>> points = grid({"task": ["mnli", "dep"], "k": [0, 8]})
    >>> points[1].arguments
    {'task': 'mnli', 'k': 8}
    >>> folders("runs/{task}-k{k}", points)
    ['runs/mnli-k0', 'runs/mnli-k8', 'runs/dep-k0', 'runs/dep-k8']
    """
    pairs = {
        name: list(axis.items() if isinstance(axis, Mapping) else zip(axis, axis, strict=True))
        for name, axis in axes.items()
    }
    for name, axis in pairs.items():
        if not axis:
            raise InvalidInput(f"the axis {name} has no values; give one at least")
        if (twice := _twice(str(label) for label, _ in axis)) is not None:
            raise InvalidInput(f"the axis {name} has {twice} twice; give each value once")
    points = []
    for index in itertools.product(*(range(len(axis)) for axis in pairs.values())):
        chosen = {name: pairs[name][at] for name, at in zip(pairs, index, strict=True)}
        arguments = {**(shared or {}), **{name: value for name, (_, value) in chosen.items()}}
        points.append(Point(arguments, {name: label for name, (label, _) in chosen.items()}, index))
    return points


def folders(
    pattern: str | os.PathLike[str], points: Sequence[Point], words: Mapping[str, str] | None = None
) -> list[str]:
    """Return the folder of each point of a whole grid.

    Parameters
    ----------
    pattern
        The folder, in which `{axis}` stands for the label of the point on that axis.
    words
        What else may stand in braces, and what for.

    Raises
    ------
    InvalidInput
        The folders do not tell the points apart, or hold a name that stands for nothing.
    """
    pattern = os.fspath(pattern)
    for axis in points[0].labels if points else ():
        count = len({str(point.labels[axis]) for point in points})
        if count > 1 and f"{{{axis}}}" not in pattern:
            several = f"{count} {axis}s" if len(axis) > 1 else f"{count} values of {axis}"
            raise InvalidInput(
                f"{several} cannot all be written to {pattern}; put {{{axis}}} into the name of "
                "the folder"
            )
    found = [_filled(pattern, {**(words or {}), **point.labels}) for point in points]
    if (twice := _twice(found)) is not None:
        raise InvalidInput(
            f"two points of the grid would both be written to {twice}; separate the names in "
            f"{pattern}, for example by -"
        )
    return found


def _twice(names: Iterable[str]) -> str | None:
    """Return the first name that is there more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def by_seed(arguments: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the arguments of a run for every seed, each with its folder.

    Parameters
    ----------
    arguments
        Those of a run; `seed` may be several (`0-2`, `0,3,7` or numbers), and `out` may hold
        `{name}`, `{task}` and `{seed}`.
    name
        What `{name}` stands for.
    """
    points = grid({"seed": _seeds(arguments.get("seed", 0))}, arguments)
    runs = [dict(point.arguments) for point in points]
    if arguments.get("out") is None:
        return runs
    words = {"name": name, "task": str(arguments.get("task", name))}
    places = folders(arguments["out"], points, words)
    return [run | {"out": place} for run, place in zip(runs, places, strict=True)]


def _seeds(given: Any) -> list[int]:
    seeds = parse_choices(given, "seed")
    if None in seeds:
        raise InvalidInput(f"seed {given!r} not understood; give numbers as 0, 0-2 or 0,3,7")
    return [check_seed(seed) for seed in seeds]


def _filled(pattern: str, words: Mapping[str, Any]) -> str:
    """Return a folder with words in the place of their names."""

    def word(found: re.Match[str]) -> str:
        if found[1] not in words:
            *most, last = [f"{{{name}}}" for name in words] or ["nothing"]
            listed = f"{', '.join(most)} and {last} are" if most else f"{last} is"
            raise InvalidInput(f"the folder {pattern!r} cannot be read; {listed} what it may hold")
        return str(words[found[1]])

    return re.sub(r"\{([^{}]*)\}", word, pattern)
