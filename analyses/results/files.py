"""Results written to files of a person's own: CSV or JSON by the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from layerlake.analyses.results.destinations import check_place, write_whole

if TYPE_CHECKING:
    from layerlake.analyses.results.result import Result

SUFFIXES: Final = (".csv", ".json")


def check_out(file: str | Path) -> Path:
    """Return the path of a file that can be written: a known suffix, a folder that is there.

    Raises
    ------
    InvalidInput
        The suffix is another one, or there is no such folder.
    """
    return check_place(file, SUFFIXES, what="the result", lacking="say how to write a result")


def write_result(result: Result, file: str | Path) -> None:
    """Write a result as CSV, a record a line, or as its JSON object.

    Raises
    ------
    InvalidInput
        As `check_out`.
    StorageFailed
        The file cannot be written.
    """
    target = check_out(file)
    text = result.to_csv() if target.suffix.lower() == ".csv" else result.to_json() + "\n"
    write_whole(target, text.encode(), what="the result")
