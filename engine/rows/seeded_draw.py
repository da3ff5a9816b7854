"""Draws by a seeded hash of identities: the same stimuli on every machine, whatever else is there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.settings import check_seed
from layerlake.store.errors import InvalidInput

_GOLDEN = 0x9E3779B97F4A7C15


def draw(ids: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Return the places (rising) of the n ids of smallest seeded hash.

    Uniform without replacement. Whether an id is drawn before another depends on the two and the
    seed alone, so the same stimuli are drawn whatever other rows are present, a draw of fewer is
    part of a draw of more, and every machine and numpy agree. The hash is the finaliser of
    splitmix64 (Steele, Lea & Flood 2014), applied to the id and again with the seed mixed in; it
    is one to one, so distinct ids never tie.

    Parameters
    ----------
    ids
        (row,) distinct ids.
    n
        How many to draw, at most `len(ids)`.
    seed
        From 0 to 2**64 - 1.

    Raises
    ------
    InvalidInput
        Where n or the seed is out of range.
    """
    if not 0 <= n <= len(ids):
        raise InvalidInput(f"{n} rows asked for, but there are {len(ids)}; ask for fewer")
    check_seed(seed)
    if n == 0:
        return np.empty(0, np.int64)
    hashes = _hashes(ids, seed)
    highest = np.partition(hashes, n - 1)[n - 1]
    return np.flatnonzero(hashes <= highest)


def draw_of_each(
    ids: NDArray[np.int64], groups: NDArray[np.int64], k: int, seed: int
) -> NDArray[np.int64]:
    """Return the places (rising) of the k ids of smallest seeded hash of every group.

    Parameters
    ----------
    ids, groups
        (row,) distinct ids, and the group that each belongs to.
    k
        How many of a group at most; all of a smaller one.
    seed
        As `draw`, which this is within a group.
    """
    check_seed(seed)
    return np.flatnonzero(_ranks(_hashes(ids, seed), groups) < k)


def draw_evenly(
    ids: NDArray[np.int64], groups: NDArray[np.int64], n: int, seed: int
) -> NDArray[np.int64]:
    """Return the places (rising) of n ids, as equally many of every group as there are.

    The first of each group (by `draw`'s hash) come before the second of any, and so on; among
    those of equal rank the smaller hash comes first. No group so has more than one more than
    another that is not used up, and a draw of fewer is part of a draw of more.

    Parameters
    ----------
    ids, groups
        (row,) distinct ids, and the group that each belongs to.
    n
        How many to draw, at most `len(ids)`.
    seed
        As `draw`.
    """
    check_seed(seed)
    hashes = _hashes(ids, seed)
    order = np.lexsort((hashes, _ranks(hashes, groups)))
    return np.sort(order[:n])


def shuffled(ids: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the places of the ids in the order of an epoch: a permutation.

    Uniform over seeds and epochs. Whether an id comes before another depends on the two, the seed
    and the epoch alone, so that further ids change nothing about the order of these.

    Parameters
    ----------
    ids
        (n,) distinct ids.
    seed, epoch
        Each from 0 to 2**64 - 1.
    """
    check_seed(seed)
    check_seed(epoch, "the epoch")
    golden = np.uint64(_GOLDEN)
    state = _mix(np.asarray([seed], np.uint64) + golden)
    # Mixed once more before they meet, or seed 1 in epoch 2 would be seed 2 in epoch 1.
    state = _mix(_mix(state) ^ _mix(np.asarray([epoch], np.uint64) + golden))
    return np.argsort(_mix(_mix(ids.astype(np.uint64) + golden) ^ state), kind="stable")


def _hashes(ids: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    golden = np.uint64(_GOLDEN)
    state = _mix(np.asarray([seed], np.uint64) + golden)
    return _mix(_mix(ids.astype(np.uint64) + golden) ^ state)


def _ranks(hashes: NDArray[np.uint64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank (from 0) of each hash within its group."""
    order = np.lexsort((hashes, groups))
    sorted_groups = groups[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = sorted_groups[1:] != sorted_groups[:-1]
    first = np.flatnonzero(begins)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - first[np.cumsum(begins) - 1]
    return ranks


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the splitmix64 finaliser of each value (arithmetic modulo 2**64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
