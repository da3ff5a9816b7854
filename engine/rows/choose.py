"""Row sets: which pieces, words or examples become rows; always in corpus order."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.progress import Progress, silent
from layerlake.engine.rows.row_language import Draw, Keep, Step, parse_rows
from layerlake.engine.rows.row_steps import choose
from layerlake.engine.rows.row_values import Candidates, Names
from layerlake.engine.tokenization.tokenize import Tokenization
from layerlake.store.errors import InvalidInput
from layerlake.store.row_sets import RowSet, check_unit, rows_fingerprint


def choose_rows(
    corpus: Corpus,
    tokenization: Tokenization | None,
    rows: str = "all",
    unit: str = "piece",
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
) -> RowSet:
    """Return the rows to keep.

    Parameters
    ----------
    corpus, tokenization
        What the rows are taken from. Without a tokenization every word counts as one that has a
        piece, and there are no piece rows.
    rows
        Steps, applied from left to right and parted by `;` (the grammar: `engine.rows.row_language`):

        - `all`: every piece once, specials included, or every word that has a piece;
        - `first`, `last`: of each example the first or last row that is no special piece (for a
          model of the BERT kind `first` so is the piece after [CLS]);
        - `cls`: of each example the special piece that it begins with ([CLS], BOS);
        - `where NAME=VALUE and ...`: rows that meet every condition on built-in names
          (`position`, `special`, `segment`, `word`, `piece`, `example`), annotations of words and
          columns of examples; `=`, `!=`, `<`, `<=`, `>`, `>=`; `upos=NOUN|VERB` for one of several.
          A row without a value (a special piece has no word) meets no condition on it;
        - `no-sink`: the same as `where position>0`, which leaves out attention sinks;
        - `cap:K@SEED`: at most K rows of each word type (the form as written, case counts);
          `cap:K@SEED by NAME` of each value of something else;
        - `sample:N@SEED`: N rows drawn by a seeded hash (seed 0 if not given); see `draw`.
          `sample:N@SEED by NAME`: equally many of every value of NAME, as far as there are; a
          plain sample has them in proportion.

        Special pieces are rows only where they are asked for: by `all`, by `cls`, or by a
        condition on `special`. Word rows do not depend on the tokenizer, but for words that have
        no piece: `position` counts words then.
    unit
        "piece", "word" or "example" (a row an example, for activations from elsewhere).
    tokenizer
        Spells pieces, for conditions on `piece`.
    progress
        Told of the examples whose words are read, where rows are chosen by word.

    Raises
    ------
    InvalidInput
        Where `rows` or `unit` cannot be read or do not fit the corpus, nothing is selected, or
        more rows are asked for than there are.
    """
    check_unit(unit)
    steps = parse_rows(rows)
    if unit == "piece" and tokenization is None:
        raise InvalidInput("piece rows need a tokenizer; use the unit word")
    candidates = Candidates(corpus, tokenization, unit)
    spell = None if tokenizer is None else tokenizer.convert_ids_to_tokens
    chosen = choose(steps, candidates, Names(candidates, spell, progress))
    settings: dict[str, Any] = {
        "rows": chosen.rows,
        "unit": unit,
        "tokenization": tokenization.fingerprint if unit == "piece" and tokenization else None,
    }
    if candidates.words_without_pieces is not None:
        settings["words_without_pieces"] = candidates.words_without_pieces
    if len(steps) > 1 or not _is_plain(steps[0]):
        settings["steps"] = chosen.counts
    ids = chosen.ids
    return RowSet(
        unit=unit,
        row_id=ids,
        row_example=candidates.example(ids),
        row_word=candidates.word(ids),
        row_position=candidates.position(ids).astype(np.int32),
        row_special=candidates.special(ids),
        settings=settings,
        fingerprint=rows_fingerprint(unit, settings["tokenization"], ids),
    )


def _is_plain(step: Step) -> bool:
    """Say whether the number of rows tells all that a step did."""
    if isinstance(step, Draw):
        return step.kind == "sample" and step.by is None
    return isinstance(step, Keep) and step.which == "all"
