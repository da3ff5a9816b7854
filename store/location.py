"""Where a lake lies: a folder, or this process's memory; the seam for other kinds of storage.

A location is a set of files under keys (`a/b/zarr.json`). It promises three things that the commit
protocol stands on: `put` replaces one file whole and durably, `publish` makes a new node appear all
at once, `remove` makes a node disappear before its parts do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput, LakeBusy, LakeReadOnly, StorageFailed
from layerlake.store.schema import METADATA, STAGING

if TYPE_CHECKING:
    from zarr.abc.store import Store

Buffer = bytes | NDArray[np.uint8]


def view_of(part: Buffer) -> memoryview:
    """Return the bytes of a part without copying them."""
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

    def exists(self, key: str) -> bool:
        """Say whether there is a file under a key."""
        try:
            self.size(key)
        except KeyError:
            return False
        return True


_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same line again, it resumes",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same line again",
    errno.EFBIG: "the file would exceed the largest size allowed here",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}


@contextmanager
def _reported(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        cause = _ADVICE.get(error.errno or 0, os.strerror(error.errno or errno.EIO))
        message = f"cannot {action} {path}: {cause}"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise LakeReadOnly(message) from error
        raise StorageFailed(message) from error


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, parts: Sequence[Buffer]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for part in parts:
            view = view_of(part)
            while view.nbytes:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    # Only POSIX has it; writing elsewhere was refused when the lake was opened.
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class LocalLocation(Location):
    """A folder. Files are built under `staging`, made durable, then renamed into place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)
        self._workshop: Path | None = None
        self._workshop_lock = threading.Lock()

    def _path(self, key: str) -> Path:
        parts = key.split("/") if key else []
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise InvalidInput(f"{key!r} is no path inside a lake; give names without . and ..")
        return self.root.joinpath(*parts)

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def read(self, key: str) -> bytes:
        path = self._path(key)
        try:
            with _reported("read", path):
                return path.read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def size(self, key: str) -> int:
        try:
            found = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(key) from None
        if not stat.S_ISREG(found.st_mode):
            raise KeyError(key)
        return found.st_size

    def children(self, key: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._path(key)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _staging(self) -> Path:
        """Return this writer's own folder for files under construction.

        Its lock lives as long as the process: `sweep` deletes only folders nobody holds.
        """
        with self._workshop_lock:
            if self._workshop is None or not self._workshop.is_dir():
                folder = self.root / STAGING / secrets.token_hex(8)
                folder.mkdir(parents=True)
                descriptor = os.open(folder, os.O_RDONLY)
                _flock(descriptor)
                # The descriptor is left open on purpose: it is the lock.
                self._workshop = folder
            return self._workshop

    def _create_parents(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            _fsync_folder(path.parent)

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        target = self._path(key)
        temporary: Path | None = None
        with _reported("write", target):
            try:
                temporary = self._staging() / secrets.token_hex(8)
                _write_durably(temporary, parts)
                self._create_parents(target.parent)
                temporary.replace(target)
                _fsync_folder(target.parent)
            except BaseException:
                if temporary is not None:
                    with contextlib.suppress(OSError):
                        temporary.unlink(missing_ok=True)
                raise

    def publish(self, path: str, files: Mapping[str, Sequence[Buffer]]) -> bool:
        target = self._path(path)
        if target.is_dir():
            return False
        draft: Path | None = None
        with _reported("write", target):
            try:
                draft = self._staging() / secrets.token_hex(8)
                draft.mkdir()
                folders = {draft}
                for key, parts in files.items():
                    file = draft.joinpath(*key.split("/"))
                    file.parent.mkdir(parents=True, exist_ok=True)
                    _write_durably(file, parts)
                    folders.update(p for p in file.parents if p.is_relative_to(draft))
                for folder in folders:
                    _fsync_folder(folder)
                try:
                    draft.rename(target)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return False
                    raise
                _fsync_folder(target.parent)
                return True
            finally:
                if draft is not None:
                    shutil.rmtree(draft, ignore_errors=True)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _reported("delete", path):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _fsync_folder(path.parent)

    def remove(self, path: str) -> None:
        target = self._path(path)
        with _reported("remove", target):
            grave = self._staging() / secrets.token_hex(8)
            try:
                target.rename(grave)
            except FileNotFoundError:
                return
            _fsync_folder(target.parent)
            shutil.rmtree(grave)

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:
        with _reported("lock", self._path(path)):
            descriptor = os.open(self._path(path), os.O_RDONLY)
        try:
            if not _flock(descriptor):
                raise LakeBusy(
                    f"{path} is being written by another process; wait for it, or stop it, and "
                    "run the same line again"
                )
            yield
        finally:
            os.close(descriptor)

    def sweep(self) -> int:
        freed = 0
        for entry in list(os.scandir(self.root / STAGING)):
            if not entry.is_dir() or Path(entry.path) == self._workshop:
                continue
            descriptor = os.open(entry.path, os.O_RDONLY)
            try:
                if _flock(descriptor):
                    freed += sum(f.stat().st_size for f in Path(entry.path).rglob("*"))
                    shutil.rmtree(entry.path)
            finally:
                os.close(descriptor)
        return freed

    def zarr_store(self) -> Store:
        from zarr.storage import LocalStore

        return LocalStore(self.root, read_only=True)


_MEMORY: dict[str, MemoryLocation] = {}


class MemoryLocation(Location):
    """A dictionary of files: lakes that live as long as the process."""

    def __init__(self, name: str) -> None:
        self.name = f"memory://{name}"
        self.files: dict[str, bytes] = {}
        self._held: set[str] = set()
        self._guard = threading.RLock()

    def read(self, key: str) -> bytes:
        return self.files[key]

    def size(self, key: str) -> int:
        return len(self.files[key])

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


def locate(path: str | os.PathLike[str], *, write: bool = False) -> Location:
    """Turn a path or URL into a location.

    Raises
    ------
    InvalidInput
        For a scheme that is not served, and for writing on Microsoft Windows, where files
        cannot be replaced while they are read.
    """
    text = os.fspath(path)
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "memory":
        return _MEMORY.setdefault(rest, MemoryLocation(rest))
    if separator and scheme != "file":
        raise InvalidInput(
            f"lakes at {scheme}:// are not served; give a folder or memory://NAME instead of {text}"
        )
    if write and sys.platform == "win32":
        raise InvalidInput(
            "a lake cannot be written on Microsoft Windows, where a file in use cannot be "
            "replaced; write it on Linux, macOS or WSL and read it here"
        )
    return LocalLocation(Path(rest if separator else text).expanduser().absolute())
