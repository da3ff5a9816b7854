"""Closed forms with intervals: from the influence of every cluster where a form has a derivative."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from layerlake.analyses.similarity.closed_forms.centring import CentredSums
from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.influence import (
    ClusterInfluence,
    Gradient,
    bures_gradient,
    canonical_gradient,
    influence_interval,
)
from layerlake.analyses.similarity.closed_forms.left_out import FormValue
from layerlake.analyses.similarity.closed_forms.pair import Measured, SpacePair
from layerlake.analyses.similarity.closed_forms.registry import measure
from layerlake.analyses.similarity.features.first_pass import FirstPass
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.question import INFLUENCED
from layerlake.analyses.statistics.jackknife import ONE_CLUSTER, Interval

_ANGLES: Final = ("procrustes", "netrep-1")
BATCH_BYTES: Final = 256 * 2**20
"""Bytes of derivatives that one pass may take, where one pair does not need more."""


def batches_of(
    names: Sequence[str], hiddens: Sequence[int], pairs: Sequence[Pair]
) -> list[list[Pair]]:
    """Share pairs out among passes over the rows; none where no form has a derivative."""
    count = sum(name in INFLUENCED for name in names)
    batches: list[list[Pair]] = []
    held = 0
    for s, t in pairs if count else ():
        size = count * 8 * (hiddens[s] ** 2 + hiddens[t] ** 2 + hiddens[s] * hiddens[t])
        if not batches or held + size > BATCH_BYTES:
            batches.append([])
            held = 0
        batches[-1].append((s, t))
        held += size
    return batches


def influenced_values(
    first: FirstPass,
    total: CentredSums,
    names: Sequence[str],
    spaces: Sequence[Decomposition],
    *,
    confidence: float,
    report: Callable[[int], None],
) -> dict[Pair, dict[str, FormValue]]:
    """Compute forms of `INFLUENCED` with the intervals that the influence of clusters gives.

    Parameters
    ----------
    first
        The first pass; its frames are those of the rows themselves.
    total
        Its centred sums.
    names
        Of the forms.
    spaces
        The spaces, decomposed as far as was needed.
    confidence
        Nominal coverage.
    report
        Told of the rows of every pass, one for each of `batches_of`.
    """
    hiddens = [space.shape[1] for space in first.group.spaces]
    values: dict[Pair, dict[str, FormValue]] = {}
    for batch in batches_of(names, hiddens, list(total.crosses)):
        found: dict[Pair, dict[str, Measured]] = {}
        gradients: dict[Pair, list[Gradient]] = {}
        for s, t in batch:
            pair = SpacePair(spaces[s], spaces[t], total.crosses[s, t])
            found[s, t] = measure(names, pair)
            defined = [name for name in names if not math.isnan(found[s, t][name].value)]
            if defined:
                gradients[s, t] = [_gradient(name, pair) for name in defined]
        influences: Mapping[Pair, np.ndarray[tuple[int, int], np.dtype[np.float64]]] = {}
        if gradients:
            influence = ClusterInfluence(
                gradients,
                first.state.frames,
                [sums.mean for sums in total.spaces],
                len(first.group.lengths),
                first.preparation.precision,
            )
            del gradients
            (influences,) = first.again([influence], report)
        else:
            report(len(first.group.selected.clusters))
        for own, measured in found.items():
            rows = iter(influences.get(own, ()))
            values[own] = {
                name: _valued(name, one, None if math.isnan(one.value) else next(rows), confidence)
                for name, one in measured.items()
            }
    return values


def _gradient(name: str, pair: SpacePair) -> Gradient:
    """Return the derivative of a form, or of the cosine of one that is an angle."""
    if name in ("cca", "cca-r2"):
        return canonical_gradient(
            pair.left.whitening,
            pair.right.whitening,
            pair.cross.product,
            squared=name == "cca-r2",
        )
    return bures_gradient(pair.left.sums, pair.right.sums, pair.cross)


def _valued(
    name: str,
    found: Measured,
    influence: np.ndarray[tuple[int], np.dtype[np.float64]] | None,
    confidence: float,
) -> FormValue:
    """Return a value with its interval; `influence` is that of every cluster."""
    notes = list(found.notes)
    ends: Interval | None = None
    if influence is not None:
        angle = name in _ANGLES
        value = math.cos(found.value) if angle else found.value
        ends = influence_interval(value, influence, confidence)
        if ends is None:
            few = "there are too few clusters for an interval"
            notes.append(ONE_CLUSTER if len(influence) < 2 else few)
        elif angle:
            ends = Interval(math.acos(min(ends.high, 1.0)), math.acos(max(ends.low, 0.0)))
        else:
            ends = Interval(max(ends.low, 0.0), ends.high)
    return FormValue(
        found.value,
        ends.low if ends else None,
        ends.high if ends else None,
        tuple(notes),
    )
