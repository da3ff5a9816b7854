"""The nearest neighbours of every row in every space, from tiles, as a running top k.

A row's neighbours are the k other rows of largest kernel, or of smallest where the kernel is a
distance; of rows equally near the earlier ones come first, so that the answer depends neither on
the order of the tiles nor on how they are cut. An entry of a tile off the diagonal serves both of
its rows. Only entries at least as near as the farthest neighbour so far are looked at again, and
those become few soon: about k ln(n / k) a row in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.tiles.panels import PANEL_ENTRIES, extent
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace, to_host
from layerlake.store.errors import InvalidInput, is_a

_FIRST_LOOK: Final = 256
"""Entries of a row, at least, from which its first bound is taken."""
_NOBODY: Final = 2**32 - 1
"""The index of a neighbour that has not been found."""


def neighbour_bytes(
    n_spaces: int,
    n_rows: int,
    k: int,
    panel_rows: int,
    *,
    value_bytes: int = 4,
    likely: bool = False,
) -> int:
    """Return the most bytes that `NearestNeighbours` holds while it absorbs tiles.

    With `likely`, those that it holds where few rows are equally near.
    """
    found = n_spaces * n_rows * (k * (value_bytes + 8) + value_bytes)
    if likely:
        # A diagonal tile with its diagonal masked, twice or beside what is offered of a panel.
        masked = panel_rows**2 * value_bytes
        return found + panel_rows**2 + masked + max(masked, min(PANEL_ENTRIES, panel_rows**2) * 48)
    # Where many rows are equally near, two panels of entries are offered, to both sides.
    offered = min(4 * PANEL_ENTRIES, 2 * panel_rows**2)
    masking = panel_rows**2 * (3 * value_bytes + 1)
    return found + masking + offered * (4 * value_bytes + 72)


def neighbours_found_bytes(n_spaces: int, n_rows: int, k: int, *, value_bytes: int = 4) -> int:
    """Return the most bytes that `NearestNeighbours` holds while it finishes."""
    found = n_spaces * n_rows * (k * (value_bytes + 8) + value_bytes)
    return 2 * found + n_rows * k * (2 * value_bytes + 24)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest neighbours of the rows of one space, nearest first."""

    index: NDArray[np.int64]
    """(row, k): the rows that are neighbours; among those equally near, ascending."""
    entries: NDArray[np.floating]
    """(row, k): the entries of the tiles, so up to the factor and the constant of the space."""


@dataclass(slots=True)
class _Nearest:
    """Neighbours of one space so far, in no order."""

    near: NDArray[np.floating]
    """(row, k): nearness, the entry or for distances less the entry; -inf where there is none."""
    index: NDArray[np.int64]
    """(row, k)."""
    bound: NDArray[np.floating]
    """(row,): least nearness of a row's neighbours."""


class NearestNeighbours:
    """The k nearest neighbours of all rows in every space (an `Accumulator` of tiles).

    A state takes 8 + 2 v bytes a row, space and neighbour, with v the bytes of an entry.
    """

    def __init__(
        self,
        names: Sequence[str],
        n_rows: int,
        k: int,
        *,
        smallest: Sequence[bool] | None = None,
        between: bool = False,
    ) -> None:
        """Take what is compared.

        Parameters
        ----------
        names
            What to call each space in messages.
        n_rows
            Rows of the pass.
        k
            Neighbours of each row.
        smallest
            For each space whether the nearest rows have the smallest entries, as where the entries
            are distances; None where the largest are the nearest everywhere.
        between
            Only rows of other clusters can be neighbours.

        Raises
        ------
        InvalidInput
            `k` is not between 1 and the number of other rows.
        """
        if not is_a(k, int, np.integer) or not 1 <= k < n_rows:
            raise InvalidInput(
                f"k is {k!r}; each of {n_rows} rows can have 1 to {n_rows - 1} neighbours"
            )
        self.names = tuple(names)
        self.n_rows = n_rows
        self.k = int(k)
        self.smallest = tuple(smallest or [False] * len(self.names))
        self.between = between

    def start(self) -> list[_Nearest | None]:
        """Return no neighbours yet."""
        return [None] * len(self.names)

    def update(self, state: list[_Nearest | None], tile: Tile) -> list[_Nearest | None]:
        """Absorb a tile.

        Raises
        ------
        InvalidInput
            A kernel is NaN or infinite somewhere.
        """
        barred = self._barred(tile)
        for s, kernel in enumerate(tile.kernels):
            found = state[s]
            if found is None:
                found = state[s] = self._nobody(kernel)
            search = _search if is_numpy(kernel) else _search_elsewhere
            search(found, tile, s, self, barred)
        return state

    def merge(
        self, state: list[_Nearest | None], other: list[_Nearest | None]
    ) -> list[_Nearest | None]:
        """Keep the nearest of both."""
        for s, theirs in enumerate(other):
            ours = state[s]
            if ours is None:
                state[s] = theirs
            elif theirs is not None:
                _offer(ours, np.arange(self.n_rows), theirs.near, theirs.index)
        return state

    def finish(self, state: list[_Nearest | None]) -> list[Neighbours]:
        """Return the neighbours in every space.

        Raises
        ------
        InvalidInput
            A row has fewer than k rows of other clusters.
        """
        finished = []
        for s, found in enumerate(state):
            if found is None or bool(np.isneginf(found.bound).any()):
                others = "rows of other clusters" if self.between else "other rows"
                raise InvalidInput(f"some rows have fewer than {self.k} {others}; ask for fewer")
            order = np.lexsort((found.index, -found.near), axis=-1)
            near = np.take_along_axis(found.near, order, axis=1)
            finished.append(
                Neighbours(
                    np.take_along_axis(found.index, order, axis=1),
                    -near if self.smallest[s] else near,
                )
            )
        return finished

    def _nobody(self, kernel: Array) -> _Nearest:
        """Return the neighbours of rows that have met no other."""
        dtype = to_host(kernel[:1, :1]).dtype
        shape = (self.n_rows, self.k)
        return _Nearest(
            np.full(shape, -np.inf, dtype),
            np.full(shape, _NOBODY, np.int64),
            np.full(self.n_rows, -np.inf, dtype),
        )

    def _barred(self, tile: Tile) -> NDArray[np.bool_] | None:
        """Say which entries are of no two rows that can be neighbours; None where all can."""
        if self.between and tile.row_clusters[-1] >= tile.column_clusters[0]:
            same: NDArray[np.bool_] = tile.row_clusters[:, None] == tile.column_clusters
            return same
        return np.eye(len(tile.row_clusters), dtype=np.bool_) if tile.diagonal else None


def _search(
    found: _Nearest,
    tile: Tile,
    s: int,
    setting: NearestNeighbours,
    barred: NDArray[np.bool_] | None,
) -> None:
    """Offer the entries of a tile to both sides, looking closer only at those that can win."""
    near = -tile.kernels[s] if setting.smallest[s] else tile.kernels[s]
    if barred is None:
        extent(near, setting.names[s], tile)
    else:
        extent(np.where(barred, near.dtype.type(0), near), setting.names[s], tile)
        near = np.where(barred, near.dtype.type(-np.inf), near)
    n_rows, n_columns = near.shape
    row_bound = _first_bound(found.bound[slice(*tile.rows)], near, setting.k)[:, None]
    # A diagonal tile is symmetric: by its rows it serves its columns.
    column_bound = None
    if not tile.diagonal:
        column_bound = _first_bound(found.bound[slice(*tile.columns)], near.T, setting.k)
    step = max(1, PANEL_ENTRIES // n_columns)
    wins = np.empty((min(step, n_rows), n_columns), np.bool_)
    by_row: list[NDArray[np.int64]] = []
    by_column: list[NDArray[np.int64]] = []
    for lo in range(0, n_rows, step):
        panel = near[lo : lo + step]
        won = wins[: len(panel)]
        np.greater_equal(panel, row_bound[lo : lo + step], out=won)
        by_row.append(np.flatnonzero(won) + lo * n_columns)
        if column_bound is not None:
            np.greater_equal(panel, column_bound, out=won)
            by_column.append(np.flatnonzero(won) + lo * n_columns)
        if lo + step < n_rows and sum(map(len, by_row + by_column)) < PANEL_ENTRIES:
            continue  # few at a time are hardly quicker than many
        _offer_places(found, near, by_row, tile.rows[0], tile.columns[0])
        by_row = []
        if column_bound is not None:
            _offer_places(found, near, by_column, tile.rows[0], tile.columns[0], turned=True)
            by_column = []
            np.maximum(column_bound, found.bound[slice(*tile.columns)], out=column_bound)


def _offer_places(
    found: _Nearest,
    near: NDArray[np.floating],
    places: list[NDArray[np.int64]],
    first_row: int,
    first_column: int,
    *,
    turned: bool = False,
) -> None:
    """Offer rows what lies at flat, ascending places of a tile; if turned, columns."""
    place = np.concatenate(places)
    row, column = _apart(place, near.shape[1])
    if turned:
        # Sorting 16-bit integers takes numpy one look at each.
        short = column.astype(np.uint16) if near.shape[1] <= 2**16 else column
        order = np.argsort(short, kind="stable")
        place, row, column = place[order], column[order], row[order]
        first_row, first_column = first_column, first_row
    _offer_ragged(found, row + first_row, near.reshape(-1)[place], column + first_column)


def _apart(places: NDArray[np.int64], n_columns: int) -> tuple[NDArray[np.int64], ...]:
    """Return the rows and the columns of flat places."""
    # Of small integers numpy divides a vector at a time.
    row = (places.astype(np.uint32) // np.uint32(n_columns)).astype(np.int64)
    return row, places - row * n_columns


def _first_bound(
    bound: NDArray[np.floating], near: NDArray[np.floating], k: int
) -> NDArray[np.floating]:
    """Return the least nearness that can win, from some entries where there is none yet."""
    looked = max(_FIRST_LOOK, 4 * k)
    open_ = np.isneginf(bound)
    bound = bound.copy()
    if not open_.any() or near.shape[1] < k:
        return bound
    part = np.ascontiguousarray(near[open_, :looked])
    bound[open_] = np.partition(part, part.shape[1] - k, axis=1)[:, part.shape[1] - k]
    return bound


def _offer_ragged(
    found: _Nearest,
    rows: NDArray[np.int64],
    near: NDArray[np.floating],
    index: NDArray[np.int64],
) -> None:
    """Offer each of some rows any number of neighbours; `rows` ascend, with repeats."""
    if not len(rows):
        return
    starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
    counts = np.diff(np.append(starts, len(rows)))
    line = np.repeat(np.arange(len(starts)), counts)
    place = np.arange(len(rows)) - np.repeat(starts, counts)
    shape = (len(starts), int(counts.max()))
    table = np.full(shape, -np.inf, near.dtype)
    table[line, place] = near
    whom = np.full(shape, _NOBODY, np.int64)
    whom[line, place] = index
    _offer(found, rows[starts], table, whom)


def _offer(
    found: _Nearest,
    rows: NDArray[np.int64],
    near: NDArray[np.floating],
    index: NDArray[np.int64],
) -> None:
    """Keep the k nearest of those that some rows have and those they are offered.

    `rows` are distinct; `near` and `index` are (row, offer).
    """
    k = found.near.shape[1]
    near = np.concatenate([found.near[rows], near], axis=1)
    index = np.concatenate([found.index[rows], index], axis=1)
    if near.dtype == np.float32:
        keys = np.partition(_keys(near, index), near.shape[1] - k, axis=1)[:, -k:]
        found.near[rows], found.index[rows] = _unlocked(keys)
    else:
        order = np.lexsort((index, -near), axis=-1)[:, :k]
        found.near[rows] = np.take_along_axis(near, order, axis=1)
        found.index[rows] = np.take_along_axis(index, order, axis=1)
    found.bound[rows] = found.near[rows].min(axis=1)


_SIGN: Final = np.uint32(2**31)


def _keys(near: NDArray[np.float32], index: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return integers in the order of nearness, and of equally near ones the lower index last.

    The bits of a positive float32 are in its order; those of a negative one are in the opposite.
    """
    bits = (near + np.float32(0)).view(np.uint32)  # one zero, not two
    bits = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    keys: NDArray[np.uint64] = bits.astype(np.uint64) << np.uint64(32)
    keys |= (_NOBODY - index).astype(np.uint64)
    return keys


def _unlocked(keys: NDArray[np.uint64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the nearness and the index that keys were made of."""
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(bits & _SIGN, bits & ~_SIGN, ~bits)
    index = _NOBODY - (keys & np.uint64(_NOBODY)).astype(np.int64)
    return bits.view(np.float32), index


def _search_elsewhere(
    found: _Nearest,
    tile: Tile,
    s: int,
    setting: NearestNeighbours,
    barred: NDArray[np.bool_] | None,
) -> None:
    """Offer both sides the k nearest that they have in a tile, sorted where the tile lies."""
    kernel = tile.kernels[s]
    xp = namespace(kernel)
    near = -kernel if setting.smallest[s] else kernel
    if barred is None:
        extent(near, setting.names[s], tile)
    else:
        mask = from_host(barred, near)
        extent(xp.where(mask, xp.zeros_like(near), near), setting.names[s], tile)
        near = xp.where(mask, xp.full_like(near, -xp.inf), near)
    sides = [(near, tile.rows, tile.columns)]
    if not tile.diagonal:
        sides.append((xp.matrix_transpose(near), tile.columns, tile.rows))
    for table, (row, row_stop), (column, _) in sides:
        most = min(setting.k, table.shape[1])
        order = xp.argsort(table, axis=1, descending=True, stable=True)[:, :most]
        near_there = to_host(xp.take_along_axis(table, order, axis=1))
        index = np.where(np.isneginf(near_there), _NOBODY, to_host(order) + column)
        _offer(found, np.arange(row, row_stop), near_there, index)
