"""Shuffled whole examples of all layers against reading the same bytes from start to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.streams.example_stream import ExampleStream
from layerlake.store.identity import short
from layerlake.store.lake import open_lake
from layerlake.store.row_sets import RowSet, rows_fingerprint
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.space import Space
from layerlake.store.writer import SetWriter

LAYERS = 7
"""Layers that the rows are divided among."""

LONGEST = 29
"""Words of the longest example; they have 15 on average."""

BATCH = 32
"""Examples of a batch."""


def readers_of_examples(
    folder: Path, rows: NDArray[Any], codec: str, window_rows: int, seed: int
) -> dict[str, Callable[[], Any]]:
    """Write rows as the layers of a lake and return ways to read them all.

    Parameters
    ----------
    folder
        Where the lake is made.
    rows
        (row, hidden); a seventh of them is a layer, and what is left over is not written.
    codec, window_rows
        Of the lake.
    seed
        Of the lengths of examples, and of their order.

    Raises
    ------
    RuntimeError
        The stream gives other bits than were written.
    """
    layers = rows[: len(rows) // LAYERS * LAYERS].reshape(LAYERS, -1, rows.shape[1])
    spaces = _written(folder, layers, codec, window_rows, seed)
    stream = ExampleStream(spaces, batch=BATCH, seed=seed)
    _check(stream, layers)

    def blocks() -> None:
        for space in spaces:
            for _ in space.blocks():
                pass

    def examples() -> None:
        for _ in stream.epoch(0):
            pass

    return {"layerlake, blocks": blocks, "layerlake, examples": examples}


def _written(
    folder: Path, layers: NDArray[Any], codec: str, window_rows: int, seed: int
) -> list[Space]:
    _, n_rows, hidden = layers.shape
    sizes = np.random.default_rng(seed).integers(1, LONGEST + 1, n_rows)
    example = np.repeat(np.arange(n_rows), sizes)[:n_rows]
    ids = np.arange(n_rows, dtype=np.int64)
    kept = RowSet(
        unit="word",
        row_id=ids,
        row_example=example,
        row_word=ids,
        row_position=np.zeros(n_rows, np.int32),
        row_special=np.zeros(n_rows, np.bool_),
        settings={"rows": "all", "unit": "word"},
        fingerprint=rows_fingerprint("word", None, ids),
    )
    lake = open_lake(folder / codec, "a")
    about = {"fingerprint": "examples", "n_examples": int(example[-1]) + 1}
    lake.add_table("corpora/examples", {"row": np.zeros(1, "int64")}, about)
    attributes = {**kept.to_attributes(), "fingerprint": kept.fingerprint}
    place = f"corpora/examples/rows/{short(kept.fingerprint)}"
    lake.add_table(place, kept.to_columns(), attributes)
    names = tuple(f"resid/{layer}" for layer in range(LAYERS))
    layout = ActivationLayout(n_rows, hidden, layers.dtype.name, codec, window_rows)
    contents = {"row_set": kept.fingerprint, "unit": "word", "rows": "all", "codec": codec}
    plan = SetPlan("examples", "bench", contents, {}, {}, names, layout)
    with SetWriter(lake.location, plan) as writer:
        for window in range(layout.n_windows):
            part = layers[:, slice(*layout.window(window))]
            writer.write_window(window, dict(zip(names, part, strict=True)))
        writer.seal()
    return [lake.space("examples", "bench", layer) for layer in range(LAYERS)]


def _check(stream: ExampleStream, layers: NDArray[Any]) -> None:
    """Raise `RuntimeError` unless an epoch has every row of every layer, bit for bit."""
    seen = np.zeros(layers.shape[1], np.bool_)
    for batch in stream.epoch(0):
        seen[batch.words] = True
        for (_, _, layer), values in batch.values.items():
            if not np.array_equal(values, layers[layer, batch.words]):
                raise RuntimeError(f"shuffled examples: layer {layer} has other bits")
    if not seen.all():
        raise RuntimeError("shuffled examples: rows are missing")
