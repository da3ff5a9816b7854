"""Shards: how the rows of one window lie in one file, written and read without Zarr's help.

A shard is its inner chunks one after the other and, at the end, the index: offset and length of
each chunk as little-endian uint64 (2^64 - 1 twice for a chunk that is not there) and the crc32c of
these bytes. Uncompressed, the rows of a window are therefore contiguous in the file.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.blosc import Blosc
from numpy.typing import NDArray

from layerlake.store.errors import LakeCorrupt, StorageFailed
from layerlake.store.identity import checksum
from layerlake.store.location import Buffer, view_of
from layerlake.store.schema import COMMITTED, ActivationLayout

if TYPE_CHECKING:
    from layerlake.store.run_copies import Copy

ABSENT = np.uint64(2**64 - 1)


def _codec(layout: ActivationLayout) -> Blosc:
    itemsize = np.dtype(layout.dtype).itemsize
    return Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE, typesize=itemsize)


def encode_shard(
    layout: ActivationLayout, rows: NDArray[Any]
) -> tuple[list[Buffer], NDArray[np.uint64]]:
    """Return the parts of a shard file and the commits of its chunks.

    Parameters
    ----------
    rows
        Shape (rows of the window, hidden), in the stored dtype.
    """
    data = np.ascontiguousarray(rows, dtype=np.dtype(layout.dtype).newbyteorder("<"))
    whole = len(data) // layout.chunk_rows * layout.chunk_rows
    flat = [
        data[start : start + layout.chunk_rows].reshape(-1).view(np.uint8)
        for start in range(0, whole, layout.chunk_rows)
    ]
    if whole < len(data):
        last = np.full((layout.chunk_rows, layout.hidden), np.nan, data.dtype)
        last[: len(data) - whole] = data[whole:]
        flat.append(last.reshape(-1).view(np.uint8))
    chunks: list[Buffer] = list(flat)
    if layout.codec == "lz4":
        codec = _codec(layout)
        chunks = [codec.encode(chunk.view(data.dtype)) for chunk in flat]
    index = np.full((layout.chunks_per_window, 2), ABSENT, "<u8")
    commits = np.zeros(layout.chunks_per_window, np.uint64)
    offset = 0
    for number, chunk in enumerate(chunks):
        size = view_of(chunk).nbytes
        index[number] = offset, size
        commits[number] = COMMITTED + checksum(chunk)
        offset += size
    encoded = index.tobytes()
    tail = encoded + checksum(encoded).to_bytes(4, "little")
    return [*chunks, tail], commits


class ShardSource:
    """The bytes of one shard, in a file or in memory; `fetch` returns a range of them."""

    def __init__(self, content: Path | bytes, name: str) -> None:
        self.name = name
        self.content = content
        self.size = len(content) if isinstance(content, bytes) else self._size_of(content)
        self._map: NDArray[np.uint8] | None = None
        self._view: memoryview | None = None

    def _size_of(self, file: Path) -> int:
        try:
            return file.stat().st_size
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StorageFailed:
        return StorageFailed(f"cannot read {self.name}: {error.strerror}")

    def _damaged(self, what: str) -> LakeCorrupt:
        return LakeCorrupt(
            f"{self.name} is damaged: {what}; `layerlake verify --repair` drops it, then the "
            "extraction that wrote it resumes"
        )

    def fetch(self, offset: int, size: int, out: NDArray[np.uint8] | None = None) -> Any:
        """Return `size` bytes from `offset` as a uint8 array (`out`, where it is given)."""
        if offset + size > self.size:
            raise self._damaged(f"{self.size} bytes, where {offset + size} were expected")
        buffer = np.empty(size, np.uint8) if out is None else out
        if isinstance(self.content, bytes):
            buffer[:] = np.frombuffer(self.content, np.uint8, size, offset)
            return buffer
        self._read([(view_of(buffer), offset)])
        return buffer

    def _read(self, wanted: Iterable[tuple[memoryview, int]]) -> None:
        """Fill buffers with the bytes of the file from offsets on."""
        assert isinstance(self.content, Path), "only a file is read"
        try:
            descriptor = os.open(self.content, os.O_RDONLY)
            try:
                for buffer, offset in wanted:
                    done = 0
                    while done < len(buffer):
                        got = os.preadv(
                            descriptor, [buffer[done:] if done else buffer], offset + done
                        )
                        if not got:
                            raise self._damaged(f"it ends at byte {offset + done}")
                        done += got
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._unreadable(error) from error

    def copy(self, copies: Iterable[Copy], targets: Sequence[memoryview], *, mapped: bool) -> None:
        """Copy slices of the bytes into slices of targets; mapped files keep their pages mapped."""
        if mapped or isinstance(self.content, bytes):
            if self._view is None:
                # Slices of it cost less than those of an array.
                self._view = view_of(self.mapped())
            view = self._view
            for out, to, of in copies:
                targets[out][to] = view[of]
        else:
            self._read((targets[out][to], of.start) for out, to, of in copies)

    def mapped(self) -> NDArray[np.uint8]:
        """Return all bytes as one array without reading them (memory-mapped for files)."""
        if self._map is None:
            if isinstance(self.content, bytes):
                self._map = np.frombuffer(self.content, np.uint8)
            else:
                try:
                    with self.content.open("rb") as file:
                        view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
                except OSError as error:
                    raise self._unreadable(error) from error
                self._map = np.frombuffer(view, np.uint8)
        return self._map


class Shard:
    """One shard opened for reading: its index checked, its chunks by number."""

    def __init__(self, layout: ActivationLayout, source: ShardSource, n_chunks: int) -> None:
        self.layout = layout
        self.source = source
        size = 16 * layout.chunks_per_window
        if source.size < size + 4:
            raise source._damaged(f"{source.size} bytes hold no index")
        tail = source.fetch(source.size - size - 4, size + 4)
        if checksum(tail[:size]) != int.from_bytes(tail[size:].tobytes(), "little"):
            raise source._damaged("the checksum of its index does not match")
        index = tail[:size].view("<u8").reshape(-1, 2)
        self.offsets = index[:n_chunks, 0].astype(np.int64)
        self.sizes = index[:n_chunks, 1].astype(np.int64)
        ends = self.offsets + self.sizes
        sound = bool((self.sizes > 0).all() and (self.offsets >= 0).all())
        sound = sound and self.offsets[0] == 0 and bool((ends[:-1] == self.offsets[1:]).all())
        sound = sound and int(ends[-1]) + size + 4 == source.size
        sound = sound and bool((index[n_chunks:] == ABSENT).all())
        if layout.codec == "none":
            sound = sound and bool((self.sizes == layout.chunk_bytes).all())
        if not sound:
            raise source._damaged("its index does not describe its bytes")

    def encoded(self, chunk: int) -> NDArray[np.uint8]:
        """Return the stored bytes of a chunk."""
        data: NDArray[np.uint8] = self.source.fetch(
            int(self.offsets[chunk]), int(self.sizes[chunk])
        )
        return data

    def verified(self, chunk: int, commit: int) -> NDArray[np.uint8]:
        """Return the stored bytes of a chunk after comparing them with their commit."""
        data = self.encoded(chunk)
        if checksum(data) + COMMITTED != commit:
            raise self.source._damaged(f"the checksum of chunk {chunk} does not match")
        return data

    def decode(self, data: NDArray[np.uint8], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the rows, shape (chunk rows, hidden), of a chunk's stored bytes (in `out`)."""
        layout = self.layout
        if layout.codec == "lz4":
            # Bytes 4 to 8 of a blosc frame are its decoded size: checked before allocation.
            claimed = int.from_bytes(data[4:8].tobytes(), "little")
            if claimed != layout.chunk_bytes:
                raise self.source._damaged(f"a chunk claims {claimed} bytes")
            try:
                decoded = _codec(layout).decode(data, out)
            except (RuntimeError, ValueError) as error:
                raise self.source._damaged("a chunk cannot be decompressed") from error
            if out is not None:
                return out
            data = np.frombuffer(decoded, np.uint8)
        rows: NDArray[Any] = data.view(np.dtype(layout.dtype).newbyteorder("<"))
        rows = rows.reshape(layout.chunk_rows, layout.hidden)
        if out is None:
            return rows
        out[:] = rows
        return out
