"""Where the rows of whole examples lie in several spaces, and the refusal of examples in part.

An example is whole in a space that has every row of it that any of the spaces has. Rows that were
chosen (`where upos=NOUN`, `sample:500`; anything but `all`) must also be all of its words that have
a piece, or all of its pieces but specials, as far as the lake holds the tokenization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.store import schema
from layerlake.store.errors import InvalidInput, OutOfRange
from layerlake.store.identity import short
from layerlake.store.row_sets import RowSet
from layerlake.store.space import Space
from layerlake.store.tables import read_attributes, read_table
from layerlake.store.views.row_labels import example_ids

TABLE_ROW_BYTES: Final = 96
"""Bytes for each row of a row set while tables are read and compared; most are given back."""

_NAMED_ROWS = 5
"""Rows of an example in part that a message names."""


@dataclass(frozen=True, eq=False)
class ExampleRows:
    """Whole examples, and where their rows lie."""

    examples: NDArray[np.int64]
    """(example,) rising numbers in the corpus."""
    lengths: NDArray[np.int64]
    """(example,) rows of each."""
    starts: tuple[NDArray[np.int64], ...]
    """(example,) of every space: the row where each example begins; its rows lie side by side."""
    words: NDArray[np.int64]
    """(row of the first space,) word of the corpus, -1 for specials."""
    corpus_size: int
    """Examples of the corpus."""


def name_of(space: Space) -> str:
    """Return what messages call a space."""
    return f"{space.variant} {space.site} layer {space.layer}"


def whole_examples(spaces: Sequence[Space], examples: Any = None) -> ExampleRows:
    """Find the rows of examples in every space.

    Parameters
    ----------
    spaces
        Of one corpus of one lake, rows of one unit; pieces of one tokenization.
    examples
        Numbers of examples, in any order; by default those that every space has rows of.

    Raises
    ------
    InvalidInput
        The spaces do not belong together, examples are named wrongly or twice, none is left, or a
        space lacks one in part.
    OutOfRange
        The corpus has no such example.
    NameNotFound, SetIncomplete
        The lake has no row set; not all rows are committed.
    """
    sets = _row_sets(spaces)
    size = int(read_attributes(spaces[0].location, f"corpora/{spaces[0].corpus}")["n_examples"])
    distinct = list({id(rows): rows for rows in sets}.values())
    chosen = _chosen(distinct, examples, size)
    _require_same(spaces, sets, chosen)
    for rows in distinct:
        _require_all(spaces[next(k for k, r in enumerate(sets) if r is rows)], rows, chosen, size)
    found = {id(rows): np.searchsorted(rows.row_example, chosen) for rows in distinct}
    first = sets[0]
    lengths = np.searchsorted(first.row_example, chosen, side="right") - found[id(first)]
    starts = tuple(found[id(rows)] for rows in sets)
    return ExampleRows(chosen, lengths, starts, first.row_word, size)


def _row_sets(spaces: Sequence[Space]) -> list[RowSet]:
    """Return the row set of every space, those of one fingerprint the same object."""
    first = spaces[0]
    kept: dict[str, RowSet] = {}
    found = []
    for space in spaces:
        if (space.location.name, space.corpus) != (first.location.name, first.corpus):
            raise InvalidInput(
                f"{space.path} and {first.path} are of different corpora or lakes; choose spaces "
                "over one corpus of one lake"
            )
        space.require_whole()
        if space.row_set not in kept:
            kept[space.row_set] = space.load_rows()
        found.append(kept[space.row_set])
    for space, rows in zip(spaces, found, strict=True):
        if rows.unit != found[0].unit:
            raise InvalidInput(
                f"{space.path} holds {rows.unit} rows and {first.path} {found[0].unit} rows; "
                "choose spaces of one unit"
            )
        cut = [r.settings.get("tokenization") for r in (rows, found[0])]
        if rows.unit == "piece" and cut[0] != cut[1]:
            raise InvalidInput(
                f"{space.path} and {first.path} use different tokenizers, so that their pieces are "
                "not the same rows; choose word rows of both (unit word)"
            )
        if np.any(np.diff(rows.row_example) < 0):
            raise InvalidInput(
                f"the rows of {space.path} are not in the order of their examples; extract them "
                "again, which sorts them"
            )
    return found


def _chosen(sets: Sequence[RowSet], examples: Any, size: int) -> NDArray[np.int64]:
    """Return the numbers of the examples, rising."""
    if examples is None:
        common = np.unique(sets[0].row_example)
        for rows in sets[1:]:
            common = np.intersect1d(common, rows.row_example)
        if not len(common):
            raise InvalidInput("the spaces have no example in common; choose others")
        return common
    given = np.asarray(examples)
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu":
        raise InvalidInput(
            f"examples of shape {given.shape} and dtype {given.dtype} name none; give their "
            "numbers in the corpus as a list"
        )
    chosen = np.unique(given.astype(np.int64))
    if len(chosen) < len(given):
        raise InvalidInput("an example was given twice; give each once")
    if chosen[0] < 0 or chosen[-1] >= size:
        raise OutOfRange(
            f"examples {chosen[0]} to {chosen[-1]} asked of a corpus of {size} examples "
            f"(0 to {size - 1})"
        )
    return chosen


def _require_same(
    spaces: Sequence[Space], sets: Sequence[RowSet], chosen: NDArray[np.int64]
) -> None:
    """Refuse examples of which a space lacks rows that another has, or that none has rows of."""
    own: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for rows in sets:
        if id(rows) not in own:
            kept = np.isin(rows.row_example, chosen)
            own[id(rows)] = rows.row_id[kept], rows.row_example[kept]
    ids, first = np.unique(np.concatenate([ids for ids, _ in own.values()]), return_index=True)
    example = np.concatenate([examples for _, examples in own.values()])[first]
    if len(absent := np.setdiff1d(chosen, example)):
        raise InvalidInput(
            f"no space has a row of example {absent[0]}"
            f"{_others(len(absent) - 1, ', nor of')}; leave it out"
        )
    for space, rows in zip(spaces, sets, strict=True):
        lacks = ~np.isin(ids, own[id(rows)][0], assume_unique=True)
        if lacks.any():
            affected = np.unique(example[lacks])
            missing = np.flatnonzero(lacks[example == affected[0]])
            named = ", ".join(map(str, missing[:_NAMED_ROWS].tolist()))
            more = f" and {len(missing) - _NAMED_ROWS} more" if len(missing) > _NAMED_ROWS else ""
            what = f"{'row' if len(missing) == 1 else 'rows'} {named}{more}"
            _refuse(space, affected, what)


def _require_all(space: Space, rows: RowSet, chosen: NDArray[np.int64], size: int) -> None:
    """Refuse chosen rows that are not all that the lake's tokenization has of an example."""
    if rows.settings.get("rows") == "all" or rows.unit == "example":
        return
    expected = _stimuli(space, rows.unit, size)
    if expected is None:
        return
    held = np.bincount(rows.row_example[~rows.row_special], minlength=size)
    lacks = np.flatnonzero(held[chosen] < expected[chosen])
    if len(lacks):
        at = chosen[lacks[0]]
        _refuse(
            space,
            chosen[lacks],
            f"{expected[at] - held[at]} of its {expected[at]} {rows.unit}s",
        )


def _stimuli(space: Space, unit: str, size: int) -> NDArray[np.int64] | None:
    """Return how many pieces (no specials), or words with a piece, each example has, if known."""
    corpus = f"corpora/{space.corpus}"
    cut = short(str(space.state.plan.contents.get("tokenization", "")))
    path = f"{corpus}/tokenizations/{cut}"
    if not cut or not space.location.exists(f"{path}/{schema.METADATA}"):
        return None
    names = ["special", "repeated", "piece_word", "input_offsets", "input_example"]
    table, _ = read_table(space.location, path, names=names)
    if unit == "word":
        words = np.unique(table["piece_word"])
        offsets, _ = read_table(space.location, corpus, names=["word_offsets"])
        place = np.searchsorted(offsets["word_offsets"], words[words >= 0], side="right") - 1
        return np.bincount(place, minlength=size)
    plain = ~table["special"]
    if "repeated" in table:
        plain &= ~table["repeated"]
    example = np.repeat(table["input_example"], np.diff(table["input_offsets"]))
    return np.bincount(example[plain], minlength=size)


def _refuse(space: Space, affected: NDArray[np.int64], what: str) -> None:
    number = int(affected[0])
    ids = example_ids(space.location, space.corpus)
    called = f"example {number}" + ("" if ids is None else f" ({ids[number]})")
    raise InvalidInput(
        f"{name_of(space)} lacks {what} of {called}"
        f"{_others(len(affected) - 1, ', and rows of')}; extract whole examples (rows all), or "
        "name the examples that are whole in every space"
    )


def _others(count: int, link: str) -> str:
    if not count:
        return ""
    return f"{link} {count} other example{'s' if count > 1 else ''}"
