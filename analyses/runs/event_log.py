"""The log of a run: a JSON object a line, appended as things happen, for any tracker to follow.

Every line has `event`, `time` (UTC) and `run`, and what else is said of its event.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from layerlake.store.errors import StorageFailed

_OPENING: Final = b'{"event": '
"""Begins every line of ours."""


class EventLog:
    """Appends events to a file; one that writes nowhere takes them and does nothing."""

    def __init__(self, file: Path | None, run: str) -> None:
        """Begin to append to a file, after its last whole line; None writes nowhere.

        Raises
        ------
        StorageFailed
            The file cannot be written.
        """
        self._file, self._run = file, run
        if file is not None:
            try:
                _drop_half_line(file)
            except OSError as error:
                raise self._failed(error) from error

    def add(self, event: str, **about: Any) -> None:
        """Append one event.

        Raises
        ------
        StorageFailed
            The file cannot be written.
        """
        if self._file is None:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"event": event, "time": now, "run": self._run, **about})
        try:
            with self._file.open("a", encoding="utf-8") as out:
                out.write(line + "\n")
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorageFailed:
        return StorageFailed(
            f"cannot write {self._file}: {error.strerror}; free some space and run the same line "
            "again, it resumes"
        )


def _drop_half_line(file: Path) -> None:
    """Cut off what a process left that was killed, or out of disk, while it wrote a line."""
    if not file.exists():
        return
    with file.open("r+b") as log:
        content = log.read()
        whole = content.rfind(b"\n") + 1
        tail = content[whole:]
        if tail[: len(_OPENING)] == _OPENING[: len(tail)]:
            log.truncate(whole)
        else:
            log.write(b"\n")  # somebody else's
