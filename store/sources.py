"""The sets that rows of a unit can be read from: as they were written, or pooled from pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from layerlake.store import schema
from layerlake.store.amounts import require
from layerlake.store.errors import (
    InvalidInput,
    LakeCorrupt,
    LayerLakeError,
    NameNotFound,
    NoWholeRows,
)
from layerlake.store.location import Location
from layerlake.store.row_sets import check_unit
from layerlake.store.sets import SetState

if TYPE_CHECKING:
    from layerlake.store.lake import Lake
    from layerlake.store.space import Space
    from layerlake.store.views.piece_groups import PieceGroups

POOLINGS: Final = {"piece": (), "word": schema.POOLINGS, "example": schema.EXAMPLE_POOLINGS}
"""How pieces may be pooled into rows of a unit, the default first."""


@dataclass(frozen=True, eq=False)
class Pooling:
    """How the pieces of a set become rows of another unit when they are read."""

    unit: str
    name: str
    specials: bool
    groups: PieceGroups = field(repr=False)
    """Kept, so that every space of the same rows finds it."""


@dataclass(frozen=True, eq=False)
class Source:
    """A set that rows of a unit can be read from."""

    state: SetState
    pooled: Pooling | None = None
    """None where rows are read as they were written."""

    @property
    def row_set(self) -> str:
        """Fingerprint of the rows."""
        if self.pooled is not None:
            return self.pooled.groups.rows.fingerprint
        return str(self.state.plan.contents.get("row_set"))

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return (
            self.state.plan.layout.n_rows if self.pooled is None else self.pooled.groups.rows.n_rows
        )

    @property
    def cut(self) -> str:
        """Fingerprint of the tokenization that rows are pieces of, or are pooled from."""
        return str(self.state.plan.contents.get("tokenization"))

    @property
    def arrays(self) -> tuple[str, ...]:
        """`<site>/<layer>` of every array."""
        return self.state.plan.arrays

    @property
    def by_mean(self) -> bool:
        """Whether rows are means of pieces, or not made of pieces."""
        if self.pooled is not None:
            return self.pooled.name == "mean"
        return self.state.plan.contents.get("pooling") in (None, "mean")

    def preference(
        self, shared: int = 0, cut: int = 0
    ) -> tuple[bool, bool, int, int, int, bool, bool, str]:
        """Return what sources of one space are ordered by; the last one is taken.

        `shared` counts the variants that have the same rows; `cut` is higher for tokenizations to
        prefer.
        """
        plan = self.state.plan
        wide = plan.layout.dtype == "float32"
        written = self.pooled is None
        return self.state.sealed, written, shared, self.n_rows, cut, self.by_mean, wide, plan.set_id

    def open(self, lake: Lake, site: str, layer: int) -> Space:
        """Return a space of the set, which holds it."""
        stored = lake.space_of(self.state, site, layer)
        if self.pooled is None:
            return stored
        from layerlake.store.views.pooled_rows import PooledSpace

        way = self.pooled
        return PooledSpace(stored, way.unit, way.name, specials=way.specials)


def check_pooling(unit: str | None, pooling: str | None) -> None:
    """Raise `InvalidInput` for a unit that there is not, or a pooling that it does not have."""
    if unit is not None:
        check_unit(unit)
    known = POOLINGS[unit] if unit else schema.ALL_POOLINGS
    if pooling is not None and pooling not in known:
        ways = f"choose one of {', '.join(known)}" if known else "leave the pooling out"
        raise InvalidInput(f"there is no pooling {pooling!r} of {unit or 'word'} rows; {ways}")


def sources_of(
    location: Location,
    states: Iterable[SetState],
    unit: str | None,
    pooling: str | None,
    *,
    specials: bool = False,
    needed: Sequence[str] | None = None,
    memory: int | None = None,
) -> tuple[list[Source], list[LayerLakeError]]:
    """Return the sets that rows of a unit can be read from, and why sets of pieces cannot.

    Where rows were written as they are asked for, tables of pieces that are missing or damaged are
    a reason like any other.

    Parameters
    ----------
    location, states
        The lake, and sets of one corpus.
    unit, pooling, specials
        As `Lake.space`.
    needed
        Arrays, one of which a set of pieces must have; None for any.
    memory
        Most bytes to find out in which pieces make up the rows; None for any.

    Raises
    ------
    InvalidInput
        No such unit or pooling.
    MemoryRefused
        Finding out which pieces make up the rows takes more than `memory`.
    NameNotFound, LakeCorrupt
        A set of pieces lacks its tables, or they do not fit together, and no rows were written.
    """
    check_pooling(unit, pooling)
    found: list[Source] = []
    refused: list[LayerLakeError] = []
    broken: list[LayerLakeError] = []
    for state in states:
        contents = state.plan.contents
        own = contents.get("unit")
        if unit in (None, own) and pooling in (None, contents.get("pooling")):
            found.append(Source(state))
        elif unit in ("word", "example") and own == "piece":
            lacking = needed is not None and not set(needed) & set(state.plan.arrays)
            if lacking or not contents.get("tokenization"):
                continue
            from layerlake.store.views.piece_groups import (
                piece_groups,
                table_bytes,
            )

            way = pooling or "mean"
            try:
                if memory is not None:
                    require(
                        table_bytes(location, state.plan),
                        memory,
                        f"finding the pieces of each {unit} of {state.plan.path}",
                        f"allow more memory, or extract {unit}s as such",
                    )
                groups = piece_groups(location, state.plan, unit, way, specials=specials)
            except NoWholeRows as error:
                refused.append(error)
                continue
            except (NameNotFound, LakeCorrupt) as error:
                broken.append(error)
                continue
            found.append(Source(state, Pooling(unit, way, specials, groups)))
    if broken and not any(source.pooled is None for source in found):
        raise broken[0]
    return found, [*refused, *broken]
