"""Sums over all pairs of rows, from sums over rows: the accumulators of exact Pearson RSA.

With the feature f_i = [u_i, a_i, 1] of each row (see `kernels`) and J, which swaps the last two
entries, the kernel is k_ij = f_i' J f_j. So for the features f and g of two spaces and their moment
matrix C = sum_i f_i g_i', sum_ij k_ij l_ij = tr(J C J C'), and no rows x rows matrix is formed.
Only the u'v part of C goes through the products of the working precision, block by block into
float64; everything that holds an `a` is summed in float64 beside it. A float32 product adds up
hundreds of rows before float64 sees the result, which loses digits where the terms have one sign
and where few entries carry the whole norm of C: on its diagonal, and between the few coordinates
that carry most of the variance in trained models. Those entries are summed in float64 as well and
take the place of the float32 ones; what is left errs by about 1e-9 in r.

The same pass sums over the pairs within each cluster, so blocks must hold whole clusters, or parts
of one cluster only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.kernels import Frame
from layerlake.analyses.similarity.features.moment_state import (
    MomentState,
    Pair,
    moved,
    settle,
    star,
    with_own,
)
from layerlake.analyses.similarity.features.preparation import CACHED_ROWS, Prepared
from layerlake.analyses.similarity.features.within_clusters import absorb_within
from layerlake.engine.passes.arrays import Array, from_host, namespace, row_by_row, to_host

_SAME: Final = 2.0**-46
"""Rows that differ by less than this share of their length are the same but for rounding."""


def _squared_norm(matrix: Array) -> float:
    """Sum the squares of a matrix without a temporary of its size."""
    xp = namespace(matrix)
    total = 0.0
    for lo in range(0, matrix.shape[0], CACHED_ROWS):
        panel = matrix[lo : min(lo + CACHED_ROWS, matrix.shape[0]), :]
        total += float(xp.sum(xp.vecdot(panel, panel)))
    return total


def _off_diagonal(state: MomentState, s: int, t: int, square: float) -> float:
    """Sum k l over ordered pairs of two rows: tr(J C J C') less the rows with themselves.

    `square` is the squared norm of the u v' part of C.
    """
    xp = namespace(state.moments[s, t])
    c = state.moments[s, t]
    corner = to_host(c[-2:, -2:])
    edges = xp.vecdot(c[:-2, -2], c[:-2, -1]) + xp.vecdot(c[-2, :-2], c[-1, :-2])
    return float(
        square
        + 2 * float(edges)
        + 2 * (corner[0, 0] * corner[1, 1] + corner[0, 1] * corner[1, 0])
        - state.own[s, t]
    )


def _off_diagonal_sum(state: MomentState, s: int) -> float:
    """Sum k over ordered pairs of two rows."""
    c = state.moments[s, s]
    sums = c[-1, :-2]
    total = float(namespace(c).vecdot(sums, sums)) + 2 * float(c[-1, -1]) * float(c[-1, -2])
    return total - float(state.own_sums[s])


@dataclass(frozen=True, slots=True)
class PairSums:
    """What a comparison of two spaces needs.

    `total`, `within` and `own` hold, in order, the count of pairs and the sums of k, l, kk, ll, kl.
    """

    sizes: NDArray[np.int64]
    """(cluster,): rows of each cluster; 0 where all of them were dropped."""
    total: NDArray[np.float64]
    """(6,): sums over ordered pairs of two rows."""
    within: NDArray[np.float64]
    """(6, cluster): the same over pairs within each cluster."""
    own: NDArray[np.float64]
    """(6,): the same over each row with itself."""
    norms: tuple[float, float]
    """Squared norms of the u u' part of the moments of both spaces: what rounding is a share of."""
    same: bool
    """The features of both spaces are equal bit for bit."""


class GroupMoments:
    """Moments of any number of spaces, each with itself and some with others (an `Accumulator`)."""

    def __init__(
        self,
        frames: Sequence[Frame],
        lengths: NDArray[np.int64] | None,
        pairs: Sequence[Pair] | None = None,
    ) -> None:
        """Take the frames to start from, the rows of each cluster, (cluster,), and the pairs.

        Without lengths no sums are kept by cluster. Without pairs the first space is compared with
        each other one.
        """
        self.frames = tuple(frames)
        self.by_cluster = lengths is not None
        self.lengths = np.zeros(0, dtype=np.int64) if lengths is None else lengths
        self.pairs = with_own(len(frames), star(len(frames)) if pairs is None else pairs)

    def start(self) -> MomentState:
        """Return the sums of no rows."""
        return self._start(len(self.lengths))

    def _start(self, n_clusters: int) -> MomentState:
        """Return the sums of no rows over so many clusters."""
        n_spaces = len(self.frames)
        xp = namespace(self.frames[0].origin)
        sides = [frame.origin.shape[0] + 2 for frame in self.frames]
        device = self.frames[0].origin.device
        loud = [len(frame.loud) for frame in self.frames]

        def zeros(*shape: int) -> Array:
            """Return float64 zeros where the frames lie."""
            return xp.zeros(shape, dtype=xp.float64, device=device)

        return MomentState(
            self.frames,
            {(s, t): zeros(sides[s], sides[t]) for s, t in self.pairs},
            {(s, t): zeros(loud[s], loud[t]) for s, t in self.pairs},
            {(s, t): zeros(sides[s] - 2 if sides[s] == sides[t] else 0) for s, t in self.pairs},
            dict.fromkeys(self.pairs, 0.0),
            np.zeros(n_spaces),
            np.zeros(n_clusters, dtype=np.int64),
            np.zeros((n_spaces, n_clusters)),
            {pair: np.zeros(n_clusters) for pair in self.pairs},
            {(s, t): True for s, t in self.pairs if s != t},
        )

    def update(self, state: MomentState, block: Prepared) -> MomentState:
        """Absorb a block prepared in the frames of the state."""
        if block.part_of is None or not self.by_cluster:
            self._absorb(state, block)
            if self.by_cluster:
                absorb_within(state, block)
            return state
        part = state.open.pop(block.part_of, None) or self._start(0)
        self._absorb(part, block)
        self._place(state, block.part_of, part)
        return state

    def merge(self, state: MomentState, other: MomentState) -> MomentState:
        """Add the sums of other rows; whole clusters only, unless longer than a block."""
        if not all(a.same_as(b) for a, b in zip(other.frames, state.frames, strict=True)):
            other = moved(other, state.frames)
        self._add(state, other)
        for cluster, theirs in other.open.items():
            ours = state.open.pop(cluster, None)
            self._place(state, cluster, theirs if ours is None else self._add(ours, theirs))
        return state

    def finish(self, state: MomentState) -> MomentState:
        """Return the sums with every entry in its place.

        Raises
        ------
        ValueError
            A cluster longer than a block has not come whole.
        """
        if state.open:
            raise ValueError(f"rows of clusters {sorted(state.open)} are missing")
        settle(state)
        return state

    def _absorb(self, state: MomentState, block: Prepared) -> None:
        """Add the moments of a block."""
        xp = namespace(*block.u)
        state.seen += block.stop - block.start
        rows = len(block.clusters)
        sums = [float(xp.sum(a)) for a in block.a]
        for s, own in enumerate(block.own):
            state.own_sums[s] += float(xp.sum(own))
        for pair, same in state.same.items():
            state.same[pair] = same and _equal(block, *pair)
        loud = [self._loud(u, s) for s, u in enumerate(block.u)]
        for s, t in self.pairs:
            c, u, v = state.moments[s, t], block.u[s], block.u[t]
            # numpy turns u' u into a symmetric product of half the work.
            product = xp.matmul(xp.matrix_transpose(u), v)
            with row_by_row(v.shape[1]):
                c[:-2, :-2] += product
            state.loud[s, t] += xp.matmul(xp.matrix_transpose(loud[s]), loud[t])
            state.diagonal[s, t] += block.crossed[s, t]
            c[:-2, -2] += block.edges[s, t]
            c[:-2, -1] += block.sums[s]
            c[-2, :-2] += block.edges[t, s]
            c[-1, :-2] += block.sums[t]
            c[-2, -2] += xp.vecdot(block.a[s], block.a[t])
            c[-2, -1] += sums[s]
            c[-1, -2] += sums[t]
            c[-1, -1] += rows
            state.own[s, t] += float(xp.vecdot(block.own[s], block.own[t]))

    def _loud(self, u: Array, s: int) -> Array:
        """Return the loud coordinates of a block of space s in float64."""
        xp = namespace(u)
        index = from_host(self.frames[s].loud, u)
        return xp.astype(xp.take(u, index, axis=1), xp.float64)

    def _place(self, state: MomentState, cluster: int, part: MomentState) -> None:
        """Keep the sums of a part of a long cluster, or fold them in once it is whole."""
        if part.seen < self.lengths[cluster]:
            state.open[cluster] = part
            return
        settle(part)
        state.sizes[cluster] = part.n_rows
        for s in range(len(self.frames)):
            state.within_sums[s, cluster] = _off_diagonal_sum(part, s)
        for pair in self.pairs:
            square = _squared_norm(part.moments[pair][:-2, :-2])
            state.within[pair][cluster] = _off_diagonal(part, *pair, square)
        self._add(state, part)

    def _add(self, state: MomentState, other: MomentState) -> MomentState:
        """Add sums taken in the same frames."""
        for pair in self.pairs:
            state.moments[pair] += other.moments[pair]
            state.loud[pair] += other.loud[pair]
            state.diagonal[pair] += other.diagonal[pair]
            state.own[pair] += other.own[pair]
            if len(other.sizes):
                state.within[pair] += other.within[pair]
        if len(other.sizes):
            state.sizes += other.sizes
            state.within_sums += other.within_sums
        state.own_sums += other.own_sums
        state.same = {pair: same and other.same[pair] for pair, same in state.same.items()}
        state.seen += other.seen
        return state


def pair_sums(state: MomentState) -> dict[Pair, PairSums]:
    """Return the sums over pairs of rows for each pair of spaces, from finished moments."""
    n_spaces = len(state.frames)
    rows = state.n_rows
    ordered = (state.sizes * (state.sizes - 1)).astype(np.float64)
    sums = [_off_diagonal_sum(state, s) for s in range(n_spaces)]
    norms = {pair: _squared_norm(c[:-2, :-2]) for pair, c in state.moments.items()}
    products = {pair: _off_diagonal(state, *pair, norms[pair]) for pair in state.moments}
    return {
        (s, t): PairSums(
            state.sizes,
            six(rows * (rows - 1), sums, products, s, t),
            six(ordered, state.within_sums, state.within, s, t),
            six(rows, state.own_sums, state.own, s, t),
            (norms[s, s], norms[t, t]),
            same,
        )
        for (s, t), same in state.same.items()
    }


def mean_feature(state: MomentState, s: int) -> tuple[Array, float]:
    """Return mean u of a space, (hidden,) float64, and mean |u|^2."""
    c = state.moments[s, s]
    rows = max(float(c[-1, -1]), 1.0)
    return c[-1, :-2] / rows, (float(state.own_sums[s]) - 2 * float(c[-1, -2])) / rows


def drift(state: MomentState) -> list[Array | None]:
    """Return, per space, mean u where the origin was so far off that digits are lost.

    That is where |mean u|^2 exceeds half of mean |u|^2; a pass with the origin moved by mean u is
    then needed. None where the origin was good.
    """
    steps: list[Array | None] = []
    for s in range(len(state.frames)):
        mean, square = mean_feature(state, s)
        xp, origin = namespace(mean), state.frames[s].origin
        # Of rows that are the same, rounding is left beside the origin, and none would be better.
        rounding = _SAME**2 * float(xp.vecdot(origin, origin))
        off = float(xp.vecdot(mean, mean)) > square / 2 > rounding
        steps.append(mean if off else None)
    return steps


def six(count: Any, sums: Any, products: Any, s: int, t: int) -> NDArray[np.float64]:
    """Stack count, k, l, kk, ll, kl of two spaces."""
    rows = (count, sums[s], sums[t], products[s, s], products[t, t], products[s, t])
    return np.stack([np.asarray(row, dtype=np.float64) for row in rows])


def _equal(block: Prepared, s: int, t: int) -> bool:
    """Say whether two spaces have the same features, looking at one row first."""
    u, w = block.u[s], block.u[t]
    if u.shape != w.shape:
        return False
    xp = namespace(u, w)
    return (
        bool(xp.all(u[:1, :] == w[:1, :]))
        and bool(xp.all(block.a[s] == block.a[t]))
        and bool(xp.all(u == w))
    )
