"""What a tile pass costs: multiply-adds, bytes read, and bytes held for a size of the panels."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from layerlake.analyses.similarity.features.kernels import LOUD_COORDINATES
from layerlake.analyses.similarity.features.planning import SAMPLE_ROWS
from layerlake.analyses.similarity.features.preparation import CACHED_ROWS
from layerlake.analyses.similarity.tiles.tile_kernels import (
    EXTRA_COLUMNS,
    REPAIRED_PAIRS,
    STRIP_ROWS,
    TileKernel,
)
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.memory import MemoryPlan

PANEL_ROWS: Final = 1024
"""Most rows of a panel where all panels fit: products of a thousand rows run at nearly full speed,
and the tiles of a pair of spaces stay in a cache of 8 MB."""
LONG_PANELS: Final = (2048, 4096)
"""Longer panels, tried where not all panels fit: fewer row panels read the others less often."""
SHORT_PANELS: Final = (512, 256, 128)
"""Shorter panels, tried where the memory allowed asks for them."""
MEDIAN_ROWS: Final = 1000
"""Rows of the sample whose median distance is the bandwidth of an `rbf`."""
CENTRE_ROWS: Final = 256
"""Rows of the sample from which the mean of a kernel without features is taken."""
_OBJECTS: Final = 2**17
"""Bytes for what is not an array."""

ReducerBytes = Callable[[int], int]
"""Bytes that the accumulators of a pass hold at once, given the rows of a panel."""


@dataclass(frozen=True, slots=True)
class TilePlan:
    """A tile pass of one size of panels."""

    n_rows: int
    panel_rows: int
    """Most rows of a panel; the panels are of equal length but for one row."""
    kept_panels: int
    """Panels kept prepared, the last ones, which meet the most row panels; others are read again
    for every row panel before them."""
    memory: MemoryPlan
    """Bytes held. The reserve is the panels kept."""
    multiply_adds: float
    """Of the products that form the tiles, n^2 / 2 times the hidden of every space."""
    first_bytes: int
    """Bytes read before the first tile: every row once."""
    pass_bytes: int
    """Bytes read for the tiles, every time that the pass is run."""

    @property
    def panels(self) -> list[tuple[int, int]]:
        """Bounds of the panels, of equal length but for one row."""
        count = -(-self.n_rows // self.panel_rows)
        bounds = [self.n_rows * p // count for p in range(count + 1)]
        return list(itertools.pairwise(bounds))


def plan_tiles(
    work: Workload,
    kernel: TileKernel,
    *,
    allowed: int,
    precision: str = "float32",
    panel_rows: int | None = None,
    reducer_bytes: ReducerBytes | None = None,
    likely_bytes: ReducerBytes | None = None,
    ended_bytes: int = 0,
    host: bool = True,
) -> TilePlan:
    """Choose the size of the panels and how many are kept, by the bytes that are read.

    Parameters
    ----------
    work
        The rows and spaces compared.
    kernel
        The kernel.
    allowed
        Bytes that may be held.
    precision
        Of the tiles.
    panel_rows
        Rows of a panel where the caller wants to choose.
    reducer_bytes
        What the accumulators of the pass hold at most.
    likely_bytes
        What they hold on ordinary data, where that is less.
    ended_bytes
        What they and what they finish with hold once the tiles are gone.
    host
        Whether tiles are formed in place and rows prepared a few at a time, as by numpy.

    Raises
    ------
    MemoryRefused
        Even the shortest panels need more than is allowed; the sentence says how much.
    """
    sizes = [panel_rows] if panel_rows else [PANEL_ROWS, *LONG_PANELS, *SHORT_PANELS]
    best: TilePlan | None = None
    least: MemoryPlan | None = None
    for size in sizes:
        memory = _memory(
            work,
            kernel,
            size,
            precision,
            (reducer_bytes, likely_bytes or reducer_bytes, ended_bytes),
            host,
        )
        if least is None or memory.needed < least.needed:
            least = memory
        if memory.needed > allowed:
            continue
        plan = _planned(work, kernel, size, precision, memory, allowed)
        # The first size wins unless another one reads less.
        if best is None or plan.pass_bytes < best.pass_bytes:
            best = plan
        if size == PANEL_ROWS and not plan.pass_bytes:
            break
    if best is None:
        assert least is not None
        least.within(
            allowed,
            f"comparing {work.n_spaces} spaces over {work.n_rows} rows by tiles",
            "allow more memory, or compare fewer spaces at a time",
        )
        raise AssertionError
    return best


def _panel_bytes(hiddens: Sequence[int], rows: int, kernel: TileKernel, precision: str) -> int:
    """Return the bytes of a prepared panel of every space."""
    extra = 0 if kernel.function else EXTRA_COLUMNS
    return rows * sum(h + extra for h in hiddens) * _value(precision)


def _value(precision: str) -> int:
    """Return the bytes of a value of the working precision."""
    return 8 if precision == "float64" else 4


def _planned(
    work: Workload,
    kernel: TileKernel,
    size: int,
    precision: str,
    memory: MemoryPlan,
    allowed: int,
) -> TilePlan:
    """Keep as many panels as fit and count what the others cost."""
    n_rows, row_bytes = work.n_rows, work.row_bytes
    count = max(-(-n_rows // size), 1)
    rows = -(-n_rows // count)
    panel = _panel_bytes(work.widths, rows, kernel, precision)
    # Where all are kept, one of them is that of the columns and counted already.
    room = (allowed - memory.needed) // panel
    kept = count if room >= count - 1 else room
    reads = sum(p + 1 for p in range(count - kept)) * rows
    return TilePlan(
        n_rows,
        size,
        kept,
        replace(memory, reserve=(kept - (kept == count)) * panel),
        n_rows * (n_rows - 1) / 2 * sum(work.widths),
        n_rows * row_bytes,
        reads * row_bytes,
    )


def _memory(
    work: Workload,
    kernel: TileKernel,
    size: int,
    precision: str,
    reducing: tuple[ReducerBytes | None, ReducerBytes | None, int],
    host: bool,
) -> MemoryPlan:
    """Say what a pass holds beside the panels that are kept.

    `reducing` is what accumulators hold at most, on ordinary data, and at the end.
    """
    hiddens, stored_bytes, n_rows = work.widths, work.value_bytes, work.n_rows
    value, widest, spaces = _value(precision), max(hiddens), work.n_spaces
    count = max(-(-n_rows // size), 1)
    rows = -(-n_rows // count)
    raw = max(h * b for h, b in zip(hiddens, stored_bytes, strict=True))
    panel = _panel_bytes(hiddens, rows, kernel, precision)
    step = min(CACHED_ROWS, rows) if host else rows
    preparing = rows * raw + step * widest * (16 if host else 24)
    tile = rows * rows * value
    strip = (min(STRIP_ROWS, rows) if host else rows) * rows
    forming = 0 if host else tile
    if kernel.function:
        forming += 3 * tile + rows * rows  # what a function holds by the way is its own affair
    elif kernel.featured:
        forming += 3 * strip * value
    else:
        # As if every pair of a strip were close.
        forming += strip * (2 * value + 18) + REPAIRED_PAIRS * widest * (16 + value)
    formed, working = 2 * panel + spaces * tile, max(preparing, forming)
    most, likely = (held(rows) if held else 0 for held in reducing[:2])
    frame = min(SAMPLE_ROWS, n_rows) * widest * (max(stored_bytes) + 24)
    drawn = 0
    if not kernel.featured:
        sample = min(CENTRE_ROWS, n_rows)
        drawn = sample * (2 * widest * value + max(raw // rows, 24 * widest // sample))
        drawn += sample * sample * (8 + value)
    if kernel.name == "rbf" and kernel.bandwidth is None:
        sample = min(MEDIAN_ROWS, n_rows)
        # Rows as read, in float64 and centred; then products, and half of them as distances.
        drawn = max(
            drawn,
            sample * (raw // rows + 16 * widest),
            sample * 8 * (widest + sample),
            sample * 12 * sample,
        )
    others = max(frame, drawn, panel + reducing[2])
    phases = max(formed + working + most, others)
    # Accumulators hold most of what they hold while no tile is formed and no panel prepared.
    ordinary = max(formed + max(working, likely), others)
    return MemoryPlan(
        {
            "panels and tiles": phases,
            "rows": n_rows * 8 * (3 + spaces),
            "making rows": work.making_bytes,
            "frames": 8 * sum(2 * h + min(LOUD_COORDINATES, h) for h in hiddens),
            "objects": _OBJECTS,
        },
        unlikely=phases - ordinary,
    )
