"""Permutation tests of pairs of spaces: rows are read once and kept, then clusters change places.

What is kept lies in this process, and so is the work: a scheduler shares passes over rows, of which
a test has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from layerlake.analyses.similarity.estimates import PairValues, rsa_names
from layerlake.analyses.similarity.features.first_pass import first_pass
from layerlake.analyses.similarity.features.group import group_of, plan_group
from layerlake.analyses.similarity.features.kernels import kernel_named
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.features.preparation import CACHED_ROWS
from layerlake.analyses.similarity.permutations.between_features import (
    BetweenFeatures,
    KeptFeatures,
    plan_features,
)
from layerlake.analyses.similarity.permutations.between_kernels import (
    BetweenKernels,
    KeptKernels,
    plan_kernels,
)
from layerlake.analyses.similarity.permutations.draws import (
    Rearranged,
    permute_clusters,
    plan_permutation,
)
from layerlake.analyses.similarity.question import Question
from layerlake.analyses.similarity.tiles.planning import SHORT_PANELS, TilePlan, plan_tiles
from layerlake.analyses.similarity.tiles.tile_kernels import TileKernel, tile_kernel
from layerlake.analyses.similarity.tiles.tile_pass import TileSource, open_tiles
from layerlake.analyses.similarity.tiles.tile_run import run_tiles
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.memory import require
from layerlake.engine.passes.devices import spaces_on, working_on
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import SelectedRows

_ADVICE: Final = "allow more memory, or draw fewer rows"
_FLOAT: Final = {"float32": 4, "float64": 8}


@dataclass(frozen=True, slots=True)
class PairTestPlan:
    """How clusters are permuted, and what that takes."""

    form: str
    """`kernels` or `features`, as `draws.PermutationPlan`."""
    bytes_held: int
    """At the peak, with the pass that reads."""
    bytes_read: int
    multiply_adds: float
    """Of the pass and of all permutations, or what takes as long."""


def plan_pair_tests(work: Workload, question: Question, resources: Resources) -> PairTestPlan:
    """Choose the form that takes less time and fits.

    Raises
    ------
    MemoryRefused
        No form fits.
    """
    here = replace(resources, scheduler=None)
    hiddens, pairs = work.widths, work.pairs
    n, value = work.n_rows, _FLOAT[question.precision]
    beside = {"kernels": _tiles(work, question, here, panel_rows=SHORT_PANELS[-1])}
    if not question.tiled_kernel:
        rows = min(here.block_rows, n)
        step = min(CACHED_ROWS, rows) if here.host else rows
        beside["features"] = rows * work.row_bytes
        beside["features"] += step * (8 * sum(hiddens) + 16 * max(hiddens))
        first = plan_group(work, here, interval=False, precision=question.precision).needed
        kept = plan_features(work.cluster_sizes, hiddens, value).needed
        beside["features"] = max(beside["features"], first - kept)
    chosen = plan_permutation(
        work.cluster_sizes,
        hiddens,
        pairs,
        allowed=here.allowed,
        tile_rows=SHORT_PANELS[-1],
        factored=not question.tiled_kernel,
        value_bytes=value,
        beside=beside,
    )
    read = n * work.row_bytes
    held, operations = chosen.memory.peak, question.permutations * chosen.operations
    if chosen.form == "kernels":
        plan = _tile_plan(work, question, here)
        held, read = plan.memory.peak, plan.first_bytes + plan.pass_bytes
        operations += plan.multiply_adds
    else:
        squares = sum(h * h / 2 for h in hiddens) + sum(hiddens[s] * hiddens[t] for s, t in pairs)
        read *= 2
        operations += n * squares
    return PairTestPlan(chosen.form, held, read, operations)


def with_pair_tests(
    values: Mapping[Pair, PairValues],
    selected: SelectedRows,
    question: Question,
    resources: Resources,
    *,
    plan: PairTestPlan | None = None,
    on_permutation: Callable[[int], None] | None = None,
) -> dict[Pair, PairValues]:
    """Return the values of pairs with the p of r_between under permuted clusters.

    Where r_between is not defined p is None.

    Parameters
    ----------
    values
        As `compare_spaces.compare_selected` returned them, of these rows.
    selected
        The spaces and rows.
    question
        What was asked; `permutations` says how many.
    resources
        Where the work is done, and with how much memory.
    plan
        As `plan_pair_tests` returned it.
    on_permutation
        Called with the number of permutations just done.

    Raises
    ------
    MemoryRefused
        More memory is needed than is allowed.
    """
    pairs = list(values)
    here = replace(resources, scheduler=None)
    form = (plan or plan_pair_tests(Workload.of(selected, pairs), question, here)).form
    placed = replace(selected, spaces=spaces_on(here.device, selected.spaces))
    name = rsa_names(question.score)[1]
    with working_on(here.device, None if here.device.kind == "cpu" else here.allowed):
        kept = _kernels if form == "kernels" else _features
        found = permute_clusters(
            kept(placed, pairs, question, here),
            n_permutations=question.permutations,
            seed=question.seed,
            on_progress=on_permutation,
        )
    return {
        pair: replace(
            value,
            estimates=tuple(
                replace(estimate, p=None if math.isnan(estimate.value) else test.p_value)
                if estimate.measure == name
                else estimate
                for estimate in value.estimates
            ),
            notes=tuple(dict.fromkeys([*value.notes, *test.notes])),
        )
        for (pair, value), test in zip(values.items(), found, strict=True)
    }


def _features(
    selected: SelectedRows, pairs: Sequence[Pair], question: Question, resources: Resources
) -> Rearranged:
    """Keep the features of all rows, in frames in which no digits are lost."""
    group = group_of(
        selected,
        pairs,
        kernel_named(str(question.kernel)),
        resources,
        interval=False,
        precision=question.precision,
    )
    first = first_pass(group, question.precision, _silent, by_cluster=False, keep=False)
    precision = first.preparation.precision
    del first.state
    first.sums.clear()
    hiddens = [space.shape[1] for space in selected.spaces]
    if precision != question.precision:
        needed = plan_features(selected.lengths, hiddens, _FLOAT[precision]).needed
        what = "clusters have to be permuted in float64, since float32 loses digits here, which"
        require(needed, resources.allowed, what, _ADVICE)
    (rows,) = first.again([KeptFeatures(range(len(hiddens)))], _silent)
    return BetweenFeatures(rows, pairs)


def _kernels(
    selected: SelectedRows, pairs: Sequence[Pair], question: Question, resources: Resources
) -> Rearranged:
    """Keep whole kernel matrices."""
    work = Workload.of(selected, pairs)
    tiles = open_tiles(
        _source(selected, question),
        lambda n_rows: _tile_plan(work.over(n_rows), question, resources),
    )
    keep = KeptKernels(tiles.n_rows, range(len(selected.spaces)))
    (kernels,) = run_tiles(tiles, [keep], resources, _silent)
    return BetweenKernels(kernels, tiles.clusters, pairs)


def _source(selected: SelectedRows, question: Question) -> TileSource:
    """Return what the tiles are formed of."""
    return TileSource(
        selected.spaces,
        selected.rows,
        selected.clusters,
        selected.names,
        _kernel(question),
        question.precision,
        question.seed,
    )


def _kernel(question: Question) -> TileKernel:
    """Return the kernel of the tiles."""
    width = question.bandwidth if question.kernel == "rbf" else None
    return tile_kernel(question.kernel, bandwidth=width)


def _tile_plan(work: Workload, question: Question, resources: Resources) -> TilePlan:
    """Plan the tiles that kernels are kept of."""
    value = _FLOAT[question.precision]
    return plan_tiles(
        work,
        _kernel(question),
        allowed=resources.allowed,
        precision=question.precision,
        reducer_bytes=lambda rows: plan_kernels(work.n_rows, work.n_spaces, rows, value).needed,
        host=resources.host,
    )


def _tiles(work: Workload, question: Question, resources: Resources, *, panel_rows: int) -> int:
    """Return the bytes of a tile pass of short panels, none of them kept."""
    return plan_tiles(
        work,
        _kernel(question),
        allowed=np.iinfo(np.int64).max,
        precision=question.precision,
        panel_rows=panel_rows,
        host=resources.host,
    ).memory.needed


def _silent(count: int) -> None:
    """Tell nobody: permutations are what is counted."""
