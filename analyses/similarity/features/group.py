"""What one pass compares: the same rows of several spaces, which of them with which, and where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.kernels import Kernel
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.features.planning import (
    CACHE_BYTES,
    FormsAsked,
    plan_rsa,
    state_bytes,
)
from layerlake.engine.memory import MemoryPlan
from layerlake.engine.passes.blocks import SpaceLike, cut_blocks
from layerlake.engine.passes.devices import BLOCKS_HELD
from layerlake.engine.passes.resources import Means
from layerlake.engine.passes.selected_rows import Selected, value_bytes
from layerlake.engine.workers.schedulers import cut_parts, plan_workers, worker_bytes


@dataclass(frozen=True, slots=True)
class Group:
    """What one call compares, checked."""

    spaces: tuple[SpaceLike, ...]
    rows: tuple[NDArray[np.int64], ...]
    names: tuple[str, ...]
    pairs: tuple[Pair, ...]  # of spaces, to compare
    clusters: NDArray[np.int64]  # (row,): 0, 1, 2, ... in order
    bounds: NDArray[np.int64]  # (cluster + 1,)
    cuts: list[tuple[int, int]]
    kernel: Kernel
    cache_bytes: int | None  # most bytes kept between passes; None keeps every block
    float64_bytes: int  # what the comparison needs if it has to go on in float64
    worker_bytes: int  # what a worker of a cluster needs
    means: Means
    on_dropped: Callable[[NDArray[np.int64]], None] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Rows of each cluster."""
        lengths: NDArray[np.int64] = np.diff(self.bounds)
        return lengths

    def describe(self, space: int, position: int) -> str:
        """Name a row of a space."""
        return f"row {self.rows[space][position]} of {self.names[space]}"


def group_of(
    selected: Selected,
    pairs: Sequence[Pair],
    kernel: Kernel,
    means: Means,
    *,
    interval: bool,
    precision: str,
    forms: FormsAsked | None = None,
    on_dropped: Callable[[NDArray[np.int64]], None] | None = None,
) -> Group:
    """Return the group of a selection, its blocks cut and its memory planned.

    Parameters
    ----------
    selected
        The spaces and rows.
    pairs
        What is compared.
    kernel
        How rows are prepared.
    means
        What may be used.
    interval
        Whether there is a second pass.
    precision
        Of the products.
    forms
        What else is made of the moments.
    on_dropped
        Told the positions of rows that are left out.

    Raises
    ------
    MemoryRefused
        The passes need more than is allowed.
    """
    cuts = cut_blocks(selected.bounds, means.block_rows)
    plan, exact = (
        plan_group(selected, pairs, means, interval=interval, precision=p, forms=forms)
        for p in (precision, "float64")
    )
    fitting = plan.within(
        means.allowed,
        f"comparing {len(selected.spaces)} spaces over {selected.n_rows} rows",
        "allow more memory, or compare fewer variants at a time (rsa_group takes a lower "
        "block_rows)",
    )
    everything = means.scheduler is None and fitting.reserve == plan.reserve < CACHE_BYTES
    return Group(
        selected.spaces,
        selected.rows,
        selected.names,
        tuple(pairs),
        selected.clusters,
        selected.bounds,
        cuts,
        kernel,
        None if everything else fitting.reserve,
        exact.needed,
        worker_bytes(
            plan_group(
                selected,
                pairs,
                replace(means, scheduler=None),
                interval=interval,
                precision=precision,
                forms=forms,
            ).needed,
            state_bytes([s.shape[1] for s in selected.spaces], len(selected.lengths), pairs),
        ),
        means,
        on_dropped,
    )


def plan_group(
    selected: Selected,
    pairs: Sequence[Pair],
    means: Means,
    *,
    interval: bool,
    precision: str,
    forms: FormsAsked | None = None,
) -> MemoryPlan:
    """Say what the passes over a group hold; parameters as `group_of`."""
    cuts = cut_blocks(selected.bounds, means.block_rows)
    hiddens = [space.shape[1] for space in selected.spaces]
    lengths = selected.lengths
    plan = plan_rsa(
        hiddens,
        [value_bytes(space) for space in selected.spaces],
        selected.n_rows,
        len(lengths),
        int(lengths.max()),
        pairs=pairs,
        interval=interval,
        precision=precision,
        block_rows=max(stop - start for start, stop in cuts),
        host=means.host,
        forms=forms,
    )
    parts = dict(plan.parts)
    if means.device.kind != "cpu":
        longest = max(stop - start for start, stop in cuts)
        row_bytes = sum(h * value_bytes(s) for h, s in zip(hiddens, selected.spaces, strict=True))
        parts["blocks fetched ahead"] = (BLOCKS_HELD - 1) * longest * row_bytes
    if means.scheduler is None:
        return MemoryPlan(parts, plan.reserve)
    workers = plan_workers(
        sum(parts.values()),
        state_bytes(hiddens, len(lengths), pairs),
        scheduler=means.scheduler,
        workers=means.workers,
        parts=len(cut_parts(cuts)),
    )
    return MemoryPlan(parts | workers.parts)
