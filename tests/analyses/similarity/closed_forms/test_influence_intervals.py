"""Intervals of closed forms in a comparison: by influence and by groups, against deletion."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student

from layerlake.analyses.similarity.closed_forms.influence_intervals import INFLUENCED, batches_of
from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays

N_CLUSTERS, EACH = 90, 8
MEASURES = "cca,procrustes,netrep-1,bures,cka,debiased-cka,svcca"


def spaces() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return two related spaces of rows that are alike within clusters."""
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(N_CLUSTERS), EACH)
    latent = rng.standard_normal((N_CLUSTERS, 5))[clusters] + rng.standard_normal(
        (len(clusters), 5)
    )
    X, Y = (
        latent @ rng.standard_normal((5, d)) + rng.standard_normal((len(clusters), d))
        for d in (6, 7)
    )
    return X, Y, clusters


def test_intervals_are_those_of_leaving_each_cluster_out() -> None:
    X, Y, clusters = spaces()
    whole = compare_arrays(X, Y, clusters, measure=MEASURES)
    without = [
        compare_arrays(X[clusters != g], Y[clusters != g], measure=MEASURES, interval="none")
        for g in range(N_CLUSTERS)
    ]
    for name in MEASURES.split(","):
        angle = name in ("procrustes", "netrep-1")
        scale = math.cos if angle else float
        value = scale(whole.value(name))
        deleted = np.arctanh([scale(one.value(name)) for one in without])
        error = np.sqrt((N_CLUSTERS - 1) * np.var(deleted))
        reach = student.ppf(0.975, N_CLUSTERS - 1) * error
        ends = [np.tanh(np.arctanh(value) + sign * reach) for sign in (-1, 1)]
        low, high = sorted(math.acos(end) for end in ends) if angle else ends
        found = whole[name]
        # Twenty groups estimate the same variance with a scatter of their own.
        share = 0.1 if name in INFLUENCED else 0.5
        assert found.low is not None
        assert found.high is not None
        assert found.low < whole.value(name) < found.high
        assert found.high - found.low == pytest.approx(high - low, rel=share), name


def test_equal_spaces_and_spaces_that_do_not_vary() -> None:
    X, _, clusters = spaces()
    equal = compare_arrays(X, X, clusters, measure="bures,procrustes,cca")
    assert (equal["bures"].low, equal["bures"].high) == pytest.approx((1, 1), abs=1e-7)
    assert equal["procrustes"].low == pytest.approx(0, abs=1e-6)
    constant = compare_arrays(X, np.ones_like(X), clusters, measure="bures,cca,cka")
    assert all(math.isnan(estimate.value) for estimate in constant.estimates)
    assert all(estimate.low is None for estimate in constant.estimates)
    assert "all rows of Y are the same" in constant.notes[0]


def test_pairs_are_shared_out_by_what_derivatives_take() -> None:
    pairs = [(s, t) for s in range(4) for t in range(s + 1, 4)]
    assert batches_of(["cka", "svcca"], [768] * 4, pairs) == []
    assert batches_of(["cca"], [8] * 4, pairs) == [pairs]
    batches = batches_of(["cca", "bures"], [2048] * 4, pairs)
    assert [pair for batch in batches for pair in batch] == pairs
    assert len(batches) == 6  # each pair alone takes 192 MiB
