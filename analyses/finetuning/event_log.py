"""The log of a run: a JSON object a line, appended as things happen, for any tracker to follow.

| event       | beside `event`, `time` (UTC) and `run`                                              |
|-------------|-------------------------------------------------------------------------------------|
| `started`   | `identity`, `settings`, `n_steps`                                                   |
| `resumed`   | `step`: lines of later steps that stand above it are of work that was lost          |
| `trained`   | `step`, `epoch`, `loss` (mean since the last such line), `rate`, `norm`,             |
|             | `pieces_per_second`, `seconds_left`                                                 |
| `evaluated` | `step`, `epoch`, `scores`: by file, by name                                         |
| `saved`     | `step`                                                                              |
| `finished`  | `step`, `scores`, `seconds`                                                         |
| `failed`    | `error`                                                                             |
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from layerlake.store.errors import StorageFailed

LOG_FILE: Final = "log.jsonl"


class EventLog:
    """Appends events to a file; one that writes nowhere takes them and does nothing."""

    def __init__(self, file: Path | None, run: str) -> None:
        """Begin to append to a file; None writes nowhere."""
        self._file, self._run = file, run

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
            raise StorageFailed(f"cannot write {self._file}: {error.strerror}") from error
