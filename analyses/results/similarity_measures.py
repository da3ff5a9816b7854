"""Measures of similarity: of two spaces, and of the difference between two such values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from layerlake.analyses.results.measures import (
    BETWEEN,
    CEILINGS,
    DIFFERENCE,
    Measure,
    known_measure,
)
from layerlake.store.errors import InvalidInput

_SIMILARITIES: Final = (
    ("r_all", "RSA", -1.0),
    ("r_between", "RSA between examples", -1.0),
    (CEILINGS[0], "noise ceiling, lower end", -1.0),
    (CEILINGS[1], "noise ceiling, upper end", -1.0),
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
_BESIDE: Final = {"r_between": "r_all", CEILINGS[1]: CEILINGS[0]}

MEASURES: Final[Mapping[str, Measure]] = {
    name: Measure(
        name,
        title,
        "similarity",
        lowest,
        1.0,
        symmetric=name != "pwcca",
        beside=_BESIDE.get(name, ""),
    )
    for name, title, lowest in _SIMILARITIES
} | {
    "procrustes": Measure("procrustes", "Procrustes angle (radians)", "angle", 0.0, math.pi / 2),
    "procrustes-size": Measure(
        "procrustes-size", "size-and-shape Procrustes distance", "distance", 0.0
    ),
}
FAMILIES: Final[Mapping[str, Measure]] = {
    "netrep": Measure("netrep", "shape distance, alpha {} (radians)", "angle", 0.0, math.pi / 2),
    "svcca": Measure("svcca", "SVCCA, {}", "similarity", 0.0, 1.0),
    "mutual-knn": Measure("mutual-knn", "mutual nearest neighbours, {}", "similarity", 0.0, 1.0),
    "cknna": Measure("cknna", "CKNNA, {}", "similarity", -1.0, 1.0),
}
"""Measures with a number behind their names, which stands in their titles too."""


def measure_named(name: str) -> Measure:
    """Return what is known of a measure of similarity; see `measures.known_measure`.

    Raises
    ------
    InvalidInput
        No such measure has that name.
    """
    known = known_measure(name)
    if known is None or known.kind == "quantity":
        listed = ", ".join(one for one in MEASURES if not one.endswith(BETWEEN))
        raise InvalidInput(
            f"nothing is known of the measure {name!r}; known are {listed} and netrep-ALPHA"
        )
    return known


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
