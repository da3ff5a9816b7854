"""Choosing rows: the same stimuli in every space."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.settings import check_seed
from layerlake.store.errors import InvalidInput
from layerlake.store.row_sets import RowSet
from layerlake.store.space import Space

DEFAULT_ROWS = 5000
"""Rows that are compared where nobody says how many."""
_MOST_SHARED = 0.9
"""Share of the rows of the largest set; nothing is said where all variants have more of them."""


@dataclass(frozen=True)
class RowDraw:
    """How many of the rows that all spaces share, and how they are sampled; checked when built."""

    rows: int | str | None = None
    """A number, `all`, or None: 5000, or all where there are fewer."""
    seed: int = 0
    """Rows are sampled by identity: the same seed gives the same stimuli in every variant."""
    specials: bool = False
    """Whether special pieces are included."""

    def __post_init__(self) -> None:
        """Refuse a number of rows or a seed that means nothing."""
        object.__setattr__(self, "rows", _number_of_rows(self.rows))
        object.__setattr__(self, "seed", check_seed(self.seed))


@dataclass(frozen=True, eq=False)
class Rows:
    """The same stimuli of several sets."""

    index: dict[str, NDArray[np.int64]]
    """By the path of each set: (row,) ascending indices into it."""
    example: NDArray[np.int64]
    """(row,): the example that each row comes from."""
    notes: tuple[str, ...] = ()
    """Which variants hold fewer rows than others, so that fewer are compared."""

    def of(self, space: Space) -> NDArray[np.int64]:
        """Return the rows of a space."""
        return self.index[space.state.plan.path]

    def some(self, kept: NDArray[np.int64]) -> Rows:
        """Return the rows at some positions."""
        index = {path: rows[kept] for path, rows in self.index.items()}
        return Rows(index, self.example[kept], self.notes)


def _number_of_rows(rows: int | str | None) -> int | str | None:
    """Return a number of rows, `all`, or None for the default."""
    if rows is None or (isinstance(rows, str) and rows == "all"):
        return rows
    try:
        number = operator.index(rows)  # type: ignore[arg-type]
    except TypeError:
        number = int(rows) if isinstance(rows, str) and rows.isascii() and rows.isdigit() else -1
    if number < 1:
        raise InvalidInput(f"rows {rows!r} is neither a number above 0 nor all")
    return number


def _common_rows(sets: Sequence[RowSet], names: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return, for each row set, the indices of the rows that all of them hold."""
    first = sets[0]
    for other, name in zip(sets[1:], names[1:], strict=True):
        if other.unit == "piece" and (
            other.settings["tokenization"] != first.settings["tokenization"]
        ):
            raise InvalidInput(
                f"the pieces of {name} and of {names[0]} were cut by different tokenizers, or "
                "packed otherwise, so that they are not the same stimuli; compare words: the same "
                "line with --unit word"
            )
    common = first.row_id
    for other in sets[1:]:
        common = np.intersect1d(common, other.row_id, assume_unique=True)
    return [np.searchsorted(rows.row_id, common) for rows in sets]


def draw_rows(spaces: Iterable[Space], chosen: RowDraw) -> Rows:
    """Sample rows that all spaces hold.

    Raises
    ------
    InvalidInput
        The spaces share fewer rows than asked for, or have different tokenizers.
    """
    by_path = {space.state.plan.path: space for space in spaces}
    kept: dict[str, RowSet] = {}
    for space in by_path.values():
        if space.row_set not in kept:
            kept[space.row_set] = space.load_rows()
    row_sets = [kept[space.row_set] for space in by_path.values()]
    common = _common_rows(row_sets, [space.variant for space in by_path.values()])
    if not chosen.specials:
        plain = ~row_sets[0].row_special[common[0]]
        common = [part[plain] for part in common]
    counts = {
        space.variant: rows.n_rows if chosen.specials else int((~rows.row_special).sum())
        for space, rows in zip(by_path.values(), row_sets, strict=True)
    }
    shared = _shared(counts, len(common[0]))
    rows = chosen.rows
    if rows is None:
        rows = min(DEFAULT_ROWS, len(common[0]))
    if rows != "all":
        if int(rows) > len(common[0]):
            raise InvalidInput(
                f"{rows} rows asked for, but the variants share {len(common[0])}; give fewer with "
                "--rows, or --rows all" + "".join(f" ({note})" for note in shared)
            )
        from layerlake.engine.rows.seeded_draw import draw

        drawn = draw(row_sets[0].row_id[common[0]], int(rows), chosen.seed)
        common = [part[drawn] for part in common]
    example = row_sets[0].row_example[common[0]]
    return Rows(dict(zip(by_path, common, strict=True)), example, shared)


def _shared(counts: Mapping[str, int], n_shared: int) -> tuple[str, ...]:
    """Say which variants hold fewer rows than others, where that leaves fewer to compare."""
    most = max(counts.values())
    fewer = [f"{name} holds {count:,}" for name, count in counts.items() if count < most]
    if n_shared > _MOST_SHARED * most or not fewer:
        return ()
    note = (
        f"all variants share {n_shared:,} of {most:,} rows, since {', '.join(fewer)}; "
        "name variants with --variant to leave some out"
    )
    return (note,)
