"""Files of tensors, each with its checksum, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from layerlake.analyses.runs.run_folder import PART
from layerlake.store.errors import InvalidInput, StorageFailed
from layerlake.store.folder import fsync
from layerlake.store.identity import checksum

_CHECKSUMS: Final = "checksums"
"""Metadata: the crc32c of each tensor's bytes, by name."""
_ADVICE: Final = "free some space and run the same line again, it resumes"


def write_tensors(
    file: Path,
    tensors: Mapping[str, torch.Tensor],
    about: dict[str, str],
    *,
    checksums: bool = True,
) -> None:
    """Write tensors to a file, whole or not at all.

    Parameters
    ----------
    file
        Whose folder is there.
    tensors
        By name; no two share memory.
    about
        Metadata.
    checksums
        Whether to say of each tensor what its bytes are, for `read_tensors` to look.

    Raises
    ------
    StorageFailed
        The file cannot be written.
    """
    from safetensors.torch import save_file

    aside = file.with_name(file.name + PART)
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if checksums:
        sums = {name: _sum_of(tensor) for name, tensor in ready.items()}
        about = about | {_CHECKSUMS: json.dumps(sums)}
    try:
        save_file(ready, aside, metadata=about)
        aside.chmod(0o666 & ~_umask())  # safetensors lets only the owner read
        fsync(aside)
        aside.replace(file)
        fsync(file.parent)
    except Exception as error:
        with contextlib.suppress(OSError):  # the disk may take nothing any more, not even that
            aside.unlink()
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise StorageFailed(f"cannot write {file}: {reason}; {_ADVICE}") from error
        raise


def read_tensors(file: Path, advice: str) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Return the metadata and the tensors of a file that `write_tensors` wrote with checksums.

    Raises
    ------
    InvalidInput
        It is not there, or damaged; the sentence ends in the advice.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise InvalidInput(f"{file} is missing; {advice}")
    damaged = InvalidInput(f"{file} is damaged; {advice}")
    try:
        with safe_open(file, framework="pt") as saved:
            about = dict(saved.metadata() or {})
            tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
        sums = json.loads(about[_CHECKSUMS])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise damaged from error
    if sums != {name: _sum_of(tensor) for name, tensor in tensors.items()}:
        raise damaged
    return about, tensors


def _sum_of(tensor: torch.Tensor) -> int:
    return checksum(tensor.reshape(-1).view(torch.uint8).numpy())


def _umask() -> int:
    """Return what new files are not permitted here."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
