"""Similarity by rsatoolbox and thingsvision themselves, in whichever Python they are installed for.

Loaded as a file by `measured_process`, so nothing here is of LayerLake. Each is used as its
documentation says: a dissimilarity matrix of each space, then their comparison.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RSATOOLBOX_SCORES = {"pearson": "corr", "spearman": "spearman", "kendall": "tau-a"}


def _rsatoolbox() -> Any:
    """Return rsatoolbox."""
    return importlib.import_module("rsatoolbox")


def _rdm(rows: Any, clusters: Any = None) -> Any:
    """Return rsatoolbox's correlation distances of a space."""
    toolbox = _rsatoolbox()
    described = {} if clusters is None else {"obs_descriptors": {"cluster": clusters}}
    return toolbox.rdm.calc_rdm(toolbox.data.Dataset(rows, **described), method="correlation")


def rsatoolbox_one(spaces: Sequence[Any], options: dict[str, Any], clock: Any) -> list[float]:
    """Compare the first space with each other one."""
    toolbox = _rsatoolbox()
    method = RSATOOLBOX_SCORES[options["score"]]
    reference = _rdm(spaces[0])
    return [
        float(toolbox.rdm.compare(reference, _rdm(rows), method=method)[0, 0])
        for rows in spaces[1:]
    ]


def rsatoolbox_all(spaces: Sequence[Any], options: dict[str, Any], clock: Any) -> list[float]:
    """Compare all spaces with each other, in one comparison of all their distances."""
    toolbox = _rsatoolbox()
    rdms = toolbox.rdm.concat([_rdm(rows) for rows in spaces])
    found = toolbox.rdm.compare(rdms, rdms, method="corr")
    return [float(value) for value in found[np.triu_indices(len(spaces), 1)]]


def rsatoolbox_bootstrap(spaces: Sequence[Any], options: dict[str, Any], clock: Any) -> float:
    """Resample clusters of rows; a few resamples are run and charged as all of them.

    The value is the estimate itself, as resamples are drawn at random.
    """
    toolbox = _rsatoolbox()
    clusters = np.arange(len(spaces[0])) // options["rows_per_cluster"]
    first, second = (_rdm(rows, clusters) for rows in spaces)
    for rdm in (first, second):
        rdm.pattern_descriptors["cluster"] = clusters
    models = [toolbox.model.ModelFixed("first", first)]
    value = toolbox.rdm.compare(first, second, method="corr")[0, 0]
    with clock.times(options["resamples"] / options["resamples_run"]):
        toolbox.inference.eval_bootstrap_pattern(
            models,
            second,
            method="corr",
            N=options["resamples_run"],
            pattern_descriptor="cluster",
            boot_noise_ceil=False,
        )
    return float(value)


def _thingsvision() -> Any:
    """Return thingsvision's RSA functions alone: all of the package would need TensorFlow."""
    spec = importlib.util.find_spec("thingsvision")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'thingsvision'")
    file = Path(next(iter(spec.submodule_search_locations))) / "core" / "rsa" / "helpers.py"
    own = importlib.util.spec_from_file_location("thingsvision_rsa", file)
    assert own is not None
    assert own.loader is not None
    module = importlib.util.module_from_spec(own)
    own.loader.exec_module(module)
    return module


_LOADED: list[Any] = []


def thingsvision_one(spaces: Sequence[Any], options: dict[str, Any], clock: Any) -> list[float]:
    """Compare the first space with each other one."""
    if not _LOADED:
        _LOADED.append(_thingsvision())
    functions = _LOADED[0]
    reference = functions.compute_rdm(spaces[0], "correlation")
    return [
        float(
            functions.correlate_rdms(
                reference, functions.compute_rdm(rows, "correlation"), options["score"]
            )
        )
        for rows in spaces[1:]
    ]
