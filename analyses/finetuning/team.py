"""The processes that train one model together, one a device; most often there is just one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch

from layerlake.engine.placement import resolve_device
from layerlake.store.errors import InvalidInput, MissingExtra


class Team:
    """This process among those that `accelerate launch` (or torchrun) started, or alone.

    Every process holds the whole model and all data, and computes its share of each batch;
    gradients are added up over all of them, so that many give what one would.
    """

    def __init__(self, device: str = "auto") -> None:
        """Join the others.

        Parameters
        ----------
        device
            Of a process that is alone, as `engine.placement.resolve_device`; with others, `auto`
            gives each a GPU of its own where there are any, and `cpu` none.
        """
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = 0
        if self.size == 1:
            self.device = resolve_device(device)
            return
        if device not in ("auto", "cpu"):
            raise InvalidInput(
                f"device {device!r} is for one process, and {self.size} train together; leave it "
                "out"
            )
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise MissingExtra(
                "training on several devices needs accelerate: pip install 'layerlake[models]'"
            ) from error
        state = PartialState(cpu=device == "cpu")
        self.rank, self.size, self.device = state.process_index, state.num_processes, state.device

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace tensors of one dtype by their sums over all processes."""
        if self.size == 1:
            return
        import torch.distributed as dist

        every = list(tensors)
        # One message for all: hundreds of small ones would cost more than what they carry.
        flat = torch.cat([tensor.reshape(-1) for tensor in every])
        dist.all_reduce(flat)
        start = 0
        for tensor in every:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def gather(self, value: Any) -> list[Any]:
        """Return what every process gave, in the order of ranks; values are pickled."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()
