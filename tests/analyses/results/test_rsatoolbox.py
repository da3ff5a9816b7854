"""Matrices to rsatoolbox and back: its own numbers, labels that stay, sentences where it fails."""

from __future__ import annotations

import itertools
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from layerlake.analyses.results.rsatoolbox import from_rsatoolbox, rdms_of
from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.engine.catalogue import add_corpus
from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.store.errors import InvalidInput, MemoryRefused, MissingExtra
from layerlake.store.lake import Lake, open_lake

rsatoolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")

N, HIDDEN = 600, 12
MakeRecord = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Six hundred examples, two layers of `base`, and a narrower variant."""
    lake = open_lake(tmp_path_factory.mktemp("exchange") / "lake", "a")
    add_corpus(lake, "wiki", corpus_from_texts([f"example {i}" for i in range(N)]))
    rng = np.random.default_rng(0)
    for variant, hidden in (("base", HIDDEN), ("narrow", 5)):
        values = rng.standard_normal((2, N, hidden)).astype("float32") + 0.5
        values[1, 7] = 0
        values[1, 9] = 0.25
        with lake.writer(
            "wiki", variant, unit="example", layers=(0, 1), store_dtype="float32"
        ) as writer:
            for layer in (0, 1):
                writer.append("resid", layer, values[layer])
    return lake


@pytest.mark.parametrize(
    ("kernel", "method"), [("correlation", "correlation"), ("sqeuclidean", "euclidean")]
)
def test_matrices_are_those_of_rsatoolbox(lake: Lake, kernel: str, method: str) -> None:
    index = np.arange(0, N, 2)
    spaces = [lake.space("wiki", variant, 0) for variant in ("base", "narrow")]
    found = rdms_of(spaces, index, kernel=kernel)
    for k, space in enumerate(spaces):
        theirs = rsatoolbox.rdm.calc_rdm(space.to_rsatoolbox(index), method)
        np.testing.assert_allclose(
            found.dissimilarities[k], theirs.dissimilarities[0], rtol=1e-12, atol=1e-13
        )
        assert found.dissimilarity_measure == theirs.dissimilarity_measure
    assert found.rdm_descriptors["variant"] == ["base", "narrow"]
    assert found.pattern_descriptors["example"].tolist() == index.tolist()
    assert found.pattern_descriptors["row"].tolist() == index.tolist()


@pytest.mark.parametrize("kernel", ["cosine", "euclidean"])
def test_other_kernels_are_those_of_scipy(lake: Lake, kernel: str) -> None:
    space = lake.space("wiki", "base", 0)
    expected = pdist(space.rows(slice(None)).astype("float64"), kernel)
    expected /= np.sqrt(HIDDEN) if kernel == "euclidean" else 1
    found = rdms_of([space], kernel=kernel).dissimilarities
    np.testing.assert_allclose(found, expected[None], rtol=1e-9, atol=1e-13)


def test_matrices_come_back_labelled(lake: Lake) -> None:
    space = lake.space("wiki", "base", 0)
    rdms = rdms_of([space, lake.space("wiki", "base", 1)], [4, 2, 300], kernel="euclidean")
    array = from_rsatoolbox(rdms)
    assert array.dims == ("rdm", "row", "other_row")
    np.testing.assert_array_equal(array.to_numpy(), rdms.get_matrices())
    assert array["rdm_layer"].to_numpy().tolist() == [0, 1]
    assert array["row"].to_numpy().tolist() == array["other_row"].to_numpy().tolist() == [4, 2, 300]
    one = array.sel(row=2, other_row=300)[1]
    rows = lake.space("wiki", "base", 1).rows([2, 300]).astype("float64")
    assert float(one) == pytest.approx(np.linalg.norm(rows[0] - rows[1]) / np.sqrt(HIDDEN))
    with pytest.raises(MemoryRefused, match="2 square matrices of 3 rows"):
        from_rsatoolbox(rdms, memory=100)


def test_datasets_come_back_labelled(lake: Lake) -> None:
    space = lake.space("wiki", "base", 1)
    array = from_rsatoolbox(space.to_rsatoolbox([3, 1]))
    assert array.dims == ("row", "hidden")
    assert array.attrs["layer"] == 1
    np.testing.assert_array_equal(array.sel(row=1), space.rows([1])[0])
    assert array["example"].to_numpy().tolist() == [3, 1]
    bare = from_rsatoolbox(rsatoolbox.data.Dataset(np.eye(3)))
    assert bare.shape == (3, 3)
    with pytest.raises(InvalidInput, match="a list was given; from_rsatoolbox takes a Dataset"):
        from_rsatoolbox([1])


def test_a_dataset_goes_into_a_lake(lake: Lake) -> None:
    dataset = rsatoolbox.data.Dataset(
        np.arange(12.0).reshape(4, 3), obs_descriptors={"stimulus": ["a", "b", "c", "d"]}
    )
    array = from_rsatoolbox(dataset)
    ids = array["stimulus"].to_numpy().tolist()
    with lake.writer("voxels", "subject-1", ids=ids, layers=0) as writer:
        writer.append("resid", 0, array.to_numpy())
    kept = lake.space("voxels", "subject-1", 0)
    np.testing.assert_array_equal(kept.rows(slice(None)), dataset.measurements)


def test_spaces_of_a_result_are_patterns(record: MakeRecord) -> None:
    spaces = [("base", 0), ("base", 1), ("cut", 0)]
    for measure, alike in (("cka", True), ("procrustes", False)):
        records = tuple(
            record(*spaces[j], measure, i + j / 10)
            | {"reference": spaces[i][0], "reference_layer": spaces[i][1]}
            for i, j in itertools.combinations(range(3), 2)
        )
        rdms = SimilarityResult({}, {}, records).to_rsatoolbox()
        values = np.array([0.1, 0.2, 1.2])
        np.testing.assert_array_equal(rdms.dissimilarities, [1 - values if alike else values])
        assert rdms.dissimilarity_measure == ("1 - cka" if alike else "procrustes")
        assert list(rdms.pattern_descriptors["space"]) == ["base 0", "base 1", "cut 0"]


def test_what_has_no_matrix_is_one_sentence(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    space = lake.space("wiki", "base", 1)
    with pytest.raises(InvalidInput, match="no dissimilarity 'rbf'; choose one of cosine, corr"):
        rdms_of([space], kernel="rbf")
    with pytest.raises(InvalidInput, match="no space is given"):
        rdms_of([])
    with pytest.raises(InvalidInput, match="1 rows have no pair"):
        rdms_of([space], [3])
    with pytest.raises(InvalidInput, match=r"row 7 of .* under cosine .*zero.* the 1 such rows"):
        rdms_of([space], kernel="cosine")
    with pytest.raises(InvalidInput, match=r"row 7 of .* correlation .*alike.* the 2 such rows"):
        rdms_of([space])
    with pytest.raises(MemoryRefused, match="1 dissimilarity matrices of 600 rows needs"):
        rdms_of([space], memory="1MB")
    other = lake.space("voxels", "subject-1", 0)
    with pytest.raises(InvalidInput, match="do not hold the same rows"):
        rdms_of([space, other])
    monkeypatch.setitem(sys.modules, "rsatoolbox.rdm", None)
    with pytest.raises(MissingExtra, match=r"pip install 'layerlake\[rsatoolbox\]'"):
        rdms_of([lake.space("wiki", "base", 0)], [1, 2])


def test_the_peak_is_below_what_is_stated(lake: Lake) -> None:
    spaces = [lake.space("wiki", "base", 0)] * 3
    rdms_of(spaces, [1, 2])  # what is imported or read once is no part of it
    stated = 4 * N * (N - 1) * 3 + 2 * N * (8 * HIDDEN + 100) + 2 * N * 4 * HIDDEN + 16 * N * 256
    tracemalloc.start()
    rdms_of(spaces, memory=stated)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.6 * stated < peak < stated
    with pytest.raises(MemoryRefused):
        rdms_of(spaces, memory=stated - 1)
