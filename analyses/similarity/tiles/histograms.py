"""Exact histograms of kernels over all pairs of rows, from tiles.

The cells of a histogram are [j w, (j + 1) w) for integers j and a width w that is a power of two.
To find the cell of a value multiplies by a power of two and takes the floor, both without rounding,
so a cell is a monotone function of the value, and two cells of one width are exactly one cell of
twice that width: histograms of different widths merge, and one whose range grows too far halves
its number of cells, without a value going astray. The first width is taken from the spread of the
first values seen, so that values far out add cells instead of making all cells wide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.tiles.panels import PANEL_ENTRIES, counted, extent, panels
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.arrays import Array, is_numpy, namespace, to_host

CELLS_PER_QUARTILE_RANGE: Final = 2**13
"""Cells, at least, between the first and third quartile of the first values seen."""
MOST_CELLS: Final = 2**20
"""Cells of a kernel beyond which their width is doubled where nobody says: 8 MiB of counts. A
kernel without values far out has about a tenth of them."""
LIKELY_CELLS: Final = 2**17
"""Cells of a kernel without values far out, to a factor of two."""
_FARTHEST_CELL: Final = 2**30
"""Largest number of a cell, so that it is an int32."""
_FINEST: Final = -126
"""The exponent of the narrowest cells: 1 / w is a float32."""
_SAMPLE_SIDE: Final = 128
"""Rows and columns of the sample of the first tile."""
_REPEATED: Final = 0.9
"""Share of distinct values in that sample below which ties are looked for in every cell."""


class Scratch:
    """Buffers for the cells of a panel, so that no step of it allocates."""

    def __init__(self, n_entries: int, dtype: Any) -> None:
        """Make room for so many values of a dtype."""
        self.values = np.empty(n_entries, dtype=dtype)
        self.narrow = np.empty(n_entries, dtype=np.int32)
        self.index = np.empty(n_entries, dtype=np.intp)


def scratch_for(tile: Tile) -> Scratch | None:
    """Return buffers for the panels of a tile, None where it lies on a device."""
    kernel = tile.kernels[0]
    if not is_numpy(kernel):
        return None
    columns = tile.columns[1] - tile.columns[0]
    most = min(max(PANEL_ENTRIES, columns), columns * (tile.rows[1] - tile.rows[0]))
    return Scratch(most, np.result_type(*tile.kernels))


def scratch_bytes(panel_rows: int, value_bytes: int = 4) -> int:
    """Return the bytes of the buffers for a square tile."""
    return min(max(PANEL_ENTRIES, panel_rows), panel_rows**2) * (value_bytes + 12)


def histogram_bytes(
    n_spaces: int,
    panel_rows: int,
    *,
    value_bytes: int = 4,
    most_cells: int = MOST_CELLS,
    likely: bool = False,
) -> int:
    """Return the most bytes that `KernelHistograms` holds while it absorbs tiles.

    With `likely`, those that it holds where few values repeat and none lies far out.
    """
    # Counts, and where values repeat the least and the largest. Those of one space lie there twice
    # while its range grows, and have to be numbered where its cells get wider.
    cells = most_cells * (n_spaces * (8 + 2 * value_bytes) + 24)
    if likely:
        cells = min(most_cells, LIKELY_CELLS) * 8 * (n_spaces + 1)
    return cells + scratch_bytes(panel_rows, value_bytes) + 20 * PANEL_ENTRIES


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of one width in a row."""

    exponent: int
    """The width is 2^exponent."""
    first: int
    """The number j of the first cell, [j w, (j + 1) w)."""

    def cell(self, value: float) -> int:
        """Return the number j of the cell of a value."""
        return math.floor(value * 2.0**-self.exponent)

    def index(self, values: Array, scratch: Scratch | None = None) -> Array:
        """Return which cell from the first on each value lies in, as integers of the same shape.

        With `scratch` (numpy only) the result lies in it, and is overwritten by the next call.
        """
        xp = namespace(values)
        # What a tile holds where nothing counts may be anything; so may its cell.
        with np.errstate(invalid="ignore", over="ignore"):
            if scratch is None or not is_numpy(values):
                return xp.astype(xp.floor(values * 2.0**-self.exponent), xp.int64) - self.first
            size = values.size
            work = scratch.values[:size].reshape(values.shape)
            narrow = scratch.narrow[:size].reshape(values.shape)
            index: Array = scratch.index[:size].reshape(values.shape)
            np.multiply(values, work.dtype.type(2.0**-self.exponent), out=work)
            np.floor(work, out=work)
            # By way of int32: processors turn a vector of float32 into int32, few into int64.
            np.copyto(narrow, work, casting="unsafe")
            np.subtract(narrow, np.int32(self.first), out=narrow)
            np.copyto(index, narrow)
        return index


@dataclass(slots=True)
class Histogram:
    """Counts of the values of one kernel, over unordered pairs of two rows."""

    grid: Grid
    counts: NDArray[np.int64]
    """(cell,)."""
    lowest: NDArray[np.floating] | None
    """(cell,): the least value in each cell, infinite where it is empty; None where the first
    values seen hardly repeated, and nothing was looked for."""
    highest: NDArray[np.floating] | None
    most_cells: int = MOST_CELLS
    """Cells beyond which their width is doubled."""

    @property
    def span(self) -> float:
        """No two values are farther apart; what is below the rounding of a kernel is constant."""
        filled = np.flatnonzero(self.counts)
        return float(filled[-1] + 1 - filled[0]) * 2.0**self.grid.exponent if len(filled) else 0.0

    @property
    def largest(self) -> float:
        """No value is farther from 0."""
        filled = self.grid.first + np.flatnonzero(self.counts)
        ends = (abs(int(filled[0])), abs(int(filled[-1]) + 1)) if len(filled) else (0,)
        return float(max(ends)) * 2.0**self.grid.exponent

    def tied(self) -> NDArray[np.bool_]:
        """Say of each cell whether all values in it are known to be equal, (cell,)."""
        if self.lowest is None or self.highest is None:
            return self.counts <= 1
        tied: NDArray[np.bool_] = (self.lowest == self.highest) | (self.counts <= 1)
        return tied

    @classmethod
    def beside(cls, sample: NDArray[np.floating], most_cells: int = MOST_CELLS) -> "Histogram":
        """Return the histogram of nothing whose cells suit the values of a sample."""
        low, high = np.quantile(sample, (0.25, 0.75))
        width = float(high - low) / CELLS_PER_QUARTILE_RANGE
        distinct = np.unique(sample)
        lowest = highest = None
        if len(distinct) <= _REPEATED * len(sample):
            lowest, highest = (np.empty(0, sample.dtype) for _ in range(2))
        if lowest is not None and len(distinct) > 1:
            # Cells that hold one value each, where there can be as many.
            gap = float(np.diff(distinct).min())
            gap = max(gap, float(distinct[-1] - distinct[0]) * 4 / most_cells)
            width = min(width, gap) if width > 0 else gap
        # Cells narrower than the last digit of the values would tell nothing more.
        digits = 23 if sample.dtype == np.float32 else 30
        width = max(width, float(np.abs(sample).max()) * 2.0**-digits)
        exponent = max(math.floor(math.log2(width)), _FINEST) if width > 0 else _FINEST
        return cls(Grid(exponent, 0), np.empty(0, np.int64), lowest, highest, most_cells)

    def absorb(self, values: Array, low: float, high: float, scratch: Scratch | None) -> None:
        """Count values, which lie from `low` to `high`."""
        xp = namespace(values)
        self.reach(low, high)
        index = xp.reshape(self.grid.index(values, scratch), (-1,))
        if is_numpy(values):
            np.add.at(self.counts, index, 1)
        elif hasattr(xp, "bincount"):  # beyond the standard, but CuPy and torch have it
            self.counts += to_host(xp.bincount(index, minlength=len(self.counts)))
        else:
            np.add.at(self.counts, to_host(index), 1)
        if self.lowest is not None and self.highest is not None:
            place, found = to_host(index), to_host(xp.reshape(values, (-1,)))
            np.minimum.at(self.lowest, place, found)
            np.maximum.at(self.highest, place, found)

    def reach(self, low: float, high: float) -> None:
        """Have a cell for every value from `low` to `high`, wider ones where they get too many."""
        first, last = self.grid.cell(low), self.grid.cell(high)
        have, stop = self.grid.first, self.grid.first + len(self.counts)
        if len(self.counts):
            if have <= first and last < stop:
                return
            first, last = min(first, have), max(last, stop - 1)
        steps = 0
        while (last >> steps) - (first >> steps) >= self.most_cells or (
            max(abs(first >> steps), abs(last >> steps)) > _FARTHEST_CELL
        ):
            steps += 1
        self._widen(steps)
        first, last = first >> steps, last >> steps
        # Some room on both sides: the range grows a little with nearly every tile at first.
        room = min((last - first) // 8, (self.most_cells - 1 - last + first) // 2)
        self._place(first - room, last + room + 1 - (first - room))

    def merge(self, other: "Histogram") -> None:
        """Add the counts of other values."""
        steps = max(0, other.grid.exponent - self.grid.exponent)
        self._widen(steps)
        other._widen(self.grid.exponent - other.grid.exponent)
        other.trim()
        if len(other.counts):
            first, stop = other.grid.first, other.grid.first + len(other.counts)
            width = 2.0**self.grid.exponent
            self.reach(first * width, (stop - 1) * width)
            other._widen(self.grid.exponent - other.grid.exponent)
            place = slice(
                other.grid.first - self.grid.first,
                other.grid.first - self.grid.first + len(other.counts),
            )
            self.counts[place] += other.counts
        if self.lowest is None or other.lowest is None:
            self.lowest = self.highest = None
        elif len(other.counts) and self.highest is not None and other.highest is not None:
            np.minimum(self.lowest[place], other.lowest, out=self.lowest[place])
            np.maximum(self.highest[place], other.highest, out=self.highest[place])

    def trim(self) -> None:
        """Give up the empty cells at both ends."""
        filled = np.flatnonzero(self.counts)
        if len(filled):
            first, last = int(filled[0]), int(filled[-1])
            self._place(self.grid.first + first, last + 1 - first)

    def _widen(self, steps: int) -> None:
        """Make cells 2^steps times as wide."""
        if not steps:
            return
        old = self.grid
        grid = Grid(old.exponent + steps, old.first >> steps)
        cells = ((old.first + np.arange(len(self.counts))) >> steps) - grid.first
        length = int(cells[-1]) + 1 if len(cells) else 0
        counts = np.zeros(length, np.int64)
        np.add.at(counts, cells, self.counts)
        if self.lowest is not None and self.highest is not None:
            lowest = np.full(length, np.inf, self.lowest.dtype)
            highest = np.full(length, -np.inf, self.highest.dtype)
            np.minimum.at(lowest, cells, self.lowest)
            np.maximum.at(highest, cells, self.highest)
            self.lowest, self.highest = lowest, highest
        self.grid, self.counts = grid, counts

    def _place(self, first: int, length: int) -> None:
        """Hold the cells from `first` on instead, keeping the counts of those held before."""
        shift = self.grid.first - first
        source = slice(max(0, -shift), max(0, min(len(self.counts), length - shift)))
        target = slice(source.start + shift, source.stop + shift)

        def placed(values: NDArray[Any], empty: float) -> NDArray[Any]:
            """Return values per cell in the new place."""
            fresh = np.full(length, empty, values.dtype)
            if len(values):
                fresh[target] = values[source]
            return fresh

        self.counts = placed(self.counts, 0)
        if self.lowest is not None and self.highest is not None:
            self.lowest = placed(self.lowest, np.inf)
            self.highest = placed(self.highest, -np.inf)
        self.grid = Grid(self.grid.exponent, first)


class KernelHistograms:
    """The histogram of every kernel over all pairs of rows (an `Accumulator` of tiles)."""

    def __init__(self, names: Sequence[str], most_cells: int = MOST_CELLS) -> None:
        """Take the names of the spaces, for messages, and the cells that each may have at most."""
        self.names = tuple(names)
        self.most_cells = most_cells

    def start(self) -> list[Histogram | None]:
        """Return no histogram of any space yet."""
        return [None] * len(self.names)

    def update(self, state: list[Histogram | None], tile: Tile) -> list[Histogram | None]:
        """Count the entries of a tile.

        Raises
        ------
        InvalidInput
            A kernel is NaN or infinite somewhere.
        """
        scratch = scratch_for(tile)
        for panel in panels(tile):
            for s, kernel in enumerate(panel.kernels):
                values = counted(panel, kernel)
                if 0 in values.shape:
                    continue  # a row with itself
                low, high = extent(values, self.names[s], panel)
                histogram = state[s]
                if histogram is None:
                    sample = _sample(tile, tile.kernels[s])
                    histogram = state[s] = Histogram.beside(sample, self.most_cells)
                histogram.absorb(values, low, high, scratch)
        return state

    def merge(
        self, state: list[Histogram | None], other: list[Histogram | None]
    ) -> list[Histogram | None]:
        """Add the counts of other tiles."""
        for s, theirs in enumerate(other):
            ours = state[s]
            if ours is None:
                state[s] = theirs
            elif theirs is not None:
                ours.merge(theirs)
        return state

    def finish(self, state: list[Histogram | None]) -> tuple[Histogram, ...]:
        """Return the histogram of every space.

        Raises
        ------
        ValueError
            No tile had a pair of two rows.
        """
        whole = tuple(histogram for histogram in state if histogram is not None)
        if len(whole) < len(state):
            raise ValueError("there are no pairs of two rows to be counted")
        for histogram in whole:
            histogram.trim()
        return whole


def _sample(tile: Tile, kernel: Array) -> NDArray[np.floating]:
    """Return values spread over a tile, (value,); a pair of a row with itself is not one."""
    rows, columns = (max(1, -(-side // _SAMPLE_SIDE)) for side in kernel.shape)
    sample = to_host(kernel[::rows, ::columns])
    if tile.diagonal:
        sample = sample[np.triu_indices(len(sample), 1)]
    sample = sample[np.isfinite(sample)]
    return sample if len(sample) else to_host(counted(tile, kernel)).reshape(-1)[:1]
