"""Formats of corpora: their names, and what the name of a file says.

This imports nothing that takes long, so that a command line can name them.
"""

from __future__ import annotations

import re
from pathlib import Path

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

SEGMENTS = ("sentence", "paragraph")
"""What an example of wikitext can be."""

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
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if _SQUAD.fullmatch(plain.name):
        return "squad"
    try:
        return _SUFFIXES[plain.suffix.lower()]
    except KeyError:
        raise InvalidInput(
            f"the name {path.name} does not say its format; choose one of {', '.join(FORMATS)}"
        ) from None
