"""Array namespaces, and the only places where arrays cross between the host and a device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import array_api_compat
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""An array of any library that follows the array API standard."""

_LEAST_BUFFER: Final = 256
"""Values of a buffer below which filling it takes longer than what is saved."""


def namespace(*arrays: Array) -> Any:
    """Return the array API namespace that the arrays share (numpy, cupy, torch, strict)."""
    return array_api_compat.array_namespace(*arrays)


def is_numpy(array: Array) -> bool:
    """Say whether numpy's own routines, and scipy's BLAS, may be called on the array."""
    return bool(array_api_compat.is_numpy_array(array))


def to_host(array: Array) -> NDArray[Any]:
    """Return the values as a numpy array, copying from a device where they lie on one."""
    if is_numpy(array):
        host: NDArray[Any] = array
    elif array_api_compat.is_torch_array(array):
        host = array.detach().cpu().numpy()
    elif array_api_compat.is_cupy_array(array):
        host = array.get()
    else:
        host = np.from_dlpack(array)
    return host


def from_host(array: NDArray[Any], like: Array) -> Array:
    """Return a host array as an array of the same library, on the same device, as `like`."""
    if is_numpy(like):
        return array
    return namespace(like).asarray(array, device=array_api_compat.device(like))


def take_rows(array: Array, index: NDArray[np.int64]) -> Array:
    """Return the rows at an index on the host: a view where they lie one after another."""
    count = len(index)
    first = int(index[0]) if count else 0
    if count == 0 or (index[-1] - first == count - 1 and bool((np.diff(index) == 1).all())):
        return array[first : first + count, ...]
    if is_numpy(array):
        rows: Array = array[index]
        return rows
    return namespace(array).take(array, from_host(index, array), axis=0)


def item_bytes(dtype: Any) -> int:
    """Return the bytes of one value of a dtype of any of the libraries."""
    size = getattr(dtype, "itemsize", None)
    return int(size) if size else np.dtype(str(dtype).rpartition(".")[2]).itemsize


@contextmanager
def row_by_row(width: int) -> Iterator[None]:
    """Let numpy work on rows of so many values one at a time.

    Where numpy's buffer holds two rows or more, operands that are spread over rows or change their
    dtype are copied through it, and that takes longer than the arithmetic: `rows -= mean` twice as
    long, adding float32 to float64 more than twice.
    """
    with np.errstate():  # leaving it restores the buffer
        np.setbufsize(max(_LEAST_BUFFER, width // 16 * 16))
        yield
