"""Batches of whole examples in a shuffled order, all layers at once, in a stated memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.memory import MemoryPlan, parse_bytes, require
from layerlake.engine.passes.selected_rows import held_bytes
from layerlake.engine.rows.seeded_draw import shuffled
from layerlake.engine.settings import check_seed, whole_number
from layerlake.engine.streams.example_batch import ALIGNMENT, ExampleBatch, Key, Widths
from layerlake.engine.streams.example_labels import read_labels
from layerlake.engine.streams.example_rows import (
    TABLE_ROW_BYTES,
    ExampleRows,
    name_of,
    whole_examples,
)
from layerlake.store.errors import InvalidInput
from layerlake.store.row_sets import offsets_of, runs
from layerlake.store.run_copies import RunCopies, plan_copies
from layerlake.store.space import Space

PLANNED_BYTES: Final = 2**19
"""Bytes for the plans of batches that are planned together where files are mapped."""

_INDEX_BYTES = 24
"""Bytes for each row of batches that are planned: its number and its word."""

_ORDER_BYTES = 96
"""Bytes for each example while the order of an epoch is computed and held."""

_COPY_BYTES = 360
"""Bytes of Python's for each example that is read, for each layout of the spaces."""

_ADVICE = "ask for smaller batches or fewer layers, or allow more memory"


@dataclass(frozen=True)
class _Reader:
    """Spaces that share their rows and layout, so that one plan of copies serves them all."""

    starts: NDArray[np.int64]
    spaces: tuple[tuple[Key, Space], ...]

    def plan(
        self, places: NDArray[np.int64], rows: ExampleRows, ends: list[int], *, apart: bool
    ) -> list[RunCopies]:
        """Plan copies of the examples at places into batches that end at `ends` (batch + 1,)."""
        first = self.spaces[0][1]
        lengths = rows.lengths[places]
        offsets = offsets_of(lengths)
        batch = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        return plan_copies(
            self.starts[places],
            lengths,
            offsets[:-1] - offsets[ends][batch],
            batch,
            step=first.copy_step,
            row_bytes=first.shape[1] * first.dtype.itemsize,
            apart=apart,
        )


class ExampleStream:
    """Batches of whole examples from several spaces, shuffled anew in every epoch.

    A batch is packed, not padded: the rows of its examples one after another, the same rows of
    every space. The order of an epoch is a uniform permutation that depends on the seed, the epoch
    and the numbers of the examples in the corpus alone; neither `memory` nor the number of ranks
    changes what is in a batch.

    Parameters
    ----------
    spaces
        Spaces over one corpus: variants, sites and layers, of any widths. Their row sets may
        differ, but each must have all rows of every example.
    examples
        Numbers of the examples in the corpus; by default those that every space has rows of.
    labels
        By name: the name of an annotation of words or of a column of examples; or values for every
        row of the first space, or for every example of the corpus, (n, ...). They are taken to be
        of rows where both are equally many. Strings become 0, 1, ... in the order of
        `stream.classes[name]`; what an annotation or a column lacks is -100, or NaN among floats.
    batch
        Examples or rows of a batch; the last batch of an epoch may have fewer.
    counts
        What `batch` counts. Batches by `"rows"` are filled until the next example would exceed
        them; an example with more rows than that is a batch by itself.
    seed
        Of the order.
    dtype
        What values are cast to; by default they have the stored dtype.
    memory
        Bytes that the stream may use; what it needs is `stream.memory_plan`. Uncompressed files are
        mapped where all of them fit, which is quicker than reading them example by example. Of
        compressed ones, as many batches as fit are read together: the fewer these are, the more
        often a chunk is decoded.
        Batches are the caller's: one is counted, the one in use.

    Raises
    ------
    InvalidInput
        A space lacks an example in part (the message names it), the spaces or labels do not fit
        together, or a setting is out of range.
    MemoryRefused
        The stream needs more than `memory`; no values have been read.
    NameNotFound, OutOfRange, SetIncomplete
        As their names say.

    Examples
    --------
    >>> spaces = [lake.space("ewt", "bert", layer, unit="word") for layer in range(13)]
    >>> stream = ExampleStream(spaces, labels={"upos": "upos"}, batch=20, memory="1GiB")
    >>> for batch in stream.epoch(0):
    ...     tensors = batch.to_torch()
    ...     tensors.values["bert", "resid", 12]  # (row, hidden)
    """

    def __init__(
        self,
        spaces: Sequence[Space],
        examples: Sequence[int] | NDArray[np.integer[Any]] | None = None,
        labels: Mapping[str, str | Sequence[Any] | NDArray[Any]] | None = None,
        *,
        batch: int = 32,
        counts: Literal["examples", "rows"] = "examples",
        seed: int = 0,
        dtype: str | None = None,
        memory: int | str = "4GiB",
    ) -> None:
        allowed = parse_bytes(memory)
        self.batch = whole_number(batch, "batch", 1)
        if counts not in ("examples", "rows"):
            raise InvalidInput(f"counts is {counts!r}; give examples or rows")
        self.counts = counts
        self.seed = check_seed(seed)
        self.dtype = None if dtype is None else _float_dtype(dtype)
        self.spaces = _by_key(spaces)
        sets = {space.row_set: space.shape[0] for space in spaces}
        tables = TABLE_ROW_BYTES * sum(sets.values())
        require(tables, allowed, "reading which rows are an example", _ADVICE)
        self._rows = whole_examples(spaces, examples)
        self._labels = read_labels(spaces[0], labels or {}, self._rows.corpus_size)
        groups: dict[Any, list[tuple[Key, Space]]] = {}
        for (key, space), starts in zip(self.spaces.items(), self._rows.starts, strict=True):
            alike = id(starts), space.shape, space.dtype, space.copy_step
            groups.setdefault(alike, []).append((key, space))
        by_key = dict(zip(self.spaces, self._rows.starts, strict=True))
        self._readers = [_Reader(by_key[group[0][0]], tuple(group)) for group in groups.values()]
        self._apart = all(space.plain for space in spaces)
        self._widths = Widths.of(self.spaces)
        self._costs = self._costs_of_a_batch()
        self.memory_plan = self._plan(tables).within(allowed, "the stream", _ADVICE)
        """Bytes by what holds them. The reserve is for batches read ahead and for mapped files."""
        room = self.memory_plan.reserve - self._ahead
        self._mapped = room >= _file_bytes(self.spaces.values())

    @property
    def examples(self) -> NDArray[np.int64]:
        """(example,) rising numbers of the examples of an epoch."""
        return self._rows.examples

    @property
    def classes(self) -> dict[str, list[str]]:
        """What the labels 0, 1, ... stand for, of labels that were strings."""
        return {k: one.classes for k, one in self._labels.items() if one.classes is not None}

    @property
    def label_axes(self) -> dict[str, str]:
        """`row` or `example` for every label: what its first axis is."""
        return {name: one.axis for name, one in self._labels.items()}

    def n_batches(self, epoch: int = 0) -> int:
        """Return the batches of an epoch, of all ranks together."""
        return len(self._bounds(self._order(epoch))) - 1

    def epoch(
        self, epoch: int, start: int = 0, *, rank: int = 0, world: int = 1
    ) -> Iterator[ExampleBatch[NDArray[Any]]]:
        """Yield the batches of an epoch.

        Parameters
        ----------
        epoch
            From 0.
        start
            Number of the first batch; those before it are not read.
        rank, world
            Yield the batches rank, rank + world, ... only. Batches are numbered over all ranks.

        Raises
        ------
        InvalidInput
            A number is out of range.
        LakeCorrupt, LakeNotFound, StorageFailed
            As `Space.rows`.
        """
        check_seed(epoch, "the epoch")
        whole_number(world, "world", 1)
        whole_number(rank, "rank", 0, world - 1)
        whole_number(start, "start", 0)
        first = start + (rank - start) % world
        return self._batches(epoch, first, world)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return shuffled(self._rows.examples, self.seed, epoch)

    def _bounds(self, order: NDArray[np.int64]) -> list[int]:
        """Return where batches begin in an order, and its length: (batch + 1,)."""
        n = len(order)
        if self.counts == "examples":
            return [*range(0, n, self.batch), n]
        rows = offsets_of(self._rows.lengths[order])
        bounds = [0]
        while bounds[-1] < n:
            full = int(np.searchsorted(rows, rows[bounds[-1]] + self.batch, side="right")) - 1
            bounds.append(max(full, bounds[-1] + 1))
        return bounds

    def _batches(self, epoch: int, first: int, step: int) -> Iterator[ExampleBatch[NDArray[Any]]]:
        order = self._order(epoch)
        bounds = self._bounds(order)
        numbers = range(first, len(bounds) - 1, step)
        read = self._one_by_one if self._apart else self._together
        for group in self._groups(numbers, order, bounds):
            places = [order[bounds[b] : bounds[b + 1]] for b in group]
            for batch in read(group, places):
                yield batch if self.dtype is None else batch.astype(self.dtype)
                del batch  # or it would stay in memory while the next one is read

    def _groups(
        self, numbers: Iterable[int], order: NDArray[np.int64], bounds: list[int]
    ) -> Iterator[list[int]]:
        """Yield the numbers of batches that are planned, and maybe read, together."""
        rows = offsets_of(self._rows.lengths[order])[bounds].tolist()
        allowed = self._largest + min(self._ahead, self.memory_plan.reserve)
        group: list[int] = []
        held = 0
        for b in numbers:
            size = self._group_bytes(rows[b + 1] - rows[b], bounds[b + 1] - bounds[b])
            if group and held + size > allowed:
                yield group
                group, held = [], 0
            group.append(b)
            held += size
        if group:
            yield group

    def _one_by_one(
        self, numbers: list[int], places: list[NDArray[np.int64]]
    ) -> Iterator[ExampleBatch[NDArray[Any]]]:
        """Read batches as they are asked for: any row of a mapped file is at hand."""
        empty, plans = self._prepared(numbers, places)
        for number, make in enumerate(empty):
            batch = make()
            for reader, copies in zip(self._readers, plans, strict=True):
                for key, space in reader.spaces:
                    space.copy_runs(copies[number], [batch.values[key]], mapped=self._mapped)
            yield batch
            del batch

    def _together(
        self, numbers: list[int], places: list[NDArray[np.int64]]
    ) -> Iterator[ExampleBatch[NDArray[Any]]]:
        """Read batches at once, so that a chunk that several have rows of is decoded once."""
        empty, plans = self._prepared(numbers, places)
        batches = [make() for make in empty]
        for reader, (copies,) in zip(self._readers, plans, strict=True):
            for key, space in reader.spaces:
                space.copy_runs(
                    copies, [batch.values[key] for batch in batches], mapped=self._mapped
                )
        while batches:
            # Popped, or batches that the caller has done with would stay in memory.
            yield batches.pop(0)

    def _prepared(
        self, numbers: list[int], places: list[NDArray[np.int64]]
    ) -> tuple[list[Callable[[], ExampleBatch[NDArray[Any]]]], list[list[RunCopies]]]:
        """Return what makes each batch, its values still to be read, and the copies that read them.

        The copies are those of each reader: a plan for each batch, or one for all.
        """
        rows = self._rows
        every = np.concatenate(places)
        ends = offsets_of(np.array([len(some) for some in places])).tolist()
        plans = [reader.plan(every, rows, ends, apart=self._apart) for reader in self._readers]
        examples, lengths = rows.examples[every], rows.lengths[every]
        index = runs(rows.starts[0][every], lengths)
        words, offsets = rows.words[index], offsets_of(lengths)

        def made(number: int, low: int, high: int) -> ExampleBatch[NDArray[Any]]:
            start, stop = int(offsets[low]), int(offsets[high])
            some, picked = examples[low:high], index[start:stop]
            labels = {
                name: one.values[picked if one.axis == "row" else some]
                for name, one in self._labels.items()
            }
            own = offsets[low : high + 1] - start
            values = self._widths.room(stop - start)
            return ExampleBatch(number, some, own, words[start:stop], values, labels)

        makers: list[Callable[[], ExampleBatch[NDArray[Any]]]] = [
            partial(made, number, low, high)
            for number, (low, high) in zip(numbers, itertools.pairwise(ends), strict=True)
        ]
        return makers, plans

    def _group_bytes(self, n_rows: int, n_examples: int) -> int:
        """Return the bytes of a batch of a group: to plan it, and its own if all are read."""
        per_example = 64 + _COPY_BYTES * len(self._readers)
        planned = n_rows * _INDEX_BYTES + n_examples * per_example
        return planned if self._apart else planned + self._batch_bytes(n_rows, n_examples)

    def _batch_bytes(self, n_rows: int, n_examples: int) -> int:
        """Return the bytes of the values and labels of a batch."""
        per_row, per_example, fixed = self._costs
        return n_rows * per_row + n_examples * per_example + fixed

    def _costs_of_a_batch(self) -> tuple[int, int, int]:
        """Return the bytes of each row, of each example, and of each batch."""
        per_row = sum(row_bytes for *_, row_bytes in self._widths.arrays)
        per_example = 8
        for one in self._labels.values():
            size = one.values.nbytes // max(1, len(one.values))
            per_row += size * (one.axis == "row")
            per_example += size * (one.axis == "example")
        return per_row, per_example, ALIGNMENT * (len(self.spaces) + 1)

    def _plan(self, tables: int) -> MemoryPlan:
        lengths = np.sort(self._rows.lengths)[::-1]
        if self.counts == "examples":
            n_examples = min(self.batch, len(lengths))
            n_rows = int(lengths[:n_examples].sum())
        else:
            n_rows = min(max(self.batch, int(lengths[0])), int(lengths.sum()))
            n_examples = min(n_rows, len(lengths))
        spaces = list(self.spaces.values())
        batch = self._batch_bytes(n_rows, n_examples)
        width = sum(hidden for _, hidden, *_ in self._widths.arrays)
        cast = 0 if self.dtype is None else n_rows * width * self.dtype.itemsize
        epoch = self._group_bytes(int(lengths.sum()), len(lengths))
        self._largest = self._group_bytes(n_rows, n_examples)
        ahead = min(epoch, PLANNED_BYTES) if self._apart else epoch
        self._ahead = max(0, ahead - self._largest)
        kept = [self._rows.words, self._rows.examples, self._rows.lengths, *self._rows.starts]
        parts = {
            "tables of rows": sum(array.nbytes for array in kept) + held_bytes(spaces),
            "labels": sum(one.values.nbytes for one in self._labels.values()),
            "order of examples": _ORDER_BYTES * len(lengths),
            "reading": max(space.reading_bytes for space in spaces),
            "batch being planned": self._largest,
            "batch being read": batch * self._apart,
            "batch in use": 2 * cast or batch,
        }
        parts["tables while they are read"] = max(0, tables - sum(parts.values()))
        return MemoryPlan(parts, self._ahead + _file_bytes(spaces))


def _file_bytes(spaces: Iterable[Space]) -> int:
    """Return the bytes of the files of spaces that can be mapped."""
    return sum(space.file_bytes for space in spaces)


def _by_key(spaces: Sequence[Space]) -> dict[Key, Space]:
    """Return spaces by variant, site and layer."""
    if not len(spaces):
        raise InvalidInput("no space was given; give one or more")
    found: dict[Key, Space] = {}
    for space in spaces:
        key = space.variant, space.site, space.layer
        if key in found:
            raise InvalidInput(f"{name_of(space)} was given twice; give each space once")
        found[key] = space
    return found


def _float_dtype(dtype: str) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found.kind != "f":
        raise InvalidInput(
            f"dtype {dtype!r} is no float of numpy; give float16, float32 or float64"
        )
    return found
