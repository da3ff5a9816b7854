"""The running sums of an RSA pass as a value: settled, and seen from other frames."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.kernels import Frame
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace

Pair: TypeAlias = tuple[int, int]
"""Two spaces of a group, the first one first; (s, s) is a space with itself."""


def star(n_spaces: int) -> list[Pair]:
    """List the pairs of the first space, the reference, with each other one."""
    return [(0, v) for v in range(1, n_spaces)]


def with_own(n_spaces: int, pairs: Sequence[Pair]) -> list[Pair]:
    """List the pairs that moments are summed for: each space with itself, then those asked for."""
    return [(s, s) for s in range(n_spaces)] + sorted(pairs)


Move: TypeAlias = tuple[float, Array, float]
"""Ratio, step (hidden,) and offset of features that are seen from another frame."""


@dataclass(slots=True)
class MomentState:
    """Running sums over the rows absorbed so far."""

    frames: tuple[Frame, ...]
    moments: dict[Pair, Array]
    """(hidden + 2, hidden + 2) float64: sums of f g' with f = [u, a, 1]."""
    loud: dict[Pair, Array]
    """Float64 sums of u v' over the loud coordinates, which replace those in the moments."""
    diagonal: dict[Pair, Array]
    """The same for the diagonal of u v'; empty where the spaces differ in width."""
    own: dict[Pair, float]
    """Sums of own_s own_t."""
    own_sums: NDArray[np.float64]
    """(space,): sums of own_s."""
    sizes: NDArray[np.int64]
    """(cluster,): rows absorbed."""
    within_sums: NDArray[np.float64]
    """(space, cluster): sums of k over ordered pairs of two rows of the cluster."""
    within: dict[Pair, NDArray[np.float64]]
    """(cluster,): sums of k l over the same pairs."""
    same: dict[Pair, bool]
    """All features so far of two different spaces are equal bit for bit."""
    seen: int = 0
    """Rows absorbed, with those that were dropped."""
    open: "dict[int, MomentState]" = field(default_factory=dict)
    """Clusters longer than a block, until all their rows have come."""

    @property
    def n_rows(self) -> int:
        """Rows absorbed, without those that were dropped and those of open clusters."""
        return int(self.moments[0, 0][-1, -1])


def _moved_matrix(matrix: Array, left: Move, right: Move) -> Array:
    """Return S C T' for S and T: u -> ratio u + step, a -> ratio^2 a - ratio step.u + offset."""
    xp = namespace(matrix)
    out = xp.asarray(matrix, copy=True)
    ratio, step, offset = left
    out[-2, :] = ratio**2 * out[-2, :] - ratio * xp.matmul(step, out[:-2, :]) + offset * out[-1, :]
    if ratio != 1:
        out[:-2, :] *= ratio
    out[:-2, :] += step[:, None] * out[-1, :][None, :]
    ratio, step, offset = right
    out[:, -2] = ratio**2 * out[:, -2] - ratio * xp.matmul(out[:, :-2], step) + offset * out[:, -1]
    if ratio != 1:
        out[:, :-2] *= ratio
    out[:, :-2] += out[:, -1][:, None] * step[None, :]
    return out


def _entries(matrix: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    """Return the entries of a matrix where some rows and some columns cross."""
    xp = namespace(matrix)
    chosen = xp.take(matrix, from_host(rows, matrix), axis=0)
    return xp.take(chosen, from_host(columns, matrix), axis=1)


def settle(state: MomentState) -> None:
    """Put the entries that were summed in float64 in their places in the moments."""
    for (s, t), c in state.moments.items():
        rows, columns = state.frames[s].loud, state.frames[t].loud
        loud, diagonal = state.loud[s, t], state.diagonal[s, t]
        if is_numpy(c):
            c[np.ix_(rows, columns)] = loud
            place = np.arange(len(diagonal))
            c[place, place] = diagonal
            continue
        # The standard has no assignment at an index array: add the differences, spread by
        # products with rows of the identity.
        xp = namespace(c)
        unit = xp.eye(c.shape[0], dtype=c.dtype, device=c.device)
        other = xp.eye(c.shape[1], dtype=c.dtype, device=c.device)
        left = xp.take(unit, from_host(rows, c), axis=0)
        right = xp.take(other, from_host(columns, c), axis=0)
        change = loud - _entries(c, rows, columns)
        c += xp.matmul(xp.matrix_transpose(left), xp.matmul(change, right))
        if diagonal.shape[0]:
            u = c[:-2, :-2]
            change = diagonal - xp.linalg.diagonal(u)
            c[:-2, :-2] += unit[:-2, :-2] * change[None, :]


def moved(state: MomentState, frames: tuple[Frame, ...]) -> MomentState:
    """Return the state as if its features had been taken in other frames of the same kernel."""
    ratios, shifts, moves = [], [], []
    for old, new in zip(state.frames, frames, strict=True):
        ratio = new.scale / old.scale
        step = ratio * old.origin - new.origin
        shift = ratio**2 * old.constant - new.constant  # k moves to ratio^2 k + shift
        squared = float(namespace(step).sum(step * step))
        ratios.append(ratio**2)
        shifts.append(shift)
        moves.append((ratio, step, (shift - squared) / 2))

    def products(s: int, t: int, kl: Any, k: Any, l: Any, count: Any) -> Any:
        """Move sums of k l, given those of k and of l and the number of pairs."""
        return (
            ratios[s] * ratios[t] * kl
            + shifts[s] * ratios[t] * l
            + shifts[t] * ratios[s] * k
            + shifts[s] * shifts[t] * count
        )

    rows = float(state.moments[0, 0][-1, -1])
    ordered = state.sizes * (state.sizes - 1)
    scales, offsets = np.array(ratios), np.array(shifts)
    moments: dict[Pair, Array] = {}
    loud: dict[Pair, Array] = {}
    diagonal: dict[Pair, Array] = {}
    settle(state)
    for (s, t), matrix in state.moments.items():
        xp = namespace(matrix)
        turned = _moved_matrix(matrix, moves[s], moves[t])
        moments[s, t] = turned
        loud[s, t] = _entries(turned, frames[s].loud, frames[t].loud)
        diagonal[s, t] = xp.zeros_like(state.diagonal[s, t])
        if diagonal[s, t].shape[0]:
            diagonal[s, t] += xp.linalg.diagonal(turned[:-2, :-2])
    return MomentState(
        frames,
        moments,
        loud,
        diagonal,
        {
            (s, t): products(s, t, kl, state.own_sums[s], state.own_sums[t], rows)
            for (s, t), kl in state.own.items()
        },
        scales * state.own_sums + offsets * rows,
        state.sizes,
        scales[:, None] * state.within_sums + offsets[:, None] * ordered,
        {
            (s, t): products(s, t, kl, state.within_sums[s], state.within_sums[t], ordered)
            for (s, t), kl in state.within.items()
        },
        state.same,
        state.seen,
        {cluster: moved(part, frames) for cluster, part in state.open.items()},
    )
