"""Computing the windows of a plan: batches through the model, rows taken out, pooled, checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.extraction.plan import ExtractionPlan
from layerlake.engine.extraction.storage_error import StorageTrial
from layerlake.engine.models.sites import Place
from layerlake.engine.tokenization.batching import pad_batch
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch

    from layerlake.engine.models.loading import LoadedModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

TRIAL_BATCHES = 4
"""Batches that a dry run computes to say how long all will take."""


def _pooled(hidden: torch.Tensor, counts: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool consecutive pieces, shape (piece, hidden), into rows of `counts` pieces each."""
    import torch

    ends = torch.cumsum(counts, 0)
    if pooling == "first":
        return hidden[ends - counts]
    if pooling == "last":
        return hidden[ends - 1]
    owner = torch.repeat_interleave(torch.arange(len(counts), device=hidden.device), counts)
    out = torch.zeros(len(counts), hidden.shape[1], dtype=torch.float32, device=hidden.device)
    if pooling == "max":
        index = owner[:, None].expand_as(hidden)
        return out.scatter_reduce(0, index, hidden.float(), "amax", include_self=False)
    return out.index_add_(0, owner, hidden.float()) / counts[:, None]


class WindowRunner:
    """Computes the windows of a plan."""

    def __init__(self, model: LoadedModel, plan: ExtractionPlan) -> None:
        import torch

        from layerlake.engine.extraction.capture import Capture

        self.model = model
        self.plan = plan
        self.capture = Capture(model, plan.places)
        self.dtype = getattr(torch, plan.set_plan.layout.dtype)

    def seconds(self, windows: Sequence[int]) -> float:
        """Return about how long windows will take, from batches spread over the first of them."""
        plan = self.plan
        offsets = plan.tokenization.input_offsets
        batches = plan.batches(windows[0])
        chosen = np.linspace(0, len(batches) - 1, min(len(batches), TRIAL_BATCHES)).astype(int)
        pieces = 0
        self._trial(batches[chosen[0]])  # the first forward pass is slower
        began = time.perf_counter()
        for number in chosen:
            self._trial(batches[number])
            pieces += int((offsets[batches[number] + 1] - offsets[batches[number]]).sum())
        return (time.perf_counter() - began) / pieces * plan.n_pieces(windows)

    def _trial(self, batch: NDArray[np.int64]) -> None:
        cut = self.plan.tokenization
        laid = pad_batch(
            cut.piece_ids, cut.segment_ids, cut.input_offsets, batch, self.model.pad_id
        )
        self.capture.run(dict(zip(INPUTS, laid, strict=True)))

    def window(
        self, window: int, on_pieces: Callable[[int], None], trial: StorageTrial | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return the rows of a window, an array of shape (rows, hidden) for each place.

        A trial is shown them as they are computed, before they are cast.
        """
        plan = self.plan
        layout = plan.set_plan.layout
        start, stop = layout.window(window)
        out = {
            place: np.empty((stop - start, layout.hidden), layout.dtype) for place in plan.places
        }
        offsets = plan.tokenization.input_offsets
        spans = plan.row_pieces[start:stop]
        # Rows ascend through the corpus, so those of an input are neighbours.
        row_input = np.searchsorted(offsets, spans[:, 0], "right") - 1
        for batch in plan.batches(window):
            low = np.searchsorted(row_input, batch, "left")
            high = np.searchsorted(row_input, batch, "right")
            self._batch(batch, low, high, spans, start, out, trial)
            on_pieces(int((offsets[batch + 1] - offsets[batch]).sum()))
        return {place.name: rows for place, rows in out.items()}

    def _batch(
        self,
        batch: NDArray[np.int64],
        low: NDArray[np.int64],
        high: NDArray[np.int64],
        spans: NDArray[np.int64],
        start: int,
        out: dict[Place, NDArray[Any]],
        trial: StorageTrial | None,
    ) -> None:
        import torch

        cut = self.plan.tokenization
        ids, mask, segments = pad_batch(
            cut.piece_ids, cut.segment_ids, cut.input_offsets, batch, self.model.pad_id
        )
        width = ids.shape[1]
        rows = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
        owner = np.repeat(np.arange(len(batch)), high - low)
        counts = spans[rows, 1] - spans[rows, 0]
        firsts = owner * width + spans[rows, 0] - cut.input_offsets[batch][owner]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        flat = torch.from_numpy(np.repeat(firsts, counts) + within).to(self.model.device)
        sizes = torch.from_numpy(counts).to(self.model.device)

        def keep(place: Place, hidden: torch.Tensor) -> None:
            values = hidden.reshape(-1, hidden.shape[-1])
            values = values.index_select(0, flat.to(values.device))
            if self.plan.rows.unit == "word":
                values = _pooled(values, sizes.to(values.device), self.plan.pooling)
            if trial is not None:
                trial.take(place.name, values, rows)
            stored = values.to(self.dtype)
            # One NaN or infinity makes the sum one, and a sum is far cheaper than looking at every
            # value; a float32 sum may also overflow by itself.
            total = stored.sum(dtype=torch.float32)
            if not torch.isfinite(total) and not torch.isfinite(stored).all():
                self._refuse(place, values, stored, rows + start)
            out[place][rows] = stored.cpu().numpy()

        self.capture.run(dict(zip(INPUTS, (ids, mask, segments), strict=True)), on_place=keep)

    def _refuse(
        self, place: Place, values: torch.Tensor, stored: torch.Tensor, rows: NDArray[np.int64]
    ) -> None:
        import torch

        bad = int(torch.nonzero(~torch.isfinite(stored).all(dim=1))[0, 0])
        example = int(self.plan.rows.row_example[rows[bad]])
        where = f"{place.site} of layer {place.layer}, example {self.plan.corpus.example_name(example)!r}"
        if bool(torch.isfinite(values[bad]).all()):
            largest = float(values[bad].abs().max())
            raise InvalidInput(
                f"{where}: a value of {largest:.0f} does not fit float16 (65504 at most); extract "
                "with --store-dtype float32"
            )
        raise InvalidInput(
            f"{where}: the model gave NaN or infinite values; check the checkpoint, or compute "
            "with --compute-dtype float32"
        )
