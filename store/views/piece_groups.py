"""The stored pieces that make up words or examples: read from tables that the lake has anyway.

A row set tells which pieces a set holds, the tokenization which word and example each belongs to.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from layerlake.store import schema
from layerlake.store.errors import LakeCorrupt, NameNotFound, NoWholeRows
from layerlake.store.identity import short
from layerlake.store.location import Location
from layerlake.store.row_sets import RowSet, example_rows, word_rows
from layerlake.store.sets import SetPlan
from layerlake.store.tables import read_attributes, read_table

TABLE_PIECE_BYTES: Final = 112
"""Bytes for each piece of the corpus while its groups are made; most are given back."""
TABLE_WORD_BYTES: Final = 32
"""Bytes for each word of it, which may have no piece where inputs are cut, and each example."""

_CUT: Final = ("piece_word", "special", "repeated", "input_offsets", "input_example")

Bools = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PieceGroups:
    """Rows of a unit, and the stored pieces that each is made of."""

    rows: RowSet
    starts: Numbers
    """(run,): the stored row of the first piece of each run; the pieces of a run are neighbours."""
    counts: Numbers
    """(run,): pieces of each run."""
    offsets: Numbers | None
    """(row + 1,): the runs of row i are [offsets[i], offsets[i + 1]); None where each has one."""
    n_missing: int
    """Words, or examples, of the corpus that have no piece, or are whole in no input."""
    table_bytes: int
    """What finding them out took for a moment."""

    @property
    def n_bytes(self) -> int:
        """Bytes of the arrays."""
        arrays = [*self.rows.to_columns().values(), self.starts, self.counts]
        own = {id(array): array.nbytes for array in arrays}
        return sum(own.values()) + (0 if self.offsets is None else self.offsets.nbytes)

    @property
    def firsts(self) -> Numbers:
        """(row,): the stored row of the first piece of each."""
        return self.starts if self.offsets is None else self.starts[self.offsets[:-1]]


_known: WeakValueDictionary[tuple[str, ...], PieceGroups] = WeakValueDictionary()
"""Groups in use: the spaces of all layers and variants of one row set share them."""


def table_bytes(location: Location, plan: SetPlan) -> int:
    """Return the bytes that making the groups of a set takes for a moment."""
    cut = short(str(plan.contents.get("tokenization")))
    corpus = f"corpora/{plan.corpus}"
    of_corpus = read_attributes(location, corpus)
    n_words = int(of_corpus.get("n_words", 0)) + int(of_corpus.get("n_examples", 0))
    n_pieces = plan.layout.n_rows
    if location.exists(f"{corpus}/tokenizations/{cut}/{schema.METADATA}"):
        about = read_attributes(location, f"{corpus}/tokenizations/{cut}")
        n_pieces = int(about.get("n_pieces", n_pieces))
    return TABLE_PIECE_BYTES * n_pieces + TABLE_WORD_BYTES * n_words


def piece_groups(
    location: Location, plan: SetPlan, unit: str, pooling: str, *, specials: bool = False
) -> PieceGroups:
    """Return the rows of a unit that a set of pieces serves, and the pieces of each.

    Parameters
    ----------
    location, plan
        The lake, and a set of piece rows.
    unit, pooling
        `word`, and one of `schema.POOLINGS`; or `example`, and one of `schema.EXAMPLE_POOLINGS`.
        Pieces that another input holds the counting copy of (`repeated`) are never among them.
    specials
        Whether special pieces are pieces of their example.

    Raises
    ------
    NoWholeRows
        The set holds a word or example in part, or holds none.
    NameNotFound, LakeCorrupt
        The tables of the set are not in the lake, or do not fit together.
    """
    corpus = f"corpora/{plan.corpus}"
    kind = ("word",) if unit == "word" else ("example", pooling, str(specials))
    key = (
        location.name,
        str(read_attributes(location, corpus)["fingerprint"]),
        str(plan.contents.get("row_set")),
        *kind,
    )
    found = _known.get(key)
    if found is None:
        held = _Held(location, plan)
        found = held.words() if unit == "word" else held.examples(pooling, specials)
        _known[key] = found
    return found


class _Held:
    """The pieces of a set: which the corpus has, and which of them are rows."""

    def __init__(self, location: Location, plan: SetPlan) -> None:
        self.location, self.plan = location, plan
        corpus = f"corpora/{plan.corpus}"
        row_set, cut = (str(plan.contents.get(name)) for name in ("row_set", "tokenization"))
        rows = self._table(f"{corpus}/rows/{short(row_set)}", "row_id")
        self.row_id: Numbers = rows["row_id"]
        table = self._table(f"{corpus}/tokenizations/{short(cut)}", *_CUT)
        self.word: Numbers = table["piece_word"]
        self.special: Bools = table["special"]
        self.repeated: Bools = table.get("repeated", np.zeros(len(self.word), np.bool_))
        self.input_offsets: Numbers = table["input_offsets"]
        self.input_example: Numbers = table["input_example"]
        self.word_offsets: Numbers = self._table(corpus, "word_offsets")["word_offsets"]
        self.rows_name = str(plan.contents.get("rows", ""))
        if not self._fit():
            raise self._misfit()
        self.held: Bools = np.zeros(len(self.word), np.bool_)
        self.held[self.row_id] = True

    def _fit(self) -> bool:
        """Say whether rows, pieces, inputs, examples and words are of one set."""
        n, rows, ends = len(self.word), self.row_id, self.input_offsets
        return (
            len(rows) == self.plan.layout.n_rows
            and _rises(rows, 0, n - 1, least=1)
            and len(self.special) == len(self.repeated) == n
            and len(ends) == len(self.input_example) + 1
            and (int(ends[0]), int(ends[-1])) == (0, n)
            and _rises(ends, 0, n)
            and _rises(self.input_example, 0, len(self.word_offsets) - 2)
            and len(self.word_offsets) > 0
            and int(self.word_offsets[0]) == 0
            and _rises(self.word_offsets, 0, int(self.word_offsets[-1]))
            and int(self.word.max(initial=-1)) < int(self.word_offsets[-1])
        )

    def _misfit(self) -> LakeCorrupt:
        return LakeCorrupt(
            f"the row set or the tokenization of {self.plan.path} does not belong to it; "
            "`layerlake verify` says what to do"
        )

    def _table(self, path: str, *names: str) -> dict[str, NDArray[Any]]:
        """Return columns of a table."""
        if not self.location.exists(f"{path}/{schema.METADATA}"):
            raise NameNotFound(
                f"{path}, which tells what the rows of {self.plan.path} are, is not in the lake; "
                f"extract the variant again with: {self._line()}"
            )
        found = read_table(self.location, path, names=list(names))[0]
        if not set(names) <= {*found, "repeated"}:
            raise self._misfit()
        return found

    def words(self) -> PieceGroups:
        """Return the words that are held whole."""
        ours = (self.word >= 0) & ~self.repeated
        n_words = int(self.word_offsets[-1])
        example = np.repeat(np.arange(len(self.word_offsets) - 1), np.diff(self.word_offsets))
        total = np.bincount(self.word[ours], minlength=n_words)
        held = np.bincount(self.word[ours & self.held], minlength=n_words)
        in_part = np.flatnonzero((held > 0) & (held < total))
        if len(in_part):
            at = int(in_part[0])
            place = at - int(self.word_offsets[example[at]])
            self._refuse("word", len(in_part), f"word {place} of example {example[at]}")
        words = np.flatnonzero(held)
        if not len(words):
            raise NoWholeRows(
                f"{self.plan.path} (rows {self.rows_name}) holds no word: "
                + (
                    "no word of the corpus has a piece; use pieces or whole examples, --unit example"
                    if not total.any()
                    else f"extract the words with: {self._line('--unit word')}"
                )
            )
        rows = word_rows(words, self.word_offsets, self.rows_name)
        run = np.zeros(len(self.word_offsets) - 1, np.bool_)
        run[self.input_example] = True
        missing = total == 0
        # As an extraction counts them, which knows nothing of examples that were dropped.
        rows.settings["words_without_pieces"] = int((run[example] & missing).sum())
        pieces = np.flatnonzero(ours & self.held)
        return self._grouped(rows, pieces, self.word[pieces], int(missing.sum()))

    def examples(self, pooling: str, specials: bool) -> PieceGroups:
        """Return the examples whose pieces, as far as the pooling needs them, are held."""
        size = len(self.word_offsets) - 1
        example = np.repeat(self.input_example, np.diff(self.input_offsets))
        ours = ~self.repeated if specials or pooling == "cls" else ~self.repeated & ~self.special
        needed = self._needed(pooling, ours, example)
        total = np.bincount(example[needed], minlength=size)
        held = np.bincount(example[needed & self.held], minlength=size)
        touched = np.bincount(example[ours & self.held], minlength=size) > 0
        in_part = np.flatnonzero(touched & (held < total))
        if len(in_part):
            self._refuse("example", len(in_part), f"example {in_part[0]}")
        ids = np.flatnonzero(held)
        if not len(ids):
            raise NoWholeRows(
                f"{self.plan.path} (rows {self.rows_name}) holds no "
                + (
                    "special piece that an example begins with; pool by first, --pooling first"
                    if pooling == "cls"
                    else f"whole example; extract them with: {self._line()}"
                )
            )
        rows = example_rows(ids, self.rows_name)
        pieces = np.flatnonzero(needed & self.held)
        return self._grouped(rows, pieces, example[pieces], int((total == 0).sum()))

    def _needed(self, pooling: str, ours: Bools, example: Numbers) -> Bools:
        """Return the pieces that a pooling of examples takes."""
        if pooling == "mean":
            return ours
        if pooling == "cls":
            heads = np.zeros(len(ours), np.bool_)
            heads[self.input_offsets[:-1]] = True
            ours = ours & heads & self.special
        pieces = np.flatnonzero(ours)
        edges = np.ones(len(pieces), np.bool_)
        changes = example[pieces][1:] != example[pieces][:-1]
        if pooling == "last":
            edges[:-1] = changes
        else:
            edges[1:] = changes
        needed = np.zeros(len(ours), np.bool_)
        needed[pieces[edges]] = True
        return needed

    def _grouped(
        self, rows: RowSet, pieces: Numbers, owner: Numbers, n_missing: int
    ) -> PieceGroups:
        """Return groups of the rising pieces of owners, as runs of neighbours among stored rows."""
        places = np.searchsorted(self.row_id, pieces)
        if np.any(np.diff(owner) < 0):
            order = np.argsort(owner, kind="stable")
            places, owner = places[order], owner[order]
        breaks = np.flatnonzero((np.diff(owner) != 0) | (np.diff(places) != 1)) + 1
        first = np.concatenate([[0], breaks])
        counts = np.diff(np.append(first, len(places)))
        opening = np.flatnonzero(np.append(True, np.diff(owner[first]) != 0))
        offsets = None if len(opening) == len(first) else np.append(opening, len(first))
        taken = table_bytes(self.location, self.plan)
        return PieceGroups(rows, places[first], counts, offsets, n_missing, taken)

    def _refuse(self, unit: str, count: int, one: str) -> NoReturn:
        some = f"{count:,} {unit}s" if count > 1 else f"{'a' if unit == 'word' else 'an'} {unit}"
        line = self._line(*(["--unit word"] if unit == "word" else []))
        raise NoWholeRows(
            f"{self.plan.path} (rows {self.rows_name}) holds {some} in part, {one} for one, so that "
            f"its pieces cannot be pooled; extract whole {unit}s with: {line}"
        )

    def _line(self, *options: str) -> str:
        """Return what to type to extract what is missing."""
        variant = self.plan.variant
        try:
            about = read_attributes(self.location, f"variants/{variant}")
        except (NameNotFound, LakeCorrupt):
            about = {}
        # Of a folder the lake knows the name alone, of a hub model all that it takes to load it.
        source = str(about.get("source", ""))
        source = f"{source}@{about['revision']}" if about.get("revision") else "MODEL"
        for name in ("randomize", "truncate"):
            if about.get(name) is not None:
                options = (*options, f"--{name} {about[name]}")
        words = ["layerlake extract", shlex.quote(source), shlex.quote(self.plan.corpus)]
        return " ".join([*words, "--as", shlex.quote(variant), *options, *self._inputs()])

    def _inputs(self) -> list[str]:
        """Return the options that say what the set was extracted of, where they are no defaults."""
        contents = self.plan.contents
        said = []
        parts = [array.rpartition("/") for array in self.plan.arrays]
        sites = list(dict.fromkeys(site for site, _, _ in parts))
        layers = sorted({int(layer) for _, _, layer in parts})
        if sites != ["resid"]:
            said.append(f"--sites {shlex.quote(','.join(sites))}")
        if layers != list(range(len(layers))):
            said.append(f"--layers {','.join(map(str, layers))}")
        cut = short(str(contents.get("tokenization")))
        path = f"corpora/{self.plan.corpus}/tokenizations/{cut}"
        try:
            how = read_attributes(self.location, path).get("settings", {})
        except (NameNotFound, LakeCorrupt):
            how = {}
        for name, usual in (("packing", "single"), ("long", "refuse"), ("bos", "auto")):
            if how.get(name) not in (None, usual):
                said.append(f"--{name} {shlex.quote(str(how[name]))}")
        return [*said, "--chat"] if how.get("chat") else said


def _rises(values: Numbers, low: int, high: int, *, least: int = 0) -> bool:
    """Say whether values rise from step to step, by `least` or more, within bounds."""
    if not len(values):
        return True
    steps = np.diff(values)
    return int(values[0]) >= low and int(values[-1]) <= high and not bool((steps < least).any())
