"""LayerLake's side of every workload: methods of `measured_process`, as `similarity_peers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.comparing.compare_spaces import compare_selected
from layerlake.analyses.similarity.question import Question, check_question
from layerlake.engine.memory import parse_bytes
from layerlake.engine.passes.blocks import SpaceLike
from layerlake.engine.passes.device_names import device_named
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import ArraySpace, SelectedRows, select_rows
from layerlake.store.lake import open_lake

Rows = NDArray[np.float32]


def compared(
    spaces: Sequence[SpaceLike], pairs: Sequence[tuple[int, int]], options: Mapping[str, Any]
) -> list[float]:
    """Ask a question of pairs of spaces over their first rows.

    `options` are `n_rows`, `rows_per_cluster`, the fields of `question.Question` that are not as
    usual in `question`, `memory`, `device`, and where the pass runs elsewhere `scheduler` and
    `workers`.
    """
    n_rows = options["n_rows"]
    question = check_question(Question(**options["question"]))
    index = np.arange(n_rows)
    selected: SelectedRows = select_rows(
        spaces,
        [index] * len(spaces),
        index // options["rows_per_cluster"],
        [f"space {k}" for k in range(len(spaces))],
    )
    resources = Resources(
        parse_bytes(options["memory"]),
        device=device_named(options["device"]),
        scheduler=options.get("scheduler"),
        workers=options.get("workers"),
    )
    found = compare_selected(selected, pairs, question, resources)
    return [found[pair].estimates[0].value for pair in pairs]


def _in_memory(spaces: Sequence[Rows]) -> list[SpaceLike]:
    return [ArraySpace(rows, np.arange(len(rows))) for rows in spaces]


def one(spaces: Sequence[Rows], options: Mapping[str, Any], clock: Any) -> list[float]:
    """Compare the first space with each other one."""
    return compared(_in_memory(spaces), [(0, s) for s in range(1, len(spaces))], options)


def all_pairs(spaces: Sequence[Rows], options: Mapping[str, Any], clock: Any) -> list[float]:
    """Compare all spaces with each other."""
    pairs = [(s, t) for s in range(len(spaces)) for t in range(s + 1, len(spaces))]
    return compared(_in_memory(spaces), pairs, options)


def from_lake(spaces: Sequence[Rows], options: Mapping[str, Any], clock: Any) -> list[float]:
    """Compare two spaces of a lake, reading block by block."""
    lake = open_lake(options["lake"])
    corpus = options["corpus"]
    return compared(
        [lake.space(corpus, name, 0) for name in options["variants"]], [(0, 1)], options
    )


_CLUSTERS: dict[int, Any] = {}
"""Clusters of this machine that were started, by their workers; they end with the process."""


def from_cluster(spaces: Sequence[Rows], options: Mapping[str, Any], clock: Any) -> list[float]:
    """Compare two spaces of a lake on a Dask cluster of `dask_workers` processes of this machine.

    The cluster is started by the run that comes before the measured ones. The time of its
    processes is added to that of this one.
    """
    import psutil
    from distributed import LocalCluster

    count = options["dask_workers"]
    if count not in _CLUSTERS:
        _CLUSTERS[count] = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=count, threads_per_worker=1, dashboard_address=None, memory_limit=0
        )

    def spent() -> float:
        """Return the processor seconds of all processes that this one started."""
        times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
        return float(sum(each.user + each.system for each in times))

    before = spent()
    values = from_lake(spaces, {**options, "scheduler": _CLUSTERS[count].scheduler_address}, clock)
    clock.cpu += spent() - before
    return values


def features_from_lake(
    spaces: Sequence[Rows], options: Mapping[str, Any], clock: Any
) -> list[float]:
    """Read two whole spaces of a lake and compare them by `similarity_peers.torch_features`."""
    from layerlake.bench.similarity_peers import torch_features

    lake = open_lake(options["lake"])
    whole = [
        np.asarray(
            lake.space(options["corpus"], name, 0).rows(slice(0, options["n_rows"])), np.float32
        )
        for name in options["variants"]
    ]
    return torch_features(whole, options, clock)
