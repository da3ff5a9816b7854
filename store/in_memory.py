"""Lakes in this process's memory: they live as long as it does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from layerlake.store.errors import InvalidInput, LakeBusy
from layerlake.store.location import Buffer, Location, view_of
from layerlake.store.schema import METADATA

if TYPE_CHECKING:
    from zarr.abc.store import Store


class MemoryLocation(Location):
    """A dictionary of files."""

    def __init__(self, name: str) -> None:
        self.name = f"memory://{name}"
        self.files: dict[str, bytes] = {}
        self._held: set[str] = set()
        self._guard = threading.RLock()

    def __reduce__(self) -> NoReturn:
        raise InvalidInput(
            f"the lake {self.name} lies in the memory of one process and cannot be read from "
            "another; use a lake in a folder"
        )

    def read(self, key: str) -> bytes:
        return self.files[key]

    def size(self, key: str) -> int:
        return len(self.files[key])

    def written(self, key: str) -> int:
        with self._guard:  # files keep the order in which they came
            return [*self.files].index(key) if key in self.files else 0

    def children(self, key: str) -> list[str]:
        prefix = f"{key}/" if key else ""
        with self._guard:
            return sorted(
                {k[len(prefix) :].split("/")[0] for k in self.files if k.startswith(prefix)}
            )

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        content = b"".join(bytes(view_of(part)) for part in parts)
        with self._guard:
            self.files[key] = content

    def publish(self, path: str, files: Mapping[str, Sequence[Buffer]]) -> bool:
        with self._guard:
            if f"{path}/{METADATA}" in self.files:
                return False
            # The node's own metadata last, as on a storage that has no rename.
            for key in sorted(files, key=lambda k: k == METADATA):
                self.put(f"{path}/{key}", files[key])
            return True

    def delete(self, key: str) -> None:
        with self._guard:
            self.files.pop(key, None)

    def remove(self, path: str) -> None:
        with self._guard:
            self.files.pop(f"{path}/{METADATA}", None)
            for key in [k for k in self.files if k.startswith(f"{path}/")]:
                del self.files[key]

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:
        with self._guard:
            if path in self._held:
                raise LakeBusy(f"{path} is being written by another thread; wait for it")
            self._held.add(path)
        try:
            yield
        finally:
            self._held.discard(path)

    def sweep(self) -> int:
        return 0

    def zarr_store(self) -> Store:
        from zarr.core.buffer import default_buffer_prototype
        from zarr.storage import MemoryStore

        buffer: Any = default_buffer_prototype().buffer
        with self._guard:
            copy = {k: buffer.from_bytes(v) for k, v in self.files.items()}
        return MemoryStore(copy, read_only=True)
