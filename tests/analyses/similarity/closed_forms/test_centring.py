"""Centred sums from moments against those of the rows themselves."""

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.analyses.similarity.closed_forms.centring import centred_sums
from layerlake.analyses.similarity.features.kernels import KERNELS, frame_of
from layerlake.analyses.similarity.features.moments import GroupMoments
from layerlake.analyses.similarity.features.preparation import Preparation
from layerlake.engine.passes.blocks import Block

N_ROWS = 60
PAIRS = [(0, 1), (1, 2)]


def spaces_of(seed: int, size: float) -> list[NDArray[np.float64]]:
    """Return three related spaces far from the origin."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((N_ROWS, 4))
    return [
        size * (latent @ rng.standard_normal((4, d)) + 3 * rng.standard_normal(d))
        for d in (5, 7, 5)
    ]


def prepared_rows(rows: NDArray[np.float64], kernel: str) -> NDArray[np.float64]:
    """Return what the kernel is an inner product or a distance of."""
    if kernel == "correlation":
        rows = rows - rows.mean(axis=1, keepdims=True)
    if kernel != "sqeuclidean":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def finished(spaces: list[NDArray[np.float64]], kernel: str) -> object:
    """Return the moments of a pass of two blocks."""
    frames = tuple(frame_of(x[:20], KERNELS[kernel]) for x in spaces)
    clusters = np.arange(N_ROWS)
    lengths = np.ones(N_ROWS, dtype=np.int64)
    preparation = Preparation(frames, PAIRS, clusters, lengths, "float64", lambda s, k: f"{s}{k}")
    accumulator = GroupMoments(frames, lengths, PAIRS)
    state = accumulator.start()
    for lo, hi in ((0, 37), (37, N_ROWS)):
        block = preparation(Block(lo, hi, tuple(x[lo:hi] for x in spaces)))
        state = accumulator.update(state, block)
    return accumulator.finish(state)


@pytest.mark.parametrize("kernel", ["cosine", "correlation", "sqeuclidean"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 500.0])
def test_every_sum(kernel: str, size: float) -> None:
    spaces = spaces_of(3, size)
    sums = centred_sums(finished(spaces, kernel))  # type: ignore[arg-type]
    assert list(sums.crosses) == PAIRS
    rows = [prepared_rows(x, kernel) for x in spaces]
    centred = [x - x.mean(axis=0) for x in rows]
    squares = [np.sum(x * x, axis=1) for x in centred]
    for s, space in enumerate(sums.spaces):
        x, p = centred[s], squares[s]
        assert space.n_rows == N_ROWS
        np.testing.assert_allclose(space.mean, rows[s].mean(axis=0), rtol=1e-12)
        close(space.gram, x.T @ x)
        close(space.weighted, p @ x)
        close(space.squares, p @ p)
    for s, t in PAIRS:
        cross = sums.crosses[s, t]
        close(cross.product, centred[s].T @ centred[t])
        close(cross.left, squares[t] @ centred[s])
        close(cross.right, squares[s] @ centred[t])
        close(cross.squares, squares[s] @ squares[t])


def close(found: object, expected: object) -> None:
    """Compare to rounding, as a share of the largest entry."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_the_linear_kernel_does_not_hold_them() -> None:
    with pytest.raises(ValueError, match="linear"):
        centred_sums(finished(spaces_of(0, 1.0), "linear"))  # type: ignore[arg-type]
