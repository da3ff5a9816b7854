"""Weights in memory: what they are (their digest), in which dtype, and on which device."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from layerlake.engine.memory import format_bytes
from layerlake.engine.models.checkpoints import require_transformers
from layerlake.engine.passes.device_names import parse_device
from layerlake.store.errors import InvalidInput, MemoryRefused, MissingExtra

if TYPE_CHECKING:
    import torch

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
"""What a forward pass can be computed in; `auto` chooses among them."""

DEVICE_MAPS = ("auto", "balanced", "sequential")
"""How `accelerate` may spread a model over the devices that there are."""


def weights_digest(module: torch.nn.Module) -> str:
    """Return the sha256 (hex) of the weights: names, dtypes, shapes and bytes.

    A pooler does not count: no site reads it, and bodies of the same model come with and without.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.startswith("pooler."):
            continue
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def resolve_device(device: str) -> torch.device:
    """Return the device of a name; `auto` is a GPU if there is one, else the CPU.

    Raises
    ------
    InvalidInput
        Not such a name, or no such device here.
    """
    require_transformers()
    import torch

    device = str(device)  # a torch.device says its own name
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, number = parse_device(device)
    present = torch.cuda.device_count()
    if kind == "cuda" and (number or 0) >= present:
        raise InvalidInput(
            f"device {device!r} asked for, but {present} CUDA devices are present; choose "
            "--device auto or cpu"
        )
    return torch.device(device)


def place(
    module: torch.nn.Module, source: str, dtype: str, device: torch.device, device_map: str | None
) -> torch.device:
    """Cast a body that lies in memory, and move it where it runs.

    Parameters
    ----------
    module
        The body, changed in place.
    source
        What to call it in messages.
    dtype
        One of `COMPUTE_DTYPES`.
    device
        Where it goes, unless there is a `device_map`.
    device_map
        One of `DEVICE_MAPS`, to spread it over several.

    Returns
    -------
    The device that inputs go to.

    Raises
    ------
    MemoryRefused
        It does not fit; the sentence says the bytes needed.
    MissingExtra
        A device map is asked for and `accelerate` is not installed.
    """
    import torch

    needed = _bytes_as(module, getattr(torch, dtype))
    free = _free_bytes(device)
    if device_map is None and free is not None and needed > free:
        raise MemoryRefused(
            f"model {source} in {dtype} needs {format_bytes(needed)} ({needed} bytes) and {device} "
            f"has {format_bytes(free)}; choose a smaller compute dtype, another device, or "
            "--device-map auto"
        )
    try:
        _cast(module, getattr(torch, dtype))
        if device_map is not None:
            return _spread(module, source, device_map)
        module.to(device)
    except torch.OutOfMemoryError as error:
        raise MemoryRefused(
            f"model {source} in {dtype} needs {format_bytes(needed)} ({needed} bytes), which "
            f"{device} does not have; choose a smaller compute dtype or --device cpu"
        ) from error
    return device


def check_device_map(device_map: str | None, device: str) -> None:
    """Refuse a device map that does not exist, or that comes with a device."""
    if device_map is None:
        return
    if device_map not in DEVICE_MAPS:
        raise InvalidInput(
            f"device map {device_map!r} is not one of: {', '.join(DEVICE_MAPS)}; leave it out for "
            "one device"
        )
    if device != "auto":
        raise InvalidInput(
            f"device {device!r} and device map {device_map!r} exclude each other; give one of them"
        )


def _bytes_as(module: torch.nn.Module, dtype: torch.dtype) -> int:
    return sum(
        tensor.numel() * (dtype.itemsize if tensor.is_floating_point() else tensor.itemsize)
        for tensor in module.state_dict().values()
    )


def _free_bytes(device: torch.device) -> int | None:
    """Return the free bytes of a GPU, or all that the machine has; None where nobody says."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _spread(module: torch.nn.Module, source: str, device_map: str) -> torch.device:
    import torch

    try:
        from accelerate import dispatch_model, infer_auto_device_map
        from accelerate.utils import get_balanced_memory
    except ImportError as error:
        raise MissingExtra(
            "a device map needs accelerate: pip install 'layerlake[models]'"
        ) from error
    whole: Any = module
    unsplit = sorted(getattr(whole, "_no_split_modules", None) or [])
    most = None
    if device_map != "sequential":
        most = get_balanced_memory(module, no_split_module_classes=unsplit)
    places = infer_auto_device_map(module, max_memory=most, no_split_module_classes=unsplit)
    if "disk" in places.values():
        needed = _bytes_as(module, next(module.parameters()).dtype)
        raise MemoryRefused(
            f"model {source} needs {format_bytes(needed)} ({needed} bytes), more than all devices "
            "here have together; choose a smaller compute dtype"
        )
    dispatch_model(module, device_map=places)
    first = whole.get_input_embeddings().weight
    main = next(iter(places.values()))
    return first.device if first.device.type != "meta" else torch.device(main)


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast what is stored in the checkpoint; what is computed from it (rotary tables) keeps its."""
    stored = module.state_dict(keep_vars=True)
    for tensor in stored.values():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
