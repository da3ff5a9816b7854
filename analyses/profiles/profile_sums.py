"""The profile of one space as sums over its rows: directions, dimensions and norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.profiles.row_lengths import (
    NormHistogram,
    NormStatistics,
)
from layerlake.analyses.profiles.spectrum import Spectrum, spectrum_of_gram
from layerlake.analyses.statistics.jackknife import jackknife, jackknife_positive
from layerlake.engine.passes.arrays import (
    Array,
    from_host,
    namespace,
    to_host,
)
from layerlake.engine.passes.blocks import Block
from layerlake.store.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Profile:
    """How the rows of one space are spread."""

    n_rows: int
    n_without_direction: int
    """Rows of length zero: they have no cosine, and count in all else."""
    anisotropy: float
    """Mean cosine over all pairs of rows that have a direction; NaN with fewer than two. Pairs of
    rows from one cluster count as well, and are more alike."""
    anisotropy_low: float | None
    """Lower end of the interval; None where there is none."""
    anisotropy_high: float | None
    mean_norm_low: float | None
    """Lower end of the interval of the mean length of a row (`norms.mean`), None as above."""
    mean_norm_high: float | None
    mean_length: float
    """Length of the mean row."""
    spectrum: Spectrum
    norms: NormStatistics
    notes: tuple[str, ...]
    """Sentences about what is not defined, and why."""


@dataclass(slots=True)
class ProfileState:
    """Running sums over the rows absorbed so far."""

    rows: int = 0
    mean: Array = None
    """(hidden,) float64: the mean row."""
    comoment: Array = None
    """(hidden, hidden) float64: sum of x x' over the rows less their mean."""
    unit_sums: Array = None
    """(group, hidden) float64: the sums of the unit rows of each group."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    """(group,): rows with a direction in each group."""
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    """(group,): rows of each group."""
    length_sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    """(group,): the sum of the lengths of the rows of each group."""
    norms: NormHistogram = field(default_factory=NormHistogram)


@dataclass(frozen=True, slots=True)
class ProfileSums:
    """The profile of one space of a pass as an accumulator of its blocks."""

    space: int
    """Which of the arrays of a block are the rows."""
    describe: Callable[[int, int], str]
    """Names a row of a space by its position in the selection, for a person."""
    groups: NDArray[np.int64] | None = None
    """(row,): the group of every row of the selection, from 0 without gaps; one group of all where
    it is None, and then no interval."""
    confidence: float = 0.95
    """Nominal coverage of the interval."""

    def start(self) -> ProfileState:
        """Return the state of no rows."""
        return ProfileState()

    def update(self, state: ProfileState, block: Block) -> ProfileState:
        """Absorb a block.

        Raises
        ------
        InvalidInput
            A row holds NaN or infinity.
        """
        rows = block.arrays[self.space]
        if not rows.shape[0]:
            return state
        xp = namespace(rows)
        wide = xp.astype(rows, xp.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # rows that are named below
            squares = xp.vecdot(wide, wide)
        finite = to_host(xp.isfinite(squares))
        if not finite.all():
            at = block.start + int(np.flatnonzero(~finite)[0])
            raise InvalidInput(
                f"{self.describe(self.space, at)} holds NaN or infinity (or values too large to square); "
                "leave that row out"
            )
        lengths = xp.sqrt(squares)
        directed = squares > 0
        weights = xp.astype(directed, xp.float64) / xp.where(
            directed, lengths, xp.ones_like(lengths)
        )
        count = rows.shape[0]
        groups = np.zeros(count, np.int64)
        n_groups = 1
        if self.groups is not None:
            groups = self.groups[block.start : block.stop]
            n_groups = int(self.groups[-1]) + 1
        unit_sums = xp.zeros((n_groups, wide.shape[1]), dtype=xp.float64, device=wide.device)
        for group in np.unique(groups).tolist():
            member = from_host((groups == group).astype(np.float64), wide)
            unit_sums[group, :] = xp.matmul(weights * member, wide)
        directions = to_host(directed).astype(np.int64)
        counts = np.bincount(groups, directions, n_groups).astype(np.int64)
        mean = xp.matmul(xp.full_like(squares, 1 / count), wide)
        wide -= mean
        comoment = xp.matmul(xp.matrix_transpose(wide), wide)
        del wide
        host_lengths = to_host(lengths)
        sizes = np.bincount(groups, minlength=n_groups).astype(np.int64)
        length_sums = np.bincount(groups, host_lengths, n_groups).astype(np.float64)
        norms = NormHistogram.of(host_lengths)
        own = ProfileState(count, mean, comoment, unit_sums, counts, sizes, length_sums, norms)
        return self.merge(state, own)

    def merge(self, state: ProfileState, other: ProfileState) -> ProfileState:
        """Add the sums of other rows (Chan et al. 1983)."""
        if not (state.rows and other.rows):
            return state if state.rows else other
        rows = state.rows + other.rows
        gap = other.mean - state.mean
        state.comoment += other.comoment
        # A row at a time, so that no third matrix of this size lies in memory.
        step = gap * (state.rows * other.rows / rows)
        for k in range(gap.shape[0]):
            state.comoment[k, :] += step * gap[k]
        state.mean = state.mean + gap * (other.rows / rows)
        state.unit_sums += other.unit_sums
        state.counts = state.counts + other.counts
        state.sizes = state.sizes + other.sizes
        state.length_sums = state.length_sums + other.length_sums
        state.norms = state.norms.joined(other.norms)
        state.rows = rows
        return state

    def finish(self, state: ProfileState) -> Profile:
        """Return the profile.

        Raises
        ------
        InvalidInput
            There are no rows.
        """
        if not state.rows:
            raise InvalidInput("a profile needs at least one row, and there are none")
        mean, gram = to_host(state.mean), to_host(state.comoment)
        notes = []
        unit_sums, counts = to_host(state.unit_sums), state.counts
        anisotropy = float(_mean_cosine(unit_sums.sum(axis=0), counts.sum()))
        ends = None
        if math.isnan(anisotropy):
            notes.append(f"{counts.sum()} rows have a direction: there is no cosine between rows")
        elif self.groups is not None:
            deleted = _mean_cosine(unit_sums.sum(axis=0) - unit_sums, counts.sum() - counts)
            ends = jackknife(anisotropy, deleted, self.confidence)
            if ends is None:
                notes.append(
                    "with a group of clusters left out no two rows with a direction are left, so "
                    "there is no interval"
                )
        statistics = state.norms.statistics()
        reach = None
        if self.groups is not None:
            left = (state.length_sums.sum() - state.length_sums) / (state.rows - state.sizes)
            reach = jackknife_positive(statistics.mean, left, self.confidence)
        spectrum = spectrum_of_gram(state.rows, mean, gram)
        if math.isnan(spectrum.participation_ratio):
            notes.append("all rows are the same, so there is no variance to be shared out")
        return Profile(
            n_rows=state.rows,
            n_without_direction=state.rows - int(counts.sum()),
            anisotropy=anisotropy,
            anisotropy_low=ends.low if ends else None,
            anisotropy_high=ends.high if ends else None,
            mean_norm_low=reach.low if reach else None,
            mean_norm_high=reach.high if reach else None,
            mean_length=float(np.linalg.norm(mean)),
            spectrum=spectrum,
            norms=statistics,
            notes=tuple(notes),
        )


def _mean_cosine(unit_sums: NDArray[np.float64], counts: Any) -> NDArray[np.float64]:
    """Return the mean cosine over pairs of rows from sums of unit rows, (..., hidden)."""
    rows = np.asarray(counts, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (np.vecdot(unit_sums, unit_sums) - rows) / (rows * (rows - 1))
    found: NDArray[np.float64] = np.where(rows > 1, np.clip(cosines, -1.0, 1.0), np.nan)
    return found
