"""Sums over pairs against the matrices written out, in any blocking and order of merging."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.kernels import KERNELS, Frame, frame_of, prepare
from layerlake.analyses.similarity.features.moment_state import MomentState, Pair, star
from layerlake.analyses.similarity.features.moments import GroupMoments, pair_sums
from layerlake.analyses.similarity.features.preparation import Preparation, Prepared
from layerlake.engine.passes.arrays import to_host
from layerlake.engine.passes.blocks import Block, cut_blocks


def spaces_of(seed: int, lengths: list[int]) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """Return three related spaces of different width and the cluster of each row."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(lengths)), lengths)
    latent = (
        rng.standard_normal((len(clusters), 6)) + rng.standard_normal((len(lengths), 6))[clusters]
    )
    spaces = [
        latent @ rng.standard_normal((6, width)) + rng.standard_normal(width) for width in (5, 5, 8)
    ]
    return spaces, clusters


def blocks_of(
    spaces: list[NDArray[np.float64]],
    clusters: NDArray[np.int64],
    frames: tuple[Frame, ...],
    block_rows: int,
    library: object = np,
    pairs: list[Pair] | None = None,
) -> list[Prepared]:
    """Prepare all blocks of the spaces in float64."""
    lengths = np.bincount(clusters)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    preparation = Preparation(
        frames,
        star(len(frames)) if pairs is None else pairs,
        clusters,
        lengths,
        "float64",
        lambda s, k: f"{s}:{k}",
    )
    return [
        preparation(Block(lo, hi, tuple(library.asarray(x[lo:hi]) for x in spaces)))  # type: ignore[attr-defined]
        for lo, hi in cut_blocks(bounds, block_rows)
    ]


def dense_sums(
    spaces: list[NDArray[np.float64]],
    clusters: NDArray[np.int64],
    frames: tuple[Frame, ...],
    pair: Pair,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums over ordered pairs, and within each cluster, from whole matrices."""
    kernels = []
    for s in pair:
        features = prepare(spaces[s], frames[s])
        kernels.append(features.u @ features.u.T + features.a + features.a[:, None])
    k, l = kernels
    apart = ~np.eye(len(k), dtype=bool)

    def sums(mask: NDArray[np.bool_]) -> list[float]:
        """Return count, k, l, kk, ll, kl over the pairs of a mask."""
        x, y = k[mask], l[mask]
        return [len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y]

    same = clusters[:, None] == clusters
    within = [sums(apart & same & (clusters == g)[:, None]) for g in range(int(clusters.max()) + 1)]
    return np.array(sums(apart)), np.array(within).T


def check(
    state: MomentState, spaces: list[NDArray[np.float64]], clusters: NDArray[np.int64]
) -> None:
    """Compare finished sums with those of whole matrices, in the frames of the state."""
    frames = tuple(
        Frame(f.kernel, to_host(f.origin), f.scale, f.constant, f.loud) for f in state.frames
    )
    for pair, sums in pair_sums(state).items():
        total, within = dense_sums(spaces, clusters, frames, pair)
        size = np.abs(total).max()
        np.testing.assert_allclose(sums.total, total, rtol=1e-10, atol=1e-12 * size)
        np.testing.assert_allclose(sums.within, within, rtol=1e-10, atol=1e-12 * size)


@pytest.mark.parametrize("kernel", list(KERNELS))
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 99),
    lengths=st.lists(st.integers(1, 20), min_size=2, max_size=8),
    block_rows=st.integers(1, 30),
    order=st.randoms(use_true_random=False),
)
def test_any_blocking_and_merging_gives_the_same_sums(
    kernel: str, seed: int, lengths: list[int], block_rows: int, order: object
) -> None:
    spaces, clusters = spaces_of(seed, lengths)
    frames = tuple(frame_of(x, KERNELS[kernel]) for x in spaces)
    accumulator = GroupMoments(frames, np.array(lengths))
    blocks = blocks_of(spaces, clusters, frames, block_rows)
    states = [accumulator.update(accumulator.start(), block) for block in blocks]
    while len(states) > 1:
        one = states.pop(order.randrange(len(states)))  # type: ignore[attr-defined]
        other = states.pop(order.randrange(len(states)))  # type: ignore[attr-defined]
        states.append(accumulator.merge(one, other))
    check(accumulator.finish(states[0]), spaces, clusters)


@pytest.mark.parametrize("pairs", [[(1, 2)], [(0, 2), (1, 2)], [(0, 1), (0, 2), (1, 2)]])
def test_any_pairs(pairs: list[Pair]) -> None:
    lengths = [4, 1, 9, 3]
    spaces, clusters = spaces_of(5, lengths)
    frames = tuple(frame_of(x, KERNELS["correlation"]) for x in spaces)
    accumulator = GroupMoments(frames, np.array(lengths), pairs)
    state = accumulator.start()
    for block in blocks_of(spaces, clusters, frames, 6, pairs=pairs):
        state = accumulator.update(state, block)
    state = accumulator.finish(state)
    assert list(pair_sums(state)) == pairs
    check(state, spaces, clusters)


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_states_of_different_origins_merge(kernel: str) -> None:
    lengths = [3, 1, 12, 4, 5, 2, 3]
    spaces, clusters = spaces_of(3, lengths)
    frames = [tuple(frame_of(x[part], KERNELS[kernel]) for x in spaces)
              for part in (slice(0, 9), slice(9, 30))]  # fmt: skip
    states = []
    for k, own in enumerate(frames):
        accumulator = GroupMoments(own, np.array(lengths))
        state = accumulator.start()
        # 5 rows a block, so that both workers hold a part of the cluster of 12.
        for block in blocks_of(spaces, clusters, own, 5)[k::2]:
            state = accumulator.update(state, block)
        states.append(state)
    accumulator = GroupMoments(frames[0], np.array(lengths))
    check(accumulator.finish(accumulator.merge(*states)), spaces, clusters)


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_strict_arrays_go_through(kernel: str) -> None:
    lengths = [2, 7, 1, 3]
    spaces, clusters = spaces_of(1, lengths)
    frames = tuple(frame_of(array_api_strict.asarray(x), KERNELS[kernel]) for x in spaces)
    accumulator = GroupMoments(frames, np.array(lengths))
    state = accumulator.start()
    for block in blocks_of(spaces, clusters, frames, 4, array_api_strict):
        state = accumulator.update(state, block)
    check(accumulator.finish(state), spaces, clusters)


@pytest.mark.parametrize("library", [np, array_api_strict])
@pytest.mark.parametrize("lengths", [[2] * 90 + [1, 3] * 40, [130, 1, 70, 64, 65, 1, 2], [1, 200]])
def test_pairs_within_short_and_long_clusters(library: object, lengths: list[int]) -> None:
    spaces, clusters = spaces_of(8, lengths)
    strict = [library.asarray(x) for x in spaces]  # type: ignore[attr-defined]
    frames = tuple(frame_of(x, KERNELS["cosine"]) for x in strict)
    accumulator = GroupMoments(frames, np.array(lengths))
    state = accumulator.start()
    for block in blocks_of(spaces, clusters, frames, 250, library):
        state = accumulator.update(state, block)
    check(accumulator.finish(state), spaces, clusters)


def test_an_unfinished_cluster_is_told() -> None:
    spaces, clusters = spaces_of(0, [9, 2])
    frames = tuple(frame_of(x, KERNELS["cosine"]) for x in spaces)
    accumulator = GroupMoments(frames, np.array([9, 2]))
    state = accumulator.update(accumulator.start(), blocks_of(spaces, clusters, frames, 4)[0])
    with pytest.raises(ValueError, match=r"clusters \[0\]"):
        accumulator.finish(state)
