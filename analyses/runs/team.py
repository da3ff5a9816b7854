"""The processes that train one model together, one a device; most often there is just one."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch

from layerlake.engine.models.placement import resolve_device
from layerlake.store.errors import InvalidInput, LayerLakeError, MissingExtra

Found = TypeVar("Found")


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
            Of a process that is alone, as `engine.models.placement.resolve_device`; with others, `auto`
            gives each a GPU of its own where there are any, and `cpu` none.
        """
        self.size = _size()
        self.rank = 0
        if self.size == 1:
            self.device = resolve_device(device)
            return
        device = str(device)  # a torch.device says its own name
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
        alone = not torch.distributed.is_initialized()
        state = PartialState(cpu=device == "cpu")
        if alone:
            # Further runs of this process join the same group, so that it is left at the end.
            atexit.register(state.destroy_process_group)
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

    def lead(self, action: Callable[[], Found]) -> Found:
        """Let the one that writes do something; return in every process what it found.

        What it raises on purpose is raised in all of them, so that none waits for it. All others
        wait until it is done.
        """
        if self.size == 1:
            return action()
        outcome: tuple[Any, LayerLakeError | None] = (None, None)
        if self.leads:
            try:
                outcome = (action(), None)
            except LayerLakeError as error:
                outcome = (None, error)
        found, refusal = self.gather(outcome)[0]
        if refusal is not None:
            raise refusal
        return found  # type: ignore[no-any-return]


def _size() -> int:
    """Return how many processes the launcher says there are."""
    told = os.environ.get("WORLD_SIZE", "1")
    if not told.isdecimal() or int(told) < 1:
        raise InvalidInput(
            f"the variable WORLD_SIZE is {told!r}, which accelerate launch sets to the number of "
            "processes; unset it"
        )
    return int(told)
