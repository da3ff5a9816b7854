"""Finding the place of a lake, and making sure that it is one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from layerlake.store import schema
from layerlake.store.errors import (
    FormatTooNew,
    InvalidInput,
    LakeNotFound,
    LakeReadOnly,
    NotALake,
    is_a,
)
from layerlake.store.folder import LocalLocation
from layerlake.store.in_memory import MemoryLocation
from layerlake.store.location import Location
from layerlake.store.tables import attributes_digest, root_metadata

_MEMORY: dict[str, MemoryLocation] = {}


def locate(path: str | os.PathLike[str], *, write: bool = False) -> Location:
    """Turn a path or URL into a location.

    Raises
    ------
    InvalidInput
        For a scheme that is not served, and for writing on Microsoft Windows, where files
        cannot be replaced while they are read.
    """
    text = os.fspath(path)
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "memory":
        return _MEMORY.setdefault(rest, MemoryLocation(rest))
    if separator and scheme != "file":
        raise InvalidInput(
            f"lakes at {scheme}:// are not served; give a folder or memory://NAME instead of {text}"
        )
    if write and sys.platform == "win32":
        raise InvalidInput(
            "a lake cannot be written on Microsoft Windows, where a file in use cannot be "
            "replaced; write it on Linux, macOS or WSL and read it here"
        )
    return LocalLocation(Path(rest if separator else text).expanduser().absolute())


def _check_format(location: Location) -> None:
    version = None
    try:
        attributes = json.loads(location.read(schema.METADATA))["attributes"]
        damaged = attributes.get("digest") not in (None, attributes_digest(attributes))
        if attributes.get("format") == schema.FORMAT:
            version = attributes.get("format_version")
    except KeyError:  # any folder's Zarr group may have no attributes; only a lake has the rest
        damaged = location.exists(f"{schema.STAGING}/{schema.METADATA}")
    except (ValueError, TypeError, AttributeError):
        damaged = True
    newer = isinstance(version, int) and version > schema.FORMAT_VERSION
    if damaged and not newer:
        advice = ""
        if location.exists(f"{schema.STAGING}/{schema.METADATA}"):
            advice = "; delete that file, then `layerlake verify --repair` writes it again"
        raise NotALake(f"{location.name}/{schema.METADATA} is damaged{advice}")
    if not isinstance(version, int):
        raise NotALake(
            f"{location.name} is no lake; name one with --lake, or an empty folder to begin one"
        )
    if newer:
        doubt = " (or its zarr.json is damaged: the digest does not match)" if damaged else ""
        raise FormatTooNew(
            f"{location.name} has format version {version}, this LayerLake reads up to "
            f"{schema.FORMAT_VERSION}; install a newer one{doubt}"
        )


def create(location: Location) -> None:
    """Write the root of a lake: its sections, and last the file that says that it is one."""
    if isinstance(location, LocalLocation):
        try:
            location.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LakeReadOnly(
                f"cannot create a lake at {location.name}: {error.strerror}; name another place "
                "with --lake"
            ) from error
    for key, content in root_metadata().items():
        location.put(key, [content])


def place_of_lake(path: str | os.PathLike[str] | None, mode: str) -> Location:
    """Return where a lake lies, or may be created; parameters and errors as `open_lake`."""
    if mode not in ("r", "r+", "a"):
        raise InvalidInput(f"mode {mode!r} is not 'r', 'r+' (an existing lake) or 'a' (any)")
    chosen = path if path is not None else os.environ.get("LAYERLAKE") or "lake"
    if not is_a(chosen, str, os.PathLike) or "\0" in os.fspath(chosen):
        raise InvalidInput(f"{chosen!r} is no place for a lake; give a folder or memory://NAME")
    location = locate(chosen, write=mode != "r")
    if location.exists(schema.METADATA):
        _check_format(location)
        root = location.local_path("")
        if mode != "r" and root is not None and not os.access(root, os.W_OK):
            raise LakeReadOnly(f"{location.name} cannot be written to: permission denied")
        return location
    if isinstance(location, LocalLocation):
        root = location.root
        if root.exists() and not root.is_dir():
            raise NotALake(f"{root} is a file; a lake is a folder")
        # An interrupted creation has staging and sections only: it is taken up again.
        known = {schema.STAGING, *schema.SECTIONS}
        if root.is_dir() and {entry.name for entry in root.iterdir()} - known:
            raise NotALake(
                f"{root} is a folder, but no lake; name a lake with --lake, or an empty folder"
            )
    if mode != "r" and all(
        location.exists(f"{name}/{schema.METADATA}") for name in (schema.STAGING, *schema.SECTIONS)
    ):
        create(location)  # the one file that is missing says only that this is a lake
    elif mode != "a":
        raise LakeNotFound(
            f"no lake at {location.name}; name one with --lake or $LAYERLAKE, or begin one with "
            "`layerlake extract MODEL SOURCE`"
        )
    return location
