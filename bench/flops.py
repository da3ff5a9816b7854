"""How much arithmetic a forward pass is, and how fast this machine can do its products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlake.engine.models.loading import LoadedModel


def product_shapes(model: LoadedModel) -> list[tuple[int, int]]:
    """Return (in, out) of every matrix that a piece is multiplied with, in the order of the run.

    Found by running two pieces: blocks that share weights count as often as they run, and heads
    that do not run count for nothing.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    shapes: list[tuple[int, int]] = []

    def seen(module: Any, inputs: Any, output: Any) -> None:
        shapes.append((int(inputs[0].shape[-1]), int(output.shape[-1])))

    hooks = [
        module.register_forward_hook(seen)
        for module in model.module.modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    ]
    try:
        with torch.inference_mode():
            model.module(input_ids=torch.zeros(1, 2, dtype=torch.long))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def product_flops(model: LoadedModel, batches: Sequence[tuple[int, int]]) -> int:
    """Return the operations of all products with weights; batches are (inputs, pieces each)."""
    pieces = sum(inputs * length for inputs, length in batches)
    return pieces * sum(2 * wide * out for wide, out in product_shapes(model))


def attention_flops(model: LoadedModel, batches: Sequence[tuple[int, int]]) -> int:
    """Return the operations of queries with keys and of weights with values, every pair counted.

    Softmax, norms, activations and additions are left out, as is usual.
    """
    config: Any = model.module.config
    heads = int(config.num_attention_heads)
    head = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    pairs = sum(inputs * length * length for inputs, length in batches)
    return model.n_layers * 4 * heads * head * pairs


def products_alone(model: LoadedModel, batches: Sequence[tuple[int, int]]) -> Callable[[], None]:
    """Return what multiplies matrices of the model's shapes as often as the batches need it.

    No forward pass of these batches can take less time than that, in the same precision.
    """
    import torch

    shapes = product_shapes(model)
    most = max((inputs * length for inputs, length in batches), default=0)
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    weights = [drawn(out, wide) for wide, out in shapes]
    inputs = {wide: drawn(most, wide) for wide, _ in shapes}
    outputs = {out: torch.empty(most, out) for _, out in shapes}

    def run() -> None:
        for count, length in batches:
            rows = count * length
            for (wide, out), weight in zip(shapes, weights, strict=True):
                torch.mm(inputs[wide][:rows], weight.T, out=outputs[out][:rows])

    return run
