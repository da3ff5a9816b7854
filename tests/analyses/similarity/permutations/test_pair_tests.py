"""Permutation tests of pairs: either form gives the same, in the memory that its plan says."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import array_api_strict
import numpy as np
import pytest

from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays
from layerlake.analyses.similarity.comparing.compare_spaces import compare_selected
from layerlake.analyses.similarity.permutations.draws import draw_order
from layerlake.analyses.similarity.permutations.pair_tests import plan_pair_tests, with_pair_tests
from layerlake.analyses.similarity.question import Question
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import ArraySpace, SelectedRows, select_rows
from layerlake.store.errors import MemoryRefused

PAIRS = [(0, 1), (0, 2)]


def selected(n_clusters: int, rows: int = 4, hidden: int = 16, shift: float = 0.0) -> SelectedRows:
    """Return three spaces, of which the second is like the first and the third is not."""
    rng = np.random.default_rng(n_clusters)
    clusters = np.repeat(np.arange(n_clusters), rows)
    first = rng.standard_normal((len(clusters), hidden))
    arrays = [first, first + rng.standard_normal(first.shape), rng.standard_normal(first.shape)]
    every = np.arange(len(clusters))
    spaces = [ArraySpace((array + shift).astype("float32"), every) for array in arrays]
    return select_rows(spaces, [every] * 3, clusters, ("a", "b", "c"))


def p_of(chosen: SelectedRows, question: Question, form: str) -> dict[Any, Any]:
    """Return p of both pairs by one form."""
    values = compare_selected(chosen, PAIRS, question, Resources())
    plan = dataclasses.replace(
        plan_pair_tests(Workload.of(chosen, PAIRS), question, Resources()), form=form
    )
    found = with_pair_tests(values, chosen, question, Resources(), plan=plan)
    return {pair: value["r_between"].p for pair, value in found.items()}


@pytest.mark.parametrize("kernel", ["cosine", "sqeuclidean", "correlation"])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_both_forms_give_the_p_of_dense_permutations(kernel: str, shift: float) -> None:
    chosen = selected(24, shift=shift)
    question = Question(interval="none", kernel=kernel, permutations=39, seed=3)
    dense = []
    for space in chosen.spaces:
        rows = space.rows(np.arange(chosen.n_rows)).astype(np.float64)
        if kernel == "correlation":
            rows = rows - rows.mean(axis=1, keepdims=True)
        if kernel == "sqeuclidean":
            dense.append(-((rows[:, None] - rows) ** 2).sum(axis=2))
        else:
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            dense.append(rows @ rows.T)
    between = np.triu(chosen.clusters[:, None] != chosen.clusters, 1)
    expected = {}
    for s, t in PAIRS:
        generator = np.random.default_rng(3)
        orders = [np.arange(chosen.n_rows)]
        orders += [draw_order(chosen.lengths, generator) for _ in range(39)]
        r = [np.corrcoef(dense[s][np.ix_(o, o)][between], dense[t][between])[0, 1] for o in orders]
        expected[s, t] = (1 + sum(value >= r[0] - 1e-6 for value in r[1:])) / 40
    for form in ("features", "kernels"):
        assert p_of(chosen, question, form) == expected
    assert expected[0, 1] == 1 / 40 < expected[0, 2]


def test_other_array_libraries_give_the_same() -> None:
    chosen = selected(20)
    arrays = [space.rows(np.arange(chosen.n_rows)) for space in chosen.spaces[:2]]
    asked = {"interval": "none", "permutations": 19}
    expected = compare_arrays(*arrays, chosen.clusters, **asked)
    strict = [array_api_strict.asarray(array) for array in arrays]
    assert (
        compare_arrays(*strict, chosen.clusters, **asked)["r_between"].p
        == expected["r_between"].p
        == 1 / 20
    )


def test_kernels_without_features_are_kept_whole() -> None:
    chosen = selected(20)
    question = Question(interval="none", kernel="euclidean", permutations=19)
    assert plan_pair_tests(Workload.of(chosen, PAIRS), question, Resources()).form == "kernels"
    assert p_of(chosen, question, "kernels")[0, 1] == 1 / 20


@pytest.mark.parametrize(
    ("n_clusters", "hidden", "form"), [(150, 256, "kernels"), (700, 24, "features")]
)
def test_the_plan_is_what_is_held(n_clusters: int, hidden: int, form: str) -> None:
    chosen = selected(n_clusters, hidden=hidden)
    question = Question(interval="none", permutations=2)
    resources = Resources()
    plan = plan_pair_tests(Workload.of(chosen, PAIRS), question, resources)
    assert plan.form == form
    values = compare_selected(chosen, PAIRS, question, resources)
    with_pair_tests(values, chosen, question, resources, plan=plan)
    tracemalloc.start()
    try:
        with_pair_tests(values, chosen, question, resources, plan=plan)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.6 * plan.bytes_held < peak <= plan.bytes_held


def test_the_form_that_fits_is_taken_and_too_little_memory_refused() -> None:
    chosen = selected(600, hidden=256)
    question = Question(interval="none", permutations=9)
    whole = plan_pair_tests(Workload.of(chosen, PAIRS), question, Resources())
    other = plan_pair_tests(Workload.of(chosen, PAIRS), question, Resources(whole.bytes_held // 2))
    assert (whole.form, other.form) == ("kernels", "features")
    assert other.bytes_held < whole.bytes_held
    with pytest.raises(MemoryRefused, match="permuting the clusters of 2400 rows in 3 spaces"):
        plan_pair_tests(Workload.of(chosen, PAIRS), question, Resources(2**20))
