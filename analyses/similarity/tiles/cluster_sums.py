"""Sums of kernels and of their products over the pairs between every two clusters, from tiles.

All six sums of a correlation over pairs are quadratic forms in how often each cluster is taken, so
a tile says all it has to say about resampled clusters with one number for every two clusters it
crosses, and a tile of long clusters becomes a few numbers.

Each tile is measured from its own mean, so that products of the working precision lose nothing of
a kernel far from zero; the mean is put back in float64.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace, to_host

Quantity: TypeAlias = Pair | int
"""What is summed: the kernel of a space, or the product of the kernels of a pair of spaces."""
F = TypeVar("F", float, NDArray[np.float64])


def quantities_of(pairs: Sequence[Pair]) -> tuple[Quantity, ...]:
    """List what the correlations of some pairs of spaces need, the kernels themselves first."""
    spaces = sorted({space for pair in pairs for space in pair})
    squares = [(s, s) for s in spaces]
    return (*spaces, *dict.fromkeys([*squares, *pairs]))


@dataclass(frozen=True, slots=True)
class Crossing:
    """The clusters that meet in a tile."""

    rows: NDArray[np.int64]
    """(row cluster,): ascending."""
    columns: NDArray[np.int64]
    """(column cluster,): ascending."""
    row_starts: NDArray[np.int64]
    """(row cluster,): the first row of each in the tile."""
    column_starts: NDArray[np.int64]
    row_sizes: NDArray[np.float64]
    """(row cluster,): rows of each in the tile."""
    column_sizes: NDArray[np.float64]
    diagonal: bool

    @classmethod
    def of(cls, tile: Tile) -> "Crossing":
        """Find the clusters of a tile."""
        row_starts = _starts(tile.row_clusters)
        column_starts = _starts(tile.column_clusters)
        return cls(
            tile.row_clusters[row_starts],
            tile.column_clusters[column_starts],
            row_starts,
            column_starts,
            np.diff(row_starts, append=len(tile.row_clusters)).astype(np.float64),
            np.diff(column_starts, append=len(tile.column_clusters)).astype(np.float64),
            tile.diagonal,
        )

    @property
    def shares_clusters(self) -> bool:
        """Whether some cluster has rows on both sides."""
        return self.diagonal or bool(self.rows[-1] >= self.columns[0])

    @property
    def counts(self) -> NDArray[np.float64]:
        """(row cluster, column cluster): the pairs in the tile."""
        counts = self.row_sizes[:, None] * self.column_sizes
        if self.diagonal:
            counts = np.triu(counts, 1) + np.diag(self.row_sizes * (self.row_sizes - 1) / 2)
        return counts


def _starts(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each cluster of ascending ones starts."""
    return np.flatnonzero(np.append(True, clusters[1:] != clusters[:-1]))


@dataclass(frozen=True, slots=True)
class CentredTile:
    """The kernels of a tile less a constant each, zero where no pair is to be counted."""

    kernels: dict[int, Array]
    centres: dict[int, float]
    crossing: Crossing

    @classmethod
    def of(cls, tile: Tile, spaces: Sequence[int]) -> "CentredTile":
        """Take the mean off the kernels of some spaces."""
        kernels: dict[int, Array] = {}
        centres: dict[int, float] = {}
        for s in spaces:
            kernel = tile.kernels[s]
            xp = namespace(kernel)
            centres[s] = float(xp.mean(kernel))
            kernels[s] = kernel - centres[s]
            if tile.diagonal:
                kernels[s] = xp.triu(kernels[s], k=1)
        return cls(kernels, centres, Crossing.of(tile))

    def sums(self, keys: Sequence[Quantity]) -> Iterator[tuple[Quantity, Array]]:
        """Yield the sums of each quantity, (row cluster, column cluster) in the precision."""
        for key in keys:
            yield key, self._reduced(self._values(key))

    def _values(self, key: Quantity) -> Array:
        """Return the entries of a quantity, (row, column)."""
        if isinstance(key, int):
            return self.kernels[key]
        return self.kernels[key[0]] * self.kernels[key[1]]

    def _reduced(self, values: Array) -> Array:
        """Add up the rows of each cluster and the columns of each cluster."""
        crossing = self.crossing
        rows, columns = values.shape
        if len(crossing.rows) < rows:
            values = _added(values, crossing.row_starts)
        if len(crossing.columns) < columns:
            if is_numpy(values):
                values = np.add.reduceat(values, crossing.column_starts, axis=1)
            else:
                turn = namespace(values).matrix_transpose
                values = turn(_added(turn(values), crossing.column_starts))
        return values

    def with_centres(self, key: Quantity, centred: Mapping[Quantity, F], count: F) -> F:
        """Return sums of a quantity as they are of the kernels as they came.

        Parameters
        ----------
        key
            The quantity.
        centred
            The same sums of the centred kernels, of the quantity and of its kernels.
        count
            The pairs that the sums are over.
        """
        if isinstance(key, int):
            return centred[key] + self.centres[key] * count
        s, t = key
        c, d = self.centres[s], self.centres[t]
        return centred[key] + d * centred[s] + c * centred[t] + c * d * count


def _added(values: Array, starts: NDArray[np.int64]) -> Array:
    """Add up runs of rows that start at these places."""
    if is_numpy(values):
        return np.add.reduceat(values, starts, axis=0)
    # The standard has no sums over runs: multiply with ones where a row is in a run.
    xp = namespace(values)
    run = np.repeat(np.arange(len(starts)), np.diff(starts, append=values.shape[0]))
    member = from_host(np.arange(len(starts))[:, None] == run, values)
    return xp.matmul(xp.astype(member, values.dtype), values)


@dataclass(slots=True)
class ClusterSums:
    """Sums over pairs between and within clusters: all that any weights of clusters need."""

    keys: tuple[Quantity, ...]
    sizes: NDArray[np.int64]
    """(cluster,): rows of each."""
    pairs: NDArray[np.float64]
    """(cluster, cluster): pairs of rows absorbed, in the upper triangle."""
    sums: NDArray[np.float64]
    """(quantity, cluster, cluster): sums over pairs of a row of g and one of h >= g, each once."""

    def leaving(self, key: Quantity) -> NDArray[np.float64]:
        """Return sums over ordered pairs (i, j) of two rows with i in each cluster, (cluster,)."""
        sums = self.sums[self.keys.index(key)]
        leaving: NDArray[np.float64] = sums.sum(axis=0) + sums.sum(axis=1)
        return leaving

    def within(self, key: Quantity) -> NDArray[np.float64]:
        """Return sums over ordered pairs of two rows of each cluster, (cluster,)."""
        return 2 * np.diagonal(self.sums[self.keys.index(key)])


class KeptSums:
    """Keeps the sums of all tiles for every two clusters (an `Accumulator` of tiles)."""

    def __init__(self, pairs: Sequence[Pair], sizes: NDArray[np.int64]) -> None:
        """Take the pairs of spaces to be correlated, and the rows of each cluster, (cluster,)."""
        self.keys = quantities_of(pairs)
        self.sizes = np.asarray(sizes, dtype=np.int64)

    def start(self) -> ClusterSums:
        """Return zeros."""
        n = len(self.sizes)
        return ClusterSums(
            self.keys, self.sizes, np.zeros((n, n)), np.zeros((len(self.keys), n, n))
        )

    def update(self, state: ClusterSums, tile: Tile) -> ClusterSums:
        """Absorb a tile."""
        centred = CentredTile.of(tile, [key for key in self.keys if isinstance(key, int)])
        place = np.ix_(centred.crossing.rows, centred.crossing.columns)
        counts = centred.crossing.counts
        state.pairs[place] += counts
        found: dict[Quantity, NDArray[np.float64]] = {}
        for q, (key, sums) in enumerate(centred.sums(self.keys)):
            found[key] = to_host(sums).astype(np.float64)
            state.sums[q][place] += centred.with_centres(key, found, counts)
            if not isinstance(key, int):
                del found[key]
        return state

    def merge(self, state: ClusterSums, other: ClusterSums) -> ClusterSums:
        """Add the sums of other tiles."""
        state.pairs += other.pairs
        state.sums += other.sums
        return state

    def finish(self, state: ClusterSums) -> ClusterSums:
        """Return the sums.

        Raises
        ------
        ValueError
            The tiles did not cover every pair of rows.
        """
        require_whole(state.pairs.sum(), self.sizes)
        return state


def require_whole(n_pairs: float, sizes: NDArray[np.int64]) -> None:
    """Refuse sums over other pairs than all those of the rows."""
    rows = int(sizes.sum())
    if n_pairs != rows * (rows - 1) / 2:
        raise ValueError(f"tiles cover {n_pairs:.0f} of {rows * (rows - 1) // 2} pairs")
