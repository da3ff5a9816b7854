"""Rows of a space as a dataset of rsatoolbox. Imported where it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.store.amounts import parse_bytes, require
from layerlake.store.errors import MissingExtra
from layerlake.store.views.lazy_arrays import row_coordinates

if TYPE_CHECKING:
    from layerlake.store.space import Space

BLOCK_ROWS: Final = 1024
"""Rows that are held as stored while they are widened."""
ROW_BYTES: Final = 100
"""What the descriptors of a row take."""


def rsatoolbox_module(name: str) -> Any:
    """Import a module of rsatoolbox.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            "this needs rsatoolbox, which is not installed; install it with: "
            "pip install 'layerlake[rsatoolbox]'"
        ) from error


def dataset_of(
    space: Space, index: Any, *, words: bool, columns: Sequence[str], memory: int | str
) -> Any:
    """Return rows of a space as a Dataset; see `Space.to_rsatoolbox`."""
    chosen = chosen_rows(space, index)
    require(
        dataset_bytes(space, len(chosen)),
        parse_bytes(memory),
        f"a dataset of {len(chosen)} rows",
        "choose fewer rows, or allow more",
    )
    dataset = rsatoolbox_module("rsatoolbox.data").Dataset
    return dataset(
        widened(space, chosen),
        descriptors={
            "corpus": space.corpus,
            "variant": space.variant,
            "site": space.site,
            "layer": space.layer,
        },
        obs_descriptors=row_descriptors(space, chosen, words=words, columns=columns),
        channel_descriptors={"hidden": np.arange(space.shape[1])},
    )


def dataset_bytes(space: Space, n_rows: int) -> int:
    """Return the bytes that rows in float64, and what describes them, take at their peak."""
    block = min(n_rows, BLOCK_ROWS) * space.shape[1] * space.dtype.itemsize
    return n_rows * (8 * space.shape[1] + ROW_BYTES) + block + space.reading_bytes


def chosen_rows(space: Space, index: Any) -> NDArray[np.int64]:
    """Return the numbers of the rows that are asked for."""
    if index is None:
        return np.arange(space.shape[0])
    if isinstance(index, slice):
        return np.arange(*index.indices(space.shape[0]))
    return space.places(index)


def widened(space: Space, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return rows in float64, (row, hidden)."""
    rows = np.empty((len(chosen), space.shape[1]))
    for start in range(0, len(chosen), BLOCK_ROWS):
        part = chosen[start : start + BLOCK_ROWS]
        rows[start : start + len(part)] = space.rows(part)
    return rows


def row_descriptors(
    space: Space, chosen: NDArray[np.int64], *, words: bool, columns: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return what is known of rows, an array each; texts as numpy's own strings."""
    known = row_coordinates(space, words=words, columns=columns, index=chosen)
    described = {"row": chosen} | {name: values for name, (_, values) in known.items()}
    return {
        name: values.astype(str) if values.dtype.kind == "O" else values
        for name, values in described.items()
    }
