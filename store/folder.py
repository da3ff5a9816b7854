"""Lakes in a folder: files are built aside, made durable, then renamed into place."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from layerlake.store.errors import InvalidInput, LakeBusy, LakeReadOnly, StorageFailed
from layerlake.store.location import Buffer, Location, view_of
from layerlake.store.schema import STAGING

if TYPE_CHECKING:
    from zarr.abc.store import Store

_MOST_PARTS = 1024
"""Buffers that one call may write (IOV_MAX on Linux and macOS)."""

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
    except NotADirectoryError as error:  # a file stands where a folder would: nothing is below it
        raise FileNotFoundError(*error.args) from None
    except OSError as error:
        cause = _ADVICE.get(error.errno or 0, os.strerror(error.errno or errno.EIO))
        message = f"cannot {action} {path}: {cause}"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise LakeReadOnly(message) from error
        raise StorageFailed(message) from error


def fsync(path: Path) -> None:
    """Make a file, or the entries of a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, parts: Sequence[Buffer]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        # One call for all parts lets the kernel keep the file in large pages, quicker to map.
        views = [view for view in map(view_of, parts) if view.nbytes]
        while views:
            done = os.writev(descriptor, views[:_MOST_PARTS])
            while views and done >= views[0].nbytes:
                done -= views.pop(0).nbytes
            if done:
                views[0] = views[0][done:]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(path: Path, parts: Sequence[Buffer]) -> None:
    """Write a file outside of any lake, whole or not at all, in the place of what is there.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    LakeReadOnly, StorageFailed
        The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with _reported("write", path):
        try:
            _write_durably(temporary, parts)
            temporary.replace(path)
            fsync(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _flock(descriptor: int) -> bool:
    # Only POSIX has it; writing elsewhere was refused when the lake was opened.
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_unheld(folder: Path) -> int:
    """Remove a folder that nobody holds a lock of; return the bytes freed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _flock(descriptor):
            return 0
        freed = sum(file.stat().st_size for file in folder.rglob("*"))
        shutil.rmtree(folder)
        return freed
    finally:
        os.close(descriptor)


class LocalLocation(Location):
    """A folder. Files are built under `staging`, made durable, then renamed into place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)
        self._workshop: Path | None = None
        self._workshop_lock = threading.Lock()

    def __reduce__(self) -> tuple[type[LocalLocation], tuple[Path]]:
        # Another process has a staging folder of its own.
        return LocalLocation, (self.root,)

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

    def written(self, key: str) -> int:
        try:
            return self._path(key).stat().st_mtime_ns
        except OSError:
            return 0

    def size(self, key: str) -> int:
        path = self._path(key)
        try:
            with _reported("read", path):
                found = path.stat()
        except FileNotFoundError:
            raise KeyError(key) from None
        if not stat.S_ISREG(found.st_mode):
            raise KeyError(key)
        return found.st_size

    def children(self, key: str) -> list[str]:
        path = self._path(key)
        try:
            with _reported("read", path):
                return sorted(entry.name for entry in os.scandir(path))
        except FileNotFoundError:
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
                # The descriptor is left open on purpose: it is the lock. What is empty when the
                # process ends goes; of a killed one `sweep` takes care.
                atexit.register(_remove_empty, folder)
                self._workshop = folder
            return self._workshop

    def _create_parents(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            fsync(path.parent)

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        target = self._path(key)
        temporary: Path | None = None
        with _reported("write", target):
            try:
                temporary = self._staging() / secrets.token_hex(8)
                _write_durably(temporary, parts)
                self._create_parents(target.parent)
                temporary.replace(target)
                fsync(target.parent)
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
                    fsync(folder)
                try:
                    draft.rename(target)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return False
                    raise
                fsync(target.parent)
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
            fsync(path.parent)

    def remove(self, path: str) -> None:
        target = self._path(path)
        with _reported("remove", target):
            grave = self._staging() / secrets.token_hex(8)
            try:
                target.rename(grave)
            except FileNotFoundError:
                return
            fsync(target.parent)
            shutil.rmtree(grave)

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:
        folder = self._path(path)
        busy = LakeBusy(
            f"{path} is being written by another process; wait for it, or stop it, and run the "
            "same line again"
        )
        try:
            with _reported("lock", folder):
                descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            raise busy from None  # it was there a moment ago: another is removing it
        try:
            if not _flock(descriptor):
                raise busy
            # What was opened may have been removed, and another put in its place, before the lock.
            try:
                with _reported("lock", folder):
                    same = os.path.samestat(os.fstat(descriptor), folder.stat())
            except FileNotFoundError:
                same = False
            if not same:
                raise busy
            yield
        finally:
            os.close(descriptor)

    def sweep(self) -> int:
        freed = 0
        for name in self.children(STAGING):
            folder = self.root / STAGING / name
            if folder == self._workshop or not folder.is_dir():
                continue
            try:
                with _reported("remove", folder):
                    freed += _remove_unheld(folder)
            except FileNotFoundError:
                continue  # another sweeps as well
        return freed

    def zarr_store(self) -> Store:
        from zarr.storage import LocalStore

        return LocalStore(self.root, read_only=True)
