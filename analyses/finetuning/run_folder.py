"""The folder of a run: who may write to it, and whether it has the room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from layerlake.store.amounts import format_bytes
from layerlake.store.errors import LakeBusy, StorageFailed

if TYPE_CHECKING:
    from torch import nn

WORK_FOLDER: Final = "training"
_SPARE_BYTES: Final = 32 * 2**20
"""For tokenizer, configs and log."""


class RunFolder:
    """A folder that one run at a time writes to."""

    def __init__(self, out: Path) -> None:
        """Take its path; nothing is made yet."""
        self.out = out
        self.work = out / WORK_FOLDER
        """What is there only while it is trained."""

    @contextmanager
    def held(self, *, leads: bool) -> Iterator[None]:
        """Make the folder, and keep other runs out of it while this lasts.

        Parameters
        ----------
        leads
            Whether this process writes; others of its team only look on.

        Raises
        ------
        LakeBusy
            Another process is writing there.
        StorageFailed
            It cannot be made.
        """
        if not leads:
            yield
            return
        import fcntl

        try:
            self.work.mkdir(parents=True, exist_ok=True)
            lock = (self.work / "lock").open("w")
        except OSError as error:
            raise StorageFailed(f"cannot write {self.out}: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LakeBusy(
                    f"another process is training into {self.out}; wait for it, or choose another "
                    "--out"
                ) from None
            yield

    def require_space(self, model: nn.Module, *, keeps_best: bool) -> None:
        """Refuse a disk that the state, the checkpoint and the best epoch do not fit on.

        Parameters
        ----------
        model
            What is trained.
        keeps_best
            Whether the weights of the best epoch are kept beside the state.

        Raises
        ------
        StorageFailed
            There is too little room; the sentence says how many bytes are needed.
        """
        trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
        whole = sum(value.nbytes for value in model.state_dict().values())
        # A new state lies beside the old one until it takes its place.
        needed = 2 * 3 * trained + whole + (2 * trained if keeps_best else 0) + _SPARE_BYTES
        there = sum(file.stat().st_size for file in self.work.rglob("*") if file.is_file())
        free = shutil.disk_usage(self.out).free + there
        if needed > free:
            raise StorageFailed(
                f"training into {self.out} needs {format_bytes(needed)} ({needed} bytes) for its "
                f"state and checkpoint, and the disk has {format_bytes(free)} ({free} bytes) left; "
                "free some space, or choose another --out"
            )
