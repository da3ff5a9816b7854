"""Spearman's rank correlation of kernels: Pearson's of mid-ranks, from tiles in two passes.

The first pass counts (see `histograms`). A cell of c values that follows b smaller ones has the
mid-rank b + (c + 1) / 2, which is right on average and off by at most (c - 1) / 2 for each of its
values. The second pass looks the mid-ranks up, so that whatever absorbs tiles absorbs ranks: sums
over pairs and over what touches a cluster, resamples, permutations. Ranks are those among all
pairs, and stay what they are where clusters are left out; intervals so made are narrower than with
all pairs ranked anew, by up to some 5 % where the correlation is strong.

How far the correlation of mid-ranks r is from that of the ranks R is bounded. Within a cell R - r
sums to zero and r is constant, so R - r is orthogonal to r, and with W the largest sum of its
squares, sum (c^3 - c) / 12 over the cells that may hold different values, the angle between R and
r is at most atan sqrt(W / sum (r - mean)^2). A correlation is the cosine of an angle, and angles
obey the triangle inequality.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moments import PairSums
from layerlake.analyses.similarity.features.rsa_value import RsaValue, value_of
from layerlake.analyses.similarity.tiles.histograms import (
    LIKELY_CELLS,
    MOST_CELLS,
    Grid,
    Histogram,
    Scratch,
    scratch_bytes,
    scratch_for,
)
from layerlake.analyses.similarity.tiles.panels import PANEL_ENTRIES, panels
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace
from layerlake.engine.passes.blocks import Accumulator

S = TypeVar("S")
R = TypeVar("R")


def rank_bytes(
    n_spaces: int,
    panel_rows: int,
    *,
    value_bytes: int = 4,
    most_cells: int = MOST_CELLS,
    likely: bool = False,
) -> int:
    """Return the most bytes of `RankTable`s and of `Ranked`, beside what absorbs the ranks.

    With `likely`, those of kernels without values far out, and of their histograms.
    """
    # While a table is made of a histogram it takes some vectors of as many cells.
    tables = 8 * most_cells * (n_spaces + 6)
    if likely:
        tables = 8 * min(most_cells, LIKELY_CELLS) * 2 * n_spaces
    buffers = 8 * n_spaces * max(entries_at_once(n_spaces), panel_rows)
    return tables + scratch_bytes(panel_rows, value_bytes) + buffers


def entries_at_once(n_spaces: int) -> int:
    """Return how many entries of so many spaces are ranked at a time."""
    return max(PANEL_ENTRIES // n_spaces, PANEL_ENTRIES // 8)


@dataclass(frozen=True, slots=True)
class CellTable:
    """A number for every cell of a histogram."""

    grid: Grid
    table: NDArray[Any]
    """(cell,)."""

    def of(self, values: Array, scratch: Scratch | None = None, out: Any = None) -> Array:
        """Return the number of the cell of each value; values beyond the ends take those there.

        `scratch` and `out` (numpy only) are buffers of at least as many entries.
        """
        index = self.grid.index(values, scratch)
        if is_numpy(index):
            if out is not None:
                out = out[: index.size].reshape(index.shape)
            return np.take(self.table, index, mode="clip", out=out)
        xp = namespace(index)
        flat = xp.clip(xp.reshape(index, (-1,)), 0, len(self.table) - 1)
        return xp.reshape(xp.take(from_host(self.table, index), flat), index.shape)


@dataclass(frozen=True, slots=True)
class RankTable:
    """The mid-ranks of one kernel over all pairs, less their mean, as shares of the pairs."""

    cells: CellTable
    """Numbers between -1/2 and 1/2, float64."""
    variance: float
    """Mean square of the mid-ranks; 0 where the kernel is the same for all pairs."""
    blur: float
    """Largest angle, in radians, between the mid-ranks and the ranks."""

    @classmethod
    def of(cls, histogram: Histogram) -> "RankTable":
        """Rank the cells of a histogram."""
        counts = histogram.counts.astype(np.float64)
        total = counts.sum()
        middle = np.cumsum(counts) - counts / 2
        ranks = middle / total - 0.5
        variance = float(np.sum(counts * ranks**2) / total)
        mixed = counts[~histogram.tied()]
        most = float(np.sum((mixed / total) ** 2 * (mixed / total) - mixed / total**3)) / 12
        blur = math.atan2(math.sqrt(max(most, 0.0)), math.sqrt(variance)) if most > 0 else 0.0
        return cls(CellTable(histogram.grid, ranks), variance, blur)


class Ranked(Generic[S, R]):
    """Has another accumulator absorb the ranks of kernels in place of them (an `Accumulator`).

    The tiles must be those from which the ranks were counted; an entry at the edge of a cell that
    is rounded otherwise takes the rank of the cell beside it. Panels go to the other accumulator as
    float64 tiles in buffers that the next panel overwrites.
    """

    def __init__(self, tables: Sequence[RankTable], other: Accumulator[Tile, S, R]) -> None:
        """Take the table of every space and who absorbs ranks."""
        self.tables = tuple(tables)
        self.other = other

    def start(self) -> S:
        """Return the other's state of no tiles."""
        return self.other.start()

    def update(self, state: S, tile: Tile) -> S:
        """Have the ranks of a tile absorbed, panel by panel."""
        scratch = scratch_for(tile)
        most = entries_at_once(len(self.tables))
        buffers: list[Any] = [None] * len(self.tables)
        if scratch is not None:
            size = min(scratch.index.size, max(most, tile.columns[1] - tile.columns[0]))
            buffers = [np.empty(size) for _ in self.tables]
        for panel in panels(tile, most):
            ranks = tuple(
                table.cells.of(kernel, scratch, buffer)
                for table, kernel, buffer in zip(self.tables, panel.kernels, buffers, strict=True)
            )
            state = self.other.update(state, replace(panel, kernels=ranks))
        return state

    def merge(self, state: S, other: S) -> S:
        """Merge the other's states."""
        return self.other.merge(state, other)

    def finish(self, state: S) -> R:
        """Return what the other's state amounts to."""
        return self.other.finish(state)


def spearman_bound(r: float, left: RankTable, right: RankTable) -> float:
    """Return how far Spearman's correlation may be from that of the mid-ranks.

    Parameters
    ----------
    r
        Pearson's correlation of the mid-ranks over all pairs.
    left, right
        The tables they were looked up in.

    Returns
    -------
    float
        The bound holds for the kernels as the tiles gave them. NaN where r is.
    """
    if math.isnan(r):
        return math.nan
    angle, reach = math.acos(min(max(r, -1.0), 1.0)), left.blur + right.blur
    highest = math.cos(max(angle - reach, 0.0))
    lowest = math.cos(min(angle + reach, math.pi))
    return max(highest - r, r - lowest)


def spearman_value(
    sums: PairSums,
    leaving: NDArray[np.float64] | None,
    tables: tuple[RankTable, RankTable],
    *,
    names: tuple[str, str],
    interval: str,
    confidence: float,
    kernel: str,
    constant: Sequence[str] = (),
) -> tuple[RsaValue, float]:
    """Turn the sums of the mid-ranks of two kernels into Spearman's correlation.

    Parameters
    ----------
    sums, leaving
        As `rsa_value.value_of` takes them, of ranks.
    tables
        In which the ranks were looked up.
    names
        Of both spaces.
    interval, confidence, kernel
        As `rsa_value.value_of` takes them.
    constant
        Names of the spaces whose kernel is known to vary by no more than rounding; others of one
        value are found.

    Returns
    -------
    tuple
        The value, and how far `r_all` may be from that of the exact ranks (`spearman_bound`).
        `r_between` correlates the same ranks, those among all pairs, over pairs between clusters.
    """
    flat = [name for name, table in zip(names, tables, strict=True) if table.variance == 0]
    value = value_of(
        # Equal ranks do not mean that the spaces are equal.
        replace(sums, same=False),
        leaving,
        interval=interval,
        confidence=confidence,
        kernel=kernel,
        constant=[*constant, *flat],
    )
    return value, spearman_bound(value.r_all, *tables)
