"""Which inputs an update sees, and how they are laid out so that little is padded.

An update is a batch of the recipe's size, drawn at random. It runs as several micro-batches of
inputs of like length, whose gradients add up to those of the whole batch: its composition is that
of plain random batches, and hardly a padded piece is computed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.models.batching_check import ALONE, PADDED

OVERHEAD_PIECES: Final = {"cpu": 96, "cuda": 4096}
"""What running one more micro-batch costs, in pieces that could be computed in that time."""


def batches_of_epoch(n: int, batch: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Return the inputs of every update of an epoch; each input comes once.

    A pure function: what is left of an epoch can be told without what came before.

    Parameters
    ----------
    n
        Inputs there are.
    batch
        Inputs of an update; the last of the epoch may have fewer.
    seed, epoch
        Another order for every two of these.
    """
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    order = generator.permutation(n).astype(np.int64)
    return [order[start : start + batch] for start in range(0, n, batch)]


def micro_batches(
    lengths: NDArray[np.int64], most_pieces: int, overhead: int, batching: str = PADDED
) -> list[NDArray[np.int64]]:
    """Divide inputs into micro-batches at the least cost: padded pieces, and the overhead of each.

    Parameters
    ----------
    lengths
        Pieces of each input, shape (input,).
    most_pieces
        Most pieces of a micro-batch, padding included; a longer input is one of its own.
    overhead
        What one more micro-batch costs, in pieces.
    batching
        How inputs go through the model together; see `engine.models.batching_check`.

    Returns
    -------
    Indices into `lengths`, from short inputs to long ones, an array a micro-batch.
    """
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    most_pieces = 1 if batching == ALONE else most_pieces
    ordered = lengths[order].tolist()
    n = len(ordered)
    cost = [0.0] * (n + 1)  # of the first i inputs, divided at best
    begin = [0] * (n + 1)  # where the last of these micro-batches begins
    for stop in range(1, n + 1):
        longest = ordered[stop - 1]
        best, at = cost[stop - 1] + longest + overhead, stop - 1
        for start in range(stop - 2, -1, -1):
            padded = (stop - start) * longest
            if padded > most_pieces or (batching != PADDED and ordered[start] != longest):
                break
            total = cost[start] + padded + overhead
            if total < best:
                best, at = total, start
        cost[stop], begin[stop] = best, at
    found = []
    stop = n
    while stop:
        found.append(order[begin[stop] : stop])
        stop = begin[stop]
    return found[::-1]
