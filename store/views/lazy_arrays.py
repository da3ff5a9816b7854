"""Spaces as dask and xarray arrays: shapes and labels now, rows when they are computed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput, OutOfRange
from layerlake.store.identity import columns_fingerprint, settings_fingerprint
from layerlake.store.space import Space
from layerlake.store.views.row_labels import example_ids, row_values, word_texts

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

BLOCK_BYTES = 64 << 20
"""Most bytes of a dask block where nobody says how many rows."""


class _Rows:
    """A space as dask cuts it: by slices and whole numbers, along both axes."""

    ndim = 2

    def __init__(self, space: Space) -> None:
        self.space = space
        self.shape = space.shape
        self.dtype = space.dtype

    def __getitem__(self, key: tuple[slice | int, slice | int]) -> NDArray[Any]:
        rows, hidden = key
        if not isinstance(rows, slice):
            return np.asarray(self.space.rows([rows])[0, hidden])
        start, stop, step = rows.indices(self.shape[0])
        wanted = slice(start, stop) if step == 1 else np.arange(start, stop, step)
        return np.asarray(self.space.rows(wanted)[:, hidden])


def _block_sizes(space: Space, block_rows: int | None) -> tuple[int, ...]:
    """Return the rows of each block; none reaches over two windows."""
    if block_rows is None:
        chunk_bytes = space.chunk_rows * space.shape[1] * space.dtype.itemsize
        block_rows = max(1, BLOCK_BYTES // chunk_bytes) * space.chunk_rows
    if block_rows < 1:
        raise OutOfRange(f"blocks of {block_rows} rows were asked for; ask for 1 or more")
    sizes = []
    for start, stop in itertools.pairwise(space.window_bounds.tolist()):
        sizes += [min(block_rows, stop - at) for at in range(start, stop, block_rows)]
    return tuple(sizes)


def dask_array(space: Space, block_rows: int | None) -> da.Array:
    """Return a space as a dask array; see `Space.to_dask`."""
    import dask.array as da

    space.require_whole()
    sizes = _block_sizes(space, block_rows)
    # The same bytes have the same name, so that dask reads them once.
    about = {
        "lake": space.location.name,
        "array": space.path,
        "commits": columns_fingerprint({"commits": space.state.commits}),
        "reading": [space.verified, space.direct],
        "blocks": [len(sizes), sizes[0]],
    }
    array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
        _Rows(space),
        chunks=(sizes, (space.shape[1],)),
        name=f"space-{settings_fingerprint(about)}",
        asarray=False,
        fancy=False,
        meta=np.empty((0, 0), space.dtype),
    )
    return array


def data_array(
    space: Space, block_rows: int | None, *, words: bool, columns: Sequence[str]
) -> xr.DataArray:
    """Return a space as a labelled array; see `Space.to_xarray`."""
    import xarray as xr

    return xr.DataArray(
        dask_array(space, block_rows),
        dims=("row", "hidden"),
        coords=row_coordinates(space, words=words, columns=columns),
        name=space.site,
        attrs={
            "corpus": space.corpus,
            "variant": space.variant,
            "site": space.site,
            "layer": space.layer,
            **_set_attributes(space),
        },
    )


def stacked_array(
    spaces: Mapping[tuple[str, int], Space],
    block_rows: int | None,
    *,
    words: bool,
    columns: Sequence[str],
) -> xr.DataArray:
    """Return spaces by (variant, layer) as one labelled array; see `Lake.to_xarray`."""
    import dask.array as da
    import xarray as xr

    require_alike(list(spaces.values()))
    variants = list(dict.fromkeys(variant for variant, _ in spaces))
    layers = list(dict.fromkeys(layer for _, layer in spaces))
    first = next(iter(spaces.values()))
    stack: Callable[[list[da.Array]], da.Array] = da.stack
    values = stack(
        [
            stack([dask_array(spaces[variant, layer], block_rows) for layer in layers])
            for variant in variants
        ]
    )
    coordinates = row_coordinates(first, words=words, columns=columns)
    return xr.DataArray(
        values,
        dims=("variant", "layer", "row", "hidden"),
        coords={"variant": variants, "layer": layers, **coordinates},
        name=first.site,
        attrs={"corpus": first.corpus, "site": first.site, **_set_attributes(first)},
    )


def require_alike(spaces: Sequence[Space]) -> None:
    """Raise `InvalidInput` unless the rows of all spaces are the same stimuli, equally wide."""
    first = spaces[0]
    for other in spaces[1:]:
        if (other.corpus, other.row_set, other.shape[0]) != (
            first.corpus,
            first.row_set,
            first.shape[0],
        ):
            raise InvalidInput(
                f"{other.path} and {first.path} do not hold the same rows; choose sets of one row "
                "set, or extract the same rows of both"
            )
        if other.shape[1] != first.shape[1]:
            raise InvalidInput(
                f"{other.path} is {other.shape[1]} wide, {first.path} {first.shape[1]}; only "
                "spaces of one width can be stacked"
            )


def _set_attributes(space: Space) -> dict[str, Any]:
    own = {"unit": space.unit, "pooling": space.pooling, "row_set": space.row_set}
    contents = {**space.state.plan.contents, **own}
    named = ("rows", "unit", "pooling", "row_set", "tokenization")
    kept = {name: contents[name] for name in named if contents.get(name)}
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in kept.items()
    }


def row_coordinates(
    space: Space,
    *,
    words: bool,
    columns: Sequence[str],
    index: NDArray[np.int64] | None = None,
) -> dict[str, tuple[str, NDArray[Any]]]:
    """Return what the lake knows of the rows at an index, by default of all; `Space.to_xarray`."""
    location, corpus = space.location, space.corpus
    places = space.row_places()
    if index is not None:
        places = {name: values[index] for name, values in places.items()}
    found: dict[str, NDArray[Any]] = dict(places)
    if "example" in places:
        ids = example_ids(location, corpus)
        if ids is not None:
            found["example_id"] = ids[places["example"]]
    if words and "word" in places:
        texts = word_texts(location, corpus, places["word"])
        if texts is not None:
            found["word_text"] = texts
    for name in columns:
        if name in found:
            raise InvalidInput(f"the column {name!r} would hide the {name} of the rows; leave it")
        found[name] = _filled(*row_values(space, name, places))
    return {name: ("row", values) for name, values in found.items()}


def _filled(values: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[Any]:
    """Return values with "" or NaN where nothing is known."""
    if known.all():
        return values
    return np.where(known, values, "" if values.dtype.kind == "O" else np.nan)
