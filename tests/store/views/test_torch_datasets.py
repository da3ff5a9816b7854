"""torch datasets: every row once, its label beside it, by any number of workers and ranks."""

from __future__ import annotations

import itertools
import multiprocessing
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

from layerlake.engine.catalogue import load_corpus
from layerlake.store.errors import (
    InvalidInput,
    MissingExtra,
    NameNotFound,
    OutOfRange,
    SetIncomplete,
)
from layerlake.store.lake import open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

# From Python 3.12 on, a fork of a process with threads warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

STARTS = sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods()))


def epoch_of(stream: Any, **options: Any) -> list[Any]:
    """Return the batches that a loader gives, and hold them to the stream's length."""
    loader = DataLoader(stream, batch_size=None, **options)
    batches = list(loader)
    assert len(batches) == len(loader) == len(stream)
    return batches


def numbers_of(batches: list[Any]) -> np.ndarray:
    """Return the numbers of the rows of batches, which are what row k of layer 0 holds: 10 k."""
    for rows, numbers in batches:
        np.testing.assert_array_equal(rows[:, 0].numpy(), numbers.numpy() * 10)
    return np.concatenate([numbers.numpy() for _, numbers in batches])


class TestByIndex:
    """The map-style dataset."""

    def test_an_item_is_a_row(self, labelled):
        dataset = labelled.space("pairs", "base", 1).to_torch()
        assert isinstance(dataset, Dataset)
        assert len(dataset) == 1400
        assert dataset[3].tolist() == [31.0] * 6
        assert dataset[-1][0] == 13991
        assert dataset[np.int64(3)].dtype == torch.float32
        for index in ([5, 2], np.array([5, 2]), torch.tensor([5, 2])):
            assert dataset[index][:, 0].tolist() == [51, 21]
        assert dataset[10:1300:600].shape == (3, 6)
        for wrong in (1400, -1401, [0, 1400]):
            with pytest.raises(OutOfRange, match="asked of 1400 rows"):
                dataset[wrong]
        with pytest.raises(OutOfRange, match="names no rows"):
            dataset[1.5]

    def test_layers_are_stacked(self, labelled):
        spaces = [labelled.space("pairs", "base", layer) for layer in range(3)]
        dataset = spaces[0].to_torch(*spaces[1:], numbers=True)
        rows, number = dataset[700]
        assert (rows.shape, int(number)) == ((3, 6), 700)
        assert rows[:, 0].tolist() == [7000, 7001, 7002]
        assert dataset[[3, 1]][0].shape == (2, 3, 6)

    def test_a_loader_reads_a_batch_at_once(self, labelled, monkeypatch):
        space = labelled.space("pairs", "base", 0)
        dataset = space.to_torch(labels="label")
        reads: list[int] = []
        rows = type(space).rows
        monkeypatch.setattr(
            type(space), "rows", lambda self, index: reads.append(len(index)) or rows(self, index)
        )
        torch.manual_seed(0)
        batches = list(DataLoader(dataset, batch_size=100, shuffle=True))
        assert reads == [100] * 14
        assert batches[0][0].shape == (100, 6)
        seen = torch.cat([rows[:, 0] for rows, _ in batches]) / 10
        assert sorted(seen.int().tolist()) == list(range(1400))
        labels = torch.cat([labels for _, labels in batches])
        assert labels.tolist() == [int(number) // 7 % 3 for number in seen.tolist()]
        parted = DataLoader(Subset(dataset, [9, 4]), batch_size=2)
        assert next(iter(parted))[0][:, 0].tolist() == [90, 40]

    @pytest.mark.parametrize("start", STARTS)
    def test_workers_give_the_same(self, labelled, start):
        dataset = labelled.space("pairs", "base", 2).to_torch(dtype="float64")
        loader = DataLoader(dataset, batch_size=300, num_workers=2, multiprocessing_context=start)
        rows = torch.cat(list(loader))
        assert rows.dtype == torch.float64
        np.testing.assert_array_equal(rows[:, 5].numpy(), np.arange(1400) * 10 + 2)

    def test_rows_may_be_chosen(self, labelled):
        space = labelled.space("pairs", "base", 0)
        mask = np.zeros(1400, bool)
        mask[[5, 600, 1399]] = True
        for rows in (mask, [600, 5, 1399]):
            dataset = space.to_torch(rows=rows, labels=np.arange(1400) * 2, numbers=True)
            assert len(dataset) == 3
            row, label, number = dataset[1]
            assert (float(row[0]), int(label), int(number)) == (6000, 1200, 600)
        assert len(space.to_torch(rows=slice(0, 100, 3))) == 34


class TestLabels:
    """Labels from annotations, columns and arrays."""

    def test_annotations_become_classes(self, labelled):
        corpus = load_corpus(labelled, "pairs")
        dataset = labelled.space("pairs", "base", 0).to_torch(labels="upos")
        assert dataset.classes == ["ADJ", "ADV", "DET", "NOUN", "NUM", "VERB"]
        for row in (1, 700, 1399):
            label = int(dataset[row][1])
            assert dataset.classes[label] == corpus.annotations["upos"][row]
        assert int(dataset[512][1]) == -100  # a special piece has no part of speech

    def test_columns_keep_their_numbers(self, labelled):
        space = labelled.space("pairs", "base", 0)
        dataset = space.to_torch(labels="label")
        assert dataset.classes is None
        assert dataset[[0, 7, 14, 21]][1].tolist() == [0, 1, 2, 0]
        scores = space.to_torch(labels="score/é")[[0, 1399]][1]
        assert scores.dtype == torch.float32
        assert scores.tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("labels", "error", "says"),
        [
            ("pos", NameNotFound, "no annotation or column 'pos'; it has both, id, label"),
            ([1, 2], InvalidInput, r"shape \(2,\) were given for 1400 rows"),
            (np.zeros(1400, complex), InvalidInput, "neither numbers nor strings"),
        ],
    )
    def test_labels_that_cannot_be(self, labelled, labels, error, says):
        for make in ("to_torch", "to_torch_stream"):
            with pytest.raises(error, match=says):
                getattr(labelled.space("pairs", "base", 0), make)(labels=labels)


class TestStream:
    """The iterable dataset."""

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("batch_rows", [1, 37, 256, 5000])
    def test_every_row_comes_once(self, labelled, shuffle, batch_rows):
        space = labelled.space("pairs", "base", 0)
        stream = space.to_torch_stream(
            batch_rows=batch_rows, shuffle=shuffle, numbers=True, buffer_rows=300
        )
        assert isinstance(stream, IterableDataset)
        batches = epoch_of(stream)
        order = numbers_of(batches)
        assert sorted(order.tolist()) == list(range(1400))
        assert (order.tolist() == list(range(1400))) is not shuffle
        assert {len(rows) for rows, _ in batches[:-1]} <= {batch_rows}

    @pytest.mark.parametrize(
        ("start", "shuffle"), [*((start, True) for start in STARTS), (STARTS[0], False)]
    )
    def test_workers_and_ranks_share_the_rows(self, labelled, start, shuffle):
        space = labelled.space("pairs", "base", 0)
        seen = []
        for rank in range(2):
            stream = space.to_torch_stream(
                batch_rows=64,
                numbers=True,
                shuffle=shuffle,
                buffer_rows=200,
                rank=rank,
                world_size=2,
            )
            batches = epoch_of(stream, num_workers=2, multiprocessing_context=start)
            if rank == 0:
                again = epoch_of(stream, num_workers=2, multiprocessing_context=start)
                assert numbers_of(batches).tolist() == numbers_of(again).tolist()
            seen.append(numbers_of(batches))
        assert [len(part) for part in seen] == [700, 700]
        assert sorted(np.concatenate(seen).tolist()) == list(range(1400))

    def test_order_depends_on_seed_and_epoch_alone(self, labelled):
        space = labelled.space("pairs", "base", 0)

        def order(seed: int, epoch: int) -> list[int]:
            stream = space.to_torch_stream(numbers=True, seed=seed, buffer_rows=300)
            stream.set_epoch(epoch)
            assert stream.epoch == epoch
            return numbers_of(list(stream)).tolist()

        orders = {(seed, epoch): order(seed, epoch) for seed in (0, 7) for epoch in (0, 1)}
        assert orders[0, 1] == order(0, 1)
        assert len({tuple(one) for one in orders.values()}) == 4
        # Two epochs agree in no more places than two random orders would.
        same = np.equal(orders[0, 0], orders[0, 1]).mean()
        assert same < 10 / 1400

    def test_workers_that_live_on_learn_of_the_epoch(self, labelled):
        stream = labelled.space("pairs", "base", 0).to_torch_stream(numbers=True)
        loader = DataLoader(
            stream,
            batch_size=None,
            num_workers=2,
            persistent_workers=True,
            multiprocessing_context=STARTS[0],
        )
        orders = []
        for epoch in (0, 1, 0):
            stream.set_epoch(epoch)
            orders.append(numbers_of(list(loader)).tolist())
        assert orders[0] == orders[2] != orders[1]
        assert sorted(orders[1]) == list(range(1400))

    def test_layers_labels_and_dtypes_come_together(self, labelled):
        spaces = [labelled.space("pairs", "base", layer) for layer in (2, 0)]
        stream = spaces[0].to_torch_stream(
            spaces[1], labels="label", dtype=torch.bfloat16, numbers=True, batch_rows=100
        )
        rows, labels, numbers = next(iter(stream))
        assert (rows.shape, rows.dtype) == ((100, 2, 6), torch.bfloat16)
        expected = torch.stack([numbers * 10 + 2, numbers * 10], 1).to(torch.bfloat16)
        assert torch.equal(rows[:, :, 3], expected)
        assert torch.equal(labels, numbers // 7 % 3)

    def test_chosen_rows_alone_are_streamed(self, labelled):
        mask = np.random.default_rng(0).random(1400) < 0.3
        stream = labelled.space("pairs", "base", 0).to_torch_stream(
            rows=mask, numbers=True, batch_rows=50, buffer_rows=100
        )
        order = numbers_of(epoch_of(stream, num_workers=2, multiprocessing_context=STARTS[0]))
        assert sorted(order.tolist()) == np.flatnonzero(mask).tolist()

    def test_drop_last_gives_ranks_the_same_batches(self, labelled):
        space = labelled.space("pairs", "base", 0)
        seen: list[int] = []
        for rank in range(3):
            stream = space.to_torch_stream(
                numbers=True, batch_rows=64, drop_last=True, rank=rank, world_size=3
            )
            batches = epoch_of(stream)
            assert [len(rows) for rows, _ in batches] == [64] * 7
            seen += numbers_of(batches).tolist()
        assert len(set(seen)) == len(seen) == 64 * 7 * 3

    def test_it_holds_no_more_than_it_says(self, labelled, monkeypatch):
        space = labelled.space("pairs", "base", 0)
        stream = space.to_torch_stream(batch_rows=50, buffer_rows=200, dtype="float64")
        assert stream.peak_bytes == (200 + 128 + 50) * 24 + 50 * 48
        sizes: list[int] = []
        rows = type(space).rows
        monkeypatch.setattr(
            type(space), "rows", lambda self, index: sizes.append(len(index)) or rows(self, index)
        )
        list(stream)
        assert max(sizes) == 128
        assert sum(sizes) == 1400

    def test_its_peak_is_what_it_says(self, tmp_path):
        layout = ActivationLayout(20_000, 64, "float32", "none", window_rows=4096, chunk_rows=512)
        plan = SetPlan("wiki", "base", {"unit": "piece"}, {}, {}, ("resid/0",), layout)
        lake = open_lake(tmp_path / "big", "a")
        lake.add_table("corpora/wiki", {}, {"fingerprint": "f"})
        with SetWriter(lake.location, plan) as writer:
            for window in range(layout.n_windows):
                start, stop = layout.window(window)
                writer.write_window(window, {"resid/0": np.ones((stop - start, 64), np.float32)})
            writer.seal()
        stream = lake.space("wiki", "base", 0).to_torch_stream(batch_rows=128, buffer_rows=4096)
        assert sum(1 for _ in stream)  # so that nothing is imported below
        tracemalloc.start()
        try:
            assert sum(len(rows) for rows in stream) == 20_000
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert 4096 * 256 < peak < stream.peak_bytes + 300_000 < 20_000 * 256 / 3

    def test_windows_are_read_one_after_the_other(self, labelled, monkeypatch):
        space = labelled.space("pairs", "base", 0)
        stream = space.to_torch_stream(seed=3)
        starts: list[int] = []
        rows = type(space).rows
        monkeypatch.setattr(
            type(space), "rows", lambda self, index: starts.append(index[0]) or rows(self, index)
        )
        list(stream)
        windows = [start // 512 for start in starts]
        assert len(windows) == 11
        assert sum(a != b for a, b in itertools.pairwise(windows)) == 2


def test_ranks_are_those_of_torch_distributed(labelled, tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    space = labelled.space("pairs", "base", 0)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    try:
        stream = space.to_torch_stream()
        assert (stream.rank, stream.world_size) == (0, 1)
        stream = space.to_torch_stream(rank=1, world_size=4)
        assert (stream.rank, stream.world_size) == (1, 4)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_rows": 0}, "batch_rows 0 is no whole number of 1 or more"),
        ({"buffer_rows": 1.5}, "buffer_rows 1.5 is no whole number"),
        ({"seed": -1}, "seed -1 is no whole number of 0 or more"),
        ({"rank": 2, "world_size": 2}, "rank 2 is not one of 2 ranks"),
        ({"rank": 0}, "give both or neither"),
        ({"dtype": "float8"}, "'float8' is no dtype of torch"),
        ({"rows": []}, "no row was chosen"),
        ({"rows": [3, 3]}, "chosen twice"),
    ],
    ids=str,
)
def test_options_that_cannot_be(labelled, options, says):
    with pytest.raises(InvalidInput, match=says):
        labelled.space("pairs", "base", 0).to_torch_stream(**options)


def test_spaces_that_cannot_be(labelled, lake, plan, fill):
    space = labelled.space("pairs", "base", 0)
    fill(lake, plan(), range(1))
    part = lake.space("wiki", "base", 0)
    with pytest.raises(InvalidInput, match="do not hold the same rows"):
        space.to_torch(part)
    with pytest.raises(SetIncomplete, match="2 of 3 windows"):
        part.to_torch()
    with pytest.raises(OutOfRange, match="rows 5 to 1400 asked of 1400"):
        space.to_torch(rows=[5, 1400])


def test_without_torch_one_sentence_says_what_to_install(labelled, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "layerlake.store.views.torch_datasets", raising=False)
    for make in ("to_torch", "to_torch_stream"):
        with pytest.raises(MissingExtra, match=r"pip install 'layerlake\[models\]'"):
            getattr(labelled.space("pairs", "base", 0), make)()
