"""From the passes over a group of spaces to the values of its pairs."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from layerlake.analyses.similarity.closed_forms.centring import CentredSums, centred_sums
from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.influence_intervals import (
    INFLUENCED,
    influenced_values,
)
from layerlake.analyses.similarity.closed_forms.left_out import (
    FormValue,
    LeftOut,
    even_groups,
    jackknifed,
    leave_out,
)
from layerlake.analyses.similarity.closed_forms.pair import SpacePair
from layerlake.analyses.similarity.closed_forms.registry import measure
from layerlake.analyses.similarity.differences import Deletions
from layerlake.analyses.similarity.features.cluster_deletions import ClusterTouch, Touching, stacked
from layerlake.analyses.similarity.features.dissimilarity import (
    line_of,
    pairs_along,
    touching_along,
)
from layerlake.analyses.similarity.features.first_pass import FirstPass, constant_spaces
from layerlake.analyses.similarity.features.moment_state import MomentState, Pair
from layerlake.analyses.similarity.features.moments import GroupMoments
from layerlake.analyses.similarity.features.rsa_value import RsaValue, deleted_values, value_of
from layerlake.engine.passes.blocks import cut_blocks

Report: TypeAlias = Callable[[int], None]
"""Told of the rows of each block that a pass has absorbed."""


def rsa_values(
    first: FirstPass,
    *,
    score: str = "pearson",
    interval: str,
    confidence: float,
    report: Report,
    deletions: Deletions | None = None,
) -> dict[Pair, RsaValue]:
    """Turn the sums of a first pass into values, by a second pass where there are intervals.

    The first pass gives up its moments. Where `deletions` is given, each pair that has intervals
    is put there.
    """
    lines = [line_of(frame) for frame in first.state.frames]
    distance = first.group.kernel.name != "linear"
    constant = set() if score == "cosine" and distance else constant_spaces(first)
    if score == "cosine":
        first.sums = {
            (s, t): pairs_along(sums, lines[s], lines[t]) for (s, t), sums in first.sums.items()
        }
        if distance:
            constant = constant_spaces(first, score)
    n_dropped, names = first.n_dropped, first.group.names
    touching: Touching = {}
    if interval != "none":
        # Nothing is left to find out of equal spaces, nor of those without a spread.
        skipped = [
            pair for pair, sums in first.sums.items() if sums.same or not constant.isdisjoint(pair)
        ]
        if len(skipped) < len(first.sums):
            touch = ClusterTouch(first.state, first.preparation.precision, skip=skipped)
            del first.state  # it holds numbers of every cluster, which the sums hold as well
            touching = first.again([touch], report)[0]
        else:
            report(len(first.group.clusters))
    values = {}
    for (s, t), sums in first.sums.items():
        found = stacked(touching, (s, t))
        if found is not None and score == "cosine":
            found = touching_along(found, sums, lines[s], lines[t])
        if deletions is not None and found is not None:
            deletions[s, t] = deleted_values(sums, found, score)
        values[s, t] = value_of(
            sums,
            found,
            n_dropped=n_dropped,
            interval=interval,
            confidence=confidence,
            kernel=first.group.kernel.name,
            precision=first.preparation.precision,
            score=score,
            constant=[names[k] for k in (s, t) if k in constant],
            distance=distance,
        )
    return values


def form_values(
    first: FirstPass,
    names: Sequence[str],
    *,
    interval: str,
    confidence: float,
    report: Report,
) -> dict[Pair, dict[str, FormValue]]:
    """Compute closed forms of every pair, by further passes where there are intervals.

    Clusters are left out in groups, or their influence is summed where a form has a derivative and
    would need a decomposition for each group. The moments of the first pass stay as they are.
    """
    total = centred_sums(first.state)
    group = first.group
    stored = [space.dtype for space in group.spaces]
    spaces = [
        Decomposition(sums, name, dtype)
        for sums, name, dtype in zip(total.spaces, group.names, stored, strict=True)
    ]
    values: dict[Pair, dict[str, FormValue]] = {pair: {} for pair in total.crosses}
    others = list(names)
    if interval != "none":
        influenced = [name for name in names if name in INFLUENCED]
        others = [name for name in names if name not in INFLUENCED]
        found = influenced_values(
            first, total, influenced, spaces, confidence=confidence, report=report
        )
        for pair, own in found.items():
            values[pair] |= own
    if interval != "none" and len(group.lengths) > 1 and others:
        deleted = jackknifed(
            others,
            total,
            _left_out(first, others, total, stored, report),
            group.names,
            stored,
            confidence,
        )
        for pair, own in deleted.items():
            values[pair] |= own
        return values
    if interval != "none" and others:
        report(len(group.clusters))
    for (s, t), cross in total.crosses.items():
        measured = measure(others, SpacePair(spaces[s], spaces[t], cross))
        values[s, t] |= {
            name: FormValue(value.value, None, None, 0, confidence, value.notes)
            for name, value in measured.items()
        }
    return values


@dataclass(frozen=True, slots=True)
class _LeaveOut:
    """Computes closed forms without a group of clusters, from its moments."""

    names: tuple[str, ...]
    total: CentredSums
    labels: tuple[str, ...]
    stored: tuple[object, ...]

    def __call__(self, state: MomentState) -> LeftOut:
        """Return the forms without the rows of some moments."""
        return leave_out(self.names, self.total, centred_sums(state), self.labels, self.stored)


def _left_out(
    first: FirstPass,
    names: Sequence[str],
    total: CentredSums,
    stored: Sequence[object],
    report: Report,
) -> Iterator[LeftOut]:
    """Read the rows again, and leave out each group of neighbouring clusters in turn."""
    group = first.group
    most = max(hi - lo for lo, hi in group.cuts)
    edges = np.flatnonzero(np.diff(even_groups(group.lengths), prepend=-1, append=-1))
    return first.apart(
        GroupMoments(first.state.frames, None, group.pairs),
        _LeaveOut(tuple(names), total, tuple(group.names), tuple(stored)),
        report,
        [
            cut_blocks(group.bounds[lo : hi + 1], most)
            for lo, hi in itertools.pairwise(edges.tolist())
        ],
    )
