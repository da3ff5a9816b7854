"""Dask and xarray views hold the bits of the space, read late, and label rows as the corpus does."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from layerlake.engine.catalogue import load_corpus
from layerlake.store.errors import (
    InvalidInput,
    LakeCorrupt,
    NameNotFound,
    OutOfRange,
    SetIncomplete,
)
from layerlake.store.lake import Lake, open_lake
from layerlake.store.space import Space


@pytest.mark.parametrize("codec", ["none", "lz4"])
@pytest.mark.parametrize("verified", [False, True])
def test_dask_computes_the_bits_that_were_written(lake, plan, fill, values, codec, verified):
    fill(lake, plan(codec))
    space = Lake(lake.location, "r", verified=verified).space("wiki", "base", 1)
    array = space.to_dask()
    assert (array.shape, array.dtype) == (space.shape, space.dtype)
    assert array.chunks == ((1024, 1024, 452), (8,))
    assert array.compute(scheduler="synchronous").tobytes() == (values * 2).tobytes()


def test_a_block_never_reaches_over_two_windows(lake, plan, fill, values):
    fill(lake, plan())
    array = lake.space("wiki", "base", 0).to_dask(block_rows=1000)
    assert array.chunks[0] == (1000, 24, 1000, 24, 452)
    assert array.compute(scheduler="synchronous").tobytes() == values.tobytes()
    with pytest.raises(OutOfRange, match="blocks of 0 rows"):
        lake.space("wiki", "base", 0).to_dask(block_rows=0)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[5],
        np.s_[3:2100:7, 2],
        np.s_[::-1],
        np.s_[1000:1030, ::3],
        np.s_[-1, -1],
        np.s_[[3, 1, 2400]],
        np.s_[:, [1, 0]],
    ],
    ids=str,
)
def test_dask_slices_as_numpy_does(lake, plan, fill, values, key):
    fill(lake, plan())
    array = lake.space("wiki", "base", 0).to_dask()
    np.testing.assert_array_equal(array[key].compute(scheduler="synchronous"), values[key])


def test_nothing_is_read_before_it_is_computed(lake, plan, fill, monkeypatch):
    fill(lake, plan())
    space = lake.space("wiki", "base", 0)
    read: list[object] = []
    rows = Space.rows
    monkeypatch.setattr(Space, "rows", lambda self, index: read.append(index) or rows(self, index))
    array = space.to_dask()
    labelled = space.to_xarray()
    assert read == []
    array[1024:1030].compute(scheduler="synchronous")
    labelled[3, 3].compute(scheduler="synchronous")
    assert len(read) == 2


def test_the_same_bytes_have_the_same_name(lake, plan, fill):
    fill(lake, plan())
    names = {lake.space("wiki", "base", layer).to_dask().name for layer in (0, 0, 1)}
    assert len(names) == 2
    assert lake.space("wiki", "base", 0).to_dask(block_rows=7).name not in names


def test_other_processes_compute_it(labelled):
    array = labelled.space("pairs", "base", 1).to_dask(block_rows=300)
    means = array.mean(axis=1).compute(scheduler="processes", num_workers=2)
    np.testing.assert_array_equal(means, np.arange(1400) * 10 + 1)


def test_a_pickled_space_reads_the_same_in_a_fresh_interpreter(labelled, tmp_path):
    space = labelled.space("pairs", "other", 2)
    space.rows([1, 2])
    (tmp_path / "space").write_bytes(pickle.dumps(space))
    code = (
        "import pickle, pathlib, sys\n"
        f"space = pickle.loads(pathlib.Path({str(tmp_path / 'space')!r}).read_bytes())\n"
        "print(space.rows([1399])[0, 0], len(space._shards), 'dask' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-13992.0", "1", "False"]
    assert pickle.loads(pickle.dumps(space)).path == space.path


def test_a_lake_in_memory_says_that_it_cannot_leave_the_process(plan, fill):
    lake = open_lake("memory://stays", "a")
    lake.add_table("corpora/wiki", {}, {"fingerprint": "f"})
    fill(lake, plan())
    with pytest.raises(InvalidInput, match=r"memory://stays .* use a lake in a folder"):
        pickle.dumps(lake.space("wiki", "base", 0))


def test_incomplete_sets_are_refused_before_anything_is_read(lake, plan, fill):
    fill(lake, plan(), range(2))
    space = lake.space("wiki", "base", 0)
    for view in (space.to_dask, space.to_xarray, lambda: lake.to_xarray("wiki")):
        with pytest.raises(SetIncomplete, match="1 of 3 windows"):
            view()


def test_rows_are_labelled_as_the_corpus_says(labelled):
    corpus = load_corpus(labelled, "pairs")
    array = labelled.space("pairs", "base", 2).to_xarray(columns=["upos", "label", "score/é"])
    assert array.dims == ("row", "hidden")
    assert array.name == "resid"
    assert array.attrs["variant"] == "base"
    assert array.attrs["layer"] == 2
    for row in (1, 6, 511, 513, 1399):
        one = array[row]
        word, example = int(one.word), int(one.example)
        assert str(one.word_text.item()) == corpus.word(word)
        assert one.example_id.item() == corpus.columns["id"][example]
        assert one.upos.item() == corpus.annotations["upos"][word]
        assert int(one.label) == corpus.columns["label"][example]
        assert float(one["score/é"]) == corpus.columns["score/é"][example]
        assert (int(one.position), bool(one.special)) == (row % 7, False)
        assert float(one[0].compute()) == row * 10 + 2
    special = array[512]
    assert (int(special.word), special.word_text.item(), special.upos.item()) == (-1, "", "")
    assert bool(special.special)
    nouns = array[array.upos.values == "NOUN"]
    assert nouns.shape == (
        399,
        6,
    )  # two of seven words, but for the second word of the special row 512
    assert "word_text" not in labelled.space("pairs", "base", 2).to_xarray(words=False).coords


def test_a_set_whose_rows_the_lake_does_not_hold_has_no_labels(lake, plan, fill, values):
    fill(lake, plan())
    array = lake.space("wiki", "base", 0).to_xarray()
    assert list(array.coords) == []
    np.testing.assert_array_equal(array.values, values)
    with pytest.raises(NameNotFound, match=r"row set of activations/wiki/base/.* not in the lake"):
        lake.space("wiki", "base", 0).to_xarray(columns=["label"])


def test_columns_that_are_not_there_are_named(labelled):
    space = labelled.space("pairs", "base", 0)
    with pytest.raises(
        NameNotFound, match="no annotation or column 'pos'; it has both, id, label, sc"
    ):
        space.to_xarray(columns=["pos"])
    with pytest.raises(InvalidInput, match="would hide the word of the rows"):
        space.to_xarray(columns=["word"])


def test_a_name_that_is_two_things_is_told_apart(labelled):
    space = labelled.space("pairs", "base", 0)
    array = space.to_xarray(columns=["annotations/both", "columns/both", "columns/score/é"])
    assert int(array["annotations/both"][1399]) == 1399
    assert int(array["columns/both"][1399]) == 199
    assert float(array["columns/score/é"][1399]) == 1
    with pytest.raises(InvalidInput, match="an annotation and a column 'both'; write annotations/"):
        space.to_xarray(columns=["both"])


def test_a_lake_stacks_variants_and_layers(labelled):
    array = labelled.to_xarray("pairs")
    assert array.dims == ("variant", "layer", "row", "hidden")
    assert array.shape == (2, 3, 1400, 6)
    assert array.variant.values.tolist() == ["base", "other"]
    one = array.sel(variant="other", layer=1)[700:703, 0]
    assert one.values.tolist() == [-7001, -7011, -7021]
    assert one.word.values.tolist() == [700, 701, 702]
    small = labelled.to_xarray("pairs", "base", [2, 0], words=False)
    assert small.layer.values.tolist() == [2, 0]
    assert small.shape == (1, 2, 1400, 6)
    with pytest.raises(NameNotFound, match="no mlp_out layer over pairs"):
        labelled.to_xarray("pairs", site="mlp_out")
    with pytest.raises(NameNotFound, match="did you mean base"):
        labelled.to_xarray("pairs", ["bas"], 0)


def test_what_differs_in_rows_is_not_stacked(labelled, plan, fill):
    lake = Lake(labelled.location, "a")
    lake.add_table("corpora/wiki", {}, {"fingerprint": "f"})
    fill(lake, plan())
    fill(lake, plan("lz4", variant="second"))
    other = plan("lz4", variant="third")
    object.__setattr__(other, "contents", {**other.contents, "row_set": "s"})
    fill(lake, other)
    assert lake.to_xarray("wiki", ["base", "second"]).shape == (2, 2, 2500, 8)
    with pytest.raises(InvalidInput, match="do not hold the same rows"):
        lake.to_xarray("wiki")


def test_a_cluster_computes_it(labelled, cluster):
    import distributed

    array = labelled.space("pairs", "base", 1).to_dask(block_rows=300)
    with distributed.Client(cluster, set_as_default=False) as client:
        means, first = client.gather(client.compute([array.mean(axis=1), array[700:703, 0]]))
    np.testing.assert_array_equal(means, np.arange(1400) * 10 + 1)
    assert first.tolist() == [7001, 7011, 7021]


def test_a_cluster_reads_only_the_blocks_that_are_asked_for(labelled, cluster):
    import distributed

    space = labelled.space("pairs", "base", 0)
    last = labelled.location.root / space.path / "c" / "2" / "0"
    last.rename(last.with_name("away"))
    with distributed.Client(cluster, set_as_default=False) as client:
        found = client.compute(space.to_dask(block_rows=100)[150:160]).result()
        np.testing.assert_array_equal(found[:, 0], np.arange(1500, 1600, 10))
        with pytest.raises(LakeCorrupt, match="is missing though its window is committed"):
            client.compute(space.to_dask()[1399]).result()
