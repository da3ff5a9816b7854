"""Maps of spaces: distances of points in a plane come back; what cannot be placed is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.analyses.results.space_map import classical_scaling, space_map
from layerlake.store.errors import InvalidInput

MakeRecord = Callable[..., dict[str, Any]]


def result_of(
    record: MakeRecord, measure: str, values: np.ndarray, *, both: bool = False
) -> SimilarityResult:
    """Return the pairs of spaces v0 layer 0, v0 layer 1, v1 layer 0 and so on."""
    spaces = [(f"v{k // 2}", k % 2) for k in range(len(values))]
    pairs = [*combinations(range(len(values)), 2)]
    if both:
        pairs += [(j, i) for i, j in pairs]
    return SimilarityResult(
        {},
        {},
        tuple(
            record(*spaces[j], measure, values[i, j].item(), low=None, high=None)
            | {"reference": spaces[i][0], "reference_layer": spaces[i][1]}
            for i, j in pairs
        ),
    )


def test_points_of_a_plane_come_back() -> None:
    points = np.random.default_rng(0).standard_normal((9, 2)) * (3, 1)
    distances = squareform(pdist(points))
    found, shares = classical_scaling(distances)
    np.testing.assert_allclose(squareform(pdist(found)), distances, atol=1e-12)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    assert shares.sum() == pytest.approx(1)
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) ** 2
    np.testing.assert_allclose(shares, spread / spread.sum())
    farthest = np.abs(found).argmax(axis=0)
    assert (found[farthest, [0, 1]] > 0).all()


def test_more_dimensions_than_points_need_are_empty() -> None:
    found, shares = classical_scaling(squareform(pdist(np.array([[0.0], [1.0]]))), 3)
    np.testing.assert_allclose(np.abs(found), [[0.5, 0, 0]] * 2, atol=1e-8)
    np.testing.assert_allclose(shares, [1, 0, 0], atol=1e-12)
    nowhere, none = classical_scaling(np.zeros((4, 4)))
    np.testing.assert_array_equal(nowhere, 0)
    np.testing.assert_array_equal(none, 0)


@pytest.mark.parametrize(
    ("measure", "distance"),
    [("cka", "angle"), ("cka", "chord"), ("procrustes", "angle"), ("procrustes-size", "chord")],
)
def test_similarities_become_distances_and_distances_stay(
    record: MakeRecord, measure: str, distance: str
) -> None:
    points = np.random.default_rng(1).uniform(0, 0.4, (6, 2))
    distances = squareform(pdist(points))
    inverse = {"angle": np.cos, "chord": lambda d: 1 - d * d / 2}[distance]
    values = inverse(distances) if measure == "cka" else distances
    drawn = space_map(result_of(record, measure, values).to_matrix(), distance=distance)
    np.testing.assert_allclose(squareform(pdist(drawn.points)), distances, atol=1e-7)
    assert drawn.spaces == (("v0", 0), ("v0", 1), ("v1", 0), ("v1", 1), ("v2", 0), ("v2", 1))
    assert drawn.left_out == ()


def test_both_directions_of_a_measure_are_averaged(record: MakeRecord) -> None:
    rng = np.random.default_rng(2)
    values = rng.uniform(0.4, 0.9, (4, 4))
    mean = (values + values.T) / 2
    expected = space_map(result_of(record, "cka", mean).to_matrix())
    both = space_map(result_of(record, "pwcca", values, both=True).to_matrix())
    np.testing.assert_allclose(both.points, expected.points, atol=1e-12)
    one = space_map(result_of(record, "pwcca", values).to_matrix())
    upper = np.triu(values, 1)
    alone = space_map(result_of(record, "cka", upper + upper.T).to_matrix())
    np.testing.assert_allclose(one.points, alone.points, atol=1e-12)


def test_a_space_without_numbers_is_left_out(record: MakeRecord) -> None:
    values = np.full((5, 5), 0.5)
    values[2] = values[:, 2] = np.nan
    drawn = space_map(result_of(record, "cka", values).to_matrix())
    assert drawn.left_out == ("v1 0",)
    assert ("v1", 0) not in drawn.spaces
    assert np.isfinite(drawn.points).all()


def test_what_cannot_be_placed_is_refused(record: MakeRecord) -> None:
    values = np.full((4, 4), 0.5)
    values[0, 3] = np.nan
    with pytest.raises(InvalidInput, match="1 of 6 pairs of spaces have no cka; a map needs all"):
        space_map(result_of(record, "cka", values).to_matrix())
    with pytest.raises(InvalidInput, match="2 spaces have numbers; a map needs at least 3"):
        space_map(result_of(record, "cka", np.full((2, 2), 0.5)).to_matrix())
    with pytest.raises(InvalidInput, match="no distance 'far'; choose angle or chord"):
        space_map(result_of(record, "cka", np.full((4, 4), 0.5)).to_matrix(), distance="far")
