"""Row sets: which pieces, or words, become rows; always in corpus order."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.seeded_draw import draw
from layerlake.engine.settings import check_seed
from layerlake.engine.tokenization import Tokenization
from layerlake.store.errors import InvalidInput, is_a
from layerlake.store.row_sets import RowSet, rows_fingerprint

UNITS = ("piece", "word")

_SAMPLE = re.compile(r"sample:([0-9]{1,18})(?:@([0-9]{1,20}))?")


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
        fingerprint=rows_fingerprint(unit, settings["tokenization"], ids),
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
