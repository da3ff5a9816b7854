"""Run by `test_resume.py` as a program of its own: runs are killed in forked children.

    python killed_runs.py CALLS.json

CALLS.json maps names to calls of `finetune` without `out`, and whether to kill at `every` moment
there is, or at three. Forking spares each child the seconds that importing torch takes; the parent computes nothing, so that no
thread of a BLAS is lost in the fork. What was found is printed as one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from transformers import AutoModel, AutoTokenizer, BertModel  # noqa: F401 (once, not a child)

from layerlake.analyses.finetuning import checkpoint, run
from layerlake.analyses.finetuning.finetune import finetune
from layerlake.analyses.finetuning.training import loop as run_loop
from layerlake.analyses.finetuning.training import saved_state
from layerlake.analyses.finetuning.training.trainer import Trainer
from layerlake.analyses.runs import tensor_files
from layerlake.engine.models.lineage_record import read_lineage

RANDOM = np.random.default_rng(7)


def die() -> None:
    """End this process as the kernel would for lack of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def after(owner: Any, name: str, when: Callable[..., bool]) -> None:
    """Die after a call of a function for which `when(*its arguments)` holds."""
    inner = getattr(owner, name)

    def outer(*given: Any, **named: Any) -> Any:
        found = inner(*given, **named)
        if when(*given):
            die()
        return found

    setattr(owner, name, outer)


def die_after_update(step: int) -> None:
    """Die between two saves."""
    after(run_loop.Loop, "_on_update", lambda self, update: update.step == step)


def die_in_a_file() -> None:
    """Die when the first half of a file of tensors is written."""

    def half(tensors: dict[str, Any], file: Path, metadata: dict[str, str]) -> None:
        content = safetensors.torch.save(tensors, metadata)
        file.write_bytes(content[: len(content) // 2])
        die()

    safetensors.torch.save_file = half


def die_before_renaming() -> None:
    """Die when a file of tensors is whole, but not in its place."""
    after(tensor_files, "fsync", lambda path: path.suffix == ".part")


def die_after_renaming() -> None:
    """Die when a state is in its place, and nothing was done about it."""
    after(Path, "replace", lambda self, target: target.name == saved_state.STATE_FILE)


def die_after_evaluating() -> None:
    """Die when all was evaluated, and nothing of it kept."""
    after(Trainer, "evaluate", lambda *given: True)


def die_after_best() -> None:
    """Die when the best epoch was saved, and the state does not say so."""
    after(run_loop, "save_best", lambda *given: True)


def die_in_checkpoint(n: int) -> None:
    """Die when so many files of the checkpoint are written, or moved into place."""
    seen = []

    def counted(self: Path, target: Path) -> bool:
        if "checkpoint" in self.parts:
            seen.append(target)
        return len(seen) == n

    after(Path, "replace", counted)


def die_before_lineage() -> None:
    """Die when all files of the checkpoint are in place, but for the lineage."""
    after(checkpoint, "_move_into", lambda *given: True)


def die_at_the_end() -> None:
    """Die when all is there, and the saved state too."""
    after(run, "write_checkpoint", lambda *given: True)


def in_child(action: Callable[[], None], *, kill_after: float | None = None) -> bool:
    """Run an action in a child; True where it was killed, by itself or after some seconds."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            action()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the run failed by itself")
    return os.WIFSIGNALED(status)


def result(out: Path) -> dict[str, Any]:
    """Return what two runs of the same must agree in."""
    lineage = read_lineage(out)
    if lineage is None:
        raise RuntimeError(f"{out} is not finished")
    finished = lineage.training["finished"]
    files = ("model.safetensors", "head/model.safetensors", "config.json", "head/config.json")
    return {
        "files": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in files},
        "history": finished["history"],
        "epoch": finished["epoch"],
        "scores": lineage.training["scores"],
        "n_steps": lineage.training["n_steps"],
    }


def state_of(out: Path) -> int | None:
    """Return the update of the state that lies there, which must be whole, or None without one."""
    file = out / "training" / saved_state.STATE_FILE
    if not file.exists():
        return None
    return int(tensor_files.read_tensors(file, "it is not")[0]["step"])


def survived(call: dict[str, Any], place: Path) -> dict[str, Any]:
    """Run to the end at once, and once more with kills; return how both ended."""
    every = call.pop("every")
    whole, out = place / "whole", place / "killed"
    began = time.monotonic()
    in_child(lambda: void(finetune(**call, out=whole)))
    seconds = time.monotonic() - began
    an_epoch = result(whole)["n_steps"] // call["epochs"]
    save = call["save_steps"]
    moments: list[tuple[str, Callable[[], None]]] = [
        ("after the first update", lambda: die_after_update(1)),
        ("in the first file", die_in_a_file),
        ("between saves", lambda: die_after_update(save + 1)),
        ("in a later file", die_in_a_file),
        ("before renaming", die_before_renaming),
        ("after evaluating", die_after_evaluating),
        *([("after the best", die_after_best)] if call["keep"] == "best" else []),
        ("after renaming", die_after_renaming),
        ("in the second epoch", lambda: die_after_update(an_epoch + 1)),
    ]
    last: list[tuple[str, Callable[[], None]]] = [
        ("in the checkpoint's file", lambda: die_in_checkpoint(1)),
        ("when two files are moved", lambda: die_in_checkpoint(4)),
        ("before lineage", die_before_lineage),
        ("at the very end", die_at_the_end),
    ]
    if not every:
        moments, last = [moments[2], moments[5]], [last[1]]
    states: dict[str, int | None] = {}

    def killed(name: str, prepare: Callable[[], None]) -> None:
        def work() -> None:
            prepare()
            finetune(**call, out=out)

        if not in_child(work):
            raise RuntimeError(f"not killed {name}")
        states[name] = state_of(out)

    for moment in moments:
        killed(*moment)
    n_outside = 0
    for _ in range(20):
        n_outside += in_child(
            lambda: void(finetune(**call, out=place / "outside")),
            kill_after=float(RANDOM.uniform(0, seconds)),
        )
        state_of(place / "outside")
        if n_outside:
            break
    in_child(lambda: void(finetune(**call, out=place / "outside")))
    for moment in last:
        killed(*moment)
    report = place / "report.json"
    in_child(lambda: void(report.write_text(json.dumps(asdict(finetune(**call, out=out))))))
    return {
        "whole": result(whole),
        "killed": result(out),
        "outside": result(place / "outside"),
        "n_outside": n_outside,
        "states": states,
        "report": json.loads(report.read_text()),
        "left": sorted(path.name for path in out.rglob("*") if path.is_file()),
        "events": [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()],
    }


def void(_: object) -> None:
    """Take what is not needed."""


if __name__ == "__main__":
    calls, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).parent
    print(json.dumps({name: survived(call, folder / name) for name, call in calls.items()}))
