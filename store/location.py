"""What a place where a lake lies must be able to do: the seam for kinds of storage.

A location is a set of files under keys (`a/b/zarr.json`). It promises three things that the commit
protocol stands on: `put` replaces one file whole and durably, `publish` makes a new node appear all
at once, `remove` makes a node disappear before its parts do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from layerlake.store.schema import METADATA

if TYPE_CHECKING:
    from zarr.abc.store import Store

Buffer = bytes | NDArray[np.uint8]


def view_of(part: bytes | NDArray[Any]) -> memoryview:
    """Return the bytes of a part, a contiguous one, without copying them."""
    # numpy declares the buffer protocol to type checkers from Python 3.12 on only.
    return memoryview(cast("bytes", part)).cast("B")


class Location(ABC):
    """Files under keys, with atomic replacement."""

    name: str
    """How messages name the place."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return a whole file; raise `KeyError` if there is none."""

    @abstractmethod
    def size(self, key: str) -> int:
        """Return the bytes of a file; raise `KeyError` if there is none."""

    @abstractmethod
    def children(self, key: str) -> list[str]:
        """Return the sorted names directly below a key (empty if there are none)."""

    @abstractmethod
    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        """Write one file whole: readers see the old one or the new one, also after a crash."""

    @abstractmethod
    def publish(self, path: str, files: Mapping[str, Sequence[Buffer]]) -> bool:
        """Make a new node appear with all its files (keys below `path`); False if it is there."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete one file; no error if there is none."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Delete a node and everything below it; its metadata goes first."""

    @abstractmethod
    def lock(self, path: str) -> AbstractContextManager[None]:
        """Hold a node for writing; raise `LakeBusy` if another holds it."""

    @abstractmethod
    def sweep(self) -> int:
        """Delete what dead writers left behind; return the bytes freed."""

    @abstractmethod
    def zarr_store(self) -> Store:
        """Return a read-only store for zarr-python."""

    def local_path(self, key: str) -> Path | None:
        """Return the path of a file where the storage is a folder, else None."""
        return None

    def written(self, key: str) -> int:
        """Return when a file was written, in nanoseconds; 0 where the storage does not tell."""
        return 0

    def nodes(self, path: str) -> list[str]:
        """Return the sorted names of what lies below a group."""
        return [name for name in self.children(path) if name != METADATA]

    def files_below(self, path: str) -> Iterator[str]:
        """Yield the key of every file below a path."""
        for child in self.children(path):
            key = f"{path}/{child}" if path else child
            if self.exists(key):
                yield key
            else:
                yield from self.files_below(key)

    def exists(self, key: str) -> bool:
        """Say whether there is a file under a key."""
        try:
            self.size(key)
        except KeyError:
            return False
        return True
