"""Weights that do not fit are refused before they are moved, with the bytes that they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerlake.engine.models import placement
from layerlake.engine.models.loading import load_model
from layerlake.store.errors import InvalidInput, MemoryRefused

torch = pytest.importorskip("torch")


def test_a_device_that_is_too_small_is_refused_with_the_bytes(
    small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(small_bert), device="cpu")
    needed = sum(tensor.nbytes for tensor in model.module.state_dict().values())
    monkeypatch.setattr(placement, "_free_bytes", lambda device: needed)
    load_model(str(small_bert), device="cpu")
    monkeypatch.setattr(placement, "_free_bytes", lambda device: needed - 1)
    with pytest.raises(MemoryRefused, match=rf"in float32 needs .* \({needed} bytes\) and cpu has"):
        load_model(str(small_bert), device="cpu")
    load_model(str(small_bert), device="cpu", compute_dtype="bfloat16")


def test_a_device_that_fills_up_while_weights_move_is_refused_too(
    small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, *args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(MemoryRefused, match=r"needs .* bytes\), which cpu does not have"):
        load_model(str(small_bert), device="cpu")


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'cuda:999' asked for, but \d+ CUDA devices"):
        placement.resolve_device("cuda:999")
