"""Parquet: a table in columns, read one group of rows after another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.files import file_digest
from layerlake.engine.corpora.records import (
    Record,
    check_fields,
    choose_fields,
    corpus_of_records,
)
from layerlake.engine.progress import Progress, silent
from layerlake.store.errors import InvalidInput, MissingExtra

_BATCH_ROWS = 1024


def read_parquet(
    path: Path,
    *,
    text_field: str | None = None,
    pair_field: str | None = None,
    words_field: str | None = None,
    licence: str | None = None,
    progress: Progress = silent,
) -> Corpus:
    """Read a Parquet file, of which a few rows are in memory at a time beside the corpus.

    Parameters
    ----------
    path, text_field, pair_field, words_field, licence
        As `read_jsonl`, with columns for fields.
    progress
        Told of the rows read.

    Returns
    -------
    Corpus
        As of `read_jsonl`; examples without ids are "row N", from 1.

    Raises
    ------
    InvalidInput
        Where the file is no Parquet file, or a text is missing, no text, or without words.
    MissingExtra
        Where pyarrow is not installed.
    """
    check_fields(text_field, words_field)
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(
            "reading Parquet needs pyarrow: pip install 'layerlake[data]'"
        ) from error

    def rows(file: Any, read: Any) -> Iterator[Record]:
        number = 0
        for batch in file.iter_batches(_BATCH_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield Record(f"row {number}", f"row {number} of {path.name}", values)
            read(batch.num_rows)

    try:
        with (
            parquet.ParquetFile(path) as file,
            progress(f"reading {path.name}", file.metadata.num_rows, "rows") as stage,
        ):
            records = rows(file, stage.advance)
            first = next(records, None)
            if first is None:
                raise InvalidInput(f"{path.name} holds no examples")
            fields = choose_fields(first, text_field, pair_field, words_field)
            source = {
                "format": "parquet",
                "file": path.name,
                "sha256": file_digest(path),
                "options": fields.options(),
            }
            every = itertools.chain([first], records)
            return corpus_of_records(every, fields, path.name, source, licence)
    except (arrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise InvalidInput(
            f"{path.name} cannot be read as Parquet ({reason}); copy it again, or name its format"
        ) from None
