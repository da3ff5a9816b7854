"""Rows that can be compared: how many a comparison needs, and which spaces give none."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.passes.arrays import to_host
from layerlake.engine.passes.blocks import SpaceLike
from layerlake.engine.passes.selected_rows import Needs

COMPARISON: Final = Needs(
    "a comparison",
    rows=4,
    spaces=2,
    too_few_spaces="there is no variant to compare the reference with; give at least one",
)
"""Rows below which pairs say nothing: three rows have three pairs."""


def without_direction(
    spaces: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    names: Sequence[str],
    *,
    centred: bool,
) -> list[str]:
    """Return the names of spaces none of whose rows (of a sample) have a direction."""
    found = []
    for space, index, name in zip(spaces, rows, names, strict=True):
        sample = index[np.linspace(0, len(index) - 1, min(len(index), 64)).astype(np.int64)]
        wide = to_host(space.rows(np.unique(sample))).astype(np.float64)
        if centred:
            wide = wide - wide[:, :1]
        if not wide.any():
            found.append(name)
    return found
