"""Percentile bootstrap over clusters: every resample from one pass over tiles.

Clusters are drawn with replacement, as many as there are. With w_g the copies of cluster g, pairs
between clusters g and h count w_g w_h times. Pairs within a cluster count w_g times, once in every
copy, and never w_g^2: that would take in pairs between copies of one cluster, which are pairs of
equal rows, and shift the estimate by twice its standard error. Those pairs are left out.

Two forms give the same sums. `KeptBootstrap` keeps the sums for every two clusters, then any
number of resamples costs next to nothing; `StreamedBootstrap` applies the weights to every tile
and keeps a number per resample, for clusters too many to keep all pairs of. Both reduce a tile to
the clusters that meet in it first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.tiles.cluster_sums import (
    CentredTile,
    ClusterSums,
    KeptSums,
    Quantity,
    quantities_of,
    require_whole,
)
from layerlake.analyses.similarity.tiles.resampled_clusters import (
    PANEL,
    Resamples,
    resampled,
    weighed_clusters,
    within_pairs,
)
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.analyses.statistics.bootstrap import draw_clusters
from layerlake.engine.memory import MemoryPlan
from layerlake.engine.passes.arrays import Array, from_host, namespace, to_host
from layerlake.engine.passes.blocks import Accumulator

KEPT_BYTES: Final = 64 * 2**20
"""Most bytes of sums kept for every two clusters; beyond it the resamples are summed as tiles
come."""


@dataclass(slots=True)
class ResampleState:
    """Sums over unordered pairs, as far as tiles have come."""

    pairs: float
    """Pairs of rows absorbed."""
    counts: NDArray[np.float64]
    """(1 + resample,): pairs between clusters."""
    between: NDArray[np.float64]
    """(quantity, 1 + resample)."""
    within: NDArray[np.float64]
    """(quantity, cluster)."""


class StreamedBootstrap:
    """Sums every resample while tiles come (an `Accumulator` of tiles).

    It is the same for the same seed in every process, so states of several workers merge.
    """

    def __init__(
        self, pairs: Sequence[Pair], sizes: NDArray[np.int64], n_resamples: int, seed: int = 0
    ) -> None:
        """Take the pairs of spaces, rows of each cluster, (cluster,), and what to draw."""
        self.keys = quantities_of(pairs)
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.n_resamples = n_resamples
        self.seed = seed
        self._counts: NDArray[np.float32] | None = None
        self._placed: Array = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the draws behind: another process draws the same."""
        return {**self.__dict__, "_counts": None, "_placed": None}

    @property
    def counts(self) -> NDArray[np.float32]:
        """(1 + resample, cluster): how often each resample takes each cluster."""
        if self._counts is None:
            self._counts = draw_clusters(self.sizes, self.n_resamples, self.seed)
        return self._counts

    def start(self) -> ResampleState:
        """Return zeros."""
        taken = 1 + self.n_resamples
        return ResampleState(
            0.0,
            np.zeros(taken),
            np.zeros((len(self.keys), taken)),
            np.zeros((len(self.keys), len(self.sizes))),
        )

    def update(self, state: ResampleState, tile: Tile) -> ResampleState:
        """Absorb a tile."""
        centred = CentredTile.of(tile, [key for key in self.keys if isinstance(key, int)])
        crossing = centred.crossing
        like = tile.kernels[0]
        xp = namespace(like)
        if self._placed is None or self._placed.dtype != like.dtype:
            self._placed = xp.astype(from_host(self.counts, like), like.dtype, copy=False)
        left, right = (
            _columns(self._placed, crossing.rows),
            _columns(self._placed, crossing.columns),
        )
        pairs = crossing.counts
        state.pairs += pairs.sum()
        same = None
        inside = np.zeros(len(crossing.rows))
        if crossing.shares_clusters:
            on_host = crossing.rows[:, None] == crossing.columns
            same = xp.astype(from_host(on_host, like), like.dtype)
            inside = (pairs * on_host).sum(axis=1)
        count = self._between_pairs(crossing.row_sizes, crossing.column_sizes, centred, inside)
        state.counts += count
        found: dict[Quantity, NDArray[np.float64]] = {}
        found_inside: dict[Quantity, NDArray[np.float64]] = {}
        for q, (key, sums) in enumerate(centred.sums(self.keys)):
            if same is not None:
                own = sums * same
                sums = sums - own
                found_inside[key] = to_host(xp.sum(own, axis=1)).astype(np.float64)
                state.within[q, crossing.rows] += centred.with_centres(key, found_inside, inside)
            found[key] = quadratic(left, sums, right)
            state.between[q] += centred.with_centres(key, found, count)
            del sums
        return state

    def _between_pairs(
        self,
        row_sizes: NDArray[np.float64],
        column_sizes: NDArray[np.float64],
        centred: CentredTile,
        inside: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Count the pairs between clusters in every resample of a tile, (1 + resample,)."""
        crossing = centred.crossing
        left = _columns(self.counts, crossing.rows)
        rows = (left @ row_sizes.astype(np.float32)).astype(np.float64)
        if crossing.diagonal:
            squares = np.square(left, dtype=np.float64) @ np.square(row_sizes)
            pairs: NDArray[np.float64] = (rows**2 - squares) / 2
            return pairs
        columns = _columns(self.counts, crossing.columns) @ column_sizes.astype(np.float32)
        found: NDArray[np.float64] = rows * columns
        shared = np.flatnonzero(inside)
        if len(shared):
            found -= np.square(left[:, shared], dtype=np.float64) @ inside[shared]
        return found

    def merge(self, state: ResampleState, other: ResampleState) -> ResampleState:
        """Add the sums of other tiles."""
        state.pairs += other.pairs
        state.counts += other.counts
        state.between += other.between
        state.within += other.within
        return state

    def finish(self, state: ResampleState) -> Resamples:
        """Return the sums over ordered pairs.

        Raises
        ------
        ValueError
            The tiles did not cover every pair of rows.
        """
        require_whole(state.pairs, self.sizes)
        return Resamples(
            self.keys,
            np.stack([2 * state.counts, within_pairs(self.counts, self.sizes)]),
            2 * np.stack([state.between, weighed_clusters(self.counts, state.within)]),
        )


class KeptBootstrap:
    """Keeps the sums for every two clusters and resamples them at the end (an `Accumulator`)."""

    def __init__(
        self, pairs: Sequence[Pair], sizes: NDArray[np.int64], n_resamples: int, seed: int = 0
    ) -> None:
        """Take what `StreamedBootstrap` takes."""
        self._sums = KeptSums(pairs, sizes)
        self.n_resamples = n_resamples
        self.seed = seed

    def start(self) -> ClusterSums:
        """Return zeros."""
        return self._sums.start()

    def update(self, state: ClusterSums, tile: Tile) -> ClusterSums:
        """Absorb a tile."""
        return self._sums.update(state, tile)

    def merge(self, state: ClusterSums, other: ClusterSums) -> ClusterSums:
        """Add the sums of other tiles."""
        return self._sums.merge(state, other)

    def finish(self, state: ClusterSums) -> Resamples:
        """Return the sums over ordered pairs.

        Raises
        ------
        ValueError
            The tiles did not cover every pair of rows.
        """
        sums = self._sums.finish(state)
        return resampled(sums, draw_clusters(sums.sizes, self.n_resamples, self.seed))


def cluster_bootstrap(
    pairs: Sequence[Pair],
    sizes: NDArray[np.int64],
    n_resamples: int = 1000,
    seed: int = 0,
) -> Accumulator[Tile, Any, Resamples]:
    """Return the accumulator of the bootstrap, in the form that takes less.

    Parameters
    ----------
    pairs
        Pairs of spaces, as places in the kernels of a tile.
    sizes
        (cluster,): rows of each cluster among the rows of the pass.
    n_resamples
        How many to draw.
    seed
        Of the draw: the same seed draws the same clusters for any pairs, so variants can be paired.
    """
    form = KeptBootstrap if keeps_sums(pairs, len(sizes)) else StreamedBootstrap
    return form(pairs, sizes, n_resamples, seed)


def keeps_sums(pairs: Sequence[Pair], n_clusters: int) -> bool:
    """Say whether the sums for every two clusters are few enough to be kept."""
    return 8 * n_clusters**2 * len(quantities_of(pairs)) <= KEPT_BYTES


def plan_bootstrap(
    pairs: Sequence[Pair],
    sizes: NDArray[np.int64],
    n_resamples: int,
    tile_rows: int,
    *,
    value_bytes: int = 4,
    kept: bool | None = None,
) -> MemoryPlan:
    """Say what a bootstrap holds at its peak, beside the tile that it absorbs.

    Parameters
    ----------
    pairs, sizes, n_resamples
        As `cluster_bootstrap`.
    tile_rows
        Most rows, and columns, of a tile.
    value_bytes
        Of an entry of a tile: 4 or 8.
    kept
        Which form; the one that `cluster_bootstrap` takes where None.
    """
    n_clusters, taken = len(sizes), 1 + n_resamples
    if kept is None:
        kept = keeps_sums(pairs, n_clusters)
    n_keys = len(quantities_of(pairs))
    n_spaces = len({space for pair in pairs for space in pair})
    # The most clusters that a run of rows as long as a tile can touch, cut ones at both ends.
    ends = np.cumsum(sizes)
    crossed = int(max(np.searchsorted(ends, ends + tile_rows) - np.arange(n_clusters)))
    crossed = min(crossed, tile_rows, n_clusters)
    draws = 4 * taken * n_clusters
    entries = value_bytes * tile_rows**2
    # Kernels while the mean is taken off, or a product, and what it is reduced to.
    tile = n_spaces * entries + max(2 * entries, value_bytes * crossed * (tile_rows + crossed))
    if kept:
        placing = n_spaces * entries + 8 * crossed**2 * (n_spaces + 5)
        panels = 3 * min(PANEL, taken) + 2 * min(PANEL, n_clusters)
        weighing = draws + 8 * panels * n_clusters + 8 * taken * (5 * n_keys + 8)
        parts = {
            "cluster sums": 8 * n_clusters**2 * (n_keys + 1),
            "tile or resamples": max(tile, placing, weighing),
        }
    else:
        counting = 8 * taken * crossed + 25 * crossed**2
        weighing = value_bytes * (min(PANEL, taken) * crossed + 3 * crossed**2)
        applying = n_spaces * entries + max(counting, weighing)
        parts = {
            "draws": draws * (3 if value_bytes == 8 else 1),
            "resample sums": 8 * taken * (n_keys + n_spaces + 6) + 8 * n_keys * n_clusters,
            "tile or resamples": max(
                tile, applying, 8 * taken * 4 * n_keys + 8 * min(PANEL, taken) * n_clusters
            ),
        }
    return MemoryPlan({**parts, "objects": 2**17})


def _columns(counts: Array, clusters: NDArray[np.int64]) -> Array:
    """Return the draws of ascending clusters, a view where they lie side by side."""
    first, last = int(clusters[0]), int(clusters[-1])
    if last - first == len(clusters) - 1:
        return counts[:, first : last + 1]
    return namespace(counts).take(counts, from_host(clusters, counts), axis=1)


def quadratic(left: Array, sums: Array, right: Array) -> NDArray[np.float64]:
    """Return sum over g, h of w_g s_gh w_h for every resample, (resample,) float64.

    Parameters
    ----------
    left, right
        (resample, row cluster), (resample, column cluster): draws.
    sums
        (row cluster, column cluster).
    """
    xp = namespace(sums)
    parts = []
    for lo in range(0, left.shape[0], PANEL):
        hi = min(lo + PANEL, left.shape[0])
        parts.append(xp.vecdot(xp.matmul(left[lo:hi, :], sums), right[lo:hi, :]))
    return to_host(xp.concat(parts)).astype(np.float64)
