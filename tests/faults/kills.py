"""Run by the tests of this folder as a program of its own: work is killed in forked children.

    python kills.py extract LAKE MODEL CORPUS KILLS      python kills.py OPERATION LAKE KILLS

Forking spares each child the seconds that importing torch takes; the parent computes nothing, so
that no thread of a BLAS is lost in the fork. What happened is printed as one JSON object.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from layerlake.engine.catalogue import add_corpus
from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.store.errors import SetIncomplete
from layerlake.store.lake import Lake, open_lake
from layerlake.store.removal import gc, remove
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.verify import verify
from layerlake.store.writer import SetWriter

RANDOM = np.random.default_rng(11)


def killed(action: Callable[[int], None], moment: Callable[[int], None]) -> bool:
    """Run an action in a child and kill it; True where it had not ended by itself.

    The action is given the end of a pipe to write to; the moment is chosen by a function that is
    given the other end and returns when it is time.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            action(writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    moment(reading)
    os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the action failed by itself")
    return os.WIFSIGNALED(status)


def lines(reading: int, seconds: float = 60) -> Iterator[str]:
    """Yield what a child says, line by line, until it ends."""
    rest = b""
    while select.select([reading], [], [], seconds)[0]:
        got = os.read(reading, 4096)
        if not got:
            return
        *whole, rest = (rest + got).split(b"\n")
        yield from (line.decode() for line in whole)


def extract_killed(place: str, model: str, corpus: str, kills: int) -> dict[str, Any]:
    """Kill an extraction at random moments; say which windows each run began and found committed."""
    import torch
    from transformers import AutoModel, AutoTokenizer, BertModel  # noqa: F401 (once, not a child)

    from layerlake.engine.extraction import window_runner
    from layerlake.engine.extraction.extract import extract

    log = Path(place).with_suffix(".windows")
    compute = window_runner.WindowRunner.window

    def logged(self: Any, window: int, *rest: Any) -> Any:
        with log.open("a") as file:
            file.write(f"{window}\n")
        return compute(self, window, *rest)

    window_runner.WindowRunner.window = logged  # type: ignore[method-assign]

    def work(writing: int) -> None:
        torch.set_num_threads(1)
        os.write(writing, b"begun\n")
        extract(
            open_lake(place, "a"), model, corpus, variant="base", window_rows=1024, device="cpu"
        )

    def begun() -> list[int]:
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    runs, refusals, n_kills, before = [], 0, 0, set()
    while n_kills < kills:
        known = len(begun())
        pause, windows = float(RANDOM.uniform(0, 0.05)), int(RANDOM.integers(1, 4))

        def moment(
            reading: int, known: int = known, pause: float = pause, windows: int = windows
        ) -> None:
            # At a random time after its first to third window began, however fast the machine:
            # before that there is nothing to lose.
            end = time.monotonic() + 60
            while len(begun()) < known + windows and time.monotonic() < end:
                time.sleep(0.002)
            time.sleep(pause)

        if not killed(work, moment):
            break
        n_kills += 1
        states = open_lake(place, "a").sets()
        if not states:  # killed before its first window, which says what the set will be like
            runs.append({"begun": begun()[known:], "redone": len(set(begun()[known:]))})
            continue
        (state,) = states
        committed = set(np.flatnonzero(state.committed).tolist())
        ours = begun()[known:]
        runs.append({"begun": ours, "redone": len(set(ours) - committed)})
        if not before <= committed or set(ours) & before:
            raise RuntimeError(f"committed before: {before}, begun: {ours}, now: {committed}")
        before = committed
        space = open_lake(place, verified=True).space(state.plan.corpus, "base", 0)
        for window in range(state.plan.layout.n_windows):
            start, stop = state.plan.layout.window(window)
            try:
                rows = space.rows(slice(start, stop))
            except SetIncomplete as error:
                refusals += "windows are not committed" in str(error)
                if window in committed:
                    raise
            else:
                if window not in committed or len(rows) != stop - start:
                    raise RuntimeError(f"window {window} was read and is not committed")
    known = len(begun())
    if os.fork() == 0:
        work(os.open(os.devnull, os.O_WRONLY))
        os._exit(0)
    _, status = os.wait()
    return {
        "kills": n_kills,
        "runs": runs,
        "refusals": refusals,
        "left_for_the_last": len(begun()) - known,
        "last_status": status,
        "n_windows": open_lake(place).sets()[0].plan.layout.n_windows,
    }


LAYOUT = ActivationLayout(20 * 64, 16, "float32", "none", window_rows=64, chunk_rows=32)
VALUES = np.arange(20 * 64 * 16, dtype="float32").reshape(-1, 16)
CONTENTS = {"row_set": "r", "unit": "piece", "rows": "all"}
PLAN = SetPlan("wiki", "base", CONTENTS, {}, {}, ("resid/0", "resid/1"), LAYOUT)
DEAD_FILES = 2000
TEXTS = [f"line {number} of a corpus that takes a moment to write" for number in range(4000)]


def fill(lake: Lake) -> None:
    """Write what is missing of the set."""
    with SetWriter(lake.location, PLAN) as writer:
        for window in np.flatnonzero(~writer.committed).tolist():
            rows = VALUES[slice(*LAYOUT.window(window))]
            writer.write_window(window, {"resid/0": rows, "resid/1": -rows})
        writer.seal()


def damage(place: str) -> None:
    """Flip a byte in some shards."""
    shards = sorted(Path(place).glob("activations/wiki/base/*/resid/*/c/*/0"))
    for shard in RANDOM.choice(np.array(shards, dtype=object), 8, replace=False):
        content = bytearray(shard.read_bytes())
        content[int(RANDOM.integers(len(content)))] ^= 1
        shard.write_bytes(content)


def sound(place: str) -> Lake:
    """Open a lake that must have no findings."""
    lake = open_lake(place, "a")
    if verify(lake).findings:
        raise RuntimeError(f"findings: {verify(lake).findings}")
    return lake


def operation_killed(operation: str, place: str, kills: int) -> dict[str, Any]:
    """Kill one operation again and again, each time finishing it and looking at all that is left."""
    lake = open_lake(place, "a")
    add_corpus(lake, "wiki", corpus_from_texts(TEXTS[:3]))
    content = corpus_from_texts(TEXTS)

    def prepare() -> None:
        lake = open_lake(place, "a")
        if operation == "corpus":
            if "new" in lake.corpora():
                remove(lake, "corpora/new")
            return
        fill(lake)
        if operation == "repair":
            damage(place)
        if operation == "gc":
            # What a killed removal and a dead writer leave: a tombstone, and files half-made.
            half = Path(place) / "staging" / "deadbeef"
            half.mkdir(exist_ok=True)
            for number in range(DEAD_FILES):
                (half / str(number)).write_bytes(b"x" * 1000)

    def act() -> None:
        lake = open_lake(place, "a")
        if operation == "corpus":
            add_corpus(lake, "new", content)
        elif operation == "rm":
            remove(lake, "activations/wiki/base")
        elif operation == "gc":
            gc(lake)
        else:
            verify(lake, repair=True)

    def work(writing: int) -> None:
        os.write(writing, b"begun\n")
        act()

    def check() -> str:
        """Look at what the kill left, finish the operation, and say how it was found."""
        lake = open_lake(place, "a")
        if operation == "corpus":
            found = "whole" if "new" in sound(place).corpora() else "absent"
            act()
            if "new" not in sound(place).corpora():
                raise RuntimeError("the corpus is not there")
            return found
        if operation == "repair":
            left = len(verify(lake).findings)
            verify(lake, repair=True)
            fill(sound(place))
            found = f"{left > 0}"
        elif operation == "rm":
            states = lake.sets()
            found = "whole" if states else "gone"
            if states and not states[0].sealed:
                raise RuntimeError("half a set")
            if states:
                remove(lake, PLAN.path)
            gc(lake)
            if sound(place).sets():
                raise RuntimeError("the set is still there")
            return found
        else:
            left = len(list((Path(place) / "staging").glob("deadbeef/*")))
            found = {DEAD_FILES: "whole", 0: "gone"}.get(left, "partly")
            gc(lake)
        space = sound(place).space("wiki", "base", 0, sealed=True)
        if space.rows(slice(None)).tobytes() != VALUES.tobytes():
            raise RuntimeError("other values")
        return found

    prepare()
    began = time.monotonic()
    act()
    longest = time.monotonic() - began
    check()
    n_kills, found = 0, []
    for _ in range(20 * kills):
        if n_kills == kills:
            break
        prepare()
        pause = float(RANDOM.uniform(0, longest))

        def moment(reading: int, pause: float = pause) -> None:
            next(lines(reading))
            time.sleep(pause)

        if killed(work, moment):
            n_kills += 1
            found.append(check())
        else:
            check()
    gc(open_lake(place, "a"))
    staged = [p for p in (Path(place) / "staging").rglob("*") if p.is_file()]
    return {
        "kills": n_kills,
        "found": {name: found.count(name) for name in set(found)},
        "staged": [p.name for p in staged if p.name != "zarr.json"],
    }


if __name__ == "__main__":
    if sys.argv[1] == "extract":
        outcome = extract_killed(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        outcome = operation_killed(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print(json.dumps(outcome))
