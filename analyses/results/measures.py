"""The names of measures, and which are shown beside which."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

BETWEEN: Final = "_between"
"""How the name of a measure ends that takes pairs of rows from different clusters alone."""
DIFFERENCE: Final = "_difference"
"""How the name of a measure ends that is the difference of two values, behind that of those."""
CEILINGS: Final = ("ceiling_lower", "ceiling_upper")
"""Between which the best model of a group of spaces is expected."""


def family_of(measure: str) -> str:
    """Return the measure that another is shown beside: `r_all` for `r_between`, else itself."""
    if measure in CEILINGS:
        return CEILINGS[0]
    if measure.endswith(DIFFERENCE):
        return family_of(measure.removesuffix(DIFFERENCE)) + DIFFERENCE
    first = measure.removesuffix(BETWEEN)
    return "r_all" if first == "r" else first


def in_order(measures: Iterable[str]) -> list[str]:
    """Return each measure once, as met, what is shown beside another right behind it."""
    met = list(dict.fromkeys(measures))
    families = list(dict.fromkeys(map(family_of, met)))
    return sorted(met, key=lambda name: (families.index(family_of(name)), name != family_of(name)))
