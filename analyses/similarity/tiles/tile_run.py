"""Tiles fed to accumulators, here or on workers: each takes row panels and merges what it sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.analyses.similarity.tiles.tile_pass import TilePass
from layerlake.engine.passes.blocks import Accumulator, run_pass
from layerlake.engine.passes.devices import working_on
from layerlake.engine.passes.resources import Resources
from layerlake.engine.workers.schedulers import Part, reduce_parts

Reducers = Sequence[Accumulator[Tile, Any, Any]]


class _Shares:
    """Tells of rows gone through while tiles are, which are fewer towards the last row panel."""

    def __init__(self, tiles: TilePass, report: Callable[[int], None]) -> None:
        self._rows, self._report = tiles.n_rows, report
        # Rows that the kernel cannot take count as gone through.
        self._selected = self._rows + tiles.n_dropped
        self._entries = self._told = 0

    def add(self, entries: int) -> None:
        """Count so many entries of the upper triangle."""
        self._entries += entries
        share = min(self._entries / (self._rows * (self._rows + 1) / 2), 1.0)
        rows = int(share * self._selected)
        if rows > self._told:
            self._report(rows - self._told)
            self._told = rows

    def tile(self, tile: Tile) -> None:
        """Count a tile."""
        rows, columns = tile.rows[1] - tile.rows[0], tile.columns[1] - tile.columns[0]
        self.add(rows * (rows + 1) // 2 if tile.diagonal else rows * columns)


@dataclass(frozen=True, slots=True)
class _Summarise:
    """Turns some row panels into the states of accumulators."""

    tiles: TilePass
    reducers: tuple[Accumulator[Tile, Any, Any], ...]
    resources: Resources

    def __call__(self, part: Part) -> list[Any]:
        """Form and absorb the tiles of the row panels of a part."""
        allowed = None if self.resources.device.kind == "cpu" else self.resources.allowed
        with working_on(self.resources.device, allowed):
            states = [reducer.start() for reducer in self.reducers]
            for tile in self.tiles.tiles(p for lo, hi in part for p in range(lo, hi)):
                for k, reducer in enumerate(self.reducers):
                    states[k] = reducer.update(states[k], tile)
            return states


@dataclass(frozen=True, slots=True)
class _Merge:
    """Merges the states of neighbouring parts."""

    reducers: tuple[Accumulator[Tile, Any, Any], ...]

    def __call__(self, left: list[Any], right: list[Any]) -> list[Any]:
        """Merge the states of each accumulator."""
        return [
            reducer.merge(*both) for reducer, *both in zip(self.reducers, left, right, strict=True)
        ]


def run_tiles(
    tiles: TilePass, reducers: Reducers, resources: Resources, report: Callable[[int], None]
) -> list[Any]:
    """Feed all tiles to accumulators and return what each finishes with.

    Parameters
    ----------
    tiles
        An open pass.
    reducers
        The statistics that share the pass.
    resources
        Where it runs.
    report
        Told of rows gone through, all rows of the selection once.
    """
    shares = _Shares(tiles, report)
    if resources.scheduler is None:
        return run_pass(tiles.tiles(), reducers, shares.tile)
    panels = tiles.plan.panels

    def done(part: Part) -> None:
        """Count the tiles of a part."""
        for lo, hi in part:
            for start, stop in panels[lo:hi]:
                rows = stop - start
                shares.add(rows * (rows + 1) // 2 + rows * (tiles.n_rows - stop))

    states = reduce_parts(
        [[(p, p + 1)] for p in range(len(panels))],
        _Summarise(tiles, tuple(reducers), resources),
        _Merge(tuple(reducers)),
        scheduler=resources.scheduler,
        workers=resources.workers,
        needed=tiles.plan.memory.needed,
        on_part=done,
    )
    return [reducer.finish(state) for reducer, state in zip(reducers, states, strict=True)]
