"""Removing from a lake: what a person names, and what interrupted removals and writers left."""

from __future__ import annotations

import contextlib

from layerlake.store import schema
from layerlake.store.errors import InvalidInput, LakeBusy, LakeCorrupt, NameNotFound
from layerlake.store.lake import Lake, require_lake
from layerlake.store.location import Location
from layerlake.store.sets import parse_plan
from layerlake.store.tables import read_attributes
from layerlake.store.writer import remove_dead, write_attributes


def remove(lake: Lake, path: str) -> None:
    """Remove a corpus, variant, set or result for good.

    A set gets its tombstone first, so that a removal killed half-way never shows half a set.

    Raises
    ------
    InvalidInput
        The path names a whole section, or a corpus or variant that activations still use.
    LakeBusy
        Another process writes the set.
    """
    require_lake(lake)
    lake.require_writable()
    clean = _node(lake, path)
    parts = clean.split("/")
    if len(parts) < 2 or parts[0] not in schema.SECTIONS:
        raise InvalidInput(f"{clean} cannot be removed; name a corpus, variant, set or result")
    users = lake.location.children("activations")
    if parts[0] == "corpora" and parts[1] in users:
        raise InvalidInput(
            f"corpus {parts[1]} is used by activations; remove activations/{parts[1]} first"
        )
    if parts[0] == "variants":
        using = [c for c in users if parts[1] in lake.location.children(f"activations/{c}")]
        if using:
            raise InvalidInput(
                f"variant {parts[1]} has activations over {', '.join(using)}; remove "
                f"activations/{using[0]}/{parts[1]} first"
            )
    if parts[0] == "activations" and len(parts) > 4:
        raise InvalidInput(f"{clean} is part of a set, which is kept or removed whole")
    if parts[0] == "activations":
        sets = [p for p in lake.set_paths(parts[1]) if p == clean or p.startswith(f"{clean}/")]
        for node in sets:
            _remove_set(lake.location, node)
        if sets == [clean]:
            return
    lake.location.remove(clean)


def _node(lake: Lake, path: str) -> str:
    """Return the path of a node, also of one whose metadata is missing."""
    try:
        return lake.check_path(path)
    except NameNotFound:
        clean = path.strip("/")
        if not lake.location.children(clean):
            raise
        return clean


def _remove_set(location: Location, path: str) -> None:
    with location.lock(path):
        try:
            plan = parse_plan(path, read_attributes(location, path))
            write_attributes(location, plan, sealed=False, tombstone=True)
        except LakeCorrupt:
            # What cannot be read cannot be taken for a sealed set either.
            pass
        location.remove(path)


def gc(lake: Lake) -> int:
    """Finish interrupted removals, delete what dead writers left; return the bytes freed."""
    lake.require_writable()
    freed = lake.location.sweep()
    for path in lake.set_paths():
        # Damaged ones `verify` names; one that is held, or gone, is somebody else's work.
        with contextlib.suppress(LakeCorrupt, LakeBusy, NameNotFound):
            freed += remove_dead(lake.location, path)
    return freed
