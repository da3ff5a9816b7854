"""What every method is held to: the textbook forms in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

Matrix = NDArray[np.float64]
PANEL_ROWS = 512


def unit_rows(rows: NDArray[np.floating], *, centred: bool = True) -> Matrix:
    """Return rows of length 1 in float64, less their means before that if `centred`."""
    exact = rows.astype(np.float64)
    if centred:
        exact -= exact.mean(axis=1, keepdims=True)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return exact


def panels(units: Sequence[Matrix]) -> Iterator[list[Matrix]]:
    """Yield the strict upper triangles of the kernels of all spaces, panel by panel, flat."""
    n_rows = len(units[0])
    panel_rows = max(2 * PANEL_ROWS // len(units), 1)  # many spaces, many kernels at a time
    for low in range(0, n_rows, panel_rows):
        high = min(low + panel_rows, n_rows)
        upper = np.arange(low, n_rows) > np.arange(low, high)[:, None]
        yield [(unit[low:high] @ unit[low:].T)[upper] for unit in units]


def triangles(units: Sequence[Matrix]) -> list[Matrix]:
    """Return the whole strict upper triangle of each kernel."""
    return [np.concatenate(parts) for parts in zip(*panels(units), strict=True)]


def pearson(units: Sequence[Matrix], pairs: Iterable[tuple[int, int]]) -> Matrix:
    """Correlate kernels of pairs of spaces, from sums about their means."""
    n_rows = len(units[0])
    ordered = n_rows * (n_rows - 1)
    means = np.array(
        [(np.square(u.sum(axis=0)).sum() - np.square(u).sum()) / ordered for u in units]
    )
    sums = np.zeros((len(units), len(units)))
    for panel in panels(units):
        centred = np.stack(panel) - means[:, None]
        sums += centred @ centred.T
    return np.array([sums[s, t] / np.sqrt(sums[s, s] * sums[t, t]) for s, t in pairs])


def ranked(units: Sequence[Matrix], score: str) -> Matrix:
    """Correlate the ranks of the first kernel with those of each other one."""
    kernels = triangles(units)
    found = []
    if score == "spearman":
        ranks = [rankdata(kernel) for kernel in kernels]
        found = [np.corrcoef(ranks[0], other)[0, 1] for other in ranks[1:]]
    else:  # tau-b is tau-a where no two values are equal
        found = [kendalltau(kernels[0], other).statistic for other in kernels[1:]]
    return np.array(found)


def cka(x: NDArray[np.floating], y: NDArray[np.floating], *, debiased: bool) -> float:
    """Return linear CKA from whole kernels of centred rows.

    The debiased one is as Székely and Rizzo (2014) centre it: U-centred kernels, which says the
    same as Song et al. (2012) by other sums.
    """
    kernels = []
    n = len(x)
    for rows in (x, y):
        exact = rows.astype(np.float64)
        exact -= exact.mean(axis=0)
        kernel = exact @ exact.T
        if debiased:
            np.fill_diagonal(kernel, 0)
            sums = kernel.sum(axis=0)
            total = sums.sum()
            kernel -= sums / (n - 2)
            kernel -= sums[:, None] / (n - 2)
            kernel += total / ((n - 1) * (n - 2))
            np.fill_diagonal(kernel, 0)
        kernels.append(kernel)
    k, l = kernels
    return float(np.vdot(k, l) / np.sqrt(np.vdot(k, k) * np.vdot(l, l)))


def mutual_neighbours(units: Sequence[Matrix], k: int) -> float:
    """Return the share of nearest neighbours that two spaces have in common."""
    shared = 0
    n_rows = len(units[0])
    for low in range(0, n_rows, PANEL_ROWS):
        high = min(low + PANEL_ROWS, n_rows)
        near = np.zeros((2, high - low, n_rows), np.bool_)
        for space, unit in zip(near, units, strict=True):
            kernel = unit[low:high] @ unit.T
            kernel[np.arange(high - low), np.arange(low, high)] = -np.inf
            np.put_along_axis(space, np.argpartition(-kernel, k - 1, axis=1)[:, :k], True, axis=1)
        shared += int((near[0] & near[1]).sum())
    return shared / (n_rows * k)


Blocks = Callable[[], Iterable[tuple[Matrix, Matrix]]]


def streamed(blocks: Blocks) -> float:
    """Correlate kernels of two spaces of any number of rows, by products over rows in float64.

    Parameters
    ----------
    blocks
        Gives blocks of unit rows of both spaces, as often as it is called: once for their means,
        and once for the sums about them.
    """
    n, totals = 0, [np.zeros(1), np.zeros(1)]
    for block in blocks():
        n += len(block[0])
        totals = [t + rows.sum(axis=0) for t, rows in zip(totals, block, strict=True)]
    means = [total / n for total in totals]
    # Of features [u, a, 1]: the kernel less |mean|^2 is u_i u_j + a_i + a_j.
    products: dict[tuple[int, int], Matrix] = {}
    own: dict[tuple[int, int], float] = {}
    own_sums = [0.0, 0.0]
    for block in blocks():
        features, diagonals = [], []
        for rows, mean in zip(block, means, strict=True):
            u = rows - mean
            a = u @ mean
            features.append(np.column_stack([u, a, np.ones(len(u))]))
            diagonals.append(np.square(u).sum(axis=1) + 2 * a)
        for s, t in ((0, 0), (1, 1), (0, 1)):
            products[s, t] = products.get((s, t), 0) + features[s].T @ features[t]
            own[s, t] = own.get((s, t), 0) + float(diagonals[s] @ diagonals[t])
        own_sums = [o + float(d.sum()) for o, d in zip(own_sums, diagonals, strict=True)]
    ordered = n * (n - 1)

    def swapped(matrix: Matrix) -> Matrix:
        """Multiply by J on both sides, which changes the places of the last two."""
        order = np.r_[: len(matrix) - 2, len(matrix) - 1, len(matrix) - 2]
        columns = np.r_[: matrix.shape[1] - 2, matrix.shape[1] - 1, matrix.shape[1] - 2]
        found: Matrix = matrix[np.ix_(order, columns)]
        return found

    sums = []
    for s in (0, 1):
        last = products[s, s][-1]  # sums of u, of a, and n
        sums.append(float(last[:-2] @ last[:-2] + 2 * n * last[-2]) - own_sums[s])

    def covariance(s: int, t: int) -> float:
        both = float(np.vdot(products[s, t], swapped(products[s, t]))) - own[s, t]
        return both / ordered - sums[s] / ordered * (sums[t] / ordered)

    return covariance(0, 1) / float(np.sqrt(covariance(0, 0) * covariance(1, 1)))
