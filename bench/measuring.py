"""Timing methods side by side, on a machine that is described with the figures."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """Medians over the repeats of one method."""

    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class BenchResult:
    """Figures of one suite, with what is needed to read them."""

    suite: str
    about: dict[str, Any]
    """Machine, versions, commit (None outside a checkout) and threads."""
    settings: dict[str, Any]
    records: tuple[dict[str, Any], ...]
    """One mapping a workload and method; all have the same keys."""

    def to_json(self) -> str:
        """Return one JSON object."""
        return json.dumps(asdict(self), allow_nan=False)

    def table(self) -> str:
        """Return a table for people, and a line about the machine."""
        head = list(self.records[0])
        rows = [head] + [[_cell(record[key]) for key in head] for record in self.records]
        widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        lines += [f"skipped {k}: {v}" for k, v in self.settings.get("skipped", {}).items()]
        about = ", ".join(f"{key} {value}" for key, value in self.about.items())
        return "\n".join([*lines, about])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def interleaved(methods: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Run every method in turn, `repeats` times, so that a noisy minute hits them all.

    A method that returns a `Timing` has measured itself (in another process).
    """
    taken: dict[str, list[Timing]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            own = method()
            spent = Timing(time.perf_counter() - wall, time.process_time() - cpu)
            taken[name].append(own if isinstance(own, Timing) else spent)
    return {
        name: Timing(*map(statistics.median, zip(*runs, strict=True)))
        for name, runs in taken.items()
    }


def peak_bytes_of(function: Callable[..., Any], *arguments: Any) -> int:
    """Run a function in a new process; return the most bytes that were resident in it.

    The function and its arguments are pickled, as `multiprocessing` does where it spawns.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_after, function, *arguments).result()


def _peak_after(function: Callable[..., Any], *arguments: Any) -> int:
    function(*arguments)
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says of a child includes the parent's, on Linux
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def about(*packages: str, **threads: int) -> dict[str, Any]:
    """Describe the machine, the versions, the commit and the threads (`blas_threads=1`)."""
    cpu = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        names = [line for line in listed.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("layerlake", *packages)},
        "commit": _commit(),
        **threads,
    }


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None
