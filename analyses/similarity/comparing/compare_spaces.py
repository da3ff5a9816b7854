"""Every measure of any pairs of spaces: which passes that takes, and what comes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.results.record import Counts
from layerlake.analyses.similarity.estimates import (
    Estimate,
    PairValues,
    form_estimates,
    rsa_estimates,
    rsa_names,
)
from layerlake.analyses.similarity.features.group import group_of, plan_group
from layerlake.analyses.similarity.features.kernels import kernel_named
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.features.planning import FormsAsked, features_cost
from layerlake.analyses.similarity.features.rsa_value import Deletions
from layerlake.analyses.similarity.question import INFLUENCED, Question
from layerlake.analyses.similarity.tiles.jobs import (
    TiledJob,
    check_neighbours,
    job_cost,
    job_memory,
    plan_job,
    tiled_jobs,
)
from layerlake.analyses.similarity.workload import Workload
from layerlake.analyses.statistics.jackknife import FEW_CLUSTERS, ONE_CLUSTER, few_clusters
from layerlake.engine.passes.devices import spaces_on, working_on
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import SelectedRows, without_rows
from layerlake.store.errors import InvalidInput, MemoryRefused

if TYPE_CHECKING:
    from layerlake.analyses.similarity.closed_forms.left_out import FormValue
    from layerlake.analyses.similarity.permutations.pair_tests import PairTestPlan


@dataclass(frozen=True, slots=True)
class FeatureJob:
    """One pass over features and what is made of its moments."""

    kernel: str
    rsa: bool
    forms: tuple[str, ...]
    precision: str
    clustered: bool
    batches: int
    """Passes for the influence of clusters on forms that have a derivative."""

    @property
    def passes(self) -> int:
        """How often all rows are gone through."""
        grouped = any(name not in INFLUENCED for name in self.forms)
        return 1 + self.clustered * (self.rsa + grouped + self.batches)

    def asked(self, hiddens: Sequence[int], pairs: Sequence[Pair]) -> FormsAsked | None:
        """Return what is made of the moments beside RSA."""
        if not self.forms:
            return None
        if not self.clustered:
            return FormsAsked(self.forms)
        from layerlake.analyses.similarity.closed_forms.influence_intervals import batches_of

        return FormsAsked(
            self.forms,
            tuple(name for name in self.forms if name not in INFLUENCED),
            sum(name in INFLUENCED for name in self.forms),
            tuple(tuple(batch) for batch in batches_of(self.forms, hiddens, pairs)),
        )


@dataclass(frozen=True)
class Plan:
    """How a comparison will be made, and what that takes."""

    n_pairs: int
    method: str
    """Of RSA: `features`, `tiles`, or `` where no RSA is asked for."""
    why: str
    """Why that one."""
    features: tuple[FeatureJob, ...]
    tiled: tuple[TiledJob, ...]
    bytes_held: int
    """At the peak, of what the passes hold on ordinary data; never more than is allowed."""
    bytes_read: int
    multiply_adds: float
    """Of fast matrix products, or what takes as long."""
    tests: PairTestPlan | None = None
    """Of permutations, where any are asked for; they come after the passes."""

    @property
    def passes(self) -> int:
        """How often all rows are gone through."""
        return sum(job.passes for job in self.features) + sum(job.passes for job in self.tiled)


def plan_comparison(
    selected: SelectedRows, pairs: Sequence[Pair], question: Question, resources: Resources
) -> Plan:
    """Choose between features and tiles, and say what the passes take.

    Raises
    ------
    InvalidInput
        An interval over rows of rows that share clusters; more neighbours than rows.
    MemoryRefused
        No way of answering fits into the memory allowed.
    """
    if question.interval == "rows" and (selected.lengths > 1).any():
        raise InvalidInput(
            f"{selected.n_rows} rows come from {len(selected.lengths)} clusters, and an interval "
            "over rows would be far too narrow where rows of one cluster are alike; ask for cluster"
        )
    check_neighbours(question, selected.n_rows)
    work = Workload.of(selected, pairs)
    if not question.summed:
        method, why = ("tiles", "ranks need every pair") if question.ranked else ("", "")
        return _planned(work, question, resources, method, why)
    if question.tiled_kernel:
        why = f"the {question.kernel} kernel has no features"
        return _planned(work, question, resources, "tiles", why)
    if question.interval == "bootstrap":
        why = "the bootstrap weighs every pair of clusters"
        return _planned(work, question, resources, "tiles", why)
    if question.method != "auto":
        return _planned(work, question, resources, question.method, "asked for")
    plans, refused = [], None
    for method in ("features", "tiles"):
        try:
            plans.append(_planned(work, question, resources, method, ""))
        except MemoryRefused as error:
            refused = refused or error
    if not plans:
        assert refused is not None
        raise refused
    best = min(plans, key=lambda plan: plan.multiply_adds)
    if len(plans) == 1:
        return replace(best, why="the other does not fit into the memory allowed")
    other = max(plans, key=lambda plan: plan.multiply_adds)
    ratio = other.multiply_adds / max(best.multiply_adds, 1.0)
    return replace(best, why=f"{other.method} would take about {ratio:.1f} times as long")


def _planned(
    work: Workload,
    question: Question,
    resources: Resources,
    method: str,
    why: str,
) -> Plan:
    """Plan the passes, with RSA by one method."""
    clustered = question.interval in ("cluster", "rows")
    forms = question.forms
    hiddens, pairs = work.widths, work.pairs
    exact, batches = False, 0
    if forms:
        from layerlake.analyses.similarity.closed_forms.influence_intervals import batches_of
        from layerlake.analyses.similarity.closed_forms.registry import form_named

        exact = any(form_named(name).needs_float64 for name in forms)
        batches = len(batches_of(forms, hiddens, pairs))
    jobs: list[FeatureJob] = []
    if question.summed and method == "features":
        own = forms if question.kernel == "sqeuclidean" else ()
        precision = "float64" if own and exact else question.precision
        jobs.append(
            FeatureJob(str(question.kernel), True, own, precision, clustered, batches if own else 0)
        )
        forms = () if own else forms
    if forms:
        precision = "float64" if exact else question.precision
        jobs.append(FeatureJob("sqeuclidean", False, forms, precision, clustered, batches))
    tiled = tiled_jobs(question, sums=question.summed and method == "tiles")
    held, read, operations = 0, 0, 0.0
    for job in jobs:
        plan = plan_group(
            work,
            resources,
            interval=job.rsa and clustered,
            precision=job.precision,
            forms=job.asked(hiddens, pairs),
        ).within(
            resources.allowed,
            f"comparing {work.n_spaces} spaces over {work.n_rows} rows",
            "allow more memory, or compare fewer variants at a time",
        )
        held = max(held, plan.peak)
        # What is kept between passes is not read again.
        kept = min(plan.reserve / max(4 * sum(hiddens) * work.n_rows, 1), 1.0)
        again = job.passes - 1
        read += int(work.row_bytes * work.n_rows * (1 + again * (1 - kept * job.rsa)))
        operations += features_cost(work, passes=job.passes, precision=job.precision)
        if job.forms:
            from layerlake.analyses.similarity.closed_forms.registry import forms_cost
            from layerlake.analyses.statistics.group_jackknife import GROUPS

            grouped = [name for name in job.forms if name not in INFLUENCED]
            operations += forms_cost(job.forms, hiddens, pairs)
            operations += clustered * GROUPS * forms_cost(grouped, hiddens, pairs)
    for tile_job in tiled:
        tile_plan = plan_job(tile_job, work, resources)
        memory = tile_plan.memory
        if resources.scheduler is not None:
            memory = job_memory(tile_job, work, resources, tile_plan)
        held = max(held, memory.likely)
        read += tile_plan.first_bytes + (tile_job.passes - 1) * tile_plan.pass_bytes
        operations += job_cost(tile_job, work)
    tests = None
    if question.permutations:
        from layerlake.analyses.similarity.permutations.pair_tests import plan_pair_tests

        tests = plan_pair_tests(work, question, resources)
        held, read = max(held, tests.bytes_held), read + tests.bytes_read
        operations += tests.multiply_adds
    return Plan(len(pairs), method, why, tuple(jobs), tuple(tiled), held, read, operations, tests)


def compare_selected(
    selected: SelectedRows,
    pairs: Sequence[Pair],
    question: Question,
    resources: Resources,
    *,
    plan: Plan | None = None,
    deletions: Deletions | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_dropped: Callable[[NDArray[np.int64]], None] | None = None,
) -> dict[Pair, PairValues]:
    """Answer a question about pairs of spaces over the same rows.

    Parameters
    ----------
    selected
        The spaces and rows.
    pairs
        Places of two different spaces each; the first is the reference.
    question
        What is asked, as `question.check_question` returned it.
    resources
        Where it is answered, and with how much memory.
    plan
        As `plan_comparison` returned it.
    deletions
        Where the Pearson or cosine values of each pair with each cluster left out are put, of pairs
        that have an interval by the jackknife.
    on_progress
        Called with rows gone through, `plan.passes` times all of them in the end.
    on_dropped
        Called with positions of rows that a kernel cannot take; the same ones may come again.

    Raises
    ------
    InvalidInput
        Fewer than 4 rows are left, or a row holds NaN or infinity.
    MemoryRefused
        More memory is needed than is allowed.
    """
    chosen = plan or plan_comparison(selected, pairs, question, resources)
    report = on_progress or (lambda rows: None)
    placed = replace(selected, spaces=spaces_on(resources.device, selected.spaces))
    estimates: dict[Pair, dict[str, Estimate]] = {pair: {} for pair in pairs}
    notes: dict[Pair, dict[str, None]] = {pair: {} for pair in pairs}
    sizes: NDArray[np.int64] | None = None

    def add(pair: Pair, found: Sequence[Estimate], said: Sequence[str]) -> None:
        """Take note of estimates of a pair."""
        estimates[pair].update({estimate.measure: estimate for estimate in found})
        notes[pair].update(dict.fromkeys(said))

    lost = np.zeros(selected.n_rows, dtype=np.bool_)

    def lose(positions: NDArray[np.int64]) -> None:
        """Take note of rows that a kernel cannot take."""
        lost[positions] = True
        if on_dropped is not None:
            on_dropped(positions)

    device = None if resources.device.kind == "cpu" else resources.allowed
    with working_on(resources.device, device if resources.scheduler is None else None):
        jobs: list[FeatureJob | TiledJob] = [*chosen.features, *chosen.tiled]
        for job in sorted(jobs, key=_strictness):
            # Rows that an earlier kernel cannot take are no rows of this comparison, and count as
            # gone through. No later kernel drops others, so positions are those of the selection.
            left = without_rows(placed, lost) if lost.any() else placed
            report(job.passes * int(lost.sum()))
            if isinstance(job, TiledJob):
                from layerlake.analyses.similarity.tiles.pair_values import tiled_values

                values, own = tiled_values(
                    job, left, pairs, resources, report, lose, deletions=deletions
                )
                for pair, (found, said) in values.items():
                    add(pair, found, said)
            else:
                own = _run_features(
                    job, left, pairs, question, resources, report, lose, deletions, add
                )
            sizes = own if sizes is None else sizes
    assert sizes is not None
    counts = Counts.of(sizes, selected.n_rows - int(sizes.sum()))
    order = _order(question)
    answers = {}
    for pair, named in estimates.items():
        ordered = tuple(named[name] for name in order if name in named)
        few = _few(ordered, counts.n_clusters, question.interval)
        answers[pair] = PairValues(ordered, counts, tuple(dict.fromkeys([*notes[pair], *few])))
    return answers


def _few(estimates: Sequence[Estimate], n_clusters: int, interval: str) -> list[str]:
    """Say where clusters are too few for the intervals of a pair, whatever its measures."""
    if interval not in ("cluster", "rows"):
        return []
    if n_clusters < 2 and not all(math.isnan(estimate.value) for estimate in estimates):
        return [ONE_CLUSTER]
    if n_clusters < FEW_CLUSTERS and any(estimate.low is not None for estimate in estimates):
        return [few_clusters(n_clusters)]
    return []


def _strictness(job: FeatureJob | TiledJob) -> int:
    """Rank jobs so that those come first whose kernels can take the fewest rows.

    What `cosine` cannot take `correlation` cannot either; the other kernels take every row.
    """
    kernel = job.kernel.rows if isinstance(job, TiledJob) else kernel_named(job.kernel)
    return 0 if kernel.centred else 1 if kernel.unit else 2


def _order(question: Question) -> list[str]:
    """Return the names of estimates in the order of the measures asked for."""
    names: list[str] = []
    for measure in question.measures:
        names += rsa_names(question.score) if measure == "rsa" else [measure]
    return names


def _run_features(
    job: FeatureJob,
    selected: SelectedRows,
    pairs: Sequence[Pair],
    question: Question,
    resources: Resources,
    report: Callable[[int], None],
    on_dropped: Callable[[NDArray[np.int64]], None] | None,
    deletions: Deletions | None,
    add: Callable[[Pair, Sequence[Estimate], Sequence[str]], None],
) -> NDArray[np.int64]:
    """Run the passes of a job over features; return the rows of each cluster left."""
    from layerlake.analyses.similarity.features.first_pass import first_pass
    from layerlake.analyses.similarity.features.pair_values import rsa_values

    group = group_of(
        selected,
        pairs,
        kernel_named(job.kernel),
        resources,
        interval=job.rsa and job.clustered,
        precision=job.precision,
        forms=job.asked([space.shape[1] for space in selected.spaces], pairs),
        on_dropped=on_dropped,
    )
    first = first_pass(
        group, job.precision, report, by_cluster=job.rsa, keep=job.rsa and job.clustered
    )
    interval = question.interval if job.clustered else "none"
    sizes = first.state.sizes if job.rsa else selected.lengths
    forms: Mapping[Pair, dict[str, FormValue]] = {}
    if job.forms:
        from layerlake.analyses.similarity.closed_forms.pair_values import form_values

        forms = form_values(
            first, job.forms, interval=interval, confidence=question.confidence, report=report
        )
        for pair, found in forms.items():
            said = [note for value in found.values() for note in value.notes]
            add(pair, form_estimates(found, job.forms), said)
    if job.rsa:
        values = rsa_values(
            first,
            score=question.score,
            interval=interval,
            confidence=question.confidence,
            report=report,
            deletions=deletions,
        )
        for pair, value in values.items():
            add(pair, rsa_estimates(value, question.score), value.notes)
    return sizes
