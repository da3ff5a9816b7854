"""Where a figure is written, checked before anything is drawn. Needs no matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

from layerlake.analyses.results.destinations import check_place, write_whole

SUFFIXES: Final = (".png", ".svg", ".pdf")
DOTS_PER_INCH: Final = 200


def check_figure(file: str | Path) -> Path:
    """Return the path of a figure that can be written: a known suffix, a folder that is there.

    Raises
    ------
    InvalidInput
        The suffix is another one, or there is no such folder.
    """
    return check_place(file, SUFFIXES, what="the figure", lacking="name a figure")


def write_figure(figure: Any, target: Path) -> None:
    """Write a figure as its suffix says, whole or not at all.

    Raises
    ------
    StorageFailed
        The file cannot be written.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DOTS_PER_INCH, format=target.suffix[1:].lower())
    write_whole(target, drawn.getvalue(), what="the figure")
