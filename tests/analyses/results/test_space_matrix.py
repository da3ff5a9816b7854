"""All pairs as a square matrix: what is mirrored, what lies on the diagonal, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.results.measures import known_measure, title_of
from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.analyses.results.similarity_measures import measure_named
from layerlake.analyses.similarity.closed_forms.registry import FORMS
from layerlake.store.errors import InvalidInput

MakeRecord = Callable[..., dict[str, Any]]
SPACES = [("base", 0), ("base", 2), ("cut", 0), ("cut", 10)]


def all_pairs(record: MakeRecord, measure: str, **more: Any) -> SimilarityResult:
    """Return the pairs above the diagonal, (i, j) having i + j / 10."""
    records = [
        record(
            SPACES[j][0], SPACES[j][1], measure, i + j / 10,
            reference=SPACES[i][0], reference_layer=SPACES[i][1], **more,
        )
        for i in range(4)
        for j in range(i + 1, 4)
    ]  # fmt: skip
    return SimilarityResult({}, {}, (*records[3:5], *records[:3], *records[5:]))


@pytest.mark.parametrize(("measure", "own"), [("cka", 1), ("r_between", 1), ("procrustes", 0)])
def test_a_symmetric_measure_is_mirrored(record: MakeRecord, measure: str, own: float) -> None:
    matrix = all_pairs(record, measure).to_matrix()
    assert matrix.dims == ("space", "other_space")
    assert matrix["space"].to_numpy().tolist() == ["base 0", "base 2", "cut 0", "cut 10"]
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diagonal(matrix), own)
    assert float(matrix.sel(space="base 2", other_space="cut 10")) == 1.3
    assert float(matrix.sel(space="cut 10", other_space="base 2")) == 1.3
    own_layers = matrix[(matrix["variant"] == "cut").to_numpy()]["layer"].to_numpy()
    assert own_layers.tolist() == [0, 10]
    assert matrix.attrs["measure"] == matrix.name == measure


def test_other_numbers_of_the_records_have_matrices_too(record: MakeRecord) -> None:
    result = all_pairs(record, "spearman", bound=0.25)
    assert float(result.to_matrix(number="low")[0, 3]) == pytest.approx(0.2)
    assert float(result.to_matrix(number="high")[3, 0]) == pytest.approx(0.4)
    bounds = result.to_matrix(number="bound").to_numpy()
    np.testing.assert_array_equal(bounds, 0.25 * (1 - np.eye(4)))
    with pytest.raises(InvalidInput, match=r"no number 'mean' .* value, low, high, bound"):
        result.to_matrix(number="mean")


def test_a_measure_that_is_not_symmetric_is_not_mirrored(record: MakeRecord) -> None:
    matrix = all_pairs(record, "pwcca").to_matrix().to_numpy()
    assert np.isnan(matrix[np.tril_indices(4, -1)]).all()
    assert not np.isnan(matrix[np.triu_indices(4)]).any()


def test_recorded_values_stand_where_they_were_recorded(record: MakeRecord) -> None:
    records = (
        record("a", 1, "kendall", 0.5, reference="a", reference_layer=1),
        record("b", 1, "kendall", 0.25, reference="a", reference_layer=1),
        record("a", 1, "kendall", 0.125, reference="b", reference_layer=1),
    )
    matrix = SimilarityResult({}, {}, records).to_matrix().to_numpy()
    np.testing.assert_array_equal(matrix, [[0.5, 0.25], [0.125, 1]])


def test_a_space_without_any_number_has_none_with_itself(record: MakeRecord) -> None:
    pairs = (("a", "b", 0.5), ("a", "c", None), ("b", "c", math.nan))
    records = tuple(record(v, 0, "cka", r, reference=u) for u, v, r in pairs)
    matrix = SimilarityResult({}, {}, records).to_matrix().to_numpy()
    np.testing.assert_array_equal(matrix, [[1, 0.5, np.nan], [0.5, 1, np.nan], [np.nan] * 3])


def test_pairs_that_were_not_compared_are_not_numbers(record: MakeRecord) -> None:
    matrix = SimilarityResult({}, {}, tuple(record(v, 0, "cka", 0.5) for v in "ab")).to_matrix()
    assert math.isnan(matrix.sel(space="a 0", other_space="b 0"))
    assert float(matrix.sel(space="b 0", other_space="base 0")) == 0.5


def test_one_measure_corpus_and_site_is_chosen(record: MakeRecord) -> None:
    records = tuple(
        record("twin", 0, measure, value, corpus=corpus)
        for measure, corpus, value in (
            ("cka", "wiki", 0.1),
            ("cka", "ewt", 0.2),
            ("cca", "wiki", 0.3),
        )
    )
    result = SimilarityResult({}, {}, records)
    assert float(result.to_matrix("cka", corpus="ewt")[0, 1]) == 0.2
    assert float(result.to_matrix("cca")[0, 1]) == 0.3
    with pytest.raises(InvalidInput, match=r"the result holds cka, cca; .* one measure"):
        result.to_matrix()
    with pytest.raises(InvalidInput, match=r"the result holds wiki, ewt; .* one corpus"):
        result.to_matrix("cka")
    with pytest.raises(InvalidInput, match="no measure 'svcca', but cka, cca"):
        result.to_matrix("svcca")
    with pytest.raises(InvalidInput, match="no record; a matrix is of one measure"):
        SimilarityResult({}, {}, ()).to_matrix()
    with pytest.raises(InvalidInput, match="nothing is known of the measure 'warmth'"):
        SimilarityResult({}, {}, (record("twin", 0, "warmth", 0.5),)).to_matrix()
    with pytest.raises(InvalidInput, match="base layer 0 and twin layer 0 have two records"):
        SimilarityResult({}, {}, (*records, records[0])).to_matrix("cka", corpus="wiki")


def test_measures_are_known_by_name() -> None:
    assert measure_named("netrep-0.3").kind == "angle"
    assert measure_named("svcca-0.95").own == 1
    assert measure_named("mutual-knn-20").title.endswith("20")
    assert measure_named("spearman_between").title == "RSA (Spearman) between examples"
    assert not measure_named("pwcca").symmetric
    assert title_of("r_all") == "RSA"
    assert title_of("warmth") == "warmth"
    for name in ("warmth", "netrep-x", "netrep", "warmth_between", "cka-3", "", None):
        assert known_measure(name) is None  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="nothing is known"):
            measure_named(name)  # type: ignore[arg-type]


def test_closed_forms_are_read_as_they_are_computed() -> None:
    for name, form in FORMS.items():
        known = measure_named(name)
        assert (known.kind, known.symmetric) == (form.kind, form.symmetric), name
        assert (known.lowest, known.highest) == (form.lowest, form.highest), name
