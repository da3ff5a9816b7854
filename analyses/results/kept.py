"""Results kept in a lake: the same question of the same bytes is answered without computing."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from layerlake.analyses.results.record import Records
from layerlake.store.errors import LakeReadOnly, NameNotFound, StorageFailed
from layerlake.store.identity import columns_fingerprint, settings_fingerprint, short

if TYPE_CHECKING:
    from layerlake.store.lake import Lake
    from layerlake.store.space import Space

R = TypeVar("R", bound=Records)

KINDS: Final = {"similarity": "SimilarityResult", "profile": "ProfileResult"}
"""The result classes that are kept, by the module of this folder that each lives in."""


def _fingerprint(
    kind: type[Records], settings: Mapping[str, Any], identity: Mapping[str, Any]
) -> str:
    """Return what names a result: the question and the bytes it was asked of."""
    return settings_fingerprint(
        {"settings": settings, "identity": identity, "method_version": kind.method_version}
    )


def _path(analysis: str, fingerprint: str) -> str:
    return f"results/{analysis}/{short(fingerprint)}"


def read_identity(lake: Lake, corpus: str, spaces: Iterable[Space]) -> dict[str, Any]:
    """Return what tells the bytes that are read, of a corpus and sets, from those of any other.

    An analysis that reads more (labels, task files) adds their fingerprints to these.
    """
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

    Parameters
    ----------
    lake
        Where it may be.
    analysis
        The folder under `results/`, one of those that the class declares.
    settings
        The question: all that the answer depends on, beside what is read.
    identity
        Fingerprints of what is read, in any mapping that JSON can hold.
    kind
        The class of the result. An answer of another version of its method is not found.

    Raises
    ------
    LakeCorrupt
        It is there and damaged.
    """
    fingerprint = _fingerprint(kind, settings, identity)
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
    fingerprint = _fingerprint(type(result), result.settings, result.identity)
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


def described(analysis: str, settings: Any) -> str:
    """Say in a line what a kept result is of, from its analysis and settings.

    Results of a class that this version does not know are described by their settings as they are,
    and so are those with the settings of another version.
    """
    from layerlake.store.lineage import printable

    kind = _kind_of(analysis)
    if kind is not None:
        with contextlib.suppress(LookupError, TypeError):
            return kind.describe(settings)
    line = Records.describe(settings) if isinstance(settings, Mapping) else ""
    return f"{analysis} result: {printable(line)}" if line else f"{analysis} result"


def _kind_of(analysis: str) -> type[Records] | None:
    """Return the class whose results are kept in a folder, None where none is known."""
    for module, name in KINDS.items():
        found = importlib.import_module(f"layerlake.analyses.results.{module}")
        kind: type[Records] = getattr(found, name)
        if analysis in kind.analyses:
            return kind
    return None
