"""What a space gives to others: arrays of dask and xarray, datasets of torch, a page of HTML.

Nothing of that is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from layerlake.store.errors import MissingExtra

if TYPE_CHECKING:
    import dask.array as da
    import torch
    import xarray as xr

    from layerlake.store.space import Space
    from layerlake.store.views.torch_datasets import RowDataset, RowStream


class SpaceViews:
    """The part of `Space` that hands its rows to other libraries."""

    @property
    def _space(self) -> Space:
        return cast("Space", self)

    def _repr_html_(self) -> str:
        from layerlake.store.views.overview import space_html

        return space_html(self._space)

    def to_dask(self, *, block_rows: int | None = None) -> da.Array:
        """Return the space as a dask array that reads when it is computed.

        Parameters
        ----------
        block_rows
            Most rows of a block; by default those of a window, or as many chunks of it as have
            64 MiB. No block reaches over two windows.

        Returns
        -------
        dask array of shape (rows, hidden), stored dtype. Its tasks carry the space, not its rows:
        they may run in other processes and on other machines that see the lake. A task holds one
        block.

        Raises
        ------
        SetIncomplete
            Not all rows are committed.
        OutOfRange
            `block_rows` is below 1.
        """
        from layerlake.store.views.lazy_arrays import dask_array

        return dask_array(self._space, block_rows)

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

        return data_array(self._space, block_rows, words=words, columns=columns)

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

        return dataset_of(self._space, index, words=words, columns=columns, memory=memory)

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
            What rows are cast to, as torch calls it; by default the stored dtype.
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

        return row_dataset(
            [self._space, *others], rows=rows, labels=labels, dtype=dtype, numbers=numbers
        )

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
        holds `stream.peak_bytes`, most of it the buffer: `buffer_rows` rows in the stored dtype.

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
            [self._space, *others],
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
