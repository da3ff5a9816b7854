"""Ranks and neighbours of rows read by a tile pass, against dense float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from layerlake.analyses.similarity.tiles.histograms import KernelHistograms
from layerlake.analyses.similarity.tiles.kendall import JointHistograms, QuantileBins, tau_of
from layerlake.analyses.similarity.tiles.neighbours import NearestNeighbours
from layerlake.analyses.similarity.tiles.planning import plan_tiles
from layerlake.analyses.similarity.tiles.spearman import Ranked, RankTable, spearman_bound
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.analyses.similarity.tiles.tile_kernels import tile_kernel
from layerlake.analyses.similarity.tiles.tile_pass import TilePass, TileSource, open_tiles
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.passes.arrays import take_rows
from layerlake.engine.passes.blocks import run_pass


@dataclass
class Rows:
    """Rows in memory as a space."""

    values: NDArray[np.floating]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def rows(self, index: NDArray[np.int64], /) -> Any:
        return take_rows(self.values, index)


def sized(widths: Sequence[int], value_bytes: Sequence[int], n_rows: int) -> Workload:
    """Return the sizes of a comparison over rows of one cluster."""
    return Workload(n_rows, tuple(widths), tuple(value_bytes), np.array([n_rows]), ())


class Moments:
    """Second moments of tiles (an `Accumulator`), for a correlation."""

    def start(self) -> NDArray[np.float64]:
        return np.zeros((3, 3))

    def update(self, state: NDArray[np.float64], tile: Tile) -> NDArray[np.float64]:
        inside = [np.triu_indices(len(k), 1) if tile.diagonal else ... for k in tile.kernels]
        parts = [k[i].ravel() for k, i in zip(tile.kernels, inside, strict=True)]
        table = np.stack([np.ones_like(parts[0]), *parts])
        return state + table @ table.T

    def merge(self, state: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        return state + other

    def finish(self, state: NDArray[np.float64]) -> float:
        moments = state / state[0, 0]
        cov = moments[1:, 1:] - np.outer(moments[0, 1:], moments[0, 1:])
        return float(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]))


def spaces(n: int) -> list[NDArray[np.float32]]:
    """Return two spaces whose rows all but point the same way."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n, 20)) * np.linspace(2, 0.2, 20)
    other = rows @ rng.standard_normal((20, 32)) / 4 + rng.standard_normal((n, 32)) / 2
    return [(z + 12).astype(np.float32) for z in (rows, other)]


def opened(arrays: list[NDArray[np.float32]], kernel: str) -> TilePass:
    """Open a pass over all rows, in panels of 70."""
    n, chosen = len(arrays[0]), tile_kernel(kernel)
    source = TileSource(
        tuple(Rows(z) for z in arrays), (np.arange(n),) * 2, np.arange(n) // 3, ("a", "b"), chosen
    )
    hiddens = [z.shape[1] for z in arrays]
    return open_tiles(
        source,
        lambda m: plan_tiles(sized(hiddens, [4, 4], m), chosen, allowed=2**28, panel_rows=70),
    )


@pytest.mark.parametrize("kernel", ["cosine", "euclidean"])
def test_rows_are_compared_as_in_dense_float64(kernel: str) -> None:
    arrays = spaces(260)
    tiles = opened(arrays, kernel)
    dense = []
    for z in arrays:
        wide = z.astype(np.float64)
        if kernel == "cosine":
            wide /= np.linalg.norm(wide, axis=1, keepdims=True)
            dense.append(wide @ wide.T)
        else:
            dense.append(np.linalg.norm(wide[:, None] - wide, axis=2))
    k, l = (z[np.triu_indices(260, 1)] for z in dense)

    closest = NearestNeighbours(["a", "b"], 260, 8, smallest=[kernel == "euclidean"] * 2)
    histograms, near = run_pass(tiles.tiles(), [KernelHistograms(["a", "b"]), closest])
    tables = [RankTable.of(h) for h in histograms]
    binned = [QuantileBins.of(h) for h in histograms]
    r, joints = run_pass(
        tiles.tiles(), [Ranked(tables, Moments()), JointHistograms(binned, [(0, 1)])]
    )
    bound = spearman_bound(r, tables[0], tables[1])
    assert r == pytest.approx(spearmanr(k, l).statistic, abs=2e-6)
    assert bound < 3e-4
    tau = tau_of(joints[0], binned[0], binned[1])
    assert tau.value == pytest.approx(kendalltau(k, l).statistic, abs=2e-5)
    masks = []
    for z in dense:
        order = np.argsort(z if kernel == "euclidean" else -z, axis=1)
        lists = [row[row != i][:8] for i, row in enumerate(order)]
        mask = np.zeros((260, 260), bool)
        mask[np.arange(260)[:, None], np.array(lists)] = True
        masks.append(mask)
    found = [np.zeros((260, 260), bool) for _ in near]
    for mask, neighbours in zip(found, near, strict=True):
        mask[np.arange(260)[:, None], neighbours.index] = True
    np.testing.assert_array_equal(found, masks)
