"""Files of a person's own that results are written to, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from layerlake.store.errors import InvalidInput, StorageFailed


def check_place(file: str | Path, suffixes: Sequence[str], *, what: str, lacking: str) -> Path:
    """Return the path of a file that can be written: a known suffix, a folder that is there.

    Parameters
    ----------
    file
        As a person gave it.
    suffixes
        In lower case, with their dots.
    what
        What is written there.
    lacking
        What a name with another suffix does not do.

    Raises
    ------
    InvalidInput
        The suffix is another one, or there is no such folder.
    """
    target = Path(file)
    if target.suffix.lower() not in suffixes:
        listed = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise InvalidInput(
            f"{target.name or str(file)!r} does not {lacking}; give a name that ends in {listed}"
        )
    if not target.absolute().parent.is_dir():
        raise InvalidInput(
            f"there is no folder {target.parent} for {what} {target.name}; create it, or choose "
            "another place"
        )
    return target


def write_whole(target: Path, content: bytes, *, what: str) -> None:
    """Write all of a file that was made in memory.

    Raises
    ------
    StorageFailed
        It cannot be written.
    """
    try:
        target.write_bytes(content)
    except OSError as error:
        raise StorageFailed(
            f"{what} cannot be written to {target}: {error.strerror}; choose another place"
        ) from error
