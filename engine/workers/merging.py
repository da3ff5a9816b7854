"""States of parts merged with their neighbours, always in the same pairs."""

from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")


def pairs_of_level(count: int) -> list[tuple[int, ...]]:
    """List which of so many neighbours are merged: pairs, and the last one alone if it is odd."""
    return [tuple(range(k, min(k + 2, count))) for k in range(0, count, 2)]


class Merging(Generic[S]):
    """Merges states of parts as they come, in whatever order."""

    def __init__(self, count: int, merge: Callable[[S, S], S]) -> None:
        """Expect the states of parts 0 to count - 1; `merge` takes the earlier one first."""
        self._count = count
        self._merge = merge
        self._waiting: dict[tuple[int, int], S] = {}  # (level, number)

    def add(self, number: int, state: S) -> None:
        """Take the state of a part, and merge all that can be."""
        level, count = 0, self._count
        while count > 1:
            pair = pairs_of_level(count)[number // 2]
            if len(pair) == 2:
                other = (level, sum(pair) - number)
                if other not in self._waiting:
                    break
                theirs = self._waiting.pop(other)
                earlier = number == pair[0]
                state = self._merge(state, theirs) if earlier else self._merge(theirs, state)
                del theirs
            number, level, count = number // 2, level + 1, len(pairs_of_level(count))
        self._waiting[level, number] = state

    def whole(self) -> S:
        """Return what the states of all parts have become."""
        (state,) = self._waiting.values()
        return state
