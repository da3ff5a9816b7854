"""Float16 rows in float32, with integer arithmetic where the processor's own way is slow."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_STEP: Final = 1 << 15
"""Values that are converted at a time: small enough for a core's own cache."""
_SCALE: Final = np.float32(2.0**112)
"""Between the exponents' biases of both types."""
_SIGN_AND_SHIFTED: Final = np.int32(-0x70002000)
"""Sign, exponent and fraction, once they are moved to where float32 has them."""
_BEYOND: Final = 65536.0
"""What infinity and NaN become, or more; no finite value does."""


def widened(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return float16 or float32 values in float32, the same to the last bit.

    Parameters
    ----------
    values
        Of any shape. Those of float32 are returned as they are.

    Examples
    --------
    >>> widened(np.array([1.5, -0.0], np.float16))
    array([ 1.5, -0. ], dtype=float32)
    """
    if values.dtype == np.float32:
        return values
    out = np.empty(values.shape, np.float32)
    if values.dtype != np.float16 or not values.flags.c_contiguous or not _integers_are_quicker():
        out[...] = values
    else:
        _widen(values.reshape(-1), out.reshape(-1))
    return out


def _widen(values: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Convert values by moving their bits: exact for all finite ones, normal or not.

    float16 has 5 bits of exponent and 10 of fraction. Moved to the places of float32 they read as
    the same value times 2^-112, which a product with 2^112 mends, subnormal values included.
    """
    for low in range(0, len(values), _STEP):
        some, half = out[low : low + _STEP], values[low : low + _STEP]
        bits = some.view(np.int32)
        bits[...] = half.view(np.int16)  # the sign fills the upper half
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, _SIGN_AND_SHIFTED, out=bits)
        np.multiply(some, _SCALE, out=some)
        if some.max() >= _BEYOND or some.min() <= -_BEYOND:
            some[...] = half


@cache
def _integers_are_quicker() -> bool:
    """Say whether moving bits is quicker here than the cast of numpy; tried once."""
    values = np.ones(_STEP, np.float16)
    out = np.ones(_STEP, np.float32)
    seconds = []
    for convert in (_cast, _widen):
        convert(values, out)
        began = time.perf_counter()
        convert(values, out)
        seconds.append(time.perf_counter() - began)
    return seconds[1] < seconds[0]


def _cast(values: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Convert values as numpy does."""
    out[...] = values
