"""The profile of one space: how its rows are spread, in one pass over them.

Anisotropy is the mean cosine over all pairs of rows, exact from the sum of the unit rows
(Ethayarajh 2019 estimates it from a sample); the participation ratio and the spectrum come from
the covariance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.profiles.row_lengths import (
    NORM_BYTES,
    NormHistogram,
    NormStatistics,
)
from layerlake.analyses.profiles.spectrum import Spectrum, spectrum_of_gram
from layerlake.analyses.statistics.group_jackknife import GROUPS, even_groups
from layerlake.analyses.statistics.jackknife import jackknife, jackknife_positive
from layerlake.engine.memory import DEFAULT_ALLOWED_BYTES, MemoryPlan, parse_bytes
from layerlake.engine.passes.arrays import (
    Array,
    from_host,
    namespace,
    to_host,
)
from layerlake.engine.passes.blocks import Block, SpaceLike
from layerlake.engine.passes.devices import BLOCKS_HELD, spaces_on, working_on
from layerlake.engine.passes.resources import BLOCK_ROWS, Resources
from layerlake.engine.passes.selected_rows import ArraySpace, SelectedRows, value_bytes
from layerlake.engine.passes.shared_pass import SharedPass, as_read
from layerlake.engine.settings import check_confidence
from layerlake.engine.workers.schedulers import cut_parts, plan_workers
from layerlake.store.errors import InvalidInput, is_a

_OBJECTS: Final = 2**17
"""Bytes for what is not an array."""
_FEWEST: Final = 64
"""Rows read at a time at least: fewer would make the products slow, and save little."""


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


def profile_memory(
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
            "sums": _sums_bytes(hidden),
            "norms": min(NORM_BYTES, 6 * 16 * n_rows),
            "rows": 16 * n_rows,
            "objects": _OBJECTS,
        }
    )


def _sums_bytes(hidden: int) -> int:
    """Return the bytes of the sums over the rows of a space."""
    return 8 * hidden * (2 * hidden + 4 * GROUPS)


def profile_space(
    space: SpaceLike,
    rows: NDArray[np.int64] | None = None,
    clusters: NDArray[Any] | None = None,
    *,
    confidence: float = 0.95,
    block_rows: int | None = None,
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
    clusters
        (row,): what each row taken came from, such as its sentence; equal ids lie side by side.
        Without them there is no interval.
    confidence
        Nominal coverage of the intervals of the anisotropy and the mean length of a row: the
        jackknife over some dozens of groups of clusters (see `statistics.group_jackknife`), on atanh
        and on the logarithm.
    block_rows
        Rows read at a time; by default as many as the memory is enough for, up to 2048.
    memory
        Bytes allowed, or an amount such as `4GiB`.
    name
        What to call the space in messages.
    on_progress
        Called after each block with the number of rows just absorbed.

    Raises
    ------
    InvalidInput
        There are no rows, indices do not ascend within the space, clusters do not fit the rows,
        or a row holds NaN or infinity.
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
    check_confidence(confidence)
    groups = groups_of(clusters, len(index))
    ids = np.arange(len(index))
    selected = SelectedRows((space,), (index,), (name,), ids, np.append(ids, len(index)))
    (found,) = profile_selected(
        selected,
        groups,
        Resources(parse_bytes(memory)),
        confidence=confidence,
        block_rows=block_rows,
        on_progress=on_progress,
    )
    return found


def profile_selected(
    selected: SelectedRows,
    groups: NDArray[np.int64] | None,
    resources: Resources,
    *,
    confidence: float = 0.95,
    block_rows: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Profile]:
    """Profile several spaces in one pass over the same rows, here or on workers.

    Parameters
    ----------
    selected
        The spaces and their rows.
    groups
        (row,): the group that each row is left out with, from 0 without gaps; None for no interval.
    resources
        Where the pass runs.
    confidence
        Nominal coverage of the intervals.
    block_rows
        Rows read at a time; by default as many as the memory is enough for, up to 2048.
    on_progress
        Called with the rows just gone through, of each space.

    Raises
    ------
    InvalidInput
        A row holds NaN or infinity, or there are no rows.
    MemoryRefused
        The pass needs more memory than is allowed; raised before anything is read.
    WorkersFailed
        Workers are asked for that do not answer.
    """
    step, plan = block_of(selected, resources, block_rows)
    n_rows, count = selected.n_rows, len(selected.spaces)
    cuts = [(at, min(at + step, n_rows)) for at in range(0, n_rows, step)]
    if not cuts:
        raise InvalidInput("a profile needs at least one row, and there are none")
    sums = [ProfileSums(s, selected.row_names, groups, confidence) for s in range(count)]
    placed = replace(selected, spaces=spaces_on(resources.device, selected.spaces))
    shared: SharedPass[Block] = SharedPass(placed, cuts, resources, needed=plan.needed)

    def report(rows: int) -> None:
        """Report the rows of every space."""
        if on_progress is not None:
            on_progress(rows * count)

    here = resources.device_bytes if resources.scheduler is None else None
    with working_on(resources.device, here):
        return shared.run(sums, as_read, on_progress=report)


def profile_array(
    rows: Array,
    clusters: NDArray[Any] | None = None,
    *,
    confidence: float = 0.95,
    block_rows: int | None = None,
    memory: int | str = DEFAULT_ALLOWED_BYTES,
    name: str = "the array",
) -> Profile:
    """Profile an array of rows, (row, hidden), of any library and real floating dtype.

    Other parameters and errors as `profile_space`; the memory is beside the array itself.
    """
    if len(rows.shape) != 2:
        raise InvalidInput(f"{name} is of shape {tuple(rows.shape)}; give (row, hidden)")
    return profile_space(
        ArraySpace(rows),
        clusters=clusters,
        confidence=confidence,
        block_rows=block_rows,
        memory=memory,
        name=name,
    )


def groups_of(clusters: NDArray[Any] | None, n_rows: int) -> NDArray[np.int64] | None:
    """Deal the clusters of rows into groups; None where there are none, or only one."""
    if clusters is None:
        return None
    ids = np.asarray(clusters)
    if ids.shape != (n_rows,):
        raise InvalidInput(f"clusters are of shape {ids.shape}; give one for each of {n_rows} rows")
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if n_rows else ids[:0]
    if len(np.unique(ids[starts])) != len(starts):
        raise InvalidInput("rows of one cluster lie apart; sort rows by cluster")
    lengths = np.diff(np.append(starts, n_rows))
    if len(lengths) < 2:
        return None
    return np.repeat(even_groups(lengths), lengths)


def block_of(
    selected: SelectedRows, resources: Resources, block_rows: int | None = None
) -> tuple[int, MemoryPlan]:
    """Return the rows to read at a time, and what a pass over the spaces holds then.

    Parameters
    ----------
    selected, resources
        As `profile_selected`.
    block_rows
        As asked for, None for as many as fit.

    Raises
    ------
    InvalidInput
        The rows asked for are no whole number above 0.
    MemoryRefused
        The pass needs more than is allowed.
    """
    what = f"profiling {selected.n_rows} rows of {', '.join(selected.names)}"
    if block_rows is not None:
        if not is_a(block_rows, int, np.integer) or block_rows < 1:
            raise InvalidInput(f"block_rows is {block_rows!r}; give a whole number from 1")
        plan = _pass_memory(selected, resources, int(block_rows))
        plan.within(resources.allowed, what, "allow more memory, or give a lower block_rows")
        return int(block_rows), plan
    step = BLOCK_ROWS
    while step > _FEWEST and _pass_memory(selected, resources, step).needed > resources.allowed:
        step //= 2
    plan = _pass_memory(selected, resources, step)
    plan.within(resources.allowed, what, "allow more memory, or take fewer rows")
    return step, plan


def _pass_memory(selected: SelectedRows, resources: Resources, block_rows: int) -> MemoryPlan:
    """Say what a pass over several spaces holds, on this machine or on each worker of a cluster."""
    n_rows = selected.n_rows
    parts: dict[str, int] = {}
    state = 0
    for space in selected.spaces:
        hidden, stored = space.shape[1], value_bytes(space)
        for name, held in profile_memory(hidden, stored, n_rows, block_rows).parts.items():
            parts[name] = parts.get(name, 0) + held
        if resources.device.kind != "cpu":
            ahead = (BLOCKS_HELD - 1) * min(block_rows, n_rows) * hidden * stored
            parts["blocks fetched ahead"] = parts.get("blocks fetched ahead", 0) + ahead
        state += _sums_bytes(hidden) + min(NORM_BYTES, 6 * 16 * n_rows)
    plan = MemoryPlan(parts)
    if resources.scheduler is None:
        return plan
    n_parts = len(cut_parts([(at, at + 1) for at in range(-(-n_rows // block_rows))]))
    return plan_workers(
        plan.needed,
        state,
        scheduler=resources.scheduler,
        workers=resources.workers,
        parts=max(n_parts, 1),
    )
