"""The kinds of figures by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from layerlake.analyses.figures.curves import layer_curves
from layerlake.analyses.figures.maps import space_maps
from layerlake.analyses.figures.matrices import heat_maps
from layerlake.analyses.results.parts import parts_of
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    from layerlake.analyses.results.similarity import SimilarityResult

KINDS: Final[dict[str, tuple[Callable[..., Any], tuple[str, ...]]]] = {
    "curves": (layer_curves, ()),
    "matrix": (heat_maps, ("corpus", "site")),
    "map": (space_maps, ("corpus", "site", "distance")),
}
"""What draws each kind, and which options it takes beside the common ones."""


def draw(
    result: SimilarityResult,
    kind: str | None = None,
    measure: str | Iterable[str] | None = None,
    *,
    ax: Any = None,
    file: str | Path | None = None,
    **options: Any,
) -> Any:
    """Draw a result; see `SimilarityResult.plot`."""
    if kind is None:
        kind = "matrix" if any(part.across for part in parts_of(result)) else "curves"
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
