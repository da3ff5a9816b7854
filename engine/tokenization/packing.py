"""Packings: which texts of an example make an input, and how long one may be."""

from __future__ import annotations

import re
from dataclasses import dataclass

from layerlake.store.errors import InvalidInput, is_a

PLAIN = ("single", "pair", "first", "second")
"""Packings without numbers."""

WAYS = (*PLAIN, "trim(LENGTH)", "window(LENGTH,STRIDE)", "window(LENGTH,STRIDE,FIRST)")
"""All packings, as they are written."""

_NUMBERED = re.compile(r"\s*(trim|window)\s*\(([0-9,\s]*)\)\s*")


@dataclass(frozen=True)
class Packing:
    """How the texts of an example become inputs."""

    kind: str
    """One of `PLAIN`, "trim" or "window"."""
    length: int | None = None
    """trim, window: most pieces of an input, specials included."""
    stride: int | None = None
    """window: pieces from the start of a window to the start of the next."""
    first_most: int | None = None
    """window: pieces that are kept of the first text of a pair; None keeps all."""

    def __str__(self) -> str:
        """Return it as it is written, without spaces."""
        numbers = (self.length, self.stride, self.first_most)
        given = ",".join(str(number) for number in numbers if number is not None)
        return f"{self.kind}({given})" if given else self.kind

    @property
    def bounded(self) -> bool:
        """Whether no input is longer than a number that the packing itself names."""
        return self.length is not None

    def segments(self, n_segments: int) -> tuple[int, ...]:
        """Return which texts of an example are packed, 0 and 1 being those of a pair.

        Raises
        ------
        InvalidInput
            Where packing and corpus do not fit.
        """
        if n_segments == 1:
            if self.kind in ("pair", "first", "second"):
                raise InvalidInput(
                    f"packing {self.kind!r} needs two texts an example, and this corpus has one; "
                    "use --packing single"
                )
            if self.first_most is not None:
                raise InvalidInput(
                    f"the {self.first_most} of {self} is for the first text of a pair, and the "
                    f"examples of this corpus are single texts; write "
                    f"window({self.length},{self.stride})"
                )
            return (0,)
        if self.kind == "single":
            raise InvalidInput(
                "the examples of this corpus are pairs of texts; use --packing pair, "
                "or first or second for one text of each"
            )
        return {"first": (0,), "second": (1,)}.get(self.kind, (0, 1))


def parse_packing(packing: str) -> Packing:
    """Return the packing that a text such as `pair` or `window(384,128,64)` means.

    Raises
    ------
    InvalidInput
        Where there is no such packing, or its numbers do not fit together.
    """
    if is_a(packing, str) and packing.strip() in PLAIN:
        return Packing(packing.strip())
    found = _NUMBERED.fullmatch(packing) if is_a(packing, str) else None
    if found is None:
        raise InvalidInput(f"there is no packing {packing!r}; choose one of {', '.join(WAYS)}")
    kind = found[1]
    given = [part.strip() for part in found[2].split(",")]
    allowed = (1,) if kind == "trim" else (2, 3)
    if len(given) not in allowed or not all(part.isdigit() and len(part) < 10 for part in given):
        ways = " or ".join(way for way in WAYS if way.startswith(kind))
        raise InvalidInput(f"packing {packing!r} cannot be read; write {ways} with whole numbers")
    numbers = [int(part) for part in given]
    if min(numbers) < 1:
        raise InvalidInput(f"packing {packing!r} has a 0 in it; every number must be 1 or more")
    if kind == "trim":
        return Packing(kind, *numbers)
    length, rest = numbers[0], numbers[1:]
    for what, number in zip(("a stride", "a first text"), rest, strict=False):
        if number >= length:
            raise InvalidInput(
                f"packing {packing!r} has {what} of {number} pieces in windows of {length}; "
                "it must be shorter than the window"
            )
    return Packing(kind, *numbers)
