"""The profile of a space against numpy, scikit-learn and the cosines of all pairs."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from layerlake.analyses.profiles.profile_sums import ProfileSums
from layerlake.analyses.profiles.row_lengths import NormHistogram
from layerlake.analyses.profiles.space_profile import profile_array, profile_memory, profile_space
from layerlake.analyses.profiles.spectrum import spectrum_of_gram
from layerlake.analyses.similarity.closed_forms.centred_sums import SpaceSums
from layerlake.analyses.statistics.group_jackknife import even_groups
from layerlake.engine.passes.blocks import Block
from layerlake.engine.passes.selected_rows import RowNames
from layerlake.store.errors import InvalidInput, MemoryRefused


def rows_of(n: int = 300, d: int = 12, seed: int = 0, mean: float = 2.0) -> np.ndarray:
    """Rows of unequal variances and lengths, around a mean."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d)) * np.geomspace(3, 0.1, d) + mean * rng.standard_normal(d)
    return rows * rng.lognormal(0, 0.5, (n, 1))


class Stored:
    """An array as a space that counts what is read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.read = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def rows(self, index: np.ndarray) -> np.ndarray:
        self.read += len(index)
        return self.values[index]


def mean_cosine(rows: np.ndarray) -> float:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return float((unit @ unit.T)[np.triu_indices(len(rows), 1)].mean())


@pytest.mark.parametrize(
    ("library", "dtype"),
    [
        (np, "float16"),
        (np, "float32"),
        (np, "float64"),
        (array_api_strict, "float32"),
        (array_api_strict, "float64"),
    ],
)
def test_equals_the_textbook(library, dtype):
    rows = rows_of().astype(dtype)
    found = profile_array(library.asarray(rows), block_rows=64)
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    assert found.n_rows == 300
    assert found.anisotropy == pytest.approx(mean_cosine(wide), abs=1e-13)
    assert found.mean_length == pytest.approx(np.linalg.norm(wide.mean(axis=0)), rel=1e-12)
    variances = np.linalg.eigvalsh(np.cov(wide.T))[::-1]
    np.testing.assert_allclose(found.spectrum.variances, variances, rtol=1e-9)
    ratio = variances.sum() ** 2 / np.sum(variances**2)
    assert found.spectrum.participation_ratio == pytest.approx(ratio, rel=1e-10)
    shares = variances / variances.sum()
    rank = np.exp(-np.sum(shares * np.log(shares)))
    assert found.spectrum.effective_rank == pytest.approx(rank, rel=1e-10)
    assert found.norms.mean == pytest.approx(lengths.mean(), rel=1e-13)
    assert found.norms.sd == pytest.approx(lengths.std(ddof=1), rel=1e-12)
    ends = found.norms.lowest, found.norms.highest
    # A sum of 12 squares in any order.
    near = 12 * np.finfo(np.float64).eps
    assert ends == pytest.approx((lengths.min(), lengths.max()), rel=near)
    quartiles = np.quantile(lengths, [0.25, 0.5, 0.75])
    assert found.norms.bound == 2.0**-15
    np.testing.assert_allclose(found.norms.quartiles, quartiles, rtol=found.norms.bound)
    assert not found.notes


def test_spectrum_against_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    rows = rows_of()
    pca = decomposition.PCA().fit(rows)
    spectrum = profile_array(rows).spectrum
    np.testing.assert_allclose(spectrum.variances, pca.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(spectrum.explained, pca.explained_variance_ratio_, rtol=1e-9)
    for fraction in (0.5, 0.9, 0.99):
        assert spectrum.components(fraction) == decomposition.PCA(fraction).fit(rows).n_components_
    assert spectrum.components(1) == 12
    with pytest.raises(InvalidInput, match=r"1\.2"):
        spectrum.components(1.2)


@pytest.mark.parametrize("cosine", [0.95, 0.99999])
def test_anisotropic_rows_keep_their_digits(cosine):
    shift = np.sqrt(cosine / (1 - cosine)) * np.sqrt(np.sum(np.geomspace(3, 0.1, 12) ** 2))
    rows = np.random.default_rng(0).standard_normal((400, 12)) * np.geomspace(3, 0.1, 12)
    rows[:, 0] += shift
    found = profile_array(rows)
    assert 1 - found.anisotropy == pytest.approx(1 - mean_cosine(rows), rel=1e-9)
    np.testing.assert_allclose(
        found.spectrum.variances, np.linalg.eigvalsh(np.cov(rows.T))[::-1], rtol=1e-8
    )


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 50), min_size=1, max_size=4), st.booleans())
def test_any_blocks_in_any_order_give_the_same(seed, cuts, backwards):
    rows = rows_of(50, 5, seed)
    bounds = [0, *sorted(cuts), 50]
    accumulator = ProfileSums(0, RowNames((), ()), np.arange(50) // 10)
    states = []
    for start, stop in itertools.pairwise(bounds):
        block = Block(start, stop, (rows[start:stop],))
        states.append(accumulator.update(accumulator.start(), block))
    if backwards:
        states.reverse()
    state = accumulator.start()
    for part in states:
        state = accumulator.merge(state, part)
    found, whole = accumulator.finish(state), profile_array(rows)
    assert found.anisotropy == pytest.approx(whole.anisotropy, abs=1e-13)
    ordered = profile_array(rows, np.arange(50) // 10)
    assert found.anisotropy_low == pytest.approx(ordered.anisotropy_low, abs=1e-12)
    assert found.mean_norm_high == pytest.approx(ordered.mean_norm_high, rel=1e-12)
    np.testing.assert_allclose(found.spectrum.variances, whole.spectrum.variances, rtol=1e-9)
    # A length at the edge of a bin, which is two bounds wide, may be rounded into the next one.
    quartiles = pytest.approx(whole.norms.quartiles, rel=2 * whole.norms.bound)
    assert found.norms.quartiles == quartiles
    for name in ("mean", "sd", "lowest", "highest", "bound"):
        assert getattr(found.norms, name) == pytest.approx(getattr(whole.norms, name), rel=1e-12)


def test_rows_of_a_space_are_read_once_and_reported():
    space, told = Stored(rows_of()), []
    before = space.values.copy()
    index = np.arange(1, 300, 3)
    found = profile_space(space, index, block_rows=32, on_progress=told.append)
    assert (space.read, sum(told)) == (len(index), len(index))
    assert found.anisotropy == pytest.approx(profile_array(space.values[index]).anisotropy)
    assert profile_space(space).n_rows == 300
    profile_array(space.values)
    np.testing.assert_array_equal(space.values, before)


def test_the_spectrum_from_sums_of_another_pass():
    rows = rows_of()
    x = rows - rows.mean(axis=0)
    p = np.sum(x * x, axis=1)
    sums = SpaceSums(300, rows.mean(axis=0), x.T @ x, p @ x, float(p @ p))
    mine, theirs = spectrum_of_gram(sums.n_rows, sums.mean, sums.gram), profile_array(rows).spectrum
    np.testing.assert_allclose(mine.variances, theirs.variances, rtol=1e-10)
    assert mine.participation_ratio == pytest.approx(theirs.participation_ratio)


# The interval of the anisotropy.


@pytest.mark.parametrize("library", [np, array_api_strict])
def test_anisotropy_without_each_group_of_clusters(library):
    rows = rows_of(400)
    rows[[5, 90]] = 0
    clusters = np.repeat(np.arange(90), np.random.default_rng(1).integers(1, 9, 90))[:400]
    clusters = np.concatenate([clusters, np.full(400 - len(clusters), 99)])
    found = profile_array(library.asarray(rows), clusters, block_rows=37, confidence=0.9)
    lengths = np.unique(clusters, return_counts=True)[1]
    groups = np.repeat(even_groups(lengths), lengths)
    has = np.linalg.norm(rows, axis=1) > 0
    left = [mean_cosine(rows[has & (groups != g)]) for g in np.unique(groups)]
    z, count = np.arctanh(left), len(left)
    error = np.sqrt((count - 1) / count * np.sum((z - z.mean()) ** 2))
    reach = student.ppf(0.95, count - 1) * error
    centre = np.arctanh(mean_cosine(rows[has]))
    ends = np.tanh(centre - reach), np.tanh(centre + reach)
    assert (found.anisotropy_low, found.anisotropy_high) == pytest.approx(ends, abs=1e-10)
    assert profile_array(rows).anisotropy_low is None
    assert profile_array(rows, np.zeros(400)).anisotropy_low is None


def test_mean_length_without_each_group_of_clusters():
    rows = rows_of(200)
    rows[5] = 0
    clusters = np.arange(200) // 3
    found = profile_array(rows, clusters, block_rows=37, confidence=0.9)
    lengths = np.linalg.norm(rows, axis=1)
    sizes = np.unique(clusters, return_counts=True)[1]
    groups = np.repeat(even_groups(sizes), sizes)
    z = np.log([lengths[groups != g].mean() for g in np.unique(groups)])
    error = np.sqrt((len(z) - 1) / len(z) * np.sum((z - z.mean()) ** 2))
    reach = student.ppf(0.95, len(z) - 1) * error
    ends = lengths.mean() * np.exp([-reach, reach])
    assert (found.mean_norm_low, found.mean_norm_high) == pytest.approx(tuple(ends), rel=1e-10)
    assert profile_array(rows).mean_norm_low is None
    assert profile_array(np.zeros((9, 3)), np.arange(9)).mean_norm_low is None


def test_clusters_that_leave_too_little_have_no_interval():
    rows = np.zeros((9, 3))
    rows[:2] = 1
    found = profile_array(rows, np.repeat([0, 1, 2], 3))
    assert found.anisotropy == pytest.approx(1)
    assert found.anisotropy_low is None
    assert "no interval" in found.notes[0]


def test_clusters_that_do_not_fit_are_refused():
    rows = rows_of(30)
    with pytest.raises(InvalidInput, match="each of 30 rows"):
        profile_array(rows, np.arange(29))
    with pytest.raises(InvalidInput, match="lie apart"):
        profile_array(rows, np.arange(30) % 3)
    with pytest.raises(InvalidInput, match="confidence"):
        profile_array(rows, np.arange(30), confidence=1.5)


# Lengths.


def test_bins_widen_where_lengths_are_many_and_the_bound_says_so():
    lengths = np.random.default_rng(0).lognormal(0, 3, 300_000)
    whole = NormHistogram.of(lengths)
    parts = NormHistogram()
    for part in np.array_split(lengths, 7)[::-1]:
        parts = parts.joined(NormHistogram.of(part))
    assert len(whole.keys) <= 2**16
    assert whole.bits == parts.bits < 14
    np.testing.assert_array_equal(whole.keys, parts.keys)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    found = parts.statistics()
    assert found.bound == 2.0 ** -(whole.bits + 1)
    exact = np.quantile(lengths, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(found.quartiles, exact, rtol=found.bound)
    assert found.sd == pytest.approx(lengths.std(ddof=1), rel=1e-12)


def test_lengths_of_zero_are_zero():
    found = NormHistogram.of(np.array([0.0, 0.0, 0.0, 5.0])).statistics()
    assert found.quartiles == pytest.approx((0, 0, 1.25), rel=1e-4)
    assert (found.lowest, found.highest) == (0, 5)


# What is not defined, and what is refused.


def test_rows_without_direction_have_no_cosine_but_count_in_the_rest():
    rows = rows_of()
    rows[[3, 70]] = 0
    found = profile_array(rows)
    assert (found.n_rows, found.n_without_direction) == (300, 2)
    assert found.anisotropy == pytest.approx(mean_cosine(np.delete(rows, [3, 70], 0)))
    assert found.spectrum.total == pytest.approx(np.trace(np.cov(rows.T)))
    nothing = profile_array(np.zeros((5, 3)))
    assert math.isnan(nothing.anisotropy)
    assert "0 rows have a direction" in nothing.notes[0]


@pytest.mark.parametrize("rows", [np.full((40, 3), 0.1) * [1, 30, 1e4], np.ones((1, 4))])
def test_constant_rows_have_no_dimension(rows):
    found = profile_array(rows, block_rows=7)
    assert math.isnan(found.spectrum.participation_ratio)
    assert math.isnan(found.spectrum.effective_rank)
    assert np.isnan(found.spectrum.explained).all()
    assert "all rows are the same" in found.notes[-1]


def test_what_is_refused():
    rows = rows_of()
    with pytest.raises(InvalidInput, match="none"):
        profile_array(rows[:0])
    with pytest.raises(InvalidInput, match="shape"):
        profile_array(rows[0])
    with pytest.raises(InvalidInput, match="block_rows"):
        profile_array(rows, block_rows=0)
    for index in ([3, 2], [1, 1], [-1, 4], [0, 300]):
        with pytest.raises(InvalidInput, match="ascending"):
            profile_space(Stored(rows), np.array(index))
    with pytest.raises(MemoryRefused, match="profiling 300 rows of base"):
        profile_space(Stored(rows), memory=1000, name="base")
    for bad in (np.nan, np.inf, 1e300):
        broken = rows.copy()
        broken[131, 4] = bad
        with pytest.raises(InvalidInput, match="row 131 of base"):
            profile_space(Stored(broken), block_rows=50, name="base")
        with pytest.raises(InvalidInput, match="row 131 of base"):
            profile_space(Stored(broken), np.arange(100, 200), block_rows=20, name="base")


@pytest.mark.parametrize(("n", "d", "block_rows"), [(3000, 200, 1500), (2500, 500, 200)])
def test_memory_is_what_was_planned(n, d, block_rows):
    space = Stored(np.random.default_rng(0).standard_normal((n, d), np.float32))
    tracemalloc.start()
    try:
        profile_space(space, clusters=np.arange(n) // 3, block_rows=block_rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    planned = profile_memory(d, 4, n, block_rows).peak
    assert 0.8 * planned < peak < planned
