"""Answer a question from the lake's cached results, or compute and cache the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from layerlake.analyses.results.kept import find_result, keep_result
from layerlake.analyses.results.result import Result
from layerlake.store.lake import Lake

R = TypeVar("R", bound=Result)


def answered(
    lake: Lake,
    analysis: str,
    settings: Mapping[str, Any],
    identity: Mapping[str, Any],
    kind: type[R],
    compute: Callable[[], R],
    *,
    fresh: bool,
    notes: Iterable[str] = (),
) -> R:
    """Return the answer to a question, computed only where the lake does not hold it.

    Parameters
    ----------
    lake
        Where answers are kept; one that is verified is always read afresh.
    analysis
        The folder under `results/`.
    settings
        The question: all that the answer depends on, beside the bytes that are read.
    identity
        Those bytes, by fingerprints.
    kind
        The class of the answer.
    compute
        Computes it, with these settings and this identity.
    fresh
        Compute though the lake holds the answer.
    notes
        What is to be said of the question as it was asked now, whoever answered it.

    Raises
    ------
    LakeCorrupt
        The answer in the lake is damaged.
    """
    answer = None
    if not fresh and not lake.verified:
        answer = find_result(lake, analysis, settings, identity, kind)
    if answer is None:
        answer = keep_result(lake, analysis, compute())
    new = [note for note in notes if note not in answer.notes]
    return dataclasses.replace(answer, notes=(*answer.notes, *new)) if new else answer
