"""Closed forms of every pair of a pass, with their intervals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from layerlake.analyses.similarity.closed_forms.centring import CentredSums, centred_sums
from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.influence_intervals import influenced_values
from layerlake.analyses.similarity.closed_forms.left_out import (
    FormValue,
    LeftOut,
    jackknifed,
    leave_out,
)
from layerlake.analyses.similarity.closed_forms.pair import SpacePair
from layerlake.analyses.similarity.closed_forms.registry import measure
from layerlake.analyses.similarity.features.first_pass import FirstPass
from layerlake.analyses.similarity.features.moment_state import MomentState, Pair
from layerlake.analyses.similarity.features.moments import GroupMoments
from layerlake.analyses.similarity.question import INFLUENCED
from layerlake.analyses.statistics.group_jackknife import even_groups
from layerlake.engine.passes.blocks import cut_blocks


def form_values(
    first: FirstPass,
    names: Sequence[str],
    *,
    interval: str,
    confidence: float,
    report: Callable[[int], None],
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
        report(len(group.selected.clusters))
    for (s, t), cross in total.crosses.items():
        measured = measure(others, SpacePair(spaces[s], spaces[t], cross))
        values[s, t] |= {
            name: FormValue(value.value, None, None, value.notes)
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
    report: Callable[[int], None],
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
            cut_blocks(group.selected.bounds[lo : hi + 1], most)
            for lo, hi in itertools.pairwise(edges.tolist())
        ],
    )
