"""Sums over the pairs that touch each cluster: what leaving the cluster out takes away."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from layerlake.analyses.similarity.features.moment_state import MomentState, Pair
from layerlake.analyses.similarity.features.preparation import Prepared
from layerlake.engine.passes.arrays import Array, is_numpy, namespace, to_host

LeavingSums: TypeAlias = dict[Pair | int, NDArray[np.float64]]
"""(cluster,) sums over ordered pairs (i, j) of two rows with i in the cluster: of k for a space,
of k l for a pair of spaces."""


class ClusterDeletions:
    """Sums over the pairs that touch each cluster (an `Accumulator` for a second pass).

    Row i's sum over j of k_ij l_ij is f_i' (J C J) g_i, with C from the first pass.
    """

    def __init__(self, state: MomentState, precision: str, skip: Sequence[Pair] = ()) -> None:
        """Take the moments of a whole first pass, and pairs that need no sums.

        The u'v parts of the moments are rounded to the working precision and given up by the state.
        """
        self.n_spaces = len(state.frames)
        self.n_clusters = len(state.sizes)
        asked = {s for pair in state.same if pair not in skip for s in pair}
        self.pairs = [
            (s, t) for s, t in state.moments if (s in asked if s == t else (s, t) not in skip)
        ]
        self._weights: dict[Pair, _Weights] = {}
        sums = [state.moments[s, s][-1, :] + 0 for s in range(self.n_spaces)]
        self._corners = [to_host(ends[-2:]).tolist() for ends in sums]
        vectors = [[ends[:-2]] for ends in sums]
        for s, t in list(state.moments):
            moments = state.moments.pop((s, t))
            if (s, t) in self.pairs:
                first = len(vectors[s])
                vectors[s] += [moments[:-2, -2] + 0, moments[:-2, -1] + 0]
                second = first if s == t else len(vectors[t])
                if s != t:
                    vectors[t] += [moments[-2, :-2] + 0, moments[-1, :-2] + 0]
                self._weights[s, t] = _Weights.of(moments, s == t, precision, (first, second))
            del moments
        # Every vector that meets the rows of a space, (hidden, vector), for one product.
        self._vectors = []
        for parts in vectors:
            xp = namespace(parts[0])
            self._vectors.append(xp.astype(xp.stack(parts, axis=1), getattr(xp, precision)))

    def start(self) -> LeavingSums:
        """Return zeros: (cluster,) for k of each space and for k l of each pair."""
        keys = [*range(self.n_spaces), *self.pairs]
        return {key: np.zeros(self.n_clusters) for key in keys}

    def update(self, state: LeavingSums, block: Prepared) -> LeavingSums:
        """Absorb a block prepared in the frames of the first pass."""
        if not len(block.clusters):
            return state
        first, last = int(block.clusters[0]), int(block.clusters[-1])
        place = block.clusters - first

        def add(key: Pair | int, rows: Array) -> None:
            """Add a number per row to the clusters of the rows."""
            totals = np.bincount(place, weights=to_host(rows), minlength=last + 1 - first)
            state[key][first : last + 1] += totals

        xp = namespace(*block.u)
        dots = [
            xp.astype(xp.matmul(u, vectors), xp.float64)
            for u, vectors in zip(block.u, self._vectors, strict=True)
        ]
        for s, (sum_a, count) in enumerate(self._corners):
            add(s, dots[s][:, 0] + block.a[s] * count + sum_a - block.own[s])
        for (s, t), weights in self._weights.items():
            rows = weights.rows(block.u[s], block.a[s], dots[s], block.u[t], block.a[t], dots[t])
            add((s, t), rows - block.own[s] * block.own[t])
        return state

    def merge(
        self,
        state: LeavingSums,
        other: LeavingSums,
    ) -> LeavingSums:
        """Add the sums of other rows."""
        return {key: values + other[key] for key, values in state.items()}

    def finish(self, state: LeavingSums) -> LeavingSums:
        """Return the sums over ordered pairs (i, j) of two rows with i in the cluster."""
        return state


@dataclass(frozen=True, slots=True)
class _Weights:
    """J C J of a pair, ready for f_i' (J C J) g_i."""

    square: Array
    """C_uv; of a space with itself, twice its lower triangle and once its diagonal."""
    places: tuple[int, int]
    """Where the vectors that meet u and u b, v and v a begin among those of both spaces."""
    corner: NDArray[np.float64]  # (2, 2): meets [a, 1] on the left, [b, 1] on the right
    symmetric: bool

    @classmethod
    def of(
        cls, moments: Array, symmetric: bool, precision: str, places: tuple[int, int]
    ) -> "_Weights":
        """Take the moment matrix apart."""
        xp = namespace(moments)
        square = xp.astype(moments[:-2, :-2], getattr(xp, precision))
        if symmetric:
            square = xp.tril(square, k=-1) * 2 + xp.tril(xp.triu(square))
        corner = to_host(moments[-2:, -2:])[::-1, ::-1].copy()
        return cls(square, places, corner, symmetric)

    def rows(self, u: Array, a: Array, on_u: Array, v: Array, b: Array, on_v: Array) -> Array:
        """Return f_i' (J C J) g_i, (row,) float64; `on_u` and `on_v` are (row, vector)."""
        xp = namespace(u, v)
        square = xp.vecdot(self._times_square(u), v)
        (aa, a1), (b1, one) = self.corner.tolist()
        p, q = self.places
        return (
            xp.astype(square, xp.float64)
            + on_u[:, p]
            + on_u[:, p + 1] * b
            + on_v[:, q]
            + on_v[:, q + 1] * a
            + (aa * a * b + a1 * a + b1 * b + one)
        )

    def _times_square(self, u: Array) -> Array:
        """Return u @ square, by BLAS's triangular product where there is one."""
        if self.symmetric and is_numpy(u):
            multiply = blas.strmm if u.dtype == np.float32 else blas.dtrmm
            return multiply(1.0, self.square.T, u.T, lower=0).T
        return namespace(u).matmul(u, self.square)


def stacked(leaving: LeavingSums, pair: Pair) -> NDArray[np.float64] | None:
    """Return what touches each cluster for a pair of spaces, (5, cluster).

    The rows are k, l, kk, ll, kl; None where the pair was skipped.
    """
    if pair not in leaving:
        return None
    s, t = pair
    keys: tuple[Pair | int, ...] = (s, t, (s, s), (t, t), pair)
    return np.stack([leaving[key] for key in keys])
