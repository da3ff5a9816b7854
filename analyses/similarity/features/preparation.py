"""Blocks of rows turned into features, once, for every accumulator of a similarity pass."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.kernels import Frame, prepare
from layerlake.analyses.similarity.features.moment_state import Pair, with_own
from layerlake.engine.passes.arrays import (
    Array,
    is_numpy,
    item_bytes,
    namespace,
    row_by_row,
    take_rows,
    to_host,
)
from layerlake.engine.passes.blocks import Block
from layerlake.store.errors import InvalidInput

CACHED_ROWS: Final = 128
"""Rows prepared at a time on a CPU: 128 rows of 768 in float64 are 800 kB."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The features of one block in every space, over the rows that every kernel can take."""

    start: int
    stop: int
    part_of: int | None
    """The cluster that the block is a part of; None for a block of whole clusters."""
    clusters: NDArray[np.int64]
    """(row,): the cluster of each row left, ascending."""
    u: tuple[Array, ...]
    """(row, hidden) of each space, in the working precision."""
    a: tuple[Array, ...]
    """(row,) float64 of each space."""
    own: tuple[Array, ...]
    """(row,) float64 of each space: the kernel of each row with itself."""
    sums: tuple[Array, ...]
    """(hidden,) float64 of each space: sums of u over the rows."""
    edges: dict[Pair, Array]
    """(s, t): sums of a_t u_s over the rows, (hidden of s,) float64, both ways round for each pair
    of the group."""
    crossed: dict[Pair, Array]
    """Float64 sums over the rows of u_s u_t, coordinate by coordinate, for each pair of the group;
    empty where the spaces differ in width."""
    dropped: NDArray[np.int64]
    """Positions in the selection of the rows that a kernel cannot take."""

    @property
    def n_bytes(self) -> int:
        """Bytes that the features take."""
        parts = (
            *self.u,
            *self.a,
            *self.own,
            *self.sums,
            *self.edges.values(),
            *self.crossed.values(),
        )
        taken = sum(math.prod(x.shape) * item_bytes(x.dtype) for x in parts)
        return int(taken) + self.clusters.nbytes


@dataclass(frozen=True, slots=True)
class Preparation:
    """Turns blocks of rows into features."""

    frames: tuple[Frame, ...]
    pairs: Sequence[Pair]
    """The pairs of spaces that are compared, without those of a space with itself."""
    clusters: NDArray[np.int64]
    """(row,): cluster of every row of the selection, 0, 1, 2, ... in order."""
    lengths: NDArray[np.int64]
    """(cluster,): rows of each cluster in the selection."""
    precision: str
    """The working precision: the dtype of the matrix products, float32 or float64."""
    describe: Callable[[int, int], str]
    """Names a row (space, position in the selection) for a person."""

    def __call__(self, block: Block) -> Prepared:
        """Prepare one block.

        Raises
        ------
        InvalidInput
            A row holds NaN or infinity.
        """
        # Rows that hold infinity make NaN on the way to being found.
        narrowest = min(array.shape[1] for array in block.arrays)
        with np.errstate(invalid="ignore", over="ignore"), row_by_row(narrowest):
            prepared, usable = self._prepare(block, np.arange(block.stop - block.start))
            if usable.all():
                return prepared
            refuse_non_finite(block.arrays, usable, lambda s, k: self.describe(s, block.start + k))
            del prepared  # so that one block of features lies in memory, not two
            return self._prepare(block, np.flatnonzero(usable))[0]

    def _prepare(self, block: Block, kept: NDArray[np.int64]) -> tuple[Prepared, NDArray[np.bool_]]:
        """Prepare the rows kept of a block and say which of them every space can take."""
        xp = namespace(*block.arrays)
        rows, device = len(kept), block.arrays[0].device
        wide = {"dtype": xp.float64, "device": device}
        dtype = getattr(xp, self.precision)
        hidden = [array.shape[1] for array in block.arrays]
        u = tuple(xp.empty((rows, width), dtype=dtype, device=device) for width in hidden)
        a = tuple(xp.empty((rows,), **wide) for _ in hidden)
        own = tuple(xp.empty((rows,), **wide) for _ in hidden)
        pairs = with_own(len(hidden), self.pairs)
        partners = [sorted({sum(p) - s for p in pairs if s in p}) for s in range(len(hidden))]
        weighted = [
            xp.zeros((len(others) + 1, width), **wide)
            for others, width in zip(partners, hidden, strict=True)
        ]
        crossed = {
            (s, t): xp.zeros((hidden[s] if hidden[s] == hidden[t] else 0,), **wide)
            for s, t in pairs
        }
        usable = np.ones(rows, dtype=np.bool_)
        host = is_numpy(block.arrays[0])  # numpy rounds while it stores
        step = min(CACHED_ROWS, rows) if host else rows
        weights = [xp.ones((len(others) + 1, step), **wide) for others in partners]
        for lo in range(0, rows, max(step, 1)):
            hi = min(lo + step, rows)
            if rows == block.stop - block.start:
                arrays = [array[lo:hi, :] for array in block.arrays]
            else:
                arrays = [take_rows(array, kept[lo:hi]) for array in block.arrays]
            parts = [
                prepare(array, frame) for array, frame in zip(arrays, self.frames, strict=True)
            ]
            for s, part in enumerate(parts):
                usable[lo:hi] &= to_host(part.usable)
                u[s][lo:hi, :] = part.u if host else xp.astype(part.u, dtype, copy=False)
                a[s][lo:hi] = part.a
                own[s][lo:hi] = part.own
                for k, t in enumerate(partners[s], start=1):
                    weights[s][k, : hi - lo] = parts[t].a
                weighted[s] += xp.matmul(weights[s][:, : hi - lo], part.u)
            for (s, t), dots in crossed.items():
                if dots.shape[0]:
                    dots += _column_dots(parts[s].u, parts[t].u)
            del parts, part  # before the next ones are made
        clusters = self.clusters[block.start : block.stop]
        part_of = None
        if clusters[0] == clusters[-1] and self.lengths[clusters[0]] > len(clusters):
            part_of = int(clusters[0])
        sums = tuple(rows_of[0, :] for rows_of in weighted)
        edges = {
            (s, t): weighted[s][k, :]
            for s, others in enumerate(partners)
            for k, t in enumerate(others, start=1)
        }
        left_out = np.delete(np.arange(block.start, block.stop), kept)
        return Prepared(
            block.start,
            block.stop,
            part_of,
            clusters[kept],
            u,
            a,
            own,
            sums,
            edges,
            crossed,
            left_out,
        ), usable


def refuse_non_finite(
    arrays: Sequence[Array],
    usable: NDArray[np.bool_],
    describe: Callable[[int, int], str],
) -> None:
    """Refuse rows that hold NaN or infinity, naming the first of those that are not usable.

    `describe` names a row of a space by the place of the row in the arrays.
    """
    for position in np.flatnonzero(~usable).tolist():
        for s, array in enumerate(arrays):
            row = to_host(array[position : position + 1, :]).astype(np.float64)
            if not np.isfinite(row).all():
                raise InvalidInput(
                    f"{describe(s, position)} holds NaN or infinity, and similarity needs finite "
                    "values; leave the row out, or extract it again with a wider dtype"
                )
            if not np.isfinite(row @ row.T).all():
                raise InvalidInput(
                    f"{describe(s, position)} holds values too large to be squared in float64; "
                    "rescale the rows"
                )


def _column_dots(left: Array, right: Array) -> Array:
    """Sum left times right over rows, (hidden,)."""
    if is_numpy(left):
        return np.einsum("ij,ij->j", left, right)  # no temporary of the size of the rows
    return namespace(left, right).sum(left * right, axis=0)
