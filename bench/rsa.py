"""RSA with Pearson's correlation against others: one pair, many pairs, and growth from a lake."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.bench import similarity_exact
from layerlake.bench.measuring import BenchResult, about
from layerlake.bench.processes import Processes
from layerlake.bench.similarity_spaces import CORPUS, ROWS_PER_CLUSTER, write_arrays, write_lake
from layerlake.bench.suites import Conditions, RsaSuite
from layerlake.bench.workloads import OURS, PRODUCTS, Roster, Workload
from layerlake.store import schema
from layerlake.store.lake import open_lake

PAIR, STAR, GROWTH = "one pair", "star", "growth"
JACKKNIFE = "layerlake, jackknife"
DASK_WORKERS = (1, 2)
DASK_ROWS = 50_000
"""Rows of a lake below which a cluster is not measured: sending work to it would be all there is."""
VARIANTS = ("first", "second")
DENSE_ROWS = 5000
"""Rows up to which the float64 reference is the dense one; beyond it products over rows are."""
SCIPY_ENTRIES = 2 * 5000.0**2
WHOLE_ENTRIES = 2 * 400_000.0**2
"""As many rows as a method should hold whole that reads all of a lake's."""
STAR_ENTRIES = 1e8
"""Entries of kernels beyond which methods that form them are left out of the star."""


def _exact_pairs(files: Sequence[Path]) -> NDArray[np.float64]:
    """Return the correlation of the first space's kernel with each other one's."""
    arrays = [np.load(file, mmap_mode="r") for file in files]
    if len(arrays[0]) <= DENSE_ROWS:
        units = [similarity_exact.unit_rows(rows) for rows in arrays]
        return similarity_exact.pearson(units, [(0, s) for s in range(1, len(units))])
    return np.array(
        [similarity_exact.streamed(partial(_blocks, arrays[0], other)) for other in arrays[1:]]
    )


def _blocks(
    first: NDArray[np.floating], second: NDArray[np.floating], block_rows: int = 4096
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield blocks of unit rows of two arrays."""
    for low in range(0, len(first), block_rows):
        part = slice(low, low + block_rows)
        yield (
            similarity_exact.unit_rows(first[part]),
            similarity_exact.unit_rows(second[part]),
        )


def _lake_blocks(
    place: Path, n_rows: int, block_rows: int = 4096
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield blocks of unit rows of both spaces of a lake."""
    lake = open_lake(place)
    spaces = [lake.space(CORPUS, name, 0) for name in VARIANTS]
    for low in range(0, n_rows, block_rows):
        part = slice(low, min(low + block_rows, n_rows))
        first, second = (similarity_exact.unit_rows(space.rows(part)) for space in spaces)
        yield first, second


def multiply_adds(n_rows: int, hidden: int, n_spaces: int, n_pairs: int) -> float:
    """Return the multiply-adds of products over rows: own ones are symmetric."""
    return n_rows * hidden**2 * (n_spaces / 2 + n_pairs)


def in_memory(
    name: str, n_rows: int, hidden: int, files: Sequence[Path], roster: Roster
) -> Workload:
    """Return the work of comparing the first space with the others."""
    few = name == PAIR
    most = float("inf") if few else STAR_ENTRIES
    score = "pearson"
    operations = multiply_adds(n_rows, hidden, len(files), len(files) - 1)
    methods = [
        roster.ours(OURS, "one"),
        roster.ours(JACKKNIFE, "one", {"interval": "cluster"}),
        *([roster.alone()] if roster.device == "cpu" else []),
        *roster.torch("torch, features", "torch_features"),
        *roster.torch("torch, dense", "torch_dense", most),
        *roster.plain("numpy, dense", "numpy_dense", most),
        *roster.thingsvision_or_formulas(most, score),
        *(roster.plain("scipy pdist", "scipy_pdist", SCIPY_ENTRIES, score=score) if few else []),
        *roster.package("rsatoolbox", "rsatoolbox_one", most, score=score),
    ]
    return Workload(
        name,
        n_rows,
        len(files),
        hidden,
        files,
        methods,
        partial(_exact_pairs, files),
        dict.fromkeys((OURS, PRODUCTS), operations),
    )


def from_lake(n_rows: int, hidden: int, place: Path, roster: Roster) -> Workload:
    """Return the work of comparing the first rows of two spaces of a lake."""
    options: dict[str, Any] = {"lake": str(place), "corpus": CORPUS, "variants": list(VARIANTS)}
    operations = multiply_adds(n_rows, hidden, 2, 1)
    features = roster.torch("torch, features", "torch_features")
    whole = [roster.ours(method.name, "features_from_lake", **options) for method in features]
    return Workload(
        GROWTH,
        n_rows,
        2,
        hidden,
        [],
        [
            roster.ours(OURS, "from_lake", **options),
            roster.ours(JACKKNIFE, "from_lake", {"interval": "cluster"}, **options),
            *(
                roster.ours(
                    f"layerlake, Dask, {count} worker" + "s" * (count > 1),
                    "from_cluster",
                    dask_workers=count,
                    **options,
                )
                for count in (DASK_WORKERS if n_rows >= DASK_ROWS else ())
            ),
            # Here the module of LayerLake reads the rows for it.
            *(dataclasses.replace(method, most_entries=WHOLE_ENTRIES) for method in whole),
        ],
        lambda: np.array([similarity_exact.streamed(partial(_lake_blocks, place, n_rows))]),
        {OURS: operations},
    )


def run(
    suite: RsaSuite, conditions: Conditions, *, window_rows: int = schema.WINDOW_ROWS
) -> BenchResult:
    """Measure RSA of generated spaces under the correlation kernel.

    Parameters
    ----------
    suite
        What is measured.
    conditions
        Under which conditions.
    window_rows
        Rows of a shard of the lake.

    Returns
    -------
    One record a workload and method. `peak_mib` is what the run held beyond what lay in its process
    before, such as the spaces, and `mapped_mib` the pages of mapped files that lay there beside it,
    which the system takes back when it needs them; `ahead` is its CPU time (on a GPU wall time) over LayerLake's;
    `of_peak` is the share of the float32 product rate that the products it needs would take;
    `error` is the largest distance from float64.

    Raises
    ------
    InvalidInput, MissingExtra
        As their names say. A peer that is not at hand is named in `settings`.
    """
    roster = Roster.under(conditions, ROWS_PER_CLUSTER)
    hidden, mean_cosine = conditions.hidden, conditions.mean_cosine
    workloads, growth = suite.workloads, suite.growth
    records = []
    with (
        tempfile.TemporaryDirectory(prefix="layerlake-bench-", dir=conditions.folder) as made,
        Processes(conditions.threads) as processes,
    ):
        place = Path(made)
        rate = roster.gemm_rate(processes)
        for n in suite.n_rows:
            counts = [(PAIR, 2)] * ("pair" in workloads) + [(STAR, suite.star + 1)] * (
                "star" in workloads
            )
            for name, count in counts:
                files = write_arrays(place, n, hidden, count, mean_cosine=mean_cosine)
                work = in_memory(name, n, hidden, files, roster)
                records += work.records(processes, conditions.repeats, rate, roster)
                processes.forget()
                for file in files:
                    file.unlink()
        if "growth" in workloads and growth:
            lake = write_lake(
                place,
                max(growth),
                hidden,
                VARIANTS,
                mean_cosine=mean_cosine,
                window_rows=window_rows,
            )
            for n in growth:
                work = from_lake(n, hidden, lake, roster)
                records += work.records(processes, conditions.repeats, rate, roster)
    settings = {
        "n_rows": list(suite.n_rows),
        "growth": list(growth),
        "star": suite.star,
        "workloads": list(workloads),
        "hidden": hidden,
        "mean_cosine": mean_cosine,
        "rows_per_cluster": ROWS_PER_CLUSTER,
        "repeats": conditions.repeats,
        "kernel": "correlation",
        "memory": conditions.memory,
        "device": roster.device,
        "gemm_gigaflops": rate / 1e9,
        "skipped": roster.skipped,
    }
    described = about("numpy", "scipy", *roster.packages, threads=conditions.threads)
    return BenchResult("rsa", {**described, **roster.versions}, settings, tuple(records))
