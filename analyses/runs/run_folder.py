"""The folder of a run: whose it is, who may write to it, and whether it has the room."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from layerlake.store.amounts import format_bytes
from layerlake.store.errors import InvalidInput, LakeBusy, NameConflict, StorageFailed
from layerlake.store.folder import replace_durably

BEGUN_FILE: Final = "run.json"
PART: Final = ".part"
"""Ends the names of files that are being written."""
_BEGUN: Final = re.compile(rf"\.?{re.escape(BEGUN_FILE)}(-[0-9a-f]+)?")
"""That file, and what is left of writing it."""
_TENSORS_BEGUN: Final = re.compile(r"\.tmp[0-9A-Za-z]{6}")
"""What is left where a process is killed while safetensors writes a file: it writes aside, too."""


class RunFolder:
    """A folder that one run at a time writes to."""

    def __init__(
        self, out: Path, *, own: re.Pattern[str], what: str, contents: str = "files"
    ) -> None:
        """Take its path; nothing is made yet.

        Parameters
        ----------
        out
            The folder.
        own
            Matches the names of what the run writes into its work folder; whatever else lies there
            is somebody else's.
        what
            What the run does, such as `training`: the name of its work folder too.
        contents
            What it writes, for the sentence that says that the disk is too small.
        """
        self.out = out
        self.work = out / what
        """What is there only while the run is not done."""
        self._own, self._what, self._contents = own, what, contents

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep other runs out of it while this lasts.

        Raises
        ------
        LakeBusy
            Another process is writing there.
        StorageFailed
            It cannot be made.
        """
        import fcntl

        try:
            self.out.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.out, os.O_RDONLY)
        except OSError as error:
            raise StorageFailed(
                f"cannot write {self.out}: {error.strerror}; choose another --out"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LakeBusy(
                    f"another process is {self._what} into {self.out}; wait for it, or choose another "
                    "--out"
                ) from None
            except OSError as error:
                raise StorageFailed(
                    f"cannot lock {self.out}: {error.strerror}; choose another --out"
                ) from error
            yield
        finally:
            os.close(descriptor)

    def begun(self) -> dict[str, Any] | None:
        """Return what decides the run that was begun here; None where there is none.

        Raises
        ------
        InvalidInput
            What says so is damaged.
        """
        file = self.work / BEGUN_FILE
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no JSON"
            raise InvalidInput(
                f"{file} cannot be read ({reason}); remove {self.work}, and the run begins anew"
            ) from error
        if not isinstance(found, dict):
            raise InvalidInput(f"{file} is damaged; remove {self.work}, and the run begins anew")
        return found

    def begin(self, decides: dict[str, Any]) -> None:
        """Say whose folder this is, and clear away what killed processes left half-written.

        Raises
        ------
        NameConflict
            The work folder holds what no run wrote.
        StorageFailed, LakeReadOnly
            It cannot be written to.
        """
        try:
            self.work.mkdir(exist_ok=True)
            odd = sorted(file.name for file in self.work.iterdir() if not self._is_own(file))
            for file in () if odd else [*self.work.rglob("*")]:
                if file.name.endswith(PART) or _TENSORS_BEGUN.fullmatch(file.name):
                    file.unlink()
        except OSError as error:
            raise StorageFailed(
                f"cannot write {self.work}: {error.strerror}; choose another --out"
            ) from error
        if odd:
            raise NameConflict(
                f"{self.work} holds {odd[0]}, which no run wrote, and a run removes that folder "
                "when it is done; choose another --out"
            )
        if self.begun() is None:
            text = json.dumps(decides, indent=1, sort_keys=True, ensure_ascii=False)
            replace_durably(self.work / BEGUN_FILE, [f"{text}\n".encode()])

    def clear(self) -> None:
        """Remove what only a resume would need, and nothing that no run wrote."""
        with contextlib.suppress(OSError):
            for file in self.work.iterdir():
                if not self._is_own(file):
                    continue
                if file.is_dir():
                    shutil.rmtree(file, ignore_errors=True)
                else:
                    file.unlink()
            self.work.rmdir()

    def require_space(self, needed: int) -> None:
        """Refuse a disk that what the run writes does not fit on.

        Parameters
        ----------
        needed
            The most bytes that the run has in its folder at a time.

        Raises
        ------
        StorageFailed
            There is too little room; the sentence says how many bytes are needed.
        """
        there = sum(file.stat().st_size for file in self.work.rglob("*") if file.is_file())
        place = next(place for place in (self.out, *self.out.absolute().parents) if place.is_dir())
        free = shutil.disk_usage(place).free + there
        if needed > free:
            raise StorageFailed(
                f"{self._what} into {self.out} needs {format_bytes(needed)} ({needed} bytes) for "
                f"its {self._contents}, and the disk has {format_bytes(free)} ({free} bytes) left; "
                "free some space, or choose another --out"
            )

    def _is_own(self, file: Path) -> bool:
        """Say whether an entry of the work folder is one that the run writes."""
        return any(names.fullmatch(file.name) for names in (_BEGUN, _TENSORS_BEGUN, self._own))
