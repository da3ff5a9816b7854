"""The passes over the tiles of one kernel, and the values they end in.

A statistic is imported where a job asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.estimates import Estimate, ends_of, rsa_estimates
from layerlake.analyses.similarity.features.dissimilarity import (
    along,
    leaving_along,
    line_of_tiles,
    pairs_along,
)
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.features.rsa_value import (
    Deletions,
    RsaValue,
    correlation,
    cosine,
    deleted_values,
    value_of,
)
from layerlake.analyses.similarity.question import RANKED_SCORES
from layerlake.analyses.similarity.tiles.jobs import (
    BOOTSTRAP,
    CKA,
    NEIGHBOUR_MEASURES,
    NEIGHBOURS,
    SUMS,
    TiledJob,
    check_neighbours,
    plan_job,
)
from layerlake.analyses.similarity.tiles.sums import (
    PairedSums,
    TileSums,
    varying,
)
from layerlake.analyses.similarity.tiles.tile_pass import TilePass, TileSource, open_tiles
from layerlake.analyses.similarity.tiles.tile_run import run_tiles
from layerlake.analyses.similarity.workload import Workload
from layerlake.analyses.statistics.jackknife import jackknife
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import SelectedRows

if TYPE_CHECKING:
    from layerlake.analyses.similarity.tiles.histograms import Histogram
    from layerlake.analyses.similarity.tiles.neighbour_ties import Ranked, WeighedSums
    from layerlake.analyses.similarity.tiles.resampled_clusters import Resamples

MOST_CERTAIN: Final = 0.9995
"""Share of certain neighbours up to which a note speaks of ties."""

Valued = dict[Pair, tuple[list[Estimate], list[str]]]
"""Estimates and notes of each pair."""


def tiled_values(
    job: TiledJob,
    selected: SelectedRows,
    pairs: Sequence[Pair],
    resources: Resources,
    report: Callable[[int], None],
    on_dropped: Callable[[NDArray[np.int64]], None] | None,
    *,
    deletions: Deletions | None = None,
) -> tuple[Valued, NDArray[np.int64]]:
    """Run the passes of a job and return its values, and the rows of each cluster left.

    Where `deletions` is given, the values of sums without each cluster are put there.

    Raises
    ------
    InvalidInput, MemoryRefused
        As `open_tiles`, and as the accumulators.
    """
    question = job.question
    source = TileSource(
        selected.spaces,
        selected.rows,
        selected.clusters,
        selected.names,
        job.kernel,
        question.precision,
        question.seed,
    )
    sizes_of = Workload.of(selected, pairs)
    tiles = open_tiles(
        source,
        lambda n_rows: plan_job(job, sizes_of.over(n_rows), resources),
        on_read=report,
        on_dropped=on_dropped,
    )
    sizes = np.bincount(tiles.clusters, minlength=tiles.n_clusters)
    accumulators: dict[str, Any] = {}
    if SUMS in job.tasks:
        accumulators[SUMS] = TileSums(tiles, pairs, intervals=job.clustered)
    if BOOTSTRAP in job.tasks:
        from layerlake.analyses.similarity.tiles.bootstrap import cluster_bootstrap

        accumulators[BOOTSTRAP] = cluster_bootstrap(pairs, sizes, question.resamples, question.seed)
    if NEIGHBOURS in job.tasks:
        from layerlake.analyses.similarity.tiles.neighbour_ties import kept_neighbours
        from layerlake.analyses.similarity.tiles.neighbours import NearestNeighbours

        check_neighbours(question, tiles.n_rows)  # rows may have been dropped
        accumulators[NEIGHBOURS] = NearestNeighbours(
            selected.names, tiles.n_rows, kept_neighbours(question.neighbours, tiles.n_rows)
        )
    if CKA in job.tasks:
        from layerlake.analyses.similarity.tiles.kernel_cka import GROUPS, TileCka

        groups = GROUPS if job.clustered else 1
        accumulators[CKA] = TileCka(tiles, pairs, n_groups=groups)
    if any(task in RANKED_SCORES for task in job.tasks):
        from layerlake.analyses.similarity.tiles.histograms import KernelHistograms

        accumulators["histograms"] = KernelHistograms(selected.names)
    found = dict(
        zip(
            accumulators,
            run_tiles(tiles, list(accumulators.values()), resources, report),
            strict=True,
        )
    )
    values: Valued = {pair: ([], []) for pair in pairs}
    work = _Work(job, tiles, pairs, resources, report, values, deletions)
    if SUMS in job.tasks:
        work.add_sums(found[SUMS], found.get(BOOTSTRAP))
    if "spearman" in job.tasks:
        work.add_spearman(found["histograms"])
    if "kendall" in job.tasks:
        work.add_kendall(found["histograms"])
    if NEIGHBOURS in job.tasks:
        work.add_neighbours(found[NEIGHBOURS])
    if CKA in job.tasks:
        work.add_cka(found[CKA])
    return values, sizes


@dataclass(slots=True)
class _Work:
    """Turns what passes finish with into values; more passes where ranks need them."""

    job: TiledJob
    tiles: TilePass
    pairs: Sequence[Pair]
    resources: Resources
    report: Callable[[int], None]
    values: Valued
    deletions: Deletions | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the spaces."""
        return self.tiles.source.names

    def _valued(self, pair: Pair, found: PairedSums, constant: Sequence[str]) -> RsaValue:
        """Return the value of sums of one pair."""
        question = self.job.question
        return value_of(
            found.sums,
            found.leaving,
            interval=question.interval if self.job.clustered else "none",
            confidence=question.confidence,
            kernel=self.job.kernel.name,
            score=question.score,
            constant=constant,
            distance=self.job.kernel.function is None and self.job.kernel.name != "linear",
        )

    def _same(self, s: int, t: int) -> list[str]:
        """Return the names of those of two spaces whose rows are all the same."""
        return [self.names[u] for u in dict.fromkeys((s, t)) if not self.tiles.varies[u]]

    def _flat(self, histograms: Sequence[Histogram]) -> list[bool]:
        """Say of each space whether its kernel is the same for all pairs of rows but for rounding.

        Such a kernel has ranks, and they are those of the rounding.
        """
        precision = self.job.question.precision
        return [
            not varies or counted.span <= kernel.rounding(square, counted.largest, precision)
            for varies, counted, kernel, square in zip(
                self.tiles.varies, histograms, self.tiles.kernels, self.tiles.squares, strict=True
            )
        ]

    def _add(self, pair: Pair, estimates: Sequence[Estimate], notes: Sequence[str]) -> None:
        """Add to the values of a pair."""
        self.values[pair][0].extend(estimates)
        self.values[pair][1].extend(note for note in notes if note not in self.values[pair][1])

    def add_sums(self, found: dict[Pair, PairedSums], resamples: Resamples | None) -> None:
        """Add Pearson or cosine, with the intervals of the jackknife or of resamples."""
        question = self.job.question
        lines = [line_of_tiles(kernel) for kernel in self.tiles.kernels]
        for s, t in self.pairs:
            sums, leaving = found[s, t]
            flat = varying(sums, question.precision, (self.tiles.centres[s], self.tiles.centres[t]))
            constant = [
                self.names[u]
                for u, varies in zip((s, t), flat, strict=True)
                if not self.tiles.varies[u] or (not varies and question.score == "pearson")
            ]
            if question.score == "cosine":
                if leaving is not None:
                    leaving = leaving_along(leaving, sums, lines[s], lines[t])
                sums = pairs_along(sums, lines[s], lines[t])
            if self.deletions is not None and leaving is not None and not constant:
                self.deletions[s, t] = deleted_values(sums, leaving, question.score)
            value = self._valued((s, t), PairedSums(sums, leaving), constant)
            notes = list(value.notes)
            if resamples is not None and not constant:
                from layerlake.analyses.similarity.tiles.resampled_clusters import bootstrap_value

                score = correlation
                if question.score == "cosine":
                    score = partial(_cosine_along, left=lines[s], right=lines[t])
                drawn = bootstrap_value(
                    resamples,
                    s,
                    t,
                    n_clusters=value.n_clusters,
                    confidence=question.confidence,
                    score=score,
                )
                value = replace(
                    value,
                    r_all_low=drawn.r_all_low,
                    r_all_high=drawn.r_all_high,
                    # What is not defined has no interval, whatever rounding the resamples hold.
                    r_between_low=None if value.r_between is None else drawn.r_between_low,
                    r_between_high=None if value.r_between is None else drawn.r_between_high,
                )
                notes += [note for note in drawn.notes if note not in notes]
            self._add((s, t), rsa_estimates(value, question.score), notes)

    def add_spearman(self, histograms: tuple[Histogram, ...]) -> None:
        """Look ranks up in a second pass, and correlate them."""
        from layerlake.analyses.similarity.tiles.spearman import Ranked, RankTable, spearman_value

        question = self.job.question
        tables = [RankTable.of(histogram) for histogram in histograms]
        plain = replace(self.tiles, centres=(0.0,) * len(tables))
        sums = TileSums(plain, self.pairs, intervals=self.job.clustered)
        (found,) = run_tiles(self.tiles, [Ranked(tables, sums)], self.resources, self.report)
        flat = self._flat(histograms)
        for s, t in self.pairs:
            value, bound = spearman_value(
                found[s, t].sums,
                found[s, t].leaving,
                (tables[s], tables[t]),
                names=(self.names[s], self.names[t]),
                interval=question.interval if self.job.clustered else "none",
                confidence=question.confidence,
                kernel=self.job.kernel.name,
                constant=[self.names[u] for u in dict.fromkeys((s, t)) if flat[u]],
            )
            limit = None if math.isnan(bound) else bound
            self._add((s, t), rsa_estimates(value, "spearman", limit), value.notes)

    def add_kendall(self, histograms: tuple[Histogram, ...]) -> None:
        """Count joint bins in a second pass; leave clusters out in a third."""
        from layerlake.analyses.similarity.tiles.kendall import (
            JointHistograms,
            QuantileBins,
            tau_of,
        )
        from layerlake.analyses.similarity.tiles.kendall_deletions import KendallDeletions

        question, pairs = self.job.question, list(self.pairs)
        bins = [QuantileBins.of(histogram) for histogram in histograms]
        (joints,) = run_tiles(
            self.tiles, [JointHistograms(bins, pairs)], self.resources, self.report
        )
        deleted: list[NDArray[np.float64] | None] = [None] * len(pairs)
        if self.job.clustered:
            deletion = KendallDeletions(bins, pairs, joints, self.tiles.n_clusters)
            (deleted,) = run_tiles(self.tiles, [deletion], self.resources, self.report)
        left = np.bincount(self.tiles.clusters, minlength=self.tiles.n_clusters) > 0
        flat = self._flat(histograms)
        for pair, joint, without in zip(pairs, joints, deleted, strict=True):
            tau = tau_of(joint, bins[pair[0]], bins[pair[1]])
            # A kernel of one value has all its entries in one bin.
            one_bin = [np.count_nonzero(joint.any(axis=1 - side)) < 2 for side in (0, 1)]
            constant = [
                self.names[u] for u, one in zip(pair, one_bin, strict=True) if one or flat[u]
            ]
            if constant:
                notes = [_undefined("kendall", self.job.kernel.name, name) for name in constant]
                self._add(pair, [Estimate("kendall", math.nan)], notes)
                continue
            ends = None
            if without is not None:
                ends = jackknife(tau.value, without[left], question.confidence)
            self._add(pair, [Estimate("kendall", tau.value, *ends_of(ends), tau.bound)], ())

    def add_neighbours(self, found: Sequence[Any]) -> None:
        """Add how far spaces agree on the neighbours of rows."""
        from layerlake.analyses.similarity.tiles.neighbour_agreement import (
            cknna,
            cknna_of_sums,
            mean_interval,
            overlaps,
        )
        from layerlake.analyses.similarity.tiles.neighbour_ties import Ranked, tie_tolerance

        question, k = self.job.question, self.job.question.neighbours
        scales = [(kernel.scale, kernel.constant) for kernel in self.tiles.kernels]
        ranked = [
            Ranked.of(one, k, tie_tolerance(question.precision, scale))
            for one, (scale, _) in zip(found, scales, strict=True)
        ]
        asked = [measure for measure in question.measures if measure in NEIGHBOUR_MEASURES]
        defined = [pair for pair in self.pairs if not self._same(*pair)]
        weighed = self._weighed(ranked, defined, scales)
        for s, t in self.pairs:
            estimates, notes = [], []
            constant = self._same(s, t)
            if constant:
                notes = [
                    _undefined(m, self.job.kernel.name, name) for m in asked for name in constant
                ]
                self._add((s, t), [Estimate(m, math.nan) for m in asked], notes)
                continue
            if "mutual-knn" in question.measures:
                shares = overlaps(ranked[s], ranked[t])
                if (s, t) in weighed:
                    again = ranked[s].open | ranked[t].open
                    shares[again] = weighed[s, t].shared[again] / k
                ends = None
                if self.job.clustered:
                    ends = mean_interval(shares, self.tiles.clusters, question.confidence)
                estimates.append(Estimate("mutual-knn", float(shares.mean()), *ends_of(ends)))
            if "cknna" in question.measures:
                if (s, t) in weighed:
                    value = cknna_of_sums(weighed[s, t], weighed[s, s], weighed[t, t])
                else:
                    value = cknna(ranked[s], ranked[t], (scales[s], scales[t]))
                if math.isnan(value):
                    notes.append(
                        f"cknna is not defined: the neighbours of {self.names[s]} or "
                        f"{self.names[t]} do not vary"
                    )
                estimates.append(Estimate("cknna", value))
                if self.job.clustered:
                    notes.append("cknna has no interval")
            notes += _tied(ranked, (s, t), self.names, knn="mutual-knn" in question.measures)
            self._add((s, t), estimates, notes)

    def _weighed(
        self,
        ranked: list[Ranked],
        pairs: Sequence[Pair],
        scales: Sequence[tuple[float, float]],
    ) -> dict[Pair, WeighedSums]:
        """Count the ties that go on beyond the neighbours kept, and weigh both spaces of a pair.

        Pairs without such ties are left out. The counts are put into `ranked`.
        """
        from layerlake.analyses.similarity.tiles.neighbour_ties import (
            TieCounts,
            WeighedNeighbours,
        )

        touched = [pair for pair in pairs if any(ranked[u].open.any() for u in pair)]
        if not touched:
            return {}
        cknna = "cknna" in self.job.question.measures
        rows = np.logical_or.reduce([ranked[u].open for pair in touched for u in pair])
        wanted = frozenset(
            p for p, (lo, hi) in enumerate(self.tiles.plan.panels) if rows[lo:hi].any()
        )
        some = replace(self.tiles, wanted=wanted)
        (counts,) = run_tiles(some, [TieCounts(ranked)], self.resources, _unheard)
        for known, count in zip(ranked, counts, strict=True):
            known.tied = np.where(known.open, count, known.tied)
        own = [(u, u) for u in sorted({u for pair in touched for u in pair})] if cknna else []
        every = list(dict.fromkeys([*touched, *own]))
        sums = WeighedNeighbours(ranked, every, scales if cknna else None)
        # Sums of kernels are over all rows.
        (found,) = run_tiles(self.tiles if cknna else some, [sums], self.resources, _unheard)
        return dict(zip(every, found, strict=True))

    def add_cka(self, found: dict[Pair, Any]) -> None:
        """Add the CKA of kernels without features."""
        question = self.job.question
        for pair in self.pairs:
            value = found[pair]
            estimates, notes = [], []
            for measure, number, without in (
                ("rbf-cka", value.biased, value.deleted_biased),
                ("debiased-rbf-cka", value.debiased, value.deleted_debiased),
            ):
                if measure not in question.measures:
                    continue
                ends = None
                constant = self._same(*pair)
                if constant:
                    number = math.nan
                    notes += [_undefined(measure, self.job.kernel.name, name) for name in constant]
                elif math.isnan(number):
                    notes.append(
                        f"{measure} is not defined: the {self.job.kernel.name} kernel of "
                        f"{self.names[pair[0]]} or of {self.names[pair[1]]} does not vary"
                    )
                elif self.job.clustered and len(without) > 1:
                    ends = jackknife(number, without, question.confidence)
                estimates.append(Estimate(measure, number, *ends_of(ends)))
            self._add(pair, estimates, notes)


def _tied(ranked: Sequence[Ranked], pair: Pair, names: Sequence[str], *, knn: bool) -> list[str]:
    """Say how far ties bound what two spaces can agree on, where they do."""
    certain = {u: ranked[u].certainty() for u in pair}
    most = math.sqrt(math.prod(certain[u] for u in pair))
    if most > MOST_CERTAIN:
        return []
    whose = " and ".join(names[u] for u, share in certain.items() if share <= MOST_CERTAIN)
    said = (
        f"rows of {whose} are equally near at the {ranked[pair[0]].k}th place; ties count by chance"
    )
    return [said + (f", so mutual-knn is at most {most:.3f}" if knn else "")]


def _unheard(_rows: int) -> None:
    """Take a report of rows that are gone through once more, which is no progress."""


def _undefined(measure: str, kernel: str, name: str) -> str:
    """Say why a measure has no value."""
    return (
        f"{measure} is not defined: the {kernel} kernel of {name} is the same for all pairs of rows"
    )


def _cosine_along(
    sums: NDArray[np.float64], *, left: tuple[float, float], right: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the cosine of dissimilarities from sums of kernels."""
    return cosine(along(sums, left, right))
