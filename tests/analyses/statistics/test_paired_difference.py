"""Paired differences against clusters left out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from layerlake.analyses.statistics.paired_difference import paired_difference
from layerlake.store.errors import InvalidInput


def correlations(
    k: NDArray[np.float64], l: NDArray[np.float64], clusters: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    """Return r between clusters, and with each cluster left out."""

    def r(kept: NDArray[np.bool_]) -> float:
        """Correlate over the rows kept."""
        pairs = np.triu(clusters[:, None] != clusters, 1) & kept & kept[:, None]
        return float(np.corrcoef(k[pairs], l[pairs])[0, 1])

    deleted = np.array([r(clusters != g) for g in np.unique(clusters)])
    return r(np.ones(len(clusters), dtype=bool)), deleted


def three_spaces(seed: int) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """Return kernels of a base and of two variants, the second farther away, and clusters."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(20), 3)
    base = rng.standard_normal((20, 5))[clusters] + rng.standard_normal((60, 5))
    spaces = [base] + [base + s * rng.standard_normal((60, 5)) for s in (0.5, 0.9)]
    return [rows @ rows.T for rows in spaces], clusters


def test_equals_the_jackknife_of_differences() -> None:
    kernels, clusters = three_spaces(1)
    a, a_deleted = correlations(kernels[0], kernels[1], clusters)
    b, b_deleted = correlations(kernels[0], kernels[2], clusters)
    found = paired_difference(a, a_deleted, b, b_deleted, 0.9)
    # Pseudo-values: their mean and spread are the jackknife's, their t-test is its test.
    z = math.atanh(a) - math.atanh(b)
    left = np.arctanh(a_deleted) - np.arctanh(b_deleted)
    error = math.sqrt(19 / 20 * ((left - left.mean()) ** 2).sum())
    assert found.value == pytest.approx(a - b)
    assert (found.atanh_value, found.atanh_error) == pytest.approx((z, error))
    assert found.p_value == pytest.approx(2 * student.sf(abs(z) / error, 19))
    pseudo = z - 19 * (left - left.mean())
    assert found.p_value == pytest.approx(ttest_1samp(pseudo, 0).pvalue)
    assert found.low < found.value < found.high
    assert (found.n_clusters, found.notes) == (20, ())
    # The interval in r spans, about the same mean, what the one in atanh r does.
    mean = (math.atanh(a) + math.atanh(b)) / 2
    reach = student.ppf(0.95, 19) * error
    for end, step in ((found.low, z - reach), (found.high, z + reach)):
        assert end == pytest.approx(math.tanh(mean + step / 2) - math.tanh(mean - step / 2))


def test_turning_the_pair_turns_the_sign() -> None:
    kernels, clusters = three_spaces(2)
    one = correlations(kernels[0], kernels[1], clusters)
    two = correlations(kernels[0], kernels[2], clusters)
    found, turned = paired_difference(*one, *two), paired_difference(*two, *one)
    assert (turned.value, turned.low, turned.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )
    assert turned.p_value == pytest.approx(found.p_value)


@pytest.mark.parametrize("seed", range(5))
def test_p_falls_below_where_the_interval_leaves_zero_out(seed: int) -> None:
    kernels, clusters = three_spaces(seed)
    one = correlations(kernels[0], kernels[1], clusters)
    two = correlations(kernels[0], kernels[2], clusters)
    p_value = paired_difference(*one, *two).p_value
    for confidence in (1 - p_value - 0.001, 1 - p_value + 0.001):
        if not 0 < confidence < 1:
            continue
        found = paired_difference(*one, *two, confidence)
        assert (found.low > 0 or found.high < 0) == (p_value < 1 - confidence)


def test_what_has_no_spread_has_no_interval() -> None:
    deleted = np.array([0.5, 0.6, 0.55])
    nothing = (None, None, None)
    for first, second, reason in (
        ((math.nan, deleted), (0.5, deleted), "not defined"),
        ((1.0, deleted), (0.5, deleted), "told from 1"),
        ((0.6, deleted[:1]), (0.5, deleted[:1]), "too little remains"),
        ((0.6, np.array([0.5, math.nan, 0.6])), (0.5, deleted), "too little remains"),
        ((0.55, deleted), (0.55, deleted), "change alike"),
    ):
        found = paired_difference(*first, *second)
        assert (found.low, found.high, found.p_value) == nothing
        assert reason in found.notes[0]
    with pytest.raises(InvalidInput, match="3 clusters were left out of one correlation and 2"):
        paired_difference(0.5, deleted, 0.6, deleted[:2])
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        paired_difference(0.5, deleted, 0.6, deleted, 95)
