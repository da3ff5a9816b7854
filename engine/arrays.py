"""Array namespaces, and the only places where arrays cross between the host and a device."""

from typing import Any, TypeAlias

import array_api_compat
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""An array of any library that follows the array API standard."""


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
