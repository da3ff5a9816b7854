"""Corpora: readers that turn files and lists of texts into a `Corpus`.

A reader a format (see `FORMATS`), each from a path to a `Corpus`; `read_corpus` picks the reader.
"""

from __future__ import annotations

import re
from pathlib import Path

from layerlake.engine.corpora.conllu import read_conllu
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.delimited import read_delimited
from layerlake.engine.corpora.files import check_file
from layerlake.engine.corpora.jsonl import read_jsonl
from layerlake.engine.corpora.nli import read_nli
from layerlake.engine.corpora.parquet import read_parquet
from layerlake.engine.corpora.squad import read_squad
from layerlake.engine.corpora.text import read_text
from layerlake.engine.corpora.wikitext import read_wikitext
from layerlake.engine.progress import Progress, automatic
from layerlake.store.errors import InvalidInput

FORMATS = (
    "text",
    "jsonl",
    "tsv",
    "csv",
    "parquet",
    "wikitext",
    "conllu",
    "mnli",
    "snli",
    "squad",
)

WITH_FIELDS = ("jsonl", "tsv", "csv", "parquet")
"""Formats whose fields are named by the caller."""

_SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".tsv": "tsv",
    ".csv": "csv",
    ".parquet": "parquet",
    ".conllu": "conllu",
}
_SQUAD = re.compile(r"(train|dev)-v[12]\..*\.json|.*squad.*\.json", re.IGNORECASE)


def guess_format(path: str | Path) -> str:
    """Return the format that a file's name says, `.gz` set aside.

    A `.json` file says "squad" where it is called as SQuAD's are (`dev-v1.1.json`), or `squad`
    is in its name.

    Raises
    ------
    InvalidInput
        Where the name says none.
    """
    path = Path(path)
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if _SQUAD.fullmatch(plain.name):
        return "squad"
    try:
        return _SUFFIXES[plain.suffix.lower()]
    except KeyError:
        raise InvalidInput(
            f"the name {path.name} does not say its format; choose one of {', '.join(FORMATS)}"
        ) from None


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
        One of `FORMATS`; guessed from the file's name where it is None (`mnli`, `snli` and
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
    path = check_file(path)
    kind = guess_format(path) if format is None else format
    if kind not in FORMATS:
        raise InvalidInput(f"there is no format {kind!r}; choose one of {', '.join(FORMATS)}")
    fields = {"text_field": text_field, "pair_field": pair_field, "words_field": words_field}
    for name, value in fields.items():
        if value is not None and kind not in WITH_FIELDS:
            raise InvalidInput(
                f"{name} is for the formats {', '.join(WITH_FIELDS)}, and {path.name} is read as "
                f"{kind}"
            )
    if words_field is not None and kind in ("tsv", "csv"):
        raise InvalidInput(
            f"words_field is for lists of words, and {kind} holds none; name a text_field"
        )
    if segment != "sentence" and kind != "wikitext":
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
            return read_wikitext(path, segment=segment, licence=licence, on_lines=told)
        if kind == "conllu":
            return read_conllu(path, licence=licence, on_lines=told)
        return read_text(path, licence=licence, on_lines=told)
