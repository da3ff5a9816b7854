"""The memory that a comparison needs, as a formula of its sizes."""

from dataclasses import dataclass
from typing import Final

from layerlake.analyses.similarity.features.kernels import LOUD_COORDINATES
from layerlake.analyses.similarity.features.moment_state import Pair, with_own
from layerlake.analyses.similarity.features.preparation import CACHED_ROWS
from layerlake.analyses.similarity.features.within_clusters import TILE_ROWS
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.memory import MemoryPlan
from layerlake.engine.passes.resources import BLOCK_ROWS

SAMPLE_ROWS: Final = 256
"""Rows, spread evenly over the selection, from which the origin of the features is taken."""
CACHE_BYTES: Final = 512 * 2**20
"""Most bytes of features kept for a second pass; rows beyond them are read again."""
ROW_COST: Final = 200
"""Multiply-adds of a fast product that turning a value of a row into a feature takes as long as."""
SPACE_COST: Final = 2e8
"""The same for what is done once for every space of a pass, whatever its rows."""
_OBJECTS: Final = 2**17
"""Bytes for what is not an array."""


@dataclass(frozen=True, slots=True)
class FormsAsked:
    """Closed forms that are computed from the moments of a pass."""

    names: tuple[str, ...]
    grouped: tuple[str, ...] = ()
    """Those that are computed again with each group of clusters left out."""
    n_influenced: int = 0
    """Of those on which the influence of every cluster is summed."""
    batches: tuple[tuple[Pair, ...], ...] = ()
    """The pairs of each pass that does so."""


def state_bytes(work: Workload) -> int:
    """Return the bytes of the moments of a group, and of what is summed by cluster."""
    hiddens, spaces, widest = work.widths, work.n_spaces, max(work.widths)
    every = with_own(spaces, work.pairs)
    moments = sum(
        (hiddens[s] + 2) * (hiddens[t] + 2) + min(LOUD_COORDINATES, widest) ** 2 + widest
        for s, t in every
    )
    return 8 * (moments + work.n_clusters * (spaces + len(every)))


def features_cost(work: Workload, *, passes: int, precision: str) -> float:
    """Return how many multiply-adds of a fast matrix product passes over features take as long as.

    Measured on one core beside float32 products of a thousand rows: products of features take a
    fifth longer, since each is added to what is summed in float64.
    """
    hiddens, pairs = work.widths, work.pairs
    squares = sum(h * h / 2 for h in hiddens) + sum(hiddens[s] * hiddens[t] for s, t in pairs)
    wide = 2.4 if precision == "float64" else 1.2
    rows = ROW_COST * sum(hiddens) + 40 * sum(hiddens[s] for s, _ in pairs)
    return work.n_rows * (squares * wide * passes + rows) + SPACE_COST * len(hiddens)


def plan_rsa(
    work: Workload,
    *,
    interval: bool,
    precision: str,
    block_rows: int = BLOCK_ROWS,
    host: bool = True,
    forms: FormsAsked | None = None,
) -> MemoryPlan:
    """Say what a comparison of a group holds at its peak, beside the rows of a space in memory.

    Parameters
    ----------
    work
        What is compared.
    interval
        Whether there is a second pass for intervals.
    precision
        Of the products. Where a `float32` pass must be run again in `float64`, that is a plan of
        its own.
    block_rows
        Rows read at a time.
    host
        Whether rows are prepared a few at a time, as on a CPU, and not a block at a time.
    forms
        What else is computed from the moments.

    Returns
    -------
    MemoryPlan
        Parts of the peak. The reserve is what the features of all blocks but one take, which are
        kept for the second pass, with what that adds to phases in which none is in use, or `CACHE_BYTES` where that is less.
    """
    value = 8 if precision == "float64" else 4
    hiddens, stored_bytes, n_rows = work.widths, work.value_bytes, work.n_rows
    n_clusters, longest_cluster = work.n_clusters, int(work.cluster_sizes.max())
    rows, spaces = min(block_rows, n_rows), work.n_spaces
    compared = work.pairs
    pairs = with_own(spaces, compared)
    width, widest = sum(hiddens), max(hiddens)
    squares = [hiddens[s] * hiddens[t] for s, t in pairs]
    moments = 8 * sum(
        (hiddens[s] + 2) * (hiddens[t] + 2) + min(LOUD_COORDINATES, widest) ** 2 + widest
        for s, t in pairs
    )
    sets = 2 if longest_cluster > block_rows else 1  # a long cluster has moments of its own

    row_bytes = value * width + 16 * spaces
    edges = 8 * (2 * width + sum(2 * hiddens[s] + hiddens[t] for s, t in compared))
    features = rows * row_bytes + edges
    raw = rows * work.row_bytes
    step = min(CACHED_ROWS, rows) if host else rows
    preparing = raw + step * (8 * width + 16 * widest + 16 * len(pairs))
    loud = rows * min(LOUD_COORDINATES, widest) * (8 * spaces + value)
    multiplying = loud + value * max(squares)
    absorbing = features + max(preparing, multiplying)
    columns = max(TILE_ROWS, min(longest_cluster, rows)) if longest_cluster > 1 else 0
    tiles = (
        TILE_ROWS * columns * (8 * spaces + value + 20)
        + 2 * TILE_ROWS * widest * value
        + 8 * rows * (2 * spaces + len(pairs) + 6)
    )
    sums = 8 * n_clusters * (spaces + len(pairs))
    checking = 16 * n_rows + 32 * n_clusters
    sampling = min(SAMPLE_ROWS, n_rows) * widest * (max(stored_bytes) + 24)
    summing = sums + sets * moments + features + max(preparing, multiplying, tiles)
    phases = [checking, sampling, summing]
    idle = []  # while no block is in use
    if forms is not None:
        from layerlake.analyses.similarity.closed_forms.influence import plan_influence
        from layerlake.analyses.similarity.closed_forms.registry import forms_memory
        from layerlake.analyses.statistics.group_jackknife import GROUPS

        computing = forms_memory(forms.names, hiddens).needed
        kept = forms_memory(forms.names, hiddens).parts["decompositions"]
        # The moments, the same seen from the means, and the centred sums made of those.
        idle.append(sums + 2 * moments + max(moments + 8 * max(squares), computing))
        for batch in forms.batches:
            held = plan_influence(hiddens, batch, forms.n_influenced, n_clusters, rows, value)
            gradients = held.parts["gradients"]
            idle += [
                sums + 2 * moments + computing + gradients,
                sums + 2 * moments + kept + features + max(raw + gradients, held.needed),
            ]
        if forms.grouped:
            share = -(-n_rows // min(GROUPS, n_clusters)) + longest_cluster
            again = forms_memory(forms.grouped, hiddens).needed
            # Beside the moments and sums of all: the moments of a group as they come, the same as
            # they are centred and its sums, and the sums of what it leaves.
            idle += [
                sums + kept + 3 * moments + absorbing * min(share, rows) // rows,
                sums + kept + 5 * moments + max(2 * 8 * max(squares), again),
            ]
    cache = 0
    if interval:
        # The moments become weights one after another.
        vectors = 3 * spaces + 4 * len(compared)
        idle.append(sums + moments + 5 * value * max(squares) + 16 * widest * vectors)
        turned = (1 if host else 2) * value * rows * widest + (8 + value) * rows * vectors
        applying = max(preparing, turned)
        leaving = sums + value * sum(squares) + features + applying
        phases += [leaving, sums + 8 * 32 * n_clusters]
        # Blocks that end with a cluster may be half empty, so there may be twice as many.
        everything = n_rows * row_bytes + edges * 2 * -(-n_rows // rows)
        if everything < CACHE_BYTES:
            # Beside one block in use all others are kept; while none is, all are.
            cache = everything - features + max(0, max(idle) + features - max(phases))
        else:
            cache = CACHE_BYTES
    phases += idle
    return MemoryPlan(
        {
            "moments and blocks": max(phases),
            "clusters": 8 * n_clusters * (4 + 6 * len(compared)),
            "rows": 8 * n_rows,
            "making rows": work.making_bytes,
            "objects": _OBJECTS,
        },
        reserve=max(cache, 0),
    )
