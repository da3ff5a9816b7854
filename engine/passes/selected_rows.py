"""The rows that spaces are compared over, checked: the same stimuli in each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.passes.arrays import Array, take_rows, to_host
from layerlake.engine.passes.blocks import SpaceLike
from layerlake.store.errors import InvalidInput

FEWEST_ROWS: Final = 4
"""Rows below which pairs say nothing: three rows have three pairs."""


def require_rows(n_rows: int, n_dropped: int, whose: Sequence[str] = ()) -> None:
    """Refuse fewer rows than a correlation over pairs needs.

    `whose` names spaces none of whose rows have a direction.
    """
    if n_rows < FEWEST_ROWS:
        dropped = f" after {n_dropped} without a direction were dropped" if n_dropped else ""
        said = "row is" if n_rows == 1 else "rows are"
        blame = f"; no row of {' and of '.join(whose)} has one" if whose else ""
        raise InvalidInput(
            f"{n_rows} {said} left{dropped}{blame}; a comparison needs at least {FEWEST_ROWS} rows"
        )


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


@dataclass(frozen=True, slots=True)
class Selected:
    """The same rows of several spaces, checked by `select`."""

    spaces: tuple[SpaceLike, ...]
    rows: tuple[NDArray[np.int64], ...]
    """`rows[k]` are the ascending row indices into the k-th space; entry i of every one is the
    same stimulus."""
    names: tuple[str, ...]
    """What to call each space in messages."""
    clusters: NDArray[np.int64]
    """(row,): the cluster of each row, 0, 1, 2, ... in order."""
    bounds: NDArray[np.int64]
    """(cluster + 1,): where each cluster starts, and the number of rows."""

    @property
    def n_rows(self) -> int:
        """Rows selected."""
        return len(self.clusters)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(cluster,): rows of each cluster."""
        lengths: NDArray[np.int64] = np.diff(self.bounds)
        return lengths


def select(
    spaces: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    clusters: NDArray[np.int64],
    names: Sequence[str],
) -> Selected:
    """Check rows of spaces and number their clusters.

    Parameters
    ----------
    spaces, rows, names
        As in `Selected`.
    clusters
        (row,): what each row came from; equal ids lie side by side.

    Raises
    ------
    InvalidInput
        The rows do not match, or are fewer than 4.
    """
    starts = check_rows(spaces, rows, clusters, names)
    bounds = np.append(starts, len(clusters)).astype(np.int64)
    numbered = np.repeat(np.arange(len(starts)), np.diff(bounds))
    return Selected(tuple(spaces), tuple(rows), tuple(names), numbered, bounds)


def without_rows(selected: Selected, lost: NDArray[np.bool_]) -> Selected:
    """Return a selection less some of its rows, (row,); clusters left without rows are no more.

    Raises
    ------
    InvalidInput
        Fewer than 4 rows are left.
    """
    kept = np.flatnonzero(~lost)
    require_rows(len(kept), int(lost.sum()))
    rows = [index[kept] for index in selected.rows]
    return select(selected.spaces, rows, selected.clusters[kept], selected.names)


@dataclass(frozen=True, slots=True)
class ArraySpace:
    """An array as a space, its rows in another order."""

    array: Array
    order: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and hidden."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> object:
        """The dtype of the array."""
        return self.array.dtype

    def rows(self, index: NDArray[np.int64], /) -> Array:
        """Return the rows at an index into the order."""
        return take_rows(self.array, self.order[index])


def value_bytes(space: SpaceLike) -> int:
    """Return the bytes of a stored value, whatever library its dtype comes from."""
    name = str(space.dtype).rpartition(".")[2]
    return 2 if name == "bfloat16" else np.dtype(name).itemsize


def check_rows(
    spaces: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    clusters: NDArray[np.int64],
    names: Sequence[str],
) -> NDArray[np.int64]:
    """Refuse rows that do not match and return where each cluster starts."""
    if len(spaces) < 2:
        raise InvalidInput("there is no variant to compare the reference with; give at least one")
    if not len(spaces) == len(rows) == len(names):
        raise InvalidInput(
            f"{len(spaces)} spaces have {len(rows)} row selections and {len(names)} names; "
            "give one of each per space"
        )
    for space, index, name in zip(spaces, rows, names, strict=True):
        if len(index) != len(clusters):
            raise InvalidInput(
                f"{len(index)} rows of {name} are selected and {len(clusters)} cluster ids given; "
                "every space needs the same stimuli"
            )
        if len(index) and (index[0] < 0 or index[-1] >= space.shape[0]):
            raise InvalidInput(
                f"rows {index[0]} to {index[-1]} of {name} are asked for, and it has "
                f"{space.shape[0]}"
            )
        if (np.diff(index) <= 0).any():
            raise InvalidInput(f"the rows selected of {name} are not ascending; sort them")
    require_rows(len(clusters), 0)
    starts = np.flatnonzero(np.append(True, clusters[1:] != clusters[:-1]))
    if len(np.unique(clusters[starts])) != len(starts):
        raise InvalidInput("the rows of a cluster do not lie side by side; sort rows by cluster")
    return starts
