"""Several results as one: the same question asked of several corpora."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from layerlake.analyses.results.record import Records

R = TypeVar("R", bound=Records)


def joined(results: Sequence[R]) -> R:
    """Return the results of one question, asked of one corpus each, as one.

    Settings that differ, the corpus among them, become lists; the identity is kept by corpus.
    """
    if len(results) == 1:
        return results[0]
    settings = {
        key: value
        if all(result.settings[key] == value for result in results)
        else [result.settings[key] for result in results]
        for key, value in results[0].settings.items()
    }
    notes = [f"{result.settings['corpus']}: {note}" for result in results for note in result.notes]
    held = {record["measure"] for result in results for record in result.records}
    notes += [note for measure, note in results[0].notes_across.items() if measure in held]
    return dataclasses.replace(
        results[0],
        settings=settings,
        identity={str(result.settings["corpus"]): result.identity for result in results},
        records=tuple(record for result in results for record in result.records),
        notes=tuple(notes),
    )
