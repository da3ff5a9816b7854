"""Representation spaces: what every space is, and what it gives to others.

Arrays of dask and xarray, datasets of torch and rsatoolbox and pages of HTML are made when they are
asked for; nothing of those libraries is imported before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import MissingExtra, OutOfRange
from layerlake.store.location import Location
from layerlake.store.row_sets import RowSet
from layerlake.store.sets import SetState

if TYPE_CHECKING:
    import dask.array as da
    import torch
    import xarray as xr

    from layerlake.store.run_copies import RunCopies
    from layerlake.store.views.torch_datasets import RowDataset, RowStream

BLOCK_ROWS: Final = 4096


class Space(ABC):
    """One representation space: a lazy matrix of shape (rows, hidden).

    Its rows are pieces, words or examples. They are those of a set as it was written
    (`StoredSpace`), or words or examples pooled from the pieces of one as they are read
    (`PooledSpace`). A space may be pickled, for other processes to read.
    """

    location: Location
    """The lake."""
    state: SetState
    """The set that is read."""
    site: str
    layer: int
    verified: bool
    """Whether every chunk that is read is compared with its checksum."""
    direct: bool
    """Whether local files are read directly, not through zarr-python."""

    @property
    def corpus(self) -> str:
        """Name of the corpus."""
        return self.state.plan.corpus

    @property
    def variant(self) -> str:
        """Name of the variant."""
        return self.state.plan.variant

    @property
    def unit(self) -> str:
        """What a row is: `piece`, `word` or `example`."""
        return str(self.state.plan.contents.get("unit", ""))

    @property
    def pooling(self) -> str | None:
        """How a row was made of pieces; None for pieces, and where nothing says."""
        pooling = self.state.plan.contents.get("pooling")
        return None if pooling is None else str(pooling)

    @property
    def row_set(self) -> str:
        """Fingerprint of the row set: the rows of equal ones are the same stimuli."""
        return str(self.state.plan.contents.get("row_set", ""))

    @property
    @abstractmethod
    def path(self) -> str:
        """Path of the array in the lake; of pooled rows, followed by how they are pooled."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(rows, hidden)."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the rows that are read."""

    @abstractmethod
    def load_rows(self) -> RowSet:
        """Return the row set: which stimulus each row is.

        Raises
        ------
        NameNotFound
            The lake does not hold it.
        """

    @abstractmethod
    def row_places(self) -> dict[str, NDArray[Any]]:
        """Return `example`, `word` (-1 for specials), `position` and `special` of rows, (row,).

        Empty where the lake does not hold the row set.
        """

    @abstractmethod
    def require_whole(self) -> None:
        """Raise `SetIncomplete` unless all rows are committed."""

    @property
    @abstractmethod
    def window_bounds(self) -> NDArray[np.int64]:
        """(window + 1,): the rows that begin in file w are [bounds[w], bounds[w + 1])."""

    @property
    @abstractmethod
    def chunk_rows(self) -> int:
        """Rows that are read together at little more than the cost of one."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Bytes that the space holds in memory, shared with others of the same rows."""

    @property
    @abstractmethod
    def table_bytes(self) -> int:
        """Bytes that finding out what rows are made of takes for a moment, anew in each process."""

    @property
    @abstractmethod
    def reading_bytes(self) -> int:
        """Bytes that a read takes for a moment, beside the rows that it returns."""

    @property
    @abstractmethod
    def file_bytes(self) -> int:
        """Bytes of the files that may be mapped into memory; 0 where none are."""

    @property
    @abstractmethod
    def plain(self) -> bool:
        """Whether any row is at hand: its bytes are taken as they lie in local files or memory."""

    @property
    @abstractmethod
    def copy_step(self) -> int:
        """Rows of a group of `copy_runs`."""

    @abstractmethod
    def copy_runs(
        self, copies: RunCopies, outs: Sequence[NDArray[Any]], *, mapped: bool = False
    ) -> None:
        """Copy runs of consecutive rows into arrays, each group of rows decoded at most once.

        Parameters
        ----------
        copies
            Of `plan_copies`, with this space's `copy_step` and bytes of a row.
        outs
            Contiguous arrays of shape (n, hidden) and the space's dtype, by the numbers in the
            plan.
        mapped
            Whether to map plain files, which is quicker for short runs; their pages then stay in
            memory, at most the whole files.

        Raises
        ------
        SetIncomplete, LakeCorrupt, LakeNotFound, StorageFailed
            As `rows`.
        """

    @abstractmethod
    def _consecutive(self, start: int, stop: int) -> NDArray[Any]:
        """Return the rows [start, stop), which are there."""

    @abstractmethod
    def _rising(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of an index that never falls, and may name a row twice."""

    def rows(self, index: Any) -> NDArray[Any]:
        """Return the rows of an index, in its order.

        Parameters
        ----------
        index
            Integers in [0, rows), shape (n,); a mask, shape (rows,); or a slice of step 1, which
            is cut to the rows that there are, as an array's is.

        Returns
        -------
        numpy array of shape (n, hidden), of the space's dtype.

        Raises
        ------
        OutOfRange
            A row that the space does not have, or an index that names none.
        SetIncomplete, LakeCorrupt, LakeNotFound, StorageFailed
            Rows not committed; damage; no lake where a pickled space was sent; the storage failed.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(self.shape[0])
            if step != 1:
                raise OutOfRange(
                    f"a slice of step {step} was asked for; only consecutive rows can be sliced"
                )
            return self._consecutive(start, max(start, stop))
        wanted = self.places(index)
        if not len(wanted):
            return self._consecutive(0, 0)
        low, high = int(wanted.min()), int(wanted.max()) + 1
        if low < 0 or high > self.shape[0]:
            raise OutOfRange(f"rows {low} to {high - 1} asked of {self.shape[0]} rows")
        steps = np.diff(wanted)
        if (steps > 0).all():
            return (
                self._consecutive(low, high) if high - low == len(wanted) else self._rising(wanted)
            )
        if (steps >= 0).all():
            return self._rising(wanted)
        order = np.argsort(wanted, kind="stable")
        rising = self._rising(wanted[order])
        out = np.empty_like(rising)
        out[order] = rising
        return out

    def places(self, index: Any) -> NDArray[np.int64]:
        """Return the numbers of the rows that an index, or a mask over all rows, names.

        Raises
        ------
        OutOfRange
            It names none: neither whole numbers nor a mask.
        """
        given = np.asarray(index)
        if given.dtype == np.bool_ and given.shape == (self.shape[0],):
            return np.flatnonzero(given)
        if given.ndim != 1 or (len(given) and given.dtype.kind not in "iu"):
            raise OutOfRange(
                f"an index of shape {given.shape} and dtype {given.dtype} names no rows; give "
                f"whole numbers, a mask of shape ({self.shape[0]},), or a slice"
            )
        return given.astype(np.int64)

    def blocks(
        self, start: int = 0, stop: int | None = None, *, block_rows: int = BLOCK_ROWS
    ) -> Iterator[NDArray[Any]]:
        """Yield the rows [start, stop) in arrays of at most `block_rows` rows.

        Raises
        ------
        OutOfRange
            The rows are not all there, or `block_rows` is below 1.
        """
        end = self.shape[0] if stop is None else stop
        if not 0 <= start <= end <= self.shape[0] or block_rows < 1:
            raise OutOfRange(
                f"blocks of {block_rows} rows from {start} to {end} asked of {self.shape[0]} rows"
            )
        for low in range(start, end, block_rows):
            yield self._consecutive(low, min(low + block_rows, end))

    def _repr_html_(self) -> str:
        from layerlake.store.views.overview import space_html

        return space_html(self)

    def to_dask(self, *, block_rows: int | None = None) -> da.Array:
        """Return the space as a dask array that reads when it is computed.

        Parameters
        ----------
        block_rows
            Most rows of a block; by default those of a window, or as many chunks of it as have
            64 MiB. No block reaches over two windows.

        Returns
        -------
        dask array of shape (rows, hidden), of the space's dtype. Its tasks carry the space, not its
        rows: they may run in other processes and on other machines that see the lake. A task holds
        one block.

        Raises
        ------
        SetIncomplete
            Not all rows are committed.
        OutOfRange
            `block_rows` is below 1.
        """
        from layerlake.store.views.lazy_arrays import dask_array

        return dask_array(self, block_rows)

    def to_xarray(
        self,
        *,
        block_rows: int | None = None,
        words: bool = True,
        columns: Sequence[str] = (),
    ) -> xr.DataArray:
        """Return the space as a DataArray over (row, hidden), its values lazy.

        Beside the rows stand, as far as the lake knows them: `example`, `example_id`, `word` (-1
        for specials), `word_text`, `position` and `special`. These are in memory: about 40 bytes a
        row, and the texts of the corpus while it is made.

        Parameters
        ----------
        block_rows
            As `to_dask`.
        words
            Whether to read the texts of words.
        columns
            Annotations of words and columns of examples to put beside the rows, by name.

        Raises
        ------
        SetIncomplete
            Not all rows are committed.
        NameNotFound
            The corpus has no such annotation or column.
        """
        from layerlake.store.views.lazy_arrays import data_array

        return data_array(self, block_rows, words=words, columns=columns)

    def to_rsatoolbox(
        self,
        index: Any = None,
        *,
        words: bool = True,
        columns: Sequence[str] = (),
        memory: int | str = "1GiB",
    ) -> Any:
        """Return rows as an `rsatoolbox.data.Dataset`, an observation each.

        For few rows: rsatoolbox holds them all, and n (n - 1) / 2 numbers for each matrix that it
        makes of n rows. Values are float64, as its arithmetic needs.

        Parameters
        ----------
        index
            Which rows, as `rows` takes them; by default all.
        words, columns
            As `to_xarray`: what is known of a row is an observation descriptor of that name, beside
            its number, `row`.
        memory
            Most bytes to hold: 8 a value, one block as stored, and about 100 a row for descriptors.

        Raises
        ------
        MemoryRefused
            The rows need more than is allowed.
        MissingExtra
            rsatoolbox is not installed.
        OutOfRange, SetIncomplete
            Rows that the space does not have, or that are not committed.
        NameNotFound
            The corpus has no such annotation or column.
        """
        from layerlake.store.views.rsatoolbox_dataset import dataset_of

        return dataset_of(self, index, words=words, columns=columns, memory=memory)

    def to_torch(
        self,
        *others: Space,
        rows: Any = None,
        labels: str | Sequence[Any] | NDArray[Any] | None = None,
        dtype: str | torch.dtype | None = None,
        numbers: bool = False,
    ) -> RowDataset:
        """Return a map-style torch dataset: rows by index.

        A `DataLoader` over it reads a batch at once, from wherever its rows lie; `dataset[[3, 1]]`
        gives a batch too. For whole epochs over much data see `to_torch_stream`. It holds no rows,
        only the labels and `rows`: 8 bytes each a row.

        Parameters
        ----------
        others
            Further spaces of the same rows (other layers, say): an item is then (space, hidden).
        rows
            Which rows: an index, a mask or a slice; they are taken in their order in the lake.
        labels
            Name of an annotation of words or a column of examples, or one value for every row of
            the space. Strings become 0, 1, ... in the order of `dataset.classes`; a row without a
            label has -100, or NaN among numbers with a point.
        dtype
            What rows are cast to, as torch calls it; by default that of the space.
        numbers
            Whether to give the number of each row too, last.

        Returns
        -------
        RowDataset
            Of items row, or tuples of row, label and number as asked for.

        Raises
        ------
        MissingExtra
            torch is not installed.
        InvalidInput, NameNotFound, OutOfRange, SetIncomplete
            As their names say.
        """
        _require_torch()
        from layerlake.store.views.torch_datasets import row_dataset

        return row_dataset([self, *others], rows=rows, labels=labels, dtype=dtype, numbers=numbers)

    def to_torch_stream(
        self,
        *others: Space,
        batch_rows: int = 256,
        rows: Any = None,
        labels: str | Sequence[Any] | NDArray[Any] | None = None,
        dtype: str | torch.dtype | None = None,
        numbers: bool = False,
        shuffle: bool = True,
        seed: int = 0,
        buffer_rows: int = 32768,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> RowStream:
        """Return an iterable torch dataset: batches, read file by file and mixed in a buffer.

        `DataLoader(stream, batch_size=None, num_workers=2)`: the stream makes the batches, and
        every worker of every rank reads its own stretch of the epoch. Call `stream.set_epoch(n)`
        before each epoch: the order depends on seed, epoch and the number of readers alone. An
        epoch has every row exactly once. Windows, and chunks within them, come in a drawn order;
        rows that lie further apart than the buffer is long are mixed only by that. Each worker
        holds `stream.peak_bytes`, most of it the buffer: `buffer_rows` rows in the space's dtype.

        Parameters
        ----------
        others, rows, labels, dtype, numbers
            As `to_torch`; a batch is (batch, hidden), or (batch, space, hidden).
        batch_rows
            Rows of a batch; the last one of a rank may have fewer.
        shuffle
            Otherwise rows come as they lie, one worker after the other.
        seed
            Of the order.
        buffer_rows
            Rows that each worker draws batches from.
        drop_last
            Give every rank the same number of whole batches, and leave out the rest.
        rank, world_size
            Which of how many processes this is; by default what torch.distributed says now, or
            the only one.

        Raises
        ------
        MissingExtra
            torch is not installed.
        InvalidInput, NameNotFound, OutOfRange, SetIncomplete
            As their names say.
        """
        _require_torch()
        from layerlake.store.views.torch_datasets import row_stream

        return row_stream(
            [self, *others],
            rows=rows,
            labels=labels,
            dtype=dtype,
            numbers=numbers,
            batch_rows=batch_rows,
            shuffle=shuffle,
            seed=seed,
            buffer_rows=buffer_rows,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )


def _require_torch() -> None:
    """Import torch, or say what to install."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "torch datasets need torch, which is not installed; install it with: "
            "pip install 'layerlake[models]'"
        ) from error
