"""The fault campaign: every kind of fault, in every operation, and what became of the data.

    python tests/faults/campaign.py [--each N] [--seed S] [--json FILE] [--folder PATH]

Each fault strikes one run of one operation, in a forked child, at one call to the operating system
that is drawn among those the operation makes. Afterwards everything that was committed is read,
the operation is done again without a fault, and the whole lake is compared, file by file, with that
of a run that nothing disturbed. The exit code is 0 where every fault was reached, nothing was lost,
nothing wrong was served, every refusal was one sentence, and every lake ended with the same bits.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from injection import CAN_BE_FULL, READS, WRITES, Injector, Log, Step
from operations import Operation, World, WrongValues, tree

from layerlake.store.errors import LayerLakeError

HOUR = 3600.0
LARGE = 16384
"""Bytes of a write that a limit of file sizes can cut without cutting the log."""


@dataclass
class Row:
    """What became of the faults of one kind."""

    kind: str
    injected: int = 0
    reached: int = 0
    unharmed: int = 0
    """The operation ended as if nothing had happened."""
    refused: int = 0
    """It ended with one sentence."""
    killed: int = 0
    resumed: int = 0
    """Done again, it left the lake that an undisturbed run leaves, bit for bit."""
    lost: int = 0
    """Committed windows, or tables, that no longer read."""
    wrong: int = 0
    """Values served without an error that differ from an undisturbed run's."""
    failed: int = 0
    """It ended with a traceback, or with more than a sentence."""
    problems: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every fault was reached, and none did harm."""
        return self.injected == self.reached == self.resumed and not (
            self.lost or self.wrong or self.failed
        )


@dataclass(frozen=True)
class Kind:
    """One kind of fault: where it can strike, and how."""

    name: str
    strikes: Callable[[Step], bool]
    arm: Callable[[Injector, np.random.Generator, Path], None]
    operations: tuple[str, ...]
    full_disk: bool = False
    """It takes a file system of its own."""


WRITING = (
    "extract",
    "extract, next variant",
    "corpus add",
    "rm",
    "gc",
    "verify --repair",
    "rsa, kept",
)
READING = ("extract, next variant", "read", "rsa, kept", "rsa, asked again", "verify --repair")
DAMAGED = ("extract, next variant", "read", "rsa, kept", "rsa, asked again", "corpus add", "rm")


def _calls(*names: str) -> Callable[[Step], bool]:
    return lambda step: step.call in names


KINDS = [
    Kind(
        "kill -9",
        _calls(*WRITES),
        lambda injector, random, _: injector.killed(after=bool(random.integers(2))),
        WRITING,
    ),
    Kind(
        "ENOSPC (a full tmpfs)",
        _calls("writev"),
        lambda injector, _, place: injector.filled(place.parent / "ballast"),
        ("extract", "extract, next variant", "corpus add", "rsa, kept", "verify --repair"),
        full_disk=True,
    ),
    Kind(
        "ENOSPC",
        _calls(*CAN_BE_FULL),
        lambda injector, *_: injector.failing(errno.ENOSPC),
        WRITING,
    ),
    Kind("EIO, writing", _calls(*WRITES), lambda i, *_: i.failing(errno.EIO), WRITING),
    Kind("EIO, reading", _calls(*READS), lambda i, *_: i.failing(errno.EIO), READING),
    Kind(
        "short write",
        lambda step: step.call == "writev" and step.size > 1,
        lambda injector, *_: injector.short(),
        ("extract", "extract, next variant", "corpus add", "rsa, kept", "verify --repair"),
    ),
    Kind(
        "short write (file size limit)",
        lambda step: step.call == "writev" and step.size >= LARGE,
        lambda injector, *_: injector.limited(),
        ("extract", "extract, next variant", "repair and resume"),
    ),
    Kind("short read", _calls("preadv"), lambda i, *_: i.short(), ("read", "rsa, kept")),
    Kind(
        "clock jump",
        lambda step: True,
        lambda injector, random, _: injector.clock(
            float(random.uniform(2, 48)) * HOUR * (1 if random.integers(2) else -1)
        ),
        WRITING,
    ),
]

RIVALS = {
    "extract": ("extract", "extract, next variant", "read", "gc", "verify --repair", "rm"),
    "extract, next variant": ("extract, next variant", "read", "gc", "rm", "verify --repair"),
    "corpus add": ("corpus add", "gc", "read"),
    "rm": ("extract, next variant", "rm", "gc", "read"),
    "gc": ("extract, next variant", "gc", "corpus add", "read"),
    "verify --repair": ("repair and resume", "verify --repair", "read", "extract, next variant"),
    "rsa, kept": ("rsa, kept", "rsa, asked again", "gc"),
    "read": ("rm", "repair and resume", "extract"),
}
"""Who gets a turn in the middle of whom."""


class Campaign:
    """Runs faults one after the other and keeps count."""

    def __init__(self, world: World, each: int, seed: int) -> None:
        self.world = world
        self.each = each
        self.random = np.random.default_rng(seed)
        self.rows: list[Row] = []
        self._steps: dict[str, list[Step]] = {}

    # One run of an operation in a child.

    def child(
        self,
        operation: Operation,
        place: Path,
        injector: Injector,
        turn: Callable[[], None] | None = None,
    ) -> tuple[str, str]:
        """Run an operation under an injector; return how it ended and what it said.

        `turn` is called here, once, while the child waits for it where its injector pauses.
        """
        answers, to_parent = os.pipe()
        goes, to_child = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            os.close(to_child)

            def pause() -> None:
                os.write(to_parent, b"turn\n")
                os.read(goes, 1)

            if turn is not None:
                injector.paused(pause)
            said = _attempt(operation, place, injector)
            os.write(to_parent, json.dumps(said).encode())
            os._exit(0)
        os.close(to_parent)
        os.close(goes)
        answer = b""
        while part := os.read(answers, 65536):
            answer += part
            if turn is not None and answer == b"turn\n":
                answer = b""
                turn()
                os.write(to_child, b"g")
        os.close(answers)
        os.close(to_child)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            killer = os.WTERMSIG(status)
            return ("killed", "") if killer == signal.SIGKILL else ("failed", f"signal {killer}")
        how, what = json.loads(answer)
        return how, what

    def steps(self, operation: Operation) -> list[Step]:
        """Return the calls that an undisturbed run makes."""
        if operation.name not in self._steps:
            place = self.world.start(operation.start, self.world.folder / "recorded")
            log = self._log()
            injector = Injector(place, log)
            injector.record = True
            how, said = self.child(operation, place, injector)
            if how != "unharmed":
                raise RuntimeError(f"{operation.name} fails by itself: {said}")
            self._steps[operation.name] = [Step(*step) for step in log.lines("step")]
        return self._steps[operation.name]

    def _log(self) -> Log:
        path = self.world.folder / "log"
        path.unlink(missing_ok=True)
        return Log(path)

    def _draw(self, names: tuple[str, ...], eligible: Callable[[Step], bool]) -> Iterator[Any]:
        """Yield operations with moments, spread over all their calls that a fault may strike."""
        share = -(-self.each // len(names))
        for name in names:
            operation = self.world.operations[name]
            steps = [step for step in self.steps(operation) if eligible(step)]
            if not steps:
                raise RuntimeError(f"no such call in {name}")
            for moment in self._moments(len(steps), share):
                yield operation, moment, steps[moment]

    def _moments(self, n_steps: int, count: int) -> list[int]:
        bounds = np.linspace(0, n_steps, count + 1)
        drawn = [self.random.uniform(low, high) for low, high in itertools.pairwise(bounds)]
        return [min(int(moment), n_steps - 1) for moment in drawn]

    # Kinds of faults.

    def calls(self, kind: Kind, disk: Path) -> None:
        """Let a call fail, or the process die at it."""
        row = self._row(kind.name)
        for operation, moment, step in self._draw(kind.operations, kind.strikes):
            place = self.world.start(operation.start, disk / "lake")
            before = self.world.committed(place)
            log = self._log()
            injector = Injector(place, log)
            injector.strikes, injector.moment = kind.strikes, moment
            kind.arm(injector, self.random, place)
            how, said = self.child(operation, place, injector)
            (disk / "ballast").unlink(missing_ok=True)
            must = before | {_window(key) for key in log.lines("committed")}
            must = {one for one in must if not one[0].startswith(operation.gives_up or "\0")}
            where = f"{operation.name}, {step}"
            self._count(row, where, bool(log.lines("fired")), how, said)
            self._examine(row, where, place, must, unverified=operation.start != "damaged")
            self._resume(row, where, place, operation.name)

    def damage(
        self, name: str, harm: Callable[[Path], None], looks: tuple[str, ...], *, again: bool
    ) -> None:
        """Damage a file before the operation that will read it."""
        row = self._row(name)
        for operation, paths in self._files(looks, again):
            for path in paths:
                place = self.world.start(operation.start, self.world.folder / "lake")
                before = self.world.committed(place)
                harm(place / path)
                log = self._log()
                injector = Injector(place, log)
                injector.watch = (path,)
                how, said = self.child(operation, place, injector)
                where = f"{operation.name}, {path}"
                self._count(row, where, bool(log.lines("fired")), how, said)
                # A window whose own bytes are whole must read, unless what describes them is not.
                gone = (*operation.gives_up, path.partition("/commits/")[0] + "/")
                if path.endswith("zarr.json"):
                    gone = ("",)
                number = int(path.split("/c/")[1].split("/")[0]) if "/c/" in path else -1
                must = {
                    one
                    for one in before
                    if not one[0].startswith(gone) and not (one[0] in path and one[1] == number)
                }
                self._examine(row, where, place, must, unverified=False)
                self._resume(row, where, place, operation.name, damaged=path)

    def _files(self, looks: tuple[str, ...], again: bool) -> Iterator[tuple[Operation, list[str]]]:
        """Yield operations with files of every sort that they look at."""
        share = -(-self.each // len(DAMAGED))
        for name in DAMAGED:
            operation = self.world.operations[name]
            start = self.world.folder / f"start-{operation.start}"
            seen = {step.path for step in self.steps(operation) if step.call in looks}
            files = [path for path in sorted(seen) if (start / path).is_file()]
            sorts: dict[str, list[str]] = {}
            for path in files:
                sorts.setdefault(_sort(path), []).append(path)
            order = [sorts[key] for key in sorted(sorts)]
            self.random.shuffle(order)  # type: ignore[arg-type]
            rounds = itertools.zip_longest(*(self.random.permutation(m) for m in order))
            chosen = [str(path) for turn in rounds for path in turn if path is not None]
            # Another bit of the same file is another fault; the same file missing is not.
            yield (
                operation,
                [
                    *itertools.islice(
                        itertools.cycle(chosen), share if again else min(share, len(chosen))
                    )
                ],
            )

    def rivals(self) -> None:
        """Let another process do something in the middle of an operation."""
        row = self._row("two writers")
        pairs = [(first, second) for first, seconds in RIVALS.items() for second in seconds]
        each = -(-self.each // len(pairs))
        for first, second in pairs:
            operation, rival = self.world.operations[first], self.world.operations[second]
            steps = self.steps(operation)
            for moment in self._moments(len(steps), each):
                place = self.world.start(operation.start, self.world.folder / "lake")
                before = self.world.committed(place)
                log = self._log()
                injector = Injector(place, log)
                injector.strikes, injector.moment = lambda step: True, moment
                how, said, ended = self._with_rival(operation, rival, place, injector)
                where = f"{first}, {steps[moment]}, then {second}"
                fired = len(log.lines("fired")) == len(ended) == 1
                # The worse of the two endings is the one that counts.
                endings = [(how, said), *ended]
                worst = ("wrong", "failed", "killed", "refused", "unharmed")
                how, said = min(endings, key=lambda ending: worst.index(ending[0]))
                self._count(row, where, fired, how, said)
                gone = operation.gives_up + rival.gives_up
                must = {one for one in before if not one[0].startswith(gone or "\0")}
                self._examine(row, where, place, must, unverified=operation.start != "damaged")
                self._resume(row, where, place, first, second)

    def _with_rival(
        self, operation: Operation, rival: Operation, place: Path, injector: Injector
    ) -> tuple[str, str, list[tuple[str, str]]]:
        """Run an operation and, where it pauses, another; return how both ended."""
        ended = []

        def turn() -> None:
            idle = Injector(Path("/nowhere"), injector.log)
            ended.append(self.child(rival, place, idle))

        how, said = self.child(operation, place, injector, turn)
        return how, said, ended

    # Counting.

    def _row(self, kind: str) -> Row:
        self.rows.append(Row(kind))
        return self.rows[-1]

    def _count(self, row: Row, where: str, fired: bool, how: str, said: str) -> None:
        row.injected += 1
        row.reached += fired
        if not fired:
            row.problems.append(f"{where}: not reached")
        setattr(row, how, getattr(row, how) + 1)
        if how in ("failed", "wrong"):
            row.problems.append(f"{where}: {said}")
        if how == "refused":
            row.sentences.append(said.replace(str(self.world.folder), "FOLDER"))

    def _examine(
        self, row: Row, where: str, place: Path, must: set[tuple[str, int]], **options: bool
    ) -> None:
        try:
            found = self.world.examine(place, must, **options)
        except Exception:  # noqa: BLE001 (whatever it is, it is counted)
            row.failed += 1
            row.problems.append(f"{where}: cannot be examined: {traceback.format_exc()}")
            return
        row.lost += len(found.lost)
        row.wrong += len(found.wrong)
        row.problems += [f"{where}: lost {one}" for one in found.lost]
        row.problems += [f"{where}: wrong {one}" for one in found.wrong]

    def _resume(self, row: Row, where: str, place: Path, *names: str, damaged: str = "") -> None:
        expected = self.world.final(*names)
        try:
            if damaged:
                self.world.mend(place, self.world.operations[names[0]])
            for name in names:
                self.world.operations[name].finish(place)
            verified = self.world.examine(place, self.world.committed(place), unverified=False)
            if verified.lost or verified.wrong:
                raise RuntimeError(f"{verified}")
        except Exception:  # noqa: BLE001 (whatever it is, it is counted)
            row.problems.append(f"{where}: not resumed: {traceback.format_exc()}")
            return
        found = tree(place)
        differing = {key for key in {*found, *expected} if found.get(key) != expected.get(key)}
        # A few bits of a compressed chunk have no say in what it holds, which was just compared.
        if damaged in found and not damaged.startswith("activations/") and "/c/" in damaged:
            differing.discard(damaged)
        if damaged:  # another question's answer, as `examine` says, which was right
            differing = {k for k in differing if k in expected or not k.startswith("results/")}
        if not differing:
            row.resumed += 1
            return
        problems = [
            f"{'extra' if key not in expected else 'missing' if key not in found else 'other'} {key}"
            for key in sorted(differing)
        ]
        row.problems.append(f"{where}: other bits at the end: {problems[:5]}")


def _attempt(operation: Operation, place: Path, injector: Injector) -> tuple[str, str]:
    """Run an operation, in a child; return how it ended and what it said."""
    try:
        with injector.installed():
            operation.act(place)
    except LayerLakeError as error:
        return ("failed" if "\n" in str(error) else "refused"), str(error)
    except WrongValues as error:
        return "wrong", str(error)
    except BaseException:  # noqa: BLE001 (whatever it is, it is counted)
        return "failed", traceback.format_exc()
    return "unharmed", ""


def _window(key: str) -> tuple[str, int]:
    path, _, rest = key.partition("/commits/")
    return path, int(rest.split("/")[1])


def _sort(path: str) -> str:
    """Return what sort of file a path is: that of its neighbours, whatever their numbers."""
    parts = path.split("/")
    if parts[0] == "activations":
        return "/".join([parts[0], *("_" if p.isdigit() else p for p in parts[4:])])
    return "/".join("_" if p.isdigit() else p for p in (*parts[:1], *parts[2:]))


def flip(path: Path, random: np.random.Generator) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a file system of 32 MiB in memory; None where that is not allowed."""
    place = folder / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def run(each: int, seed: int, folder: Path, only: str = "") -> tuple[list[Row], list[str]]:
    """Run at least `each` faults of every kind; return the counts, and what was left out and why."""
    torch.set_num_threads(1)  # a thread of the parent's would be missing in its children
    world = World(folder)
    world.prepare()
    campaign = Campaign(world, each, seed)
    left_out = []
    plain = folder / "plain"
    plain.mkdir()

    def begin(name: str) -> bool:
        if only and only not in name:
            return False
        print(f"{time.strftime('%X')} {name}", file=sys.stderr, flush=True)
        return True

    with small_disk(folder) as disk:
        for kind in KINDS:
            if not begin(kind.name):
                continue
            if kind.full_disk and disk is None:
                left_out.append(f"{kind.name}: file systems cannot be mounted here")
                continue
            campaign.calls(kind, disk if kind.full_disk and disk else plain)
    if begin("flipped bit"):
        campaign.damage(
            "flipped bit", lambda path: flip(path, campaign.random), ("open", "preadv"), again=True
        )
    if begin("missing file"):
        campaign.damage("missing file", Path.unlink, ("open", "stat"), again=False)
    if begin("two writers"):
        campaign.rivals()
    return campaign.rows, left_out


def table(rows: list[Row], left_out: list[str]) -> str:
    """Return the counts for people."""
    head = [key for key in asdict(rows[0]) if key not in ("problems", "sentences")]
    cells = [head, *([str(getattr(row, key)) for key in head] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        )
        for line in cells
    ]
    return "\n".join([*lines, *(f"left out: {what}" for what in left_out)])


def main() -> int:
    """Run the campaign, print its table, and say by the exit code how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--each",
        type=int,
        default=60,
        help="faults of each kind, at least (fewer files than that may be missing)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--only", default="", help="a part of the name of a kind")
    parser.add_argument("--json", type=Path, help="a file for the counts")
    parser.add_argument("--folder", type=Path, help="for the lakes; by default the temporary one")
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="layerlake-faults-", dir=given.folder) as folder:
        rows, left_out = run(given.each, given.seed, Path(folder), given.only)
    print(table(rows, left_out))
    for row in rows:
        for problem in row.problems:
            print(f"{row.kind}: {problem}", file=sys.stderr)
    if given.json:
        settings = {"each": given.each, "seed": given.seed}
        records = [asdict(row) for row in rows]
        for record in records:
            record["sentences"] = sorted({sentence[:300] for sentence in record["sentences"]})[:20]
        document: dict[str, Any] = {
            "suite": "faults",
            "settings": settings,
            "seconds": round(time.monotonic() - began, 1),
            "left_out": left_out,
            "records": records,
        }
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row.clean for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
