"""One thread of linear algebra for each worker: more would wait for the cores that they share.

Threads also share out the sums of a product of matrices, so that its last digits would depend on
how many there are.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from threadpoolctl import threadpool_limits

SINGLE_THREADED: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
"""The environment of a process whose libraries are to use one thread each."""


class _Holders:
    """How many hold the limit; the libraries know one number of threads for the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._limits: threadpool_limits | None = None

    def enter(self) -> None:
        """Set the limit where nobody holds it yet."""
        with self._lock:
            if not self._count:
                self._limits = threadpool_limits(1, user_api="blas")
            self._count += 1

    def leave(self) -> None:
        """Lift the limit where nobody holds it any more."""
        with self._lock:
            self._count -= 1
            if not self._count and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


_HOLDERS: Final = _Holders()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread in this process; any number of threads may do so at a time."""
    _HOLDERS.enter()
    try:
        yield
    finally:
        _HOLDERS.leave()
