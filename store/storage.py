"""How the rows of a set are stored."""

from __future__ import annotations

from dataclasses import dataclass

from layerlake.store import schema
from layerlake.store.errors import InvalidInput

STORE_DTYPES = ("auto", *schema.STORE_DTYPES)
"""What may be asked for; `auto` chooses among the others."""


@dataclass(frozen=True)
class Storage:
    """How the rows of a set are stored; dtype and codec are checked when it is built."""

    store_dtype: str = "auto"
    """One of `STORE_DTYPES`."""
    codec: str = "none"
    """One of `schema.CODECS`."""
    window_rows: int = schema.WINDOW_ROWS
    """Rows of a shard; what it must be a multiple of is the layout's to check."""

    def __post_init__(self) -> None:
        """Refuse a dtype or a codec that there is not."""
        if self.store_dtype not in STORE_DTYPES:
            raise InvalidInput(
                f"store dtype {self.store_dtype!r} is not one of {', '.join(STORE_DTYPES)}"
            )
        if self.codec not in schema.CODECS:
            raise InvalidInput(f"codec {self.codec!r} is not one of {', '.join(schema.CODECS)}")
