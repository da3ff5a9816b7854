"""What is to be known of a measure to read its numbers, by the name that a record gives it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from layerlake.analyses.results.measures import BETWEEN, DIFFERENCE
from layerlake.store.errors import InvalidInput, is_a

Kind = Literal["similarity", "distance", "angle", "difference"]


@dataclass(frozen=True)
class Measure:
    """How to read the numbers of a measure."""

    name: str
    title: str
    """What an axis calls it."""
    kind: Kind
    """Angles are distances in radians; a difference is of two similarities to one reference."""
    lowest: float
    highest: float
    symmetric: bool = True
    """Whether two spaces may change places."""

    @property
    def own(self) -> float:
        """The value of a space with itself."""
        return 1.0 if self.kind == "similarity" else 0.0


_SIMILARITIES: Final = (
    ("r_all", "RSA", -1.0),
    ("ceiling_lower", "noise ceiling, lower end", -1.0),
    ("ceiling_upper", "noise ceiling, upper end", -1.0),
    ("cosine", "RSA (cosine)", -1.0),
    ("spearman", "RSA (Spearman)", -1.0),
    ("kendall", "RSA (Kendall tau-a)", -1.0),
    ("whitened-cosine", "whitened cosine of squared distances", 0.0),
    ("whitened-correlation", "whitened correlation of squared distances", -1.0),
    ("cka", "linear CKA", 0.0),
    ("debiased-cka", "debiased linear CKA", -1.0),
    ("rbf-cka", "RBF CKA", 0.0),
    ("debiased-rbf-cka", "debiased RBF CKA", -1.0),
    ("cca", "mean canonical correlation", 0.0),
    ("cca-r2", "mean squared canonical correlation", 0.0),
    ("svcca", "SVCCA", 0.0),
    ("pwcca", "projection-weighted CCA", 0.0),
    ("bures", "normalised Bures similarity", 0.0),
    ("mutual-knn", "mutual nearest neighbours", 0.0),
    ("cknna", "CKNNA", -1.0),
)
_KNOWN: Final = {
    name: Measure(name, title, "similarity", lowest, 1.0, symmetric=name != "pwcca")
    for name, title, lowest in _SIMILARITIES
} | {
    "procrustes": Measure("procrustes", "Procrustes angle (radians)", "angle", 0.0, math.pi / 2),
    "procrustes-size": Measure(
        "procrustes-size", "size-and-shape Procrustes distance", "distance", 0.0, math.inf
    ),
}
_NETREP: Final = Measure("netrep", "shape distance", "angle", 0.0, math.pi / 2)


def measure_named(name: str) -> Measure:
    """Return what is known of a measure.

    `netrep-ALPHA`, `svcca-FRACTION` and `mutual-knn-K` are known with any number; NAME`_between`
    is what NAME is, over pairs of rows from different clusters; NAME`_difference` is the difference
    of the similarities NAME of two variants.

    Raises
    ------
    InvalidInput
        No measure has that name.
    """
    known = known_measure(name)
    if known is None:
        raise InvalidInput(
            f"nothing is known of the measure {name!r}; known are {', '.join(_KNOWN)} and netrep-ALPHA"
        )
    return known


def known_measure(name: str) -> Measure | None:
    """Return what is known of a measure, None where nothing is."""
    if not is_a(name, str):
        return None
    minuend = name.removesuffix(DIFFERENCE)
    if minuend != name:
        of = known_measure(minuend)
        if of is None or of.kind != "similarity":
            return None
        reach = of.highest - of.lowest
        title = f"difference in {of.title}"
        return Measure(name, title, "difference", -reach, reach, symmetric=False)
    first = name.removesuffix(BETWEEN)
    if first != name:
        whole = known_measure("r_all" if first == "r" else first)
        return whole and replace(whole, name=name, title=f"{whole.title} between clusters")
    if name in _KNOWN:
        return _KNOWN[name]
    family, _, number = name.rpartition("-")
    try:
        float(number)
    except ValueError:
        return None
    if family == "netrep":
        return replace(_NETREP, name=name, title=f"shape distance, alpha {number} (radians)")
    if family in ("svcca", "mutual-knn", "cknna"):
        return replace(_KNOWN[family], name=name, title=f"{_KNOWN[family].title}, {number}")
    return None


def pairwise_measure(name: str) -> Measure:
    """Return what is known of a measure of two spaces, such as a matrix of all pairs holds.

    Raises
    ------
    InvalidInput
        No measure has that name, or it is a difference.
    """
    known = measure_named(name)
    if known.kind == "difference":
        raise InvalidInput(
            f"{name} tells two variants apart by what each has in common with a reference, and is "
            f"no measure of two spaces; choose {name.removesuffix(DIFFERENCE)}"
        )
    return known


def title_of(name: str) -> str:
    """Return what an axis calls a measure: its name where it is not known."""
    known = known_measure(name)
    return name if known is None else known.title
