"""Neighbours where rows are equally near: each counts by how likely a random choice takes it.

Of the rows that tie at the k-th place a row has room for some. Whatever rule chose them would
choose alike in two spaces, and find agreement where there is none. So neighbour j of row i has a
weight a_ij: 1 where it is strictly nearer than the k-th, (k - strictly nearer) / tied where it ties
with the k-th, and 0 else. The expected share of common neighbours over independent choices in two
spaces is the sum over j of a_ij b_ij / k.

The first pass keeps a few more neighbours than k, in which most ties end. Only where a row ties
with more are its tiles gone through again: once to count the ties, once to weigh them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.tiles.neighbours import Neighbours
from layerlake.analyses.similarity.tiles.panels import PANEL_ENTRIES
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.engine.passes.arrays import to_host

SPARE: Final = 8
"""Neighbours kept beyond the k-th, so that short ties end among them."""
TIE_ROUNDINGS: Final = 8.0
"""Roundings of the working precision within which two cosines are equal."""


def kept_neighbours(k: int, n_rows: int) -> int:
    """Return how many neighbours of each row the first pass keeps."""
    return min(k + SPARE, n_rows - 1)


def tie_tolerance(precision: str, scale: float) -> float:
    """Return how far apart entries of tiles may be and count as equal.

    Parameters
    ----------
    precision
        Of the tiles, `float32` or `float64`.
    scale
        What entries are multiplied with, to be cosines.
    """
    return TIE_ROUNDINGS * float(np.finfo(precision).eps) / abs(scale)


@dataclass(slots=True)
class Ranked:
    """The neighbours of the rows of one space, and how much each counts."""

    index: NDArray[np.int64]
    """(row, kept): nearest first, at least k of them."""
    entries: NDArray[np.floating]
    """(row, kept): the entries of the tiles."""
    k: int
    tolerance: float
    kth: NDArray[np.float64]
    """(row,): the entry of the k-th neighbour."""
    strict: NDArray[np.int64]
    """(row,): how many are nearer than the k-th."""
    tied: NDArray[np.int64]
    """(row,): how many tie with the k-th, itself among them."""
    open: NDArray[np.bool_]
    """(row,): whether more may tie with it than are kept."""

    @classmethod
    def of(cls, found: Neighbours, k: int, tolerance: float) -> Ranked:
        """Rank the neighbours of a first pass."""
        n_rows, kept = found.index.shape
        entries = found.entries.astype(np.float64)
        kth = entries[:, k - 1]
        strict = np.count_nonzero(entries > kth[:, None] + tolerance, axis=1)
        tied = np.count_nonzero(entries >= kth[:, None] - tolerance, axis=1) - strict
        everybody = kept == n_rows - 1
        unfinished = entries[:, -1] >= kth - tolerance
        return cls(
            found.index,
            found.entries,
            k,
            tolerance,
            kth,
            strict,
            tied,
            np.zeros(n_rows, np.bool_) if everybody else unfinished,
        )

    @property
    def tie_weight(self) -> NDArray[np.float64]:
        """(row,): the weight of each row that ties with the k-th."""
        weight: NDArray[np.float64] = (self.k - self.strict) / self.tied
        return weight

    def weights(self, rows: slice = slice(None)) -> NDArray[np.float64]:
        """Return the weights of the neighbours kept, (row, kept); of use where nothing is open."""
        entries = self.entries[rows].astype(np.float64)
        return self.weighed(entries, self.kth[rows, None], self.tie_weight[rows, None])

    def weighed(
        self, entries: NDArray[np.float64], kth: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the weight of entries, by the k-th and the weight of a tie of their rows."""
        tied = np.where(entries >= kth - self.tolerance, weight, 0.0)
        return np.where(entries > kth + self.tolerance, 1.0, tied)

    def certainty(self) -> float:
        """Return the mean over rows of the sum of squared weights over k: 1 where nothing ties.

        No space agrees more with this one, in the mean, than the root of the product of both.
        """
        square = self.strict + (self.k - self.strict) ** 2 / self.tied
        return float(np.mean(square / self.k))


@dataclass(frozen=True, slots=True)
class _Strip:
    """Some rows of a tile in one space, on the host, nobody being a neighbour of itself."""

    rows: slice
    columns: slice
    entries: NDArray[np.float64]
    """(row, column); -inf where both are one."""
    diagonal: bool


def _strips(tile: Tile, s: int) -> Iterator[_Strip]:
    """Yield a tile of a space by some of its rows."""
    kernel = tile.kernels[s]
    n_rows, n_columns = kernel.shape
    step = max(1, PANEL_ENTRIES // n_columns)
    for lo in range(0, n_rows, step):
        entries = to_host(kernel[lo : lo + step, :]).astype(np.float64)
        if tile.diagonal:
            own = np.arange(len(entries))
            entries[own, own + lo] = -np.inf
        rows = slice(tile.rows[0] + lo, tile.rows[0] + lo + len(entries))
        yield _Strip(rows, slice(*tile.columns), entries, tile.diagonal)


class TieCounts:
    """How many rows tie with the k-th neighbour of each row (an `Accumulator` of tiles)."""

    def __init__(self, ranked: Sequence[Ranked]) -> None:
        """Take the neighbours of every space."""
        self.ranked = ranked

    def start(self) -> NDArray[np.int64]:
        """Return no ties yet, (space, row)."""
        return np.zeros((len(self.ranked), len(self.ranked[0].kth)), np.int64)

    def update(self, state: NDArray[np.int64], tile: Tile) -> NDArray[np.int64]:
        """Count the ties of a tile, for its rows and for its columns."""
        for s, known in enumerate(self.ranked):
            for strip in _strips(tile, s):
                near = strip.entries
                kth = known.kth[strip.rows, None]
                state[s, strip.rows] += np.count_nonzero(
                    np.abs(near - kth) <= known.tolerance, axis=1
                )
                if not strip.diagonal:
                    kth = known.kth[strip.columns]
                    state[s, strip.columns] += np.count_nonzero(
                        np.abs(near - kth) <= known.tolerance, axis=0
                    )
        return state

    def merge(self, state: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add both."""
        return state + other

    def finish(self, state: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tie with the k-th neighbour, (space, row)."""
        return state


@dataclass(slots=True)
class WeighedSums:
    """What a pair of spaces is compared by, summed over tiles; K and L are their kernels, W the
    product of both spaces' weights (of a space with itself: its weights)."""

    shared: NDArray[np.float64]
    """(row,): the sum of W over the neighbours of each row."""
    crossed: float
    """The sum of K_ij W_ij L_ji W_ji."""
    first: NDArray[np.float64]
    """(column,): sums of K W down its columns."""
    second: NDArray[np.float64]
    """(row,): sums of L W along its rows."""


class WeighedNeighbours:
    """Sums of weights and of weighed kernels of pairs of spaces (an `Accumulator` of tiles)."""

    def __init__(
        self,
        ranked: Sequence[Ranked],
        pairs: Sequence[Pair],
        affine: Sequence[tuple[float, float]] | None,
    ) -> None:
        """Take what is compared.

        Parameters
        ----------
        ranked
            Neighbours of every space, all ties counted.
        pairs
            Of spaces; those of a space with itself have the weights of that space.
        affine
            For each space (t, c): the kernel is t (entry + c); None where weights alone are wanted.
        """
        self.ranked = ranked
        self.pairs = tuple(pairs)
        self.affine = affine

    def start(self) -> list[WeighedSums]:
        """Return no sums yet."""
        n_rows = len(self.ranked[0].kth)
        wide = n_rows if self.affine is not None else 0
        return [
            WeighedSums(np.zeros(n_rows), 0.0, np.zeros(wide), np.zeros(wide)) for _ in self.pairs
        ]

    def update(self, state: list[WeighedSums], tile: Tile) -> list[WeighedSums]:
        """Add a tile, for its rows and for its columns."""
        for strips in zip(*(_strips(tile, s) for s in range(len(self.ranked))), strict=True):
            self._add(state, strips)
        return state

    def _add(self, state: list[WeighedSums], strips: Sequence[_Strip]) -> None:
        rows, columns = strips[0].rows, strips[0].columns
        diagonal = strips[0].diagonal
        along, down, kernels = [], [], []
        for s, (known, strip) in enumerate(zip(self.ranked, strips, strict=True)):
            near, tie = strip.entries, known.tie_weight
            along.append(known.weighed(near, known.kth[rows, None], tie[rows, None]))
            down.append(known.weighed(near, known.kth[columns], tie[columns]))
            if self.affine is not None:
                scale, constant = self.affine[s]
                kernels.append(np.where(np.isneginf(near), 0.0, scale * (near + constant)))
        for sums, (s, t) in zip(state, self.pairs, strict=True):
            there = along[s] if s == t else along[s] * along[t]
            back = down[s] if s == t else down[s] * down[t]
            sums.shared[rows] += there.sum(axis=1)
            if not diagonal:
                sums.shared[columns] += back.sum(axis=0)
            if self.affine is None:
                continue
            first, second = kernels[s], kernels[t]
            # Kernels are symmetric: off the diagonal each pair of rows counts both ways.
            sums.crossed += float((first * there * second * back).sum()) * (1 if diagonal else 2)
            sums.first[columns] += (first * there).sum(axis=0)
            sums.second[rows] += (second * there).sum(axis=1)
            if not diagonal:
                sums.first[rows] += (first * back).sum(axis=1)
                sums.second[columns] += (second * back).sum(axis=0)

    def merge(self, state: list[WeighedSums], other: list[WeighedSums]) -> list[WeighedSums]:
        """Add both."""
        for ours, theirs in zip(state, other, strict=True):
            ours.shared += theirs.shared
            ours.crossed += theirs.crossed
            ours.first += theirs.first
            ours.second += theirs.second
        return state

    def finish(self, state: list[WeighedSums]) -> list[WeighedSums]:
        """Return the sums of every pair."""
        return state


def ties_bytes(n_spaces: int, n_pairs: int, n_rows: int, panel_rows: int, *, cknna: bool) -> int:
    """Return the most bytes that counting and weighing ties holds, beside the tiles."""
    strip = min(panel_rows**2, max(PANEL_ENTRIES, panel_rows)) * 8
    counts = 8 * n_spaces * n_rows + 3 * strip
    sums = (n_pairs + n_spaces) * 3 * 8 * n_rows if cknna else n_pairs * 8 * n_rows
    return max(counts, sums + strip * ((4 if cknna else 3) * n_spaces + 8))


def ties_state_bytes(n_spaces: int, n_pairs: int, n_rows: int, *, cknna: bool) -> int:
    """Return the most bytes of what a worker hands over of a pass over ties."""
    weighed = (n_pairs + n_spaces) * 3 if cknna else n_pairs
    return 8 * n_rows * max(n_spaces, weighed)
