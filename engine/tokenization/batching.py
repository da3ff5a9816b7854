"""Batches inside a window: narrow length buckets under a token budget."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput

DEFAULT_TOKEN_BUDGET = 2048
"""Most pieces of one batch, padding included."""

MAX_WASTE = 0.08
"""Largest share of padding in a batch."""


def plan_window(
    lengths: NDArray[np.int64], token_budget: int, *, max_waste: float = MAX_WASTE
) -> list[NDArray[np.int64]]:
    """Divide the inputs of a window into batches of nearly equal lengths.

    Inputs are taken from short to long (ties by position); a batch ends where one more input would
    bring it above the budget, or its share of padding above `max_waste`. So the whole plan runs at
    most 1 / (1 - `max_waste`) times the real pieces. A pure function: the same lengths and budget
    give the same batches for ever, which lets a resumed extraction repeat them.

    Parameters
    ----------
    lengths
        Pieces of each input, at least 1, shape (input,).
    token_budget
        Most pieces of a batch, padding included; a longer input is a batch of its own.
    max_waste
        Largest share of padding in a batch; 0 for batches of one length.

    Returns
    -------
    Indices into `lengths`, one array a batch.

    Raises
    ------
    InvalidInput
        A budget or a length below 1.
    """
    if token_budget < 1:
        raise InvalidInput(f"a batch of {token_budget} tokens holds nothing; give at least 1")
    if lengths.size and lengths.min() < 1:
        raise InvalidInput(f"input {int(lengths.argmin())} is empty; every input needs a piece")
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    bounds = [0]
    real = 0
    for index, length in enumerate(lengths[order].tolist()):
        padded = (index - bounds[-1] + 1) * length
        over_budget = padded > token_budget
        too_wasteful = padded - real - length > max_waste * padded
        if index > bounds[-1] and (over_budget or too_wasteful):
            bounds.append(index)
            real = 0
        real += length
    return np.split(order, bounds[1:]) if len(order) else []


def plan_digest(plans: Iterable[list[NDArray[np.int64]]]) -> str:
    """Return the sha256 (hex) of the batches of all windows, in order."""
    digest = hashlib.sha256()
    for plan in plans:
        digest.update(len(plan).to_bytes(8, "little"))
        for batch in plan:
            digest.update(len(batch).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(batch, "<i8").data)
    return digest.hexdigest()


def pad_batch(
    piece_ids: NDArray[np.int32],
    segment_ids: NDArray[np.uint8],
    input_offsets: NDArray[np.int64],
    inputs: NDArray[np.int64],
    pad_id: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Lay the inputs of one batch side by side, padded at the right.

    Parameters
    ----------
    piece_ids, segment_ids
        Of all pieces, shape (piece,).
    input_offsets
        Input i is pieces [input_offsets[i], input_offsets[i + 1]), shape (input + 1,).
    inputs
        The inputs of the batch, shape (batch,), at least one.
    pad_id
        Stands where no piece is; the mask hides it from the model.

    Returns
    -------
    Piece ids, attention mask (1 on pieces) and segment ids, each (batch, longest input).
    """
    starts = input_offsets[inputs]
    lengths = input_offsets[inputs + 1] - starts
    places = np.arange(int(lengths.max()))
    real = places < lengths[:, None]
    index = np.where(real, starts[:, None] + places, 0)
    ids = np.where(real, piece_ids[index], pad_id).astype(np.int64)
    segments = np.where(real, segment_ids[index], 0).astype(np.int64)
    return ids, real.astype(np.int64), segments
