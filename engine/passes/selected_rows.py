"""The rows that a pass goes over, checked: the same stimuli in each of several spaces."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.passes.arrays import Array, take_rows
from layerlake.engine.passes.blocks import MakesRows, SpaceLike
from layerlake.store.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Needs:
    """The fewest spaces and rows that an analysis can work with."""

    what: str = "an analysis"
    """What messages call the analysis."""
    rows: int = 1
    spaces: int = 1
    too_few_spaces: str = "there is no space to analyse; name at least one variant and layer"
    """The sentence for fewer spaces."""

    def require_rows(self, n_rows: int, n_dropped: int = 0, whose: Sequence[str] = ()) -> None:
        """Refuse fewer rows than needed.

        `n_dropped` rows without a direction were left out already; `whose` names spaces none of
        whose rows have one.
        """
        if n_rows < self.rows:
            dropped = f" after {n_dropped} without a direction were dropped" if n_dropped else ""
            said = "row is" if n_rows == 1 else "rows are"
            blame = f"; no row of {' and of '.join(whose)} has one" if whose else ""
            least = "1 row" if self.rows == 1 else f"{self.rows} rows"
            raise InvalidInput(
                f"{n_rows} {said} left{dropped}{blame}; {self.what} needs at least {least}"
            )


ANYTHING: Final = Needs()
"""One space and one row are enough."""


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """The same rows of several spaces, checked by `select_rows`."""

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
    needs: Needs = ANYTHING
    """What must be left of it."""

    @property
    def n_rows(self) -> int:
        """Rows selected."""
        return len(self.clusters)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(cluster,): rows of each cluster."""
        lengths: NDArray[np.int64] = np.diff(self.bounds)
        return lengths

    def only(self, places: slice) -> "SelectedRows":
        """Return the same rows of some of the spaces; what all spaces share is not copied."""
        return replace(
            self, spaces=self.spaces[places], rows=self.rows[places], names=self.names[places]
        )

    @property
    def row_names(self) -> "RowNames":
        """Names a row of a space, for messages."""
        return RowNames(self.rows, self.names)


@dataclass(frozen=True, slots=True)
class RowNames:
    """Names rows for messages; it can be sent to workers without the spaces."""

    rows: tuple[NDArray[np.int64], ...]
    names: tuple[str, ...]

    def __call__(self, space: int, position: int) -> str:
        """Name the row at a position of the selection."""
        return f"row {self.rows[space][position]} of {self.names[space]}"


def select_rows(
    spaces: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    clusters: NDArray[np.int64],
    names: Sequence[str],
    needs: Needs = ANYTHING,
) -> SelectedRows:
    """Check rows of spaces and number their clusters.

    Parameters
    ----------
    spaces, rows, names, needs
        As in `SelectedRows`.
    clusters
        (row,): what each row came from; equal ids lie side by side.

    Raises
    ------
    InvalidInput
        The rows do not match, or spaces or rows are fewer than needed.
    """
    starts = _check_rows(spaces, rows, clusters, names, needs)
    bounds = np.append(starts, len(clusters)).astype(np.int64)
    numbered = np.repeat(np.arange(len(starts)), np.diff(bounds))
    return SelectedRows(tuple(spaces), tuple(rows), tuple(names), numbered, bounds, needs)


def without_rows(selected: SelectedRows, lost: NDArray[np.bool_]) -> SelectedRows:
    """Return a selection less some of its rows, (row,); clusters left without rows are no more.

    Raises
    ------
    InvalidInput
        Fewer rows are left than needed.
    """
    kept = np.flatnonzero(~lost)
    selected.needs.require_rows(len(kept), int(lost.sum()))
    rows = [index[kept] for index in selected.rows]
    return select_rows(
        selected.spaces, rows, selected.clusters[kept], selected.names, selected.needs
    )


@dataclass(frozen=True, slots=True)
class ArraySpace:
    """An array as a space, its rows in another order where one is given."""

    array: Array
    order: NDArray[np.int64] | None = None

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
        return take_rows(self.array, index if self.order is None else self.order[index])


def value_bytes(space: SpaceLike) -> int:
    """Return the bytes of a stored value, whatever library its dtype comes from."""
    name = str(space.dtype).rpartition(".")[2]
    return 2 if name == "bfloat16" else np.dtype(name).itemsize


def held_bytes(spaces: Iterable[SpaceLike]) -> int:
    """Return the bytes that spaces hold to make their rows; those of one row set share them."""
    held = {s.row_set: s.held_bytes for s in spaces if isinstance(s, MakesRows)}
    return sum(held.values())


def making_bytes(spaces: Iterable[SpaceLike]) -> int:
    """Return the bytes that making rows takes beside them, of spaces read one after another.

    Workers in other processes find out anew what the rows are made of.
    """
    makers = [space for space in spaces if isinstance(space, MakesRows)]
    reading = max((space.reading_bytes for space in makers), default=0)
    finding = max((space.table_bytes for space in makers), default=0)
    return max(held_bytes(makers) + reading, finding)


def _check_rows(
    spaces: Sequence[SpaceLike],
    rows: Sequence[NDArray[np.int64]],
    clusters: NDArray[np.int64],
    names: Sequence[str],
    needs: Needs,
) -> NDArray[np.int64]:
    """Refuse rows that do not match and return where each cluster starts."""
    if len(spaces) < needs.spaces:
        raise InvalidInput(needs.too_few_spaces)
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
    needs.require_rows(len(clusters))
    starts = np.flatnonzero(np.append(True, clusters[1:] != clusters[:-1]))
    if len(np.unique(clusters[starts])) != len(starts):
        raise InvalidInput("the rows of a cluster do not lie side by side; sort rows by cluster")
    return starts
