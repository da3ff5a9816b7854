"""Kendall's tau-a of kernels, from joint histograms of their quantiles over all pairs of rows.

A first pass counts each kernel (see `histograms`) and so finds bins of nearly equal counts; a
second one counts in how many pairs of rows the kernels lie in each pair of bins. Two pairs of rows
whose kernels lie in different bins on both sides are concordant or discordant for certain. Those
that share a bin are taken for neither, which is right where the bin holds ties only. Their share
is a rigorous bound, about 2 / bins; the error seen is some thousand times smaller, for within a
bin the order of one kernel says next to nothing about that of the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.tiles.histograms import (
    LIKELY_CELLS,
    MOST_CELLS,
    Histogram,
    scratch_bytes,
    scratch_for,
)
from layerlake.analyses.similarity.tiles.panels import PANEL_ENTRIES, counted, panels
from layerlake.analyses.similarity.tiles.spearman import CellTable
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.arrays import Array, is_numpy, namespace, to_host

BINS: Final = 1024
"""Bins of each kernel: 8 MiB of counts for a pair of spaces."""


def joint_bytes(
    n_spaces: int,
    n_pairs: int,
    panel_rows: int,
    *,
    bins: int = BINS,
    value_bytes: int = 4,
    most_cells: int = MOST_CELLS,
    likely: bool = False,
) -> int:
    """Return the most bytes of `QuantileBins` and of `JointHistograms` while tiles come.

    With `likely`, those of kernels without values far out, and of their histograms.
    """
    tables = 8 * most_cells * (2 * n_spaces + 4)
    if likely:
        tables = 8 * min(most_cells, LIKELY_CELLS) * 4 * n_spaces
    entries = min(max(PANEL_ENTRIES, panel_rows), panel_rows**2)
    looking = 8 * entries * (2 * n_spaces + 1) + 48 * PANEL_ENTRIES
    return tables + 8 * bins**2 * n_pairs + looking + scratch_bytes(panel_rows, value_bytes)


def tau_bytes(n_spaces: int, n_pairs: int, *, bins: int = BINS, cells: int = LIKELY_CELLS) -> int:
    """Return the most bytes of the tables and of `tau_of`, with the joint histograms, at the end.

    `cells` are those of a kernel.
    """
    # Floats of one joint histogram, and what `concordance` makes of them in two steps.
    return 8 * cells * 2 * n_spaces + 8 * bins**2 * (n_pairs + 3)


@dataclass(frozen=True, slots=True)
class QuantileBins:
    """Bins of nearly equal counts of one kernel."""

    cells: CellTable
    """The bin of each cell, intp."""
    tied: NDArray[np.bool_]
    """(bin,): all values in the bin are known to be equal."""

    @classmethod
    def of(cls, histogram: Histogram, bins: int = BINS) -> "QuantileBins":
        """Put the cells of a histogram into bins; a cell is never divided."""
        counts = histogram.counts
        filled = counts > 0
        if filled.sum() <= bins:
            place = np.maximum(np.cumsum(filled) - 1, 0).astype(np.intp)
        else:
            middle = np.cumsum(counts) - counts / 2
            place = np.minimum(middle * (bins / counts.sum()), bins - 1).astype(np.intp)
        occupied = np.bincount(place[filled], minlength=bins)
        alone = np.bincount(place[filled & histogram.tied()], minlength=bins)
        return cls(CellTable(histogram.grid, place), (occupied == alone) & (occupied <= 1))


@dataclass(frozen=True, slots=True)
class Tau:
    """Kendall's tau-a of two kernels."""

    value: float
    """NaN where a kernel is the same for all pairs of rows."""
    bound: float
    """Largest difference from tau-a of the kernels as the tiles gave them."""


def concordance(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many more entries are concordant than discordant with one in each pair of bins.

    `counts` is the joint histogram of two kernels, (bin, bin), and so is the result.
    """
    for axis in (0, 1):
        # Those in smaller bins less those in larger ones.
        balance = np.cumsum(counts, axis=axis)
        balance *= 2
        balance -= counts
        balance -= counts.sum(axis=axis, keepdims=True)
        counts = balance
    return counts


def tau_of(joint: NDArray[np.int64], left: QuantileBins, right: QuantileBins) -> Tau:
    """Return tau-a from the joint histogram of two kernels, (bin, bin)."""
    # float64: counts of pairs of pairs outgrow int64 beyond some 90,000 rows.
    counts = joint.astype(np.float64)
    n = float(counts.sum())
    pairs = n * (n - 1) / 2
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    if min(np.count_nonzero(rows), np.count_nonzero(columns)) < 2:
        return Tau(np.nan, np.nan)
    balance = float(np.vdot(concordance(counts), counts)) / 2

    def shared(of: NDArray[np.float64]) -> float:
        """Count the pairs within each number."""
        return float(np.sum(of * (of - 1)) / 2)

    # A pair that is tied in one kernel is neither concordant nor discordant for certain.
    undecided = shared(rows[~left.tied]) + shared(columns[~right.tied])
    undecided -= shared(counts[np.ix_(~left.tied, ~right.tied)])
    undecided -= shared(counts[np.ix_(left.tied, ~right.tied)])
    undecided -= shared(counts[np.ix_(~left.tied, right.tied)])
    return Tau(balance / pairs, undecided / pairs)


class JointBins:
    """Looks up in which pair of bins the entries of tiles lie."""

    def __init__(self, bins: Sequence[QuantileBins], pairs: Sequence[tuple[int, int]]) -> None:
        """Take the bins of every space and the pairs of spaces."""
        self.width = len(bins[0].tied)
        """Bins of each kernel."""
        self.pairs = tuple(pairs)
        # The left bin comes multiplied, so that a pair of bins is one sum.
        self._left = {
            s: CellTable(bins[s].cells.grid, bins[s].cells.table * self.width)
            for s in {s for s, _ in self.pairs}
        }
        self._right = {t: bins[t].cells for t in {t for _, t in self.pairs}}

    def panels(self, tile: Tile) -> Iterator[tuple[Tile, Iterator[Array]]]:
        """Yield the panels of a tile, and for each the pairs of bins, (row, column) of each pair.

        A pair of bins is the left one times their number plus the right one, in a buffer that the
        next one overwrites.
        """
        scratch = scratch_for(tile)
        size = 0 if scratch is None else scratch.index.size
        room: list[Any] = [None] * (len(self._left) + len(self._right) + 1)
        if scratch is not None:
            room = [np.empty(size, np.intp) for _ in room]
        for panel in panels(tile):
            found: list[dict[int, Array]] = [{}, {}]
            buffers = iter(room)
            for side, tables in zip(found, (self._left, self._right), strict=True):
                for s, table in tables.items():
                    side[s] = table.of(panel.kernels[s], scratch, next(buffers))
            yield panel, self._sums(found[0], found[1], next(buffers))

    def _sums(self, left: dict[int, Array], right: dict[int, Array], room: Any) -> Iterator[Array]:
        """Yield the pairs of bins of each pair of spaces."""
        for s, t in self.pairs:
            if room is None:
                yield left[s] + right[t]
            else:
                place = room[: left[s].size].reshape(left[s].shape)
                yield np.add(left[s], right[t], out=place)


class JointHistograms:
    """Joint histograms of the bins of two kernels over all pairs (an `Accumulator` of tiles)."""

    def __init__(self, bins: Sequence[QuantileBins], pairs: Sequence[tuple[int, int]]) -> None:
        """Take the bins of every space and the pairs of spaces to count."""
        self.look = JointBins(bins, pairs)

    def start(self) -> list[NDArray[np.int64]]:
        """Return zeros, (bin x bin,) for each pair of spaces."""
        return [np.zeros(self.look.width**2, np.int64) for _ in self.look.pairs]

    def update(self, state: list[NDArray[np.int64]], tile: Tile) -> list[NDArray[np.int64]]:
        """Count the entries of a tile."""
        for panel, places in self.look.panels(tile):
            for counts, place in zip(state, places, strict=True):
                inside = counted(panel, place)
                xp = namespace(inside)
                inside = xp.reshape(inside, (-1,))
                if not is_numpy(inside) and hasattr(xp, "bincount"):  # CuPy and torch
                    counts += to_host(xp.bincount(inside, minlength=len(counts)))
                else:
                    np.add.at(counts, to_host(inside), 1)
        return state

    def merge(
        self, state: list[NDArray[np.int64]], other: list[NDArray[np.int64]]
    ) -> list[NDArray[np.int64]]:
        """Add the counts of other tiles."""
        for ours, theirs in zip(state, other, strict=True):
            ours += theirs
        return state

    def finish(self, state: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Return the joint histogram of every pair of spaces, (bin, bin), for `tau_of`."""
        square = (self.look.width, self.look.width)
        return [counts.reshape(square) for counts in state]
