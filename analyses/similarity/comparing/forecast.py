"""What a comparison would take: operations, bytes and seconds, said before anything is run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from layerlake.analyses.similarity.comparing.compare_spaces import Plan
from layerlake.engine.memory import format_bytes
from layerlake.engine.passes.resources import BLOCK_ROWS
from layerlake.engine.passes.selected_rows import SelectedRows

_TRIAL_SIDE: Final = 768
_TRIAL_ROWS: Final = 2048


@dataclass(frozen=True)
class Forecast:
    """What a comparison would read, hold and compute."""

    n_rows: int
    n_spaces: int
    n_pairs: int
    n_passes: int
    """Passes over all rows of some spaces; spaces that fit into memory together share them."""
    method: str
    why: str
    multiply_adds: float
    """Of fast matrix products, or what takes as long."""
    bytes_read: int
    bytes_held: int
    """At the peak."""
    seconds: float
    """At the speed that a product and a read of a moment ago ran at."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def table(self) -> str:
        """Return the forecast as lines for people."""
        method = f"{self.method}: {self.why}" if self.method else "closed forms and tiles"
        lines = {
            "rows": f"{self.n_rows:,} of {self.n_spaces} spaces, {self.n_pairs:,} pairs of spaces",
            "method": method,
            "passes": f"{self.n_passes:,}",
            "multiply-adds": f"{self.multiply_adds:.3g}",
            "read": format_bytes(self.bytes_read),
            "held": format_bytes(self.bytes_held),
            "seconds": f"about {self.seconds:.3g}",
        }
        width = max(map(len, lines))
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines.items())


def forecast(parts: Sequence[tuple[SelectedRows, Plan]]) -> Forecast:
    """Add up the plans of a comparison and time a product and a read.

    Parameters
    ----------
    parts
        What each share of the passes selects, and its plan; at least one.
    """
    first = parts[0][1]
    spaces = {id(space) for selected, _plan in parts for space in selected.spaces}
    operations = sum(plan.multiply_adds for _selected, plan in parts)
    read = sum(plan.bytes_read for _selected, plan in parts)
    methods = dict.fromkeys(plan.method for _selected, plan in parts)
    reading = _seconds_a_byte(parts[0][0]) * read
    return Forecast(
        parts[0][0].n_rows,
        len(spaces),
        sum(plan.n_pairs for _selected, plan in parts),
        sum(plan.passes for _selected, plan in parts),
        " and ".join(method for method in methods if method),
        first.why,
        operations,
        read,
        max(plan.bytes_held for _selected, plan in parts),
        operations * _seconds_a_multiply_add() + reading,
    )


def _seconds_a_multiply_add() -> float:
    """Time a product of the size that passes work with."""
    rows = np.ones((_TRIAL_ROWS, _TRIAL_SIDE), np.float32)
    rows.T @ rows  # the first one starts the threads
    began = time.perf_counter()
    np.matmul(rows.T, rows.copy())
    return (time.perf_counter() - began) / (_TRIAL_ROWS * _TRIAL_SIDE**2)


def _seconds_a_byte(selected: SelectedRows) -> float:
    """Time the reading of one block of the first space."""
    began = time.perf_counter()
    block = selected.spaces[0].rows(selected.rows[0][:BLOCK_ROWS])
    return (time.perf_counter() - began) / max(int(block.nbytes), 1)
