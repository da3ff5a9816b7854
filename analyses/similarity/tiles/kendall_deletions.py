"""Kendall's tau-a with each cluster left out, from a third look at the tiles.

An entry is a pair of rows, and tau-a the mean over pairs of entries of whether they agree. Leaving
out a cluster takes away its entries, those with a row in it: the agreement of each of them with
all entries is looked up in the joint histogram of the second look (`kendall.concordance`). That
counts pairs of two such entries twice. How those agree among themselves is taken to be what their
agreement with all says of two entries (the projection of Hoeffding 1948), which is off by terms of
the square of their share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.tiles.kendall import JointBins, QuantileBins, concordance
from layerlake.analyses.similarity.tiles.panels import PANEL_ENTRIES
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace, to_host


def deletion_bytes(n_pairs: int, n_clusters: int, *, bins: int) -> int:
    """Return the most bytes of `KendallDeletions` beside what `joint_bytes` says."""
    return n_pairs * (4 * bins**2 + 16 * n_clusters) + 8 * n_clusters + 16 * PANEL_ENTRIES


@dataclass(slots=True)
class TauDeletions:
    """Running sums of the agreement of entries with all entries."""

    sizes: NDArray[np.int64]
    """(cluster,): rows."""
    leaving: NDArray[np.float64]
    """(pair, cluster): over entries with a row in the cluster, once for each of its rows there."""
    within: NDArray[np.float64]
    """(pair, cluster): over entries with both rows in the cluster."""


class KendallDeletions:
    """Tau-a with each cluster left out (an `Accumulator` of tiles)."""

    def __init__(
        self,
        bins: Sequence[QuantileBins],
        pairs: Sequence[tuple[int, int]],
        joints: Sequence[NDArray[np.int64]],
        n_clusters: int,
    ) -> None:
        """Take what `JointHistograms` took and finished with, and the number of clusters."""
        self.look = JointBins(bins, pairs)
        self.n_clusters = n_clusters
        self.n_entries = float(joints[0].sum())
        self._balances: list[float] = []
        self._tables: list[NDArray[np.float32]] = []
        for joint in joints:
            counts = joint.astype(np.float64)
            agreeing = concordance(counts)
            self._balances.append(float(np.vdot(agreeing, counts)) / 2)
            agreeing /= self.n_entries
            self._tables.append(agreeing.astype(np.float32).reshape(-1))

    def start(self) -> TauDeletions:
        """Return the sums of no tiles."""
        shape = len(self._tables), self.n_clusters
        return TauDeletions(np.zeros(self.n_clusters, np.int64), np.zeros(shape), np.zeros(shape))

    def update(self, state: TauDeletions, tile: Tile) -> TauDeletions:
        """Absorb a tile."""
        for panel, places in self.look.panels(tile):
            rows, columns = panel.row_clusters, panel.column_clusters
            if panel.diagonal:
                state.sizes += np.bincount(rows, minlength=self.n_clusters)
            shared = rows[:, None] == columns if rows[-1] >= columns[0] else None
            for p, place in enumerate(places):
                agreeing = _taken(self._tables[p], place)
                xp = namespace(agreeing)
                if panel.diagonal:
                    agreeing = xp.triu(agreeing, k=1)
                by_row = to_host(xp.sum(agreeing, axis=1, dtype=xp.float64))
                by_column = to_host(xp.sum(agreeing, axis=0, dtype=xp.float64))
                state.leaving[p] += np.bincount(rows, by_row, self.n_clusters)
                state.leaving[p] += np.bincount(columns, by_column, self.n_clusters)
                if shared is not None:
                    inside = (to_host(agreeing) * shared).sum(axis=1, dtype=np.float64)
                    state.within[p] += np.bincount(rows, inside, self.n_clusters)
        return state

    def merge(self, state: TauDeletions, other: TauDeletions) -> TauDeletions:
        """Add the sums of other tiles."""
        state.sizes += other.sizes
        state.leaving += other.leaving
        state.within += other.within
        return state

    def finish(self, state: TauDeletions) -> list[NDArray[np.float64]]:
        """Return tau-a of every pair of spaces with each cluster left out, (cluster,).

        For `jackknife.jackknife`, less clusters without rows. NaN where fewer than two entries are
        left.
        """
        sizes = state.sizes.astype(np.float64)
        gone = sizes * (sizes.sum() - sizes) + sizes * (sizes - 1) / 2
        left = self.n_entries - gone
        pairs = left * (left - 1) / 2
        deleted = []
        for balance, leaving, within in zip(
            self._balances, state.leaving, state.within, strict=True
        ):
            tau = balance / (self.n_entries * (self.n_entries - 1) / 2)
            agreeing = leaving - within  # with all entries, as shares of them
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = agreeing * (self.n_entries / (self.n_entries - 1)) / gone
                among = gone * (gone - 1) / 2 * np.clip(2 * mean - tau, -1, 1)
                left_out = (balance - agreeing * self.n_entries + among) / pairs
            deleted.append(np.where(pairs > 0, np.clip(left_out, -1, 1), np.nan))
        return deleted


def _taken(table: NDArray[np.float32], place: Array) -> Array:
    """Return the numbers at places of a table, (row, column)."""
    if is_numpy(place):
        return np.take(table, place)
    xp = namespace(place)
    return xp.reshape(xp.take(from_host(table, place), xp.reshape(place, (-1,))), place.shape)
