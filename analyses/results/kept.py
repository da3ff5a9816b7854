"""Results kept in a lake: the same question of the same bytes is answered without computing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from layerlake.analyses.results.record import Recorded
from layerlake.store.errors import LakeReadOnly, NameNotFound, StorageFailed
from layerlake.store.identity import columns_fingerprint, settings_fingerprint, short
from layerlake.store.lake import Lake
from layerlake.store.space import Space

R = TypeVar("R", bound=Recorded)

METHOD_VERSION: Final = 4
"""Counts the changes that move a reported digit or the fields: older results are not reused."""


def _fingerprint(settings: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Return what names a result: the question and the bytes it was asked of."""
    return settings_fingerprint(
        {"settings": settings, "identity": identity, "method_version": METHOD_VERSION}
    )


def _path(analysis: str, fingerprint: str) -> str:
    return f"results/{analysis}/{short(fingerprint)}"


def read_identity(lake: Lake, corpus: str, spaces: Iterable[Space]) -> dict[str, Any]:
    """Return what tells the bytes that are read, of a corpus and sets, from those of any other."""
    states = {space.state.plan.path: space.state for space in spaces}
    return {
        "corpus": lake.attributes(f"corpora/{corpus}")["fingerprint"],
        "sets": {
            path: columns_fingerprint({"commits": states[path].commits}) for path in sorted(states)
        },
    }


def find_result(
    lake: Lake,
    analysis: str,
    settings: Mapping[str, Any],
    identity: Mapping[str, Any],
    kind: type[R],
) -> R | None:
    """Return the kept answer of a kind to a question, or None where there is none.

    Raises
    ------
    LakeCorrupt
        It is there and damaged.
    """
    fingerprint = _fingerprint(settings, identity)
    try:
        columns, attributes = lake.table(_path(analysis, fingerprint))
    except NameNotFound:
        return None
    if attributes.get("fingerprint") != fingerprint:
        return None  # another question with the same short name
    return kind.from_columns(columns, attributes)


def keep_result(lake: Lake, analysis: str, result: R) -> R:
    """Keep a result in the lake, in the place of an older one, and return it.

    Where the lake was opened for reading, or cannot be written to, the result comes back with a
    note that says so.
    """
    fingerprint = _fingerprint(result.settings, result.identity)
    path = _path(analysis, fingerprint)
    attributes = {"kind": "result", "fingerprint": fingerprint, **result.to_attributes()}
    columns, dimensions = result.to_columns(), result.dimensions()
    try:
        lake.require_writable()
        lake.location.remove(path)
        lake.add_table(path, columns, attributes, dimensions=dimensions)
    except (LakeReadOnly, StorageFailed) as error:
        note = f"the result was not kept in the lake ({error})"
        return dataclasses.replace(result, notes=(*result.notes, note))
    return result


def described(settings: Mapping[str, Any]) -> str:
    """Say in a line what a kept result is of, from its settings."""
    about = ", ".join(settings["variants"])
    if settings.get("all_pairs"):
        about += " in all pairs"
    elif "reference" in settings:
        about += f" against {settings['reference']}"
    parts = [f"{about} over {settings['corpus']}"]
    if "kernel" in settings:
        parts.append(str(settings["kernel"]))
    parts += [measure for measure in settings.get("measures", ()) if measure != "rsa"]
    rows = settings["rows"]
    return ", ".join([*parts, f"rows {'by default' if rows is None else rows}"])
