"""Every error a caller may want to tell apart.

LayerLakeError
├── InvalidInput      (ValueError)       what a person gave is wrong: a file, a setting, a number
├── NameNotFound      (LookupError)      no corpus, variant, layer or result of that name
├── NameConflict      (FileExistsError)  the name is taken by other content
├── LakeNotFound      (FileNotFoundError)
├── NotALake          (ValueError)       a folder, but no lake
├── FormatTooNew      (ValueError)       written by a later format version
├── LakeReadOnly      (PermissionError)
├── LakeBusy          (BlockingIOError)  another process holds the set
├── LakeCorrupt       (ValueError)       bytes are not what was written
├── OutOfRange        (IndexError)       rows asked for that a space does not have
├── SetIncomplete     (LookupError)      rows asked for that are not committed yet
├── StorageFailed     (OSError)          disk full, I/O error
├── MemoryRefused     (MemoryError)      a pass would need more than is allowed
├── WorkersFailed     (ConnectionError)  workers cannot be reached, or died over their work
├── TrainingDiverged  (ArithmeticError)  a loss or a gradient is no number
├── RunsFailed        (RuntimeError)     of several runs some failed; the others are done
└── MissingExtra      (ImportError)      an optional dependency is not installed
"""

from typing import Any


def is_a(value: object, *kinds: type) -> bool:
    """Say whether a value is of some kind, whatever its annotation promises.

    People call from notebooks that no type checker reads; to one, the question is idle.
    """
    return isinstance(value, kinds)


class LayerLakeError(Exception):
    """Root of every error that LayerLake raises on purpose; its text is one sentence."""

    kind = "error"

    def __str__(self) -> str:
        """Return the sentence alone (OSError and KeyError would decorate it)."""
        return str(self.args[0]) if self.args else self.kind


class InvalidInput(LayerLakeError, ValueError):
    """What a person gave cannot be used."""

    kind = "invalid-input"


class NoWholeRows(InvalidInput):
    """A set of pieces cannot serve rows of a unit: it holds some in part, or none."""


class NameNotFound(LayerLakeError, LookupError):
    """A name that the lake does not hold."""

    kind = "name-not-found"


class NameConflict(LayerLakeError, FileExistsError):
    """A name that is taken by other content."""

    kind = "name-conflict"


class LakeNotFound(LayerLakeError, FileNotFoundError):
    """Nothing lies at the location."""

    kind = "lake-not-found"


class NotALake(LayerLakeError, ValueError):
    """Something lies at the location, but no lake."""

    kind = "not-a-lake"


class FormatTooNew(LayerLakeError, ValueError):
    """The lake was written by a later format version."""

    kind = "format-too-new"


class LakeReadOnly(LayerLakeError, PermissionError):
    """The lake cannot be written to, or was opened for reading."""

    kind = "lake-read-only"


class LakeBusy(LayerLakeError, BlockingIOError):
    """Another process is writing the same set."""

    kind = "lake-busy"


class LakeCorrupt(LayerLakeError, ValueError):
    """Stored bytes are not the bytes that were written."""

    kind = "lake-corrupt"


class OutOfRange(LayerLakeError, IndexError):
    """Rows were asked for that a space does not have, or in a way that names no rows."""

    kind = "out-of-range"


class SetIncomplete(LayerLakeError, LookupError):
    """Rows were asked for that are not committed yet."""

    kind = "set-incomplete"


class StorageFailed(LayerLakeError, OSError):
    """The storage refused a write or a read."""

    kind = "storage-failed"


class MemoryRefused(LayerLakeError, MemoryError):
    """A pass would need more memory than is allowed."""

    kind = "memory-refused"


class WorkersFailed(LayerLakeError, ConnectionError):
    """Those that were to do the work cannot be reached, or died over it."""

    kind = "workers-failed"


class TrainingDiverged(LayerLakeError, ArithmeticError):
    """A loss or a gradient is no number any more."""

    kind = "training-diverged"


class RunsFailed(LayerLakeError, RuntimeError):
    """Of several runs some failed, and all the others are done."""

    kind = "runs-failed"
    reports: tuple[Any, ...] = ()
    """Of the runs that are done."""
    failures: tuple[Any, ...] = ()
    """What became of each of the others."""


class MissingExtra(LayerLakeError, ImportError):
    """An optional dependency is not installed."""

    kind = "missing-extra"
