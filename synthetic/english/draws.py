"""Draws whose stream never changes: a hash of what is drawn seeds a generator of fixed output."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

Choice = TypeVar("Choice")


class Draws:
    """A stream of draws, fixed by its key alone.

    Python promises that `random.Random(integer).random()` gives the same numbers in every version
    and on every platform; it promises so of no other method, so no other is used.
    """

    def __init__(self, *key: str | int) -> None:
        """Start the stream of a key, such as ("sentences", seed, index)."""
        text = "/".join(str(part) for part in key)
        digest = hashlib.sha256(text.encode()).digest()
        self._next = random.Random(int.from_bytes(digest, "big")).random

    def chance(self, probability: float) -> bool:
        """Say yes with a probability."""
        return self._next() < probability

    def below(self, n: int) -> int:
        """Return a whole number from 0 to n - 1, each as likely."""
        return int(self._next() * n)

    def choice(self, options: Sequence[Choice]) -> Choice:
        """Return one of the options, each as likely."""
        return options[self.below(len(options))]

    def weighted(self, options: Sequence[tuple[Choice, float]]) -> Choice:
        """Return one of the options, each as likely as its weight says."""
        left = self._next() * sum(weight for _, weight in options)
        for option, weight in options:
            left -= weight
            if left < 0:
                return option
        return options[-1][0]

    def shuffled(self, options: Sequence[Choice]) -> list[Choice]:
        """Return the options in some order, each order as likely."""
        remaining = list(options)
        return [remaining.pop(self.below(len(remaining))) for _ in options]
