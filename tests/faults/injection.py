"""Faults at a chosen call to the operating system, in the process that has an `Injector` installed.

Python's own calls (`os.writev`, `os.fsync`, `os.rename`, `open`, ...) are counted where they touch
a folder. At a chosen one something happens: the process is killed, the call fails or does half of
its work, the disk is filled, the clock jumps, another process gets its turn. That it happened is
written to a log outside the folder before anything else can, so that a fault which was not reached
cannot pass for one that did no harm.
"""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

WRITES = ("create", "mkdir", "writev", "fsync", "rename", "replace", "unlink", "rmdir")
"""Calls that change the folder, or make a change durable."""

CAN_BE_FULL = ("create", "mkdir", "writev", "fsync", "rename", "replace")
READS = ("open", "preadv", "stat", "scandir")

_REAL = {
    name: getattr(os, name)
    for name in (
        "open",
        "close",
        "stat",
        "scandir",
        "writev",
        "fsync",
        "preadv",
        "mkdir",
        "rename",
        "replace",
        "unlink",
        "rmdir",
    )
}
_OPEN = io.open
_CLOCKS = {name: getattr(time, name) for name in ("time", "time_ns")}


class Step(NamedTuple):
    """One call that touches the folder."""

    call: str
    path: str
    """Relative to the folder."""
    size: int
    """Bytes that the call is given to write."""


class Log:
    """Lines of JSON in a file; each lies there before the next thing happens."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, **what: Any) -> None:
        """Append one line."""
        descriptor = _REAL["open"](self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, (json.dumps(what) + "\n").encode())
        _REAL["close"](descriptor)

    def lines(self, key: str) -> list[Any]:
        """Return what was said under a key, in order."""
        if not self.path.exists():
            return []
        said = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line[key] for line in said if key in line]


class Injector:
    """Counts the calls that touch a folder, and lets one fault happen.

    Parameters
    ----------
    root
        The folder.
    log
        Gets `step` for every call while nothing is to happen, `fired` when it does, and
        `committed` for every window whose commit was renamed into place.
    """

    def __init__(self, root: Path, log: Log) -> None:
        self.root = str(root)
        self.log = log
        self.record = False
        self.strikes: Callable[[Step], bool] = lambda step: False
        """Which calls the fault may strike."""
        self.moment = 0
        """How many of these go by before the one at which `fault` is due."""
        self.fault: Callable[[Step, Callable[..., Any], tuple[Any, ...]], Any] | None = None
        self.watch: tuple[str, ...] = ()
        """Paths, relative to the folder, of which every look is logged as `fired`."""
        self.see: Callable[[OSError], bool] | None = None
        """Errors of the operating system's own that are logged as `fired`."""
        self._names: dict[int, str] = {}
        self._count = 0
        self._lock = threading.Lock()

    def _name(self, path: Any, folder: int | None = None) -> str:
        if isinstance(path, int):
            return self._names.get(path, "")
        name = os.fsdecode(os.fspath(path))
        if folder is not None:
            name = os.path.join(self._names.get(folder, ""), name)  # noqa: PTH118
        return name

    def _step(self, call: str, name: str, real: Callable[..., Any], *arguments: Any) -> Any:
        """Do the call, or what happens in its place."""
        if not name.startswith(self.root):
            return real(*arguments)
        path = name[len(self.root) :].strip("/")
        size = 0
        if call == "writev":
            size = sum(memoryview(view).nbytes for view in arguments[1])
        step = Step(call, path, size)
        due = False
        if self.fault is not None and self.strikes(step):
            with self._lock:
                due = self._count == self.moment
                self._count += 1
        if self.record:
            self.log.say(step=step)
        if path in self.watch:
            self.log.say(fired=step)
        if self.fault is not None and due:
            return self.fault(step, real, arguments)
        try:
            return real(*arguments)
        except OSError as error:
            if self.see is not None and self.see(error):
                self.log.say(fired=step)
            raise

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand between Python and the operating system."""

        def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            name = self._name(path, dir_fd)
            call = "create" if flags & os.O_CREAT else "open"

            def real() -> int:
                return int(_REAL["open"](path, flags, mode, dir_fd=dir_fd))

            descriptor = self._step(call, name, real)
            self._names[descriptor] = name
            return int(descriptor)

        def closed(descriptor: int) -> None:
            self._names.pop(descriptor, None)
            _REAL["close"](descriptor)

        def file(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if isinstance(path, int):
                return _OPEN(path, mode, *rest, **options)
            call = "create" if set(mode) & set("wxa") else "open"
            return self._step(call, self._name(path), lambda: _OPEN(path, mode, *rest, **options))

        def of_descriptor(call: str) -> Callable[..., Any]:
            def wrapped(descriptor: int, *rest: Any) -> Any:
                name = self._names.get(descriptor, "")
                return self._step(call, name, _REAL[call], descriptor, *rest)

            return wrapped

        def of_path(call: str, *, target: bool = False) -> Callable[..., Any]:
            def wrapped(path: Any = ".", *rest: Any, **options: Any) -> Any:
                name = self._name(rest[0] if target else path, options.get("dir_fd"))
                done = self._step(call, name, lambda *of: _REAL[call](*of, **options), path, *rest)
                if target and "/commits/c/" in name:
                    self.log.say(committed=name[len(self.root) :].strip("/"))
                return done

            return wrapped

        names = {
            "open": opened,
            "close": closed,
            **{call: of_descriptor(call) for call in ("writev", "fsync", "preadv")},
            **{call: of_path(call) for call in ("stat", "scandir", "mkdir", "unlink", "rmdir")},
            **{call: of_path(call, target=True) for call in ("rename", "replace")},
        }
        for name, wrapper in names.items():
            setattr(os, name, wrapper)
        io.open = file
        try:
            yield
        finally:
            for name in names:
                setattr(os, name, _REAL[name])
            io.open = _OPEN

    # What can happen at the chosen call.

    def killed(self, *, after: bool) -> None:
        """Kill the process just before or just after the call."""

        def fault(step: Step, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            try:
                if after:
                    real(*arguments)
            finally:
                self.log.say(fired=step)
                os.kill(os.getpid(), signal.SIGKILL)

        self.fault = fault

    def failing(self, number: int) -> None:
        """Let the call fail, a write after half of its bytes."""

        def fault(step: Step, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            if step.call == "writev":
                real(arguments[0], _first_half(arguments[1]))
            self.log.say(fired=step)
            raise OSError(number, os.strerror(number))

        self.fault = fault

    def short(self) -> None:
        """Let the call move a part of its bytes only, and say so as the kernel does."""

        def fault(step: Step, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            descriptor, views, *rest = arguments
            self.log.say(fired=step)
            return real(descriptor, _first_half(views), *rest)

        self.fault = fault

    def limited(self) -> None:
        """From the call on, let the kernel cut longer files short: write a part, then EFBIG.

        The log outside the folder meets the limit too, so it must be a large file's write.
        """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.see = lambda error: error.errno == errno.EFBIG

        def fault(step: Step, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (step.size // 2, hard))
            return real(*arguments)

        self.fault = fault

    def filled(self, ballast: Path) -> None:
        """From the call on, leave no room on the file system for anything."""
        self.see = lambda error: error.errno == errno.ENOSPC

        def fault(step: Step, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            descriptor = _REAL["open"](ballast, os.O_WRONLY | os.O_CREAT, 0o600)
            block = bytes(65536)
            try:
                while block:
                    try:
                        os.write(descriptor, block)
                    except OSError:
                        block = block[: len(block) // 2]
            finally:
                _REAL["close"](descriptor)
            try:
                return real(*arguments)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self.log.say(fired=step)
                raise

        self.fault = fault

    def clock(self, seconds: float) -> None:
        """Let the clock jump, and the times of every file with it."""

        def fault(step: Step, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            time.time = lambda: _CLOCKS["time"]() + seconds
            time.time_ns = lambda: _CLOCKS["time_ns"]() + int(seconds * 1e9)
            shift = seconds
            for folder, _, files in os.walk(self.root):
                for name in files:
                    path = os.path.join(folder, name)  # noqa: PTH118
                    shift = -shift  # half of the files go the other way
                    os.utime(path, (_CLOCKS["time"]() + shift, _CLOCKS["time"]() + 2 * shift))
            self.log.say(fired=step)
            return real(*arguments)

        self.fault = fault

    def paused(self, turn: Callable[[], None]) -> None:
        """Give another process its turn before the call."""

        def fault(step: Step, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            self.log.say(fired=step)
            turn()
            return real(*arguments)

        self.fault = fault


def _first_half(views: Any) -> list[memoryview]:
    """Return the first half of the bytes of some buffers, at least one byte."""
    given = [memoryview(view).cast("B") for view in views]
    left = max(sum(view.nbytes for view in given) // 2, 1)
    out = []
    for view in given:
        if left:
            out.append(view[: min(left, view.nbytes)])
            left -= out[-1].nbytes
    return out
