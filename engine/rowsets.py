"""Row sets: which pieces, or words, become rows; always in corpus order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.settings import check_seed
from layerlake.engine.tokenization import Tokenization
from layerlake.store.errors import InvalidInput, is_a

UNITS = ("piece", "word")

_SAMPLE = re.compile(r"sample:([0-9]{1,18})(?:@([0-9]{1,20}))?")
_GOLDEN = 0x9E3779B97F4A7C15

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
    """"piece" or "word"."""
    row_id: NDArray[np.int64]
    """(row,) rising: piece of the tokenization, or word of the corpus."""
    row_example: NDArray[np.int64]
    """(row,) example of the corpus."""
    row_word: NDArray[np.int64]
    """(row,) word of the corpus, -1 for specials."""
    row_position: NDArray[np.int32]
    """(row,) place of a piece in its input, of a word in its example."""
    row_special: NDArray[np.bool_]
    """(row,) whether the row is a special piece."""
    settings: dict[str, Any]
    """Rows as asked for, unit, fingerprint of the tokenization (None for words), counts."""
    fingerprint: str
    """Sha256 (hex) of unit, tokenization (pieces only) and row ids."""

    def __post_init__(self) -> None:
        """Check unit, shapes and order."""
        if self.unit not in UNITS:
            raise InvalidInput(f"there is no unit {self.unit!r}; choose one of {', '.join(UNITS)}")
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


def choose_rows(
    corpus: Corpus, tokenization: Tokenization, rows: str = "all", unit: str = "piece"
) -> RowSet:
    """Return the rows to keep.

    Parameters
    ----------
    corpus, tokenization
        What the rows are taken from.
    rows
        "all": every piece once, specials included, or every word that has a piece. "sample:N" or
        "sample:N@seed": N of the pieces that are not special, or of the words (seed 0 if not
        given); see `draw`.
    unit
        "piece" or "word".

    Raises
    ------
    InvalidInput
        Where `rows` or `unit` cannot be read, or more rows are asked for than there are.
    """
    if unit not in UNITS:
        raise InvalidInput(f"there is no unit {unit!r}; choose one of {', '.join(UNITS)}")
    sample = parse_rows(rows)
    settings: dict[str, Any] = {
        "rows": "all" if sample is None else f"sample:{sample[0]}@{sample[1]}",
        "unit": unit,
        "tokenization": tokenization.fingerprint if unit == "piece" else None,
    }
    if unit == "word":
        present = np.zeros(corpus.n_words, np.bool_)
        present[tokenization.piece_word[tokenization.piece_word >= 0]] = True
        ids = np.flatnonzero(present)
        used = np.zeros(corpus.n_examples, np.bool_)
        used[tokenization.input_example] = True
        settings["words_without_pieces"] = int((used[corpus.word_example] & ~present).sum())
    elif sample is None:
        ids = tokenization.candidates
    else:
        ids = np.flatnonzero(~tokenization.special & ~tokenization.repeated)
    if sample is not None:
        n, seed = sample
        if n > len(ids):
            kind = "words" if unit == "word" else "pieces that are not special"
            raise InvalidInput(
                f"{n} rows asked for, but there are {len(ids)} {kind}; ask for fewer, or for all"
            )
        ids = ids[draw(ids, n, seed)]
    if not len(ids):
        raise InvalidInput("no word has a piece, so there are no rows; use the unit piece")
    if unit == "word":
        example = corpus.word_example[ids]
        word, special = ids, np.zeros(len(ids), np.bool_)
        position = ids - corpus.word_offsets[example]
    else:
        source = np.searchsorted(tokenization.input_offsets, ids, side="right") - 1
        example = tokenization.input_example[source]
        word, special = tokenization.piece_word[ids], tokenization.special[ids]
        position = ids - tokenization.input_offsets[source]
    return RowSet(
        unit=unit,
        row_id=ids,
        row_example=example,
        row_word=word,
        row_position=position.astype(np.int32),
        row_special=special,
        settings=settings,
        fingerprint=_fingerprint(unit, settings["tokenization"], ids),
    )


def parse_rows(rows: str) -> tuple[int, int] | None:
    """Return (n, seed) of "sample:N@seed", None for "all"; raise InvalidInput for anything else."""
    if is_a(rows, str) and rows == "all":
        return None
    match = _SAMPLE.fullmatch(rows) if is_a(rows, str) else None
    if not match:
        raise InvalidInput(
            f"rows {rows!r} cannot be read; write all, sample:N or sample:N@seed, "
            "with whole numbers"
        )
    n, seed = int(match[1]), int(match[2] or 0)
    if n < 1:
        raise InvalidInput(f"rows {rows!r} asks for {n} rows; ask for 1 or more")
    check_seed(seed)
    return n, seed


def draw(ids: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Return the places (rising) of the n ids of smallest seeded hash.

    Uniform without replacement. Whether an id is drawn before another depends on the two and the
    seed alone, so the same stimuli are drawn whatever other rows are present, a draw of fewer is
    part of a draw of more, and every machine and numpy agree. The hash is the finaliser of
    splitmix64 (Steele, Lea & Flood 2014), applied to the id and again with the seed mixed in; it
    is one to one, so distinct ids never tie.

    Parameters
    ----------
    ids
        (row,) distinct ids.
    n
        How many to draw, at most `len(ids)`.
    seed
        From 0 to 2**64 - 1.

    Raises
    ------
    InvalidInput
        Where n or the seed is out of range.
    """
    if not 0 <= n <= len(ids):
        raise InvalidInput(f"{n} rows asked for, but there are {len(ids)}; ask for fewer")
    check_seed(seed)
    if n == 0:
        return np.empty(0, np.int64)
    golden = np.uint64(_GOLDEN)
    state = _mix(np.asarray([seed], np.uint64) + golden)
    hashes = _mix(_mix(ids.astype(np.uint64) + golden) ^ state)
    highest = np.partition(hashes, n - 1)[n - 1]
    return np.flatnonzero(hashes <= highest)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the splitmix64 finaliser of each value (arithmetic modulo 2**64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _fingerprint(unit: str, tokenization: str | None, ids: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(f"{unit}\0{tokenization or ''}\0".encode())
    digest.update(np.ascontiguousarray(ids, np.dtype("<i8")).data)
    return digest.hexdigest()
