"""The kinds of figures by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from layerlake.analyses.figures.curves import layer_curves
from layerlake.analyses.figures.maps import space_maps
from layerlake.analyses.figures.matrices import heat_maps
from layerlake.analyses.results.record import Records
from layerlake.store.errors import InvalidInput

KINDS: Final[dict[str, tuple[Callable[..., Any], tuple[str, ...]]]] = {
    "curves": (layer_curves, ("zoom",)),
    "matrix": (heat_maps, ("corpus", "site", "zoom")),
    "map": (space_maps, ("corpus", "site", "distance")),
}
"""What draws each kind, and which options it takes beside the common ones."""


def draw(
    result: Records,
    kind: str,
    measure: str | Iterable[str] | None = None,
    *,
    ax: Any = None,
    file: str | Path | None = None,
    **options: Any,
) -> Any:
    """Draw a result; see `SimilarityResult.plot`."""
    check_kind(kind)
    function, known = KINDS[kind]
    odd = [name for name in options if name not in known]
    if odd:
        raise InvalidInput(
            f"the kind {kind} has no option {', '.join(odd)}; it takes "
            f"{', '.join(('measure', 'ax', 'file', *known))}"
        )
    return function(result, measure, ax=ax, file=file, **options)


def check_kind(kind: str) -> None:
    """Refuse a kind of figure that there is not."""
    if kind not in KINDS:
        raise InvalidInput(f"there is no kind of figure {kind!r}; choose one of {', '.join(KINDS)}")
