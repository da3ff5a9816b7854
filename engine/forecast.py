"""Forecasts of work: rows, passes, bytes and seconds, which add up over several pieces of work."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.memory import format_bytes
from layerlake.engine.passes.blocks import SpaceLike
from layerlake.engine.passes.resources import BLOCK_ROWS

_TRIAL_SIDE: Final = 768
_TRIAL_ROWS: Final = 2048


@dataclass(frozen=True)
class Forecast:
    """What a piece of work would read, hold, write and take."""

    rows: int = 0
    """Rows gone through, each counted once a pass."""
    passes: int = 0
    """Passes over rows."""
    held: int = 0
    """Bytes of memory at the peak."""
    read: int = 0
    """Bytes read."""
    written: int = 0
    """Bytes written."""
    seconds: float = 0.0
    """Time, at the speed of a trial of a moment ago."""

    def __add__(self, other: Forecast) -> Forecast:
        """Return the forecast of both, one after the other: the larger peak, the sum of the rest."""
        return Forecast(
            self.rows + other.rows,
            self.passes + other.passes,
            max(self.held, other.held),
            self.read + other.read,
            self.written + other.written,
            self.seconds + other.seconds,
        )

    @classmethod
    def sum(cls, parts: Iterable[Forecast]) -> Forecast:
        """Return the forecast of several pieces of work, one after the other."""
        return reduce(cls.__add__, parts, cls())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def table(self) -> str:
        """Return the forecast as lines for people."""
        passes = "1 pass" if self.passes == 1 else f"{self.passes:,} passes"
        lines = {
            "rows": f"{self.rows:,} in {passes}",
            "read": format_bytes(self.read),
            "held": format_bytes(self.held),
            "seconds": f"about {self.seconds:.3g}",
        }
        return aligned(lines | ({"written": format_bytes(self.written)} if self.written else {}))


def aligned(lines: dict[str, str]) -> str:
    """Return names and values in two columns, a line each."""
    width = max(map(len, lines))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines.items())


def seconds_a_multiply_add(dtype: str = "float32") -> float:
    """Time a product of the size that passes work with."""
    rows = np.ones((_TRIAL_ROWS, _TRIAL_SIDE), dtype)
    rows.T @ rows  # the first one starts the threads
    began = time.perf_counter()
    np.matmul(rows.T, rows.copy())
    return (time.perf_counter() - began) / (_TRIAL_ROWS * _TRIAL_SIDE**2)


def seconds_a_byte(space: SpaceLike, rows: NDArray[np.int64]) -> float:
    """Time the reading of the first block of some rows of a space."""
    began = time.perf_counter()
    block = space.rows(rows[:BLOCK_ROWS])
    return (time.perf_counter() - began) / max(int(block.nbytes), 1)
