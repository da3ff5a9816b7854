"""The tile pass: panels of prepared rows, read as often as memory makes it, and their tiles."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.compared_rows import COMPARISON, without_direction
from layerlake.analyses.similarity.features.kernels import frame_of, prepare
from layerlake.analyses.similarity.features.planning import SAMPLE_ROWS
from layerlake.analyses.similarity.features.preparation import CACHED_ROWS, refuse_non_finite
from layerlake.analyses.similarity.tiles.planning import CENTRE_ROWS, MEDIAN_ROWS, TilePlan
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.analyses.similarity.tiles.tile_kernels import SpaceKernel, TileKernel
from layerlake.engine.passes.arrays import Array, is_numpy, namespace, row_by_row, to_host
from layerlake.engine.passes.blocks import SpaceLike
from layerlake.engine.rows.seeded_draw import draw
from layerlake.store.errors import InvalidInput

_ATTEMPTS: Final = 4
"""Times that frames are taken: from a sample, from the mean, and two to spare."""
_ROUNDING: Final = 2.0**-46
"""64 roundings of a float64: rows that differ by less, as a share of their length, are the same."""
_SUM_ROUNDING: Final = 2.0**-44
"""Share of a mean of squares below which what is left of it is rounding."""
_NO_BANDWIDTH: Final = -1.0
"""In place of a median distance of 0, until it is known whether the rows vary at all."""


@dataclass(frozen=True, slots=True)
class TileSource:
    """The rows that a tile pass compares, and under which kernel."""

    spaces: tuple[SpaceLike, ...]
    rows: tuple[NDArray[np.int64], ...]
    """`rows[k]` are the ascending row indices into the k-th space; entry i of every one is the
    same stimulus."""
    clusters: NDArray[np.int64]
    """(row,): the cluster of each row, 0, 1, 2, ... in order."""
    names: tuple[str, ...]
    """What to call each space in messages."""
    kernel: TileKernel
    precision: str = "float32"
    """Of the panels and tiles, `float32` or `float64`."""
    seed: int = 0
    """Of the sample whose median distance is a bandwidth."""


class _Room:
    """Where numpy forms the left panels and the tiles of a pass, one after another.

    Memory that is asked for anew is slow at first, and a tile is used but once or twice.
    """

    def __init__(self, longest: int, precision: str) -> None:
        self._longest = longest
        self._precision = precision
        self._held: dict[tuple[str, int], NDArray[Any]] = {}

    def left(self, s: int, panel: Array) -> Array | None:
        """Return where to turn a panel of a space; None where the library has no such place."""
        return self._of("left", s, panel, panel.shape[0], panel.shape[1])

    def tile(self, s: int, left: Array, panel: Array) -> Array | None:
        """Return where to form a tile of a space; None where the library has no such place."""
        return self._of("tile", s, left, left.shape[0], panel.shape[0])

    def _of(self, what: str, s: int, like: Array, rows: int, columns: int) -> Array | None:
        """Return a matrix in the memory held for that purpose."""
        if not is_numpy(like):
            return None
        if (what, s) not in self._held:
            width = columns if what == "left" else self._longest
            self._held[what, s] = np.empty(self._longest * width, dtype=self._precision)
        return self._held[what, s][: rows * columns].reshape(rows, columns)


@dataclass
class TilePass:
    """Tiles of the kernels of several spaces over the same rows, as often as they are asked for.

    Made by `open_tiles`. May be pickled, for workers that form the tiles of some row panels; the
    panels kept stay behind, and workers keep their own.
    """

    source: TileSource
    plan: TilePlan
    """Sizes, over the rows that are compared."""
    kept_rows: NDArray[np.int64]
    """(row,): the entries of the selection that are compared; the others have no direction in one
    of the spaces."""
    kernels: tuple[SpaceKernel, ...]
    """Of each space: what its tiles leave out, and its bandwidth."""
    centres: tuple[float, ...]
    """Of each space: about the mean of its tiles, 0 for kernels with features. Sums of products
    lose no digits when it is taken off first."""
    varies: tuple[bool, ...]
    """Of each space: whether its prepared rows differ by more than rounding. Where they do not,
    every kernel of theirs is the same for all pairs of rows, and what tiles hold is rounding."""
    squares: tuple[float, ...]
    """Of each space: the mean of |u|^2 of its prepared rows, in the units of a tile with features.
    The rounding of products is a share of it."""
    wanted: frozenset[int] | None = None
    """Panels whose rows are wanted: tiles that hold none of them are left out. None for all."""
    _kept: dict[int, tuple[Array, ...]] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    @property
    def n_rows(self) -> int:
        """Rows compared."""
        return len(self.kept_rows)

    @property
    def n_dropped(self) -> int:
        """Rows left out of all spaces, since they have no direction in one of them."""
        return len(self.source.clusters) - self.n_rows

    @property
    def clusters(self) -> NDArray[np.int64]:
        """(row,): the cluster of each row compared, ascending; clusters may lack all rows."""
        left: NDArray[np.int64] = self.source.clusters[self.kept_rows]
        return left

    @property
    def n_clusters(self) -> int:
        """Clusters of the selection, with those that were dropped whole."""
        return int(self.source.clusters[-1]) + 1

    def tiles(self, panels: Iterable[int] | None = None) -> Iterator[Tile]:
        """Yield the tiles of some row panels, or of all.

        Parameters
        ----------
        panels
            Numbers of row panels (of `plan.panels`), each with all its tiles.
        """
        bounds, clusters = self.plan.panels, self.clusters
        room = _Room(max(hi - lo for lo, hi in bounds), self.source.precision)
        for p in range(len(bounds)) if panels is None else panels:
            met = self._met(p)
            if not met:
                continue
            own = self._panel(p)
            left = own
            for q in range(p, len(bounds)):
                if q in met:
                    panel = own if q == p else self._panel(q)
                    yield Tile(
                        bounds[p],
                        bounds[q],
                        tuple(
                            kernel.form(
                                left[s],
                                panel[s],
                                diagonal=p == q,
                                out=room.tile(s, left[s], panel[s]),
                            )
                            for s, kernel in enumerate(self.kernels)
                        ),
                        clusters[slice(*bounds[p])],
                        clusters[slice(*bounds[q])],
                    )
                    del panel
                if q == p < len(bounds) - 1:
                    left = tuple(
                        part if kernel.kernel.function else kernel.turned(part, room.left(s, part))
                        for s, (kernel, part) in enumerate(zip(self.kernels, own, strict=True))
                    )
                own = ()  # or a panel that is not kept would lie in memory beside the next ones
            del left

    def _met(self, p: int) -> set[int]:
        """Return the panels that meet a row panel in tiles."""
        met = set(range(p, len(self.plan.panels)))
        return met if self.wanted is None or p in self.wanted else met & self.wanted

    def _panel(self, p: int) -> tuple[Array, ...]:
        """Return a panel of every space, from memory where it is kept."""
        if p in self._kept:
            return self._kept[p]
        lo, hi = self.plan.panels[p]
        panel = tuple(
            _prepared(self.source, kernel, s, self.kept_rows[lo:hi]).panel
            for s, kernel in enumerate(self.kernels)
        )
        if p >= len(self.plan.panels) - self.plan.kept_panels:
            self._kept[p] = panel
        return panel


def open_tiles(
    source: TileSource,
    planned: Callable[[int], TilePlan],
    *,
    on_read: Callable[[int], None] | None = None,
    on_dropped: Callable[[NDArray[np.int64]], None] | None = None,
) -> TilePass:
    """Read every row once, to know which are compared and from where they are measured.

    Parameters
    ----------
    source
        The rows and the kernel.
    planned
        Plans a pass over so many rows (`plan_tiles`); called with fewer where rows are dropped.
    on_read
        Called with the number of rows of the selection just read.
    on_dropped
        Called with the entries of the selection that are dropped.

    Raises
    ------
    InvalidInput
        Fewer than 4 rows are left, a row holds NaN or infinity, or half of the sample's distances
        are 0, so that their median is no bandwidth. Rows that are all the same have the bandwidth
        1: their kernel is constant whatever it is.
    MemoryRefused
        By `planned`.
    """
    kept = np.arange(len(source.clusters))
    steps: list[Array | None] = [None] * len(source.spaces)
    frames = None
    attempts_left = _ATTEMPTS
    plan = planned(len(kept))
    while True:
        if frames is None:
            frames = _frames(source, kept)
        else:
            frames = tuple(
                kernel if step is None else replace(kernel, frame=kernel.frame.moved(step))
                for kernel, step in zip(frames, steps, strict=True)
            )
        kernels, centres = _settled(source, frames, kept)
        count = len(frames)
        opened = TilePass(source, plan, kept, kernels, centres, (True,) * count, (0.0,) * count)
        usable, steps, opened.varies, opened.squares = _first_look(opened, on_read)
        attempts_left -= 1
        if not usable.all():
            if on_dropped is not None:
                on_dropped(kept[~usable])
            kept = kept[usable]
            if len(kept) < COMPARISON.rows:
                whose = without_direction(
                    source.spaces, source.rows, source.names, centred=source.kernel.rows.centred
                )
                COMPARISON.require_rows(len(kept), len(usable) - len(kept), whose)
            plan, frames = planned(len(kept)), None
        elif not attempts_left or all(step is None for step in steps):
            for s, kernel in enumerate(kernels):
                if opened.varies[s] and kernel.sigma == _NO_BANDWIDTH:
                    raise InvalidInput(
                        f"at least half of the sampled rows of {source.names[s]} are equal, so "
                        "their median distance, 0, is no bandwidth; give one"
                    )
            return opened
        on_read = None  # rows that are read once more are no progress


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A panel of one space."""

    panel: Array
    sums: Array  # (hidden,) float64: sum of u
    squares: float  # sum of |u|^2
    usable: NDArray[np.bool_]  # (row,)


def _prepared(
    source: TileSource, kernel: SpaceKernel, s: int, kept: NDArray[np.int64]
) -> _Prepared:
    """Read and prepare a panel of one space."""
    rows = source.spaces[s].rows(source.rows[s][kept])
    xp = namespace(rows)
    count, hidden = rows.shape
    dtype = getattr(xp, source.precision)
    panel = xp.empty((count, kernel.width(hidden)), dtype=dtype, device=rows.device)
    sums = xp.zeros((hidden,), dtype=xp.float64, device=rows.device)
    squares = 0.0
    usable = np.empty(count, dtype=np.bool_)
    step = CACHED_ROWS if is_numpy(rows) else max(count, 1)
    # Rows that hold infinity make NaN on the way to being found.
    with np.errstate(invalid="ignore", over="ignore"), row_by_row(hidden):
        for lo in range(0, count, step):
            hi = min(lo + step, count)
            part, square, usable[lo:hi] = kernel.fill(panel, lo, rows[lo:hi, :])
            sums += part
            squares += float(square)
    return _Prepared(panel, sums, squares, usable)


def _first_look(
    opened: TilePass, on_read: Callable[[int], None] | None
) -> tuple[NDArray[np.bool_], list[Array | None], tuple[bool, ...], tuple[float, ...]]:
    """Prepare all panels once, keeping those that are to be kept.

    Returns
    -------
    tuple
        Which rows every space can take; per space mean u where the origin is so far off that
        digits are lost, else None; whether its rows vary; and the mean of |u|^2.
    """
    source, plan = opened.source, opened.plan
    bounds = plan.panels
    usable = np.ones(opened.n_rows, dtype=np.bool_)
    totals: list[Any] = [None] * len(source.spaces)
    squares = np.zeros(len(source.spaces))
    for p, (lo, hi) in enumerate(bounds):
        panel = []
        for s, kernel in enumerate(opened.kernels):
            found = _prepared(source, kernel, s, opened.kept_rows[lo:hi])
            if not found.usable.all():
                usable[lo:hi] &= found.usable
                _refuse(opened, s, lo, found.usable)
            totals[s] = found.sums if totals[s] is None else totals[s] + found.sums
            squares[s] += found.squares
            panel.append(found.panel)
            del found
        if p >= len(bounds) - plan.kept_panels:
            opened._kept[p] = tuple(panel)
        if on_read is not None:
            on_read(hi - lo)
    steps: list[Array | None] = []
    varies = []
    means = (squares / opened.n_rows).tolist()
    for kernel, total, square in zip(opened.kernels, totals, means, strict=True):
        xp, mean, origin = namespace(total), total / opened.n_rows, kernel.frame.origin
        off = float(xp.vecdot(mean, mean))
        rounding = _ROUNDING**2 * (float(xp.vecdot(origin, origin)) + square)
        varies.append(not square - off <= max(rounding, _SUM_ROUNDING * square))
        # Rows that are the same have an origin as good as any.
        steps.append(mean if varies[-1] and off > square / 2 > 0 else None)
    return usable, steps, tuple(varies), tuple(means)


def _refuse(opened: TilePass, s: int, lo: int, usable: NDArray[np.bool_]) -> None:
    """Refuse rows of a space that are not finite."""
    source = opened.source
    index = source.rows[s][opened.kept_rows[lo : lo + len(usable)][~usable]]
    rows = source.spaces[s].rows(index)
    refuse_non_finite(
        [rows], np.zeros(len(index), np.bool_), lambda _s, k: f"row {index[k]} of {source.names[s]}"
    )


def _frames(source: TileSource, kept: NDArray[np.int64]) -> tuple[SpaceKernel, ...]:
    """Choose the frame of every space from rows spread evenly over the selection."""
    sample = kept[np.linspace(0, len(kept) - 1, min(len(kept), SAMPLE_ROWS)).astype(np.int64)]
    with np.errstate(invalid="ignore", over="ignore"):  # rows that the first look will name
        return tuple(
            SpaceKernel(source.kernel, frame_of(space.rows(index[sample]), source.kernel.rows))
            for space, index in zip(source.spaces, source.rows, strict=True)
        )


def _settled(
    source: TileSource, kernels: tuple[SpaceKernel, ...], kept: NDArray[np.int64]
) -> tuple[tuple[SpaceKernel, ...], tuple[float, ...]]:
    """Find what the kernels need beside their frames: shifts, bandwidths, and the mean of tiles."""
    settled, centres = [], []
    spread = np.linspace(0, len(kept) - 1, min(len(kept), CENTRE_ROWS)).astype(np.int64)
    with np.errstate(invalid="ignore", over="ignore"):
        for s, kernel in enumerate(kernels):
            space, index = source.spaces[s], source.rows[s]
            if source.kernel.featured:
                a = to_host(prepare(space.rows(index[kept[spread]]), kernel.frame).a)
                shift = float(a.mean()) if np.isfinite(a).all() else 0.0
                settled.append(replace(kernel, shift=shift))
                centres.append(0.0)
                continue
            if source.kernel.name == "rbf" and source.kernel.function is None:
                sigma = source.kernel.bandwidth
                if sigma is None:
                    chosen = kept[draw(kept, min(len(kept), MEDIAN_ROWS), source.seed)]
                    median = _median_distance(space.rows(index[chosen]))
                    sigma = median if median < 0 else source.kernel.of_median * median
                kernel = replace(kernel, sigma=sigma)
            settled.append(kernel)
            centres.append(_mean_kernel(source, kernel, s, kept[spread]))
    return tuple(settled), tuple(centres)


def _mean_kernel(
    source: TileSource, kernel: SpaceKernel, s: int, sample: NDArray[np.int64]
) -> float:
    """Return the mean of the kernel over the pairs of a sample."""
    found = _prepared(source, kernel, s, sample)
    if not found.usable.all():
        return 0.0  # the first look refuses these rows
    room = (
        np.empty((len(sample), len(sample)), found.panel.dtype) if is_numpy(found.panel) else None
    )
    tile = kernel.form(found.panel, found.panel, diagonal=True, out=room)
    return float(to_host(tile).astype(np.float64)[np.triu_indices(len(sample), 1)].mean())


def _median_distance(rows: Array) -> float:
    """Return the median distance between two rows of a sample, `_NO_BANDWIDTH` where it is 0."""
    xp = namespace(rows)
    wide = xp.astype(rows, xp.float64)
    del rows
    if not bool(xp.all(xp.isfinite(wide))):
        return 1.0  # the first look refuses these rows
    wide = wide - xp.mean(wide, axis=0)
    squares = to_host(xp.vecdot(wide, wide))
    products = to_host(xp.matmul(wide, xp.matrix_transpose(wide)))
    del wide
    count, at = len(squares), 0
    apart = np.empty(count * (count - 1) // 2)
    for i in range(count - 1):
        row = apart[at : at + count - 1 - i]
        row[:] = squares[i] + squares[i + 1 :] - 2 * products[i, i + 1 :]
        at += len(row)
    square = float(np.median(apart, overwrite_input=True))
    # What the products leave of the distance of equal rows is rounding.
    if square <= _SUM_ROUNDING * float(squares.max()):
        return _NO_BANDWIDTH
    return float(np.sqrt(square))
