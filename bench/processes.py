"""Methods in processes of their own: timed in turn, each with the memory that it takes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from layerlake.bench import measured_process
from layerlake.store.errors import InvalidInput

LONG_SECONDS = 4.0
"""A method that takes longer is run once, however often the others are."""

_EVERY_SECONDS = 0.005


class Taken(NamedTuple):
    """What a method took, and what it found."""

    wall_seconds: float
    """Median over the runs."""
    cpu_seconds: float
    runs: int
    peak_bytes: int | None
    """Most bytes beyond those that lay there before, such as the spaces, and beyond those of mapped
    files; None where unknown."""
    mapped_bytes: int | None
    """Most bytes of mapped files, which the system takes back when it needs them."""
    values: NDArray[np.float64]
    scaled: bool
    """Whether a share of the work was run and all of it charged."""


@dataclass(frozen=True)
class Method:
    """A way of doing a workload."""

    name: str
    module: str
    """Its name, or the path of a file."""
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    most_entries: float = float("inf")
    """Entries of all kernel matrices of a workload beyond which it is left out."""

    @property
    def process(self) -> tuple[str, str]:
        """Methods of one module and interpreter share a process."""
        return self.python, self.module


class _Watch(threading.Thread):
    """Looks every few milliseconds at the memory of a process, from outside so as not to slow it.

    The most that was resident the system knows itself; how much of it were files it does not.
    """

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._file = Path(f"/proc/{process}/status")
        self._ended = threading.Event()
        self.most = {"RssAnon": 0, "RssFile": 0, "RssShmem": 0}

    def run(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            try:
                lines = self._file.read_text().splitlines()
            except OSError:
                return
            for line in lines:
                key, _, rest = line.partition(":")
                if key in self.most:
                    self.most[key] = max(self.most[key], int(rest.split()[0]) * 1024)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def add_to(self, reply: dict[str, Any], before: dict[str, int] | None) -> None:
        """Take the bytes of mapped files out of the peak of a run, and say how many they were."""
        peak = reply.get("peak_bytes")
        reply["mapped_bytes"] = None
        if before is None:
            return
        # Files of a file system in memory count as shared memory.
        mapped = self.most["RssFile"] + self.most["RssShmem"]
        reply["mapped_bytes"] = max(mapped - before["mapped"], 0)
        if peak is not None:
            own = self.most["RssAnon"] - before["own"]
            reply["peak_bytes"] = max(own, peak - reply["mapped_bytes"], 0)


class Processes:
    """Processes that methods run in, started when they are first needed."""

    def __init__(self, threads: int) -> None:
        """Take the threads that products and the like may use in each."""
        self._threads = threads
        self._running: dict[tuple[str, str], subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def forget(self) -> None:
        """Let all of them give up the spaces that they hold."""
        for process in self._running.values():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"forget": True}) + "\n")
            process.stdin.flush()
            process.stdout.readline()

    def stop(self) -> None:
        """End all of them."""
        for process in self._running.values():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            process.kill()
            process.wait()
        self._running.clear()

    def run(self, method: Method, spaces: Sequence[Path], n_rows: int) -> dict[str, Any]:
        """Run a method once; return what `measured_process` says of it.

        Raises
        ------
        InvalidInput
            The interpreter does not run, or the method fails in it.
        """
        process = self._running.get(method.process) or self._start(method)
        request = {
            "module": method.module,
            "function": method.function,
            "spaces": [str(place) for place in spaces],
            "options": {**method.options, "n_rows": n_rows},
        }
        assert process.stdin is not None
        assert process.stdout is not None
        ready, line = "", ""
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            ready = process.stdout.readline()
            before = json.loads(ready or "null")
            if before is not None and "error" in before:
                line = ready
            else:
                with _Watch(process.pid) as watch:
                    line = process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            raise InvalidInput(
                f"the process of {method.name} ended with code {process.wait()}; it may have had "
                f"too little memory for {n_rows} rows, or {method.python} lacks numpy"
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise InvalidInput(f"{method.name} does not run with {method.python}: {reply['error']}")
        watch.add_to(reply, before)
        return reply

    def _start(self, method: Method) -> subprocess.Popen[str]:
        """Start the process of a method."""
        environment = dict(os.environ)
        if method.python != sys.executable:  # another one must not see what this one imports
            environment = {
                k: v for k, v in environment.items() if k not in ("PYTHONPATH", "PYTHONHOME")
            }
        for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM"):
            environment[f"{library}_NUM_THREADS"] = str(self._threads)
        line = [method.python, "-W", "ignore", measured_process.__file__]
        try:
            process = subprocess.Popen(
                line,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
        except OSError as error:
            raise InvalidInput(
                f"{method.python} cannot be run ({error.strerror}); give the Python that the "
                "package is installed for"
            ) from error
        self._running[method.process] = process
        return process


def taken_by(
    processes: Processes,
    methods: Sequence[Method],
    spaces: Sequence[Path],
    n_rows: int,
    repeats: int,
) -> dict[str, Taken]:
    """Run every method in turn, `repeats` times, so that a noisy minute hits them all."""
    runs: dict[str, list[dict[str, Any]]] = {method.name: [] for method in methods}
    for number in range(repeats):
        for method in methods:
            if number and runs[method.name][0]["wall"] > LONG_SECONDS:
                continue
            runs[method.name].append(processes.run(method, spaces, n_rows))
    found = {}
    for name, own in runs.items():
        peaks, mapped = (
            [run[key] for run in own if run[key] is not None]
            for key in ("peak_bytes", "mapped_bytes")
        )
        found[name] = Taken(
            statistics.median(run["wall"] for run in own),
            statistics.median(run["cpu"] for run in own),
            len(own),
            max(peaks, default=None),
            max(mapped, default=None),
            np.array(own[0]["values"], dtype=np.float64),
            own[0]["scaled"],
        )
    return found
