"""WikiText: a paragraph a line, ` = Title = ` headings, ` @-@ ` where words were parted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from layerlake.engine.corpora.corpus import Corpus, corpus_of_texts, string_array
from layerlake.engine.corpora.files import file_digest, read_lines
from layerlake.engine.corpora.formats import SEGMENTS
from layerlake.store.errors import InvalidInput

_HEADING = re.compile(r"(=(?: =)*) (.+?) \1")
_PARTED = re.compile(r" @([-,.])@ ")
_SENTENCE_END = re.compile(r"(?<= [.?!]) ")


def read_wikitext(
    path: Path,
    *,
    segment: str = "sentence",
    licence: str | None = None,
    on_lines: Callable[[int], None] | None = None,
) -> Corpus:
    """Read a WikiText file; headings become columns, not examples.

    A heading is known by its form alone: the few formula lines of published WikiText that begin
    and end with ` = ` are taken for titles too, since nothing tells them apart.

    Parameters
    ----------
    path
        The file.
    segment
        "sentence": an example ends after the token `.`, `?` or `!`; "paragraph": an example a line.
    licence
        Kept with the corpus.

    Returns
    -------
    Corpus
        With the columns `article` (the last heading of level 1), `section` (the last heading below
        it, empty before the first) and `paragraph` (running number in the file, from 1).
    """
    if segment not in SEGMENTS:
        raise InvalidInput(f"segment is {segment!r}; choose one of {', '.join(SEGMENTS)}")
    texts: list[str] = []
    names: list[str] = []
    articles: list[str] = []
    sections: list[str] = []
    paragraphs: list[int] = []
    article = section = ""
    paragraph = 0
    for number, line in read_lines(path, on_lines):
        line = line.strip()
        heading = _HEADING.fullmatch(line)
        if heading:
            title = _PARTED.sub(r"\1", heading[2])
            article, section = (title, "") if heading[1] == "=" else (article, title)
        if heading or not line:
            continue
        paragraph += 1
        parts = [line] if segment == "paragraph" else _SENTENCE_END.split(line)
        for place, part in enumerate(parts, start=1):
            texts.append(_PARTED.sub(r"\1", part))
            names.append(f"line {number}" + (f" sentence {place}" if segment == "sentence" else ""))
        articles.extend([article] * len(parts))
        sections.extend([section] * len(parts))
        paragraphs.extend([paragraph] * len(parts))
    columns = {
        "id": string_array(names),
        "article": string_array(articles),
        "section": string_array(sections),
        "paragraph": np.array(paragraphs, np.int64),
    }
    source = {
        "format": "wikitext",
        "file": path.name,
        "sha256": file_digest(path),
        "options": {"segment": segment},
    }
    return corpus_of_texts(texts, None, columns, source, licence)
