"""What is known of measures: one registry of names, of how to read a number, and how to write it.

An analysis declares its measures as data, `MEASURES` and `FAMILIES` in a module of this folder that
is imported when one of its names is asked for. A result class may declare measures of its own,
which come first.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from layerlake.store.errors import is_a

Kind: TypeAlias = Literal["similarity", "distance", "angle", "difference", "quantity"]

BETWEEN: Final = "_between"
"""How the name of a measure ends that takes pairs of rows from different clusters alone."""
DIFFERENCE: Final = "_difference"
"""How the name of a measure ends that is the difference of two values, behind that of those."""
CEILINGS: Final = ("ceiling_lower", "ceiling_upper")
"""Between which the best model of a group of spaces is expected."""
THREE_DIGITS: Final = "z.3f"
"""Format of similarities, and of numbers of which nothing is known; zero has no sign."""
FOUR_SIGNIFICANT: Final = ""
"""Stands for four significant digits."""


@dataclass(frozen=True)
class Measure:
    """How to read and write the numbers of a measure."""

    name: str
    title: str
    """Label of an axis."""
    kind: Kind
    """Angles are distances in radians; a difference is of two similarities to one reference; a
    quantity is of one space, model or run."""
    lowest: float = -math.inf
    highest: float = math.inf
    written: str = THREE_DIGITS
    """Format specification of a number, or `FOUR_SIGNIFICANT`."""
    symmetric: bool = True
    """Whether two spaces may change places."""
    beside: str = ""
    """The measure whose table and panel it shares, standing second; itself where empty."""

    @property
    def own(self) -> float:
        """The value of a space with itself."""
        return 1.0 if self.kind == "similarity" else 0.0


HOMES: Final[Mapping[str, tuple[str, ...]]] = {
    "similarity_measures": (
        "r_all",
        "r_between",
        "ceiling_*",
        "cosine",
        "spearman",
        "kendall",
        "whitened-*",
        "cka",
        "debiased-*",
        "rbf-cka",
        "cca",
        "cca-r2",
        "svcca",
        "svcca-*",
        "pwcca",
        "bures",
        "mutual-knn",
        "mutual-knn-*",
        "cknna",
        "cknna-*",
        "procrustes",
        "procrustes-size",
        "netrep-*",
    ),
    "profile_measures": (
        "anisotropy",
        "participation-ratio",
        "effective-rank",
        "dimensions-*",
        "variance",
        "mean-length",
        "norm-*",
    ),
}
"""Modules of this folder that declare measures, and patterns of the names in each."""
_NONE: Final[Mapping[str, Measure]] = MappingProxyType({})


def known_measure(name: str, own: Mapping[str, Measure] = _NONE) -> Measure | None:
    """Return what is known of a measure, None where nothing is.

    Parameters
    ----------
    name
        As records have it. `netrep-ALPHA`, `svcca-FRACTION`, `mutual-knn-K` and `cknna-K` are known
        with any number; NAME`_between` is what the similarity or distance NAME is, over pairs of
        rows from different clusters; NAME`_difference` is the difference of the similarities NAME
        of two variants.
    own
        Measures that come first: those of a result class, by name.
    """
    if not is_a(name, str):
        return None
    if name in own:
        return own[name]
    if name.endswith(DIFFERENCE):
        return _difference(name, known_measure(name.removesuffix(DIFFERENCE), own))
    declared = _declared(name)
    if declared is None and name.endswith(BETWEEN):
        return _between(name, known_measure(name.removesuffix(BETWEEN), own))
    return declared


def _difference(name: str, of: Measure | None) -> Measure | None:
    """Return the difference of two values of a similarity."""
    if of is None or of.kind != "similarity":
        return None
    reach = of.highest - of.lowest
    title = f"difference in {of.title}"
    return Measure(name, title, "difference", -reach, reach, of.written, symmetric=False)


def _between(name: str, whole: Measure | None) -> Measure | None:
    """Return a measure of two spaces over pairs of rows from different clusters."""
    if whole is None or whole.kind == "quantity":
        return None
    return replace(whole, name=name, title=f"{whole.title} between examples", beside=whole.name)


def _declared(name: str) -> Measure | None:
    """Return the measure that an analysis declares, by its name or that of its family."""
    for module, patterns in HOMES.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            home = importlib.import_module(f"layerlake.analyses.results.{module}")
            found: Measure | None = home.MEASURES.get(name)
            return found or _of_family(name, home.FAMILIES)
    return None


def _of_family(name: str, families: Mapping[str, Measure]) -> Measure | None:
    """Return the measure FAMILY-NUMBER."""
    family, _, number = name.rpartition("-")
    try:
        float(number)
    except ValueError:
        return None
    found = families.get(family)
    return found and replace(found, name=name, title=found.title.format(number))


def title_of(name: str, own: Mapping[str, Measure] = _NONE) -> str:
    """Return the label of an axis: the name of the measure where nothing is known of it."""
    known = known_measure(name, own)
    return name if known is None else known.title


def family_of(measure: str, own: Mapping[str, Measure] = _NONE) -> str:
    """Return the measure that another is shown beside: `r_all` for `r_between`, else itself."""
    if measure.endswith(DIFFERENCE) and measure not in own:
        return family_of(measure.removesuffix(DIFFERENCE), own) + DIFFERENCE
    known = known_measure(measure, own)
    if known is not None:
        return known.beside or measure
    return measure.removesuffix(BETWEEN)


def in_order(measures: Iterable[str], own: Mapping[str, Measure] = _NONE) -> list[str]:
    """Return each measure once, as met, what is shown beside another right behind it."""
    family = {name: family_of(name, own) for name in measures}
    families = list(dict.fromkeys(family.values()))
    return sorted(family, key=lambda name: (families.index(family[name]), name != family[name]))


def number_text(measure: str, value: float, own: Mapping[str, Measure] = _NONE) -> str:
    """Write a number of a measure for people."""
    known = known_measure(measure, own)
    how = THREE_DIGITS if known is None else known.written
    return _four_significant(value) if how == FOUR_SIGNIFICANT else format(value, how)


def _four_significant(value: float) -> str:
    size = abs(value)
    if value and not 1e-3 <= size < 1e7:
        return f"{value:.3e}"
    before = math.floor(math.log10(size)) + 1 if size >= 1 else 1
    return f"{value:.{max(4 - before, 0)}f}"
