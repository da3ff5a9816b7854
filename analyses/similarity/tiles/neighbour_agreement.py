"""How far two spaces agree on who is near whom: mutual k nearest neighbours, and CKNNA."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import stdtrit

from layerlake.analyses.similarity.tiles.neighbour_ties import Ranked, WeighedSums
from layerlake.analyses.similarity.tiles.panels import PANEL_ENTRIES
from layerlake.analyses.statistics.jackknife import Interval
from layerlake.store.errors import InvalidInput


def overlaps(one: Ranked, other: Ranked) -> NDArray[np.float64]:
    """Return the share of neighbours that each row has in both spaces, (row,).

    Their mean is the mutual k-nearest-neighbour alignment of Huh et al. (2024), section 3, in the
    mean over independent choices among rows equally near.
    """
    n_rows, kept = one.index.shape
    shares = np.empty(n_rows)
    step = max(1, PANEL_ENTRIES // kept)
    for lo in range(0, n_rows, step):
        rows = slice(lo, lo + step)
        index = np.concatenate([one.index[rows], other.index[rows]], axis=1)
        weights = np.concatenate([one.weights(rows), other.weights(rows)], axis=1)
        order = np.argsort(index, axis=1, kind="stable")
        index = np.take_along_axis(index, order, axis=1)
        weights = np.take_along_axis(weights, order, axis=1)
        both = weights[:, 1:] * weights[:, :-1]
        shares[rows] = np.sum(both, axis=1, where=index[:, 1:] == index[:, :-1]) / one.k
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


def agreement_bytes(n_rows: int, kept: int, *, cknna: bool) -> int:
    """Return the most bytes that comparing the neighbours of two spaces takes, beside them."""
    if cknna:  # four sparse kernels with columns of their own, and two on the way to one
        return n_rows * kept * 108
    return min(n_rows * kept, PANEL_ENTRIES + kept) * 90 + 24 * n_rows


def cknna(
    one: Ranked,
    other: Ranked,
    affine: Sequence[tuple[float, float]] = ((1.0, 0.0), (1.0, 0.0)),
) -> float:
    """Return the centred kernel alignment of nearest neighbours (Huh et al. 2024, appendix A).

    The unbiased estimate of HSIC (Song et al. 2012, equation 5) of both kernels, each set to 0 but
    where a row's neighbour is one in both spaces, over the root of the product of those of each
    kernel with itself, where its own neighbours count. Rows that tie at the k-th place count by
    their weights.

    Parameters
    ----------
    one, other
        Neighbours in both spaces, at least 2 for each of at least 4 rows, as similarities; no ties
        that are open.
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
    n_rows = len(one.index)
    if one.k < 2 or n_rows < 4:
        raise InvalidInput(
            f"cknna of {n_rows} rows with {one.k} neighbours each is not defined; give at least 4 "
            "rows and 2 neighbours"
        )
    left, right = (
        _sparse(found, *numbers) for found, numbers in zip((one, other), affine, strict=True)
    )
    shared_left, shared_right = (
        kernel.multiply(_sparse(found, 1.0, None)).tocsr()
        for kernel, found in ((left, other), (right, one))
    )
    return _alignment(
        *(_hsic(k, l) for k, l in ((shared_left, shared_right), (left, left), (right, right)))
    )


def cknna_of_sums(both: WeighedSums, one: WeighedSums, other: WeighedSums) -> float:
    """Return `cknna` from sums over tiles: of a pair of spaces, and of each with itself."""
    return _alignment(
        *(
            _hsic_of(sums.crossed, sums.first, sums.second, len(sums.shared))
            for sums in (both, one, other)
        )
    )


def _alignment(both: float, one: float, other: float) -> float:
    return math.nan if one <= 0 or other <= 0 else both / math.sqrt(one * other)


def _sparse(found: Ranked, scale: float, constant: float | None) -> sparse.csr_array:
    """Return the weighed kernel between rows and their neighbours, (row, row).

    Weights alone where no constant is given, so that kernels of 0 still count as there.
    """
    n_rows, kept = found.index.shape
    values = found.weights()
    if constant is not None:
        values = scale * (found.entries.astype(np.float64) + constant) * values
    starts = np.arange(0, n_rows * kept + 1, kept)
    # A copy, since scipy sorts the columns of a row in place.
    columns = found.index.reshape(-1).copy()
    return sparse.csr_array((values.reshape(-1), columns, starts), shape=(n_rows, n_rows))


def _hsic(k: sparse.csr_array, l: sparse.csr_array) -> float:
    """Return the unbiased HSIC of two kernels without diagonals, times n (n - 3)."""
    crossed = float(k.multiply(l.T).sum())
    return _hsic_of(crossed, k.sum(axis=0), l.sum(axis=1), k.shape[0])


def _hsic_of(
    crossed: float, first: NDArray[np.float64], second: NDArray[np.float64], n: int
) -> float:
    """Return it from the sum of K_ij L_ji, the sums down columns of K, and along rows of L."""
    means = float(first.sum()) * float(second.sum()) / ((n - 1) * (n - 2))
    return crossed + means - 2 * float(np.dot(first, second)) / (n - 2)
