"""The closed forms by name, and what a caller must know of each before it computes one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from layerlake.analyses.similarity.closed_forms.alignment import (
    debiased_cka,
    linear_cka,
    whitened_correlation,
)
from layerlake.analyses.similarity.closed_forms.canonical import (
    SVCCA_FRACTION,
    mean_cca,
    mean_squared_cca,
    pwcca,
    svcca,
)
from layerlake.analyses.similarity.closed_forms.pair import Measured, SpacePair, undefined
from layerlake.analyses.similarity.closed_forms.shapes import (
    bures_similarity,
    netrep_angle,
    procrustes_angle,
    procrustes_distance,
)
from layerlake.engine.memory import MemoryPlan
from layerlake.store.errors import InvalidInput, is_a

Kind = Literal["similarity", "distance", "angle"]


@dataclass(frozen=True)
class ClosedForm:
    """A measure that is a function of the centred sums over the rows of two spaces."""

    name: str
    title: str
    """What to call it in a table or on an axis."""
    function: Callable[[SpacePair], Measured]
    """Called by `measure`, which has looked at what makes every form undefined."""
    kind: Kind
    """What larger numbers mean, and how intervals are taken; angles are in radians, and distances
    grow with the root of the number of rows."""
    lowest: float
    """The lowest value."""
    highest: float
    """The highest value; infinity for a distance."""
    needs_float64: bool = True
    """Whether the products must be float64 ones: float32 shows in the value where it is a
    difference of large sums, or where small directions are made as large as others."""
    symmetric: bool = True
    """Whether left and right may change places."""
    axes: bool = False
    """Whether each space is decomposed along its principal axes."""
    whitening: bool = False
    """Whether each space is whitened."""
    directions: bool = False
    """Whether singular vectors of a pair are needed, and not values alone."""
    matrices: int = 0
    """Matrices as large as a Gram that a pair needs at once: products on the way, LAPACK's copy
    and work, and what is kept of them for other forms."""


def _netrep(alpha: float) -> ClosedForm:
    """Return the member of the netrep family at an alpha."""
    return ClosedForm(
        f"netrep-{alpha:g}",
        f"shape distance, alpha = {alpha:g} (radians)",
        partial(netrep_angle, alpha=alpha),
        "angle",
        0.0,
        math.pi / 2,
        axes=0 < alpha < 1,
        whitening=alpha < 1,
        matrices=4 if 0 < alpha < 1 else 2 if alpha == 0 else 1,
    )


def _svcca(fraction: float) -> ClosedForm:
    """Return SVCCA over axes that hold a fraction of the variance."""
    whole = fraction == 1
    return ClosedForm(
        "svcca" if fraction == SVCCA_FRACTION else f"svcca-{fraction:g}",
        f"SVCCA over {100 * fraction:g} % of the variance",
        partial(svcca, fraction=fraction),
        "similarity",
        0.0,
        1.0,
        axes=not whole,
        whitening=whole,
        matrices=2 if whole else 3,
    )


_EIGEN_COST: Final = 40.0
"""Multiply-adds of a product in float32 that an eigendecomposition takes as long as, over d^3."""
_SINGULAR_COST: Final = 20.0
"""The same for singular values."""
_WORK: Final = 96
"""Numbers per coordinate that LAPACK works with, beside matrices."""

FORMS: Final[dict[str, ClosedForm]] = {
    form.name: form
    for form in (
        ClosedForm("cka", "linear CKA", linear_cka, "similarity", 0.0, 1.0, needs_float64=False),
        ClosedForm(
            "debiased-cka",
            "debiased linear CKA",
            debiased_cka,
            "similarity",
            -1.0,
            1.0,
        ),
        ClosedForm(
            "whitened-cosine",
            "whitened cosine of squared distances",
            linear_cka,
            "similarity",
            0.0,
            1.0,
            needs_float64=False,
        ),
        ClosedForm(
            "whitened-correlation",
            "whitened correlation of squared distances",
            whitened_correlation,
            "similarity",
            -1.0,
            1.0,
        ),
        ClosedForm(
            "cca",
            "mean canonical correlation",
            mean_cca,
            "similarity",
            0.0,
            1.0,
            whitening=True,
            matrices=2,
        ),
        ClosedForm(
            "cca-r2",
            "mean squared canonical correlation",
            mean_squared_cca,
            "similarity",
            0.0,
            1.0,
            whitening=True,
            matrices=2,
        ),
        _svcca(SVCCA_FRACTION),
        ClosedForm(
            "pwcca",
            "projection-weighted CCA",
            pwcca,
            "similarity",
            0.0,
            1.0,
            symmetric=False,
            whitening=True,
            directions=True,
            matrices=7,
        ),
        ClosedForm(
            "procrustes",
            "angular Procrustes distance (radians)",
            procrustes_angle,
            "angle",
            0.0,
            math.pi / 2,
            matrices=1,
        ),
        ClosedForm(
            "procrustes-size",
            "size-and-shape Procrustes distance",
            procrustes_distance,
            "distance",
            0.0,
            math.inf,
            matrices=1,
        ),
        _netrep(0.0),
        _netrep(0.5),
        _netrep(1.0),
        ClosedForm(
            "bures",
            "normalised Bures similarity",
            bures_similarity,
            "similarity",
            0.0,
            1.0,
            matrices=1,
        ),
    )
}
"""The forms by name. `form_named` knows `netrep-ALPHA` and `svcca-FRACTION` for others too."""


def form_named(name: str) -> ClosedForm:
    """Return the form of a name: one of `FORMS`, `netrep-ALPHA` or `svcca-FRACTION`.

    Raises
    ------
    InvalidInput
        No form has that name, or its number lies outside of what the form allows.
    """
    if is_a(name, str):
        if name in FORMS:
            return FORMS[name]
        family, _, number = name.partition("-")
        if family in ("netrep", "svcca") and number:
            return _of_family(family, number)
    raise InvalidInput(
        f"there is no closed form {name!r}; choose one of {', '.join(FORMS)}, netrep-ALPHA or "
        "svcca-FRACTION"
    )


def _of_family(family: str, number: str) -> ClosedForm:
    """Return a member of a family by its number as typed."""
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if family == "netrep" and 0 <= value <= 1:
        form = _netrep(value)
    elif family == "svcca" and 0 < value <= 1:
        form = _svcca(value)
    else:
        bounds = "[0, 1]" if family == "netrep" else "(0, 1]"
        raise InvalidInput(f"{family} takes a number in {bounds} after the dash, not {number!r}")
    return FORMS.get(form.name, form)


def measure(names: Sequence[str], pair: SpacePair) -> dict[str, Measured]:
    """Compute forms of two spaces, sharing what they have in common.

    Parameters
    ----------
    names
        As `form_named` takes them.
    pair
        The spaces; use one `Decomposition` per space in all its pairs, since it keeps its work.

    Returns
    -------
    dict
        By name, in the order asked. NaN with the reason in a note where a form is not defined; a
        constant space leaves none defined.

    Raises
    ------
    InvalidInput
        A name is unknown.
    """
    forms = {name: form_named(name) for name in names}
    for space in (pair.left, pair.right):
        if space.constant:
            nothing = undefined(
                f"all rows of {space.name} are the same, so nothing can be compared with it"
            )
            return dict.fromkeys(forms, nothing)
    found: dict[str, Measured] = {}
    # Singular vectors first: their values then serve the forms that need values alone.
    for name in sorted(forms, key=lambda name: not forms[name].directions):
        found[name] = forms[name].function(pair)
    return {name: found[name] for name in forms}


def forms_cost(
    names: Sequence[str], hiddens: Sequence[int], pairs: Sequence[tuple[int, int]]
) -> float:
    """Return about how many multiply-adds of a fast product forms of pairs take as long as.

    A decomposition runs at a fraction of the speed of a product in float32.
    """
    forms = [form_named(name) for name in names]
    spaces = any(form.axes for form in forms) + any(form.whitening for form in forms)
    own = spaces * _EIGEN_COST * sum(float(hidden) ** 3 for hidden in hiddens)
    each = sum(_SINGULAR_COST * (1 + form.directions) for form in forms if form.matrices)
    return own + each * sum(float(min(hiddens[s], hiddens[t])) ** 3 for s, t in pairs)


def forms_memory(names: Sequence[str], hiddens: Sequence[int]) -> MemoryPlan:
    """Say what computing forms between spaces holds at its peak, beside the sums themselves.

    Parameters
    ----------
    names
        As `form_named` takes them.
    hiddens
        Hidden of every space whose `Decomposition` is kept at the same time.
    """
    forms = [form_named(name) for name in names]
    axes = any(form.axes for form in forms)
    whitening = any(form.whitening for form in forms)
    matrices = max((form.matrices for form in forms), default=0)
    widest = max(hiddens, default=0)
    kept = sum(8 * (hidden**2 * (axes + whitening) + hidden * axes) for hidden in hiddens)
    work = 8 * widest * (matrices * widest + _WORK) if matrices else 0
    return MemoryPlan({"decompositions": kept, "work on a pair": work})
