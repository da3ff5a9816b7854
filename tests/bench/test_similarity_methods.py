"""Every method of the similarity suites, ours and others', finds what the textbook form finds."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau, spearmanr

from layerlake.bench import similarity_exact as exact
from layerlake.bench import similarity_ours as ours
from layerlake.bench import similarity_packages as packages
from layerlake.bench import similarity_peers as peers
from layerlake.bench.measured_process import Clock
from layerlake.bench.similarity_spaces import (
    CORPUS,
    ROWS_PER_CLUSTER,
    Generator,
    write_arrays,
    write_lake,
)
from layerlake.store.lake import open_lake

Spaces = list[NDArray[np.float32]]

OPTIONS: dict[str, Any] = {
    "n_rows": 300,
    "device": "cpu",
    "memory": "1GiB",
    "rows_per_cluster": ROWS_PER_CLUSTER,
    "neighbours": 5,
    "resamples": 100,
    "resamples_run": 5,
    "question": {"kernel": "correlation", "interval": "none"},
}


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> Spaces:
    files = write_arrays(tmp_path_factory.mktemp("spaces"), 300, 24, 4)
    return [np.load(file) for file in files]


@pytest.fixture(scope="module")
def distances(spaces: Spaces) -> list[NDArray[np.float64]]:
    return [pdist(rows.astype(float), "correlation") for rows in spaces]


def with_score(score: str) -> dict[str, Any]:
    question = {**OPTIONS["question"], "score": score}
    return {**OPTIONS, "score": score, "question": question}


@pytest.mark.parametrize("cosine", [0.3, 0.95, 0.99999])
def test_spaces_are_as_alike_as_is_asked_for(cosine: float) -> None:
    made = Generator(256, 2, mean_cosine=cosine)
    blocks = list(made.blocks(500, 200))
    assert [len(block[0]) for block in blocks] == [200, 200, 100]
    for space in zip(*blocks, strict=True):
        unit = exact.unit_rows(np.concatenate(space), centred=False)
        assert np.mean((unit @ unit.T)[np.triu_indices(500, 1)]) == pytest.approx(cosine, rel=0.1)
    first = np.concatenate([block[0] for block in blocks]) - made.origins[0]
    same = exact.unit_rows(first, centred=False)
    within = np.sum(same[::20] * same[1::20], axis=1).mean()
    assert 0.15 < within < 0.6  # rows of one cluster have something in common
    assert abs(np.sum(same[::20] * same[25::20][: len(same[::20])][0], axis=1).mean()) < 0.15


def test_the_references_are_the_textbook_forms(
    spaces: Spaces, distances: list[NDArray[np.float64]]
) -> None:
    units = [exact.unit_rows(rows) for rows in spaces]
    expected = np.corrcoef(distances)[0, 1:]
    assert 0.1 < expected.min() < expected.max() < 0.9
    pairs = [(0, s) for s in range(1, 4)]
    np.testing.assert_allclose(exact.pearson(units, pairs), expected, atol=1e-12)
    for other, value in zip(units[1:], expected, strict=True):
        blocks = partial(zip, np.array_split(units[0], 7), np.array_split(other, 7))
        assert exact.streamed(blocks) == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(
        exact.ranked(units, "spearman"),
        [spearmanr(distances[0], other).statistic for other in distances[1:]],
        atol=1e-12,
    )
    np.testing.assert_allclose(
        exact.ranked(units[:2], "kendall"), kendalltau(*distances[:2]).statistic, atol=1e-12
    )


def test_the_references_of_cka_are_those_of_the_papers(spaces: Spaces) -> None:
    x, y = (rows.astype(float) for rows in spaces[:2])
    centred = [rows - rows.mean(axis=0) for rows in (x, y)]
    products = [
        np.linalg.norm(a.T @ b) ** 2 for a, b in (centred, centred[:1] * 2, centred[1:] * 2)
    ]
    biased = products[0] / np.sqrt(products[1] * products[2])
    assert exact.cka(x, y, debiased=False) == pytest.approx(biased, abs=1e-12)

    def unbiased(k: NDArray[np.float64], l: NDArray[np.float64]) -> float:
        """Song et al. 2012, equation 5."""
        n = len(k)
        k, l, ones = k - np.diag(np.diag(k)), l - np.diag(np.diag(l)), np.ones(n)
        both = np.trace(k @ l) + (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
        return float((both - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3)))

    k, l = (rows @ rows.T for rows in centred)
    song = unbiased(k, l) / np.sqrt(unbiased(k, k) * unbiased(l, l))
    assert exact.cka(x, y, debiased=True) == pytest.approx(song, abs=1e-10)
    assert abs(song - biased) > 1e-3


def test_the_reference_of_neighbours_counts_sets(spaces: Spaces) -> None:
    units = [exact.unit_rows(rows, centred=False) for rows in spaces[:2]]
    sets = []
    for unit in units:
        kernel = unit @ unit.T
        np.fill_diagonal(kernel, -2)
        sets.append([set(np.argsort(-row)[:5]) for row in kernel])
    shared = np.mean([len(a & b) / 5 for a, b in zip(*sets, strict=True)])
    assert exact.mutual_neighbours(units, 5) == pytest.approx(shared)


@pytest.mark.parametrize(
    ("function", "tolerance"),
    [
        (ours.one, 1e-8),
        (peers.numpy_dense, 1e-5),
        (peers.thingsvision_formulas, 1e-5),
        (peers.scipy_pdist, 1e-10),
        (peers.torch_features, 1e-7),
        (peers.torch_dense, 1e-3),
    ],
)
def test_a_star_is_found_by_all(
    function: Any, tolerance: float, spaces: Spaces, distances: list[NDArray[np.float64]]
) -> None:
    if "torch" in function.__name__:
        pytest.importorskip("torch")
    expected = np.corrcoef(distances)[0, 1:]
    found = function(spaces, with_score("pearson"), Clock())
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("blocks", [7, 4096])
def test_the_good_script_may_take_any_blocks(
    blocks: int, spaces: Spaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(peers, "FEATURE_ROWS", blocks)
    units = [exact.unit_rows(rows) for rows in spaces[:2]]
    (found,) = peers.torch_features(spaces[:2], OPTIONS, Clock())
    assert found == pytest.approx(exact.pearson(units, [(0, 1)])[0], abs=1e-7)


@pytest.mark.parametrize("function", [ours.all_pairs, peers.numpy_dense_all, peers.torch_dense_all])
def test_all_pairs_are_found_by_all(
    function: Any, spaces: Spaces, distances: list[NDArray[np.float64]]
) -> None:
    if "torch" in function.__name__:
        pytest.importorskip("torch")
    expected = np.corrcoef(distances)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(function(spaces, OPTIONS, Clock()), expected, atol=1e-5)


def test_ranks_are_found_by_all(spaces: Spaces) -> None:
    units = [exact.unit_rows(rows) for rows in spaces[:2]]
    for score, functions in {
        "spearman": (ours.one, peers.resi_spearman, peers.thingsvision_formulas, peers.scipy_pdist),
        "kendall": (ours.one, peers.scipy_pdist),
    }.items():
        expected = exact.ranked(units, score)
        for function in functions:
            found = function(spaces[:2], with_score(score), Clock())
            np.testing.assert_allclose(found, expected, atol=2e-5)


def test_cka_and_neighbours_are_found_by_all(spaces: Spaces) -> None:
    pytest.importorskip("torch")
    pair = spaces[:2]

    def found(function: Any, **question: Any) -> float:
        usual = {k: v for k, v in OPTIONS["question"].items() if k != "kernel"}
        asked = {**OPTIONS, "question": {**usual, "neighbours": 5, **question}}
        return float(np.ravel(function(pair, asked, Clock()))[0])

    biased = exact.cka(pair[0], pair[1], debiased=False)
    assert found(ours.one, measures=["cka"]) == pytest.approx(biased, abs=1e-8)
    assert found(peers.resi_cka) == pytest.approx(biased, abs=1e-4)
    few = [rows[:20] for rows in pair]  # fewer rows than hidden: its other form
    value = peers.resi_cka(few, OPTIONS, Clock())
    assert value == pytest.approx(exact.cka(few[0], few[1], debiased=False), abs=1e-4)
    debiased = exact.cka(pair[0], pair[1], debiased=True)
    assert found(ours.one, measures=["debiased-cka"]) == pytest.approx(debiased, abs=1e-10)
    assert found(peers.numpy_cka) == pytest.approx(debiased, abs=1e-4)
    assert found(peers.platonic_cka) == pytest.approx(debiased, abs=2e-2)  # float32 about no mean
    units = [exact.unit_rows(rows, centred=False) for rows in pair]
    shared = exact.mutual_neighbours(units, 5)
    for function in (ours.one, peers.platonic_knn, peers.torch_topk):
        assert found(function, measures=["mutual-knn"]) == pytest.approx(shared, abs=2e-3)


def test_resamples_give_the_estimate_and_are_charged_in_full(spaces: Spaces) -> None:
    units = [exact.unit_rows(rows) for rows in spaces[:2]]
    expected = exact.pearson(units, [(0, 1)])[0]
    clock = Clock()
    value = peers.numpy_bootstrap(spaces[:2], OPTIONS, clock)
    assert value == pytest.approx(expected, abs=1e-5)
    assert clock.scaled
    question = {**OPTIONS["question"], "interval": "bootstrap", "resamples": 100}
    (value,) = ours.one(spaces[:2], {**OPTIONS, "question": question}, Clock())
    assert value == pytest.approx(expected, abs=1e-7)


def test_the_clock_charges_for_work_that_was_not_done() -> None:
    clock = Clock()
    with clock.times(10):
        time.sleep(0.02)
    assert clock.scaled
    assert clock.wall >= 0.17
    once = Clock()
    with once.times(1):
        pass
    assert not once.scaled
    assert once.wall == once.cpu == 0


def test_spaces_of_a_lake_are_read_as_they_were_written(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    place = write_lake(tmp_path, 1500, 16, ("first", "second"), window_rows=1024)
    lake = open_lake(place)
    rows = [lake.space(CORPUS, name, 0).rows(slice(0, 1200)) for name in ("first", "second")]
    expected = exact.pearson([exact.unit_rows(part) for part in rows], [(0, 1)])
    options = {
        **OPTIONS,
        "n_rows": 1200,
        "lake": str(place),
        "corpus": CORPUS,
        "variants": ["first", "second"],
    }
    np.testing.assert_allclose(ours.from_lake([], options, Clock()), expected, atol=1e-8)
    np.testing.assert_allclose(ours.features_from_lake([], options, Clock()), expected, atol=1e-7)


def test_packages_are_used_as_documented(
    spaces: Spaces, distances: list[NDArray[np.float64]]
) -> None:
    pytest.importorskip("rsatoolbox")
    options = with_score("pearson")
    correlations = np.corrcoef(distances)
    found = packages.rsatoolbox_one(spaces, options, Clock())
    np.testing.assert_allclose(found, correlations[0, 1:], atol=1e-5)
    found = packages.rsatoolbox_all(spaces, options, Clock())
    np.testing.assert_allclose(found, correlations[np.triu_indices(4, 1)], atol=1e-5)
    clock = Clock()
    value = packages.rsatoolbox_bootstrap(spaces[:2], options, clock)
    assert value == pytest.approx(correlations[0, 1], abs=1e-5)
    assert clock.scaled
