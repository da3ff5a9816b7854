"""Files of activations that other programs wrote: .npy and .safetensors, mapped, never unpickled.

What a file calls a layer is a number of its own convention. Nothing here takes it for one of ours
(0 = embedding output, l = output of block l) unless somebody says so: `number_layers`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.settings import parse_layers, whole_number
from layerlake.store.errors import InvalidInput
from layerlake.store.external.external_plan import array_name

BLOCK_ROWS = 4096
_DIGEST_BLOCKS, _DIGEST_BYTES = 64, 1 << 16

_MOST_LAYERS = 10_000
_MOST_HEADER_BYTES = 100 << 20
_TENSOR_NAME = re.compile(
    r"(?:(?!(?:layers?|blocks?|hidden_states?|h)[./-])(?P<site>[A-Za-z][A-Za-z0-9_]*?)[./-])?"
    r"(?:(?:layers?|blocks?|hidden_states?|h)[._/-]?)?"
    r"(?P<number>[0-9]{1,5})"
)
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_MAGIC = (
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"PK\x03\x04", "zip"),
    (b"\x80", "pickle"),
)


class ActivationFile(Protocol):
    """A file that holds the rows of some arrays."""

    @property
    def arrays(self) -> tuple[str, ...]:
        """`<site>/<layer>`, in our numbering."""

    @property
    def n_rows(self) -> int:
        """Rows of every array."""

    @property
    def hidden(self) -> int:
        """Values of a row."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What `blocks` yields."""

    def blocks(self, start: int, window_rows: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Yield (place in `arrays`, first row, rows) from a row on, so that windows fill evenly."""


@dataclass(frozen=True)
class Numbering:
    """How people say which layers a file holds."""

    layers: tuple[int, ...] | None
    """The layers to take; or, where `first` is not given, the layer of each in the file."""
    first: int | None
    """Our layer for what the file counts as 0."""


def read_numbering(layers: Any, first_layer: Any) -> Numbering:
    """Return what was given as layers (`0,8,16`, `0-4`, numbers) and first layer, checked."""
    first = None if first_layer is None else whole_number(first_layer, "first_layer", 0, 1000)
    wanted = None if layers is None else parse_layers(layers, _MOST_LAYERS)
    return Numbering(wanted, first)


def number_layers(count: int, numbering: Numbering, file: str) -> list[tuple[int, int]]:
    """Return (place in the file, our layer) of the layers to take, of `count` that it holds.

    Raises
    ------
    InvalidInput
        Nothing says which layers they are, or one is asked for that is not there.
    """
    if numbering.first is None:
        if numbering.layers is None:
            raise InvalidInput(
                f"{file} holds {count} layers and does not say which: give --first-layer 0 if its "
                "first is the embedding output, 1 if it is the output of the first block, or name "
                "all with --layers"
            )
        if len(numbering.layers) != count:
            raise InvalidInput(
                f"{file} holds {count} layers, and {len(numbering.layers)} numbers were given; "
                "give one for each, or --first-layer and those to take"
            )
        return list(enumerate(numbering.layers))
    return _wanted([(place, numbering.first + place) for place in range(count)], numbering, file)


def _wanted(held: list[tuple[Any, int]], numbering: Numbering, file: str) -> list[tuple[Any, int]]:
    """Return those of the layers held that are asked for."""
    if numbering.layers is None:
        return held
    numbers = {layer for _, layer in held}
    absent = [layer for layer in numbering.layers if layer not in numbers]
    if absent:
        raise InvalidInput(
            f"layer {absent[0]} asked of {file}, which holds {', '.join(map(str, sorted(numbers)))}"
        )
    return [(place, layer) for place, layer in held if layer in numbering.layers]


def file_kind(path: Path) -> str:
    """Return `npy`, `hdf5` or `safetensors` by the first bytes of a file.

    Raises
    ------
    InvalidInput
        It is none of these; pickles are never opened.
    """
    with path.open("rb") as file:
        head = file.read(16)
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    if kind in ("npy", "hdf5"):
        return kind
    # The length of the header comes first, and may look like anything.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MOST_HEADER_BYTES:
        return "safetensors"
    if kind is not None:
        what = "an archive (.npz, .pt)" if kind == "zip" else "a pickle (.pkl, .pt)"
        raise InvalidInput(
            f"{path.name} is {what}, which is not opened; save the arrays as .npy or .safetensors"
        )
    raise InvalidInput(
        f"{path.name} is no .npy, .safetensors or HDF5 file; it begins with {head[:8]!r}"
    )


def file_identity(path: Path) -> dict[str, Any]:
    """Return what tells a file from another: name, bytes, sha256 of 64 blocks spread over it.

    All bytes of a large file would take as long to hash as to import.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for place in np.linspace(0, max(0, size - _DIGEST_BYTES), _DIGEST_BLOCKS).astype(int):
            file.seek(int(place))
            digest.update(file.read(_DIGEST_BYTES))
    return {"file": path.name, "bytes": size, "sampled_sha256": digest.hexdigest()}


@dataclass(frozen=True)
class Matrices:
    """Arrays whose rows lie one after the other in a mapped file."""

    arrays: tuple[str, ...]
    matrices: tuple[NDArray[Any], ...]
    """(row, hidden) each; bfloat16 as uint16."""
    bfloat16: bool
    n_rows: int
    hidden: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the blocks."""
        return np.dtype("float32") if self.bfloat16 else self.matrices[0].dtype

    def blocks(self, start: int, window_rows: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Yield the rows of every array window by window, whole ones as they lie in the file."""
        while start < self.n_rows:
            stop = min(self.n_rows, start - start % window_rows + window_rows)
            for place, matrix in enumerate(self.matrices):
                if not self.bfloat16:
                    yield place, start, matrix[start:stop]
                    continue
                for low in range(start, stop, BLOCK_ROWS):
                    part = matrix[low : min(low + BLOCK_ROWS, stop)]
                    yield place, low, (part.astype(np.uint32) << 16).view(np.float32)
            start = stop


def _matrices(
    arrays: Sequence[str], found: Sequence[NDArray[Any]], bfloat16: bool, file: str
) -> Matrices:
    shapes = {matrix.shape for matrix in found}
    if len(shapes) > 1:
        listed = ", ".join(f"{a} {m.shape}" for a, m in zip(arrays, found, strict=True))
        raise InvalidInput(
            f"the layers of {file} differ in shape ({listed}); take those of one shape at a time, "
            "with --layers or --map"
        )
    twice = [name for name in arrays if arrays.count(name) > 1]
    if twice:
        raise InvalidInput(f"{file} has more than one {twice[0]}; say which with --map")
    n_rows, hidden = found[0].shape
    if not n_rows or not hidden:
        raise InvalidInput(f"{file} holds {n_rows} rows of {hidden} values: nothing to import")
    return Matrices(tuple(arrays), tuple(found), bfloat16, n_rows, hidden)


def open_npy(path: Path, site: str, numbering: Numbering) -> Matrices:
    """Open a .npy file of shape (rows, hidden) or (layers, rows, hidden).

    Raises
    ------
    InvalidInput
        It is cut short, holds Python objects or no floats, or has another shape.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = str(error)
        if "object" in reason:
            reason = "it holds Python objects, which are never unpickled"
        elif "length" in reason or "EOF" in reason or "header" in reason:
            reason = "it is cut short or damaged"
        raise InvalidInput(f"{path.name} cannot be opened: {reason}") from None
    _check_floats(array.dtype, path.name)
    if array.ndim == 2:
        array = array[None]
        if numbering.layers is None and numbering.first is None:
            raise InvalidInput(
                f"nothing says which layer {path.name} is; give --layer (0 is the embedding "
                "output, l the output of block l)"
            )
    if array.ndim != 3:
        raise InvalidInput(
            f"{path.name} has shape {array.shape}; expected (rows, hidden) or (layers, rows, hidden)"
        )
    taken = number_layers(len(array), numbering, path.name)
    arrays = [array_name(site, layer) for _, layer in taken]
    return _matrices(arrays, [array[place] for place, _ in taken], False, path.name)


def _check_floats(dtype: np.dtype[Any], file: str) -> None:
    if dtype.kind != "f":
        raise InvalidInput(f"{file} holds {dtype}; give floats (float16, float32 or float64)")


def open_safetensors(
    path: Path, site: str, numbering: Numbering, mapping: Mapping[str, str]
) -> Matrices:
    """Open a .safetensors file of tensors (rows, hidden), or of one of (layers, rows, hidden).

    Names are read as `[SITE.][layer_]NUMBER`: `8`, `layer_8`, `layers.8`, `resid.8`,
    `mlp_out/layer_8`, `hidden_states.8`; what separates the site is `.`, `/` or `-`.

    Parameters
    ----------
    site
        Of tensors whose name has none.
    mapping
        Name -> `SITE/LAYER` or `LAYER`, in our numbering; then nothing else is taken.
    """
    tensors = _tensors(path)
    if mapping:
        absent = [name for name in mapping if name not in tensors]
        if absent:
            raise InvalidInput(
                f"{path.name} has no tensor {absent[0]!r}; it has {_listed(tensors)}"
            )
        taken = [(name, _mapped(name, to, site)) for name, to in mapping.items()]
        if numbering.first is not None or numbering.layers is not None:
            raise InvalidInput(
                "--map names our layers itself; leave --layers and --first-layer out"
            )
    elif len(tensors) == 1 and next(iter(tensors.values()))[1].ndim == 3:
        ((name, (kind, cube)),) = tensors.items()
        _check_tensor(path, name, kind)
        numbered = number_layers(len(cube), numbering, path.name)
        arrays = [array_name(site, layer) for _, layer in numbered]
        return _matrices(arrays, [cube[p] for p, _ in numbered], kind == "BF16", path.name)
    else:
        taken = _named(path, tensors, site, numbering)
    kinds = set()
    for name, _ in taken:
        kind, tensor = tensors[name]
        _check_tensor(path, name, kind)
        kinds.add(kind)
        if tensor.ndim != 2:
            raise InvalidInput(
                f"tensor {name!r} of {path.name} has shape {tensor.shape}; expected (rows, hidden)"
            )
    if len(kinds) > 1:
        raise InvalidInput(
            f"the layers of {path.name} come as {', '.join(sorted(kinds))}; take those of one "
            "dtype at a time, with --layers or --map"
        )
    found = [tensors[name][1] for name, _ in taken]
    return _matrices([array for _, array in taken], found, kinds == {"BF16"}, path.name)


def _named(
    path: Path, tensors: Mapping[str, Any], site: str, numbering: Numbering
) -> list[tuple[str, str]]:
    """Return (tensor, array) by the rule for names."""
    matches = {name: _TENSOR_NAME.fullmatch(name) for name in tensors}
    unclear = [name for name, match in matches.items() if match is None]
    if unclear:
        raise InvalidInput(
            f"{path.name} has tensors whose names give no layer ({_listed(unclear)}); names are "
            "read as [SITE.][layer_]NUMBER, others with --map NAME=SITE/LAYER"
        )
    if numbering.first is None:
        raise InvalidInput(
            f"the numbers in the names of {path.name} ({_listed(tensors)}) are of its own "
            "convention: give --first-layer 0 if its 0 is the embedding output, 1 if its 0 is the "
            "output of the first block"
        )
    held = [
        ((name, match["site"] or site), numbering.first + int(match["number"]))
        for name, match in matches.items()
        if match is not None
    ]
    held.sort(key=lambda item: (item[0][1], item[1]))
    taken = _wanted(held, numbering, path.name)
    return [(name, array_name(where, layer)) for (name, where), layer in taken]


def _mapped(name: str, to: str, site: str) -> str:
    where, _, layer = to.rpartition("/")
    if not (layer.isascii() and layer.isdigit()):
        raise InvalidInput(f"{name!r} is mapped to {to!r}; give SITE/LAYER, or LAYER")
    return array_name(where or site, int(layer))


def _listed(names: Any) -> str:
    shown = sorted(names)[:6]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _check_tensor(path: Path, name: str, kind: str) -> None:
    if kind not in ("F64", "F32", "F16", "BF16"):
        raise InvalidInput(f"tensor {name!r} of {path.name} is {kind}; expected floats")


def _tensors(path: Path) -> dict[str, tuple[str, NDArray[Any]]]:
    """Return the dtype and the mapped values of every tensor, from the header of a file."""
    size = path.stat().st_size
    damaged = InvalidInput(f"{path.name} is damaged or cut short: its header does not fit its size")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MOST_HEADER_BYTES, size - 8):
            raise damaged
        raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        described = {
            str(name): (
                str(about["dtype"]),
                tuple(int(n) for n in about["shape"]),
                tuple(int(n) for n in about["data_offsets"]),
            )
            for name, about in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if not described:
        raise InvalidInput(f"{path.name} holds no tensors")
    found = {}
    for name, (kind, shape, bounds) in described.items():
        if kind not in _DTYPES:
            raise InvalidInput(f"tensor {name!r} of {path.name} is {kind}; expected floats")
        dtype = np.dtype(_DTYPES[kind])
        n_bytes = math.prod(shape) * dtype.itemsize
        fits = len(bounds) == 2 and bounds[0] >= 0 and bounds[1] - bounds[0] == n_bytes
        if not fits or any(n < 0 for n in shape) or 8 + length + bounds[1] > size:
            raise damaged
        if not n_bytes:
            found[name] = kind, np.zeros(shape, dtype)
            continue
        values = np.memmap(path, dtype, "r", 8 + length + bounds[0], shape)
        found[name] = kind, values
    return found
