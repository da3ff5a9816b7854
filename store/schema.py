"""The one place that says what a lake looks like on disk: names, metadata, chunk and shard shapes.

Everything is plain Zarr v3. The metadata documents are generated here, deterministically, so that
`verify` can compare what lies on disk with what must lie there, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerlake.store.errors import InvalidInput, is_a

FORMAT = "layerlake"
FORMAT_VERSION = 1

CHUNK_ROWS = 1024
"""Rows of one inner chunk: what a checksum covers."""

WINDOW_ROWS = 16384
"""Rows of one shard: the unit of extraction, commit and resume."""

TABLE_CHUNK_BYTES = 1 << 20
"""Upper bound of one uncompressed chunk of a table column."""

COMMITTED = 1 << 32
"""Added to the crc32c of a committed chunk, so that 0 can mean absent."""

STORE_DTYPES = ("float16", "float32")
CODECS = ("none", "lz4")
POOLINGS = ("mean", "first", "last", "max")
"""How the pieces of a word become its row."""
EXAMPLE_POOLINGS = ("mean", "first", "last", "cls")
"""How the pieces of an example become its row."""
ALL_POOLINGS = (*POOLINGS, "cls")
"""How pieces become a row of any unit."""

SECTIONS = ("corpora", "variants", "activations", "results")
"""The groups at the root of a lake."""

STAGING = "staging"
"""An empty array at the root whose folder holds files under construction.

Zarr never lists what lies in an array's folder, so that a writer killed at any moment leaves
nothing that a stock reader would stumble over.
"""

METADATA = "zarr.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+=-]{0,119}")


def check_name(name: str, what: str) -> str:
    """Return `name` if it may name a node of a lake; raise `InvalidInput` otherwise."""
    if not is_a(name, str) or not _NAME.fullmatch(name) or name.endswith(".json"):
        raise InvalidInput(
            f"{name!r} cannot name a {what}: names are 1 to 120 letters, digits and . _ @ + = - , "
            "beginning with a letter or digit; choose another with --as or --corpus"
        )
    return name


def name_from(text: str) -> str:
    """Make a lawful name out of any text, such as a file's stem or a model's last part."""
    name = re.sub(r"[^A-Za-z0-9._@+=-]+", "-", text).lstrip("._@+=-")[:120]
    return name or f"unnamed-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def dump_json(document: Mapping[str, Any]) -> bytes:
    """Serialise a metadata document; the same document always gives the same bytes."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def group_document(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `zarr.json` of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def _array_document(
    *,
    shape: Sequence[int],
    dtype: str,
    chunk_shape: Sequence[int],
    fill_value: Any,
    codecs: Sequence[Mapping[str, Any]],
    dimensions: Sequence[str],
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill_value,
        "codecs": [dict(codec) for codec in codecs],
        "dimension_names": list(dimensions),
        "attributes": dict(attributes or {}),
    }


def bytes_codec(dtype: str) -> dict[str, Any]:
    """Return the codec that lays numbers down little-endian (nothing to order in one byte)."""
    if np.dtype(dtype).itemsize == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def blosc_codec(dtype: str) -> dict[str, Any]:
    """Return the metadata of blosc lz4 with bit shuffling."""
    return {
        "name": "blosc",
        "configuration": {
            "typesize": np.dtype(dtype).itemsize,
            "cname": "lz4",
            "clevel": 5,
            "shuffle": "bitshuffle",
            "blocksize": 0,
        },
    }


def _inner_codecs(dtype: str, codec: str) -> list[dict[str, Any]]:
    codecs = [bytes_codec(dtype)]
    if codec == "lz4":
        codecs.append(blosc_codec(dtype))
    return codecs


@dataclass(frozen=True)
class ActivationLayout:
    """Shapes of the arrays of one set."""

    n_rows: int
    hidden: int
    dtype: str
    codec: str
    window_rows: int = WINDOW_ROWS
    chunk_rows: int = CHUNK_ROWS

    def __post_init__(self) -> None:
        if self.dtype not in STORE_DTYPES:
            raise InvalidInput(
                f"store dtype {self.dtype!r} is not one of {', '.join(STORE_DTYPES)}"
            )
        if self.codec not in CODECS:
            raise InvalidInput(f"codec {self.codec!r} is not one of {', '.join(CODECS)}")
        if self.n_rows < 1 or self.hidden < 1:
            raise InvalidInput(f"a set of {self.n_rows} rows x {self.hidden} values holds nothing")
        if self.chunk_rows < 1 or self.window_rows % self.chunk_rows or self.window_rows < 1:
            raise InvalidInput(
                f"window of {self.window_rows} rows is not a positive multiple of {self.chunk_rows}"
            )

    @property
    def n_windows(self) -> int:
        """Number of shards, hence of commits."""
        return -(-self.n_rows // self.window_rows)

    @property
    def chunks_per_window(self) -> int:
        """Inner chunks of a full shard."""
        return self.window_rows // self.chunk_rows

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one uncompressed inner chunk."""
        return self.chunk_rows * self.hidden * np.dtype(self.dtype).itemsize

    def window(self, index: int) -> tuple[int, int]:
        """Return the half-open range of rows of a window."""
        start = index * self.window_rows
        return start, min(start + self.window_rows, self.n_rows)

    def chunks_in(self, window: int) -> int:
        """Return how many inner chunks of a window hold rows."""
        start, stop = self.window(window)
        return -(-(stop - start) // self.chunk_rows)

    def document(self) -> dict[str, Any]:
        """Return the `zarr.json` of one activation array, dimensions (row, hidden)."""
        return _array_document(
            shape=(self.n_rows, self.hidden),
            dtype=self.dtype,
            chunk_shape=(self.window_rows, self.hidden),
            fill_value="NaN",
            codecs=[
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": [self.chunk_rows, self.hidden],
                        "codecs": _inner_codecs(self.dtype, self.codec),
                        "index_codecs": [bytes_codec("uint64"), {"name": "crc32c"}],
                        "index_location": "end",
                    },
                }
            ],
            dimensions=("row", "hidden"),
        )

    def commits_document(self, n_arrays: int, *, whole: bool) -> dict[str, Any]:
        """Return the `zarr.json` of `commits` (a chunk a window) or `manifest` (one chunk)."""
        shape = (self.n_windows, n_arrays, self.chunks_per_window)
        return _array_document(
            shape=shape,
            dtype="uint64",
            chunk_shape=shape if whole else (1, *shape[1:]),
            fill_value=0,
            codecs=[bytes_codec("uint64")],
            dimensions=("window", "array", "chunk"),
        )


def shard_key(window: int) -> str:
    """Return the key of a window's shard below an activation array."""
    return f"c/{window}/0"


def commit_key(window: int) -> str:
    """Return the key of a window's commit below `commits` (and, for 0, of `manifest`)."""
    return f"c/{window}/0/0"


TABLE_DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
)


def table_document(
    shape: Sequence[int], dtype: str, dimensions: Sequence[str], chunk_rows: int
) -> dict[str, Any]:
    """Return the `zarr.json` of one table column, chunked along its first axis."""
    fill: Any = False if dtype == "bool" else 0
    return _array_document(
        shape=shape,
        dtype=dtype,
        chunk_shape=(chunk_rows, *(max(1, n) for n in shape[1:])),
        fill_value=float(fill) if dtype.startswith("float") else fill,
        codecs=[bytes_codec(dtype), blosc_codec(dtype)],
        dimensions=dimensions,
    )


def staging_document() -> dict[str, Any]:
    """Return the `zarr.json` of the staging array."""
    return _array_document(
        shape=(0,),
        dtype="uint8",
        chunk_shape=(1,),
        fill_value=0,
        codecs=[{"name": "bytes"}],
        dimensions=("byte",),
    )
