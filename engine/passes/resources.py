"""The resources of a pass: memory, device, scheduler and workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from layerlake.engine.memory import DEFAULT_ALLOWED_BYTES, parse_bytes
from layerlake.engine.passes.device_names import CPU, Device, device_named
from layerlake.engine.workers.scheduler_names import scheduler_named, workers_here
from layerlake.store.errors import InvalidInput, is_a

BLOCK_ROWS: Final = 2048
"""Rows read at a time: two chunks of a lake, and enough for products at nearly full speed."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The memory, device, scheduler and workers of a pass."""

    allowed: int = DEFAULT_ALLOWED_BYTES
    """Bytes of memory, of the device where it runs on one."""
    block_rows: int = BLOCK_ROWS
    """Most rows read at a time."""
    scheduler: str | None = None
    """As `engine.workers.scheduler_names.scheduler_named`."""
    workers: int | None = None
    device: Device = CPU
    host: bool = True
    """Whether the arrays are numpy's, which rows are prepared of a few at a time."""

    def __post_init__(self) -> None:
        """Refuse blocks of no rows."""
        if not is_a(self.block_rows, int, np.integer) or self.block_rows < 1:
            raise InvalidInput(f"block_rows is {self.block_rows!r}; give at least 1")

    @classmethod
    def of(
        cls,
        memory: int | str = DEFAULT_ALLOWED_BYTES,
        device: str = "auto",
        scheduler: str | None = None,
        workers: int | None = None,
    ) -> Resources:
        """Return resources as people name them.

        Parameters
        ----------
        memory
            Most that may be held, an amount such as `4GiB` or bytes; on a device, of its memory.
        device
            As `engine.passes.device_names.device_named`.
        scheduler, workers
            As `engine.workers.schedulers.reduce_parts`.

        Raises
        ------
        InvalidInput, MissingExtra
            One of them is not to be had, or workers are given to no scheduler.
        """
        kind = scheduler_named(scheduler).kind
        if workers is not None and kind not in ("threads", "processes"):
            raise InvalidInput(
                f"workers is {workers!r}, and only the schedulers threads and processes are told "
                "how many; leave it out, or give --scheduler threads or processes"
            )
        workers_here(workers)
        chosen = device_named(device)
        return cls(
            parse_bytes(memory),
            scheduler=scheduler,
            workers=workers,
            device=chosen,
            host=chosen.kind == "cpu",
        )

    @property
    def device_bytes(self) -> int | None:
        """Bytes allowed of a device's own memory; None on the CPU."""
        return None if self.device.kind == "cpu" else self.allowed

    @property
    def each_allowed(self) -> int:
        """Bytes for each of the workers of this machine, and as much for what they hand over."""
        if self.scheduler in ("threads", "processes"):
            return self.allowed // (workers_here(self.workers) + 1)
        return self.allowed
