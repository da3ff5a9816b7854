"""Rows as callers have them, turned into what is stored: looked at, narrowed, refused by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput, is_a

STEP_ROWS = 1024
"""Rows that are converted and checked at a time."""


def to_numpy(rows: Any) -> NDArray[Any]:
    """Return what a caller calls an array of floats as one of numpy, torch tensors included."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(rows, torch.Tensor):
        tensor = rows.detach().cpu()
        rows = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    array = rows if is_a(rows, np.ndarray) else np.asarray(rows)
    if array.dtype.kind != "f":
        raise InvalidInput(
            f"the rows came as {array.dtype}; give floats (float16, float32 or float64)"
        )
    if array.ndim != 2:
        raise InvalidInput(
            f"the rows came in shape {array.shape}; give (rows, hidden), a layer at a time"
        )
    return array


def take_in(part: NDArray[Any], out: NDArray[Any] | None, name: Callable[[int], str]) -> None:
    """Copy rows into `out`, in its dtype (or only look at them, where it is None).

    Parameters
    ----------
    name
        Names the array and a row of `part` for a message.

    Raises
    ------
    InvalidInput
        NaN, infinity, or a value that the dtype cannot hold; the row is named.
    """
    for low in range(0, len(part), STEP_ROWS):
        block = part[low : low + STEP_ROWS]
        stored = block
        if out is not None:
            stored = out[low : low + STEP_ROWS]
            with np.errstate(over="ignore", invalid="ignore"):
                stored[...] = block
        if np.isfinite(stored).all():
            continue
        bad = int(np.flatnonzero(~np.isfinite(stored).all(axis=1))[0])
        where = name(low + bad)
        if not np.isfinite(block[bad]).all():
            raise InvalidInput(f"{where}: NaN or infinite values came; leave that row out")
        largest = float(np.abs(block[bad]).max())
        most = float(np.finfo(stored.dtype).max)
        advice = "choose float32" if stored.dtype == np.float16 else "scale the activations"
        raise InvalidInput(
            f"{where}: a value of {largest:.6g} does not fit {stored.dtype} ({most:.6g} at most); "
            f"{advice}"
        )
