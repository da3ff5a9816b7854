"""Workers on this machine: threads, or processes that are replaced when they die."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from layerlake.engine.workers.blas_threads import SINGLE_THREADED, one_blas_thread
from layerlake.engine.workers.job_feeds import Feed, NoJob, next_job
from layerlake.engine.workers.worker_process import BOOT, packed, receive, send, unpacked
from layerlake.store.errors import WorkersFailed

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)
S = TypeVar("S")

AHEAD: Final = 2
"""Parts for each worker that may be begun from the first one on that is not done."""
MOST_DEATHS: Final = 3
"""Workers that may die over one part before it is given up."""


def finished_parts(
    parts: Sequence[P] | Feed[P],
    summarise: Callable[[P], S],
    workers: int,
    *,
    kind: str,
    ahead: int | None = None,
    on_death: Callable[[P], S] | None = None,
    environments: Sequence[Mapping[str, str]] = (),
) -> Generator[tuple[int, S], None, None]:
    """Yield the number and the state of every part, in the order in which they are done.

    Parameters
    ----------
    parts
        What there is to do; begun in order. A feed is asked for a part when a worker is free: at
        first, and whenever the reader of the states comes back for the next one.
    summarise
        Turns a part into its state; pickled for processes.
    workers
        How many work at a time.
    kind
        `threads` or `processes`.
    ahead
        Parts that may be begun from the first one on that is not done; by default two a worker, so
        that few states lie about. A feed decides this itself.
    on_death
        Returns what stands for the state of a part that killed several processes; by default that
        ends all the others too.
    environments
        Variables of the environment of each process, over those of this one.

    Raises
    ------
    InvalidInput
        `summarise` cannot be pickled, or a feed waits while nothing runs.
    WorkersFailed
        A part killed several processes.
    Exception
        What `summarise` raised, of the first part for which it did.
    """
    if kind == "processes":
        function = packed(summarise, "the work")
        own = [*environments, *([{}] * (workers - len(environments)))]
        processes = [_Process(function, own[number]) for number in range(workers)]
        runs: list[Callable[[P], S]] = list(processes)
    else:
        processes = []
        runs = [summarise] * workers
    source: _Source[P]
    if callable(parts):
        source = _Fed(parts, workers)
    else:
        source = _Numbers(parts, AHEAD * workers if ahead is None else ahead)
    arrived: queue.SimpleQueue[tuple[int, S | None, BaseException | None] | None]
    arrived = queue.SimpleQueue()

    def work(run: Callable[[P], S]) -> None:
        """Take parts until there are no more; the last message is None."""
        while (taken := source.take()) is not None:
            number, part = taken
            try:
                arrived.put((number, run(part), None))
            except _Killed as error:
                if on_death is not None:
                    arrived.put((number, on_death(part), None))
                    continue
                source.stop()
                arrived.put((number, None, error))
            except BaseException as error:  # noqa: BLE001 - raised by whoever waits
                source.stop()
                arrived.put((number, None, error))
        if isinstance(run, _Process):
            run.reap()
        arrived.put(None)

    threads = [threading.Thread(target=work, args=(run,), daemon=True) for run in runs]
    failures: dict[int, BaseException] = {}
    with one_blas_thread() if kind == "threads" else contextlib.nullcontext():
        try:
            for thread in threads:
                thread.start()
            left = len(threads)
            while left:
                message = arrived.get()
                if message is None:
                    left -= 1
                    continue
                number, state, error = message
                del message
                if error is not None:
                    failures[number] = error
                elif not failures:
                    yield number, state  # type: ignore[misc]  # without an error there is a state
                    source.done(number)
                del state
            if failures:
                # All parts before the first that failed were begun before it: no timing changes
                # which one that is.
                raise failures[min(failures)]
        finally:
            source.stop()
            for process in processes:
                process.kill()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            failures.clear()


class _Source(Protocol[P_co]):
    """Hands out parts, each with its number."""

    def take(self) -> tuple[int, P_co] | None:
        """Return the next part once it may be begun; None where there are no more."""

    def done(self, number: int) -> None:
        """Take note that the state of a part has been taken over."""

    def stop(self) -> None:
        """Hand out no more."""


class _Numbers(Generic[P]):
    """Hands out the parts of a sequence in order, none too far ahead of the first not done."""

    def __init__(self, parts: Sequence[P], ahead: int) -> None:
        self._change = threading.Condition()
        self._parts = parts
        self._count, self._ahead = len(parts), ahead
        self._next = self._first = 0
        self._done: set[int] = set()
        self._stopped = False

    def take(self) -> tuple[int, P] | None:
        """Return the next part once it may be begun; None where there are no more."""
        with self._change:
            self._change.wait_for(
                lambda: (
                    self._stopped
                    or self._next == self._count
                    or self._next < self._first + self._ahead
                )
            )
            if self._stopped or self._next == self._count:
                return None
            self._next += 1
            return self._next - 1, self._parts[self._next - 1]

    def done(self, number: int) -> None:
        """Take note that the state of a part has been taken over."""
        with self._change:
            self._done.add(number)
            while self._first in self._done:
                self._done.remove(self._first)
                self._first += 1
            self._change.notify_all()

    def stop(self) -> None:
        """Hand out no more."""
        with self._change:
            self._stopped = True
            self._change.notify_all()


class _Fed(Generic[P]):
    """Hands out the parts of a feed, which is asked in the thread that reads the states alone."""

    def __init__(self, feed: Feed[P], workers: int) -> None:
        self._feed = feed
        self._free = self._workers = workers
        self._next = 0
        self._ended = self._stopped = False
        self._ready: queue.SimpleQueue[tuple[int, P] | None] = queue.SimpleQueue()
        self._ask()

    def _ask(self) -> None:
        """Ask for a part for every worker that has none."""
        while self._free and not self._ended:
            part = next_job(self._feed, running=self._free < self._workers)
            if part is NoJob.YET:
                return
            if part is NoJob.LEFT:
                self._ended = True
                self._dismiss()
                return
            self._ready.put((self._next, part))
            self._next += 1
            self._free -= 1

    def _dismiss(self) -> None:
        for _ in range(self._workers):
            self._ready.put(None)

    def take(self) -> tuple[int, P] | None:
        """Return the next part; None where there are no more."""
        taken = self._ready.get()
        return None if self._stopped else taken

    def done(self, number: int) -> None:
        """Take note that the state of a part has been taken over."""
        self._free += 1
        self._ask()

    def stop(self) -> None:
        """Hand out no more."""
        self._stopped = True
        self._dismiss()


class _Killed(WorkersFailed):
    """Several processes died over one part."""


class _Process:
    """A worker process, and the one that takes its place when it dies; of one thread."""

    def __init__(self, function: bytes, environment: Mapping[str, str]) -> None:
        """Take what turns a part into its state, packed, and variables of the environment."""
        self._function = function
        self._environment = environment
        self._lock = threading.Lock()
        self._killed = False
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, part: Any) -> Any:
        """Return the state of a part, from as many processes as that takes."""
        for death in range(1, MOST_DEATHS + 1):
            try:
                fine, found = self._ask(part)
            except (EOFError, BrokenPipeError):
                code = self.reap()
                if self._killed or death == MOST_DEATHS:
                    break
            else:
                if fine:
                    return found
                raise found
        raise _Killed(
            f"{death} worker processes died over the same rows ({_ending(code)}), as happens where "
            "memory runs out; allow fewer workers, or read fewer rows at a time"
        )

    def _ask(self, part: Any) -> tuple[bool, Any]:
        """Send a part and return the answer: whether there is a state, and it or the error."""
        child, fresh = self._alive()
        assert child.stdin is not None
        assert child.stdout is not None
        if fresh:
            send(self._function, child.stdin)
        send(packed(part, "a part"), child.stdin)
        answer: tuple[bool, Any] = unpacked(receive(child.stdout))
        return answer

    def _alive(self) -> tuple[subprocess.Popen[bytes], bool]:
        """Return the process and whether it has just been started."""
        with self._lock:
            if self._child is not None:
                return self._child, False
            if self._killed:
                raise EOFError
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT, *sys.path],
                env={**os.environ, **SINGLE_THREADED, **self._environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            return self._child, True

    def kill(self) -> None:
        """Kill the process, and start no other: whoever waits for its answer sees it end."""
        with self._lock:
            self._killed = True
            if self._child is not None:
                self._child.kill()

    def reap(self) -> int | None:
        """End the process that there is and return how it ended; it has nothing left to do."""
        with self._lock:
            child, self._child = self._child, None
        if child is None:
            return None
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        child.kill()
        return child.wait()


def _ending(code: int | None) -> str:
    """Say how a process ended."""
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
