"""Matrices to rsatoolbox and back: its own numbers, labels that stay, sentences where it fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.results.rsatoolbox import from_rsatoolbox
from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.engine.catalogue import add_corpus
from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.store.errors import InvalidInput, MemoryRefused
from layerlake.store.lake import Lake, open_lake

rsatoolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")

N, HIDDEN = 600, 12
MakeRecord = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Six hundred examples, two layers of `base`."""
    lake = open_lake(tmp_path_factory.mktemp("exchange") / "lake", "a")
    add_corpus(lake, "wiki", corpus_from_texts([f"example {i}" for i in range(N)]))
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, N, HIDDEN)).astype("float32") + 0.5
    with lake.writer(
        "wiki", "base", unit="example", layers=(0, 1), store_dtype="float32"
    ) as writer:
        for layer in (0, 1):
            writer.append("resid", layer, values[layer])
    return lake


def test_matrices_come_back_labelled(lake: Lake) -> None:
    datasets = [lake.space("wiki", "base", layer).to_rsatoolbox([4, 2, 300]) for layer in (0, 1)]
    rdms = rsatoolbox.rdm.calc_rdm(datasets, "euclidean", descriptor="row")
    array = from_rsatoolbox(rdms)
    assert array.dims == ("rdm", "row", "other_row")
    np.testing.assert_array_equal(array.to_numpy(), rdms.get_matrices())
    assert array["rdm_layer"].to_numpy().tolist() == [0, 1]
    assert sorted(array["row"].to_numpy().tolist()) == [2, 4, 300]
    assert array["row"].to_numpy().tolist() == array["other_row"].to_numpy().tolist()
    one = array.sel(row=2, other_row=300)[1]
    rows = lake.space("wiki", "base", 1).rows([2, 300]).astype("float64")
    assert float(one) == pytest.approx(((rows[0] - rows[1]) ** 2).sum() / HIDDEN)
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
