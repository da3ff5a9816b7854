"""Randomised twins: the same architecture with every weight drawn anew."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

STANDARD_DEVIATION = 0.02
"""Of the normal distribution before it is cut (Devlin et al. 2019, released code)."""

CUT = 2.0
"""Where the distribution is cut, in standard deviations."""

_DRAWN_AT_ONCE = 2**20


def randomize_parameters(module: torch.nn.Module, seed: int) -> None:
    """Re-initialise all parameters in place, embeddings included.

    Biases become 0, norm layers the identity, everything else is drawn from the truncated normal.
    Each parameter has a generator of its own, seeded by its name, so a truncated copy of a
    randomised model equals the randomised copy of a truncated one.

    Parameters
    ----------
    module
        A model that its own class has just initialised; only the values of its norm layers matter.
    seed
        The same one gives the same weights.
    """
    norms = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if "norm" in type(part).__name__.lower()
        for name, _ in part.named_parameters(recurse=False)
    }
    for name, parameter in module.named_parameters():
        values = parameter.data
        if name.endswith("bias"):
            values.zero_()
        elif name in norms:
            # A gain of 1 is stored as 0 by the norm layers that add 1 to what they store.
            values.fill_(0.0 if not values.any() else 1.0)
        else:
            values.copy_(_truncated_normal(values.numel(), f"{seed}\0{name}").reshape(values.shape))


def _truncated_normal(count: int, key: str) -> torch.Tensor:
    """Draw float32 values by inversion, which rests on nothing but the bits of Philox."""
    import torch

    digest = hashlib.sha256(key.encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    below = float(torch.special.ndtr(torch.tensor(-CUT, dtype=torch.float64)))
    values = torch.empty(count, dtype=torch.float32)
    for start in range(0, count, _DRAWN_AT_ONCE):
        part = values[start : start + _DRAWN_AT_ONCE]
        uniform = torch.from_numpy(generator.random(part.numel()))
        normal = torch.special.ndtri(below + (1 - 2 * below) * uniform)
        part.copy_(STANDARD_DEVIATION * normal.clamp(-CUT, CUT))
    return values
