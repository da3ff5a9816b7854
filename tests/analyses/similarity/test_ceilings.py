"""Noise ceilings against means of standardised kernels, as rsatoolbox takes them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.analyses.similarity.ceilings import noise_ceiling
from layerlake.store.errors import InvalidInput


def pooled(vectors: NDArray[np.float64], centred: bool) -> NDArray[np.float64]:
    """Return the mean of the vectors, each brought to one length."""
    if centred:
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
        vectors = vectors / vectors.std(axis=1, keepdims=True)
    else:
        vectors = vectors / np.sqrt((vectors**2).mean(axis=1, keepdims=True))
    mean: NDArray[np.float64] = vectors.mean(axis=0)
    return mean


def alike(a: NDArray[np.float64], b: NDArray[np.float64], centred: bool) -> float:
    """Correlate two vectors, or take their cosine."""
    if centred:
        return float(np.corrcoef(a, b)[0, 1])
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def by_pooling(
    vectors: NDArray[np.float64], groups: NDArray[np.int64], centred: bool
) -> tuple[float, float]:
    """Return both ends from the dissimilarities themselves."""
    lower, upper = [], []
    whole = pooled(vectors, centred)
    for group in np.unique(groups):
        rest = pooled(vectors[groups != group], centred)
        lower.append(np.mean([alike(rest, v, centred) for v in vectors[groups == group]]))
        upper.append(np.mean([alike(whole, v, centred) for v in vectors[groups == group]]))
    return float(np.mean(lower)), float(np.mean(upper))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4, 5], [7, 7, 2, 2, 2, 9], [0, 0, 0, 1, 1, 1]])
def test_equals_pooling_the_dissimilarities(centred: bool, groups: list[int]) -> None:
    rng = np.random.default_rng(3)
    scales = rng.uniform(0.1, 9, (6, 1))
    vectors = (rng.standard_normal(90) + rng.standard_normal((6, 90)) + 1) * scales + scales
    matrix = np.array([[alike(a, b, centred) for b in vectors] for a in vectors])
    found = noise_ceiling(matrix, np.array(groups))
    assert (found.lower, found.upper) == pytest.approx(
        by_pooling(vectors, np.array(groups), centred), abs=1e-12
    )
    assert found.lower < found.upper
    assert (found.n_spaces, found.n_groups) == (6, len(set(groups)))


def test_upper_end_is_the_root_of_the_mean_correlation() -> None:
    rng = np.random.default_rng(4)
    matrix = np.corrcoef(rng.standard_normal(40) + rng.standard_normal((5, 40)))
    assert noise_ceiling(matrix).upper == pytest.approx(math.sqrt(matrix.mean()))
    same = noise_ceiling(np.ones((3, 3)))
    assert (same.lower, same.upper) == pytest.approx((1, 1))


def test_what_is_not_defined_is_nan_with_the_reason() -> None:
    matrix = np.eye(3)
    matrix[0, 1] = matrix[1, 0] = np.nan
    found = noise_ceiling(matrix)
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)
    assert found.notes == ("a correlation between two of the spaces is not defined",)
    opposite = noise_ceiling(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    assert math.isnan(opposite.upper)
    assert opposite.lower == -1
    assert "cancel" in opposite.notes[0]


def test_what_is_no_matrix_of_correlations_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"shape \(2, 3\); give a square matrix"):
        noise_ceiling(np.ones((2, 3)))
    with pytest.raises(InvalidInput, match="1 space or group is too few"):
        noise_ceiling(np.ones((1, 1)))
    with pytest.raises(InvalidInput, match="1 space or group is too few"):
        noise_ceiling(np.ones((3, 3)), np.zeros(3, dtype=np.int64))
    with pytest.raises(InvalidInput, match="2 groups are given for 3 spaces"):
        noise_ceiling(np.ones((3, 3)), np.arange(2))
    for wrong in (np.triu(np.ones((3, 3))), 2 * np.eye(3), np.array([[1.0, 2.0], [2.0, 1.0]])):
        with pytest.raises(InvalidInput, match="not one of correlations"):
            noise_ceiling(wrong)
