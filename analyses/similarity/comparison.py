"""The passes of one comparison: moments, a second try where digits were lost, then the clusters."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.inference import (
    MOST_ROUNDING,
    RsaValue,
    cancellation,
    spread,
    value_of,
)
from layerlake.analyses.similarity.kernels import Frame, Kernel, frame_of
from layerlake.analyses.similarity.moment_state import MomentState, Pair
from layerlake.analyses.similarity.moments import (
    GroupMoments,
    PairSums,
    drift,
    mean_feature,
    pair_sums,
)
from layerlake.analyses.similarity.planning import SAMPLE_ROWS
from layerlake.analyses.similarity.preparation import Preparation, Prepared
from layerlake.analyses.similarity.touching import ClusterTouch, Touching, stacked
from layerlake.engine.arrays import namespace
from layerlake.engine.memory import require
from layerlake.engine.passes import SpaceLike, read_blocks, run_pass
from layerlake.store.errors import InvalidInput

FEWEST_ROWS: Final = 4
"""Rows below which pairs say nothing: three rows have three pairs."""
ATTEMPTS: Final = 4
"""First passes at most: from a sample's mean, from the mean, in float64, and one to spare."""
MOST_CANCELLATION: Final = 4.0
"""How often larger than the spread of the kernel the squares of float32 products may be: beyond
it their rounding shows in r, and the pass is run again in float64."""
_ROUNDING: Final = 2.0**-46
"""64 roundings of a float64."""


@dataclass(frozen=True, slots=True)
class Group:
    """What one call compares, checked."""

    spaces: tuple[SpaceLike, ...]
    rows: tuple[NDArray[np.int64], ...]
    names: tuple[str, ...]
    pairs: tuple[Pair, ...]  # of spaces, to compare
    clusters: NDArray[np.int64]  # (row,): 0, 1, 2, ... in order
    bounds: NDArray[np.int64]  # (cluster + 1,)
    cuts: list[tuple[int, int]]
    kernel: Kernel
    cache_bytes: int | None  # most bytes kept between passes; None keeps every block
    float64_bytes: int  # what the comparison needs if it has to go on in float64
    allowed_bytes: int
    on_dropped: Callable[[NDArray[np.int64]], None] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Rows of each cluster."""
        lengths: NDArray[np.int64] = np.diff(self.bounds)
        return lengths

    def describe(self, space: int, position: int) -> str:
        """Name a row of a space."""
        return f"row {self.rows[space][position]} of {self.names[space]}"


def require_rows(n_rows: int, n_dropped: int) -> None:
    """Refuse fewer rows than a correlation over pairs needs."""
    if n_rows < FEWEST_ROWS:
        dropped = f" after {n_dropped} without a direction were dropped" if n_dropped else ""
        raise InvalidInput(
            f"{n_rows} rows are left{dropped}; a comparison needs at least {FEWEST_ROWS}"
        )


class Blocks:
    """Prepared blocks of a group, some of them kept between passes."""

    def __init__(self, group: Group) -> None:
        """Start with nothing kept."""
        self._group = group
        self._kept: dict[tuple[int, int], Prepared] = {}
        self._kept_bytes = 0

    def drop(self) -> None:
        """Give up what is kept: the frames have changed."""
        self._kept.clear()
        self._kept_bytes = 0

    def prepared(self, preparation: Preparation, *, keep: bool) -> Iterator[Prepared]:
        """Yield every block, from memory where it was kept."""
        for cut in self._group.cuts:
            block = self._kept.get(cut) or self._prepare(preparation, cut)
            yield block
            if keep and cut not in self._kept and self._has_room(block):
                self._kept[cut] = block
                self._kept_bytes += block.n_bytes
            del block

    def _has_room(self, block: Prepared) -> bool:
        """Say whether the block may be kept."""
        most = self._group.cache_bytes
        return most is None or self._kept_bytes + block.n_bytes <= most

    def _prepare(self, preparation: Preparation, cut: tuple[int, int]) -> Prepared:
        """Read and prepare one block; the rows as read die here."""
        return preparation(next(read_blocks(self._group.spaces, self._group.rows, [cut])))


def _frames(group: Group) -> tuple[Frame, ...]:
    """Choose the frame of every space from rows spread evenly over the selection."""
    n_rows = len(group.clusters)
    sample = np.linspace(0, n_rows - 1, min(n_rows, SAMPLE_ROWS)).astype(np.int64)
    with np.errstate(invalid="ignore", over="ignore"):  # rows that the pass will name
        return tuple(
            frame_of(space.rows(index[sample]), group.kernel)
            for space, index in zip(group.spaces, group.rows, strict=True)
        )


def compare(
    group: Group,
    interval: str,
    confidence: float,
    precision: str,
    on_progress: Callable[[int], None] | None,
) -> dict[Pair, RsaValue]:
    """Run the passes and turn sums into values, one for each pair.

    Raises
    ------
    InvalidInput
        Fewer than 4 rows are left, or a row holds NaN or infinity.
    """

    def report(block: Prepared) -> None:
        """Tell how many rows a block held."""
        if on_progress is not None:
            on_progress(block.stop - block.start)

    blocks = Blocks(group)
    keep = interval != "none"
    state, pairs, preparation = _first_pass(group, blocks, precision, report, keep=keep)
    used = preparation.precision
    constant = _constant_spaces(group, state, pairs, used)
    touching: Touching = {}
    if interval != "none":
        # Nothing is left to find out of equal spaces, nor of those without a spread.
        skipped = [
            pair for pair, sums in pairs.items() if sums.same or not constant.isdisjoint(pair)
        ]
        if len(skipped) < len(pairs):
            touch = ClusterTouch(state, used, skip=skipped)
            del state
            prepared = blocks.prepared(preparation, keep=False)
            touching = run_pass(prepared, [touch], report)[0]
        elif on_progress is not None:
            on_progress(len(group.clusters))
    return {
        pair: value_of(
            sums,
            stacked(touching, pair),
            n_dropped=len(group.clusters) - int(sums.sizes.sum()),
            interval=interval,
            confidence=confidence,
            kernel=group.kernel.name,
            precision=used,
            constant=[group.names[s] for s in pair if s in constant],
        )
        for pair, sums in pairs.items()
    }


def _constant_spaces(
    group: Group, state: MomentState, pairs: Mapping[Pair, PairSums], precision: str
) -> set[int]:
    """Return the spaces whose kernel varies by no more than rounding."""
    found = set()
    for s, frame in enumerate(state.frames):
        sums, side = next((pairs[p], p.index(s)) for p in pairs if s in p)
        length = float(namespace(frame.origin).vecdot(frame.origin, frame.origin)) ** 0.5
        size = max(mean_feature(state, s)[1], 0.0) ** 0.5
        # What the rounding of the rows alone makes a kernel vary by.
        if group.kernel.distance:
            noise = _ROUNDING * size * (size + length) + (_ROUNDING * length) ** 2
        else:
            noise = _ROUNDING * (size + length) ** 2
        varies = spread(sums.total)[side] > noise**2 * sums.total[0]
        if not varies or (precision == "float64" and cancellation(sums)[side] > MOST_ROUNDING):
            found.add(s)
    return found


def _first_pass(
    group: Group,
    blocks: Blocks,
    precision: str,
    report: Callable[[Prepared], None],
    *,
    keep: bool,
) -> tuple[MomentState, dict[Pair, PairSums], Preparation]:
    """Sum over all pairs, in frames and a precision in which no digits are lost."""
    frames = _frames(group)
    on_block: Callable[[Prepared], None] | None = report
    attempts_left = ATTEMPTS
    while True:
        preparation = Preparation(
            frames,
            group.pairs,
            group.clusters,
            group.lengths,
            precision,
            group.describe,
            group.on_dropped,
        )
        accumulator = GroupMoments(frames, group.lengths, group.pairs)
        prepared = blocks.prepared(preparation, keep=keep)
        state: MomentState = run_pass(prepared, [accumulator], on_block)[0]
        n_rows = int(state.sizes.sum())
        require_rows(n_rows, len(group.clusters) - n_rows)
        pairs = pair_sums(state)
        steps = drift(state)
        rough = precision == "float32" and any(
            max(cancellation(sums)) > MOST_CANCELLATION for sums in pairs.values()
        )
        attempts_left -= 1
        if not attempts_left or not (rough or any(step is not None for step in steps)):
            return state, pairs, preparation
        # Digits were lost: measure from the mean itself; where that is done, go on in float64.
        if any(step is not None for step in steps):
            frames = tuple(
                frame if step is None else frame.moved(step)
                for frame, step in zip(frames, steps, strict=True)
            )
        else:
            precision = "float64"
            require(
                group.float64_bytes,
                group.allowed_bytes,
                "the comparison has to go on in float64, since float32 loses digits on these "
                "rows, and",
                "allow more memory, or compare fewer variants at a time (rsa_group takes a lower "
                "block_rows)",
            )
        blocks.drop()
        del state, accumulator, prepared
        on_block = None  # rows that are read once more are no progress
