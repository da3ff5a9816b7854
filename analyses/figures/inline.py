"""Figures that a notebook shows where they are the last thing of a cell. Needs matplotlib.

A figure made without pyplot has no window and no global state, but a notebook does not know how to
show it unless it can say so itself.
"""

from __future__ import annotations

import io

from matplotlib.figure import Figure

DOTS_PER_INCH = 110


class InlineFigure(Figure):
    """A figure that shows itself in a notebook."""

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png", dpi=DOTS_PER_INCH)
        return drawn.getvalue()
