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
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.memory import MemoryPlan
from layerlake.engine.passes.blocks import SpaceLike, cut_blocks
from layerlake.engine.passes.devices import BLOCKS_HELD
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import SelectedRows
from layerlake.engine.workers.schedulers import cut_parts, plan_workers, worker_bytes


@dataclass(frozen=True, slots=True)
class Group:
    """What one call compares, checked."""

    selected: SelectedRows
    pairs: tuple[Pair, ...]  # of spaces, to compare
    cuts: list[tuple[int, int]]
    kernel: Kernel
    cache_bytes: int | None  # most bytes kept between passes; None keeps every block
    float64_bytes: int  # what the comparison needs if it has to go on in float64
    worker_bytes: int  # what a worker of a cluster needs
    resources: Resources
    on_dropped: Callable[[NDArray[np.int64]], None] | None = None

    @property
    def spaces(self) -> tuple[SpaceLike, ...]:
        """The spaces compared."""
        return self.selected.spaces

    @property
    def rows(self) -> tuple[NDArray[np.int64], ...]:
        """The rows of each space."""
        return self.selected.rows

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each space in messages."""
        return self.selected.names

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Rows of each cluster."""
        return self.selected.lengths


def group_of(
    selected: SelectedRows,
    pairs: Sequence[Pair],
    kernel: Kernel,
    resources: Resources,
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
    resources
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
    work = Workload.of(selected, pairs)
    cuts = cut_blocks(selected.bounds, resources.block_rows)
    plan, exact = (
        plan_group(work, resources, interval=interval, precision=p, forms=forms)
        for p in (precision, "float64")
    )
    fitting = plan.within(
        resources.allowed,
        f"comparing {len(selected.spaces)} spaces over {selected.n_rows} rows",
        "allow more memory, or compare fewer variants at a time",
    )
    everything = resources.scheduler is None and fitting.reserve == plan.reserve < CACHE_BYTES
    return Group(
        selected,
        tuple(pairs),
        cuts,
        kernel,
        None if everything else fitting.reserve,
        exact.needed,
        worker_bytes(
            plan_group(
                work,
                replace(resources, scheduler=None),
                interval=interval,
                precision=precision,
                forms=forms,
            ).needed,
            state_bytes(work),
        ),
        resources,
        on_dropped,
    )


def plan_group(
    work: Workload,
    resources: Resources,
    *,
    interval: bool,
    precision: str,
    forms: FormsAsked | None = None,
) -> MemoryPlan:
    """Say what the passes over a group hold; parameters as `group_of`."""
    cuts = cut_blocks(work.bounds, resources.block_rows)
    longest = max(stop - start for start, stop in cuts)
    plan = plan_rsa(
        work,
        interval=interval,
        precision=precision,
        block_rows=longest,
        host=resources.host,
        forms=forms,
    )
    parts = dict(plan.parts)
    if resources.device.kind != "cpu":
        parts["blocks fetched ahead"] = (BLOCKS_HELD - 1) * longest * work.row_bytes
    if resources.scheduler is None:
        return MemoryPlan(parts, plan.reserve)
    workers = plan_workers(
        sum(parts.values()),
        state_bytes(work),
        scheduler=resources.scheduler,
        workers=resources.workers,
        parts=len(cut_parts(cuts)),
    )
    return MemoryPlan(parts | workers.parts)
