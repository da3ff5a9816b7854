"""Spaces as they were written: the rows of one array of a set, read in runs or one by one."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store import schema
from layerlake.store.errors import LakeCorrupt, LakeNotFound, NameNotFound, SetIncomplete
from layerlake.store.identity import short
from layerlake.store.location import Location, view_of
from layerlake.store.row_sets import RowSet
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetState
from layerlake.store.shards import Shard, ShardSource
from layerlake.store.space import Space
from layerlake.store.tables import read_table

if TYPE_CHECKING:
    from layerlake.store.run_copies import RunCopies

CACHE_LINE = 64
_PLACES = ("row_example", "row_word", "row_position", "row_special")
FEW_ROWS = 64
"""Rows of one shard that are read one by one: touching a row of a mapped file can bring 2 MiB of it
into memory."""


def load_rows(location: Location, corpus: str, fingerprint: str) -> RowSet:
    """Return a row set of a lake by its fingerprint."""
    path = f"corpora/{corpus}/rows/{short(fingerprint)}"
    return RowSet.from_columns(*read_table(location, path))


def incomplete(state: SetState, windows: NDArray[np.int64]) -> SetIncomplete:
    """Return the error that names the windows of a set that are not committed."""
    layout = state.plan.layout
    first = layout.window(int(windows[0]))
    return SetIncomplete(
        f"{state.plan.path} is incomplete: {int((~state.committed).sum())} of {layout.n_windows} "
        f"windows are not committed, among them window {windows[0]} (rows {first[0]} to {first[1] - 1}); run "
        "the extraction again, it resumes"
    )


def require_lake_at(location: Location) -> None:
    """Raise `LakeNotFound` where a space was sent to a machine that does not see the lake."""
    if not location.exists(schema.METADATA):
        raise LakeNotFound(
            f"there is no lake at {location.name} on {platform.node()}; put it where every machine "
            "that reads it finds it under that name"
        ) from None


@dataclass(frozen=True, repr=False)
class StoredSpace(Space):
    """The rows of one array of a set, in the dtype that they are stored in.

    Rows are read from committed windows only; asking for others raises `SetIncomplete`. A pickled
    space opens its shards anew.
    """

    location: Location
    state: SetState
    site: str
    layer: int
    verified: bool = False
    direct: bool = True
    _shards: dict[int, Shard] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        rows, hidden = self.shape
        way = f" ({self.pooling} of pieces)" if self.pooling not in (None, "mean") else ""
        return (
            f"<Space {self.corpus}/{self.variant} {self.site} layer {self.layer}: "
            f"{rows:,} {self.unit} rows{way} x {hidden} {self.dtype}, {self.state.progress}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Open files stay behind.
        return {**self.__dict__, "_shards": {}}

    @property
    def path(self) -> str:
        """Path of the array in the lake."""
        return f"{self.state.plan.path}/{self.site}/{self.layer}"

    @property
    def layout(self) -> ActivationLayout:
        """Shapes on disk."""
        return self.state.plan.layout

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, hidden)."""
        return self.layout.n_rows, self.layout.hidden

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype, which is also the dtype of what is read."""
        return np.dtype(self.layout.dtype)

    @property
    def _number(self) -> int:
        return self.state.plan.arrays.index(f"{self.site}/{self.layer}")

    def _shard(self, window: int) -> Shard:
        if window not in self._shards:
            key = f"{self.path}/{schema.shard_key(window)}"
            path = self.location.local_path(key)
            try:
                content: Path | bytes = path if path is not None else self.location.read(key)
                source = ShardSource(content, key)
            except (KeyError, FileNotFoundError):
                require_lake_at(self.location)
                raise LakeCorrupt(
                    f"{key} is missing though its window is committed; `layerlake verify "
                    f"--repair {self.state.plan.path}` reopens the set"
                ) from None
            self._shards[window] = Shard(self.layout, source, self.layout.chunks_in(window))
        return self._shards[window]

    def require_whole(self) -> None:
        """Raise `SetIncomplete` unless all rows are committed."""
        self._require_committed(np.arange(self.layout.n_windows))

    def _require_committed(self, windows: NDArray[np.int64]) -> None:
        if self.state.sealed:  # all were found committed when the state was read
            return
        missing = windows[~self.state.committed[windows]]
        if len(missing):
            raise incomplete(self.state, missing)

    def _chunk(self, window: int, chunk: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        shard = self._shard(window)
        if self.verified:
            commit = int(self.state.commits[window, self._number, chunk])
            return shard.decode(shard.verified(chunk, commit), out)
        return shard.decode(shard.encoded(chunk), out)

    def _range(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read rows [start, stop) into `out`."""
        layout = self.layout
        plain = layout.codec == "none" and not self.verified
        done = start
        while done < stop:
            window, within = divmod(done, layout.window_rows)
            if plain:
                count = min(stop - done, layout.window_rows - within)
                row_bytes = layout.hidden * self.dtype.itemsize
                target = out[done - start : done - start + count].reshape(-1).view(np.uint8)
                self._shard(window).source.fetch(within * row_bytes, count * row_bytes, target)
            else:
                chunk, offset = divmod(within, layout.chunk_rows)
                count = min(stop - done, layout.chunk_rows - offset)
                target = out[done - start : done - start + count]
                if count == layout.chunk_rows:
                    self._chunk(window, chunk, target)
                else:
                    target[:] = self._chunk(window, chunk)[offset : offset + count]
            done += count

    def _scattered(self, index: NDArray[np.int64], out: NDArray[Any]) -> None:
        layout = self.layout
        plain = layout.codec == "none" and not self.verified
        step = layout.window_rows if plain else layout.chunk_rows
        groups = index // step
        bounds = np.flatnonzero(np.diff(groups)) + 1
        edges = [0, *bounds.tolist(), len(index)]
        for low, high in itertools.pairwise(edges):
            group = int(groups[low])
            local = index[low:high] - group * step
            if plain and high - low <= FEW_ROWS:
                row_bytes = layout.hidden * self.dtype.itemsize
                for place, row in enumerate(local.tolist(), start=low):
                    target = out[place].view(np.uint8)
                    self._shard(group).source.fetch(row * row_bytes, row_bytes, target)
            elif plain:
                shard = self._shard(group)
                size = layout.chunks_in(group) * layout.chunk_bytes
                rows = shard.source.mapped()[:size].view(self.dtype).reshape(-1, layout.hidden)
                # "raise" would copy a second time, and every index is known to be in range.
                np.take(rows, local, axis=0, out=out[low:high], mode="clip")
            else:
                rows = self._chunk(*divmod(group, layout.chunks_per_window))
                out[low:high] = rows[local]

    def load_rows(self) -> RowSet:
        """Return the row set; raise `NameNotFound` where the lake does not hold it."""
        path = self._rows_path
        if not self.location.exists(f"{path}/{schema.METADATA}"):
            raise NameNotFound(
                f"the row set of {self.path} is not in the lake, so that nothing tells which "
                "rows are an example; extract the variant again"
            )
        return load_rows(self.location, self.corpus, self.row_set)

    def row_places(self) -> dict[str, NDArray[Any]]:
        """Return where rows stand in the corpus; empty where the lake does not hold it."""
        path = self._rows_path
        if not self.location.exists(f"{path}/{schema.METADATA}"):
            return {}
        columns, _ = read_table(self.location, path, names=list(_PLACES))
        return {name.removeprefix("row_"): columns[name] for name in _PLACES if name in columns}

    @property
    def _rows_path(self) -> str:
        return f"corpora/{self.corpus}/rows/{short(self.row_set)}"

    @property
    def window_bounds(self) -> NDArray[np.int64]:
        """(window + 1,): the rows of window w are [bounds[w], bounds[w + 1])."""
        edges = np.arange(self.layout.n_windows + 1) * self.layout.window_rows
        return np.minimum(edges, self.layout.n_rows)

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk."""
        return self.layout.chunk_rows

    @property
    def held_bytes(self) -> int:
        """None: shards are opened, not held."""
        return 0

    @property
    def table_bytes(self) -> int:
        """None: rows are what was written."""
        return 0

    @property
    def reading_bytes(self) -> int:
        """A chunk as stored, decoded and in part; plain rows are read where they go."""
        return 0 if self.plain else 3 * self.layout.chunk_bytes

    @property
    def file_bytes(self) -> int:
        """Bytes of the files, where rows are taken as they lie."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize if self.plain else 0

    def _rising(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        touched = np.bincount(wanted // self.layout.window_rows)
        self._require_committed(np.flatnonzero(touched))
        if not self.direct:
            return self._through_zarr(wanted)
        out = self._room(len(wanted))
        self._scattered(wanted, out)
        return out

    @property
    def plain(self) -> bool:
        """Whether the bytes of rows are taken as they lie in local files or in memory."""
        return self.direct and not self.verified and self.layout.codec == "none"

    @property
    def copy_step(self) -> int:
        """Rows of a group of `copy_runs`: a window of plain bytes, else a chunk."""
        return self.layout.window_rows if self.plain else self.layout.chunk_rows

    def copy_runs(
        self, copies: RunCopies, outs: Sequence[NDArray[Any]], *, mapped: bool = False
    ) -> None:
        """Copy runs of consecutive rows into arrays; see `Space.copy_runs`."""
        if not self.state.sealed:
            numbers = np.array([group for group, _ in copies.groups], np.int64)
            self._require_committed(np.unique(numbers * copies.step // self.layout.window_rows))
        targets = [view_of(out.reshape(-1).view(np.uint8)) for out in outs]
        if self.plain:
            for window, parts in copies.groups:
                self._shard(window).source.copy(parts, targets, mapped=mapped)
            return
        room = self._room(self.layout.chunk_rows)
        for chunk, parts in copies.groups:
            source = self._decoded(chunk, room)
            for out, to, of in parts:
                targets[out][to] = source[of]

    def _decoded(self, chunk: int, room: NDArray[Any]) -> memoryview:
        """Return the bytes of the rows of a chunk, numbered over all windows; maybe in `room`."""
        if self.direct:
            rows = self._chunk(*divmod(chunk, self.layout.chunks_per_window), room)
        else:
            low = chunk * self.layout.chunk_rows
            high = min(low + self.layout.chunk_rows, self.layout.n_rows)
            rows = self._through_zarr(np.arange(low, high))
        return view_of(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))

    def _consecutive(self, start: int, stop: int) -> NDArray[Any]:
        if stop <= start:
            return self._room(0)
        window_rows = self.layout.window_rows
        self._require_committed(np.arange(start // window_rows, (stop - 1) // window_rows + 1))
        if not self.direct:
            return self._through_zarr(np.arange(start, stop))
        out = self._room(stop - start)
        self._range(start, stop, out)
        return out

    def _room(self, n_rows: int) -> NDArray[Any]:
        """Return memory for rows that begins with a cache line.

        The kernel copies a file's pages far slower to where `np.empty` begins (16 bytes past the
        start of a page) than to a cache line: 33 against 23 ms for 150 MB.
        """
        size = n_rows * self.layout.hidden * self.dtype.itemsize
        room = np.empty(size + CACHE_LINE, np.uint8)
        first = -room.ctypes.data % CACHE_LINE
        return room[first : first + size].view(self.dtype).reshape(n_rows, self.layout.hidden)

    def _through_zarr(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        import zarr

        if self.verified:
            step = self.layout.chunk_rows
            for group in np.unique(wanted // step).tolist():
                self._chunk(*divmod(group, self.layout.chunks_per_window))
        array = zarr.open_array(self.location.zarr_store(), path=self.path, mode="r")
        low, high = int(wanted.min()), int(wanted.max()) + 1
        if high - low == len(wanted) and bool((np.diff(wanted) == 1).all()):
            return np.asarray(array[low:high])
        return np.asarray(array.oindex[wanted])
