"""Plain text: an example a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from layerlake.engine.corpora.corpus import Corpus, corpus_of_texts, string_array
from layerlake.engine.corpora.files import file_digest, read_lines


def read_text(
    path: Path, *, licence: str | None = None, on_lines: Callable[[int], None] | None = None
) -> Corpus:
    """Read a file of one example a line; blank lines are skipped and counted.

    An example is the line as it is, spaces at its ends included; its id is "line N".
    """
    texts: list[str] = []
    names: list[str] = []
    blank = 0
    for number, line in read_lines(path, on_lines):
        if not line.strip():
            blank += 1
            continue
        texts.append(line)
        names.append(f"line {number}")
    source = {
        "format": "text",
        "file": path.name,
        "sha256": file_digest(path),
        "options": {},
        "blank_lines": blank,
    }
    return corpus_of_texts(texts, None, {"id": string_array(names)}, source, licence)
