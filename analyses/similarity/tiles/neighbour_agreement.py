"""How far two spaces agree on who is near whom: mutual k nearest neighbours, and CKNNA."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import stdtrit

from layerlake.analyses.similarity.tiles.neighbours import Neighbours
from layerlake.analyses.similarity.tiles.panels import PANEL_ENTRIES
from layerlake.analyses.statistics.jackknife import Interval
from layerlake.store.errors import InvalidInput


def overlaps(one: Neighbours, other: Neighbours) -> NDArray[np.float64]:
    """Return the share of neighbours that each row has in both spaces, (row,).

    Their mean is the mutual k-nearest-neighbour alignment of Huh et al. (2024), section 3.
    """
    n_rows, k = one.index.shape
    shares = np.empty(n_rows)
    for lo in range(0, n_rows, PANEL_ENTRIES):
        rows = slice(lo, lo + PANEL_ENTRIES)
        both = np.sort(np.concatenate([one.index[rows], other.index[rows]], axis=1), axis=1)
        shares[rows] = np.count_nonzero(both[:, 1:] == both[:, :-1], axis=1) / k
    return shares


def mean_interval(
    values: NDArray[np.float64], clusters: NDArray[np.int64], confidence: float
) -> Interval | None:
    """Return the delete-one-cluster jackknife interval of a mean over rows of shares.

    Parameters
    ----------
    values
        (row,): numbers between 0 and 1. Neighbours stay what they are where a cluster is left out.
    clusters
        (row,): the cluster of each row, numbers of any kind.
    confidence
        Coverage, between 0 and 1.

    Returns
    -------
    Interval or None
        By Student's t on one degree of freedom fewer than there are clusters, cut to [0, 1]; None
        where there is but one cluster.
    """
    _, place = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(place)
    n_clusters, n_rows = len(sizes), len(values)
    if n_clusters < 2:
        return None
    total = float(values.sum())
    deleted = (total - np.bincount(place, weights=values)) / (n_rows - sizes)
    spread = np.sum((deleted - deleted.mean()) ** 2) * (n_clusters - 1) / n_clusters
    reach = float(stdtrit(n_clusters - 1, 0.5 + confidence / 2)) * math.sqrt(spread)
    mean = total / n_rows
    return Interval(max(mean - reach, 0.0), min(mean + reach, 1.0))


def agreement_bytes(n_rows: int, k: int, *, cknna: bool) -> int:
    """Return the most bytes that comparing the neighbours of two spaces takes, beside them."""
    if cknna:  # four sparse kernels with columns of their own, and two on the way to one
        return n_rows * k * 92
    return min(n_rows, PANEL_ENTRIES) * k * 33 + 8 * n_rows


def cknna(
    one: Neighbours,
    other: Neighbours,
    affine: Sequence[tuple[float, float]] = ((1.0, 0.0), (1.0, 0.0)),
) -> float:
    """Return the centred kernel alignment of nearest neighbours (Huh et al. 2024, appendix A).

    The unbiased estimate of HSIC (Song et al. 2012, equation 5) of both kernels, each set to 0 but
    where a row's neighbour is one in both spaces, over the root of the product of those of each
    kernel with itself, where its own neighbours count.

    Parameters
    ----------
    one, other
        Neighbours in both spaces, at least 2 for each of at least 4 rows, as similarities.
    affine
        For each space (t, c): the kernel is t (entry + c). The measure depends on c.

    Returns
    -------
    float
        NaN where it is not defined: an estimate of a kernel with itself is not positive.

    Raises
    ------
    InvalidInput
        There are fewer neighbours or rows.
    """
    n_rows, k = one.index.shape
    if k < 2 or n_rows < 4:
        raise InvalidInput(
            f"cknna of {n_rows} rows with {k} neighbours each is not defined; give at least 4 rows "
            "and 2 neighbours"
        )
    left, right = (
        _sparse(found, *numbers) for found, numbers in zip((one, other), affine, strict=True)
    )
    # Ones where there is a neighbour, so that kernels of 0 still count as there.
    shared_left, shared_right = (
        kernel.multiply(_sparse(found, 1.0, None)).tocsr()
        for kernel, found in ((left, other), (right, one))
    )
    of_left, of_right = _hsic(left, left), _hsic(right, right)
    if of_left <= 0 or of_right <= 0:
        return math.nan
    return _hsic(shared_left, shared_right) / math.sqrt(of_left * of_right)


def _sparse(found: Neighbours, scale: float, constant: float | None) -> sparse.csr_array:
    """Return the kernel between rows and their neighbours, (row, row); ones where None is added."""
    n_rows, k = found.index.shape
    values = np.ones(found.entries.shape)
    if constant is not None:
        values = scale * (found.entries.astype(np.float64) + constant)
    starts = np.arange(0, n_rows * k + 1, k)
    # A copy, since scipy sorts the columns of a row in place.
    columns = found.index.reshape(-1).copy()
    return sparse.csr_array((values.reshape(-1), columns, starts), shape=(n_rows, n_rows))


def _hsic(k: sparse.csr_array, l: sparse.csr_array) -> float:
    """Return the unbiased HSIC of two kernels without diagonals, times n (n - 3)."""
    n = k.shape[0]
    crossed = float(k.multiply(l.T).sum())
    means = float(k.sum()) * float(l.sum()) / ((n - 1) * (n - 2))
    products = float(np.dot(k.sum(axis=0), l.sum(axis=1)))
    return float(crossed + means - 2 * products / (n - 2))
