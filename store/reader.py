"""Opening a lake and reading spaces from it: blocks, scattered rows, verified or not."""

from __future__ import annotations

import difflib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store import schema
from layerlake.store.errors import (
    FormatTooNew,
    InvalidInput,
    LakeCorrupt,
    LakeNotFound,
    LakeReadOnly,
    NameConflict,
    NameNotFound,
    NotALake,
    SetIncomplete,
)
from layerlake.store.location import LocalLocation, Location, locate
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetState, read_state
from layerlake.store.shards import Shard, ShardSource
from layerlake.store.tables import (
    read_attributes,
    read_table,
    sealed_group,
    table_paths,
    write_table,
)

BLOCK_ROWS = 4096


def _check_format(location: Location) -> None:
    try:
        document = json.loads(location.read(schema.METADATA))
        attributes = document["attributes"]
        version = attributes["format_version"] if attributes["format"] == schema.FORMAT else None
    except KeyError:
        version = None
    except (ValueError, TypeError) as error:
        raise NotALake(f"{location.name} is no lake: its {schema.METADATA} is damaged") from error
    if not isinstance(version, int):
        raise NotALake(
            f"{location.name} is no lake; name one with --lake, or an empty folder to begin one"
        )
    if version > schema.FORMAT_VERSION:
        raise FormatTooNew(
            f"{location.name} has format version {version}, this LayerLake reads up to "
            f"{schema.FORMAT_VERSION}; install a newer one"
        )


def _create(location: Location) -> None:
    if isinstance(location, LocalLocation):
        try:
            location.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LakeReadOnly(
                f"cannot create a lake at {location.name}: {error.strerror}"
            ) from error
    empty = schema.dump_json(schema.group_document({}))
    location.put(
        f"{schema.STAGING}/{schema.METADATA}", [schema.dump_json(schema.staging_document())]
    )
    for section in schema.SECTIONS:
        location.put(f"{section}/{schema.METADATA}", [empty])
    attributes = {"format": schema.FORMAT, "format_version": schema.FORMAT_VERSION}
    location.put(schema.METADATA, [sealed_group(attributes)])


def open_lake(
    path: str | os.PathLike[str] | None = None,
    mode: str = "r",
    *,
    verified: bool = False,
    direct: bool = True,
) -> Lake:
    """Open a lake.

    Parameters
    ----------
    path
        Folder or `memory://NAME`; by default `$LAYERLAKE`, else `./lake`.
    mode
        `"r"` to read, `"r+"` to read and write, `"a"` likewise where an absent lake is
        created by the first table that is written.
    verified
        Compare every chunk that is read with its checksum.
    direct
        Read local shards directly; otherwise through zarr-python. The bits are the same.

    Raises
    ------
    LakeNotFound, NotALake, FormatTooNew, LakeReadOnly
        As their names say.
    """
    if mode not in ("r", "r+", "a"):
        raise InvalidInput(f"mode {mode!r} is not 'r', 'r+' (an existing lake) or 'a' (any)")
    chosen = path if path is not None else os.environ.get("LAYERLAKE", "lake")
    location = locate(chosen, write=mode != "r")
    if location.exists(schema.METADATA):
        _check_format(location)
        root = location.local_path("")
        if mode != "r" and root is not None and not os.access(root, os.W_OK):
            raise LakeReadOnly(f"{location.name} cannot be written to: permission denied")
        return Lake(location, mode, verified=verified, direct=direct)
    if isinstance(location, LocalLocation):
        root = location.root
        if root.exists() and not root.is_dir():
            raise NotALake(f"{root} is a file; a lake is a folder")
        # An interrupted creation has staging and sections only: it is taken up again.
        known = {schema.STAGING, *schema.SECTIONS}
        if root.is_dir() and {entry.name for entry in root.iterdir()} - known:
            raise NotALake(
                f"{root} is a folder, but no lake; name a lake with --lake, or an empty folder"
            )
    if mode != "a":
        raise LakeNotFound(
            f"no lake at {location.name}; name one with --lake or $LAYERLAKE, or begin one with "
            "`layerlake extract MODEL SOURCE`"
        )
    return Lake(location, mode, verified=verified, direct=direct)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a half-sentence that helps with a name that is not there."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(names[:12])}" if names else "there are none"


class Lake:
    """An open lake: its corpora, variants, sets and spaces.

    Made by `open_lake`.
    """

    def __init__(
        self, location: Location, mode: str, *, verified: bool = False, direct: bool = True
    ) -> None:
        self.location = location
        self.mode = mode
        self.verified = verified
        self.direct = direct

    def __repr__(self) -> str:
        return f"<Lake {self.location.name} mode={self.mode!r}>"

    def require_writable(self) -> None:
        """Raise `LakeReadOnly` unless the lake was opened for writing."""
        if self.mode == "r":
            raise LakeReadOnly(f"{self.location.name} was opened for reading; open it with 'a'")

    def corpora(self) -> list[str]:
        """Return the names of the corpora."""
        return table_paths(self.location, "corpora")

    def variants(self) -> list[str]:
        """Return the names of the variants."""
        return table_paths(self.location, "variants")

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of any group of the lake."""
        return read_attributes(self.location, path)

    def table(
        self, path: str, *, names: list[str] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the columns (all, or those named) and attributes of a table."""
        return read_table(self.location, path, names=names)

    def add_table(
        self,
        path: str,
        columns: Mapping[str, NDArray[Any]],
        attributes: Mapping[str, Any],
        *,
        dimensions: Mapping[str, tuple[str, ...]] | None = None,
    ) -> bool:
        """Publish a table; True if it is new, False if the same one is there already.

        Raises
        ------
        NameConflict
            The path holds a table with another fingerprint.
        """
        self.require_writable()
        if not self.location.exists(schema.METADATA):
            _create(self.location)
        if write_table(self.location, path, columns, attributes, dimensions):
            return True
        kept = self.attributes(path).get("fingerprint")
        if kept != attributes.get("fingerprint"):
            raise NameConflict(
                f"{path} is taken by other content ({str(kept)[:12]}, given "
                f"{str(attributes.get('fingerprint'))[:12]}); choose another name, or remove it "
                f"with `layerlake rm {path}`"
            )
        return False

    def check_corpus(self, name: str) -> str:
        """Return `name` if there is such a corpus; raise `NameNotFound` otherwise."""
        known = self.corpora()
        if name not in known:
            raise NameNotFound(
                f"no corpus {name!r} in {self.location.name}; {nearest(name, known)}"
            )
        return name

    def set_paths(self, corpus: str | None = None, variant: str | None = None) -> list[str]:
        """Return the paths of the sets, removed ones left out."""
        paths = []
        for c in [corpus] if corpus else table_paths(self.location, "activations"):
            for v in [variant] if variant else table_paths(self.location, f"activations/{c}"):
                parent = f"activations/{c}/{v}"
                paths += [f"{parent}/{s}" for s in table_paths(self.location, parent)]
        return paths

    def sets(self, corpus: str | None = None, variant: str | None = None) -> list[SetState]:
        """Return the sets, as they lie in the lake now."""
        states = [read_state(self.location, path) for path in self.set_paths(corpus, variant)]
        return [state for state in states if not state.tombstone]

    def space(
        self,
        corpus: str,
        variant: str,
        layer: int,
        site: str = "resid",
        *,
        unit: str | None = None,
        row_set: str | None = None,
        sealed: bool = False,
    ) -> Space:
        """Return one representation space, lazily.

        Where several sets hold it, sealed ones come first, then the one with most rows.

        Parameters
        ----------
        unit
            `"piece"` or `"word"`: only sets with such rows.
        row_set
            Fingerprint of a row set: only sets with these rows.
        sealed
            Refuse sets that are not complete.

        Raises
        ------
        NameNotFound
            Unknown corpus, variant, site or layer; the sentence says what there is.
        SetIncomplete
            `sealed` was asked for and only incomplete sets are there.
        """
        self.check_corpus(corpus)
        states = self.sets(corpus, variant)
        if not states:
            known = table_paths(self.location, f"activations/{corpus}")
            raise NameNotFound(
                f"no activations of variant {variant!r} over corpus {corpus!r}; "
                f"{nearest(variant, known)}"
            )
        states = [s for s in states if unit in (None, s.plan.contents.get("unit"))]
        states = [s for s in states if row_set in (None, s.plan.contents.get("row_set"))]
        name = f"{site}/{layer}"
        holding = [s for s in states if name in s.plan.arrays]
        if not holding:
            present = sorted({a for s in states for a in s.plan.arrays}, key=_array_order)
            rows = f" with {unit} rows" if unit else ""
            raise NameNotFound(
                f"{variant} over {corpus} has no {site} layer {layer}{rows}; it has "
                f"{', '.join(present) or 'nothing of that kind'}"
            )
        best = max(holding, key=lambda s: (s.sealed, s.plan.layout.n_rows, s.plan.set_id))
        if sealed and not best.sealed:
            raise _incomplete(best, np.flatnonzero(~best.committed))
        return Space(self.location, best, site, layer, self.verified, self.direct)


def _array_order(name: str) -> tuple[str, int]:
    site, _, layer = name.rpartition("/")
    return site, int(layer)


def _incomplete(state: SetState, windows: NDArray[np.int64]) -> SetIncomplete:
    layout = state.plan.layout
    first = layout.window(int(windows[0]))
    return SetIncomplete(
        f"{state.plan.path} is incomplete: {int((~state.committed).sum())} of {layout.n_windows} "
        f"windows are not committed, among them window {windows[0]} (rows {first[0]} to {first[1] - 1}); run "
        "the extraction again, it resumes"
    )


@dataclass(frozen=True)
class Space:
    """One representation space: a lazy matrix of shape (rows, hidden).

    Rows are read from committed windows only; asking for others raises `SetIncomplete`.
    """

    location: Location = field(repr=False)
    state: SetState = field(repr=False)
    site: str
    layer: int
    verified: bool = False
    direct: bool = True
    _shards: dict[int, Shard] = field(default_factory=dict, repr=False, compare=False)

    @property
    def corpus(self) -> str:
        """Name of the corpus."""
        return self.state.plan.corpus

    @property
    def variant(self) -> str:
        """Name of the variant."""
        return self.state.plan.variant

    @property
    def path(self) -> str:
        """Path of the array in the lake."""
        return f"{self.state.plan.path}/{self.site}/{self.layer}"

    @property
    def layout(self) -> ActivationLayout:
        """Shapes on disk."""
        return self.state.plan.layout

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, hidden)."""
        return self.layout.n_rows, self.layout.hidden

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype, which is also the dtype of what is read."""
        return np.dtype(self.layout.dtype)

    @property
    def _number(self) -> int:
        return self.state.plan.arrays.index(f"{self.site}/{self.layer}")

    def _shard(self, window: int) -> Shard:
        if window not in self._shards:
            key = f"{self.path}/{schema.shard_key(window)}"
            path = self.location.local_path(key)
            try:
                content: Path | bytes = path if path is not None else self.location.read(key)
                source = ShardSource(content, key)
            except (KeyError, FileNotFoundError):
                raise LakeCorrupt(
                    f"{key} is missing though its window is committed; `layerlake verify "
                    f"--repair {self.state.plan.path}` reopens the set"
                ) from None
            self._shards[window] = Shard(self.layout, source, self.layout.chunks_in(window))
        return self._shards[window]

    def _require_committed(self, windows: NDArray[np.int64]) -> None:
        missing = windows[~self.state.committed[windows]]
        if len(missing):
            raise _incomplete(self.state, missing)

    def _chunk(self, window: int, chunk: int) -> NDArray[Any]:
        shard = self._shard(window)
        if self.verified:
            commit = int(self.state.commits[window, self._number, chunk])
            return shard.decode(shard.verified(chunk, commit))
        return shard.decode(shard.encoded(chunk))

    def _range(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read rows [start, stop) into `out`."""
        layout = self.layout
        plain = layout.codec == "none" and not self.verified
        done = start
        while done < stop:
            window, within = divmod(done, layout.window_rows)
            if plain:
                count = min(stop - done, layout.window_rows - within)
                row_bytes = layout.hidden * self.dtype.itemsize
                target = out[done - start : done - start + count].reshape(-1).view(np.uint8)
                self._shard(window).source.fetch(within * row_bytes, count * row_bytes, target)
            else:
                chunk, offset = divmod(within, layout.chunk_rows)
                count = min(stop - done, layout.chunk_rows - offset)
                rows = self._chunk(window, chunk)
                out[done - start : done - start + count] = rows[offset : offset + count]
            done += count

    def _scattered(self, index: NDArray[np.int64], out: NDArray[Any]) -> None:
        layout = self.layout
        plain = layout.codec == "none" and not self.verified
        step = layout.window_rows if plain else layout.chunk_rows
        groups = index // step
        bounds = np.flatnonzero(np.diff(groups)) + 1
        edges = [0, *bounds.tolist(), len(index)]
        for low, high in itertools.pairwise(edges):
            group = int(groups[low])
            local = index[low:high] - group * step
            if plain:
                shard = self._shard(group)
                size = layout.chunks_in(group) * layout.chunk_bytes
                rows = shard.source.mapped()[:size].view(self.dtype).reshape(-1, layout.hidden)
                np.take(rows, local, axis=0, out=out[low:high])
            else:
                rows = self._chunk(*divmod(group, layout.chunks_per_window))
                out[low:high] = rows[local]

    def rows(self, index: Any) -> NDArray[Any]:
        """Return the rows of an index, in its order.

        Parameters
        ----------
        index
            Integers in [0, rows), shape (n,).

        Returns
        -------
        numpy array of shape (n, hidden), stored dtype.

        Raises
        ------
        IndexError
            A row that the space does not have.
        SetIncomplete, LakeCorrupt, StorageFailed
            Rows not committed; damage; the storage failed.
        """
        wanted = np.asarray(index, dtype=np.int64)
        if not len(wanted):
            return np.empty((0, self.layout.hidden), self.dtype)
        if wanted.min() < 0 or wanted.max() >= self.layout.n_rows:
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} asked of {self.shape[0]} rows")
        self._require_committed(np.unique(wanted // self.layout.window_rows))
        if not self.direct:
            return self._through_zarr(wanted)
        out = np.empty((len(wanted), self.layout.hidden), self.dtype)
        ascending = bool((np.diff(wanted) > 0).all())
        if ascending and wanted[-1] - wanted[0] + 1 == len(wanted):
            self._range(int(wanted[0]), int(wanted[-1]) + 1, out)
        elif ascending:
            self._scattered(wanted, out)
        else:
            order = np.argsort(wanted, kind="stable")
            sorted_rows = np.empty_like(out)
            self._scattered(wanted[order], sorted_rows)
            out[order] = sorted_rows
        return out

    def _through_zarr(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        import zarr

        if self.verified:
            step = self.layout.chunk_rows
            for group in np.unique(wanted // step).tolist():
                self._chunk(*divmod(group, self.layout.chunks_per_window))
        array = zarr.open_array(self.location.zarr_store(), path=self.path, mode="r")
        low, high = int(wanted.min()), int(wanted.max()) + 1
        if high - low == len(wanted) and bool((np.diff(wanted) == 1).all()):
            return np.asarray(array[low:high])
        return np.asarray(array.oindex[wanted])

    def blocks(
        self, start: int = 0, stop: int | None = None, *, block_rows: int = BLOCK_ROWS
    ) -> Iterator[NDArray[Any]]:
        """Yield consecutive rows in arrays of at most `block_rows` rows."""
        end = self.layout.n_rows if stop is None else stop
        for low in range(start, end, block_rows):
            yield self.rows(np.arange(low, min(low + block_rows, end)))
