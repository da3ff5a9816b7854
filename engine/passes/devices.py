"""Spaces whose rows arrive on a device: read, staged and copied while the last ones are in use.

One thread of the host reads blocks and copies them, in pieces through two pinned buffers, on a
stream of its own. Which blocks will be asked for is told beforehand (`blocks.expect_blocks`); of
each space two blocks lie on the device at a time, the one in use and the next.

Float32 products on a device are float32: CuPy asks for TF32 only where CUPY_TF32=1 is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.memory import format_bytes
from layerlake.engine.passes.arrays import Array
from layerlake.engine.passes.blocks import SpaceLike
from layerlake.engine.passes.device_names import Device, import_cupy
from layerlake.store.errors import MemoryRefused

STAGING_BYTES: Final = 4 * 2**20
"""Of each of the two pinned buffers: long enough for copies at full speed."""
BLOCKS_HELD: Final = 2
"""Blocks of each space that lie on the device at a time."""


@contextmanager
def working_on(device: Device, allowed: int | None = None) -> Iterator[None]:
    """Work on a device in this thread, in at most so many bytes of its memory.

    Arrays made inside come from a pool that ends with the work; a product's workspace of some MiB,
    which the libraries hold, comes on top. On the CPU nothing changes.

    Parameters
    ----------
    device
        Where.
    allowed
        Bytes of device memory; by default nine tenths of what is free.

    Raises
    ------
    MemoryRefused
        More is asked for than the device has, or the work needs more.
    """
    if device.kind == "cpu":
        yield
        return
    cupy = import_cupy()
    most = device.allowed_bytes(allowed)
    with cupy.cuda.Device(device.number):
        pool = cupy.cuda.MemoryPool()
        pool.set_limit(size=most)
        try:
            with cupy.cuda.using_allocator(pool.malloc):
                yield
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise MemoryRefused(
                f"the work needs more than the {format_bytes(most)} ({most} bytes) of device "
                f"memory allowed on {device}; allow more, read fewer rows at a time, compare "
                "fewer spaces, or choose --device cpu"
            ) from error
        finally:
            pool.free_all_blocks()


class Transfers(Protocol):
    """How blocks get to a device."""

    def room(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return room for a block; called by the thread that will use it, before it is filled."""
        ...

    def fill(self, room: Any, rows: NDArray[Any]) -> Array:
        """Copy rows into their room and return it as an array once all have arrived."""
        ...


class CudaTransfers:
    """Copies to a CUDA device in pieces, one being staged while the other is on its way."""

    def __init__(self, number: int, staging_bytes: int = STAGING_BYTES) -> None:
        """Take pinned memory and a stream on a device."""
        self._cupy = import_cupy()
        self._number = number
        with self._cupy.cuda.Device(number):
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
            self._staging = [self._cupy.cuda.alloc_pinned_memory(staging_bytes) for _ in range(2)]
            self._sent = [self._cupy.cuda.Event(disable_timing=True) for _ in range(2)]
        self._staging_bytes = staging_bytes

    def room(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return an array, and an event after which nothing uses its memory any more.

        Memory that was given up may still be read by what its user has queued; that is before the
        event on the user's stream.
        """
        cuda = self._cupy.cuda
        with cuda.Device(self._number):
            array = self._cupy.empty(shape, dtype=dtype)
            unused = cuda.Event(disable_timing=True)
            unused.record(cuda.get_current_stream())
        return array, unused

    def fill(self, room: Any, rows: NDArray[Any]) -> Array:
        """Copy rows into their room; no later use of it has to wait for the copy."""
        array, unused = room
        flat = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        with self._cupy.cuda.Device(self._number):
            self._stream.wait_event(unused)
            for turn, at in enumerate(range(0, flat.size, self._staging_bytes)):
                piece = flat[at : at + self._staging_bytes]
                staging, sent = self._staging[turn % 2], self._sent[turn % 2]
                if turn > 1:
                    sent.synchronize()  # or the piece before the last would be overwritten
                staged = np.frombuffer(staging, np.uint8, piece.size)
                staged[:] = piece
                target = array.data + at
                target.copy_from_host_async(staged.ctypes.data, piece.size, self._stream)
                sent.record(self._stream)
            self._stream.synchronize()
        return array


class Fetcher:
    """The thread that fetches blocks for the spaces of a device, begun when it is first used.

    May be pickled; a copy has a thread, a stream and buffers of its own.
    """

    def __init__(self, make_transfers: Callable[[], Transfers]) -> None:
        """Take what makes the way to the device, in the process where it is used."""
        self.make_transfers = make_transfers
        self._transfers: Transfers | None = None
        self._thread: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"make_transfers": self.make_transfers, "_transfers": None, "_thread": None}

    def apart(self) -> Fetcher:
        """Return one with a thread of its own."""
        return Fetcher(self.make_transfers)

    def begin(self, space: SpaceLike, index: NDArray[np.int64]) -> Future[Array]:
        """Begin to fetch some rows; the future holds them as an array on the device."""
        if self._transfers is None or self._thread is None:
            self._transfers = self.make_transfers()
            self._thread = ThreadPoolExecutor(1, "layerlake-fetch")
        transfers = self._transfers
        room = transfers.room((len(index), *space.shape[1:]), space.dtype)
        return self._thread.submit(lambda: transfers.fill(room, space.rows(index)))


class DeviceSpace:
    """A space whose rows arrive on a device; for one reader at a time.

    Its rows are the same whatever was expected, which changes only when they are fetched.
    """

    def __init__(self, space: SpaceLike, fetcher: Fetcher) -> None:
        """Take a space on the host, and what fetches its rows."""
        self.space = space
        self.fetcher = fetcher
        self._expected: Iterator[NDArray[np.int64]] = iter(())
        self._next: tuple[NDArray[np.int64], Future[Array]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What is on its way stays behind.
        return {**self.__dict__, "_expected": iter(()), "_next": None}

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and hidden."""
        return self.space.shape

    @property
    def dtype(self) -> Any:
        """The dtype of the stored values, and of the arrays."""
        return self.space.dtype

    def expect(self, indexes: Iterable[NDArray[np.int64]]) -> None:
        """Begin to fetch the first of the indexes, which will be asked for in this order."""
        self._expected = iter(indexes)
        self._next = None
        self._fetch_next()

    def _fetch_next(self) -> None:
        """Begin to fetch what is expected next."""
        self._next = None
        index = next(self._expected, None)
        if index is not None:
            self._next = index, self.fetcher.begin(self.space, index)

    def rows(self, index: NDArray[np.int64], /) -> Array:
        """Return the rows at a sorted index on the device, and begin to fetch the next ones.

        Raises
        ------
        Exception
            What reading the space raises.
        """
        if self._next is None or not np.array_equal(self._next[0], index):
            # Not what was expected: what was no longer is.
            self._expected = iter(())
            self._next = index, self.fetcher.begin(self.space, index)
        _, coming = self._next
        self._next = None  # its rows are the reader's alone
        array = coming.result()
        self._fetch_next()
        return array


def spaces_on(device: Device, spaces: Sequence[SpaceLike]) -> tuple[SpaceLike, ...]:
    """Return the spaces with their rows on a device; on the CPU as they are."""
    if device.kind == "cpu":
        return tuple(spaces)
    return fetched_spaces(spaces, _CudaWay(device.number))


def fetched_spaces(
    spaces: Sequence[SpaceLike], make_transfers: Callable[[], Transfers]
) -> tuple[SpaceLike, ...]:
    """Return spaces that share one thread and one way to a device.

    Pieces that words or examples are pooled from arrive as they are stored, and are pooled there.
    """
    from layerlake.store.views.pooled_rows import PooledSpace

    fetcher = Fetcher(make_transfers)
    return tuple(
        space.over(DeviceSpace(space.stored, fetcher))
        if isinstance(space, PooledSpace)
        else DeviceSpace(space, fetcher)
        for space in spaces
    )


def spaces_apart(spaces: Sequence[SpaceLike]) -> tuple[SpaceLike, ...]:
    """Return the spaces for another reader: those on devices with a thread of their own."""
    from layerlake.store.views.pooled_rows import PooledSpace

    fetchers: dict[int, Fetcher] = {}

    def apart(space: SpaceLike) -> SpaceLike:
        """Return a space for another reader."""
        if isinstance(space, PooledSpace) and isinstance(space.pieces, DeviceSpace):
            return space.over(apart(space.pieces))
        if not isinstance(space, DeviceSpace):
            return space
        own = fetchers.setdefault(id(space.fetcher), space.fetcher.apart())
        return DeviceSpace(space.space, own)

    return tuple(map(apart, spaces))


@dataclass(frozen=True, slots=True)
class _CudaWay:
    """Makes the way to a CUDA device, in whichever process."""

    number: int

    def __call__(self) -> Transfers:
        """Take its buffers."""
        return CudaTransfers(self.number)
