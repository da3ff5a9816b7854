"""Intervals against every cluster left out by hand, and their coverage."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student

from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays
from layerlake.analyses.similarity.estimates import PairValues
from layerlake.analyses.similarity.features.rsa_value import correlation
from layerlake.analyses.statistics.jackknife import jackknife

KERNELS = ("cosine", "correlation", "linear", "sqeuclidean")


def matrix(rows: NDArray[np.floating], kernel: str) -> NDArray[np.float64]:
    """Return the whole kernel matrix in float64."""
    wide = rows.astype(np.float64)
    if kernel == "correlation":
        wide = wide - wide.mean(axis=1, keepdims=True)
    if kernel in ("cosine", "correlation"):
        wide = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    products: NDArray[np.float64] = wide @ wide.T
    if kernel == "sqeuclidean":
        squares = np.diag(products)
        products = squares[:, None] + squares - 2 * products
    return products


def by_hand(
    X: NDArray[np.floating],
    Y: NDArray[np.floating],
    clusters: NDArray[np.int64],
    kernel: str,
    *,
    between: bool,
) -> tuple[float, float, float]:
    """Return r and its interval from full matrices, each cluster really left out."""
    k, l = matrix(X, kernel), matrix(Y, kernel)
    pairs = np.triu(np.ones_like(k, dtype=bool), 1)
    if between:
        pairs &= clusters[:, None] != clusters

    def r(kept: NDArray[np.bool_]) -> float:
        """Correlate over the pairs of the rows kept."""
        chosen = pairs & kept & kept[:, None]
        return float(np.corrcoef(k[chosen], l[chosen])[0, 1])

    whole = r(np.ones(len(X), dtype=bool))
    z = np.arctanh([r(clusters != g) for g in np.unique(clusters)])
    count = len(z)
    reach = student.ppf(0.95, count - 1) * np.sqrt((count - 1) * np.var(z))
    return whole, math.tanh(math.atanh(whole) - reach), math.tanh(math.atanh(whole) + reach)


def clustered(seed: int, lengths: list[int]) -> tuple[NDArray[np.float32], ...]:
    """Return two related spaces whose rows are alike within a cluster, and the clusters."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(lengths)), lengths)
    shared = rng.standard_normal((len(lengths), 9))[clusters]
    shared = shared + rng.standard_normal((len(clusters), 9)) + 2 * rng.standard_normal(9)
    other = shared @ rng.standard_normal((9, 7)) + rng.standard_normal((len(clusters), 7))
    return shared.astype(np.float32), other.astype(np.float32), clusters


def ends(found: PairValues, measure: str) -> tuple[float, float | None, float | None]:
    """Return the number of a measure and both ends of its interval."""
    estimate = found[measure]
    return estimate.value, estimate.low, estimate.high


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("block_rows", [2048, 40, 7])
def test_intervals_equal_leaving_each_cluster_out(kernel: str, block_rows: int) -> None:
    X, Y, clusters = clustered(1, [1, 1, 5, 70, 2, 9, 1, 30, 12, 4, 4, 3, 1, 8, 17])
    found = compare_arrays(
        X, Y, clusters, kernel=kernel, confidence=0.9, block_rows=block_rows, precision="float64",
        method="features",
    )  # fmt: skip
    for measure, between in (("r_all", False), ("r_between", True)):
        wanted = by_hand(X, Y, clusters, kernel, between=between)
        assert ends(found, measure) == pytest.approx(wanted, abs=1e-9)
    assert found.counts.n_clusters == 15
    share = sum(n * (n - 1) for n in np.bincount(clusters)) / (len(X) * (len(X) - 1))
    assert found.counts.within_pair_share == pytest.approx(share)
    assert any("15 clusters are few" in note for note in found.notes)


@pytest.mark.parametrize(
    "lengths", [[3] * 120, np.random.default_rng(2).integers(1, 9, 120).tolist()]
)
def test_float32_products_are_exact_enough_for_intervals(lengths: list[int]) -> None:
    X, Y, clusters = clustered(2, lengths)
    found = compare_arrays(X, Y, clusters, confidence=0.9, method="features")
    for measure, between in (("r_all", False), ("r_between", True)):
        wanted = by_hand(X, Y, clusters, "cosine", between=between)
        assert found.value(measure) == pytest.approx(wanted[0], abs=1e-8)
        assert ends(found, measure) == pytest.approx(wanted, abs=1e-6)
    assert found.counts.n_clusters == len(lengths)
    assert found.notes == ()


def test_rows_as_clusters_make_both_numbers_one() -> None:
    X, Y, _ = clustered(3, [1] * 110)
    found = compare_arrays(X, Y, interval="rows", method="features")
    assert found.value("r_between") == pytest.approx(found.value("r_all"), abs=1e-12)
    assert ends(found, "r_between") == pytest.approx(ends(found, "r_all"), abs=1e-9)
    assert found.counts.within_pair_share == 0


def test_clusters_in_any_order_are_the_same() -> None:
    X, Y, clusters = clustered(4, [4, 6, 1, 9, 3, 5])
    order = np.random.default_rng(0).permutation(len(X))
    one, other = (
        compare_arrays(*rows, precision="float64", method="features")
        for rows in ((X, Y, clusters), (X[order], Y[order], clusters[order]))
    )
    assert one.value("r_between") == pytest.approx(other.value("r_between"), abs=1e-10)
    assert one["r_all"].low == pytest.approx(other["r_all"].low, abs=1e-8)


def test_one_cluster_has_no_pairs_between_and_no_interval() -> None:
    X, Y, clusters = clustered(5, [20])
    found = compare_arrays(X, Y, clusters, method="features")
    assert math.isnan(found.value("r_between"))
    assert ends(found, "r_all")[1:] == ends(found, "r_between")[1:] == (None, None)
    assert found.counts.within_pair_share == 1
    assert any("one cluster" in note for note in found.notes)


def test_where_leaving_one_out_leaves_nothing_there_is_no_interval() -> None:
    # Two clusters: without one of them no pair between clusters is left.
    X, Y, clusters = clustered(6, [6, 7])
    found = compare_arrays(X, Y, clusters, method="features")
    assert not math.isnan(found.value("r_between"))
    assert found["r_between"].low is None
    assert found["r_all"].low is not None
    assert any("interval is missing" in note for note in found.notes)


def test_no_interval_where_none_is_asked_for() -> None:
    X, Y, clusters = clustered(7, [3] * 30)
    found = compare_arrays(X, Y, clusters, interval="none", method="features")
    assert ends(found, "r_all")[1:] == (None, None)
    assert not math.isnan(found.value("r_between"))
    assert found.notes == ()


def test_a_correlation_of_one_has_an_interval_that_ends_there() -> None:
    deleted = np.full(8, 1 - 1e-10)
    assert jackknife(1 - 1e-10, deleted, 0.95) == (1 - 1e-10, 1.0)
    assert jackknife(-1.0, -deleted, 0.95) == (-1.0, -1.0)
    X, _, clusters = clustered(8, [3] * 20)
    value, low, high = ends(compare_arrays(X, 2 * X, clusters, method="features"), "r_all")
    assert value == pytest.approx(1, abs=1e-8)
    assert high == 1
    assert low == value


def test_one_cluster_that_makes_all_the_difference_stays_finite() -> None:
    interval = jackknife(0.9, np.array([0.9, 1.0, 0.9, 0.9]), 0.95)
    assert interval is not None
    assert -1 <= interval.low < 0.9 < interval.high <= 1


def test_correlation_is_undefined_where_nothing_varies() -> None:
    sums = np.array([[6.0, 6.0], [6.0, 6.0], [3.0, 3.0], [6.0, 8.0], [2.0, 2.0], [3.0, 3.0]])
    found = correlation(sums)
    assert np.isnan(found[0])
    assert not np.isnan(found[1])


@pytest.mark.slow
def test_intervals_cover_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    lengths = [6] * 60
    clusters = np.repeat(np.arange(60), lengths)

    def draw(groups: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows of two spaces, alike within a cluster."""
        ids = np.repeat(np.arange(groups), 6)
        rows = rng.standard_normal((groups, 8))[ids] + rng.standard_normal((groups * 6, 8))
        return rows, rows @ mix + rng.standard_normal((groups * 6, 8)), ids

    mix = rng.standard_normal((8, 8)) / 3
    truth = compare_arrays(*draw(4000), interval="none", method="features").value("r_between")
    covered = 0
    for _ in range(200):
        X, Y, _ids = draw(60)
        found = compare_arrays(X, Y, clusters, precision="float64", method="features")["r_between"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.88 <= covered / 200 <= 0.99
