"""Spaces whose rows are words or examples, pooled from stored pieces as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import NameNotFound
from layerlake.store.half import widened
from layerlake.store.row_sets import RowSet, offsets_of, runs
from layerlake.store.run_copies import RunCopies
from layerlake.store.space import BLOCK_ROWS, Space
from layerlake.store.stored_space import StoredSpace, require_lake_at
from layerlake.store.views.piece_groups import PieceGroups, piece_groups

PART_PIECES: Final = 1024
"""Pieces that are read at a time: about a chunk."""
_INDEX_BYTES: Final = 108
"""Bytes for each row, and for each piece of a part, of what tells which pieces are read."""


class PieceSpace(Protocol):
    """What pieces are read from: a stored space, or one whose rows arrive on a device."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and hidden."""
        ...

    def rows(self, index: NDArray[np.int64], /) -> Any:
        """Return the rows at a rising index, arrays of any library that nobody else uses."""
        ...


@runtime_checkable
class _FetchesAhead(Protocol):
    def expect(self, indexes: Iterable[NDArray[np.int64]], /) -> None: ...


class _Part(NamedTuple):
    """Some of the pieces of some rows."""

    pieces: NDArray[np.int64]
    """(piece,) rising stored rows."""
    slots: NDArray[np.int64]
    """(run,) the row that each run of them belongs to."""
    sizes: NDArray[np.int64]
    """(run,) pieces of each run."""
    opens: NDArray[np.bool_]
    """(run,) whether it is the first of its row."""


class PooledSpace(Space):
    """Words or examples of one layer, each pooled in float32 from its stored pieces.

    Row i is the word, or example, that it would be if the set had been extracted so. The pieces of
    the rows that are asked for are read, each once and in rising order, and no others.

    Parameters
    ----------
    stored
        The pieces.
    unit, pooling, specials
        As `Lake.space`.
    over
        Where the pieces are read from, if not from `stored` itself.

    Raises
    ------
    NoWholeRows, NameNotFound, LakeCorrupt
        As `piece_groups`.
    """

    def __init__(
        self,
        stored: StoredSpace,
        unit: str,
        pooling: str,
        *,
        specials: bool = False,
        over: PieceSpace | None = None,
    ) -> None:
        self.stored = stored
        self.pieces: PieceSpace = stored if over is None else over
        self.location, self.state = stored.location, stored.state
        self.site, self.layer = stored.site, stored.layer
        self.verified, self.direct = stored.verified, stored.direct
        self._how = unit, pooling, specials
        self._groups: PieceGroups | None = None
        self._shape = self.groups.rows.n_rows, stored.shape[1]

    def __getstate__(self) -> dict[str, Any]:
        # Which pieces are read is found out anew where the space is sent.
        return {**self.__dict__, "_groups": None}

    def __repr__(self) -> str:
        rows, hidden = self.shape
        special = ", specials among them" if self._how[2] else ""
        return (
            f"<Space {self.corpus}/{self.variant} {self.site} layer {self.layer}: "
            f"{rows:,} {self.unit} rows ({self.pooling} of stored pieces{special}) x {hidden} "
            f"{self.dtype}, {self.state.progress}>"
        )

    def over(self, pieces: PieceSpace) -> PooledSpace:
        """Return the space with its pieces read from elsewhere, a device say."""
        unit, pooling, specials = self._how
        return PooledSpace(self.stored, unit, pooling, specials=specials, over=pieces)

    @property
    def groups(self) -> PieceGroups:
        """Which pieces each row is made of."""
        if self._groups is None:
            unit, pooling, specials = self._how
            plan = self.state.plan
            try:
                self._groups = piece_groups(self.location, plan, unit, pooling, specials=specials)
            except NameNotFound:
                require_lake_at(self.location)
                raise
        return self._groups

    @property
    def unit(self) -> str:
        """`word` or `example`."""
        return self._how[0]

    @property
    def pooling(self) -> str:
        """How a row is made of its pieces."""
        return self._how[1]

    @property
    def row_set(self) -> str:
        """Fingerprint of the row set, that of a set extracted so."""
        return self.groups.rows.fingerprint

    @property
    def path(self) -> str:
        """The array of pieces, and what is made of them."""
        unit, pooling, specials = self._how
        return f"{self.stored.path} ({unit}s, {pooling}{' with specials' if specials else ''})"

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, hidden)."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, which pieces are pooled in."""
        return np.dtype(np.float32)

    def load_rows(self) -> RowSet:
        """Return the row set."""
        return self.groups.rows

    def row_places(self) -> dict[str, NDArray[Any]]:
        """Return where rows stand in the corpus."""
        columns = self.groups.rows.to_columns()
        return {name.removeprefix("row_"): columns[name] for name in columns if name != "row_id"}

    def require_whole(self) -> None:
        """Raise `SetIncomplete` unless all pieces are committed."""
        self.stored.require_whole()

    @property
    def window_bounds(self) -> NDArray[np.int64]:
        """(window + 1,): the rows that begin in each window of pieces."""
        bounds = np.searchsorted(self.groups.firsts, self.stored.window_bounds)
        bounds[-1] = self.shape[0]
        return bounds

    @property
    def chunk_rows(self) -> int:
        """As many as a chunk has pieces."""
        return self.stored.chunk_rows

    @property
    def held_bytes(self) -> int:
        """What tells which pieces rows are made of."""
        return self.groups.n_bytes

    @property
    def table_bytes(self) -> int:
        """What finding out which pieces rows are made of takes."""
        return self.groups.table_bytes

    @property
    def reading_bytes(self) -> int:
        """Pieces of a part as they are stored, twice, and two of them in float32; of a block, which
        pieces its rows are made of."""
        part = PART_PIECES * self.shape[1] * (2 * self.stored.dtype.itemsize + 8)
        index = (PART_PIECES + min(BLOCK_ROWS, self.shape[0])) * _INDEX_BYTES
        return part + index + self.stored.reading_bytes

    @property
    def file_bytes(self) -> int:
        """Bytes of the files of pieces, where they may be mapped."""
        return self.stored.file_bytes

    @property
    def plain(self) -> bool:
        """Whether the pieces are at hand."""
        return self.stored.plain

    @property
    def copy_step(self) -> int:
        """All rows: they are pooled where they are asked for."""
        return max(self.shape[0], 1)

    def expect(self, indexes: Iterable[NDArray[np.int64]]) -> None:
        """Tell where pieces are fetched ahead that `rows` will be called with these indexes."""
        if isinstance(self.pieces, _FetchesAhead):
            self.pieces.expect(part.pieces for index in indexes for part in self._parts(index))

    def _consecutive(self, start: int, stop: int) -> NDArray[Any]:
        return self._pooled(np.arange(start, stop))

    def _rising(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        if len(wanted) > 1 and (np.diff(wanted) == 0).any():
            once, places = np.unique(wanted, return_inverse=True)
            return self._pooled(once)[places]
        return self._pooled(wanted)

    def copy_runs(
        self, copies: RunCopies, outs: Sequence[NDArray[Any]], *, mapped: bool = False
    ) -> None:
        """Pool runs of rows into arrays; see `Space.copy_runs`. Plain files are always mapped."""
        hidden = self.shape[1]
        row_bytes = hidden * self.dtype.itemsize
        targets = [out.reshape(-1, hidden) for out in outs]
        parts = [part for _group, parts in copies.groups for part in parts]
        bounds = np.array([(to.start, of.start, of.stop, out) for out, to, of in parts], np.int64)
        to, start, stop = (bounds[:, :3] // row_bytes).T
        sizes = stop - start
        rows, places = runs(start, sizes), runs(to, sizes)
        owner = np.repeat(bounds[:, 3], sizes)
        for low in range(0, len(rows), PART_PIECES):
            some = slice(low, low + PART_PIECES)
            pooled = self.rows(rows[some])
            for number in np.unique(owner[some]).tolist():
                ours = owner[some] == number
                targets[number][places[some][ours]] = pooled[ours]

    def _pooled(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, each number once and rising; arrays of the library that pieces come in."""
        out: Any = None
        for part in self._parts(wanted):
            values = self.pieces.rows(part.pieces)
            if out is None:
                xp, device = _namespace(values)
                out = xp.empty((len(wanted), self.shape[1]), dtype=xp.float32, device=device)
            _absorb(out, part, _wide(values), largest=self.pooling == "max")
            del values
        if out is None:
            return np.empty((0, self.shape[1]), np.float32)
        if self.pooling == "mean":
            counts = _on(out, self._counts(wanted).astype(np.float32))
            out /= counts[:, None]
        pooled: NDArray[Any] = out
        return pooled

    def _counts(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the pieces of rows."""
        groups = self.groups
        if groups.offsets is None:
            return groups.counts[wanted]
        n_runs = groups.offsets[wanted + 1] - groups.offsets[wanted]
        counts = groups.counts[runs(groups.offsets[wanted], n_runs)]
        return np.add.reduceat(counts, offsets_of(n_runs)[:-1])

    def _parts(self, wanted: NDArray[np.int64]) -> Iterator[_Part]:
        """Yield the pieces of rows, some at a time."""
        groups = self.groups
        one = self.unit == "word" and self.pooling in ("first", "last")
        if groups.offsets is None:
            slots, run = np.arange(len(wanted)), wanted
        elif one:
            slots = np.arange(len(wanted))
            run = (
                groups.offsets[wanted]
                if self.pooling == "first"
                else groups.offsets[wanted + 1] - 1
            )
        else:
            n_runs = groups.offsets[wanted + 1] - groups.offsets[wanted]
            slots = np.repeat(np.arange(len(wanted)), n_runs)
            run = runs(groups.offsets[wanted], n_runs)
        begin, sizes = groups.starts[run], groups.counts[run]
        if one:
            begin = begin if self.pooling == "first" else begin + sizes - 1
            sizes = np.ones_like(sizes)
        ends = offsets_of(sizes)
        opening = np.append(True, np.diff(slots) != 0)
        for a, b in self._cuts(begin, sizes, ends):
            some = slice(int(np.searchsorted(ends, a, "right")) - 1, int(np.searchsorted(ends, b)))
            low, high = np.maximum(ends[:-1][some], a), np.minimum(ends[1:][some], b)
            yield _Part(
                runs(begin[some] + low - ends[:-1][some], high - low),
                slots[some],
                high - low,
                opening[some] & (low == ends[:-1][some]),
            )

    def _cuts(
        self, begin: NDArray[np.int64], sizes: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Iterator[tuple[int, int]]:
        """Yield the bounds of parts, in pieces: between chunks where these must be decoded."""
        total = int(ends[-1])
        inner = np.empty(0, np.int64)
        if total and not self.stored.plain:
            step = self.stored.chunk_rows
            last = int(begin[-1] + sizes[-1] - 1)
            edges = np.arange(int(begin[0]) // step + 1, last // step + 1) * step
            before = np.searchsorted(begin, edges) - 1
            inner = ends[before] + np.minimum(sizes[before], edges - begin[before])
        at = 0
        while at < total:
            end = min(at + PART_PIECES, total)
            if end < total and len(inner):
                fits = int(np.searchsorted(inner, end, "right")) - 1
                end = int(inner[fits]) if fits >= 0 and inner[fits] > at else end
            yield at, end
            at = end


def _absorb(out: Any, part: _Part, values: Any, *, largest: bool) -> None:
    """Add the pieces of a part to their rows, or take their largest values.

    numpy adds one piece after the other in every case, so that a sum does not depend on where parts
    are cut.
    """
    xp, _device = _namespace(values)
    sizes, slots = part.sizes, part.slots
    starts = offsets_of(sizes)[:-1]
    most = int(sizes.max())

    def merge(old: Any, new: Any) -> Any:
        return xp.maximum(old, new) if largest else old + new

    if most > len(sizes) or np.any(np.diff(slots) == 0):
        # Few rows of many pieces: row by row.
        for slot, start, size, opens in zip(
            slots.tolist(), starts.tolist(), sizes.tolist(), part.opens.tolist(), strict=True
        ):
            some = values[start : start + size, :]
            if not opens:
                some[0, :] = merge(out[slot, :], some[0, :])
            out[slot, :] = xp.max(some, axis=0) if largest else xp.sum(some, axis=0)
        return
    # Many rows of few pieces: the first piece of each, then the second of those that have one.
    head = 0 if part.opens[0] else 1
    if not head and isinstance(values, np.ndarray):
        # "raise" would copy once more, and all are there.
        target = out[int(slots[0]) : int(slots[-1]) + 1]
        first = np.take(values, starts, axis=0, out=target, mode="clip")
    else:
        first = xp.take(values, _on(values, starts), axis=0)
        out[int(slots[0]) + head : int(slots[-1]) + 1, :] = first[head:, :]
    if head:
        out[int(slots[0]), :] = merge(out[int(slots[0]), :], first[0, :])
    for rank in range(1, most):
        live = sizes > rank
        at = _on(out, slots[live])
        out[at] = merge(out[at], xp.take(values, _on(values, starts[live] + rank), axis=0))


def _wide(values: Any) -> Any:
    """Return pieces in float32."""
    if isinstance(values, np.ndarray):
        return widened(values)
    xp, _device = _namespace(values)
    return xp.astype(values, xp.float32, copy=False)


def _namespace(values: Any) -> tuple[Any, Any]:
    """Return the functions and the device of arrays."""
    if isinstance(values, np.ndarray):
        return np, "cpu"
    from array_api_compat import array_namespace, device

    return array_namespace(values), device(values)


def _on(values: Any, index: NDArray[Any]) -> Any:
    """Return an array of ours beside some values, on their device."""
    if isinstance(values, np.ndarray):
        return index
    xp, device = _namespace(values)
    return xp.asarray(index, device=device)
