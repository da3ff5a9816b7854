"""Numbers as people give them: whole ones within bounds, or one sentence."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import Any

from layerlake.store.errors import InvalidInput, is_a

SEED_BITS = 64


def whole_number(value: Any, what: str, low: int, high: int | None = None) -> int:
    """Return a whole number from `low` to `high`, of any integer type but bool.

    Raises
    ------
    InvalidInput
        It is none, or out of bounds.
    """
    bounds = f"from {low} to {high}" if high is not None else f"of {low} or more"
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or number < low or (high is not None and number > high):
        raise InvalidInput(f"{what} is {value!r}; give a whole number {bounds}")
    return number


def check_confidence(value: Any) -> float:
    """Return a nominal coverage between 0 and 1; raise `InvalidInput` for anything else."""
    if not is_a(value, int, float) or not 0 < value < 1:
        raise InvalidInput(f"confidence is {value}; give a number between 0 and 1, as 0.95")
    return float(value)


def check_seed(value: Any, what: str = "the seed") -> int:
    """Return a seed, from 0 to 2**64 - 1; raise `InvalidInput` for anything else."""
    return whole_number(value, what, 0, 2**SEED_BITS - 1)


def parse_layers(layers: str | int | Iterable[int] | None, n_layers: int) -> tuple[int, ...]:
    """Return the layers asked for, ascending: all by default, else `0,8,16`, `0-4`, numbers.

    Raises
    ------
    InvalidInput
        They cannot be read, there are none, or one is above `n_layers`.
    """
    if layers is None or (isinstance(layers, str) and layers == "all"):
        return tuple(range(n_layers + 1))
    unclear = InvalidInput(f"layers {layers!r} not understood; give them as 0,8,16 or 0-4")
    ranges: list[tuple[int, int]] = []
    if isinstance(layers, str):
        for part in layers.split(","):
            low, dash, high = (piece.strip() for piece in part.partition("-"))
            ends = [low, high if dash else low]
            if not all(end.isascii() and end.isdigit() for end in ends):
                raise unclear
            ranges.append((int(ends[0]), int(ends[1])))
    else:
        try:
            given = layers if isinstance(layers, Iterable) else [layers]
            ranges = [(operator.index(layer), operator.index(layer)) for layer in given]
        except TypeError:
            raise unclear from None
    if not ranges:
        raise InvalidInput(f"no layers asked for; give some of 0-{n_layers}")
    for first, last in ranges:
        if last < first:
            raise InvalidInput(f"layers {first}-{last} go down; give the lower one first")
        if first < 0 or last > n_layers:
            beyond = first if first < 0 else last
            raise InvalidInput(
                f"layer {beyond} asked of a model with {n_layers} layers (0-{n_layers})"
            )
    return tuple(sorted({layer for first, last in ranges for layer in range(first, last + 1)}))


Choice = int | str | Iterable[int | None] | None
"""Numbers as `parse_choices` takes them."""
_RANGE = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")
_MOST_VARIANTS = 10_000


def parse_choices(given: Choice, what: str) -> tuple[int | None, ...]:
    """Return the numbers of `none,0-3,8`, in order and once each; `none` stands for itself.

    Raises
    ------
    InvalidInput
        They cannot be read.
    """
    unclear = InvalidInput(f"{what} {given!r} not understood; give numbers as 0, 0-9 or none,0-9")
    chosen: list[int | None] = []
    if given is None or (is_a(given, int) and not is_a(given, bool)):
        return (given,) if given is None else (whole_number(given, what, 0),)
    if not isinstance(given, str):
        try:
            return tuple(
                dict.fromkeys(None if n is None else whole_number(n, what, 0) for n in given)  # type: ignore[union-attr]
            )
        except TypeError:
            raise unclear from None
    for part in given.split(","):
        matched = _RANGE.fullmatch(part.strip())
        if part.strip() == "none":
            chosen.append(None)
        elif matched:
            first, last = int(matched[1]), int(matched[2] or matched[1])
            if last < first or last - first >= _MOST_VARIANTS:
                raise unclear
            chosen.extend(range(first, last + 1))
        else:
            raise unclear
    return tuple(dict.fromkeys(chosen))
