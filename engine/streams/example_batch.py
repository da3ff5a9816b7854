"""A batch of whole examples, packed: one array of rows for each space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import MissingExtra
from layerlake.store.space import Space

if TYPE_CHECKING:
    import torch

A = TypeVar("A")

Key = tuple[str, str, int]
"""Variant, site and layer of a space."""

ALIGNMENT: Final = 64
"""Every array of values begins with a cache line, to which the kernel copies faster."""


@dataclass(frozen=True, eq=False)
class ExampleBatch(Generic[A]):
    """Whole examples, their rows one after another; arrays of numpy, or tensors of torch."""

    number: int
    """Number of the batch in its epoch, over all ranks."""
    examples: A
    """(example,) numbers in the corpus, int64."""
    offsets: A
    """(example + 1,) the rows of example i are [offsets[i], offsets[i + 1])."""
    words: A
    """(row,) word of the corpus, -1 for specials."""
    values: Mapping[tuple[str, str, int], A]
    """(row, hidden) by variant, site and layer."""
    labels: Mapping[str, A]
    """(row, ...) or (example, ...) by name, as `ExampleStream.label_axes` says."""

    def __repr__(self) -> str:
        n_examples, n_rows = len(self.examples), len(self.words)  # type: ignore[arg-type]
        return (
            f"<ExampleBatch {self.number}: {n_examples} examples, {n_rows} rows of "
            f"{len(self.values)} spaces>"
        )

    def astype(self: ExampleBatch[NDArray[Any]], dtype: Any) -> ExampleBatch[NDArray[Any]]:
        """Return the batch with its values, arrays of numpy, cast."""
        cast = {key: values.astype(dtype, copy=False) for key, values in self.values.items()}
        return replace(self, values=cast)

    def to_torch(
        self: ExampleBatch[NDArray[Any]], device: str | torch.device = "cpu"
    ) -> ExampleBatch[torch.Tensor]:
        """Return the batch as tensors, which on the CPU share the memory of the arrays.

        Raises
        ------
        MissingExtra
            torch is not installed.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtra(
                "batches of tensors need torch, which is not installed; install it with: "
                "pip install 'layerlake[models]'"
            ) from error

        def tensor(array: NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        return ExampleBatch(
            self.number,
            tensor(self.examples),
            tensor(self.offsets),
            tensor(self.words),
            {key: tensor(values) for key, values in self.values.items()},
            {name: tensor(values) for name, values in self.labels.items()},
        )


@dataclass(frozen=True)
class Widths:
    """What the values of a batch look like: worked out once for all batches of a stream."""

    arrays: tuple[tuple[Key, int, np.dtype[Any], int], ...]
    """Key, hidden, dtype and bytes of a row of every space."""

    @classmethod
    def of(cls, spaces: Mapping[Key, Space]) -> Widths:
        """Return the widths of spaces."""
        return cls(
            tuple(
                (key, space.shape[1], space.dtype, space.shape[1] * space.dtype.itemsize)
                for key, space in spaces.items()
            )
        )

    def room(self, n_rows: int) -> dict[Key, NDArray[Any]]:
        """Return arrays of (n_rows, hidden) to read into, all in one piece of memory."""
        sizes = [-(-n_rows * row_bytes // ALIGNMENT) * ALIGNMENT for *_, row_bytes in self.arrays]
        memory = np.empty(sum(sizes) + ALIGNMENT, np.uint8)
        at = -memory.ctypes.data % ALIGNMENT
        values = {}
        for (key, hidden, dtype, _), size in zip(self.arrays, sizes, strict=True):
            values[key] = np.ndarray((n_rows, hidden), dtype, memory, at)
            at += size
        return values
