"""The pass that sums moments, run again where digits were lost; blocks kept for the next pass."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from layerlake.analyses.similarity.group import Group, require_rows
from layerlake.analyses.similarity.inference import MOST_ROUNDING, cancellation, spread
from layerlake.analyses.similarity.kernels import Frame, frame_of
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
from layerlake.engine.arrays import namespace
from layerlake.engine.memory import require
from layerlake.engine.passes import read_blocks, run_pass

ATTEMPTS: Final = 4
"""First passes at most: from a sample's mean, from the mean, in float64, and one to spare."""
MOST_CANCELLATION: Final = 4.0
"""How often larger than the spread of the kernel the squares of float32 products may be: beyond
it their rounding shows in r, and the pass is run again in float64."""
_ROUNDING: Final = 2.0**-46
"""64 roundings of a float64."""


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
            block = self._kept.get(cut) or self.prepare(preparation, cut)
            yield block
            if keep and cut not in self._kept and self._has_room(block):
                self._kept[cut] = block
                self._kept_bytes += block.n_bytes
            del block

    def _has_room(self, block: Prepared) -> bool:
        """Say whether the block may be kept."""
        most = self._group.cache_bytes
        return most is None or self._kept_bytes + block.n_bytes <= most

    def prepare(self, preparation: Preparation, cut: tuple[int, int]) -> Prepared:
        """Read and prepare one block; the rows as read die here."""
        return preparation(next(read_blocks(self._group.spaces, self._group.rows, [cut])))


@dataclass(slots=True)
class FirstPass:
    """The moments of a group, and what further passes over it need."""

    group: Group
    blocks: Blocks
    preparation: Preparation
    """In the frames and the precision in which no digits are lost."""
    state: MomentState
    sums: dict[Pair, PairSums]
    """By pair of spaces."""

    @property
    def n_dropped(self) -> int:
        """Rows of the selection that were left out."""
        return len(self.group.clusters) - self.state.n_rows

    def again(self) -> Iterator[Prepared]:
        """Yield every block once more."""
        return self.blocks.prepared(self.preparation, keep=False)

    def recut(self, cuts: Iterable[tuple[int, int]]) -> Iterator[Prepared]:
        """Read and prepare blocks that are cut otherwise."""
        return (self.blocks.prepare(self.preparation, cut) for cut in cuts)


def _frames(group: Group) -> tuple[Frame, ...]:
    """Choose the frame of every space from rows spread evenly over the selection."""
    n_rows = len(group.clusters)
    sample = np.linspace(0, n_rows - 1, min(n_rows, SAMPLE_ROWS)).astype(np.int64)
    with np.errstate(invalid="ignore", over="ignore"):  # rows that the pass will name
        return tuple(
            frame_of(space.rows(index[sample]), group.kernel)
            for space, index in zip(group.spaces, group.rows, strict=True)
        )


def first_pass(
    group: Group,
    precision: str,
    report: Callable[[int], None],
    *,
    by_cluster: bool = True,
    keep: bool,
) -> FirstPass:
    """Sum over all pairs, in frames and a precision in which no digits are lost.

    Parameters
    ----------
    group
        What is compared.
    precision
        Of the products to begin with.
    report
        Told of the rows of each block once.
    by_cluster
        Also sum over the pairs within each cluster.
    keep
        Keep prepared blocks for further passes, as many as the group allows.

    Raises
    ------
    InvalidInput
        Fewer than 4 rows are left, or a row holds NaN or infinity.
    MemoryRefused
        The pass has to go on in float64, and that needs more memory than is allowed.
    """
    blocks = Blocks(group)
    frames = _frames(group)

    def told(block: Prepared) -> None:
        """Tell how many rows a block held."""
        report(block.stop - block.start)

    on_block: Callable[[Prepared], None] | None = told
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
        accumulator = GroupMoments(frames, group.lengths if by_cluster else None, group.pairs)
        prepared = blocks.prepared(preparation, keep=keep)
        state: MomentState = run_pass(prepared, [accumulator], on_block)[0]
        require_rows(state.n_rows, len(group.clusters) - state.n_rows)
        first = FirstPass(group, blocks, preparation, state, pair_sums(state))
        steps = drift(state)
        rough = precision == "float32" and any(
            max(cancellation(sums)) > MOST_CANCELLATION for sums in first.sums.values()
        )
        attempts_left -= 1
        if not attempts_left or not (rough or any(step is not None for step in steps)):
            return first
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
        del first, state, accumulator, prepared
        on_block = None  # rows that are read once more are no progress


def constant_spaces(first: FirstPass, score: str = "pearson") -> set[int]:
    """Return the spaces whose kernel varies by no more than rounding.

    For the score `cosine`, those whose dissimilarities (the sums given) are zero but for rounding.
    """
    group, state = first.group, first.state
    found = set()
    for s, frame in enumerate(state.frames):
        sums, side = next((first.sums[p], p.index(s)) for p in first.sums if s in p)
        length = float(namespace(frame.origin).vecdot(frame.origin, frame.origin)) ** 0.5
        size = max(mean_feature(state, s)[1], 0.0) ** 0.5
        # What the rounding of the rows alone makes a kernel vary by.
        if group.kernel.distance:
            noise = _ROUNDING * size * (size + length) + (_ROUNDING * length) ** 2
        else:
            noise = _ROUNDING * (size + length) ** 2
        varies = spread(sums.total)[side] > noise**2 * sums.total[0]
        exact = first.preparation.precision == "float64"
        if score == "cosine":
            if state.n_rows and not float(sums.total[3 + side]) > noise**2 * sums.total[0]:
                found.add(s)
        elif not varies or (exact and cancellation(sums)[side] > MOST_ROUNDING):
            found.add(s)
    return found
