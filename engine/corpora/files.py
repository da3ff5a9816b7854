"""Files as lines of text: plain or gzip, UTF-8, with the line number in every complaint."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from layerlake.store.errors import InvalidInput

LINES_TOLD = 1000
"""Lines from one word of progress to the next."""

_GZIP_MAGIC = b"\x1f\x8b"


def check_file(path: str | Path) -> Path:
    """Return the path of a file that can be read; raise InvalidInput otherwise."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InvalidInput(f"{path} is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path} is no regular file; give one that can be read twice")
        if not path.is_file():
            raise InvalidInput(f"there is no file {path}; check the path")
        with path.open("rb"):
            return path
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path} cannot be opened: {_reason(error)}") from None


def file_digest(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes as they lie on the disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(
    path: Path, on_lines: Callable[[int], None] | None = None
) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of a plain or gzip file in UTF-8.

    Lines end at a newline; a carriage return before it and a byte order mark are left out.
    `on_lines` is told how many lines have been read since it was told last.

    Raises
    ------
    InvalidInput
        Where gzip data is cut short or damaged, or bytes are not UTF-8 (the line is named).
    """
    number = 0
    with _open(path) as file:
        try:
            for number, raw in enumerate(file, start=1):
                yield number, _decode(raw, number, path)
                if on_lines is not None and number % LINES_TOLD == 0:
                    on_lines(LINES_TOLD)
            if on_lines is not None:
                on_lines(number % LINES_TOLD)
        except EOFError:
            raise InvalidInput(
                f"{path.name} ends in the middle of its gzip data (after line {number}); "
                "copy or download it again"
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InvalidInput(
                f"the gzip data of {path.name} is damaged after line {number} "
                f"({_reason(error)}); copy or download it again"
            ) from None
        except OSError as error:
            raise InvalidInput(
                f"{path.name} cannot be read after line {number}: {_reason(error)}"
            ) from None


def _open(path: Path) -> BinaryIO:
    """Open a file for reading bytes, unpacked if its first bytes say gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    if packed:
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.suffix.lower() == ".gz":
        raise InvalidInput(f"{path.name} is called .gz, but it does not begin like gzip data")
    return path.open("rb")


def _decode(raw: bytes, number: int, path: Path) -> str:
    """Return one line as text."""
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"line {number} of {path.name} is not UTF-8 (byte 0x{raw[error.start]:02x} at place "
            f"{error.start + 1}); convert the file to UTF-8"
        ) from None
    return text.removeprefix("\ufeff") if number == 1 else text


def _reason(error: Exception) -> str:
    """Return what the system said, without numbers and paths."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
