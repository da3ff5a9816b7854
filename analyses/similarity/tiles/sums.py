"""Sums over pairs of rows from tiles: Pearson and cosine comparisons under any kernel.

What `moments` and `leaving` get from features in two passes, for kernels that have none or few
rows, in one. Tiles are worked on strip by strip, so that a strip and its products stay in the
cache, and what is summed in the precision of the tiles is a row or a column of a strip; float64
sees the rest. A kernel without features is measured from its mean first (`centres`), or those sums
would hold little but the mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moment_state import Pair, with_own
from layerlake.analyses.similarity.features.moments import PairSums
from layerlake.analyses.similarity.features.rsa_value import spread
from layerlake.analyses.similarity.tiles.planning import ReducerBytes
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.analyses.similarity.tiles.tile_kernels import (
    ENTRY_ROUNDING,
    STRIP_ROWS,
    part_of,
    strips,
)
from layerlake.analyses.similarity.tiles.tile_pass import TilePass
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace, to_host

MANY_PRODUCTS: Final = 10
"""Products for every space from which one product of all spaces with all is the faster way."""
STACKED_ROWS: Final = 8
"""Rows of the tiles of all spaces that such a product sums over: few enough that float32 sums keep
their digits, and that the rows of 50 spaces stay in the cache."""
_SUM_ROUNDING: Final = 2.0**-44
"""Share of a sum of squares that rounding leaves of it when all that does not vary is taken off."""

_STRIP_ROUNDING: Final = {"float32": 2.0**-20, "float64": _SUM_ROUNDING}
"""The same, of what is summed in the precision of the tiles: within a row of a strip."""


class PairedSums(NamedTuple):
    """What `rsa_value.value_of` takes for one pair of spaces."""

    sums: PairSums
    leaving: NDArray[np.float64] | None
    """(5, cluster): k, l, kk, ll, kl over ordered pairs (i, j) of two rows with i in the cluster;
    None where it was not asked for."""


@dataclass(slots=True)
class TileSumState:
    """Running sums over unordered pairs of two rows, of every space less its centre."""

    totals: NDArray[np.float64]
    """(quantity,): k of every space, then k l of every pair."""
    leaving: NDArray[np.float64]
    """(quantity, cluster): over pairs with a row in the cluster, once for each of its rows there;
    no clusters where there are no intervals."""
    within: NDArray[np.float64]
    """(quantity, cluster): over pairs within the cluster."""
    own: NDArray[np.float64]
    """(quantity,): over each row with itself."""
    sizes: NDArray[np.int64]
    """(cluster,): rows."""
    same: dict[Pair, bool]
    """Whether all tiles of two spaces were equal bit for bit."""


class TileSums:
    """Sums over pairs of rows for any pairs of spaces (an `Accumulator` of tiles)."""

    def __init__(
        self,
        tiles: TilePass,
        pairs: Sequence[Pair],
        *,
        intervals: bool,
    ) -> None:
        """Take the pass, the pairs of its spaces to compare, and whether there are intervals."""
        self.spaces = len(tiles.kernels)
        self.n_clusters = tiles.n_clusters
        self.centres = tiles.centres
        self.pairs = tuple(pairs)
        self.intervals = intervals
        self.products = with_own(self.spaces, pairs)

    @property
    def _quantities(self) -> int:
        return self.spaces + len(self.products)

    def start(self) -> TileSumState:
        """Return the sums of no tiles."""
        shape = self._quantities, self.n_clusters
        return TileSumState(
            np.zeros(shape[0]),
            np.zeros(shape if self.intervals else (shape[0], 0)),
            np.zeros(shape),
            np.zeros(shape[0]),
            np.zeros(self.n_clusters, dtype=np.int64),
            {(s, t): s != t for s, t in self.pairs},
        )

    def update(self, state: TileSumState, tile: Tile) -> TileSumState:
        """Absorb a tile."""
        for (s, t), same in state.same.items():
            if same:
                state.same[s, t] = _equal(tile.kernels[s], tile.kernels[t])
        if tile.diagonal:
            first = int(tile.row_clusters[0])
            counts = np.bincount(tile.row_clusters - first)
            state.sizes[first : first + len(counts)] += counts
            self._absorb_own(state, tile)
        by_row = self._quantities if self.intervals else 0
        rows = np.zeros((by_row, len(tile.row_clusters)))
        columns = np.zeros((by_row, len(tile.column_clusters)))
        shared = _shared(tile)
        room = _room(tile) if self.intervals else None
        for lo, hi in strips(tile.kernels[0]):
            left = lo if tile.diagonal else 0
            parts = [
                part_of(kernel, lo, hi, left, centre, diagonal=tile.diagonal)
                for kernel, centre in zip(tile.kernels, self.centres, strict=True)
            ]
            mask = _mask(tile, lo, hi, left) if shared else None
            inside = np.zeros((self._quantities, hi - lo))
            if self.intervals:
                self._absorb(parts, room, mask, rows[:, lo:hi], columns[:, left:], inside)
            else:
                self._absorb_totals(state, parts, mask, inside)
            if mask is not None:
                _to_clusters(state.within, inside, tile.row_clusters[lo:hi])
        if self.intervals:
            state.totals += rows.sum(axis=1)
            _to_clusters(state.leaving, rows, tile.row_clusters)
            _to_clusters(state.leaving, columns, tile.column_clusters)
        return state

    def merge(self, state: TileSumState, other: TileSumState) -> TileSumState:
        """Add the sums of other tiles."""
        state.totals += other.totals
        state.leaving += other.leaving
        state.within += other.within
        state.own += other.own
        state.sizes += other.sizes
        state.same = {pair: same and other.same[pair] for pair, same in state.same.items()}
        return state

    def finish(self, state: TileSumState) -> dict[Pair, PairedSums]:
        """Return the sums of each pair over ordered pairs of rows, of the entries of the tiles."""
        n_rows = int(state.sizes.sum())
        place = {pair: self.spaces + p for p, pair in enumerate(self.products)}
        ordered = (state.sizes * (state.sizes - 1)).astype(np.float64)
        touched = state.sizes * (n_rows - 1.0)

        def six(s: int, t: int, count: object, sums: NDArray[np.float64]) -> NDArray[np.float64]:
            """Stack count, k, l, kk, ll, kl, of the entries and not less the centres."""
            k, l = sums[s], sums[t]
            kk, ll, kl = (sums[place[pair]] for pair in ((s, s), (t, t), (s, t)))
            n, c, d = np.asarray(count, dtype=np.float64), self.centres[s], self.centres[t]
            return np.stack(
                [
                    n,
                    k + c * n,
                    l + d * n,
                    kk + 2 * c * k + c * c * n,
                    ll + 2 * d * l + d * d * n,
                    kl + d * k + c * l + c * d * n,
                ]
            )

        found = {}
        for s, t in self.pairs:
            norms = tuple(
                float(2 * state.totals[place[u, u]] + state.own[place[u, u]]) for u in (s, t)
            )
            found[s, t] = PairedSums(
                PairSums(
                    state.sizes,
                    six(s, t, n_rows * (n_rows - 1), 2 * state.totals),
                    six(s, t, ordered, 2 * state.within),
                    six(s, t, n_rows, state.own),
                    (norms[0], norms[1]),
                    s == t or state.same[s, t],
                ),
                six(s, t, touched, state.leaving)[1:] if self.intervals else None,
            )
        return found

    def _absorb_own(self, state: TileSumState, tile: Tile) -> None:
        """Add the entries of rows with themselves."""
        own = [
            to_host(namespace(k).linalg.diagonal(k)).astype(np.float64) - c
            for k, c in zip(tile.kernels, self.centres, strict=True)
        ]
        for s, entries in enumerate(own):
            state.own[s] += entries.sum()
        for p, (s, t) in enumerate(self.products, start=self.spaces):
            state.own[p] += own[s] @ own[t]

    def _absorb(
        self,
        parts: Sequence[Array],
        room: Array | None,
        mask: tuple[Array, int, int] | None,
        rows: NDArray[np.float64],
        columns: NDArray[np.float64],
        inside: NDArray[np.float64],
    ) -> None:
        """Add the sums over the rows, the columns, and pairs within clusters of a strip."""
        xp = namespace(parts[0])
        high, width = parts[0].shape
        along = {"dtype": parts[0].dtype, "device": parts[0].device}
        over_columns, over_rows = xp.ones((width,), **along), xp.ones((high,), **along)
        out = None if room is None else room[: high * width].reshape(high, width)
        quantities: list[tuple[Array, Array | None]] = [(part, None) for part in parts]
        quantities += [(parts[s], parts[t]) for s, t in self.products]
        for q, (one, other) in enumerate(quantities):
            if other is None:
                product = one
            else:
                product = one * other if out is None else np.multiply(one, other, out=out)
            rows[q] += to_host(xp.matmul(product, over_columns))
            columns[q] += to_host(xp.matmul(over_rows, product))
            if mask is not None:
                member, start, stop = mask
                inside[q] += to_host(xp.vecdot(product[:, start:stop], member))

    def _absorb_totals(
        self,
        state: TileSumState,
        parts: Sequence[Array],
        mask: tuple[Array, int, int] | None,
        inside: NDArray[np.float64],
    ) -> None:
        """Add the sums over a strip, and pairs within clusters, with nothing by row or column."""
        xp = namespace(parts[0])
        high, width = parts[0].shape
        over_columns = xp.ones((width,), dtype=parts[0].dtype, device=parts[0].device)
        for s, part in enumerate(parts):
            state.totals[s] += float(to_host(xp.matmul(part, over_columns)).sum(dtype=np.float64))
        if len(self.products) <= MANY_PRODUCTS * self.spaces:
            sums = [
                to_host(xp.vecdot(parts[s], parts[t])).sum(dtype=np.float64)
                for s, t in self.products
            ]
            state.totals[self.spaces :] += sums
        else:
            place = tuple(np.transpose(self.products))
            step = STACKED_ROWS if is_numpy(parts[0]) else STRIP_ROWS
            for lo in range(0, high, step):
                rows = [part[lo : min(lo + step, high), :] for part in parts]
                stack = xp.reshape(xp.stack(rows), (len(parts), -1))
                # numpy turns a product with its own transpose into one of half the work.
                square = to_host(xp.matmul(stack, xp.matrix_transpose(stack)))
                state.totals[self.spaces :] += square[place]
        if mask is None:
            return
        member, start, stop = mask
        near = [part[:, start:stop] for part in parts]
        for s, part in enumerate(near):
            inside[s] += to_host(xp.vecdot(part, member))
        for p, (s, t) in enumerate(self.products, start=self.spaces):
            inside[p] += to_host(xp.vecdot(near[s] * member, near[t]))


def _room(tile: Tile) -> Array | None:
    """Return where the products of a strip are formed; None where a library has no such place."""
    first = tile.kernels[0]
    if not is_numpy(first):
        return None
    return np.empty(min(STRIP_ROWS, first.shape[0]) * first.shape[1], dtype=first.dtype)


def sums_memory(
    spaces: int, pairs: Sequence[Pair], n_clusters: int, *, intervals: bool, precision: str
) -> ReducerBytes:
    """Return what `TileSums` holds for panels of so many rows, for `plan_tiles`."""
    quantities, value = spaces + len(with_own(spaces, pairs)), 8 if precision == "float64" else 4
    held = 8 * n_clusters * (quantities * (2 if intervals else 1) + 1)
    # Sums of a pair, and what they are stacked from; at the end of the pass no tiles are held.
    ended = 8 * n_clusters * (len(pairs) * (12 if intervals else 6) + 12)

    def reducing(panel_rows: int) -> int:
        """Count the sums, what a tile adds to them, and a strip of every space and a product."""
        strip = min(STRIP_ROWS, panel_rows) * panel_rows
        by_row = 8 * panel_rows * quantities * 4 if intervals else 0
        near = strip * (value * (spaces + 1) + value + 1)
        stacked = STACKED_ROWS * panel_rows * value * spaces + 20 * quantities**2
        return max(held + by_row + near + (0 if intervals else stacked), held + ended)

    return reducing


def sums_cost(n_rows: int, spaces: int, pairs: Sequence[Pair], *, intervals: bool) -> float:
    """Return how many multiply-adds of a fast matrix product the sums take as long as.

    Sums run at the speed of the cache. Measured on one core beside float32 products, for every
    pair of rows: a product of two kernels takes as long as 20 multiply-adds with intervals and 7
    without, or, of many spaces, 1.5 for each two spaces; and each space as long as 90.
    """
    products = len(with_own(spaces, pairs))
    if intervals:
        each = 20.0 * products
    elif products <= MANY_PRODUCTS * spaces:
        each = 7.0 * products
    else:
        each = 1.5 * spaces**2
    return n_rows * (n_rows - 1) / 2 * (each + 90 * spaces)


def varying(
    sums: PairSums, precision: str, centres: tuple[float, float] = (0.0, 0.0)
) -> tuple[bool, bool]:
    """Say of both kernels, from sums of tiles, whether they vary beyond rounding.

    Parameters
    ----------
    sums
        Over the entries of the tiles.
    precision
        Of the tiles.
    centres
        What was taken off the entries of each space while they were summed (`TilePass.centres`).
    """
    n_rows = int(sums.sizes.sum())
    count, *plain = sums.total[:3].tolist()
    floors = []
    for norm, k, square, c in zip(
        sums.norms, plain, sums.total[3:5].tolist(), centres, strict=True
    ):
        summed = max(square - 2 * c * k + c * c * count, 0.0)
        floors.append(
            max(
                # Of a constant kernel little but the rows with themselves is left in the norm.
                count * ENTRY_ROUNDING[precision] ** 2 * norm / n_rows,
                _STRIP_ROUNDING[precision] * summed,
                _SUM_ROUNDING * square,
            )
        )
    left, right = spread(sums.total)
    return bool(left > floors[0]), bool(right > floors[1])


def _equal(one: Array, other: Array) -> bool:
    """Say whether two tiles are equal, looking at one row first."""
    xp = namespace(one, other)
    return bool(xp.all(one[:1, :] == other[:1, :])) and bool(xp.all(one == other))


def _shared(tile: Tile) -> bool:
    """Say whether two rows of a tile may come from one cluster."""
    if tile.diagonal:
        return bool((np.diff(tile.row_clusters) == 0).any())
    return bool(tile.row_clusters[-1] == tile.column_clusters[0])


def _mask(tile: Tile, lo: int, hi: int, left: int) -> tuple[Array, int, int] | None:
    """Return which pairs of a strip come from one cluster, and between which of its columns."""
    rows, columns = tile.row_clusters[lo:hi], tile.column_clusters[left:]
    start = int(np.searchsorted(columns, rows[0], side="left"))
    stop = int(np.searchsorted(columns, rows[-1], side="right"))
    if start == stop:
        return None
    member = rows[:, None] == columns[None, start:stop]
    like = tile.kernels[0]
    xp = namespace(like)
    return xp.astype(from_host(member, like), like.dtype), start, stop


def _to_clusters(
    sums: NDArray[np.float64], rows: NDArray[np.float64], clusters: NDArray[np.int64]
) -> None:
    """Add numbers of rows, (quantity, row), to those of their clusters, (quantity, cluster)."""
    starts = np.flatnonzero(np.append(True, clusters[1:] != clusters[:-1]))
    sums[:, clusters[starts]] += np.add.reduceat(rows, starts, axis=1)
