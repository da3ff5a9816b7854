"""Extraction against its forward passes, against matrix products alone, and against others' ways."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlake.bench import peers
from layerlake.bench.flops import attention_flops, product_flops, products_alone
from layerlake.bench.measuring import BenchResult, Timing, about, interleaved, peak_bytes_of
from layerlake.engine.corpora.reading import Reading, read_corpus
from layerlake.engine.extraction.extract import extract
from layerlake.engine.extraction.plan import ExtractionPlan, plan_extraction
from layerlake.engine.extraction.request import ExtractionRequest
from layerlake.engine.models.loading import load_model
from layerlake.engine.tokenization.batching import pad_batch
from layerlake.store import schema
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import open_lake
from layerlake.store.storage import Storage

if TYPE_CHECKING:
    from layerlake.engine.models.loading import LoadedModel

BASELINE = "usual loop"
FORWARD = "forward only"
PRODUCTS = "matrix products alone"
ONE_BY_ONE = "text by text, np.save"
NEUROX = "NeuroX"
NEUROX_ALGORITHM = "NeuroX's algorithm"
ALONE = (ONE_BY_ONE, NEUROX, NEUROX_ALGORITHM)
"""They run each text by itself, so that nothing is padded."""
CHECKED_ROWS = 512
"""Rows of every layer that are compared between the lake and the files of the usual loop."""


@dataclass
class _Job:
    """One model over the first examples of a corpus; every method runs this."""

    source: str
    corpus: Path
    format: str | None
    n_examples: int | None
    window_rows: int
    folder: Path
    threads: int
    sites: tuple[str, ...] = ("resid",)
    neurox_python: str | None = None

    @cached_property
    def skipped(self) -> dict[str, str]:
        """Methods that cannot run here, and why."""
        if self.neurox_python is None and importlib.util.find_spec("h5py") is None:
            return {NEUROX_ALGORITHM: "h5py is not installed (pip install 'layerlake[hdf5]')"}
        return {}

    @cached_property
    def model(self) -> LoadedModel:
        return load_model(self.source, device="cpu")

    @cached_property
    def texts(self) -> list[str]:
        return list(read_corpus(self.corpus, self.format).texts[: self.n_examples])

    @cached_property
    def plan(self) -> ExtractionPlan:
        nowhere = open_lake("memory://bench-extract", "a")
        return plan_extraction(
            nowhere,
            self.model,
            self.texts,
            variant="bench",
            corpus_name="bench",
            reading=Reading(),
            request=ExtractionRequest(storage=Storage(window_rows=self.window_rows)),
        )

    @cached_property
    def batches(self) -> list[Any]:
        """Every batch that an extraction runs, laid out."""
        cut = self.plan.tokenization
        return [
            pad_batch(cut.piece_ids, cut.segment_ids, cut.input_offsets, batch, self.model.pad_id)
            for window in range(self.plan.set_plan.layout.n_windows)
            for batch in self.plan.batches(window)
        ]

    @cached_property
    def padder(self) -> Any:
        """The tokenizer, with something to pad with: many decoders have nothing of the kind."""
        tokenizer = copy.deepcopy(self.model.tokenizer)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        return tokenizer

    def prepare(self) -> None:
        """Load what is no part of any method's work."""
        _ = self.model, self.texts, self.batches, self.padder
        self.forward_only(self.batches[:2])

    def forward_only(self, batches: Sequence[Any] | None = None) -> None:
        """Run the batches of an extraction through the model, and forget what comes out."""
        import torch

        with torch.inference_mode():
            for ids, mask, segments in self.batches if batches is None else batches:
                inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
                if "token_type_ids" not in self.padder.model_input_names:
                    del inputs["token_type_ids"]
                self.model.module(**{k: torch.from_numpy(v) for k, v in inputs.items()})

    def layerlake(self, *, known: bool, sites: str = "resid") -> None:
        """Extract into a new lake, or as a new variant into the one that holds the pieces."""
        place = self.folder / "lake"
        variant = "bench" if sites == "resid" else sites.replace(",", "-")
        old = place / f"activations/bench/{variant}" if known else place
        shutil.rmtree(old, ignore_errors=True)
        extract(
            open_lake(place, "a"),
            self.model,
            "bench" if known else self.texts,
            variant=variant,
            corpus_name="bench",
            sites=sites,
            window_rows=self.window_rows,
        )

    def neurox(self) -> Timing:
        """Run NeuroX itself, in its own interpreter."""
        assert self.neurox_python is not None
        taken = peers.neurox(self.neurox_python, self.source, self.texts, self.folder, self.threads)
        return Timing(*taken)

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """Inputs and padded length of every batch that an extraction runs."""
        return [(len(ids), ids.shape[1]) for ids, _, _ in self.batches]

    @cached_property
    def products(self) -> Callable[[], None]:
        return products_alone(self.model, self.shapes)

    def methods(self) -> dict[str, Callable[[], Any]]:
        def peer(run: Callable[..., None], *place: str) -> Callable[[], None]:
            return lambda: run(self.model, self.padder, self.texts, self.folder.joinpath(*place))

        other: dict[str, Callable[[], Any]] = {}
        if self.neurox_python is not None:
            other[NEUROX] = self.neurox
        elif NEUROX_ALGORITHM not in self.skipped:
            other[NEUROX_ALGORITHM] = peer(peers.neurox_algorithm, "algorithm.hdf5")
        several = {
            f"layerlake, {sites}": partial(self.layerlake, known=True, sites=sites)
            for sites in self.sites
            if sites != "resid"
        }
        return {
            PRODUCTS: lambda: self.products(),
            FORWARD: self.forward_only,
            BASELINE: peer(peers.usual_loop),
            ONE_BY_ONE: peer(peers.one_by_one, "alone"),
            **other,
            "layerlake": partial(self.layerlake, known=False),
            "layerlake, next variant": partial(self.layerlake, known=True),
            **several,
        }

    def padding(self) -> dict[str, float]:
        """Return pieces run over real pieces, for the plan of an extraction and the usual loop."""
        lengths = np.diff(self.plan.tokenization.input_offsets)
        usual = sum(
            len(batch) * int(batch.max())
            for batch in np.split(
                lengths, range(peers.USUAL_BATCH, len(lengths), peers.USUAL_BATCH)
            )
        )
        ours = sum(ids.size for ids, _, _ in self.batches) / sum(
            int(mask.sum()) for _, mask, _ in self.batches
        )
        return {"": ours, BASELINE: usual / int(lengths.sum()), **dict.fromkeys(ALONE, 1.0)}

    def flops(self) -> dict[str, float]:
        """Return the operations of the forward passes of each method, padding included."""

        def of(batches: list[tuple[int, int]]) -> int:
            return product_flops(self.model, batches) + attention_flops(self.model, batches)

        lengths = np.diff(self.plan.tokenization.input_offsets).tolist()
        usual = [
            (len(part), max(part))
            for part in (
                lengths[low : low + peers.USUAL_BATCH]
                for low in range(0, len(lengths), peers.USUAL_BATCH)
            )
        ]
        alone = of([(1, length) for length in lengths])
        return {
            "": of(self.shapes),
            PRODUCTS: product_flops(self.model, self.shapes),
            BASELINE: of(usual),
            **dict.fromkeys(ALONE, alone),
        }

    def difference(self) -> float:
        """Return the largest difference between the lake and the usual loop's files."""
        space_of = partial(open_lake(self.folder / "lake").space, "bench", "bench")
        worst = 0.0
        # The last hidden state is normalised in most decoders, so that it is another quantity.
        for layer in range(self.model.n_layers):
            theirs = np.load(self.folder / f"{layer}.npy", mmap_mode="r")
            chosen = np.linspace(0, len(theirs) - 1, CHECKED_ROWS).astype(int)
            ours = space_of(layer).rows(np.unique(chosen)).astype("float32")
            worst = max(worst, float(np.abs(ours - theirs[np.unique(chosen)]).max()))
        return worst


def run_alone(job: _Job, method: str) -> None:
    """Run one method as a process of its own does: load the model, read the corpus, work."""
    import torch

    torch.set_num_threads(job.threads)
    job.methods()[method]()


def run(
    model: str,
    corpus: str | Path,
    *,
    format: str | None = None,
    n_examples: Sequence[int] | None = None,
    repeats: int = 3,
    threads: int | None = None,
    window_rows: int = schema.WINDOW_ROWS,
    sites: Sequence[str] = ("resid", "resid,attn_out", "resid,attn_out,mlp_out"),
    neurox: str | None = None,
    memory: bool = True,
) -> BenchResult:
    """Measure every layer of a model over a corpus, in float32, stored as float16.

    Parameters
    ----------
    model
        Folder or hub name; on the CPU.
    corpus, format
        A file, as `read_corpus`.
    n_examples
        How many of its first examples, once or several times; by default all.
    repeats
        Runs of each method, medians taken.
    threads
        Of torch; by default one for each core.
    window_rows
        Rows of a shard.
    sites
        What an extraction takes, once or several times; `resid` is always measured.
    neurox
        A Python that NeuroX is installed for: it is run itself, in a process of its own. By
        default its algorithm is run, re-created (`bench.peers`).
    memory
        Also run each method once in a process of its own, and report its peak.

    Returns
    -------
    `ratio` is the baseline's wall time over the method's, `of_forward_only` the share of the wall
    time that the forward passes alone take, `of_products` the share of the operations that the
    matrix products of the same batches, run alone, would do in that time (attention counted with
    the method's operations), `gigaflops` the operations of a method's forward passes over its wall
    time, `padding` the pieces run over the real pieces, `difference` the largest difference to the
    baseline's rows (float16 steps).

    Raises
    ------
    InvalidInput
        Of model or corpus, as `load_model` and `read_corpus`.
    """
    import torch

    available = len(read_corpus(corpus, format).texts)
    sizes = list(n_examples or [available])
    if max(sizes) > available:
        raise InvalidInput(
            f"{max(sizes):,} examples asked of {corpus}, which has {available:,}; give fewer"
        )
    before = torch.get_num_threads()
    threads = threads or before
    torch.set_num_threads(threads)
    records: list[dict[str, Any]] = []
    try:
        for size in sizes:
            with tempfile.TemporaryDirectory(prefix="layerlake-bench-") as folder:
                place = Path(folder)
                job = _Job(
                    model,
                    Path(corpus),
                    format,
                    size,
                    window_rows,
                    place,
                    threads,
                    tuple(sites),
                    neurox,
                )
                records += _workload(job, repeats, memory)
    finally:
        torch.set_num_threads(before)
    settings = {
        "model": job.model.source,
        "corpus": Path(corpus).name,
        "layers": job.model.n_layers + 1,
        "hidden": job.model.hidden,
        "examples": sizes,
        "repeats": repeats,
        "window_rows": window_rows,
        "sites": list(sites),
        "skipped": job.skipped,
    }
    described = about("torch", "transformers", "numpy", torch_threads=threads)
    return BenchResult("extract", described, settings, tuple(records))


def _workload(job: _Job, repeats: int, memory: bool) -> list[dict[str, Any]]:
    job.prepare()
    padding = job.padding()
    flops = job.flops()
    pieces = job.plan.tokenization.n_pieces
    timings = interleaved(job.methods(), repeats)
    difference = job.difference()
    rate = flops[PRODUCTS] / timings[PRODUCTS].wall_seconds
    records = []
    for name, timing in timings.items():
        # A copy has loaded nothing yet, so that nothing is sent to the process but its names.
        alone = dataclasses.replace(job)
        measured = memory and name not in (PRODUCTS, NEUROX)
        peak = peak_bytes_of(run_alone, alone, name) if measured else None
        kind = name if name in flops else ""
        records.append(
            {
                "examples": job.n_examples,
                "pieces": pieces,
                "method": name,
                "wall_seconds": timing.wall_seconds,
                "cpu_seconds": timing.cpu_seconds,
                "pieces_per_second": pieces / timing.wall_seconds,
                "padding": padding[kind if kind in padding else ""],
                "gigaflops": flops[kind] / timing.wall_seconds / 1e9,
                "of_products": flops[kind] / timing.wall_seconds / rate,
                "baseline": BASELINE,
                "ratio": timings[BASELINE].wall_seconds / timing.wall_seconds,
                "of_forward_only": timings[FORWARD].wall_seconds / timing.wall_seconds,
                "peak_mib": None if peak is None else peak / 2**20,
                "difference": difference if name.startswith("layerlake") else None,
            }
        )
    return records
