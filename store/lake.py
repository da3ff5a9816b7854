"""Opening a lake, and finding what it holds."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store import schema
from layerlake.store.amounts import parse_bytes
from layerlake.store.errors import (
    InvalidInput,
    LakeCorrupt,
    LakeReadOnly,
    NameConflict,
    NameNotFound,
    is_a,
)
from layerlake.store.location import Location
from layerlake.store.opening import create, place_of_lake
from layerlake.store.sets import SetState, read_state
from layerlake.store.sources import Source, sources_of
from layerlake.store.space import Space
from layerlake.store.stored_space import StoredSpace, incomplete
from layerlake.store.tables import (
    read_attributes,
    read_table,
    restore_table,
    table_paths,
    write_table,
)

if TYPE_CHECKING:
    import xarray as xr

    from layerlake.store.external.external_writer import ActivationWriter
    from layerlake.store.row_sets import RowSet


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
    location = place_of_lake(path, mode)
    return Lake(location, mode, verified=verified, direct=direct)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a half-sentence that helps with a name that is not there."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(names[:12])}" if names else "there are none"


def require_lake(lake: object) -> None:
    """Raise `InvalidInput` for anything that is no open lake."""
    if not is_a(lake, Lake):
        raise InvalidInput(f"a lake is needed, not {lake!r}; open one with open_lake")


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
        from layerlake.store.views.overview import counts_text

        return f"<Lake {self.location.name} mode={self.mode!r}: {counts_text(self)}>"

    def _repr_html_(self) -> str:
        from layerlake.store.views.overview import overview, overview_html

        return overview_html(overview(self))

    def summary(self) -> str:
        """Return what the lake holds as a text: for every corpus, its sets and their state."""
        from layerlake.store.views.overview import overview, overview_text

        return overview_text(overview(self))

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
        LakeCorrupt
            The path holds what is left of a table that may have been another.
        """
        self.require_writable()
        if not self.location.exists(schema.METADATA):
            create(self.location)
        if write_table(self.location, path, columns, attributes, dimensions):
            return True
        if not self.holds_table(path, str(attributes.get("fingerprint"))):
            restore_table(self.location, path, columns, attributes, dimensions)
        return False

    def restore_table(
        self, path: str, columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]
    ) -> bool:
        """Write a table again where it is damaged; False where every byte of it is sound.

        Raises
        ------
        LakeCorrupt
            What is left of the table does not show that this was its content.
        """
        self.require_writable()
        try:
            read_table(self.location, path)
        except (LakeCorrupt, NameNotFound):
            restore_table(self.location, path, columns, attributes)
            return True
        return False

    def holds_table(self, path: str, fingerprint: str) -> bool:
        """Say whether a table of that content lies at the path; False where nothing does.

        Raises
        ------
        NameConflict
            The path holds a table with another fingerprint.
        """
        if not self.location.exists(f"{path}/{schema.METADATA}"):
            return False
        kept = str(self.attributes(path).get("fingerprint"))
        if kept != fingerprint:
            raise NameConflict(
                f"{path} is taken by other content ({kept[:12]}, given {fingerprint[:12]}); choose "
                f"another name, or remove it with `layerlake rm {path}`"
            )
        return True

    def check_corpus(self, name: str) -> str:
        """Return `name` if there is such a corpus; raise `NameNotFound` otherwise."""
        known = self.corpora()
        if name not in known:
            raise NameNotFound(
                f"no corpus {name!r} in {self.location.name}; {nearest(name, known)}"
            )
        return name

    def check_path(self, path: str) -> str:
        """Return `path` if it names a node of the lake.

        Raises
        ------
        InvalidInput
            It would leave the lake.
        NameNotFound
            There is nothing; the sentence names what is near.
        """
        if not is_a(path, str):
            raise InvalidInput(
                f"{path!r} is no path inside a lake; give names as `layerlake ls` does"
            )
        parts = path.strip("/").split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise InvalidInput(
                f"{path!r} is no path inside a lake; give names as `layerlake ls` does"
            )
        clean = "/".join(parts)
        if not self.location.exists(f"{clean}/{schema.METADATA}"):
            parent = "/".join(parts[:-1])
            known = self.location.nodes(parent)
            raise NameNotFound(
                f"nothing called {clean} in {self.location.name}; {nearest(parts[-1], known)}"
            )
        return clean

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
        pooling: str | None = None,
        row_set: str | None = None,
        specials: bool = False,
        sealed: bool = False,
    ) -> Space:
        """Return one representation space, lazily.

        Where several sets hold it, sealed ones come first, then the one with most rows, then words
        pooled by their mean, then float32. Words and examples that no set was extracted as are
        pooled from stored pieces as they are read, in float32; a set of pieces serves where it
        holds all pieces of a word, or example, or none.

        Parameters
        ----------
        unit
            What a row is: `"piece"`, `"word"` or `"example"`; by default that of the sets there
            are.
        pooling
            How the pieces of a word became its row: `"mean"`, `"first"`, `"last"` or `"max"`; of an
            example `"mean"`, `"first"`, `"last"` or `"cls"`. By default as they were pooled, and
            by the mean where they are pooled now.
        row_set
            Fingerprint of a row set: only these rows.
        specials
            Whether special pieces are among those that make up an example, as in most sentence
            encoders.
        sealed
            Refuse sets that are not complete.

        Raises
        ------
        NameNotFound
            Unknown corpus, variant, site or layer; the sentence says what there is.
        InvalidInput
            No such unit or pooling, or the sets of pieces hold words, or examples, in part.
        SetIncomplete
            `sealed` was asked for and only incomplete sets are there.

        Examples
        --------
        >>> words = lake.space("ewt", "base", 8, unit="word", pooling="first")
        >>> sentences = lake.space("ewt", "base", 12, unit="example", specials=True)
        """
        self.check_corpus(corpus)
        if not is_a(variant, str):
            raise InvalidInput(f"{variant!r} names no variant; give one of those of `layerlake ls`")
        if specials and unit != "example":
            raise InvalidInput(
                f"specials are among the pieces of an example, and the unit is {unit!r}; leave them "
                "out, or give the unit example"
            )
        states = self.sets(corpus, variant)
        if not states:
            known = table_paths(self.location, f"activations/{corpus}")
            raise NameNotFound(
                f"no activations of variant {variant!r} over corpus {corpus!r}; "
                f"{nearest(variant, known)}"
            )
        name = f"{site}/{layer}"
        sources, refused = sources_of(
            self.location, states, unit, pooling, specials=specials, needed=[name]
        )
        sources = [s for s in sources if row_set in (None, s.row_set)]
        holding = [s for s in sources if name in s.arrays]
        if not holding:
            if refused:
                raise refused[0]
            present = sorted({a for s in sources for a in s.arrays}, key=_array_order)
            rows = f" with {unit} rows" if unit else ""
            rows += f" pooled by {pooling}" if pooling else ""
            if pooling and unit is None:
                rows += " (name the unit, word or example, to pool stored pieces)"
            raise NameNotFound(
                f"{variant} over {corpus} has no {site} layer {layer}{rows}; it has "
                f"{', '.join(present) or 'nothing of that kind'}"
            )
        best = max(holding, key=Source.preference)
        if sealed and not best.state.sealed:
            raise incomplete(best.state, np.flatnonzero(~best.state.committed))
        return best.open(self, site, layer)

    def space_of(self, state: SetState, site: str, layer: int) -> StoredSpace:
        """Return a space of one set as it was written; the set holds it."""
        return StoredSpace(self.location, state, site, layer, self.verified, self.direct)

    def writer(
        self,
        corpus: str,
        variant: str,
        *,
        ids: Iterable[str | int] | None = None,
        unit: str | None = None,
        row_set: str | RowSet | None = None,
        site: str | Sequence[str] = "resid",
        layers: int | Iterable[int] | None = None,
        arrays: Sequence[str] | None = None,
        pooling: str | None = None,
        store_dtype: str = "auto",
        codec: str = "none",
        window_rows: int = schema.WINDOW_ROWS,
        memory: int | str = "8GiB",
        source: Mapping[str, Any] | None = None,
    ) -> ActivationWriter:
        """Return a writer of activations that come from elsewhere, for a `with` block.

        `writer.append(site, layer, rows)` takes the next rows of an array; leaving the block
        without an error seals the set. Opened again in the same way after an error or a kill, it
        goes on: whole windows are kept, and `writer.position` is the first row that is not.

        Parameters
        ----------
        corpus
            A corpus of the lake; where there is none of that name, one of bare rows is made of
            `ids` (an example, one word long, for each).
        variant
            What the activations are of; no model of that name may be in the lake.
        ids
            (row,) ids of the examples, compared with those of the corpus: a row each, in its order;
            `range(n)` where they have none, but their order.
        unit
            Without ids, what the rows are, in corpus order: `example` or `word`.
        row_set
            Or a row set of the corpus, or the fingerprint (its beginning will do) of one in the
            lake.
        site, layers
            What will be appended: every layer of the site, or sites. By default what comes before
            the first window is full, `window_rows` rows of each array, which is enough where layers
            come in turn.
        pooling
            How the pieces of a word became its row, as with `extract`; of word rows only.
        store_dtype, codec
            `float16`, `float32`, or `auto`: float16 where nothing wider comes, else float32; `none`
            or `lz4`.
        window_rows
            Rows of a shard, a multiple of 1024: what is in memory for each array, and what an
            interruption loses of it.
        memory
            Bytes that the windows may take.
        source
            What is worth recording of where they come from, ready for JSON. A writer that goes on
            with a set must give the same.

        Raises
        ------
        InvalidInput, NameNotFound, NameConflict, LakeReadOnly
            As their names say, each in one sentence.
        """
        from layerlake.store.external.external_plan import (
            WriterSettings,
            check_pooling,
            named_arrays,
        )
        from layerlake.store.external.external_rows import external_rows
        from layerlake.store.external.external_writer import ActivationWriter
        from layerlake.store.storage import Storage

        self.require_writable()
        settings = WriterSettings(
            corpus,
            variant,
            named_arrays(site, layers, arrays),
            pooling,
            Storage(store_dtype, codec, window_rows),
            parse_bytes(memory),
            dict(source or {}),
        )
        rows = external_rows(self, corpus, ids, unit, row_set)
        check_pooling(rows.rows.unit, settings.pooling)
        return ActivationWriter(self, rows, settings)

    def to_xarray(
        self,
        corpus: str,
        variants: str | Iterable[str] | None = None,
        layers: int | Iterable[int] | None = None,
        site: str = "resid",
        *,
        unit: str | None = None,
        pooling: str | None = None,
        row_set: str | None = None,
        block_rows: int | None = None,
        words: bool = True,
        columns: Sequence[str] = (),
    ) -> xr.DataArray:
        """Return the spaces of several variants and layers as one lazy array.

        Parameters
        ----------
        variants
            By default all that have activations over the corpus.
        layers
            By default those that all of the variants have.
        site, unit, pooling, row_set
            As `space`.
        block_rows, words, columns
            As `Space.to_xarray`.

        Returns
        -------
        DataArray over (variant, layer, row, hidden); its rows are labelled as by
        `Space.to_xarray`.

        Raises
        ------
        NameNotFound, SetIncomplete
            As `space`.
        InvalidInput
            The spaces differ in rows or width.
        """
        from layerlake.store.views.lazy_arrays import stacked_array

        names, numbers = self._grid_of(corpus, variants, layers, site)
        choose = partial(
            self.space, corpus, site=site, unit=unit, pooling=pooling, row_set=row_set, sealed=True
        )
        spaces = {(name, number): choose(name, number) for name in names for number in numbers}
        return stacked_array(spaces, block_rows, words=words, columns=columns)

    def _grid_of(
        self,
        corpus: str,
        variants: str | Iterable[str] | None,
        layers: int | Iterable[int] | None,
        site: str,
    ) -> tuple[list[str], list[int]]:
        """Return variants and layers as given, or by default all variants and what they share."""
        states = self.sets(self.check_corpus(corpus))
        if variants is None:
            variants = sorted({state.plan.variant for state in states})
        names = [variants] if isinstance(variants, str) else list(variants)
        if layers is None:
            held = [
                {a for s in states if s.plan.variant == name for a in s.plan.arrays}
                for name in names
            ]
            shared = sorted(map(_array_order, set.intersection(*held))) if held else []
            layers = [layer for found, layer in shared if found == site]
        numbers = [layers] if isinstance(layers, int) else list(layers)
        if not names or not numbers:
            raise NameNotFound(
                f"no {site} layer over {corpus} is there for every variant; name variants and "
                "layers that are"
            )
        return names, numbers


def _array_order(name: str) -> tuple[str, int]:
    site, _, layer = name.rpartition("/")
    return site, int(layer)
