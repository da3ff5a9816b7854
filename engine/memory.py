"""What a pass needs in bytes, and the refusal when that is more than is allowed."""

from dataclasses import dataclass, field
from typing import Final

from layerlake.store.amounts import format_bytes, parse_bytes, require

__all__ = ["DEFAULT_ALLOWED_BYTES", "MemoryPlan", "format_bytes", "parse_bytes", "require"]

DEFAULT_ALLOWED_BYTES: Final = 4 * 2**30
"""What a pass may use where nobody says: 4 GiB."""


@dataclass(frozen=True)
class MemoryPlan:
    """The memory a pass will use, by named part, as bytes held at the same time."""

    parts: dict[str, int] = field(default_factory=dict)
    """Bytes by what they hold; all of them count at the peak."""
    reserve: int = 0
    """Bytes that the pass can do without, such as a cache; never more than what is allowed."""
    unlikely: int = 0
    """Bytes among those needed that only unusual data takes, such as values that repeat."""

    @property
    def needed(self) -> int:
        """Bytes without which the pass cannot run."""
        return sum(self.parts.values())

    @property
    def peak(self) -> int:
        """Bytes that the pass will use at most when it may use the reserve."""
        return self.needed + self.reserve

    @property
    def likely(self) -> int:
        """Bytes that the pass will use on ordinary data when it may use the reserve."""
        return self.peak - self.unlikely

    def within(self, allowed: int, what: str, advice: str) -> "MemoryPlan":
        """Return the plan with its reserve cut to what is allowed, or refuse.

        Raises
        ------
        MemoryRefused
            What the pass cannot do without exceeds `allowed`.
        """
        require(self.needed, allowed, what, advice)
        return MemoryPlan(self.parts, min(self.reserve, allowed - self.needed), self.unlikely)
