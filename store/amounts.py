"""Amounts of memory: read, written, and refused where they are more than is allowed."""

import re
from typing import Final

from layerlake.store.errors import InvalidInput, MemoryRefused, is_a

_UNITS: Final = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
    "t": 10**12, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)


def parse_bytes(amount: int | str) -> int:
    """Turn an amount of memory into bytes.

    Parameters
    ----------
    amount
        Bytes as an integer, or a number with a unit: powers of ten (`kB`, `MB`, `GB`, `TB`, or the
        letter alone) or of two (`KiB`, `MiB`, `GiB`, `TiB`). Case does not matter.

    Raises
    ------
    InvalidInput
        The text is no amount, or the amount is below one byte.
    """
    if isinstance(amount, str):
        match = _AMOUNT.fullmatch(amount)
        unit = _UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise InvalidInput(
                f"{amount!r} is no amount of memory; give a number with a unit, as 4GiB or 500MB"
            )
        amount = int(float(match[1]) * unit)
    if not is_a(amount, int) or is_a(amount, bool):
        raise InvalidInput(f"{amount!r} is no amount of memory; give bytes, or text as 4GiB")
    if amount < 1:
        raise InvalidInput(f"the memory allowed is {amount} bytes; give at least one byte")
    return amount


def format_bytes(n_bytes: int) -> str:
    """Write an amount of memory for people, in units of two: `1.5 GiB`."""
    amount = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def require(needed: int, allowed: int, what: str, advice: str) -> None:
    """Refuse, before anything is read, what would need more memory than is allowed.

    Raises
    ------
    MemoryRefused
        `needed` exceeds `allowed`; the sentence gives both, in bytes too, and the advice.
    """
    if needed > allowed:
        raise MemoryRefused(
            f"{what} needs {format_bytes(needed)} ({needed} bytes) of memory and "
            f"{format_bytes(allowed)} ({allowed} bytes) are allowed; {advice}"
        )
