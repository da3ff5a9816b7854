"""Numbers as people give them: whole ones within bounds, or one sentence."""

from __future__ import annotations

import operator
from typing import Any

from layerlake.store.errors import InvalidInput

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


def check_seed(value: Any, what: str = "the seed") -> int:
    """Return a seed, from 0 to 2**64 - 1; raise `InvalidInput` for anything else."""
    return whole_number(value, what, 0, 2**SEED_BITS - 1)
