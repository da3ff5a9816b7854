"""Fingerprints: what makes two texts, tokenizers, weights or settings the same."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from google_crc32c import value as _crc32c
from numpy.typing import NDArray


def settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of settings that JSON can say; key order does not matter."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def short(fingerprint: str) -> str:
    """Return the twelve characters by which a fingerprint is shown and named."""
    return fingerprint[:12]


def columns_fingerprint(columns: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 (hex) of named arrays: names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        for key, part in split_strings(name, columns[name]).items():
            digest.update(f"{key}\0{part.dtype.str}\0{part.shape}\0".encode())
            digest.update(np.ascontiguousarray(part).view(np.uint8).data if part.size else b"")
    return digest.hexdigest()


def corpus_fingerprint(columns: Mapping[str, NDArray[Any]], words_given: bool) -> str:
    """Return the sha256 (hex) of a corpus: the columns of its table, and whether words were given.

    Where it came from and its licence do not count.
    """
    return settings_fingerprint({"columns": columns_fingerprint(columns), "given": words_given})


def is_string(array: NDArray[Any]) -> bool:
    """Say whether an array holds text."""
    return array.dtype.kind in "TU" or array.dtype == object


def split_strings(name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return a text column as UTF-8 bytes and offsets; any other column as it is."""
    if not is_string(array):
        return {name: np.asarray(array)}
    encoded = [str(text).encode("utf-8", "surrogatepass") for text in array.tolist()]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return {
        f"{name}/bytes": np.frombuffer(b"".join(encoded), np.uint8),
        f"{name}/offsets": offsets,
    }


def join_strings(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[Any]:
    """Return the text column that `split_strings` took apart (numpy `StringDType`)."""
    whole = data.tobytes()
    bounds = offsets.tolist()
    texts = [
        whole[start:stop].decode("utf-8", "surrogatepass")
        for start, stop in itertools.pairwise(bounds)
    ]
    return np.array(texts, dtype=np.dtypes.StringDType())


def checksum(data: bytes | NDArray[np.uint8]) -> int:
    """Return the crc32c of some bytes."""
    return int(_crc32c(data))
