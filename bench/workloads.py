"""Workloads of similarity: who does them, who is not there to, and what is recorded of each."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.bench import similarity_packages
from layerlake.bench.processes import Method, Processes, Taken, taken_by
from layerlake.bench.suites import Conditions
from layerlake.engine.passes.device_names import device_named
from layerlake.store.errors import InvalidInput

OURS = "layerlake"
"""Of a method without additions: what the others are measured against."""
PRODUCTS = "products alone"
"""The matrix products, in float32, that the feature-space form cannot do without."""
_OUR_MODULE = "layerlake.bench.similarity_ours"
_PEER_MODULE = "layerlake.bench.similarity_peers"
GEMM_SIDE = 2048


@dataclass
class Roster:
    """Who can take part: settings that all methods share, and the packages that are at hand."""

    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    memory: str = "4GiB"
    """Allowed to LayerLake; the others take what they take."""
    rows_per_cluster: int = 20
    rsatoolbox: str | None = None
    """A Python that it is installed for; this one where None."""
    thingsvision: str | None = None
    peers: bool = True
    """Whether others take part at all."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Methods that do not take part, and why."""
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look who is there.

        Raises
        ------
        InvalidInput
            A Python that is named does not run, or lacks its package; there is no such device.
        MissingExtra
            A GPU is asked for and CuPy is not installed.
        """
        self.device = str(device_named(self.device))
        self._pythons: dict[str, str | None] = {}
        if not self.peers:
            return
        for package, python in (
            ("rsatoolbox", self.rsatoolbox),
            ("thingsvision", self.thingsvision),
        ):
            self._pythons[package] = self._find(package, python)
        if importlib.util.find_spec("torch") is None:
            self.skipped["torch"] = "not installed (pip install 'layerlake[models]')"

    @classmethod
    def under(cls, conditions: Conditions, rows_per_cluster: int) -> Roster:
        """Return who can take part under some conditions."""
        return cls(
            conditions.device,
            conditions.memory,
            rows_per_cluster,
            conditions.rsatoolbox,
            conditions.thingsvision,
            conditions.peers,
        )

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages of this Python whose versions matter."""
        return ("torch",) if self.peers and "torch" not in self.skipped else ()

    def _find(self, package: str, python: str | None) -> str | None:
        """Return the Python that a package is installed for, or None."""
        if python is None and importlib.util.find_spec(package) is None:
            left = "; its formulas are re-stated" if package == "thingsvision" else ""
            self.skipped[package] = (
                f"not installed here (give --{package} PYTHON, one that it is installed for){left}"
            )
            return None
        chosen = python or sys.executable
        asking = f"from importlib.metadata import version; print(version({package!r}))"
        try:
            done = subprocess.run(
                [chosen, "-c", asking], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise InvalidInput(
                f"{chosen} cannot be run ({error.strerror}); give the Python that {package} is "
                "installed for"
            ) from error
        if done.returncode:
            raise InvalidInput(f"{package} is not installed for {chosen}; install it there first")
        self.versions[package] = done.stdout.strip()
        return chosen

    def ours(
        self, name: str, function: str, question: Mapping[str, Any] | None = None, **options: Any
    ) -> Method:
        """Return a method of LayerLake; `question` as `similarity_ours.compared` takes it."""
        asked: dict[str, Any] = {"interval": "none", **(question or {})}
        if "rsa" in asked.get("measures", ("rsa",)):
            asked = {"kernel": "correlation", **asked}
        shared = {
            "question": asked,
            "device": self.device,
            "memory": self.memory,
            "rows_per_cluster": self.rows_per_cluster,
        }
        return Method(name, _OUR_MODULE, function, {**shared, **options, "kind": [asked, name]})

    def alone(self) -> Method:
        """Return the products that no method over features can do without."""
        return Method(PRODUCTS, _PEER_MODULE, "products_alone")

    def _peer(self, name: str, function: str, most: float, options: dict[str, Any]) -> Method:
        """Return a method of another kind."""
        shared = {"device": self.device, "rows_per_cluster": self.rows_per_cluster}
        options = {**shared, **options}
        return Method(
            name,
            _PEER_MODULE,
            function,
            {**options, "kind": options.get("score")},
            most_entries=most,
        )

    def plain(
        self, name: str, function: str, most: float = math.inf, **options: Any
    ) -> list[Method]:
        """Return a method in numpy or scipy, where others take part; it knows no GPU."""
        if not self.peers or self.device != "cpu":
            return []
        return [self._peer(name, function, most, options)]

    def torch(
        self, name: str, function: str, most: float = math.inf, **options: Any
    ) -> list[Method]:
        """Return a method in torch, where that is installed."""
        if not self.peers or "torch" in self.skipped:
            return []
        return [self._peer(name, function, most, options)]

    def package(
        self, package: str, function: str, most: float = math.inf, **options: Any
    ) -> list[Method]:
        """Return a method of a package, where it is at hand."""
        python = self._pythons.get(package)
        if python is None or self.device != "cpu":
            return []
        shared = {"rows_per_cluster": self.rows_per_cluster, **options}
        shared["kind"] = options.get("score")
        file = similarity_packages.__file__
        return [Method(package, file, function, shared, python, most)]

    def thingsvision_or_formulas(self, most: float, score: str) -> list[Method]:
        """Return thingsvision, or its formulas where it is not at hand."""
        return self.package("thingsvision", "thingsvision_one", most, score=score) or self.plain(
            "thingsvision's formulas", "thingsvision_formulas", most, score=score
        )

    def gemm_rate(self, processes: Processes) -> float:
        """Measure the operations per second of a large float32 product."""
        if self.device == "cpu":
            method = Method("numpy", _PEER_MODULE, "gemm_rate", {"side": GEMM_SIDE})
        else:
            options = {"side": 4 * GEMM_SIDE, "device": self.device}
            method = Method("torch", _PEER_MODULE, "torch_gemm_rate", options)
        return float(processes.run(method, [], 1)["values"][0])


@dataclass(frozen=True)
class Workload:
    """One piece of work that several methods do."""

    name: str
    n_rows: int
    n_spaces: int
    hidden: int
    spaces: Sequence[Path]
    """Files of the spaces; none where methods read a lake."""
    methods: Sequence[Method]
    exact: Callable[[], NDArray[np.float64]] | None
    """Gives what the methods should find, in float64."""
    multiply_adds: Mapping[str, float] = field(default_factory=dict)
    """That a method cannot do without, by its name."""

    @property
    def entries(self) -> float:
        """Entries of all kernel matrices."""
        return float(self.n_spaces) * self.n_rows**2

    def records(
        self, processes: Processes, repeats: int, rate: float, roster: Roster
    ) -> list[dict[str, Any]]:
        """Run all methods; return a record of each.

        `ahead` is the method's time over LayerLake's: CPU time, or wall time on a GPU.
        """
        fitting = [method for method in self.methods if self.entries <= method.most_entries]
        for method in self.methods:
            if method not in fitting:
                roster.skipped[f"{self.name}, {self.n_rows} rows, {method.name}"] = (
                    f"{self.entries:.2g} entries of kernels: it would take too long, or too much memory"
                )
        taken = taken_by(processes, fitting, self.spaces, self.n_rows, repeats)
        exact = self.exact() if self.exact is not None else None
        return [
            self._record(name, found, taken, exact, rate, roster) for name, found in taken.items()
        ]

    def _record(
        self,
        name: str,
        found: Taken,
        taken: Mapping[str, Taken],
        exact: NDArray[np.float64] | None,
        rate: float,
        roster: Roster,
    ) -> dict[str, Any]:
        def spent(one: Taken) -> float:
            return one.cpu_seconds if roster.device == "cpu" else one.wall_seconds

        operations = self.multiply_adds.get(name)
        value = float(found.values[0]) if len(found.values) else math.nan
        error = math.nan
        if exact is not None and len(found.values):
            error = float(np.abs(found.values - exact).max())
        return {
            "workload": self.name,
            "n_rows": self.n_rows,
            "spaces": self.n_spaces,
            "hidden": self.hidden,
            "method": name,
            "wall_seconds": found.wall_seconds,
            "cpu_seconds": found.cpu_seconds,
            "runs": found.runs,
            "scaled": found.scaled,
            "peak_mib": None if found.peak_bytes is None else found.peak_bytes / 2**20,
            "mapped_mib": None if found.mapped_bytes is None else found.mapped_bytes / 2**20,
            "baseline": OURS if OURS in taken else None,
            "ahead": spent(found) / max(spent(taken[OURS]), 1e-9) if OURS in taken else None,
            "of_peak": None
            if operations is None
            else 2 * operations / max(spent(found), 1e-9) / rate,
            "value": value if math.isfinite(value) else None,
            "error": error if math.isfinite(error) else None,
        }
