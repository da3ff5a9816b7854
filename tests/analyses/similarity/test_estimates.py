"""What `compare_arrays` returns: printed, indexed, and taken as a number."""

import math

import numpy as np
import pytest

import layerlake as ll
from layerlake.analyses.results.record import Counts
from layerlake.analyses.similarity.estimates import Estimate, PairValues
from layerlake.store.errors import InvalidInput, NameNotFound

COUNTS = Counts.of(np.array([2, 3]), 0)


def test_it_prints_as_a_table_with_its_notes() -> None:
    found = PairValues(
        (
            Estimate("r_all", 0.5, 0.4, 0.6),
            Estimate("r_between", 0.25, None, None, None, 0.0123),
            Estimate("participation-ratio", 1234.5, 1000.0, 2000.0),
            Estimate("cka", math.nan),
        ),
        COUNTS,
        ("one <note>",),
    )
    assert repr(found).splitlines() == [
        "r_all                0.500  [0.400, 0.600]",
        "r_between            0.250  p = 0.012",
        "participation-ratio  1234   [1000, 2000]",
        "cka                  -",
        "note: one <note>",
    ]
    page = found._repr_html_()
    assert "<th>r_all</th><td>0.500</td><td>[0.400, 0.600]</td>" in page
    assert "one &lt;note&gt;" in page


def test_it_is_indexed_by_measure() -> None:
    found = PairValues((Estimate("cka", 0.5), Estimate("cca", 0.25)), COUNTS)
    assert found["cca"].value == found.value("cca") == float(found["cca"]) == 0.25
    with pytest.raises(NameNotFound, match=r"no measure 'cka2'; it has cka, cca"):
        found["cka2"]


def test_it_is_a_number_where_it_holds_one() -> None:
    assert float(PairValues((Estimate("cka", 0.5),), COUNTS)) == 0.5
    with pytest.raises(InvalidInput, match=r"2 numbers \(cka, cca\).*result\['cka'\]"):
        float(PairValues((Estimate("cka", 0.5), Estimate("cca", 0.25)), COUNTS))


def test_arrays_compared_by_one_measure_are_a_number() -> None:
    space = np.random.default_rng(0).normal(size=(30, 4))
    assert float(ll.compare_arrays(space, -3 * space, measure="cka")) == pytest.approx(1)
