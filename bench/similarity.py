"""Similarity beyond one Pearson correlation: all pairs, ranks, alignment, neighbours, resamples."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.bench import similarity_exact
from layerlake.bench.measuring import BenchResult, about
from layerlake.bench.processes import Method, Processes
from layerlake.bench.similarity_spaces import ROWS_PER_CLUSTER, write_arrays
from layerlake.bench.suites import ALL_PAIRS, Conditions, SimilaritySuite
from layerlake.bench.workloads import OURS, Roster, Workload

RSATOOLBOX_ENTRIES = 26 * 2000.0**2
"""Entries of kernels beyond which rsatoolbox is left out of all pairs."""

Exact = Callable[[list[NDArray[np.floating]]], Any]


def _unit(arrays: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float64]]:
    return [similarity_exact.unit_rows(rows) for rows in arrays]


def _spearman(roster: Roster) -> list[Method]:
    score = "spearman"
    return [
        roster.ours(OURS, "one", {"score": score}),
        *roster.thingsvision_or_formulas(float("inf"), score),
        *roster.plain("ReSi's formula", "resi_spearman"),
        *roster.package("rsatoolbox", "rsatoolbox_one", score=score),
    ]


def _kendall(roster: Roster) -> list[Method]:
    score = "kendall"
    return [
        roster.ours(OURS, "one", {"score": score}),
        *roster.plain("scipy", "scipy_pdist", score=score),
        *roster.package("rsatoolbox", "rsatoolbox_one", score=score),
    ]


def _cka(roster: Roster) -> list[Method]:
    return [
        roster.ours(OURS, "one", {"measures": ["cka"]}),
        *roster.torch("ReSi's formula", "resi_cka"),
    ]


def _debiased_cka(roster: Roster) -> list[Method]:
    return [
        roster.ours(OURS, "one", {"measures": ["debiased-cka"]}),
        *roster.torch("platonic-rep's formula", "platonic_cka"),
        *roster.plain("numpy, dense", "numpy_cka"),
    ]


def _mutual_knn(roster: Roster, neighbours: int) -> list[Method]:
    question = {"measures": ["mutual-knn"], "neighbours": neighbours}
    return [
        roster.ours(OURS, "one", question),
        *roster.torch("platonic-rep's formula", "platonic_knn", neighbours=neighbours),
        *roster.torch("torch topk", "torch_topk", neighbours=neighbours),
    ]


def _bootstrap(roster: Roster, resamples: int, resamples_run: int) -> list[Method]:
    drawn = {"resamples": resamples, "resamples_run": resamples_run}
    return [
        roster.ours(OURS, "one", {"interval": "bootstrap", "resamples": resamples}),
        *roster.plain("numpy, dense", "numpy_bootstrap", **drawn),
        *roster.package("rsatoolbox", "rsatoolbox_bootstrap", **drawn),
    ]


def _all_pairs(roster: Roster) -> list[Method]:
    return [
        roster.ours(OURS, "all_pairs"),
        *roster.torch("torch, dense", "torch_dense_all"),
        *roster.plain("numpy, dense", "numpy_dense_all"),
        *roster.package("rsatoolbox", "rsatoolbox_all", RSATOOLBOX_ENTRIES),
    ]


def _exact_all(arrays: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    pairs = [(s, t) for s in range(len(arrays)) for t in range(s + 1, len(arrays))]
    return similarity_exact.pearson(_unit(arrays), pairs)


def _measures(
    roster: Roster, suite: SimilaritySuite
) -> dict[str, tuple[Callable[[], list[Method]], Exact]]:
    """Return who does each workload of one pair, and what it should find."""
    return {
        "spearman": (
            partial(_spearman, roster),
            lambda arrays: similarity_exact.ranked(_unit(arrays), "spearman"),
        ),
        "kendall": (
            partial(_kendall, roster),
            lambda arrays: similarity_exact.ranked(_unit(arrays), "kendall"),
        ),
        "cka": (
            partial(_cka, roster),
            lambda arrays: similarity_exact.cka(*arrays, debiased=False),
        ),
        "debiased-cka": (
            partial(_debiased_cka, roster),
            lambda arrays: similarity_exact.cka(*arrays, debiased=True),
        ),
        "mutual-knn": (
            partial(_mutual_knn, roster, suite.neighbours),
            lambda arrays: similarity_exact.mutual_neighbours(
                [similarity_exact.unit_rows(rows, centred=False) for rows in arrays],
                suite.neighbours,
            ),
        ),
        "bootstrap": (
            partial(_bootstrap, roster, suite.resamples, suite.resamples_run),
            lambda arrays: similarity_exact.pearson(_unit(arrays), [(0, 1)]),
        ),
    }


def _found(exact: Exact, files: Sequence[Path]) -> NDArray[np.float64]:
    return np.atleast_1d(np.asarray(exact([np.load(file) for file in files]), dtype=np.float64))


def run(suite: SimilaritySuite, conditions: Conditions) -> BenchResult:
    """Measure comparisons of generated spaces, most of them under the correlation kernel.

    Parameters
    ----------
    suite
        What is measured.
    conditions
        Under which conditions.

    Returns
    -------
    Records as those of `bench.rsa.run`.

    Raises
    ------
    InvalidInput, MissingExtra
        As their names say. A peer that is not at hand is named in `settings`.
    """
    roster = Roster.under(conditions, ROWS_PER_CLUSTER)
    hidden, mean_cosine = conditions.hidden, conditions.mean_cosine
    n_rows, all_pairs_rows, workloads = suite.n_rows, suite.all_pairs_rows, suite.workloads
    records: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="layerlake-bench-", dir=conditions.folder) as made,
        Processes(conditions.threads) as processes,
    ):
        place = Path(made)
        rate = roster.gemm_rate(processes)

        def measure(
            name: str,
            n: int,
            files: Sequence[Path],
            methods: Sequence[Method],
            exact: Exact,
            operations: dict[str, float],
        ) -> None:
            work = Workload(
                name,
                n,
                len(files),
                hidden,
                files,
                methods,
                partial(_found, exact, files),
                operations,
            )
            records.extend(work.records(processes, conditions.repeats, rate, roster))

        if ALL_PAIRS in workloads and suite.spaces:
            files = write_arrays(
                place, all_pairs_rows, hidden, max(suite.spaces), mean_cosine=mean_cosine
            )
            for count in suite.spaces:
                measure(
                    ALL_PAIRS,
                    all_pairs_rows,
                    files[:count],
                    _all_pairs(roster),
                    _exact_all,
                    {OURS: _least(all_pairs_rows, hidden, count)},
                )
            processes.forget()
        measures = _measures(roster, suite)
        chosen = [name for name in measures if name in workloads]
        if chosen:
            files = write_arrays(place, n_rows, hidden, 2, mean_cosine=mean_cosine)
        for name in chosen:
            methods, exact = measures[name]
            tiles = {} if "cka" in name else {OURS: n_rows**2 * float(hidden)}
            measure(name, n_rows, files, methods(), exact, tiles)
    settings = {
        "n_rows": n_rows,
        "spaces": list(suite.spaces),
        "all_pairs_rows": all_pairs_rows,
        "workloads": list(workloads),
        "hidden": hidden,
        "neighbours": suite.neighbours,
        "resamples": suite.resamples,
        "resamples_run": suite.resamples_run,
        "mean_cosine": mean_cosine,
        "rows_per_cluster": ROWS_PER_CLUSTER,
        "repeats": conditions.repeats,
        "kernel": "correlation; of neighbours cosine, of cka linear",
        "memory": conditions.memory,
        "device": roster.device,
        "gemm_gigaflops": rate / 1e9,
        "skipped": roster.skipped,
    }
    described = about("numpy", "scipy", *roster.packages, threads=conditions.threads)
    return BenchResult("similarity", {**described, **roster.versions}, settings, tuple(records))


def _least(n_rows: int, hidden: int, count: int) -> float:
    """Return the multiply-adds of all pairs by the form that needs fewer: features or tiles."""
    features = n_rows * (count * hidden) ** 2 / 2
    tiles = n_rows**2 / 2 * (count * hidden + count**2 / 2)
    return min(features, tiles)
