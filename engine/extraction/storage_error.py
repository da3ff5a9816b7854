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

    RSA is the Pearson correlation of cosine similarities over all pairs of rows, in float64, out of
    moments of the rows. Rows without direction are left out.

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
    x, y = (_features(rows[kept] / norm[kept]) for rows, norm in zip(both, norms, strict=True))
    x_mean, y_mean = _mean(x), _mean(y)
    kk = _mean_product(x, x) - x_mean**2
    kl = _mean_product(x, y) - x_mean * y_mean
    ll = _mean_product(y, y) - y_mean**2
    if kk <= 0 or ll <= 0:
        return None
    if np.array_equal(both[0], both[1]):
        return 0.0  # kk, kl and ll are one number, but a BLAS may round each of them otherwise
    # 1 - r itself would be the difference of two numbers that agree in eight digits.
    rest = max(0.0, kk * ll - kl**2) / (kk * ll)
    return float(rest / (1 + np.sqrt(max(0.0, 1 - rest))))


def _features(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [u, a, 1] of unit rows: u is a row less the mean m of all, and a its product with m.

    The cosine of two rows is u.u' + a + a' + m.m, and the last term changes no correlation. Sums
    over all pairs then follow from the moments of the features, and nothing large cancels.
    """
    mean = unit.mean(axis=0)
    centred = unit - mean
    return np.column_stack([centred, centred @ mean, np.ones(len(unit))])


def _swapped(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exchange the last two columns, which are what pairs of rows multiply crosswise."""
    return np.concatenate([features[:, :-2], features[:, -1:], features[:, -2:-1]], axis=1)


def _diagonal(features: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((features[:, :-2] ** 2).sum(axis=1) + 2 * features[:, -2])


def _mean(features: NDArray[np.float64]) -> float:
    """Return the mean similarity over pairs of different rows."""
    n = len(features)
    total = features.sum(axis=0)
    square = float((total[:-2] ** 2).sum() + 2 * n * total[-2])
    return (square - float(_diagonal(features).sum())) / (n * (n - 1))


def _mean_product(f: NDArray[np.float64], g: NDArray[np.float64]) -> float:
    """Return the mean over pairs of different rows of the product of two similarities."""
    n = len(f)
    moments = f.T @ g
    crosswise = _swapped(_swapped(moments).T).T
    total = float((moments * crosswise).sum())
    return (total - float(_diagonal(f) @ _diagonal(g))) / (n * (n - 1))
