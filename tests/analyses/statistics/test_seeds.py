"""Means over seeds against the textbook's t interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from layerlake.analyses.statistics.seeds import mean_over_seeds
from layerlake.store.errors import InvalidInput


def test_numbers_have_the_interval_of_a_t_test() -> None:
    values = [3.0, 4.5, 2.0, 7.25]
    found = mean_over_seeds(values, confidence=0.9, correlations=False)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (found.low, found.value, found.high) == pytest.approx((low, np.mean(values), high))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert (found.n_seeds, found.notes) == (4, ())


def test_correlations_have_theirs_on_atanh_about_the_mean() -> None:
    values = np.array([0.95, 0.99, 0.7])
    found = mean_over_seeds(values)
    z = np.arctanh(values)
    reach = stats.t.ppf(0.975, 2) * z.std(ddof=1) / math.sqrt(3)
    assert found.value == pytest.approx(0.88)
    assert found.low == pytest.approx(math.tanh(math.atanh(0.88) - reach))
    assert found.high == pytest.approx(math.tanh(math.atanh(0.88) + reach))
    assert -1 <= found.low < 0.88 < found.high <= 1


def test_few_seeds_and_missing_ones_are_said() -> None:
    one = mean_over_seeds([0.4])
    assert (one.value, one.low, one.high, one.sd, one.n_seeds) == (0.4, None, None, None, 1)
    assert one.notes == ("one seed shows no spread between seeds",)
    some = mean_over_seeds([0.4, math.nan, 0.5])
    assert (some.value, some.n_seeds) == (pytest.approx(0.45), 2)
    assert some.notes == ("1 of 3 seeds have no value and are left out",)
    none = mean_over_seeds([math.nan])
    assert math.isnan(none.value)
    assert none.notes[-1] == "no seed has a value"


def test_seeds_that_agree_have_an_interval_without_width() -> None:
    found = mean_over_seeds([1.0, 1.0, 1.0])
    assert (found.low, found.value, found.high, found.sd) == (1, 1, 1, 0)
    edge = mean_over_seeds([1.0, 0.9])
    assert (edge.low, edge.high) == (None, None)
    assert "told from 1" in edge.notes[0]


def test_what_is_refused() -> None:
    with pytest.raises(InvalidInput, match="one number per seed"):
        mean_over_seeds([])
    with pytest.raises(InvalidInput, match=r"1\.5 is no correlation"):
        mean_over_seeds([0.5, 1.5])
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        mean_over_seeds([0.5, 0.6], confidence=0)
