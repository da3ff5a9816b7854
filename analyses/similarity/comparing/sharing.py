"""Which spaces are compared with which, and how the pairs are shared out among passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from layerlake.analyses.results.record import Key
from layerlake.analyses.similarity.comparing.pairs import KeyPair


class Share(NamedTuple):
    """The spaces and pairs of one pass."""

    keys: tuple[Key, ...]
    pairs: tuple[tuple[int, int], ...]
    """Places in `keys`."""


def share_out(
    pairs: Sequence[KeyPair],
    fits: Callable[[Share], bool],
) -> list[Share]:
    """Share pairs out among passes that each fit into memory, as few as that takes.

    Spaces that no chain of pairs connects have nothing to share and go into different passes.
    Where the spaces of a chain do not fit together they are cut into blocks, and each pass takes
    two blocks, so that a space is read once for every other block.

    Parameters
    ----------
    pairs
        Of different spaces; each once.
    fits
        Says whether a pass over a share fits. One pair is taken as it is, fitting or not: the pass
        itself says what it lacks.
    """
    shares: list[Share] = []
    for group in _connected(pairs):
        keys = list(dict.fromkeys(key for pair in group for key in pair))
        for n_blocks in range(1, len(keys) + 1):
            cut = _in_blocks(keys, group, n_blocks)
            if all(len(share.pairs) == 1 or fits(share) for share in cut):
                break
        shares += cut
    return shares


def _connected(pairs: Sequence[KeyPair]) -> list[list[KeyPair]]:
    """Split pairs into groups that share no space, in the order in which they begin."""
    root: dict[Key, Key] = {}

    def find(key: Key) -> Key:
        while root.setdefault(key, key) != key:
            root[key] = root[root[key]]
            key = root[key]
        return key

    for one, other in pairs:
        root[find(other)] = find(one)
    groups: dict[Key, list[KeyPair]] = {}
    for pair in pairs:
        groups.setdefault(find(pair[0]), []).append(pair)
    return list(groups.values())


def _in_blocks(keys: Sequence[Key], pairs: Sequence[KeyPair], n_blocks: int) -> list[Share]:
    """Cut spaces into so many blocks and put each pair into the pass of its two blocks."""
    block = {key: place * n_blocks // len(keys) for place, key in enumerate(keys)}
    order = {key: place for place, key in enumerate(keys)}
    by_blocks: dict[tuple[int, int], list[KeyPair]] = {}
    for pair in pairs:
        low, high = sorted(block[key] for key in pair)
        if low == high and n_blocks > 1:  # goes with the first pass that holds the block anyway
            low, high = (low - 1, low) if low else (0, 1)
        by_blocks.setdefault((low, high), []).append(pair)
    shares = []
    for own in by_blocks.values():
        used = sorted({key for pair in own for key in pair}, key=order.__getitem__)
        place = {key: k for k, key in enumerate(used)}
        places = tuple((place[one], place[other]) for one, other in own)
        shares.append(Share(tuple(used), places))
    return shares
