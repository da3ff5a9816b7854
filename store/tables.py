"""Tables: named columns with attributes under one group; corpora, tokenizations, rows, results.

A table is published in one piece and never changed. Text columns are kept as UTF-8 bytes and
offsets, which every Zarr reader can open (the `string` data type is not served by all of them).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numcodecs.blosc import Blosc
from numpy.typing import NDArray

from layerlake.store import schema
from layerlake.store.errors import InvalidInput, LakeCorrupt, NameNotFound, StorageFailed
from layerlake.store.identity import (
    columns_fingerprint,
    is_string,
    join_strings,
    settings_fingerprint,
    split_strings,
)
from layerlake.store.location import Buffer, Location, view_of

_UNREADABLE = (
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    FileNotFoundError,
    # What the decoder raises where a damaged frame claims to be of negative or of huge size.
    SystemError,
    MemoryError,
)
"""What readers of Zarr raise where metadata or chunks of a column are damaged."""


def encode_name(name: str) -> str:
    """Return any name as one safe path element, percent-encoded."""
    if not name:
        return "%"  # what `quote` never makes of another name
    head = f"%{ord(name[0]):02X}" if name[0] in "._" else quote(name[0], safe="")
    return head + quote(name[1:], safe="")


def decode_name(element: str) -> str:
    """Return the name that `encode_name` encoded."""
    return "" if element == "%" else unquote(element)


def read_document(location: Location, path: str) -> dict[str, Any]:
    """Return the metadata of a node.

    Raises
    ------
    NameNotFound
        Where there is no node.
    LakeCorrupt
        Where the metadata is no JSON object, or its digest does not match.
    """
    key = f"{path}/{schema.METADATA}" if path else schema.METADATA
    try:
        raw = location.read(key)
    except KeyError:
        raise NameNotFound(f"nothing called {path or '/'} in the lake {location.name}") from None
    try:
        document = json.loads(raw)
        attributes = document["attributes"]
        kept = attributes.get("digest")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LakeCorrupt(
            f"{key} is damaged: it is no Zarr metadata; `layerlake verify` says what to do"
        ) from None
    if kept is not None and kept != attributes_digest(attributes):
        raise LakeCorrupt(
            f"{key} is damaged: its digest does not match; `layerlake verify` says what to do"
        )
    return dict(document)


def read_attributes(location: Location, path: str) -> dict[str, Any]:
    """Return the attributes of a group; errors as `read_document`."""
    return dict(read_document(location, path)["attributes"])


def attributes_digest(attributes: Mapping[str, Any]) -> str:
    """Return the fingerprint of attributes, their own `digest` left out."""
    return settings_fingerprint({k: v for k, v in attributes.items() if k != "digest"})


def sealed_group(attributes: Mapping[str, Any]) -> bytes:
    """Return the `zarr.json` of a group whose attributes carry their own digest."""
    kept = json.loads(json.dumps(dict(attributes)))
    kept["digest"] = attributes_digest(kept)
    return schema.dump_json(schema.group_document(kept))


def root_metadata() -> dict[str, bytes]:
    """Return what every lake begins with: keys and contents, the lake's own metadata last."""
    empty = schema.dump_json(schema.group_document({}))
    attributes = {"format": schema.FORMAT, "format_version": schema.FORMAT_VERSION}
    return {
        f"{schema.STAGING}/{schema.METADATA}": schema.dump_json(schema.staging_document()),
        **{f"{section}/{schema.METADATA}": empty for section in schema.SECTIONS},
        schema.METADATA: sealed_group(attributes),
    }


def ensure_group(location: Location, path: str) -> None:
    """Create the groups from the root down to `path` where they are missing."""
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        node = "/".join(parts[:depth])
        if not location.exists(f"{node}/{schema.METADATA}"):
            document = schema.dump_json(schema.group_document({}))
            new = location.publish(node, {schema.METADATA: [document]})
            if not new and not location.exists(f"{node}/{schema.METADATA}"):
                # The folder is there and its metadata is not: somebody deleted it.
                location.put(f"{node}/{schema.METADATA}", [document])


def _column_files(
    name: str, array: NDArray[Any], dimensions: tuple[str, ...]
) -> dict[str, list[Buffer]]:
    dtype = array.dtype.name
    if dtype not in schema.TABLE_DTYPES:
        raise InvalidInput(f"column {name!r} has dtype {dtype}; a table cannot keep that")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    row_bytes = max(1, array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
    chunk_rows = max(1, min(schema.TABLE_CHUNK_BYTES // row_bytes, max(1, len(array))))
    document = schema.table_document(array.shape, dtype, dimensions, chunk_rows)
    files: dict[str, list[Buffer]] = {f"{name}/{schema.METADATA}": [schema.dump_json(document)]}
    if not array.size:
        return files
    codec = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE, typesize=array.itemsize)
    tail = "/0" * (array.ndim - 1)
    for number, start in enumerate(range(0, len(array), chunk_rows)):
        chunk = array[start : start + chunk_rows]
        if len(chunk) < chunk_rows:
            padding = np.zeros((chunk_rows - len(chunk), *array.shape[1:]), array.dtype)
            chunk = np.concatenate([chunk, padding])
        files[f"{name}/c/{number}{tail}"] = [codec.encode(np.ascontiguousarray(chunk))]
    return files


def table_files(
    columns: Mapping[str, NDArray[Any]],
    attributes: Mapping[str, Any],
    dimensions: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, list[Buffer]]:
    """Return every file of a table, keys relative to its group."""
    files: dict[str, list[Buffer]] = {}
    groups: set[str] = set()
    for name, array in columns.items():
        axes = (dimensions or {}).get(name, tuple(f"{name}_{i}" for i in range(array.ndim)))
        parts = split_strings(name, array)
        if len(parts) > 1:
            groups.add(name)
            axes = (f"{name}_item",)
        groups.update("/".join(name.split("/")[:depth]) for depth in range(1, len(name.split("/"))))
        for key, part in parts.items():
            files.update(_column_files(key, part, axes))
    empty = schema.dump_json(schema.group_document({}))
    files.update({f"{group}/{schema.METADATA}": [empty] for group in groups})
    kept = {
        **attributes,
        "columns": {name: "utf8" if is_string(a) else a.dtype.name for name, a in columns.items()},
        "content": columns_fingerprint(columns),
        "complete": True,
    }
    files[schema.METADATA] = [sealed_group(kept)]
    return files


def write_table(
    location: Location,
    path: str,
    columns: Mapping[str, NDArray[Any]],
    attributes: Mapping[str, Any],
    dimensions: Mapping[str, tuple[str, ...]] | None = None,
) -> bool:
    """Publish a table; return False where the path is taken (nothing is changed then)."""
    ensure_group(location, path.rpartition("/")[0])
    return location.publish(path, table_files(columns, attributes, dimensions))


def _read_array(location: Location, path: str) -> NDArray[Any]:
    import zarr

    node = zarr.open_array(location.zarr_store(), path=path, mode="r")
    # Zarr takes the fill value for a chunk that is missing; of a table every chunk is written.
    for place in itertools.product(*map(range, node.cdata_shape)):
        key = f"{path}/{node.metadata.encode_chunk_key(place)}"
        if not location.exists(key):
            raise FileNotFoundError(f"{key} is missing")
    return np.asarray(node[...])


def read_column(location: Location, path: str, name: str, kind: str) -> NDArray[Any]:
    """Return one column of a table (`kind` as its attributes say: `utf8` or a dtype)."""
    if kind == "utf8":
        data = _read_array(location, f"{path}/{name}/bytes")
        return join_strings(data, _read_array(location, f"{path}/{name}/offsets"))
    return _read_array(location, f"{path}/{name}")


def read_table(
    location: Location, path: str, *, names: list[str] | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the columns (all, or those named) and the attributes of a table.

    Raises
    ------
    LakeCorrupt
        Where a column cannot be decoded, or all were read and are not what was written.
    """
    attributes = read_attributes(location, path)
    columns = {}
    for name, kind in attributes.get("columns", {}).items():
        if names is not None and name not in names:
            continue
        try:
            columns[name] = read_column(location, path, name, kind)
        except _UNREADABLE as error:
            raise LakeCorrupt(
                f"{path} is damaged: its column {name} cannot be read ({_one_line(error)}); "
                f"{_way_out(path)}"
            ) from error
        except OSError as error:
            raise StorageFailed(
                f"cannot read column {name} of {path}: {error.strerror or _one_line(error)}"
            ) from error
    if names is None and columns_fingerprint(columns) != attributes.get("content"):
        raise LakeCorrupt(
            f"{path} is damaged: its columns are not what was written; {_way_out(path)}"
        )
    return columns, attributes


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _way_out(path: str) -> str:
    """Say what to do about a table that is damaged."""
    parts = path.split("/")
    if len(parts) == 2 and parts[0] == "corpora":
        return f"add the same again, which restores it: `layerlake corpus add {parts[1]} SOURCE`"
    return "`layerlake verify --repair` drops it, then what wrote it makes it anew"


def restore_table(
    location: Location,
    path: str,
    columns: Mapping[str, NDArray[Any]],
    attributes: Mapping[str, Any],
    dimensions: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Write every file of a damaged table again, from the content that it had.

    Raises
    ------
    LakeCorrupt
        Nothing that is left of the table proves that its content was this one: neither a
        fingerprint in its metadata nor all of its columns' files.
    """
    files = table_files(columns, attributes, dimensions)
    try:
        kept = location.read(f"{path}/{schema.METADATA}")
    except KeyError:
        kept = b""
    names = (str(attributes.get("fingerprint")), columns_fingerprint(columns))
    if not any(name.encode() in kept for name in names) and not _same_data(location, path, files):
        raise LakeCorrupt(
            f"{path} is damaged, and what is left of it does not show that this was its content; "
            f"remove it with `layerlake rm {path}` and add it again"
        )
    # Its own metadata last: until then it is as damaged as it was.
    for key in sorted(files, key=lambda key: key == schema.METADATA):
        location.put(f"{path}/{key}", files[key])


def _same_data(location: Location, path: str, files: Mapping[str, Sequence[Buffer]]) -> bool:
    """Say whether every file of the columns lies there as it would be written."""
    data = {key: parts for key, parts in files.items() if not key.endswith(schema.METADATA)}
    for key, parts in data.items():
        try:
            kept = location.read(f"{path}/{key}")
        except KeyError:
            return False
        if kept != b"".join(bytes(view_of(part)) for part in parts):
            return False
    return bool(data)


def table_paths(location: Location, parent: str) -> list[str]:
    """Return the names of the groups directly below `parent`."""
    return [
        name
        for name in itertools.filterfalse(
            lambda child: child == schema.METADATA, location.children(parent)
        )
        if location.exists(f"{parent}/{name}/{schema.METADATA}")
    ]
