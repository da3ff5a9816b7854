"""What is asked of one kernel by tiles, and what its passes take: bytes and multiply-adds.

A statistic is imported where a job asks for it: planning RSA needs none of ranks and neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from layerlake.analyses.similarity.features.moment_state import with_own
from layerlake.analyses.similarity.features.planning import SPACE_COST
from layerlake.analyses.similarity.question import RANKED_SCORES, Question
from layerlake.analyses.similarity.tiles.planning import TilePlan, plan_tiles
from layerlake.analyses.similarity.tiles.sums import (
    sums_cost,
    sums_memory,
)
from layerlake.analyses.similarity.tiles.tile_kernels import STRIP_ROWS, TileKernel, tile_kernel
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.memory import MemoryPlan
from layerlake.engine.passes.resources import Resources
from layerlake.engine.workers.scheduler_names import workers_here
from layerlake.engine.workers.schedulers import plan_workers
from layerlake.store.errors import InvalidInput, MemoryRefused

SUMS: Final = "sums"
BOOTSTRAP: Final = "bootstrap"
NEIGHBOURS: Final = "neighbours"
CKA: Final = "cka"
NEIGHBOUR_MEASURES: Final = ("mutual-knn", "cknna")
CKA_MEASURES: Final = ("rbf-cka", "debiased-rbf-cka")

_ROW_COST: Final = 350
"""Multiply-adds of a fast product that a value of a row takes as long as until tiles are formed."""


@dataclass(frozen=True, slots=True)
class TiledJob:
    """One kernel and what is asked of its tiles."""

    kernel: TileKernel
    tasks: tuple[str, ...]
    """Of `sums`, `bootstrap`, `spearman`, `kendall`, `neighbours`, `cka`."""
    question: Question

    @property
    def clustered(self) -> bool:
        """Whether clusters are left out for intervals."""
        return self.question.interval in ("cluster", "rows")

    @property
    def passes(self) -> int:
        """How often all rows are gone through: a first look, and each pass over the tiles."""
        ranked = any(task in RANKED_SCORES for task in self.tasks)
        return 2 + ranked + ("kendall" in self.tasks and self.clustered)


def tiled_jobs(question: Question, *, sums: bool) -> list[TiledJob]:
    """List the kernels whose tiles a question needs; `sums` if its Pearson or cosine come of them."""
    tasks: list[str] = []
    if sums:
        tasks.append(SUMS)
    if question.interval == "bootstrap":
        tasks.append(BOOTSTRAP)
    if question.ranked:
        tasks.append(question.score)
    jobs = []
    if tasks:
        width = question.bandwidth if question.kernel == "rbf" else None
        jobs.append(TiledJob(tile_kernel(question.kernel, bandwidth=width), tuple(tasks), question))
    if any(measure in NEIGHBOUR_MEASURES for measure in question.measures):
        jobs.append(TiledJob(tile_kernel("cosine"), (NEIGHBOURS,), question))
    if any(measure in CKA_MEASURES for measure in question.measures):
        kernel = tile_kernel("rbf", bandwidth=question.bandwidth)
        jobs.append(TiledJob(kernel, (CKA,), question))
    merged: dict[TileKernel, TiledJob] = {}
    for job in jobs:
        other = merged.get(job.kernel)
        merged[job.kernel] = job if other is None else replace(other, tasks=other.tasks + job.tasks)
    return list(merged.values())


def plan_job(job: TiledJob, work: Workload, resources: Resources) -> TilePlan:
    """Plan the tiles of a job, for each of the workers.

    Raises
    ------
    MemoryRefused
        They need more than is allowed.
    """
    allowed, refused = resources.each_allowed, None
    while True:
        try:
            plan = plan_tiles(
                work,
                job.kernel,
                allowed=allowed,
                precision=job.question.precision,
                reducer_bytes=partial(_held, job, work, False),
                likely_bytes=partial(_held, job, work, True),
                ended_bytes=_ended(job, work),
                host=resources.host,
            )
        except MemoryRefused as error:
            raise refused or error from None
        try:
            job_memory(job, work, resources, plan).within(
                resources.allowed,
                f"comparing {work.n_spaces} spaces over {work.n_rows} rows by tiles",
                "allow more memory, or take fewer workers",
            )
        except MemoryRefused as error:
            # Tiles that take less of each worker may leave enough for the states handed over.
            refused, allowed = error, allowed * 3 // 4
        else:
            return plan


def job_memory(job: TiledJob, work: Workload, resources: Resources, plan: TilePlan) -> MemoryPlan:
    """Say what all workers of this machine hold at once while a job runs by a plan of its tiles."""
    memory = plan.memory
    if resources.scheduler is None:
        return MemoryPlan({"tiles": memory.peak})
    state = _state(job, work.over(plan.n_rows))
    workers = plan_workers(
        memory.needed,
        state,
        scheduler=resources.scheduler,
        workers=resources.workers,
        parts=len(plan.panels),
    )
    if resources.scheduler not in ("threads", "processes"):  # the first look is taken here
        return MemoryPlan(workers.parts | {"tiles": memory.peak})
    # Threads share the panels kept, processes keep their own beside those of the first look.
    count = workers_here(resources.workers) if resources.scheduler == "processes" else 0
    own = memory.needed if resources.scheduler == "processes" else 0
    return MemoryPlan(
        workers.parts | {"panels kept": (count + 1) * memory.reserve, "first look": own}
    )


def _state(job: TiledJob, work: Workload) -> int:
    """Return the most bytes of what a worker hands over: the sums of its row panels."""
    spaces, clusters, pairs, n_rows = work.n_spaces, work.n_clusters, work.pairs, work.n_rows
    value = 8 if job.question.precision == "float64" else 4
    quantities = spaces + len(with_own(spaces, pairs))
    sums = 8 * clusters * (quantities * (2 if job.clustered else 1) + 1)
    first = later = 0
    if SUMS in job.tasks:
        first += sums
    if BOOTSTRAP in job.tasks:
        from layerlake.analyses.similarity.tiles.bootstrap import plan_bootstrap

        plan = plan_bootstrap(pairs, work.cluster_sizes, job.question.resamples, 1)
        first += sum(plan.parts.get(name, 0) for name in ("cluster sums", "resample sums"))
    if NEIGHBOURS in job.tasks:
        from layerlake.analyses.similarity.tiles.neighbour_ties import (
            kept_neighbours,
            ties_state_bytes,
        )

        kept = kept_neighbours(job.question.neighbours, n_rows)
        first += spaces * n_rows * (kept * (value + 8) + value)
        found = "cknna" in job.question.measures
        later = ties_state_bytes(spaces, len(pairs), n_rows, cknna=found)
    if CKA in job.tasks:
        from layerlake.analyses.similarity.tiles.kernel_cka import GROUPS

        groups = GROUPS if job.clustered else 1
        first += 8 * (n_rows * (spaces * (groups + 1) + 1) + quantities * groups**2)
    if any(task in RANKED_SCORES for task in job.tasks):
        from layerlake.analyses.similarity.tiles.histograms import MOST_CELLS

        first += MOST_CELLS * spaces * (8 + 2 * value)
    if "spearman" in job.tasks:
        later = max(later, sums)
    if "kendall" in job.tasks:
        from layerlake.analyses.similarity.tiles.kendall import BINS

        later = len(pairs) * max(8 * BINS**2, 8 * clusters)
    return max(first, later)


def job_cost(job: TiledJob, work: Workload) -> float:
    """Return about how many multiply-adds of a fast matrix product a job takes as long as."""
    n, pairs = work.n_rows, work.pairs
    spaces, width = work.n_spaces, sum(work.widths)
    each = n * (n - 1) / 2
    wide = 2 if job.question.precision == "float64" else 1
    cost = each * width * wide * (job.passes - 1)
    cost += _ROW_COST * n * width + SPACE_COST * spaces
    if SUMS in job.tasks or "spearman" in job.tasks:
        cost += sums_cost(n, spaces, pairs, intervals=job.clustered)
    if any(task in RANKED_SCORES for task in job.tasks):
        cost += each * (300 * spaces + 200 * len(pairs))  # a look-up or a count takes so long
    if BOOTSTRAP in job.tasks:
        cost += each * len(pairs) * 5 * min(job.question.resamples / 2, 500)
    return cost


def _held(job: TiledJob, work: Workload, likely: bool, panel_rows: int) -> int:
    """Return the bytes that the accumulators of a job hold, in the pass that holds most.

    With `likely`, on ordinary data: few values repeat and none lies far out.
    """
    spaces, clusters, pairs, n_rows = work.n_spaces, work.n_clusters, work.pairs, work.n_rows
    precision = job.question.precision
    value = 8 if precision == "float64" else 4
    first = later = tied = 0
    if SUMS in job.tasks:
        intervals = job.clustered
        first += sums_memory(spaces, pairs, clusters, intervals=intervals, precision=precision)(
            panel_rows
        )
    if BOOTSTRAP in job.tasks:
        from layerlake.analyses.similarity.tiles.bootstrap import plan_bootstrap

        count = job.question.resamples
        plan = plan_bootstrap(pairs, work.cluster_sizes, count, panel_rows, value_bytes=value)
        first += plan.needed
    if NEIGHBOURS in job.tasks:
        from layerlake.analyses.similarity.tiles.neighbour_ties import kept_neighbours, ties_bytes
        from layerlake.analyses.similarity.tiles.neighbours import neighbour_bytes

        k = kept_neighbours(job.question.neighbours, n_rows)
        first += neighbour_bytes(spaces, n_rows, k, panel_rows, value_bytes=value, likely=likely)
        if not likely:
            ranked = spaces * n_rows * (k * (value + 8) + 32)
            found = "cknna" in job.question.measures
            tied = ranked + ties_bytes(spaces, len(pairs), n_rows, panel_rows, cknna=found)
    if CKA in job.tasks:
        from layerlake.analyses.similarity.tiles.kernel_cka import GROUPS, cka_memory

        groups = GROUPS if job.clustered else 1
        held = cka_memory(n_rows, spaces, pairs, n_groups=groups, precision=precision)
        first += held(panel_rows)
    if any(task in RANKED_SCORES for task in job.tasks):
        from layerlake.analyses.similarity.tiles.histograms import histogram_bytes

        first += histogram_bytes(spaces, panel_rows, value_bytes=value, likely=likely)
    if "spearman" in job.tasks:
        from layerlake.analyses.similarity.tiles.spearman import entries_at_once, rank_bytes

        later = rank_bytes(spaces, panel_rows, value_bytes=value, likely=likely)
        # Ranks come in panels of so many entries, not in tiles.
        strip = min(panel_rows, entries_at_once(spaces) // STRIP_ROWS) if likely else panel_rows
        later += sums_memory(spaces, pairs, clusters, intervals=job.clustered, precision="float64")(
            strip
        )
    if "kendall" in job.tasks:
        from layerlake.analyses.similarity.tiles.kendall import BINS, joint_bytes
        from layerlake.analyses.similarity.tiles.kendall_deletions import deletion_bytes

        later = joint_bytes(spaces, len(pairs), panel_rows, value_bytes=value, likely=likely)
        later += deletion_bytes(len(pairs), clusters, bins=BINS) if job.clustered else 0
    return max(first, later, tied)


def _ended(job: TiledJob, work: Workload) -> int:
    """Return the bytes that a job holds once its tiles are gone, beside panels that are kept."""
    spaces, clusters, pairs, n_rows = work.n_spaces, work.n_clusters, work.pairs, work.n_rows
    value = 8 if job.question.precision == "float64" else 4
    ended = 0
    if NEIGHBOURS in job.tasks:
        from layerlake.analyses.similarity.tiles.neighbour_agreement import agreement_bytes
        from layerlake.analyses.similarity.tiles.neighbour_ties import kept_neighbours
        from layerlake.analyses.similarity.tiles.neighbours import neighbours_found_bytes

        k = kept_neighbours(job.question.neighbours, n_rows)
        found = "cknna" in job.question.measures
        held = n_rows * spaces * (k * (value + 8) + 32)
        ended = max(
            neighbours_found_bytes(spaces, n_rows, k, value_bytes=value),
            held + agreement_bytes(n_rows, k, cknna=found),
        )
    if "kendall" in job.tasks:
        from layerlake.analyses.similarity.tiles.kendall import BINS, tau_bytes
        from layerlake.analyses.similarity.tiles.kendall_deletions import deletion_bytes

        ended = max(ended, tau_bytes(spaces, len(pairs)))
        ended += deletion_bytes(len(pairs), clusters, bins=BINS) if job.clustered else 0
    return ended


def check_neighbours(question: Question, n_rows: int) -> None:
    """Refuse more neighbours than there are other rows."""
    asked = any(measure in NEIGHBOUR_MEASURES for measure in question.measures)
    if asked and question.neighbours >= n_rows:
        raise InvalidInput(
            f"{question.neighbours} neighbours of each of {n_rows} rows are asked for; give at "
            f"most {n_rows - 1} neighbours, or more rows"
        )
    if "cknna" in question.measures and question.neighbours < 2:
        raise InvalidInput(
            "cknna of one neighbour of each row is not defined; give at least 2 neighbours"
        )
