"""Reading and writing a layer against plain files and other readers of Zarr, page cache warm."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.bench.examples import readers_of_examples
from layerlake.bench.measuring import BenchResult, about, interleaved
from layerlake.bench.words import BASELINE as WORD_BASELINE
from layerlake.bench.words import readers_of_words
from layerlake.store import schema
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.space import Space
from layerlake.store.writer import SetWriter

BASELINE = "numpy"
"""`np.save` to write, `np.load` to read a layer, `np.load` memory-mapped for scattered rows."""

Method = Callable[[], Any]


def generated(n_rows: int, hidden: int, dtype: str, seed: int = 0) -> NDArray[Any]:
    """Return rows, (row, hidden), of about the spread that real layers have."""
    rng = np.random.default_rng([seed, n_rows])
    scale = np.exp(rng.normal(-1, 0.5, hidden)).astype("float32")
    out = np.empty((n_rows, hidden), dtype)
    for low in range(0, n_rows, 16384):
        part = rng.standard_normal((min(16384, n_rows - low), hidden), "float32")
        out[low : low + len(part)] = part * scale
    return out


class _Copies:
    """The same rows in a file of numpy's and in lakes of each codec, with ways to read them."""

    def __init__(self, folder: Path, rows: NDArray[Any], window_rows: int) -> None:
        self.folder = folder
        self.rows = rows
        self.window_rows = window_rows
        self._opened: dict[str, Space] = {}

    def plan(self, codec: str) -> SetPlan:
        layout = ActivationLayout(
            len(self.rows), self.rows.shape[1], self.rows.dtype.name, codec, self.window_rows
        )
        contents = {"row_set": "generated", "unit": "piece", "rows": "all", "codec": codec}
        return SetPlan("bench", codec, contents, {}, {}, ("resid/0",), layout)

    def write_lake(self, codec: str) -> None:
        plan = self.plan(codec)
        shutil.rmtree(self.folder / "lake" / plan.path, ignore_errors=True)
        lake = open_lake(self.folder / "lake", "a")
        lake.add_table("corpora/bench", {"row": np.zeros(1, "int64")}, {"fingerprint": "bench"})
        with SetWriter(lake.location, plan) as writer:
            for window in range(plan.layout.n_windows):
                part = self.rows[slice(*plan.layout.window(window))]
                writer.write_window(window, {"resid/0": part})
            writer.seal()

    def write_numpy(self, *, durable: bool = False) -> None:
        with (self.folder / "rows.npy").open("wb") as file:
            np.save(file, self.rows)
            if durable:
                file.flush()
                os.fsync(file.fileno())

    def write_safetensors(self) -> None:
        from safetensors.numpy import save_file

        save_file({"rows": self.rows}, self.folder / "rows.safetensors")

    def write_h5py(self, *, chunked: bool = False) -> None:
        """Write a data set: contiguous, the fastest to read, or in the lake's chunks."""
        import h5py

        chunks = (min(self.plan("none").layout.chunk_rows, len(self.rows)), self.rows.shape[1])
        with h5py.File(self._h5(chunked), "w") as file:
            file.create_dataset("rows", data=self.rows, chunks=chunks if chunked else None)

    def _h5(self, chunked: bool) -> Path:
        return self.folder / ("chunked.h5" if chunked else "rows.h5")

    def write_tensorstore(self, codec: str) -> None:
        import tensorstore

        shutil.rmtree(self.folder / "tensorstore", ignore_errors=True)
        document = json.loads(json.dumps(self.plan(codec).layout.document()))
        document = {k: v for k, v in document.items() if k not in ("zarr_format", "node_type")}
        document["fill_value"] = 0
        array = tensorstore.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": str(self.folder / "tensorstore")},
                "metadata": document,
                "create": True,
            }
        ).result()
        # A transaction lets whole shards be written once, however many chunks they hold.
        for low in range(0, len(self.rows), self.window_rows):
            with tensorstore.Transaction() as transaction:
                part = self.rows[low : low + self.window_rows]
                array.with_transaction(transaction)[low : low + len(part)].write(part).result()

    def write_zarr(self, codec: str, pipeline: str | None = None) -> None:
        import zarr
        from zarr.codecs import BloscCodec, BytesCodec

        plan = self.plan(codec)
        blosc = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")
        settings = {} if pipeline is None else {"codec_pipeline.path": pipeline}
        with zarr.config.set(settings):
            array = zarr.create_array(
                self.folder / "zarr",
                shape=self.rows.shape,
                dtype=self.rows.dtype,
                chunks=(plan.layout.chunk_rows, self.rows.shape[1]),
                shards=(self.window_rows, self.rows.shape[1]),
                serializer=BytesCodec(),
                compressors=[blosc] if codec == "lz4" else None,
                overwrite=True,
            )
            for low in range(0, len(self.rows), self.window_rows):
                array[low : low + self.window_rows] = self.rows[low : low + self.window_rows]

    def rows_of_lake(self, codec: str, index: Any, *, verified: bool = False) -> Any:
        """Open the lake and read: nothing is known of its files when a reading begins."""
        space = open_lake(self.folder / "lake", verified=verified).space("bench", codec, 0)
        return space.rows(slice(None) if index is None else index)

    def rows_of_opened(self, codec: str, index: Any) -> Any:
        """Read from a lake that stays open, as analyses do."""
        if codec not in self._opened:
            self._opened[codec] = open_lake(self.folder / "lake").space("bench", codec, 0)
        return self._opened[codec].rows(slice(None) if index is None else index)

    def rows_of_numpy(self, index: Any) -> Any:
        file = self.folder / "rows.npy"
        return np.load(file) if index is None else np.load(file, mmap_mode="r")[index]

    def rows_of_mapped(self) -> Any:
        """Map numpy's file and copy it into memory, as a reading of all rows does."""
        return np.array(np.load(self.folder / "rows.npy", mmap_mode="r"))

    def rows_of_safetensors(self, index: Any) -> Any:
        """Load the tensor whole; or open the file lazily and take rows out of the mapped tensor."""
        from safetensors import safe_open
        from safetensors.numpy import load_file

        file = self.folder / "rows.safetensors"
        if index is None:
            return load_file(file)["rows"]
        import torch

        # Slices of safe_open take ranges only; a tensor of torch's framework is mapped, not read.
        with safe_open(file, framework="pt") as opened:
            return opened.get_tensor("rows")[torch.from_numpy(index)].numpy()

    def rows_of_h5py(self, index: Any, *, chunked: bool = False) -> Any:
        """Read the data set whole, or the rows of an ascending index."""
        import h5py

        with h5py.File(self._h5(chunked)) as file:
            return file["rows"][:] if index is None else file["rows"][index]

    def rows_of_zarr(self, codec: str, index: Any, pipeline: str | None = None) -> Any:
        import zarr

        settings = {} if pipeline is None else {"codec_pipeline.path": pipeline}
        with zarr.config.set(settings):
            array = zarr.open_array(self._array_folder(codec), mode="r")
            return array[:] if index is None else array.oindex[index]

    def rows_of_tensorstore(self, codec: str, index: Any) -> Any:
        import tensorstore

        where = {"driver": "file", "path": str(self._array_folder(codec))}
        opened = tensorstore.open({"driver": "zarr3", "kvstore": where}, open=True).result()
        return opened[slice(None) if index is None else index].read().result()

    def _array_folder(self, codec: str) -> Path:
        return self.folder / "lake" / self.plan(codec).path / "resid/0"

    def sizes(self, codec: str) -> dict[str, float]:
        """Return the bytes on disk for each value, of every method's files."""

        def of(place: Path) -> float:
            files = [file for file in (place, *place.rglob("*")) if file.is_file()]
            return sum(file.stat().st_size for file in files) / self.rows.size

        lake = of(self._array_folder(codec))
        return {
            BASELINE: of(self.folder / "rows.npy"),
            "layerlake": lake,
            "safetensors": of(self.folder / "rows.safetensors"),
            "h5py": of(self._h5(False)),
            "h5py, chunked": of(self._h5(True)),
            # Every reader of Zarr reads the lake's own array.
            **dict.fromkeys(("zarr-python", "zarrs", "tensorstore"), lake),
        }

    def writers(self, codec: str) -> dict[str, Method]:
        return {
            BASELINE: self.write_numpy,
            "numpy, fsync": partial(self.write_numpy, durable=True),
            "layerlake": partial(self.write_lake, codec),
            "safetensors": self.write_safetensors,
            "h5py": self.write_h5py,
            "h5py, chunked": partial(self.write_h5py, chunked=True),
            "zarr-python": partial(self.write_zarr, codec),
            "zarrs": partial(self.write_zarr, codec, "zarrs.ZarrsCodecPipeline"),
            "tensorstore": partial(self.write_tensorstore, codec),
        }

    def readers(self, codec: str, index: NDArray[np.int64] | None) -> dict[str, Method]:
        mapped = {"numpy, mapped": self.rows_of_mapped} if index is None else {}
        return {
            BASELINE: partial(self.rows_of_numpy, index),
            **mapped,
            "layerlake": partial(self.rows_of_lake, codec, index),
            "layerlake, opened": partial(self.rows_of_opened, codec, index),
            "layerlake, verified": partial(self.rows_of_lake, codec, index, verified=True),
            "safetensors": partial(self.rows_of_safetensors, index),
            "h5py": partial(self.rows_of_h5py, index),
            "h5py, chunked": partial(self.rows_of_h5py, index, chunked=True),
            "zarr-python": partial(self.rows_of_zarr, codec, index),
            "zarrs": partial(self.rows_of_zarr, codec, index, "zarrs.ZarrsCodecPipeline"),
            "tensorstore": partial(self.rows_of_tensorstore, codec, index),
        }


PEERS = {
    "safetensors": "bench",
    "h5py": "hdf5",
    "zarrs": "bench",
    "tensorstore": "bench",
}
"""Packages that methods are named after, and the extra that brings each."""


def _skipped() -> dict[str, str]:
    """Return the peers that are not installed, and why they are skipped."""
    return {
        name: f"not installed (pip install 'layerlake[{extra}]')"
        for name, extra in PEERS.items()
        if importlib.util.find_spec(name) is None
    }


def run(
    n_rows: int = 200_000,
    hidden: int = 768,
    *,
    scattered: int = 5000,
    seed: int = 0,
    dtype: str = "float16",
    codecs: Sequence[str] = ("none", "lz4"),
    repeats: int = 5,
    window_rows: int = schema.WINDOW_ROWS,
    folder: str | Path | None = None,
) -> BenchResult:
    """Measure one layer, written and read whole or by rows, once for each codec.

    Parameters
    ----------
    n_rows, hidden, dtype
        Of the generated layer.
    scattered
        Rows of a scattered reading, drawn and ascending.
    seed
        Of the values, and of the rows that are drawn.
    codecs
        Of the lakes; the baseline is never compressed.
    repeats
        Runs of each method, medians taken. Every method has read the same bytes before, so what
        is measured is a warm page cache.
    window_rows
        Rows of a shard.
    folder
        Where the files lie meanwhile; by default the system's temporary folder.

    Returns
    -------
    `ratio` is the baseline's wall time over the method's, `bytes_per_value` what is on disk. The
    operation `shuffled examples` divides the rows among seven layers and reads whole examples of
    all layers in a shuffled order; `layerlake, blocks` reads the same bytes from start to end.

    `layer of words` and `scattered words` take the rows for pieces of words: pooled as they are
    read (`layerlake, pooled`) and by hand, against the words in a set of their own, in float32 as
    pooled ones are (the baseline). `gigabytes_per_second` is of words in float32. `peak_mib` is
    the most that Python and numpy held while the layer was read in blocks (by hand, at once),
    `stated_mib` what the space says of it: what it holds, what a read takes and one block.

    Raises
    ------
    InvalidInput, StorageFailed
        As their names say. A peer that is not installed is skipped, and named in `settings`.
    RuntimeError
        A reader returned other bits than were written.
    """
    skipped = _skipped()
    if not 1 <= scattered <= n_rows:
        raise InvalidInput(f"{scattered} scattered rows asked of {n_rows} rows; give fewer")
    rows = generated(n_rows, hidden, dtype, seed)
    index = np.sort(np.random.default_rng(seed).choice(n_rows, scattered, replace=False))
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="layerlake-bench-", dir=folder) as place:
        copies = _Copies(Path(place), rows, window_rows)
        for codec in codecs:
            operations = {
                "write": (copies.writers(codec), rows),
                "read layer": (copies.readers(codec, None), rows),
                "scattered rows": (copies.readers(codec, index), rows[index]),
            }
            for operation, (methods, expected) in operations.items():
                methods = {k: v for k, v in methods.items() if k.partition(",")[0] not in skipped}
                for name, method in methods.items():
                    found = method()
                    if operation != "write" and not np.array_equal(found, expected):
                        raise RuntimeError(f"{operation}, {codec}: {name} gives other bits")
                records += [
                    {"operation": operation, "codec": codec, **record}
                    for record in _timed(methods, expected, repeats, copies.sizes(codec))
                ]
            streams: dict[str, Method] = {
                BASELINE: partial(copies.rows_of_numpy, None),
                **readers_of_examples(Path(place) / "examples", rows, codec, window_rows, seed),
            }
            records += [
                {"operation": "shuffled examples", "codec": codec, **record}
                for record in _timed(streams, rows, repeats, copies.sizes(codec))
            ]
            file = copies.folder / "rows.npy"
            of_words = readers_of_words(
                Path(place) / "words", file, rows, codec, window_rows, scattered, seed
            )
            for operation, words in of_words.items():
                moved = words.methods[WORD_BASELINE]()
                timed = _timed(
                    words.methods, moved, repeats, words.sizes, WORD_BASELINE, words.memory
                )
                records += [{"operation": operation, "codec": codec, **r} for r in timed]
    settings = {
        "rows": n_rows,
        "hidden": hidden,
        "dtype": dtype,
        "scattered": scattered,
        "seed": seed,
        "repeats": repeats,
        "window_rows": window_rows,
        "page_cache": "warm",
        "skipped": skipped,
    }
    described = about("numpy", "zarr", *(name for name in PEERS if name not in skipped))
    return BenchResult("store", described, settings, tuple(records))


def _timed(
    methods: Mapping[str, Method],
    moved: NDArray[Any],
    repeats: int,
    sizes: Mapping[str, float],
    baseline: str = BASELINE,
    memory: Mapping[str, tuple[int, int | None]] | None = None,
) -> Iterator[dict[str, Any]]:
    timings = interleaved(methods, repeats)
    for name, timing in timings.items():
        value_bytes = sizes.get(name) or sizes[name.partition(",")[0]]
        peak, stated = (memory or {}).get(name, (None, None))
        yield {
            "method": name,
            "wall_seconds": timing.wall_seconds,
            "cpu_seconds": timing.cpu_seconds,
            "gigabytes_per_second": moved.nbytes / timing.wall_seconds / 1e9,
            "baseline": baseline,
            "ratio": timings[baseline].wall_seconds / timing.wall_seconds,
            "bytes_per_value": value_bytes,
            "peak_mib": None if peak is None else peak / 2**20,
            "stated_mib": None if stated is None else stated / 2**20,
        }
