"""Corpora: readers that turn files and lists of texts into a `Corpus`.

A reader a format (see `formats.FORMATS`), each from a path to a `Corpus`; `read_corpus` picks the reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from layerlake.engine.corpora.conllu import read_conllu
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.delimited import read_delimited
from layerlake.engine.corpora.files import check_file
from layerlake.engine.corpora.formats import FORMATS, WITH_FIELDS, guess_format
from layerlake.engine.corpora.jsonl import read_jsonl
from layerlake.engine.corpora.nli import read_nli
from layerlake.engine.corpora.parquet import read_parquet
from layerlake.engine.corpora.squad import read_squad
from layerlake.engine.corpora.text import read_text
from layerlake.engine.corpora.wikitext import read_wikitext
from layerlake.engine.progress import Progress, automatic
from layerlake.store.errors import InvalidInput


@dataclass(frozen=True)
class Reading:
    """How a source of examples is read."""

    format: str | None = None
    """One of `FORMATS`; None for what the name of the file says, or, in memory, for plain fields."""
    segment: str = "sentence"
    """Of wikitext: one of `SEGMENTS`."""
    text_field: str | None = None
    """Field of the text, where fields are named by the caller."""
    pair_field: str | None = None
    """Field of the second text."""
    words_field: str | None = None
    """Field of a list of words, in place of a text."""

    @property
    def fields(self) -> dict[str, str | None]:
        """The fields by the names of their options."""
        return {
            "text_field": self.text_field,
            "pair_field": self.pair_field,
            "words_field": self.words_field,
        }


def read_corpus(
    path: str | Path,
    format: str | None = None,
    *,
    segment: str = "sentence",
    text_field: str | None = None,
    pair_field: str | None = None,
    words_field: str | None = None,
    licence: str | None = None,
    progress: Progress = automatic,
) -> Corpus:
    """Read a corpus from a file: text in UTF-8, plain or gzip, or Parquet.

    Parameters
    ----------
    path
        The file.
    format
        One of `formats.FORMATS`; guessed from the file's name where it is None (`mnli`, `snli` and
        `wikitext` are always named).
    segment
        For wikitext: "sentence" or "paragraph".
    text_field, pair_field, words_field
        For jsonl, tsv, csv and parquet: the fields with the text (or the list of words, which tsv
        and csv cannot hold) and the second text.
    licence
        Kept with the corpus.
    progress
        Told of the lines read; see `engine.progress`.

    Raises
    ------
    InvalidInput
        Where the file cannot be read as that format, holds nothing, or an option belongs to
        another format.
    """
    reading = Reading(format, segment, text_field, pair_field, words_field)
    return read_file(path, reading, licence=licence, progress=progress)


def read_file(
    path: str | Path, reading: Reading, *, licence: str | None, progress: Progress
) -> Corpus:
    """Read a corpus from a file; see `read_corpus`."""
    path = check_file(path)
    kind = guess_format(path) if reading.format is None else reading.format
    if kind not in FORMATS:
        raise InvalidInput(f"there is no format {kind!r}; choose one of {', '.join(FORMATS)}")
    fields = reading.fields
    for name, value in fields.items():
        if value is not None and kind not in WITH_FIELDS:
            raise InvalidInput(
                f"{name} is for the formats {', '.join(WITH_FIELDS)}, and {path.name} is read as "
                f"{kind}"
            )
    if reading.words_field is not None and kind in ("tsv", "csv"):
        raise InvalidInput(
            f"words_field is for lists of words, and {kind} holds none; name a text_field"
        )
    if reading.segment != "sentence" and kind != "wikitext":
        raise InvalidInput(f"segment is for the format wikitext, and {path.name} is read as {kind}")
    if kind == "parquet":
        return read_parquet(path, licence=licence, progress=progress, **fields)
    with progress(f"reading {path.name}", None, "lines") as stage:
        told = stage.advance
        if kind == "jsonl":
            return read_jsonl(path, licence=licence, on_lines=told, **fields)
        if kind in ("tsv", "csv"):
            del fields["words_field"]
            return read_delimited(path, kind, licence=licence, on_lines=told, **fields)
        if kind in ("mnli", "snli"):
            return read_nli(path, kind, licence=licence, on_lines=told)
        if kind == "squad":
            return read_squad(path, licence=licence, on_lines=told)
        if kind == "wikitext":
            return read_wikitext(path, segment=reading.segment, licence=licence, on_lines=told)
        if kind == "conllu":
            return read_conllu(path, licence=licence, on_lines=told)
        return read_text(path, licence=licence, on_lines=told)
