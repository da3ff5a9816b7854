"""The pass that sums moments, run again where digits were lost; blocks kept for the next pass."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from layerlake.analyses.similarity.compared_rows import without_direction
from layerlake.analyses.similarity.features.dissimilarity import line_of
from layerlake.analyses.similarity.features.group import Group
from layerlake.analyses.similarity.features.kernels import Frame, frame_of
from layerlake.analyses.similarity.features.moment_state import MomentState, Pair
from layerlake.analyses.similarity.features.moments import (
    GroupMoments,
    PairSums,
    drift,
    mean_feature,
    pair_sums,
)
from layerlake.analyses.similarity.features.planning import SAMPLE_ROWS
from layerlake.analyses.similarity.features.preparation import Preparation, Prepared
from layerlake.analyses.similarity.features.rsa_value import MOST_ROUNDING, cancellation, spread
from layerlake.engine.memory import require
from layerlake.engine.passes.arrays import namespace
from layerlake.engine.passes.blocks import Accumulator
from layerlake.engine.passes.shared_pass import SharedPass
from layerlake.engine.workers.schedulers import Cut

T = TypeVar("T")

ATTEMPTS: Final = 4
"""First passes at most: from a sample's mean, from the mean, in float64, and one to spare."""
MOST_CANCELLATION: Final = 4.0
"""How often larger than the spread of the kernel the squares of float32 products may be: beyond
it their rounding shows in r, and the pass is run again in float64."""
_ROUNDING: Final = 2.0**-46
"""64 roundings of a float64."""


@dataclass(slots=True)
class FirstPass:
    """The moments of a group, and what further passes over it need."""

    group: Group
    passes: SharedPass[Prepared]
    preparation: Preparation
    """In the frames and the precision in which no digits are lost."""
    state: MomentState
    sums: dict[Pair, PairSums]
    """By pair of spaces."""

    def again(
        self,
        accumulators: Sequence[Accumulator[Prepared, Any, Any]],
        report: Callable[[int], None],
        *,
        cuts: Sequence[Cut] | None = None,
    ) -> list[Any]:
        """Feed every block to accumulators once more, or blocks that are cut otherwise."""
        return self.passes.run(
            accumulators,
            self.preparation,
            cuts=cuts,
            on_dropped=self.group.on_dropped,
            on_progress=report,
        )

    def apart(
        self,
        accumulator: Accumulator[Prepared, Any, Any],
        finish: Callable[[Any], T],
        report: Callable[[int], None],
        parts: Sequence[Sequence[Cut]],
    ) -> Iterator[T]:
        """Sum the blocks of each part alone, here or on workers, and yield what `finish` makes."""
        return self.passes.each_part(parts, accumulator, finish, self.preparation, report)


def _silent(rows: int) -> None:
    """Tell nobody."""


def _frames(group: Group) -> tuple[Frame, ...]:
    """Choose the frame of every space from rows spread evenly over the selection."""
    n_rows = len(group.selected.clusters)
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
    passes: SharedPass[Prepared] = SharedPass(
        group.selected,
        group.cuts,
        group.resources,
        needed=group.worker_bytes,
        cache_bytes=group.cache_bytes,
    )
    frames = _frames(group)
    told = report
    attempts_left = ATTEMPTS
    while True:
        preparation = Preparation(
            frames,
            group.pairs,
            group.selected.clusters,
            group.lengths,
            precision,
            group.selected.row_names,
        )
        accumulator = GroupMoments(frames, group.lengths if by_cluster else None, group.pairs)
        state: MomentState = passes.run(
            [accumulator],
            preparation,
            keep=keep,
            on_dropped=group.on_dropped,
            on_progress=told,
        )[0]
        needs = group.selected.needs
        if state.n_rows < needs.rows:
            whose = without_direction(
                group.spaces, group.rows, group.names, centred=group.kernel.centred
            )
            needs.require_rows(state.n_rows, group.selected.n_rows - state.n_rows, whose)
        first = FirstPass(group, passes, preparation, state, pair_sums(state))
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
                group.resources.allowed,
                "the comparison has to go on in float64, since float32 loses digits on these "
                "rows, and",
                "allow more memory, or compare fewer variants at a time",
            )
        passes.drop()
        del first, state, accumulator
        told = _silent  # rows that are read once more are no progress


def constant_spaces(first: FirstPass, score: str = "pearson") -> set[int]:
    """Return the spaces whose kernel varies by no more than rounding.

    For the score `cosine`, those whose dissimilarities (the sums of the pass, which then are of
    them) are zero but for rounding.
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
        if score == "cosine":
            noise *= abs(line_of(frame)[1])  # dissimilarities are in the units of the rows
        varies = spread(sums.total)[side] > noise**2 * sums.total[0]
        exact = first.preparation.precision == "float64"
        if score == "cosine":
            if not float(sums.total[3 + side]) > noise**2 * sums.total[0]:
                found.add(s)
        elif not varies or (exact and cancellation(sums)[side] > MOST_ROUNDING):
            found.add(s)
    return found
