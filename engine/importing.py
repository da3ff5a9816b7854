"""Importing: activations from files that other programs wrote, into a lake."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerlake.engine.activation_files import (
    ActivationFile,
    Numbering,
    file_identity,
    file_kind,
    open_npy,
    open_safetensors,
    read_numbering,
)
from layerlake.engine.catalogue import load_corpus
from layerlake.engine.corpora.files import check_file, read_lines
from layerlake.engine.progress import Progress, automatic
from layerlake.engine.rows.choose import choose_rows
from layerlake.engine.sentence_files import SentenceFile
from layerlake.store import schema
from layerlake.store.errors import InvalidInput, is_a
from layerlake.store.external.external_writer import ActivationWriter
from layerlake.store.lake import Lake, require_lake
from layerlake.store.row_sets import RowSet


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    path: str | None
    """Path of the set; None in a dry run that would begin one."""
    corpus: str
    variant: str
    n_rows: int
    hidden: int
    arrays: tuple[str, ...]
    """`<site>/<layer>`."""
    unit: str
    dtype: str
    """Stored dtype."""
    n_read: int
    """Rows of every array that this call read (0 where all was there, and in a dry run)."""
    n_bytes: int
    """Bytes of the set's activations, uncompressed."""
    seconds: float
    made_corpus: str | None
    """The corpus that was made of ids or of bare rows; None where it was there."""


def import_activations(
    lake: Lake,
    path: str | os.PathLike[str],
    corpus: str,
    variant: str,
    *,
    layers: str | int | Iterable[int] | None = None,
    first_layer: int | None = None,
    site: str = "resid",
    mapping: Mapping[str, str] | None = None,
    ids: str | os.PathLike[str] | Iterable[str | int] | None = None,
    unit: str | None = None,
    rows: str = "all",
    pooling: str | None = None,
    store_dtype: str = "auto",
    codec: str = "none",
    window_rows: int = schema.WINDOW_ROWS,
    memory: int | str = "8GiB",
    dry_run: bool = False,
    progress: Progress = automatic,
) -> ImportReport:
    """Copy activations from a file into a lake, as a variant over a corpus.

    The same call again resumes where it was stopped, or does nothing.

    Parameters
    ----------
    lake
        Opened for writing.
    path
        `.npy` of (rows, hidden) or (layers, rows, hidden); `.safetensors` of tensors (rows,
        hidden) whose names give the layer (`8`, `layer_8`, `resid.8`); or HDF5 of a dataset a
        sentence, (layers, tokens, hidden), as NeuroX and structural probes write it. Told by its
        first bytes. Pickles are never opened.
    corpus, variant
        Names in the lake. A corpus that is not there is made of `ids`, or, where there are none, of
        the rows of the file by their numbers; other files of as many rows can then follow.
    layers, first_layer
        Layer 0 is the embedding output here, l the output of block l. `first_layer` says which
        of these the file counts as 0: 0, or 1 where it has no embedding output; then `layers`
        (`0,8`, `0-4`, numbers) are those to take. Without it `layers` names the layer of each in
        the file, in order; of a file of one layer, that one.
    site
        Where in a block the activations were taken.
    mapping
        For `.safetensors`: name of a tensor -> `SITE/LAYER`, or `LAYER`; nothing else is taken.
    ids
        (row,) ids of the examples that the rows are of, or a file with one a line: compared with
        those of the corpus.
    unit, rows
        Without ids, what the rows are: `word` or `example` of a corpus that is there, all of them
        in corpus order or those that `choose_rows` gives for `rows`. Of HDF5 files, which hold all
        words, `rows` are those to keep.
    pooling
        How a word's pieces became its row: `mean`, `first`, `last` or `max` (NeuroX: `last`,
        unless it was told otherwise). Needed for word rows.
    store_dtype, codec, window_rows, memory
        As `Lake.writer`.
    dry_run
        Check the file against the corpus, say what would be copied, and write nothing.
    progress
        Told of the rows copied, all layers counted.

    Raises
    ------
    InvalidInput, NameNotFound, NameConflict, MissingExtra, LakeBusy, StorageFailed, MemoryRefused
        As their names say, each in one sentence.
    """
    require_lake(lake)
    if not is_a(path, str, os.PathLike):
        raise InvalidInput(f"{path!r} is no file; give the path of one")
    if not isinstance(lake, Lake):
        raise InvalidInput(f"a lake is needed, not {lake!r}; open one with open_lake")
    began = time.perf_counter()
    place = check_file(os.fspath(path))
    schema.check_name(corpus, "corpus")
    schema.check_name(variant, "variant")
    schema.check_name(site, "site")
    numbering = read_numbering(layers, first_layer)
    kind = file_kind(place)
    if mapping and kind != "safetensors":
        raise InvalidInput(f"--map is for tensors with names, and {place.name} has none")
    with ExitStack() as resources:
        chosen: RowSet | None = None
        file: ActivationFile
        if kind == "hdf5":
            if ids is not None or unit not in (None, "word"):
                raise InvalidInput(
                    f"{place.name} holds the words of sentences; import it with the unit word and "
                    "without ids"
                )
            content = load_corpus(lake, corpus)
            chosen = choose_rows(content, None, rows, "word", progress=progress)
            file = SentenceFile(place, content, chosen.row_id, site, numbering, progress)
            resources.callback(file.close)
        else:
            file = _open_matrices(kind, place, site, numbering, mapping or {})
            if rows != "all":
                if unit is None or ids is not None:
                    raise InvalidInput("rows need a unit (word or example), and no ids")
                chosen = choose_rows(load_corpus(lake, corpus), None, rows, unit, progress=progress)
            elif ids is None and unit is None and corpus not in lake.corpora():
                ids = range(file.n_rows)  # nothing says what they are but their order
        made = None if corpus in lake.corpora() else corpus
        writer = lake.writer(
            corpus,
            variant,
            ids=_read_ids(ids),
            unit=unit if chosen is None else None,
            row_set=chosen,
            arrays=file.arrays,
            pooling=pooling,
            store_dtype=_store_dtype(store_dtype, file.dtype),
            codec=codec,
            window_rows=window_rows,
            memory=memory,
            source=file_identity(place),
        )
        if file.n_rows != writer.n_rows:
            raise InvalidInput(
                f"{place.name} has {file.n_rows} rows, and there are {writer.n_rows} "
                f"{writer.rows.rows.unit}s of {corpus} to import them for "
                f"({writer.rows.rows.settings['rows']}); give as many, or name another corpus"
            )
        n_read = 0 if dry_run else _copy(file, writer, progress)
        stored = np.dtype(writer.settings.storage.store_dtype)
        return ImportReport(
            writer.path,
            corpus,
            variant,
            file.n_rows,
            file.hidden,
            file.arrays,
            writer.rows.rows.unit,
            stored.name,
            n_read,
            file.n_rows * file.hidden * stored.itemsize * len(file.arrays),
            time.perf_counter() - began,
            made,
        )


def _open_matrices(
    kind: str, path: Path, site: str, numbering: Numbering, mapping: Mapping[str, str]
) -> ActivationFile:
    if kind == "npy":
        return open_npy(path, site, numbering)
    return open_safetensors(path, site, numbering, mapping)


def _store_dtype(asked: str, found: np.dtype[Any]) -> str:
    """Return the stored dtype that `auto` means: float16 for half precision, float32 for more."""
    if asked != "auto":
        return asked
    return "float16" if found.itemsize <= 2 else "float32"


def _read_ids(ids: Any) -> Any:
    """Return ids, read from a file where one is named."""
    if not is_a(ids, str, os.PathLike):
        return ids
    path = check_file(os.fspath(ids))
    return [line for _, line in read_lines(path) if line]


def _copy(file: ActivationFile, writer: ActivationWriter, progress: Progress) -> int:
    """Copy what is not kept yet; return how many rows of each array."""
    with writer:
        begin = writer.position
        if begin == file.n_rows:
            return 0
        names = [name.rpartition("/") for name in file.arrays]
        total = (file.n_rows - begin) * len(names)
        fresh = set(range(len(names)))
        with progress(f"importing {writer.settings.variant}", total, "rows") as stage:
            for number, start, block in file.blocks(begin, writer.settings.storage.window_rows):
                site, _, layer = names[number]
                writer.append(site, int(layer), block, start=start if number in fresh else None)
                fresh.discard(number)
                stage.advance(len(block))
    return file.n_rows - begin
