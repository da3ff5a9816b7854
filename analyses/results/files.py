"""Results written to files of a person's own: CSV, JSON, Markdown or LaTeX by the suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from layerlake.analyses.results.destinations import check_place, write_whole

if TYPE_CHECKING:
    from layerlake.analyses.results.result import Result

WRITERS: Final[dict[str, Callable[[Result], str]]] = {
    ".csv": lambda result: result.to_csv(),
    ".json": lambda result: result.to_json() + "\n",
    ".md": lambda result: result.to_markdown(),
    ".tex": lambda result: result.to_latex(),
}
"""What writes a result, by the suffix of the file."""


def check_out(file: str | Path) -> Path:
    """Return the path of a file that can be written: a known suffix, a folder that is there.

    Raises
    ------
    InvalidInput
        The suffix is another one, or there is no such folder.
    """
    return check_place(file, tuple(WRITERS), what="the result", lacking="say how to write a result")


def write_result(result: Result, file: str | Path) -> None:
    """Write a result as its suffix says: a record a line, a JSON object, or the tables.

    Raises
    ------
    InvalidInput
        As `check_out`.
    StorageFailed
        The file cannot be written.
    """
    target = check_out(file)
    text = WRITERS[target.suffix.lower()](result)
    write_whole(target, text.encode(), what="the result")
