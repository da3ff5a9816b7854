"""Activations from elsewhere: blocks of rows come in, whole windows go into a set.

The rows of an array come in order, arrays in any order. Each array has one window in memory at
most; a full one goes to the disk as its shard, and with the last array's the window is committed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from layerlake.store.amounts import require
from layerlake.store.errors import InvalidInput, is_a
from layerlake.store.external.external_plan import (
    WriterSettings,
    array_name,
    array_order,
    begun_plan,
    external_plan,
    keep_tables,
)
from layerlake.store.external.external_rows import ExternalRows
from layerlake.store.external.incoming import STEP_ROWS, take_in, to_numpy
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.stored_space import StoredSpace
from layerlake.store.writer import SetWriter

if TYPE_CHECKING:
    from layerlake.store.lake import Lake


@dataclass
class _Stream:
    """The rows of one array as they come."""

    next: int = 0
    """The row that comes next."""
    touched: bool = False
    buffer: NDArray[Any] | None = None
    """Rows of the window that `next` lies in, or has just filled."""
    window: int = -1
    """The window of the buffer."""


class ActivationWriter:
    """Takes in the rows of a variant's layers, and keeps them; made by `Lake.writer`.

    A context manager: leaving it without an error seals the set. After an error, or a kill, what is
    committed stays, and a writer opened in the same way goes on at `position`.
    """

    def __init__(self, lake: Lake, rows: ExternalRows, settings: WriterSettings) -> None:
        self.lake = lake
        self.rows = rows
        self.settings = settings
        self.hidden: int | None = None
        self._writer: SetWriter | None = None
        self._resources = ExitStack()
        self._dtypes: dict[str, np.dtype[Any]] = {}
        names = settings.arrays or ()
        self._streams = {name: _Stream() for name in names}
        self._bounds = ActivationLayout(
            rows.rows.n_rows, 1, "float32", settings.storage.codec, settings.storage.window_rows
        )

    def __repr__(self) -> str:
        asked = self.settings
        return (
            f"<ActivationWriter {asked.variant} over {asked.corpus}: {self.position} of "
            f"{self.n_rows} rows are kept>"
        )

    @property
    def n_rows(self) -> int:
        """Rows that every array must have."""
        return self.rows.rows.n_rows

    @property
    def path(self) -> str | None:
        """Path of the set; None before it is begun."""
        return None if self._writer is None else self._writer.plan.path

    @property
    def position(self) -> int:
        """The first row that is not kept yet in every array: where to go on, after a kill too."""
        if self._writer is None:
            return 0
        missing = np.flatnonzero(~self._writer.committed)
        return int(missing[0]) * self.settings.storage.window_rows if len(missing) else self.n_rows

    def __enter__(self) -> Self:
        begun = begun_plan(self.lake, self.settings, self.rows)
        if begun is not None:
            try:
                self._open(begun)
            except BaseException:
                self._resources.close()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
            else:
                came = max((stream.next for stream in self._streams.values()), default=0)
                if came > self.position:
                    error.add_note(
                        f"rows up to {self.position} are kept, {came - self.position} that came "
                        f"after them are lost; open the writer again and go on at row "
                        f"{self.position} (start=writer.position)"
                    )
        finally:
            self._resources.close()

    def append(self, site: str, layer: int, rows: Any, *, start: int | None = None) -> None:
        """Take in the next rows of one array.

        Parameters
        ----------
        site, layer
            Which array; layer 0 is the embedding output, layer l the output of block l.
        rows
            Floats of shape (any number, hidden): a numpy array, mapped files included, or a torch
            tensor.
        start
            The row that the block begins with, by default the one after the last, at first 0. A
            writer that resumes begins at its `position` with `start=writer.position`; without it,
            it begins at row 0, and rows that are kept already are compared and passed over.

        Raises
        ------
        InvalidInput
            Wrong shape, width or dtype, too many rows, NaN, infinity or a value that the stored
            dtype cannot hold (the row and its id are named), rows that differ from those kept.
        MemoryRefused
            The windows that are being filled would take more than was allowed.
        StorageFailed
            The storage refused.
        """
        name = array_name(site, layer)
        array = to_numpy(rows)
        stream = self._stream(name)
        self._check(name, stream, array, start)
        if start is not None:
            stream.next = int(start)
        stream.touched = True
        done = 0
        while done < len(array):
            window = stream.next // self.settings.storage.window_rows
            stop = self._bounds.window(window)[1]
            part = array[done : done + stop - stream.next]
            if stream.buffer is not None and stream.window != window:
                self._decide()
                self._flush(name, stream)
            if self._kept(window):
                self._compare(name, stream.next, part)
            else:
                self._take(name, stream, window, part)
            stream.next += len(part)
            done += len(part)
            if stream.next == stop and stream.buffer is not None:
                if self.settings.arrays is not None:
                    self._decide()
                if self._writer is not None:
                    self._flush(name, stream)

    def _stream(self, name: str) -> _Stream:
        """Return the stream of an array, a new one where arrays are not fixed yet."""
        if name not in self._streams:
            if self.settings.arrays is not None or self._writer is not None:
                held = ", ".join(self._streams)
                advice = ""
                if self.settings.arrays is None:
                    advice = (
                        f", which came before the first window was full; remove {self.path} and "
                        "name all layers at first (layers=)"
                    )
                raise InvalidInput(f"{name} is none of the arrays of this writer: {held}{advice}")
            self._streams[name] = _Stream()
        return self._streams[name]

    def _check(self, name: str, stream: _Stream, array: NDArray[Any], start: int | None) -> None:
        """Refuse rows that cannot be the next ones of an array."""
        if self.hidden is not None and array.shape[1] != self.hidden:
            raise InvalidInput(
                f"{name} came with rows of {array.shape[1]} values, where {self.hidden} were "
                "expected; bring layers of another width with a writer of their own"
            )
        if not array.shape[1]:
            raise InvalidInput(f"{name} came with rows of no values")
        begin = stream.next if start is None else start
        if is_a(begin, bool) or not is_a(begin, int, np.integer):
            raise InvalidInput(
                f"start is {start!r}; give the number of the row that a block begins with"
            )
        resuming = not stream.touched and 0 <= begin <= self.position
        if begin != stream.next and not resuming:
            raise InvalidInput(
                f"row {stream.next} of {name} comes next, and a block that begins with row {begin} "
                f"came; bring rows in order (kept are {self.position})"
            )
        if begin + len(array) > self.n_rows:
            raise InvalidInput(
                f"{name} came with {begin + len(array)} rows, and there are {self.n_rows} "
                f"{self.rows.rows.unit}s to bring them for"
            )
        self.hidden = array.shape[1]
        if self._writer is None:
            self._dtypes[name] = self._wider(self._dtypes.get(name), array.dtype)
        elif self.settings.storage.store_dtype == "auto" and self._wider(
            np.dtype(self._writer.plan.layout.dtype), array.dtype
        ) != np.dtype(self._writer.plan.layout.dtype):
            raise InvalidInput(
                f"{name} came as {array.dtype} after the set was begun in float16; give the writer "
                "a store_dtype"
            )

    def _wider(self, known: np.dtype[Any] | None, new: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype to store two in: the one that was asked for, or the wider."""
        if self.settings.storage.store_dtype != "auto":
            return np.dtype(self.settings.storage.store_dtype)
        narrow = new.itemsize <= 2 and known in (None, np.dtype("float16"))
        return np.dtype("float16" if narrow else "float32")

    def _kept(self, window: int) -> bool:
        return self._writer is not None and bool(self._writer.committed[window])

    def _take(self, name: str, stream: _Stream, window: int, part: NDArray[Any]) -> None:
        """Copy rows into the window that is being filled, or write a whole one from where it is."""
        start, stop = self._bounds.window(window)
        if (
            self._writer is not None
            and len(part) == stop - start
            and part.dtype == np.dtype(self._writer.plan.layout.dtype)
        ):
            self._take_in(name, stream.next, part, None)
            self._writer.write_array(window, name, part)
            return
        wanted = self._dtypes[name] if self._writer is None else self._writer.plan.layout.dtype
        if stream.buffer is None:
            self._require_room((stop - start) * part.shape[1] * np.dtype(wanted).itemsize)
            stream.buffer = np.empty((stop - start, part.shape[1]), wanted)
            stream.window = window
        elif stream.buffer.dtype != wanted:
            stream.buffer = stream.buffer.astype(wanted)
        offset = stream.next - start
        self._take_in(name, stream.next, part, stream.buffer[offset : offset + len(part)])

    def _require_room(self, n_bytes: int) -> None:
        held = [stream.buffer for stream in self._streams.values() if stream.buffer is not None]
        require(
            n_bytes + sum(buffer.nbytes for buffer in held),
            self.settings.allowed_bytes,
            f"the writer's window of {len(held) + 1} arrays",
            "bring one layer after the other (name them with layers=), make window_rows smaller, "
            "or allow more memory",
        )

    def _take_in(self, name: str, row: int, part: NDArray[Any], out: NDArray[Any] | None) -> None:
        take_in(part, out, lambda place: f"{name}, {self.rows.name(row + place)}")

    def _compare(self, name: str, row: int, part: NDArray[Any]) -> None:
        """Refuse rows that are not those kept."""
        assert self._writer is not None, "nothing is kept before a set is begun"
        site, _, layer = name.rpartition("/")
        space = StoredSpace(self.lake.location, self._writer.state, site, int(layer))
        for low in range(0, len(part), STEP_ROWS):
            block = part[low : low + STEP_ROWS]
            kept = space.rows(slice(row + low, row + low + len(block)))
            with np.errstate(over="ignore", invalid="ignore"):
                same = (block.astype(kept.dtype) == kept).all(axis=1)
            if not same.all():
                bad = row + low + int(np.flatnonzero(~same)[0])
                raise InvalidInput(
                    f"{name}, {self.rows.name(bad)} is kept already, with other values; to go on "
                    f"where the last writer stopped give start={self.position} (writer.position), "
                    f"or remove {self._writer.plan.path} and begin again"
                )

    def _decide(self) -> None:
        """Fix arrays, width and dtype, and begin the set, unless that is done."""
        if self._writer is not None:
            return
        assert self.hidden is not None, "no rows came"
        wide = np.dtype("float32") in self._dtypes.values()
        dtype = self.settings.storage.store_dtype
        if dtype == "auto":
            dtype = "float32" if wide else "float16"
        arrays = self.settings.arrays or tuple(sorted(self._streams, key=array_order))
        plan = external_plan(self.settings, self.rows, arrays, self.hidden, dtype)
        keep_tables(self.lake, self.rows, plan)
        self._open(plan)
        for name, stream in self._streams.items():
            if stream.buffer is None:
                continue
            start, stop = self._bounds.window(stream.window)
            if self._kept(stream.window):  # the set was there, sealed
                self._compare(name, start, stream.buffer[: stream.next - start])
                stream.buffer = None
            elif stream.next == stop:
                self._flush(name, stream)

    def _flush(self, name: str, stream: _Stream) -> None:
        """Write a full window of an array, and let go of it."""
        if stream.buffer is None:
            return
        assert self._writer is not None, "a set is begun before its windows are written"
        rows = stream.buffer.astype(self._writer.plan.layout.dtype, copy=False)
        stream.buffer = None
        self._writer.write_array(stream.window, name, rows)

    def _open(self, plan: SetPlan) -> None:
        self._writer = self._resources.enter_context(SetWriter(self.lake.location, plan))
        self.hidden = plan.layout.hidden
        for name in plan.arrays:
            self._streams.setdefault(name, _Stream())

    def _finish(self) -> None:
        """Write what is left, and seal; refuse where rows are missing."""
        if self._writer is None and not any(s.touched for s in self._streams.values()):
            raise InvalidInput(
                f"no rows of {self.settings.variant} came; append them before the writer is closed"
            )
        lacking = [
            f"{name} has {stream.next}"
            for name, stream in self._streams.items()
            if stream.next < self.n_rows
        ]
        if lacking and self.position < self.n_rows:
            listed = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            raise InvalidInput(
                f"{self.settings.variant} is not whole: {listed} of {self.n_rows} rows; "
                f"{self.position} are kept in every array, and a writer opened again goes on there "
                "(start=writer.position)"
            )
        self._decide()
        assert self._writer is not None, "a set is begun before it is sealed"
        self._writer.seal()
