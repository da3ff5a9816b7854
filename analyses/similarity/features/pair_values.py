"""From the passes over a group of spaces to the values of its pairs."""

from collections.abc import Callable
from typing import TypeAlias

from layerlake.analyses.similarity.features.cluster_deletions import (
    ClusterDeletions,
    LeavingSums,
    stacked,
)
from layerlake.analyses.similarity.features.dissimilarity import (
    leaving_along,
    line_of,
    pairs_along,
)
from layerlake.analyses.similarity.features.first_pass import FirstPass, constant_spaces
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.features.rsa_value import (
    Deletions,
    RsaValue,
    deleted_values,
    value_of,
)

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
    names = first.group.names
    leaving: LeavingSums = {}
    if interval != "none":
        # Nothing is left to find out of equal spaces, nor of those without a spread.
        skipped = [
            pair for pair, sums in first.sums.items() if sums.same or not constant.isdisjoint(pair)
        ]
        if len(skipped) < len(first.sums):
            deletion = ClusterDeletions(first.state, first.preparation.precision, skip=skipped)
            del first.state  # it holds numbers of every cluster, which the sums hold as well
            leaving = first.again([deletion], report)[0]
        else:
            report(len(first.group.selected.clusters))
    values = {}
    for (s, t), sums in first.sums.items():
        found = stacked(leaving, (s, t))
        if found is not None and score == "cosine":
            found = leaving_along(found, sums, lines[s], lines[t])
        if deletions is not None and found is not None:
            deletions[s, t] = deleted_values(sums, found, score)
        values[s, t] = value_of(
            sums,
            found,
            interval=interval,
            confidence=confidence,
            kernel=first.group.kernel.name,
            score=score,
            constant=[names[k] for k in (s, t) if k in constant],
            distance=distance,
        )
    return values
