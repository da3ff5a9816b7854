"""Corpora: readers that turn files and lists of texts into a `Corpus`.

A reader a format (`text`, `jsonl`, `wikitext`, `conllu`), each from a path, plain or gzip, to a
`Corpus`; `read_corpus` picks the reader.
"""

from __future__ import annotations

from pathlib import Path

from layerlake.engine.corpora.conllu import read_conllu
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.corpora.files import check_file
from layerlake.engine.corpora.jsonl import read_jsonl
from layerlake.engine.corpora.text import read_text
from layerlake.engine.corpora.wikitext import read_wikitext
from layerlake.engine.progress import Progress, silent
from layerlake.store.errors import InvalidInput

__all__ = ["FORMATS", "Corpus", "corpus_from_texts", "guess_format", "read_corpus"]

FORMATS = ("text", "jsonl", "wikitext", "conllu")

_SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".conllu": "conllu",
}


def guess_format(path: str | Path) -> str:
    """Return the format that a file's name says, `.gz` set aside.

    Raises
    ------
    InvalidInput
        Where the name says none.
    """
    path = Path(path)
    plain = path.with_suffix("") if path.suffix == ".gz" else path
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
    progress: Progress = silent,
) -> Corpus:
    """Read a corpus from a file, plain or gzip, in UTF-8.

    Parameters
    ----------
    path
        The file.
    format
        `text`, `jsonl`, `wikitext` or `conllu`; guessed from the file's name where it is None.
    segment
        For wikitext: "sentence" or "paragraph".
    text_field, pair_field, words_field
        For jsonl: the fields with the text (or words) and the second text.
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
        if value is not None and kind != "jsonl":
            raise InvalidInput(f"{name} is for the format jsonl, and {path.name} is read as {kind}")
    if segment != "sentence" and kind != "wikitext":
        raise InvalidInput(f"segment is for the format wikitext, and {path.name} is read as {kind}")
    with progress(f"reading {path.name}", None, "lines") as stage:
        told = stage.advance
        if kind == "jsonl":
            return read_jsonl(path, licence=licence, on_lines=told, **fields)
        if kind == "wikitext":
            return read_wikitext(path, segment=segment, licence=licence, on_lines=told)
        if kind == "conllu":
            return read_conllu(path, licence=licence, on_lines=told)
        return read_text(path, licence=licence, on_lines=told)
