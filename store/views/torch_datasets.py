"""torch datasets over spaces. Importing this imports torch: `Space.to_torch` does, when called."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from layerlake.store.errors import InvalidInput, OutOfRange, is_a
from layerlake.store.space import Space
from layerlake.store.views.row_labels import coded_labels, row_values
from layerlake.store.views.row_streams import (
    StackedRows,
    epoch_blocks,
    in_order,
    part_of_rank,
    part_of_worker,
    shuffled,
    stretch,
)


class _Batches:
    """What both kinds of dataset give: rows, their labels and their numbers as tensors."""

    def __init__(
        self,
        spaces: Sequence[Space],
        rows: Any,
        labels: str | Sequence[Any] | NDArray[Any] | None,
        dtype: str | torch.dtype | None,
        numbers: bool,
    ) -> None:
        first = spaces[0]
        self.rows = StackedRows(tuple(spaces), None if rows is None else _chosen(first, rows))
        self.dtype = _torch_dtype(dtype)
        self.numbers = numbers
        self.labels: NDArray[Any] | None = None
        self.classes: list[str] | None = None
        if labels is not None:
            self.labels, self.classes = _labels(first, labels)

    def made_of(self, numbers: NDArray[np.int64], values: NDArray[Any]) -> Any:
        """Return a batch as tensors: rows alone, or a tuple with labels and numbers."""
        tensor = torch.from_numpy(values)
        if len(self.rows.spaces) == 1:
            tensor = tensor[:, 0]
        parts = [tensor if self.dtype is None else tensor.to(self.dtype)]
        if self.labels is not None:
            parts.append(torch.from_numpy(self.labels[numbers]))
        if self.numbers:
            parts.append(torch.from_numpy(numbers))
        return parts[0] if len(parts) == 1 else tuple(parts)


class RowDataset(Dataset[Any]):
    """The rows of spaces by index (map-style); made by `Space.to_torch`.

    An item is a row, (hidden,), or (space, hidden) of several spaces; with labels or numbers a
    tuple. Indexed by a list, an array, a tensor or a slice it gives them as one batch, read at
    once. A `DataLoader` fetches its batches so.
    """

    def __init__(self, batches: _Batches) -> None:
        self._batches = batches

    @property
    def classes(self) -> list[str] | None:
        """What the labels 0, 1, ... stand for, where they were strings."""
        return self._batches.classes

    def __len__(self) -> int:
        return len(self._batches.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._batch(np.arange(*index.indices(len(self))))
        places = np.asarray(index)
        if places.ndim > 1 or (places.size and places.dtype.kind not in "iu"):
            raise OutOfRange(f"{index!r} names no rows; give whole numbers or a slice")
        if places.ndim:
            return self._batch(places.astype(np.int64))
        found = self._batch(places.astype(np.int64)[None])
        return tuple(part[0] for part in found) if isinstance(found, tuple) else found[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Return the items of a batch, read at once; what a `DataLoader` asks for."""
        found = self._batch(np.asarray(indices, np.int64))
        if isinstance(found, tuple):
            return list(zip(*(part.unbind() for part in found), strict=True))
        return list(found.unbind())

    def _batch(self, places: NDArray[np.int64]) -> Any:
        n = len(self)
        if len(places) and (places.min() < -n or places.max() >= n):
            raise OutOfRange(f"rows {places.min()} to {places.max()} asked of {n} rows")
        numbers = self._batches.rows.numbers(np.where(places < 0, places + n, places))
        return self._batches.made_of(numbers, self._batches.rows.at(numbers))


class RowStream(IterableDataset[Any]):
    """Batches of the rows of spaces in the order of their files; made by `Space.to_torch_stream`.

    Give it to a `DataLoader` with `batch_size=None`: it makes the batches itself. Each worker of
    each rank has its own stretch of the epoch.
    """

    def __init__(
        self,
        batches: _Batches,
        *,
        batch_rows: int,
        shuffle: bool,
        seed: int,
        buffer_rows: int,
        drop_last: bool,
        rank: int | None,
        world_size: int | None,
    ) -> None:
        self._batches = batches
        for name, value, least in (
            ("batch_rows", batch_rows, 1),
            ("buffer_rows", buffer_rows, 1),
            ("seed", seed, 0),
        ):
            if not is_a(value, int, np.integer) or value < least:
                raise InvalidInput(f"{name} {value!r} is no whole number of {least} or more")
        self.batch_rows = int(batch_rows)
        self.shuffle = shuffle
        self.seed = int(seed)
        self.buffer_rows = max(int(buffer_rows), self.batch_rows)
        self.drop_last = drop_last
        self.rank, self.world_size = _rank(rank, world_size)
        # Shared, so that workers which outlive an epoch learn of the next one.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def classes(self) -> list[str] | None:
        """What the labels 0, 1, ... stand for, where they were strings."""
        return self._batches.classes

    @property
    def epoch(self) -> int:
        """The number of the epoch, which the order depends on."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration; call it before each epoch."""
        self._epoch.fill_(epoch)

    @property
    def peak_bytes(self) -> int:
        """Most bytes of rows that one worker holds: buffer, block, and the batch as it goes out."""
        rows = self._batches.rows
        buffer = min(self.buffer_rows, len(rows)) if self.shuffle else 0
        block = self._block_rows if self.shuffle else self.batch_rows
        wide = self._batches.dtype.itemsize if self._batches.dtype is not None else 0
        cast = rows.row_bytes // rows.spaces[0].dtype.itemsize * wide
        stacked = 2 if len(rows.spaces) > 1 else 1
        held = (buffer + stacked * block + self.batch_rows) * rows.row_bytes
        reading = max(space.reading_bytes for space in rows.spaces)
        return held + self.batch_rows * cast + reading + rows.spaces[0].held_bytes

    @property
    def _block_rows(self) -> int:
        return self._batches.rows.spaces[0].chunk_rows

    def _part(self) -> tuple[int, int]:
        n = len(self._batches.rows)
        return part_of_rank(
            n, self.batch_rows, self.rank, self.world_size, drop_last=self.drop_last
        )

    def __len__(self) -> int:
        """Return the batches of this rank, whatever the number of workers."""
        low, high = self._part()
        return math.ceil((high - low) / self.batch_rows)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        number, of = (0, 1) if worker is None else (worker.id, worker.num_workers)
        low, high = part_of_worker(*self._part(), self.batch_rows, number, of)
        for numbers, values in self._read(low, high):
            yield self._batches.made_of(numbers, values)

    def _read(self, low: int, high: int) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        rows = self._batches.rows
        if not self.shuffle:
            yield from in_order(rows, low, high, self.batch_rows)
            return
        order = np.random.default_rng([self.seed, self.epoch])
        blocks = epoch_blocks(rows.window_bounds(), self._block_rows, order)
        # Who starts where draws for itself.
        draws = np.random.default_rng([self.seed, self.epoch, low])
        parts = (rows.between(*block) for block in stretch(blocks, low, high))
        held = max(min(self.buffer_rows, high - low), self.batch_rows)
        yield from shuffled(parts, held, self.batch_rows, draws)


def row_dataset(
    spaces: Sequence[Space], *, rows: Any, labels: Any, dtype: Any, numbers: bool
) -> RowDataset:
    """Return the map-style dataset of spaces; see `Space.to_torch`."""
    return RowDataset(_Batches(spaces, rows, labels, dtype, numbers))


def row_stream(
    spaces: Sequence[Space],
    *,
    rows: Any,
    labels: Any,
    dtype: Any,
    numbers: bool,
    **options: Any,
) -> RowStream:
    """Return the iterable dataset of spaces; see `Space.to_torch_stream`."""
    return RowStream(_Batches(spaces, rows, labels, dtype, numbers), **options)


def _chosen(space: Space, rows: Any) -> NDArray[np.int64]:
    """Return the numbers of the rows that an index or a mask names, rising."""
    n = space.shape[0]
    if isinstance(rows, slice):
        return np.arange(*rows.indices(n))
    numbers = space.places(rows)
    if not len(numbers):
        raise InvalidInput("no row was chosen; choose one or more")
    if numbers.min() < 0 or numbers.max() >= n:
        raise OutOfRange(f"rows {numbers.min()} to {numbers.max()} asked of {n} rows")
    rising = np.unique(numbers)
    if len(rising) != len(numbers):
        raise InvalidInput("a row was chosen twice; choose each once")
    return rising


def _torch_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None) if is_a(dtype, str) else None
    if not isinstance(found, torch.dtype):
        raise InvalidInput(f"{dtype!r} is no dtype of torch; give float32, bfloat16 or another")
    return found


def _labels(space: Space, labels: Any) -> tuple[NDArray[Any], list[str] | None]:
    """Return a label a row as int64 or float32, and what they stand for if they were strings."""
    if isinstance(labels, str):
        values, known = row_values(space, labels)
    else:
        values = np.asarray(labels)
        known = np.ones(len(values) if values.ndim else 0, np.bool_)
        if values.shape[:1] != space.shape[:1] or values.ndim != 1:
            raise InvalidInput(
                f"labels of shape {values.shape} were given for {space.shape[0]} rows; give one "
                "for each row, or the name of a column"
            )
    return coded_labels(values, known)


def _rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and number of ranks: as given, else torch.distributed's, else the only one."""
    if (rank is None) != (world_size is None):
        raise InvalidInput("rank and world_size go together; give both or neither")
    if rank is None or world_size is None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1
    if not 0 <= rank < world_size:
        raise InvalidInput(f"rank {rank} is not one of {world_size} ranks (0 to {world_size - 1})")
    return rank, world_size
