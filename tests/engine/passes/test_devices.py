"""Rows on their way to a device: the right ones, ahead of time, and within what is allowed.

No device is needed but where a test says so: a strict array library stands in for one, and a CUDA
that does everything as late as it may for another.
"""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from layerlake.engine.passes.blocks import expect_blocks, read_blocks
from layerlake.engine.passes.device_names import CPU, Device, device_named, parse_device
from layerlake.engine.passes.devices import (
    CudaTransfers,
    DeviceSpace,
    fetched_spaces,
    spaces_apart,
    spaces_on,
    working_on,
)
from layerlake.store.errors import InvalidInput, LakeCorrupt, MemoryRefused, MissingExtra


@dataclass
class HostSpace:
    """A matrix that remembers what was read, and waits for leave to read where it is told to."""

    values: NDArray[Any]
    read: list[list[int]] = field(default_factory=list)
    leave: threading.Event | None = None
    bad: int = -1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def rows(self, index: NDArray[np.int64], /) -> NDArray[Any]:
        if self.leave is not None:
            assert self.leave.wait(10)
        self.read.append(index.tolist())
        if self.bad in index:
            raise LakeCorrupt(f"row {self.bad} is damaged")
        return self.values[index]


class StrictTransfers:
    """Arrays of the strict library as those of a device."""

    def room(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return shape, str(np.dtype(dtype))

    def fill(self, room: Any, rows: NDArray[Any]) -> Any:
        assert (rows.shape, str(rows.dtype)) == room
        return array_api_strict.asarray(rows.copy())


def matrix(rows: int, hidden: int = 5, seed: int = 0) -> NDArray[np.float32]:
    """Draw some rows."""
    return np.random.default_rng(seed).standard_normal((rows, hidden)).astype(np.float32)


@given(
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    told=st.sampled_from(["all", "nothing", "other rows", "a part"]),
    shared=st.booleans(),
)
def test_blocks_are_those_of_the_host_whatever_was_expected(
    cuts: list[int], told: str, shared: bool
) -> None:
    edges = np.concatenate([[0], np.cumsum(cuts)]).tolist()
    blocks = list(itertools.pairwise(edges))
    hosts = [HostSpace(matrix(200, width, width)) for width in (3, 5)]
    spaces = list(fetched_spaces(hosts, StrictTransfers))
    rows = [np.arange(0, 2 * edges[-1], 2), np.arange(7, 7 + edges[-1])]
    if shared:  # one space twice, with rows of its own each time
        spaces, hosts, rows = [*spaces, spaces[0]], [*hosts, hosts[0]], [*rows, rows[0] + 1]
    expected = {"all": blocks, "nothing": [], "other rows": [(0, 1)] * 3, "a part": blocks[1:]}
    expect_blocks(spaces, rows, expected[told])
    for block in read_blocks(spaces, rows, blocks):
        for host, index, array in zip(hosts, rows, block.arrays, strict=True):
            wanted = host.values[index[block.start : block.stop]]
            np.testing.assert_array_equal(np.from_dlpack(array), wanted)
    if told == "all":
        assert all(
            sum(map(len, host.read)) == edges[-1] * (1 + (shared and k == 0))
            for k, host in enumerate(hosts[:2])
        )


def test_the_next_block_is_fetched_while_one_is_in_use() -> None:
    leave = threading.Event()
    host = HostSpace(matrix(30), leave=leave)
    (space,) = fetched_spaces([host], StrictTransfers)
    index = [np.arange(k, k + 10) for k in (0, 10, 20)]
    leave.set()
    space.expect(index)  # type: ignore[attr-defined]
    space.rows(index[0])
    deadline = threading.Event()
    for _ in range(1000):  # nobody asks for the second block, and yet it is read
        if len(host.read) == 2:
            break
        deadline.wait(0.01)
    assert host.read == [index[0].tolist(), index[1].tolist()]
    leave.clear()
    space.rows(index[1])  # is there, so nothing waits for the third
    leave.set()
    space.rows(index[2])
    assert [len(rows) for rows in host.read] == [10, 10, 10]


def test_no_more_than_two_blocks_are_read_of_a_space() -> None:
    host = HostSpace(matrix(100))
    (space,) = fetched_spaces([host], StrictTransfers)
    index = [np.arange(k, k + 10) for k in range(0, 100, 10)]
    space.expect(index)  # type: ignore[attr-defined]
    space.rows(index[0])
    threading.Event().wait(0.05)
    assert len(host.read) <= 2


def test_what_reading_raises_is_raised_where_the_rows_are_asked_for() -> None:
    host = HostSpace(matrix(30), bad=15)
    (space,) = fetched_spaces([host], StrictTransfers)
    index = [np.arange(k, k + 10) for k in (0, 10, 20)]
    space.expect(index)  # type: ignore[attr-defined]
    space.rows(index[0])
    with pytest.raises(LakeCorrupt, match="row 15 is damaged"):
        space.rows(index[1])
    np.testing.assert_array_equal(np.from_dlpack(space.rows(index[2])), host.values[20:])


def test_a_pickled_space_reads_in_another_place() -> None:
    pair = fetched_spaces([HostSpace(matrix(20)), HostSpace(matrix(20))], StrictTransfers)
    pair[0].expect([np.arange(3)])  # type: ignore[attr-defined]
    copies = pickle.loads(pickle.dumps(pair))
    assert copies[0].fetcher is copies[1].fetcher
    assert (copies[0].shape, copies[0].dtype) == ((20, 5), np.float32)
    np.testing.assert_array_equal(np.from_dlpack(copies[0].rows(np.arange(4))), matrix(20)[:4])


def test_spaces_for_another_reader_have_a_thread_of_their_own() -> None:
    host = HostSpace(matrix(20))
    pair = fetched_spaces([host, host], StrictTransfers)
    apart = spaces_apart([*pair, host])
    assert apart[2] is host
    assert isinstance(apart[0], DeviceSpace)
    assert isinstance(apart[1], DeviceSpace)
    assert apart[0].fetcher is apart[1].fetcher
    assert apart[0].fetcher is not pair[0].fetcher  # type: ignore[attr-defined]


def test_on_the_cpu_nothing_changes() -> None:
    host = HostSpace(matrix(3))
    assert spaces_on(CPU, [host]) == (host,)
    with working_on(CPU, 1):
        assert spaces_apart([host]) == (host,)


@pytest.mark.parametrize(
    ("name", "parsed"),
    [("auto", ("auto", None)), ("cpu", ("cpu", None)), ("cuda", ("cuda", None)),
     ("cuda:0", ("cuda", 0)), ("cuda:17", ("cuda", 17))],
)  # fmt: skip
def test_names_of_devices(name: str, parsed: tuple[str, int | None]) -> None:
    assert parse_device(name) == parsed


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "auto:1", "cuda:", "cuda:-1", "", None, 0])
def test_names_that_say_no_device_are_refused(name: Any) -> None:
    with pytest.raises(InvalidInput, match="is not one of: auto, cpu, cuda, cuda:N"):
        device_named(name)


class LateStream:
    """A stream whose work waits until somebody waits for it."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def wait_event(self, event: LateEvent) -> None:
        self.work.append(event.synchronize)

    def synchronize(self) -> None:
        while self.work:
            self.work.pop(0)()


class LateEvent:
    """What was queued on a stream when the event was recorded."""

    def __init__(self, disable_timing: bool = False) -> None:
        self.stream: LateStream | None = None
        self.reached = False

    def record(self, stream: LateStream) -> None:
        self.stream, self.reached = stream, False

        def reach() -> None:
            self.reached = True

        stream.work.append(reach)

    def synchronize(self) -> None:
        while self.stream is not None and not self.reached:
            self.stream.work.pop(0)()


@dataclass
class LateMemory:
    """Memory of the device that stands in: copies are only queued."""

    content: NDArray[np.uint8]
    at: int = 0

    def __add__(self, offset: int) -> LateMemory:
        return LateMemory(self.content, self.at + offset)

    def copy_from_host_async(self, address: int, size: int, stream: LateStream) -> None:
        staging = next(s for s in LATE.staging if s.ctypes.data == address)
        stream.work.append(lambda: self._copy(staging, size))

    def _copy(self, staging: NDArray[np.uint8], size: int) -> None:
        self.content[self.at : self.at + size] = staging[:size]


class Late:
    """The part of CuPy that devices use, over the memory of the host, as lazy as CUDA may be."""

    def __init__(self) -> None:
        self.staging: list[NDArray[np.uint8]] = []
        self.users = LateStream()
        self.count = 1
        self.limits: list[int] = []

    def alloc_pinned_memory(self, size: int) -> NDArray[np.uint8]:
        self.staging.append(np.zeros(size, np.uint8))
        return self.staging[-1]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        array = types.SimpleNamespace(values=np.zeros(shape, dtype))
        array.data = LateMemory(array.values.reshape(-1).view(np.uint8))
        return array

    def module(self) -> types.ModuleType:
        late = self

        class LateDevice:
            mem_info = (1000, 2000)

            def __init__(self, number: int) -> None:
                assert number < late.count

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                pass

        class LatePool:
            malloc = None

            def set_limit(self, size: int) -> None:
                late.limits.append(size)

            def free_all_blocks(self) -> None:
                late.limits.append(0)

        class OutOfMemory(MemoryError):
            pass

        class RuntimeFailure(RuntimeError):
            pass

        def count() -> int:
            if not late.count:
                raise RuntimeFailure("cudaErrorInsufficientDriver")
            return late.count

        cupy: Any = types.ModuleType("cupy")
        cupy.empty = self.empty
        cupy.cuda = types.SimpleNamespace(
            Device=LateDevice,
            Stream=lambda non_blocking: LateStream(),
            Event=LateEvent,
            MemoryPool=LatePool,
            alloc_pinned_memory=self.alloc_pinned_memory,
            get_current_stream=lambda: late.users,
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemory),
            runtime=types.SimpleNamespace(getDeviceCount=count, CUDARuntimeError=RuntimeFailure),
            using_allocator=lambda _: working_on(CPU),
        )
        module: types.ModuleType = cupy
        return module


LATE = Late()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Late:
    """Put the CUDA that is always late in CuPy's place."""
    LATE.__init__()  # type: ignore[misc]
    monkeypatch.setitem(sys.modules, "cupy", LATE.module())
    return LATE


@pytest.mark.parametrize("staging_bytes", [64, 100, 4096])
def test_no_piece_is_overwritten_before_it_has_gone(late: Late, staging_bytes: int) -> None:
    rows = matrix(40)
    transfers = CudaTransfers(0, staging_bytes)
    for part in (rows[:37], rows[3:4], rows[::2]):
        found = transfers.fill(transfers.room(part.shape, part.dtype), part)
        np.testing.assert_array_equal(found.values, part)
    assert len(late.staging) == 2


def test_copies_wait_until_their_memory_is_given_up(late: Late) -> None:
    transfers = CudaTransfers(0)
    seen: list[float] = []
    room = None

    def user() -> None:
        """Read the memory, as work that was queued before its user gave it up."""
        assert room is not None
        seen.append(float(room[0].values.sum()))

    late.users.work.append(user)
    room = transfers.room((4, 5), np.float32)
    transfers.fill(room, matrix(4) + 9)
    assert seen == [0.0]


def test_without_cupy_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert device_named("auto") == device_named("cpu") == CPU
    with pytest.raises(MissingExtra, match=r"^a CUDA device needs CuPy.*layerlake\[cuda13\]"):
        device_named("cuda")


def test_without_a_device_that_is_said(late: Late) -> None:
    assert str(device_named("auto")) == str(device_named("cuda")) == "cuda:0"
    with pytest.raises(InvalidInput, match="'cuda:1' asked for, but 1 CUDA devices are present"):
        device_named("cuda:1")
    late.count = 0
    assert device_named("auto") == CPU
    with pytest.raises(InvalidInput, match="'cuda' asked for, but 0 CUDA devices are present; ch"):
        device_named("cuda")


def test_device_memory_is_what_is_allowed(late: Late) -> None:
    device = Device("cuda")
    assert (device.allowed_bytes(None), device.allowed_bytes(300)) == (900, 300)
    with pytest.raises(MemoryRefused, match=r"3.* allowed and cuda:0 has .*2000 bytes"):
        device.allowed_bytes(3000)
    with working_on(device, 300):
        assert late.limits == [300]
    assert late.limits == [300, 0]
    out_of_memory = sys.modules["cupy"].cuda.memory.OutOfMemoryError
    too_little = pytest.raises(MemoryRefused, match=r"than the .*\(900 bytes\).* on cuda:0")
    with too_little, working_on(device):
        raise out_of_memory


# On a device


@pytest.fixture
def cupy() -> Any:
    """CuPy, where it is installed and has a device."""
    module = pytest.importorskip("cupy")
    if device_named("auto") == CPU:
        pytest.skip("no CUDA device is present")
    return module


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_arrive_on_a_cuda_device(cupy: Any, dtype: str) -> None:
    hosts = [HostSpace(matrix(5000, 768, k).astype(dtype)) for k in range(2)]
    spaces = spaces_on(device_named("cuda"), hosts)
    rows = [np.arange(5000), np.arange(5000)]
    cuts = [(k, min(k + 700, 5000)) for k in range(0, 5000, 700)]
    with working_on(device_named("cuda")):
        expect_blocks(spaces, rows, cuts)
        for block in read_blocks(spaces, rows, cuts):
            for host, array in zip(hosts, block.arrays, strict=True):
                assert isinstance(array, cupy.ndarray)
                product = array.astype("float32") @ array.astype("float32").T  # keeps it busy
                np.testing.assert_array_equal(array.get(), host.values[block.start : block.stop])
                del product


@pytest.mark.gpu
def test_a_cuda_device_gives_no_more_than_is_allowed(cupy: Any) -> None:
    too_little = pytest.raises(MemoryRefused, match=r"needs more than the 64.0 MiB")
    with too_little, working_on(device_named("cuda"), 64 * 2**20):
        cupy.empty(65 * 2**20, dtype="uint8")
    with working_on(device_named("cuda"), 64 * 2**20):
        assert cupy.ones(2**20).sum() == 2**20
