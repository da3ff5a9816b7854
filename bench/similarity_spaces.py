"""Generated spaces: rows of inputs that resemble each other, as anisotropic as is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerlake.store import schema
from layerlake.store.lake import open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

ROWS_PER_CLUSTER = 20
LATENTS = 32
"""Directions that all spaces share."""
NOISE = 0.7
"""Standard deviation of what each space has for itself; what is shared has 1."""
CORPUS = "bench"


class Generator:
    """Related spaces over the same rows, made block by block.

    A row is an origin, which all rows of a space share, a map of latents, which all spaces share,
    and noise. Half of the variance of the latents is that of clusters of rows.
    """

    def __init__(
        self, hidden: int, count: int, *, mean_cosine: float = 0.95, seed: int = 0
    ) -> None:
        """Draw the origins and maps of so many spaces."""
        rng = np.random.default_rng([seed, hidden])
        # Rows of spread s about an origin of length o have a mean cosine of o^2 / (o^2 + s^2).
        size = np.sqrt((1 + NOISE**2) * mean_cosine / (1 - mean_cosine))
        self.hidden = hidden
        self.seed = seed
        self.origins = []
        self.maps = []
        for _ in range(count):
            origin = rng.standard_normal(hidden)
            origin *= size * np.sqrt(hidden) / np.linalg.norm(origin)
            self.origins.append(origin.astype(np.float32))
            mapping = rng.standard_normal((LATENTS, hidden)) / LATENTS**0.5
            self.maps.append(mapping.astype(np.float32))

    def blocks(self, n_rows: int, block_rows: int) -> Iterator[list[NDArray[np.float32]]]:
        """Yield blocks of rows, (row, hidden) float32 of every space.

        The rows depend on the size of the blocks, which is a multiple of `ROWS_PER_CLUSTER` or
        cuts one cluster in two.
        """
        for low in range(0, n_rows, block_rows):
            rng = np.random.default_rng([self.seed, n_rows, low])
            count = min(block_rows, n_rows - low)
            cluster = np.arange(low, low + count) // ROWS_PER_CLUSTER
            inputs = rng.standard_normal((int(np.ptp(cluster)) + 1, LATENTS), np.float32)
            latents = inputs[cluster - cluster[0]]
            latents += rng.standard_normal((count, LATENTS), np.float32)
            latents *= np.float32(0.5**0.5)
            block = []
            for origin, mapping in zip(self.origins, self.maps, strict=True):
                rows = rng.standard_normal((count, self.hidden), np.float32)
                rows *= np.float32(NOISE)
                rows += latents @ mapping
                rows += origin
                block.append(rows)
            yield block


def write_arrays(
    folder: Path, n_rows: int, hidden: int, count: int, *, mean_cosine: float = 0.95, seed: int = 0
) -> list[Path]:
    """Write spaces as files of numpy's, float32; return their places."""
    files = [folder / f"{n_rows}-{s}.npy" for s in range(count)]
    made = [np.lib.format.open_memmap(file, "w+", np.float32, (n_rows, hidden)) for file in files]
    low = 0
    generator = Generator(hidden, count, mean_cosine=mean_cosine, seed=seed)
    for block in generator.blocks(n_rows, 1000):
        for array, rows in zip(made, block, strict=True):
            array[low : low + len(rows)] = rows
        low += len(block[0])
    for array in made:
        array.flush()
    return files


def write_lake(
    folder: Path,
    n_rows: int,
    hidden: int,
    variants: Sequence[str],
    *,
    mean_cosine: float = 0.95,
    seed: int = 0,
    window_rows: int = schema.WINDOW_ROWS,
) -> Path:
    """Write a lake of one layer of some variants, float16, window by window."""
    place = folder / "lake"
    lake = open_lake(place, "a")
    lake.add_table(f"corpora/{CORPUS}", {"row": np.zeros(1, "int64")}, {"fingerprint": CORPUS})
    layout = ActivationLayout(n_rows, hidden, "float16", "none", window_rows)
    contents = {"row_set": "generated", "unit": "piece", "rows": "all"}
    plans = [SetPlan(CORPUS, name, contents, {}, {}, ("resid/0",), layout) for name in variants]
    generator = Generator(hidden, len(variants), mean_cosine=mean_cosine, seed=seed)
    with ExitStack() as stack:
        writers = [stack.enter_context(SetWriter(lake.location, plan)) for plan in plans]
        for window, block in enumerate(generator.blocks(n_rows, window_rows)):
            for writer, rows in zip(writers, block, strict=True):
                writer.write_window(window, {"resid/0": rows.astype(np.float16)})
        for writer in writers:
            writer.seal()
    return place
