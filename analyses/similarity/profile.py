"""The profile of one space: how its rows are spread, in one pass over them.

Anisotropy is the mean cosine over all pairs of rows, exact from the sum of the unit rows
(Ethayarajh 2019 estimates it from a sample); the participation ratio and the spectrum come from
the covariance.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from layerlake.analyses.similarity.centred import SpaceSums
from layerlake.analyses.similarity.norm_statistics import (
    NORM_BYTES,
    NormHistogram,
    NormStatistics,
)
from layerlake.analyses.similarity.planning import BLOCK_ROWS
from layerlake.engine.arrays import Array, item_bytes, namespace, to_host
from layerlake.engine.memory import DEFAULT_ALLOWED_BYTES, MemoryPlan, parse_bytes
from layerlake.engine.passes import Block, SpaceLike, read_blocks, run_pass
from layerlake.store.errors import InvalidInput, is_a

_ROUNDING: Final = 16 * 2.0**-52
"""A spread smaller than this share of the mean is rounding."""
_OBJECTS: Final = 2**17
"""Bytes for what is not an array."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The variances of a space along its principal axes."""

    variances: NDArray[np.float64]
    """(axis,): by falling variance, in squared units of the stored values, with n - 1."""
    participation_ratio: float
    """(sum v)^2 / sum v^2: how many axes of equal variance would be as spread; NaN if constant."""
    effective_rank: float
    """exp of the entropy of the shares of variance (Roy & Vetterli 2007); NaN if constant."""

    @property
    def total(self) -> float:
        """The variance over all axes."""
        return float(self.variances.sum())

    @property
    def explained(self) -> NDArray[np.float64]:
        """(axis,): the share of the variance along each axis; NaN if constant."""
        with np.errstate(invalid="ignore"):
            shares: NDArray[np.float64] = self.variances / self.total
        return shares

    def components(self, fraction: float) -> int:
        """Return the fewest axes that hold at least a fraction, in (0, 1], of the variance.

        Raises
        ------
        InvalidInput
            The fraction does not lie in (0, 1].
        """
        if not is_a(fraction, int, float) or not 0 < fraction <= 1:
            raise InvalidInput(f"a share of the variance lies in (0, 1], not {fraction!r}")
        held = np.cumsum(self.variances)
        return min(int(np.searchsorted(held, fraction * held[-1])) + 1, len(held))


@dataclass(frozen=True, slots=True)
class Profile:
    """How the rows of one space are spread."""

    n_rows: int
    n_without_direction: int
    """Rows of length zero: they have no cosine, and count in all else."""
    anisotropy: float
    """Mean cosine over all pairs of rows that have a direction; NaN with fewer than two."""
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
    directed: int = 0
    """Rows with a direction."""
    unit_sum: Array = None
    """(hidden,) float64: the sum of the unit rows."""
    norms: NormHistogram = field(default_factory=NormHistogram)


@dataclass(frozen=True, slots=True)
class ProfileSums:
    """The profile of one space of a pass as an accumulator of its blocks."""

    space: int
    """Which of the arrays of a block are the rows."""
    describe: Callable[[int], str]
    """Names a row by its position in the selection, for a person."""

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
                f"{self.describe(at)} holds NaN or infinity (or values too large to square); "
                "leave that row out"
            )
        lengths = xp.sqrt(squares)
        directed = squares > 0
        weights = xp.astype(directed, xp.float64) / xp.where(
            directed, lengths, xp.ones_like(lengths)
        )
        count = rows.shape[0]
        unit_sum = xp.matmul(weights, wide)
        mean = xp.matmul(xp.full_like(squares, 1 / count), wide)
        wide -= mean
        comoment = xp.matmul(xp.matrix_transpose(wide), wide)
        del wide
        found = int(xp.sum(xp.astype(directed, xp.int64)))
        norms = NormHistogram.of(to_host(lengths))
        return self.merge(state, ProfileState(count, mean, comoment, found, unit_sum, norms))

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
        state.unit_sum = state.unit_sum + other.unit_sum
        state.directed += other.directed
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
        mean, unit_sum = to_host(state.mean), to_host(state.unit_sum)
        gram = to_host(state.comoment)
        notes = []
        anisotropy = math.nan
        if state.directed < 2:
            notes.append(
                f"{state.directed} rows have a direction, so there is no cosine between rows"
            )
        else:
            pairs = state.directed * (state.directed - 1)
            mean_cosine = (float(unit_sum @ unit_sum) - state.directed) / pairs
            anisotropy = min(max(mean_cosine, -1.0), 1.0)
        spectrum = _spectrum(state.rows, mean, gram)
        if math.isnan(spectrum.participation_ratio):
            notes.append("all rows are the same, so there is no variance to be shared out")
        return Profile(
            n_rows=state.rows,
            n_without_direction=state.rows - state.directed,
            anisotropy=anisotropy,
            mean_length=float(np.linalg.norm(mean)),
            spectrum=spectrum,
            norms=state.norms.statistics(),
            notes=tuple(notes),
        )


def spectrum_of(sums: SpaceSums) -> Spectrum:
    """Return the spectrum of a space whose sums another pass has taken."""
    return _spectrum(sums.n_rows, sums.mean, sums.gram)


def _spectrum(rows: int, mean: NDArray[np.float64], gram: NDArray[np.float64]) -> Spectrum:
    """Return the spectrum from the Gram matrix of centred rows."""
    trace = float(np.trace(gram))
    if trace <= rows * _ROUNDING**2 * float(mean @ mean):
        return Spectrum(np.zeros(len(mean)), math.nan, math.nan)
    squares = np.maximum(linalg.eigvalsh(gram, check_finite=False)[::-1], 0.0)
    shares = squares[squares > 0] / squares.sum()
    return Spectrum(
        squares / (rows - 1),
        trace**2 / float(np.vdot(gram, gram)),
        math.exp(-float(np.sum(shares * np.log(shares)))),
    )


def plan_profile(
    hidden: int, stored_bytes: int, n_rows: int, block_rows: int = BLOCK_ROWS
) -> MemoryPlan:
    """Say what profiling a space holds at its peak.

    Parameters
    ----------
    hidden
        Width of the space.
    stored_bytes
        Bytes of a value as it is read.
    n_rows, block_rows
        Rows selected, and rows read at a time.
    """
    rows = min(block_rows, n_rows)
    return MemoryPlan(
        {
            "block": rows * (hidden * (stored_bytes + 8) + 64),
            "sums": 8 * hidden * (2 * hidden + 16),
            "norms": min(NORM_BYTES, 6 * 16 * n_rows),
            "rows": 8 * n_rows,
            "objects": _OBJECTS,
        }
    )


def profile(
    space: SpaceLike,
    rows: NDArray[np.int64] | None = None,
    *,
    block_rows: int = BLOCK_ROWS,
    memory: int | str = DEFAULT_ALLOWED_BYTES,
    name: str = "the space",
    on_progress: Callable[[int], None] | None = None,
) -> Profile:
    """Profile a space, reading each row once.

    Parameters
    ----------
    space
        (row, hidden).
    rows
        Ascending indices of the rows to take; by default all.
    block_rows
        Rows read at a time.
    memory
        Bytes allowed, or an amount such as `4GiB`.
    name
        What to call the space in messages.
    on_progress
        Called after each block with the number of rows just absorbed.

    Raises
    ------
    InvalidInput
        There are no rows, indices do not ascend within the space, or a row holds NaN or infinity.
    MemoryRefused
        The pass needs more memory than is allowed; raised before anything is read.
    """
    index = np.arange(space.shape[0]) if rows is None else np.asarray(rows)
    if index.ndim != 1 or (
        len(index) and (index[0] < 0 or index[-1] >= space.shape[0] or (np.diff(index) < 1).any())
    ):
        raise InvalidInput(
            f"rows of {name} are ascending indices from 0 to {space.shape[0] - 1}; sort them and "
            "name each once"
        )
    cuts = _cuts(len(index), block_rows)
    _require(space.shape[1], item_bytes(space.dtype), len(index), block_rows, memory, name)
    blocks = read_blocks([space], [index], cuts)
    return _run(blocks, lambda at: f"row {int(index[at])} of {name}", on_progress)


def profile_array(
    rows: Array,
    *,
    block_rows: int = BLOCK_ROWS,
    memory: int | str = DEFAULT_ALLOWED_BYTES,
    name: str = "the array",
) -> Profile:
    """Profile an array of rows, (row, hidden), of any library and real floating dtype.

    Other parameters and errors as `profile`; the memory is beside the array itself.
    """
    if len(rows.shape) != 2:
        raise InvalidInput(f"{name} is of shape {tuple(rows.shape)}; give (row, hidden)")
    n_rows, hidden = rows.shape
    cuts = _cuts(n_rows, block_rows)
    _require(hidden, item_bytes(rows.dtype), n_rows, block_rows, memory, name)
    blocks = (Block(start, stop, (rows[start:stop, :],)) for start, stop in cuts)
    return _run(blocks, lambda at: f"row {at} of {name}", None)


def _cuts(n_rows: int, block_rows: int) -> Iterator[tuple[int, int]]:
    """Cut rows into blocks."""
    if not is_a(block_rows, int, np.integer) or block_rows < 1:
        raise InvalidInput(f"block_rows is {block_rows!r}; give a whole number from 1")
    return ((at, min(at + block_rows, n_rows)) for at in range(0, n_rows, block_rows))


def _require(
    hidden: int, stored: int, n_rows: int, block_rows: int, memory: int | str, name: str
) -> None:
    """Refuse a pass that needs more than is allowed."""
    plan_profile(hidden, stored, n_rows, block_rows).within(
        parse_bytes(memory),
        f"profiling {n_rows} rows of {name}",
        "allow more memory, or give a lower block_rows",
    )


def _run(
    blocks: Iterable[Block],
    describe: Callable[[int], str],
    on_progress: Callable[[int], None] | None,
) -> Profile:
    """Run the pass."""

    def report(block: Block) -> None:
        """Tell how many rows a block held."""
        if on_progress is not None:
            on_progress(block.stop - block.start)

    found: list[Any] = run_pass(blocks, [ProfileSums(0, describe)], report)
    result: Profile = found[0]
    return result
