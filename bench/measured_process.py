"""A process that runs methods one after another and says what each took.

Run as a file, by any Python: other packages may need one of their own, so nothing here is of
LayerLake and numpy alone is needed. Every line of stdin asks for one run, and two lines of
stdout answer: what is resident when all is ready, and what the run took; or one, that it failed
before. What methods print themselves goes nowhere.

A method is `function(spaces, options, clock)`: arrays of (row, hidden), a mapping of settings, and
a `Clock`. It returns a number or a list of numbers.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WARM_ROWS = 256
"""Rows of the run that comes before the first measured one: it imports and compiles."""

_SAME_BYTES = 2**20
"""The system counts resident bytes of each thread in batches, and so only about."""


class Clock:
    """Lets a method run a share of its work and be charged for all of it."""

    def __init__(self) -> None:
        """Start with nothing to add."""
        self.wall = 0.0
        self.cpu = 0.0
        self.scaled = False

    @contextlib.contextmanager
    def times(self, factor: float) -> Iterator[None]:
        """Charge what happens inside so many times."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += (factor - 1) * (time.perf_counter() - wall)
        self.cpu += (factor - 1) * (time.process_time() - cpu)
        self.scaled = self.scaled or factor != 1


class Methods:
    """The methods and spaces that this process has met."""

    def __init__(self) -> None:
        """Start with none."""
        self._functions: dict[tuple[str, str], Callable[..., Any]] = {}
        self._warm: set[tuple[str, str, str]] = set()
        self._spaces: dict[str, Any] = {}

    def run(self, request: dict[str, Any], say: Callable[[Any], None]) -> dict[str, Any]:
        """Run a method once and return what it took; the first time it is run on few rows first.

        What is resident is told when all is ready, so that others can watch from there.
        """
        function = self._function(request["module"], request["function"])
        options = request["options"]
        spaces = self._load(request["spaces"])
        kind = (request["module"], request["function"], json.dumps(options.get("kind")))
        if kind not in self._warm:
            few = {**options, "n_rows": min(options["n_rows"], WARM_ROWS)}
            function([rows[:WARM_ROWS] for rows in spaces], few, Clock())
            self._warm.add(kind)
        spaces = [rows[: options["n_rows"]] for rows in spaces]
        gc.collect()
        _return_memory()
        before = _start_peak()
        say(before)
        clock, wall, cpu = Clock(), time.perf_counter(), time.process_time()
        value = function(spaces, options, clock)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {
            "wall": wall + clock.wall,
            "cpu": cpu + clock.cpu,
            "scaled": clock.scaled,
            "peak_bytes": _peak_since(before),
            "values": np.atleast_1d(np.asarray(value, dtype=float)).tolist(),
        }

    def forget(self) -> dict[str, Any]:
        """Give up the spaces."""
        self._spaces.clear()
        return {}

    def _function(self, module: str, name: str) -> Callable[..., Any]:
        """Return a function of a module, or of a file that ends in .py."""
        if (module, name) not in self._functions:
            if module.endswith(".py"):
                spec = importlib.util.spec_from_file_location(Path(module).stem, module)
                assert spec is not None
                assert spec.loader is not None
                loaded = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(loaded)
            else:
                loaded = importlib.import_module(module)
            self._functions[module, name] = getattr(loaded, name)
        return self._functions[module, name]

    def _load(self, files: list[str]) -> list[Any]:
        """Return arrays of files, loaded before any clock starts; those of other runs are let go."""
        self._spaces = {k: v for k, v in self._spaces.items() if k in files}
        for file in files:
            if file not in self._spaces:
                self._spaces[file] = np.load(file)
        return [self._spaces[file] for file in files]


def _return_memory() -> None:
    """Give the system what earlier runs have freed, or this one would seem to need no more."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # glibc alone keeps it back
        ctypes.CDLL(None).malloc_trim(0)


def _status(*keys: str) -> list[int]:
    """Return numbers of this process in bytes, from /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return [int(found[key].split()[0]) * 1024 for key in keys]


def _mapped() -> int:
    """Return the bytes resident that are pages of files, those of a file system in memory too."""
    return sum(_status("RssFile", "RssShmem"))


def _start_peak() -> dict[str, int] | None:
    """Start to watch the memory.

    Returns
    -------
    dict
        Bytes resident now, those of them that are of files and that are not, and the most so far,
        which is forgotten where the system lets it; None where the system says nothing.
    """
    try:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        resident, most, own = _status("VmRSS", "VmHWM", "RssAnon")
        mapped = _mapped()
    except (OSError, KeyError):
        return None
    return {"resident": resident, "most": most, "mapped": mapped, "own": own}


def _peak_since(before: dict[str, int] | None) -> int | None:
    """Return the most bytes since `_start_peak` beyond those resident then, if they are known."""
    if before is None:
        return None
    (most,) = _status("VmHWM")
    # Where an earlier run held more, and that was not forgotten, nothing is known of this one.
    forgotten = before["most"] - before["resident"] < _SAME_BYTES
    return most - before["resident"] if forgotten or most > before["most"] else None


def main() -> None:
    """Answer every line of stdin until it ends."""
    # Beside this file lie modules with names that others have too.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [place for place in sys.path if str(Path(place or ".").resolve()) != here]
    replies = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)

    def say(reply: Any) -> None:
        """Write a line to whoever asked."""
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    methods = Methods()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            reply = methods.forget() if "forget" in request else methods.run(request, say)
        except Exception as error:  # noqa: BLE001 - methods are anybody's: the parent is told
            reply = {"error": f"{type(error).__name__}: {error}"}
        say(reply)


if __name__ == "__main__":
    main()
