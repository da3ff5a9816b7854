"""Devices by their names, and the memory that they have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from layerlake.engine.memory import format_bytes
from layerlake.store.errors import InvalidInput, MemoryRefused, MissingExtra, is_a

_FREE_SHARE: Final = 0.9
"""Of what is free on a device, what may be used where nobody says; libraries need the rest."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where arrays are worked on."""

    kind: str
    """`cpu` or `cuda`."""
    number: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.number}"

    def allowed_bytes(self, asked: int | None) -> int:
        """Return the device memory that may be used: what is asked for, or most of what is free.

        Raises
        ------
        MemoryRefused
            More is asked for than the device has.
        """
        with import_cupy().cuda.Device(self.number) as device:
            free, total = device.mem_info
        if asked is not None and asked > total:
            raise MemoryRefused(
                f"{format_bytes(asked)} ({asked} bytes) of device memory are allowed and {self} "
                f"has {format_bytes(total)} ({total} bytes); allow at most that"
            )
        return int(free * _FREE_SHARE) if asked is None else asked


CPU: Final = Device("cpu")


def parse_device(name: str) -> tuple[str, int | None]:
    """Return the kind and the number that a device's name says: `auto`, `cpu`, `cuda`, `cuda:N`.

    Raises
    ------
    InvalidInput
        It is none of these.
    """
    matched = re.fullmatch(r"(auto|cpu|cuda)(?:(?<=cuda):([0-9]{1,4}))?", str(name))
    if not is_a(name, str) or not matched:
        raise InvalidInput(f"device {name!r} is not one of: auto, cpu, cuda, cuda:N")
    return matched[1], None if matched[2] is None else int(matched[2])


def device_named(name: str) -> Device:
    """Return the device of a name.

    Parameters
    ----------
    name
        `auto` (a GPU where CuPy and one are there, else the CPU), `cpu`, `cuda`, or `cuda:N`.

    Raises
    ------
    InvalidInput
        Not such a name, or no such device here.
    MissingExtra
        A GPU is asked for and CuPy is not installed.
    """
    kind, number = parse_device(name)
    if kind == "auto":
        try:
            return Device("cuda") if _devices_present() else CPU
        except MissingExtra:
            return CPU
    if kind == "cpu":
        return CPU
    present = _devices_present()
    if (number or 0) >= present:
        raise InvalidInput(
            f"device {name!r} asked for, but {present} CUDA devices are present; choose --device "
            "auto or cpu"
        )
    return Device("cuda", number or 0)


def import_cupy() -> Any:
    """Import CuPy."""
    try:
        import cupy
    except ImportError as error:
        raise MissingExtra(
            "a CUDA device needs CuPy, which is not installed; install it with: "
            "pip install 'layerlake[cuda13]' (or cuda12, after the CUDA that there is)"
        ) from error
    return cupy


def _devices_present() -> int:
    """Count the CUDA devices; 0 where there is no driver."""
    cupy = import_cupy()
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0
