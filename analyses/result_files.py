"""Results written to files of a person's own: CSV or JSON by the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from layerlake.store.errors import InvalidInput, StorageFailed

if TYPE_CHECKING:
    from layerlake.analyses.recorded import Recorded

SUFFIXES: Final = (".csv", ".json")


def check_out(file: str | Path) -> Path:
    """Return the path of a file that can be written: a known suffix, a folder that is there.

    Raises
    ------
    InvalidInput
        The suffix is another one, or there is no such folder.
    """
    target = Path(file)
    if target.suffix.lower() not in SUFFIXES:
        raise InvalidInput(
            f"{target.name!r} does not say how to write a result; give a name that ends in "
            f"{' or '.join(SUFFIXES)}"
        )
    if not target.absolute().parent.is_dir():
        raise InvalidInput(
            f"there is no folder {target.parent} for {target.name}; create it, or choose another "
            "place"
        )
    return target


def write_result(result: Recorded, file: str | Path) -> None:
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
    try:
        target.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise StorageFailed(
            f"the result cannot be written to {target}: {error.strerror}; choose another place"
        ) from error
