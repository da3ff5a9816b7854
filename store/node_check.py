"""Checking what is no set: the groups that a lake is made of, and its tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from layerlake.store import schema
from layerlake.store.errors import LakeCorrupt, LayerLakeError, NameNotFound
from layerlake.store.location import Location, view_of
from layerlake.store.tables import read_table, root_metadata, table_files


def expected_metadata(location: Location) -> Iterator[tuple[str, bytes]]:
    """Yield key and content of the metadata that every lake has, and of its plain groups."""
    yield from root_metadata().items()
    empty = schema.dump_json(schema.group_document({}))
    for path in _groups(location):
        yield f"{path}/{schema.METADATA}", empty


def _groups(location: Location) -> Iterator[str]:
    """Yield the path of every group below the sections that holds nothing but other nodes."""
    for corpus in location.nodes("corpora"):
        for kind in ("tokenizations", "rows"):
            if location.children(f"corpora/{corpus}/{kind}"):
                yield f"corpora/{corpus}/{kind}"
    for corpus in location.nodes("activations"):
        yield f"activations/{corpus}"
        for variant in location.nodes(f"activations/{corpus}"):
            yield f"activations/{corpus}/{variant}"
    for analysis in location.nodes("results"):
        yield f"results/{analysis}"


def table_nodes(location: Location) -> Iterator[str]:
    """Yield the path of every table, also of one that has lost its metadata."""
    for corpus in location.nodes("corpora"):
        yield f"corpora/{corpus}"
        for kind in ("tokenizations", "rows"):
            for name in location.nodes(f"corpora/{corpus}/{kind}"):
                yield f"corpora/{corpus}/{kind}/{name}"
    for variant in location.nodes("variants"):
        yield f"variants/{variant}"
    for analysis in location.nodes("results"):
        for identity in location.nodes(f"results/{analysis}"):
            yield f"results/{analysis}/{identity}"


def check_metadata(location: Location, key: str, expected: bytes, *, repair: bool) -> bool:
    """Say whether a file is what was written; write it again where it is not."""
    try:
        if location.read(key) == expected:
            return True
    except KeyError:
        pass
    if repair:
        location.put(key, [expected])
    return False


def check_table(location: Location, path: str, *, repair: bool) -> list[tuple[str, str, bool]]:
    """Compare a table with what was written: path, problem, and whether it was repaired.

    Repaired are metadata that the rest of the table determines, and whatever can be made anew,
    which is dropped: tokenizations, rows, variants and results. A corpus is named, and restored
    by adding it again.
    """
    try:
        columns, attributes = read_table(location, path)
    except (LakeCorrupt, NameNotFound) as error:
        problem = str(error).partition("; ")[0].removeprefix(f"{path} is ")
        if isinstance(error, NameNotFound):
            problem = f"its {schema.METADATA} is missing"
        mended = repair and _made_anew(path)
        if mended:
            location.remove(path)
        elif not _made_anew(path):
            problem += "; add the same corpus again, which restores it"
        return [(path, problem, mended)]
    except (LayerLakeError, ValueError) as error:
        return [(path, str(error).partition("; ")[0], False)]
    managed = ("columns", "content", "complete", "digest")
    own = {k: v for k, v in attributes.items() if k not in managed}
    findings = []
    for key, parts in table_files(columns, own).items():
        try:
            kept: bytes | None = location.read(f"{path}/{key}")
        except KeyError:
            kept = None
        expected = b"".join(bytes(view_of(part)) for part in parts)
        if key.endswith(schema.METADATA):
            # Dimension names are the writer's choice; everything else is determined.
            same = kept is not None and _without_names(kept) == _without_names(expected)
        else:
            same = kept is not None
        if not same:
            findings.append((f"{path}/{key}", "metadata is not what was written", repair))
            if repair and not _made_anew(path):
                location.put(f"{path}/{key}", parts)
    if findings and repair and _made_anew(path):
        location.remove(path)
    return findings


def _made_anew(path: str) -> bool:
    """Say whether what wrote a table makes it again when it is missing."""
    return not (path.startswith("corpora/") and path.count("/") == 1)


def _without_names(raw: bytes) -> Any:
    try:
        document = json.loads(raw)
    except ValueError:
        return None
    if isinstance(document, dict):
        document.pop("dimension_names", None)
    return document
