"""Row sets as a lake keeps them: which pieces, words or examples the rows of a set are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput

UNITS = ("piece", "word", "example")

_ARRAYS: dict[str, type[np.generic]] = {
    "row_id": np.int64,
    "row_example": np.int64,
    "row_word": np.int64,
    "row_position": np.int32,
    "row_special": np.bool_,
}


@dataclass(frozen=True, eq=False)
class RowSet:
    """The stimuli that are kept: row i is the same one in every layer, site and variant.

    Raises
    ------
    InvalidInput
        When built from arrays that do not fit together.
    """

    unit: str
    """"piece", "word" or "example"."""
    row_id: NDArray[np.int64]
    """(row,) rising: piece of the tokenization, or word or example of the corpus."""
    row_example: NDArray[np.int64]
    """(row,) example of the corpus."""
    row_word: NDArray[np.int64]
    """(row,) word of the corpus, -1 for specials and whole examples."""
    row_position: NDArray[np.int32]
    """(row,) place of a piece in its input, of a word in its example; 0 for a whole example."""
    row_special: NDArray[np.bool_]
    """(row,) whether the row is a special piece."""
    settings: dict[str, Any]
    """Rows as asked for, unit, fingerprint of the tokenization (pieces only), counts."""
    fingerprint: str
    """Sha256 (hex) of unit, tokenization (pieces only) and row ids."""

    def __post_init__(self) -> None:
        """Check unit, shapes and order."""
        check_unit(self.unit)
        if any(getattr(self, name).shape != (self.n_rows,) for name in _ARRAYS):
            raise InvalidInput(f"every array of a row set must have shape ({self.n_rows},)")
        if not self.n_rows or np.any(np.diff(self.row_id) < 1) or self.row_id[0] < 0:
            raise InvalidInput("row_id must hold one or more rising indices")

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.row_id)

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name; `from_columns` reads them."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def to_attributes(self) -> dict[str, Any]:
        """Return what is not an array, ready for JSON."""
        return {"unit": self.unit, "settings": self.settings, "fingerprint": self.fingerprint}

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]
    ) -> RowSet:
        """Build the row set that `to_columns` and `to_attributes` described.

        Raises
        ------
        InvalidInput
            Where something is missing, or the arrays do not fit together.
        """
        try:
            arrays = {
                name: np.ascontiguousarray(columns[name], dtype) for name, dtype in _ARRAYS.items()
            }
            return cls(
                unit=str(attributes["unit"]),
                **arrays,
                settings=dict(attributes["settings"]),
                fingerprint=str(attributes["fingerprint"]),
            )
        except KeyError as error:
            raise InvalidInput(f"these columns are no row set: {error} is missing") from None


def check_unit(unit: str) -> str:
    """Return a unit that there is; raise `InvalidInput` for any other."""
    if unit not in UNITS:
        raise InvalidInput(f"there is no unit {unit!r}; choose one of {', '.join(UNITS)}")
    return unit


def rows_fingerprint(unit: str, tokenization: str | None, ids: NDArray[np.int64]) -> str:
    """Return the sha256 (hex) of unit, tokenization (None but for pieces) and row ids."""
    digest = hashlib.sha256(f"{unit}\0{tokenization or ''}\0".encode())
    digest.update(np.ascontiguousarray(ids, np.dtype("<i8")).data)
    return digest.hexdigest()


def example_rows(ids: NDArray[np.int64], rows: str = "all") -> RowSet:
    """Return the row set of some examples, chosen as `rows` says."""
    return RowSet(
        unit="example",
        row_id=ids,
        row_example=ids,
        row_word=np.full(len(ids), -1, np.int64),
        row_position=np.zeros(len(ids), np.int32),
        row_special=np.zeros(len(ids), np.bool_),
        settings={"rows": rows, "unit": "example", "tokenization": None},
        fingerprint=rows_fingerprint("example", None, ids),
    )


def all_examples(n_examples: int) -> RowSet:
    """Return the row set that has a row an example."""
    return example_rows(np.arange(n_examples, dtype=np.int64))


def word_rows(ids: NDArray[np.int64], word_offsets: NDArray[np.int64], rows: str = "all") -> RowSet:
    """Return the row set of some words; those of example e are [offsets[e], offsets[e + 1])."""
    example = np.searchsorted(word_offsets, ids, side="right") - 1
    return RowSet(
        unit="word",
        row_id=ids,
        row_example=example,
        row_word=ids,
        row_position=(ids - word_offsets[example]).astype(np.int32),
        row_special=np.zeros(len(ids), np.bool_),
        settings={"rows": rows, "unit": "word", "tokenization": None},
        fingerprint=rows_fingerprint("word", None, ids),
    )


def all_words(word_offsets: NDArray[np.int64]) -> RowSet:
    """Return the row set of every word; those of example e are [offsets[e], offsets[e + 1])."""
    return word_rows(np.arange(int(word_offsets[-1]), dtype=np.int64), word_offsets)


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (n + 1,) offsets of consecutive runs of the given lengths."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def runs(start: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices start[i], start[i] + 1, ... (counts[i] of them) for every i in turn."""
    offsets = offsets_of(counts)
    return np.arange(offsets[-1], dtype=np.int64) + np.repeat(start - offsets[:-1], counts)
