"""Intervals of closed forms: the delete-a-group jackknife.

Leaving out one cluster at a time would cost a decomposition for each. Instead clusters are dealt
into some dozens of groups, and one group is left out at a time (Kott 2001): its sums are taken off
the total, and nothing is read again. Groups hold whole clusters and about as many rows each;
`even_groups` deals them as runs of neighbours, so that what neighbouring clusters have in common
(sentences of one document) widens the interval as it should.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.closed_forms.centring import CentredSums
from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.moved_centre import without
from layerlake.analyses.similarity.closed_forms.pair import Measured, SpacePair
from layerlake.analyses.similarity.closed_forms.registry import ClosedForm, form_named, measure
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.statistics.group_jackknife import interval_on_logarithms, interval_within
from layerlake.analyses.statistics.jackknife import Interval
from layerlake.store.errors import InvalidInput

_UNEVEN: Final = 2.0
"""Groups are unequal where one is this many times larger than the mean."""


@dataclass(frozen=True)
class FormValue:
    """One closed form of two spaces, with its interval."""

    value: float
    """NaN where the form is not defined; then a note says why."""
    low: float | None
    """Lower end of the interval; None where there is none."""
    high: float | None
    notes: tuple[str, ...]
    """Sentences about what to be careful with."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Closed forms without one group of clusters."""

    n_rows: int
    """Of the group."""
    values: Mapping[Pair, Mapping[str, float]]
    """Empty where the group is all there is."""


def leave_out(
    names: Sequence[str],
    total: CentredSums,
    group: CentredSums,
    labels: Sequence[str],
    stored: Sequence[object],
) -> LeftOut:
    """Compute closed forms of all pairs without one group of whole clusters.

    Parameters
    ----------
    names
        As `form_named` takes them.
    total
        Sums over all rows, of the spaces and of the pairs that are asked for.
    group
        The sums of the group.
    labels
        What to call each space in notes.
    stored
        The dtype in which the rows of each space were stored; see `Decomposition`.
    """
    n_rows = group.spaces[0].n_rows
    if n_rows >= total.spaces[0].n_rows:
        return LeftOut(n_rows, {})
    rest = _measured(names, without(total, group), labels, stored)
    return LeftOut(
        n_rows,
        {
            pair: {name: value.value for name, value in found.items()}
            for pair, found in rest.items()
        },
    )


def jackknifed(
    names: Sequence[str],
    total: CentredSums,
    left_out: Iterable[LeftOut],
    labels: Sequence[str],
    stored: Sequence[object],
    confidence: float,
) -> dict[Pair, dict[str, FormValue]]:
    """Compute closed forms with intervals, leaving out one group of clusters at a time.

    The interval is Student's t with one degree of freedom fewer than there are groups, on a scale
    on which the measure has no bounds, mapped back: atanh for a similarity, atanh of the cosine
    for an angle, the logarithm for a distance (per root of the rows, with which it grows). It is
    about the value, and its ends are never beyond the bounds of the form.

    Parameters
    ----------
    names, total, labels, stored
        As `leave_out` takes them.
    left_out
        The forms without each group, as `leave_out` computes them, in any order; iterated once.
        Together the groups are the total.
    confidence
        Nominal coverage, in (0, 1).

    Returns
    -------
    dict
        By pair, as in the total, and by name. Each space is decomposed once, and once per group.

    Raises
    ------
    InvalidInput
        A name is unknown, or the groups are not those of the total.
    """
    forms = {name: form_named(name) for name in names}
    whole = _measured(names, total, labels, stored)
    deleted: dict[Pair, dict[str, list[float]]] = {
        pair: {name: [] for name in names} for pair in total.crosses
    }
    n_rows = total.spaces[0].n_rows
    sizes: list[int] = []
    for group in left_out:
        sizes.append(group.n_rows)
        if sum(sizes) > n_rows or sizes[-1] == n_rows:
            break
        for pair, values in deleted.items():
            for name, numbers in values.items():
                numbers.append(group.values[pair][name])
    if sum(sizes) != n_rows or len(sizes) < 2:
        raise InvalidInput(
            f"{len(sizes)} groups hold {sum(sizes)} rows, and the total {n_rows}; give two "
            "or more groups that share the rows of the total"
        )
    left = 1 - np.array(sizes) / n_rows
    return {
        pair: {
            name: _valued(form, whole[pair][name], np.array(deleted[pair][name]), left, confidence)
            for name, form in forms.items()
        }
        for pair in total.crosses
    }


def _measured(
    names: Sequence[str], sums: CentredSums, labels: Sequence[str], stored: Sequence[object]
) -> Mapping[Pair, Mapping[str, Measured]]:
    """Compute forms of all pairs, each space decomposed once."""
    spaces = [
        Decomposition(space, label, dtype)
        for space, label, dtype in zip(sums.spaces, labels, stored, strict=True)
    ]
    return {
        (s, t): measure(names, SpacePair(spaces[s], spaces[t], cross))
        for (s, t), cross in sums.crosses.items()
    }


def _valued(
    form: ClosedForm,
    found: Measured,
    deleted: NDArray[np.float64],
    left: NDArray[np.float64],
    confidence: float,
) -> FormValue:
    """Return a value with its interval, where there is one; `left` are shares of the rows."""
    notes = list(found.notes)
    if form.kind == "distance":
        deleted = deleted / np.sqrt(left)
    ends = None if math.isnan(found.value) else _interval(form, found.value, deleted, confidence)
    if ends is None and not math.isnan(found.value):
        notes.append(
            "with a group of clusters left out the measure is not defined, or at the end of its "
            "range, so there is no interval"
        )
    if ends is not None and 1 - left.min() > _UNEVEN / len(left):
        notes.append(
            f"one of {len(left)} groups holds {1 - left.min():.0%} of the rows, so the interval is "
            "a rough one"
        )
    return FormValue(
        found.value,
        ends.low if ends else None,
        ends.high if ends else None,
        tuple(notes),
    )


def _interval(
    form: ClosedForm, value: float, deleted: NDArray[np.float64], confidence: float
) -> Interval | None:
    """Return the interval of a value on the scale of its kind."""
    if form.kind == "angle":
        ends = interval_within(math.cos(value), np.cos(deleted), confidence)
        if ends is None:
            return None
        # The larger cosine is the smaller angle; below 0 lies no angle that the form can take.
        return Interval(
            math.acos(min(ends.high, 1.0)), min(math.acos(max(ends.low, -1.0)), form.highest)
        )
    if form.kind == "distance":
        return interval_on_logarithms(value, deleted, confidence)
    ends = interval_within(value, deleted, confidence)
    return None if ends is None else Interval(max(ends.low, form.lowest), ends.high)
