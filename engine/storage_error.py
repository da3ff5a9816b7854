"""What storing does to activations, measured on the first window: range, and similarity lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

SAMPLE_ROWS = 2048
"""Rows of the first window that are compared."""

LARGEST_FLOAT16 = 30_000.0
"""Magnitude above which `auto` stores float32: float16 ends at 65504, and later windows may be
larger than the first."""

MOST_LOST = 1e-5
"""Loss of similarity above which `auto` stores float32; standard errors of RSA are about 1e-3."""

_TILE = 512


class TooWide(Exception):
    """Values of the first window are so large that float16 may not hold what follows."""


@dataclass
class StorageTrial:
    """Rows of the first window as they were computed, beside what is stored of them."""

    n_rows: int
    """Rows of the window."""
    limit: float | None = None
    """Magnitude above which `take` raises `TooWide`; None to take anything."""
    samples: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    largest: dict[str, float] = field(default_factory=dict)
    """Largest magnitude seen, by array."""

    def __post_init__(self) -> None:
        count = min(self.n_rows, SAMPLE_ROWS)
        self.rows: NDArray[np.int64] = np.linspace(0, self.n_rows - 1, count).astype(np.int64)
        self._slot = np.full(self.n_rows, -1, np.int64)
        self._slot[self.rows] = np.arange(count)

    def take(self, name: str, values: torch.Tensor, rows: NDArray[np.int64]) -> None:
        """Take in rows of an array as they were computed, shape (rows, hidden).

        Raises
        ------
        TooWide
            A finite value is above the limit.
        """
        largest = float(values.abs().max())
        self.largest[name] = max(largest, self.largest.get(name, 0.0))
        if self.limit is not None and np.isfinite(largest) and largest > self.limit:
            raise TooWide(f"{name} reaches {largest:.0f}")
        slots = self._slot[rows]
        chosen = np.flatnonzero(slots >= 0)
        if not len(chosen):
            return
        if name not in self.samples:
            shape = len(self.rows), values.shape[1]
            self.samples[name] = np.zeros(shape, np.float32)
        self.samples[name][slots[chosen]] = values[chosen].float().cpu().numpy()

    def lost(self, stored: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """Return `similarity_lost` of every array, given the rows of the window as stored."""
        return {
            name: similarity_lost(sample, stored[name][self.rows])
            for name, sample in self.samples.items()
        }


def similarity_lost(computed: NDArray[Any], stored: NDArray[Any]) -> float | None:
    """Return 1 - RSA between rows as computed and as stored.

    RSA is the Pearson correlation of cosine similarities over all pairs of rows, in float64. Rows
    without direction are left out.

    Parameters
    ----------
    computed, stored
        The same rows, shape (rows, hidden).

    Returns
    -------
    A number from 0; None where fewer than three rows are left, or all similarities are the same.
    """
    both = [np.asarray(rows, np.float64) for rows in (computed, stored)]
    norms = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in both]
    kept = np.all([norm[:, 0] > 0 for norm in norms], axis=0)
    if kept.sum() < 3:
        return None
    x, y = (rows[kept] / norm[kept] for rows, norm in zip(both, norms, strict=True))
    # Corrected sums around a similarity that is near the mean, so that nothing cancels.
    centre = float(np.mean(x.mean(axis=0) @ x.mean(axis=0)))
    sums = np.zeros(5)
    count = 0
    for top in range(0, len(x), _TILE):
        for left in range(top, len(x), _TILE):
            k = x[top : top + _TILE] @ x[left : left + _TILE].T - centre
            e = y[top : top + _TILE] @ y[left : left + _TILE].T - centre - k
            if top == left:
                upper = np.triu_indices(len(k), 1)
                k, e = k[upper], e[upper]
            k, e = k.ravel(), e.ravel()
            count += len(k)
            sums += [k.sum(), e.sum(), k @ k, k @ e, e @ e]
    k_mean, e_mean = sums[:2] / count
    kk = sums[2] / count - k_mean**2
    ke = sums[3] / count - k_mean * e_mean
    ee = sums[4] / count - e_mean**2
    if kk <= 0:
        return None
    # With y = x + e: 1 - r**2 = (kk ee - ke**2) / (kk (kk + 2 ke + ee)), where 1 - r itself would
    # be the difference of two numbers that agree in eight digits.
    rest = max(0.0, kk * ee - ke**2) / (kk * (kk + 2 * ke + ee))
    return float(rest / (1 + np.sqrt(max(0.0, 1 - rest))))
