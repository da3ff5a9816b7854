"""Forecasts of comparisons: operations, bytes and seconds, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from layerlake.analyses.similarity.comparing.comparison import LakeComparison
from layerlake.analyses.similarity.comparing.lake_values import LakePasses
from layerlake.engine.forecast import aligned, seconds_a_byte, seconds_a_multiply_add
from layerlake.engine.memory import format_bytes


@dataclass(frozen=True)
class ComparisonForecast:
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
        return aligned(lines)


def forecast_of(comparisons: Sequence[LakeComparison]) -> ComparisonForecast:
    """Add up the plans of comparisons, at least one, and time a product and a read.

    Raises
    ------
    InvalidInput, MemoryRefused
        As `compare`.
    """
    parts = []
    for one in comparisons:
        passes = LakePasses(one)
        parts += [(passes.selected(share), plan) for share, plan in passes.plans()]
    selected, first = parts[0]
    spaces = {id(space) for own, _plan in parts for space in own.spaces}
    operations = sum(plan.multiply_adds for _own, plan in parts)
    read = sum(plan.bytes_read for _own, plan in parts)
    methods = dict.fromkeys(plan.method for _own, plan in parts)
    reading = seconds_a_byte(selected.spaces[0], selected.rows[0]) * read
    return ComparisonForecast(
        selected.n_rows,
        len(spaces),
        sum(plan.n_pairs for _own, plan in parts),
        sum(plan.passes for _own, plan in parts),
        " and ".join(method for method in methods if method),
        first.why,
        operations,
        read,
        max(plan.bytes_held for _own, plan in parts),
        operations * seconds_a_multiply_add() + reading,
    )
