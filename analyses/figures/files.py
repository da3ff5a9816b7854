"""Where a figure is written, checked before anything is drawn. Needs no matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

from layerlake.store.errors import InvalidInput, StorageFailed

SUFFIXES: Final = (".png", ".svg", ".pdf")
DOTS_PER_INCH: Final = 200


def check_figure(file: str | Path) -> Path:
    """Return the path of a figure that can be written: a known suffix, a folder that is there.

    Raises
    ------
    InvalidInput
        The suffix is another one, or there is no such folder.
    """
    target = Path(file)
    if target.suffix.lower() not in SUFFIXES:
        raise InvalidInput(
            f"{target.name!r} does not name a figure; give a name that ends in "
            f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        )
    if not target.absolute().parent.is_dir():
        raise InvalidInput(
            f"there is no folder {target.parent} for the figure {target.name}; create it, or "
            "choose another place"
        )
    return target


def write_figure(figure: Any, target: Path) -> None:
    """Write a figure as its suffix says, whole or not at all.

    Raises
    ------
    StorageFailed
        The file cannot be written.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DOTS_PER_INCH, format=target.suffix[1:].lower())
    try:
        target.write_bytes(drawn.getvalue())
    except OSError as error:
        raise StorageFailed(
            f"the figure cannot be written to {target}: {error.strerror}; choose another place"
        ) from error
