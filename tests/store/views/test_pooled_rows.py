"""Words and examples pooled as they are read, held to loops over the tables and float64 sums."""

from __future__ import annotations

import gc
import itertools
import pickle
import tracemalloc
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from layerlake.analyses.profiles.profile import plan_profile
from layerlake.analyses.questions.rows import RowDraw, draw_rows
from layerlake.analyses.similarity.comparing.compare import plan_compare
from layerlake.engine.passes.blocks import expect_blocks, read_blocks
from layerlake.engine.passes.devices import DeviceSpace, fetched_spaces, spaces_apart
from layerlake.engine.passes.selected_rows import held_bytes, making_bytes
from layerlake.engine.streams.example_stream import ExampleStream
from layerlake.store.errors import LakeCorrupt, OutOfRange, SetIncomplete
from layerlake.store.lake import Lake, open_lake
from layerlake.store.stored_space import StoredSpace
from layerlake.store.views import piece_groups as groups_module
from layerlake.store.views.piece_groups import piece_groups
from layerlake.store.views.pooled_rows import PART_PIECES, PooledSpace

WAYS = [
    *[("word", pooling, False) for pooling in ("mean", "first", "last", "max")],
    *[
        ("example", pooling, specials)
        for pooling in ("mean", "first", "last", "cls")
        for specials in (False, True)
    ],
]
EPS = float(np.finfo(np.float32).eps)

Members = dict[int, list[int]]


@cache
def members(cut: Any, unit: str, pooling: str, *, specials: bool) -> Members:
    """Return the pieces of every word or example, by a loop over all pieces of all inputs."""
    found: Members = {}
    for number, example in enumerate(cut.input_example.tolist()):
        start, stop = cut.input_offsets[number : number + 2].tolist()
        for piece in range(start, stop):
            if cut.repeated[piece]:
                continue
            if unit == "word":
                if cut.piece_word[piece] >= 0:
                    found.setdefault(int(cut.piece_word[piece]), []).append(piece)
            elif pooling == "cls":
                if piece == start and cut.special[piece]:
                    found.setdefault(example, []).append(piece)
            elif specials or not cut.special[piece]:
                found.setdefault(example, []).append(piece)
    if pooling in ("first", "cls"):
        found = {row: pieces[:1] for row, pieces in found.items()}
    if pooling == "last":
        found = {row: pieces[-1:] for row, pieces in found.items()}
    return dict(sorted(found.items()))


def pooled_slowly(
    found: Members, ids: NDArray[np.int64], values: NDArray[Any], pooling: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the rows whose pieces are held, in float64, and how far off float32 may be."""
    places = {int(piece): place for place, piece in enumerate(ids)}
    rows, pooled, bounds = [], [], []
    for row, pieces in found.items():
        if all(piece in places for piece in pieces):
            own = values[[places[piece] for piece in pieces]].astype(np.float64)
            rows.append(row)
            pooled.append(own.max(axis=0) if pooling == "max" else own.mean(axis=0))
            exact = pooling != "mean" or len(pieces) == 1
            bounds.append(0 * own[0] if exact else len(pieces) * EPS * abs(own).mean(axis=0))
    return np.array(rows), np.array(pooled), np.array(bounds)


def check(made: Any, space: Any, variant: str = "base") -> NDArray[np.float32]:
    """Hold all rows of a space to the loops; return them."""
    specials = "specials" in space.path
    found = members(made.cut, space.unit, space.pooling, specials=specials)
    values = made.values[variant][space.layer]
    rows, expected, bounds = pooled_slowly(found, made.ids[variant], values, space.pooling)
    np.testing.assert_array_equal(space.load_rows().row_id, rows)
    got = space.rows(slice(None))
    assert got.dtype == space.dtype == np.float32
    assert got.shape == space.shape
    assert (abs(got - expected) <= bounds).all()
    return got


class Recorder:
    """Pieces that remember which of them were read."""

    def __init__(self, stored: StoredSpace) -> None:
        self.stored = stored
        self.read: list[list[int]] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    def rows(self, index: NDArray[np.int64], /) -> Any:
        self.read.append(index.tolist())
        return self.stored.rows(index)


@pytest.fixture(scope="module")
def made(make_lake: Callable[..., Any]) -> Any:
    """A lake of all pieces, plain and compressed, and of those of some words."""
    found = make_lake(seed=3)
    found.add("base", n_layers=2)
    found.add("packed", codec="lz4", values=found.values["base"])
    found.add("wide", values=found.values["base"].astype("float32"), codec="lz4")
    found.add("nouns", "where tag=NOUN")
    return found


@pytest.fixture(scope="module")
def awkward(make_lake: Callable[..., Any]) -> Any:
    """A lake whose words have pieces of no word amid theirs."""
    found = make_lake(seed=5, awkward=True)
    found.add("base", codec="lz4")
    return found


_opened: dict[Any, PooledSpace] = {}


def opened(made: Any, variant: str, way: tuple[str, str, bool], **options: Any) -> PooledSpace:
    """Return a pooled space of a lake, which is opened anew to be read otherwise."""
    key = (made.lake.location.name, variant, way, *options)
    if key not in _opened:
        lake = Lake(made.lake.location, "r", **options) if options else made.lake
        unit, pooling, specials = way
        space = lake.space("c", variant, 0, unit=unit, pooling=pooling, specials=specials)
        assert isinstance(space, PooledSpace)
        _opened[key] = space
    return _opened[key]


@pytest.fixture(scope="module")
def whole(made: Any, awkward: Any) -> dict[Any, NDArray[np.float32]]:
    """All rows of every way, read one by one."""
    return {
        (lake is awkward, way): np.concatenate([space.rows([row]) for row in range(space.shape[0])])
        for lake in (made, awkward)
        for way in WAYS
        for space in [opened(lake, "base", way)]
    }


class TestRows:
    """What the rows are."""

    @pytest.mark.parametrize("way", WAYS, ids=str)
    def test_rows_are_those_of_loops_over_the_tables(self, made: Any, awkward: Any, way: Any):
        plain = check(made, opened(made, "base", way))
        for variant in ("packed", "wide"):
            rows = check(made, opened(made, variant, way), variant)
            np.testing.assert_array_equal(rows, plain)
        if way[0] == "word":
            check(made, opened(made, "nouns", way), "nouns")
        check(awkward, opened(awkward, "base", way))

    @given(seed=st.integers(10, 10**6), awkward=st.booleans(), way=st.sampled_from(WAYS))
    @settings(max_examples=12)
    def test_rows_of_any_cut(self, make_lake: Any, seed: int, awkward: bool, way: Any):
        found = make_lake([3, 0, 5, 1, 8, 2], seed=seed, awkward=awkward)
        found.add("base", codec=("none", "lz4")[seed % 2], chunk_rows=16)
        check(found, opened(found, "base", way))

    @pytest.mark.parametrize("options", [{"verified": True}, {"direct": False}], ids=str)
    @pytest.mark.parametrize("variant", ["base", "packed", "wide"])
    def test_rows_are_the_same_however_pieces_are_read(
        self, made: Any, variant: str, options: dict[str, Any]
    ):
        for way in (WAYS[0], WAYS[3], WAYS[4]):
            space = opened(made, variant, way, **options)
            assert (space.verified, space.direct) == (
                options.get("verified", False),
                options.get("direct", True),
            )
            known = opened(made, "base", way)
            some = np.arange(0, space.shape[0], 3)
            np.testing.assert_array_equal(space.rows(some), known.rows(some))
            np.testing.assert_array_equal(space.rows(slice(5, 25)), known.rows(slice(5, 25)))

    def test_an_example_of_many_parts_is_one_row(self, made: Any):
        space = opened(made, "base", ("example", "mean", False))
        last = space.load_rows().row_id[-1]
        assert len(members(made.cut, "example", "mean", specials=False)[last]) > PART_PIECES

    def test_nothing_but_rows_is_asked_for(self, made: Any):
        space = opened(made, "base", WAYS[0])
        n = space.shape[0]
        assert space.rows([]).shape == (0, 3)
        assert space.rows(slice(n, None)).shape == (0, 3)
        assert space.rows(np.zeros(n, bool)).shape == (0, 3)
        for index in ([n], [-1], [0.5], 3, [[0, 1]], np.ones(n + 1, bool)):
            with pytest.raises(OutOfRange):
                space.rows(index)
        with pytest.raises(OutOfRange, match="only consecutive rows"):
            space.rows(slice(0, n, 2))

    def test_a_set_that_is_not_whole_serves_what_is_there(self, make_lake: Any):
        found = make_lake(seed=6)
        found.add("base", window_rows=256, windows=2)
        space = opened(found, "base", WAYS[0])
        assert "2 of " in repr(space)
        there = int(np.searchsorted(space.groups.starts + space.groups.counts, 512, "right"))
        expected = pooled_slowly(
            members(found.cut, "word", "mean", specials=False),
            found.ids["base"],
            found.values["base"][0],
            "mean",
        )[1]
        np.testing.assert_allclose(space.rows(slice(0, there)), expected[:there], atol=1e-5)
        with pytest.raises(SetIncomplete):
            space.rows([there])
        with pytest.raises(SetIncomplete):
            space.require_whole()
        with pytest.raises(SetIncomplete):
            found.lake.space("c", "base", 0, unit="word", sealed=True)

    def test_damage_is_found_where_pieces_are_verified(self, make_lake: Any, tmp_path: Any):
        found = make_lake(seed=6, where=tmp_path / "lake")
        plan = found.add("base")
        shard = tmp_path / "lake" / plan.path / "resid/0/c/0/0"
        content = bytearray(shard.read_bytes())
        content[1] ^= 4
        shard.write_bytes(content)
        space = open_lake(tmp_path / "lake", verified=True).space("c", "base", 0, unit="word")
        with pytest.raises(LakeCorrupt, match="is damaged"):
            space.rows([0])
        assert np.isfinite(space.rows([space.shape[0] - 1])).all()


class TestAnyOrder:
    """Rows are the same to the last bit, whoever asks for which others."""

    @given(
        way=st.sampled_from(WAYS),
        variant=st.sampled_from(["base", "packed", "wide", "gaps"]),
        data=st.data(),
    )
    @settings(max_examples=60)
    def test_any_index(
        self, made: Any, awkward: Any, whole: Any, way: Any, variant: str, data: Any
    ):
        gaps = variant == "gaps"
        space = opened(awkward, "base", way) if gaps else opened(made, variant, way)
        known, n = whole[gaps, way], space.shape[0]
        rows = st.integers(0, n - 1)
        index = data.draw(
            st.one_of(
                st.lists(rows, max_size=200).map(lambda some: np.array(some, np.int64)),
                st.tuples(rows, rows).map(lambda ends: slice(*ends)),
                st.integers(0, 99).map(lambda seed: np.random.default_rng(seed).random(n) < 0.3),
                st.integers(0, 99).map(lambda seed: np.random.default_rng(seed).permutation(n)),
            )
        )
        np.testing.assert_array_equal(space.rows(index), known[index])

    @given(
        way=st.sampled_from(WAYS),
        variant=st.sampled_from(["base", "packed"]),
        start=st.integers(0, 20),
        short=st.integers(0, 5),
        block_rows=st.integers(1, 200),
    )
    @settings(max_examples=30)
    def test_any_blocks(
        self, made: Any, whole: Any, way: Any, variant: str, start: int, short: int, block_rows: int
    ):
        space = opened(made, variant, way)
        stop = space.shape[0] - short
        blocks = list(space.blocks(start, stop, block_rows=block_rows))
        assert all(len(block) <= block_rows for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), whole[False, way][start:stop])


class TestReading:
    """Which pieces are read, and how often."""

    @given(way=st.sampled_from(WAYS), share=st.floats(0.01, 1), seed=st.integers(0, 99))
    @settings(max_examples=40)
    def test_pieces_are_read_once_in_rising_order_and_no_others(
        self, made: Any, way: Any, share: float, seed: int
    ):
        space = opened(made, "packed", way)
        draw = np.random.default_rng(seed)
        chosen = np.flatnonzero(draw.random(space.shape[0]) < share)
        recorder = Recorder(space.stored)
        space.over(recorder).rows(draw.permutation(np.append(chosen, chosen[:2])))
        unit, pooling, specials = way
        found = list(members(made.cut, unit, pooling, specials=specials).values())
        pieces = sorted(piece for row in chosen for piece in found[row])
        if way == ("word", "mean", False) and share == 1:
            assert len(recorder.read) > 1
        read = [place for part in recorder.read for place in part]
        np.testing.assert_array_equal(made.ids["packed"][read], pieces)
        assert all(len(part) <= PART_PIECES for part in recorder.read)

    @pytest.mark.parametrize("chunk_rows", [64, 256, 1024])
    @pytest.mark.parametrize("way", [WAYS[0], WAYS[1], WAYS[2], WAYS[4]], ids=str)
    def test_no_chunk_is_decoded_twice_in_a_read(
        self, made: Any, monkeypatch: pytest.MonkeyPatch, way: Any, chunk_rows: int
    ):
        variant = f"chunks-{chunk_rows}"
        if variant not in made.values:
            made.add(variant, codec="lz4", chunk_rows=chunk_rows)
        decoded: list[tuple[int, int]] = []
        chunk = StoredSpace._chunk

        def counting(self: StoredSpace, window: int, number: int, *out: Any) -> Any:
            decoded.append((window, number))
            return chunk(self, window, number, *out)

        monkeypatch.setattr(StoredSpace, "_chunk", counting)
        space = opened(made, variant, way)
        assert not space.plain
        for index in (slice(None), slice(3, None), np.arange(0, space.shape[0], 2)):
            decoded.clear()
            space.rows(index)
            assert decoded
            assert len(set(decoded)) == len(decoded)

    def test_blocks_are_read_no_further_than_they_are_asked_for(self, made: Any):
        space = opened(made, "base", WAYS[0])
        recorder = Recorder(space.stored)
        blocks = space.over(recorder).blocks(block_rows=10)
        for number in range(3):
            next(blocks)
            read = [place for part in recorder.read for place in part]
            assert len(read) == space.groups.counts[: 10 * (number + 1)].sum()


class TestSpace:
    """What else a space is."""

    def test_a_pickled_space_is_small_and_reads_the_same(self, make_lake: Any, tmp_path: Any):
        found = make_lake(seed=3, where=tmp_path / "lake")
        found.add("base")
        for way in (WAYS[0], WAYS[5]):
            space = opened(found, "base", way)
            known = space.rows(slice(None))
            sent = pickle.dumps(space)
            assert len(sent) < 10_000
            copy = pickle.loads(sent)
            assert (copy.shape, copy.path, copy.row_set) == (space.shape, space.path, space.row_set)
            np.testing.assert_array_equal(copy.rows(slice(None)), known)

    def test_spaces_of_the_same_rows_share_their_tables(self, made: Any):
        spaces = [opened(made, variant, WAYS[0]) for variant in ("base", "packed", "wide")]
        layer = made.lake.space("c", "base", 1, unit="word", pooling="max")
        tables = {id(space.groups) for space in [*spaces, layer]}
        assert len(tables) == 1
        assert held_bytes([*spaces, layer]) == spaces[0].held_bytes
        others = opened(made, "nouns", WAYS[0])
        assert held_bytes([*spaces, others]) == spaces[0].held_bytes + others.held_bytes
        every = [*spaces, others]
        reading = held_bytes(every) + max(space.reading_bytes for space in every)
        assert making_bytes(every) == max(reading, *(space.table_bytes for space in every))

    def test_the_page_of_a_space_says_what_it_is(self, made: Any):
        space = opened(made, "base", ("example", "mean", True))
        assert "example rows (mean of stored pieces, specials among them)" in repr(space)
        assert space.path.endswith("resid/0 (examples, mean with specials)")
        assert "example" in space._repr_html_()

    def test_windows_part_the_rows(self, made: Any):
        for way in WAYS:
            space = opened(made, "base", way)
            bounds = space.window_bounds
            assert len(bounds) == len(space.stored.window_bounds)
            assert (bounds[0], bounds[-1]) == (0, space.shape[0])
            assert (np.diff(bounds) >= 0).all()

    def test_a_lake_of_words_and_one_of_pieces_draw_the_same_rows(self, make_lake: Any, made: Any):
        for rows in ("all", "where tag=NOUN"):
            pieces = opened(made, "base" if rows == "all" else "nouns", WAYS[0])
            other = make_lake(cut=made.cut, sizes=np.diff(made.corpus.word_offsets).tolist())
            other.add("base", rows, unit="word", pooling="mean")
            words = other.lake.space("c", "base", 0, unit="word")
            assert words.row_set == pieces.row_set
            for draw in (RowDraw(20, 7), RowDraw(), RowDraw("all")):
                one, two = draw_rows([pieces], draw), draw_rows([words], draw)
                np.testing.assert_array_equal(one.of(pieces), two.of(words))
                np.testing.assert_array_equal(one.example, two.example)


@pytest.fixture(scope="module")
def both(make_lake: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A lake in a folder: pieces of `base` and `packed`, the words of `stored` as extracted."""
    found = make_lake(seed=8, where=tmp_path_factory.mktemp("both") / "lake")
    found.add("base", n_layers=2)
    found.add("packed", codec="lz4", values=found.values["base"], window_rows=512)
    spaces = [found.lake.space("c", "base", layer, unit="word") for layer in (0, 1)]
    values = np.stack([space.rows(slice(None)) for space in spaces])
    found.add("stored", unit="word", pooling="mean", values=values)
    return found


def words_of(both: Any, variant: str, layer: int = 0) -> Any:
    """Return the word rows of a variant."""
    return both.lake.space("c", variant, layer, unit="word", pooling="mean")


@pytest.mark.parametrize("variant", ["base", "packed"])
class TestViews:
    """Views of pooled rows are those of a set of words."""

    def test_to_dask(self, both: Any, variant: str):
        pytest.importorskip("dask")
        space = words_of(both, variant)
        known = both.values["stored"][0]
        for block_rows in (None, 7, 1000):
            array = space.to_dask(block_rows=block_rows)
            assert (array.shape, array.dtype) == (known.shape, np.float32)
            np.testing.assert_array_equal(array.compute(scheduler="sync"), known)
        np.testing.assert_array_equal(array[3:50:4, 1].compute(scheduler="sync"), known[3:50:4, 1])
        names = {words_of(both, variant, layer).to_dask().name for layer in (0, 1)}
        largest = both.lake.space("c", variant, 0, unit="word", pooling="max").to_dask()
        sentences = both.lake.space("c", variant, 0, unit="example")
        special = both.lake.space("c", variant, 0, unit="example", specials=True)
        names |= {largest.name, sentences.to_dask().name, special.to_dask().name}
        assert len(names) == 5

    def test_to_xarray(self, both: Any, variant: str):
        pytest.importorskip("xarray")
        stored, space = words_of(both, "stored"), words_of(both, variant)
        one = stored.to_xarray(columns=["tag", "level"])
        two = space.to_xarray(columns=["tag", "level"])
        assert set(one.coords) == set(two.coords) >= {"example_id", "word_text", "position", "tag"}
        for name in one.coords:
            np.testing.assert_array_equal(one[name].values, two[name].values)
        np.testing.assert_array_equal(one.values, two.values)
        told = {name: two.attrs[name] for name in ("unit", "pooling", "row_set")}
        assert told == {"unit": "word", "pooling": "mean", "row_set": stored.row_set}
        sentences = both.lake.space("c", variant, 0, unit="example").to_xarray(columns=["level"])
        ids = sentences["example"].values
        assert sentences["example_id"].values.tolist() == [f"made here-{one}" for one in ids]
        np.testing.assert_array_equal(sentences["level"].values, ids % 4)

    def test_to_rsatoolbox(self, both: Any, variant: str):
        pytest.importorskip("rsatoolbox")
        rows = np.array([5, 2, 40, 41])
        one = words_of(both, "stored").to_rsatoolbox(rows, columns=["tag"])
        two = words_of(both, variant).to_rsatoolbox(rows, columns=["tag"])
        np.testing.assert_array_equal(one.measurements, two.measurements)
        assert one.obs_descriptors.keys() == two.obs_descriptors.keys()
        for name, values in one.obs_descriptors.items():
            assert list(values) == list(two.obs_descriptors[name])

    def test_to_torch(self, both: Any, variant: str):
        pytest.importorskip("torch")
        one, two = (
            words_of(both, name).to_torch(words_of(both, name, 1), labels="tag", numbers=True)
            for name in ("stored", variant)
        )
        assert one.classes == two.classes
        for index in (3, [7, 3, 3], slice(2, 9)):
            for left, right in zip(one[index], two[index], strict=True):
                np.testing.assert_array_equal(left, right)

    def test_to_torch_stream(self, both: Any, variant: str):
        pytest.importorskip("torch")
        known = both.values["stored"]
        for shuffle in (True, False):
            stream = words_of(both, variant).to_torch_stream(
                words_of(both, variant, 1),
                batch_rows=9,
                shuffle=shuffle,
                numbers=True,
                labels="tag",
            )
            seen = []
            for values, labels, numbers in stream:
                seen += numbers.tolist()
                np.testing.assert_array_equal(values, known[:, numbers].transpose(1, 0, 2))
                words = words_of(both, variant).load_rows().row_id[numbers]
                assert [stream.classes[label] for label in labels] == [
                    ("NOUN", "VERB", "ADJ")[word % 3] for word in words.tolist()
                ]
            assert sorted(seen) == list(range(known.shape[1]))
            assert shuffle == (seen != sorted(seen))

    def test_example_streams(self, both: Any, variant: str):
        options: dict[str, Any] = {"batch": 4, "labels": {"tag": "tag", "level": "level"}}
        stored = ExampleStream([words_of(both, "stored", k) for k in (0, 1)], **options)
        pooled = ExampleStream([words_of(both, variant, k) for k in (0, 1)], **options)
        mixed = ExampleStream(
            [words_of(both, variant, 1), words_of(both, "stored", 0), words_of(both, "base", 0)],
            **options,
        )
        counted = 0
        for one, two, three in zip(stored.epoch(2), pooled.epoch(2), mixed.epoch(2), strict=True):
            for other in (two, three):
                np.testing.assert_array_equal(one.examples, other.examples)
                np.testing.assert_array_equal(one.offsets, other.offsets)
                np.testing.assert_array_equal(one.words, other.words)
                for name, values in one.labels.items():
                    np.testing.assert_array_equal(values, other.labels[name])
                for (_, site, layer), values in other.values.items():
                    np.testing.assert_array_equal(one.values["stored", site, layer], values)
            counted += len(one.words)
        assert counted == both.values["stored"].shape[1]
        assert pooled.memory_plan.parts["tables of rows"] > words_of(both, variant).held_bytes

    def test_streams_of_sentences(self, both: Any, variant: str):
        space = both.lake.space("c", variant, 1, unit="example", specials=True)
        known = dict(zip(space.load_rows().row_id.tolist(), space.rows(slice(None)), strict=True))
        stream = ExampleStream([space], labels={"level": "level"}, batch=5, counts="rows")
        seen = []
        for batch in stream.epoch(0):
            np.testing.assert_array_equal(batch.labels["level"], batch.examples % 4)
            for example, row in zip(
                batch.examples.tolist(), batch.values[variant, "resid", 1], strict=True
            ):
                np.testing.assert_array_equal(known[example], row)
                seen.append(example)
        assert sorted(seen) == list(known)


class TestDevices:
    """Pieces arrive as they are stored, and are pooled where they arrive."""

    class Tensors:
        """Tensors of torch as arrays of a device."""

        def __init__(self) -> None:
            self.filled: list[tuple[int, str]] = []

        def room(self, shape: tuple[int, ...], dtype: Any) -> Any:
            return shape, np.dtype(dtype)

        def fill(self, room: Any, rows: NDArray[Any]) -> Any:
            import torch

            assert (rows.shape, rows.dtype) == room
            self.filled.append((len(rows), str(rows.dtype)))
            return torch.from_numpy(rows.copy())

    @pytest.mark.parametrize("way", WAYS, ids=str)
    @pytest.mark.parametrize("variant", ["base", "wide"])
    def test_rows_are_those_of_the_host(self, made: Any, way: Any, variant: str):
        torch = pytest.importorskip("torch")
        host = opened(made, variant, way)
        (space,) = fetched_spaces([host], self.Tensors)
        n = host.shape[0]
        assert isinstance(space, PooledSpace)
        assert (space.shape, space.dtype) == (host.shape, host.dtype)
        for index in (np.arange(n), np.arange(1, n, 3)):
            got = space.rows(index)
            assert isinstance(got, torch.Tensor)
            assert got.dtype == torch.float32
            np.testing.assert_allclose(got.numpy(), host.rows(index), rtol=1e-6, atol=1e-6)
            if way[1] != "mean":
                np.testing.assert_array_equal(got.numpy(), host.rows(index))

    def test_pieces_are_read_ahead_each_once(self, made: Any, monkeypatch: pytest.MonkeyPatch):
        pytest.importorskip("torch")
        host = opened(made, "base", WAYS[0])
        read: list[list[int]] = []
        rows = StoredSpace.rows

        def recording(self: StoredSpace, index: Any) -> Any:
            read.append(np.asarray(index).tolist())
            return rows(self, index)

        monkeypatch.setattr(StoredSpace, "rows", recording)
        transfers = self.Tensors()
        spaces = fetched_spaces([host, opened(made, "packed", WAYS[0])], lambda: transfers)
        n = host.shape[0]
        index = [np.arange(n), np.arange(n)]
        cuts = list(itertools.pairwise([*range(0, n, 30), n]))
        expect_blocks(spaces, index, cuts)
        blocks = list(read_blocks(spaces, index, cuts))
        pieces = runs_of(host)
        assert sorted(itertools.chain(*read)) == sorted([*pieces, *pieces])
        assert {dtype for _, dtype in transfers.filled} == {"float16"}
        known = rows_of(host)
        for block in blocks:
            for array in block.arrays:
                np.testing.assert_allclose(
                    array.numpy(), known[block.start : block.stop], rtol=1e-6, atol=1e-6
                )

    def test_another_reader_has_a_thread_of_its_own(self, made: Any):
        pytest.importorskip("torch")
        host = opened(made, "base", WAYS[0])
        pair = fetched_spaces([host, made.lake.space("c", "base", 1)], self.Tensors)
        apart = spaces_apart([*pair, host])
        assert apart[2] is host
        assert isinstance(pair[0], PooledSpace)
        assert isinstance(apart[0], PooledSpace)
        assert isinstance(apart[0].pieces, DeviceSpace)
        assert isinstance(apart[1], DeviceSpace)
        assert apart[0].pieces.fetcher is apart[1].fetcher
        assert apart[0].pieces.fetcher is not pair[0].pieces.fetcher  # type: ignore[attr-defined]
        np.testing.assert_allclose(
            apart[0].rows(np.arange(9)).numpy(), host.rows(np.arange(9)), rtol=1e-6, atol=1e-6
        )


def runs_of(space: PooledSpace) -> list[int]:
    """Return the stored rows of all pieces of a space."""
    groups = space.groups
    spans = zip(groups.starts.tolist(), groups.counts.tolist(), strict=True)
    return [place for start, count in spans for place in range(start, start + count)]


def rows_of(space: PooledSpace) -> NDArray[np.float32]:
    """Return all rows of a space."""
    return np.concatenate(list(space.blocks(block_rows=50)))


@pytest.fixture(scope="module")
def large(make_lake: Callable[..., Any]) -> Any:
    """Some 4,000 pieces, 256 wide."""
    found = make_lake([12] * 40 + [100])
    for variant, codec, dtype in (
        ("plain", "none", "float16"),
        ("packed", "lz4", "float16"),
        ("wide", "none", "float32"),
    ):
        found.add(variant, hidden=256, codec=codec, dtype=dtype, chunk_rows=512)
    return found


class TestMemory:
    """A read holds no more memory than the space states."""

    SLACK = 64 * 2**10

    @staticmethod
    def peak(read: Callable[[], Any]) -> int:
        """Return the most bytes that a read holds at a time."""
        tracemalloc.start()
        try:
            read()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("variant", ["plain", "packed", "wide"])
    @pytest.mark.parametrize("way", [WAYS[0], WAYS[1], WAYS[3], WAYS[4]], ids=str)
    def test_a_read_holds_its_rows_and_what_it_says(self, large: Any, way: Any, variant: str):
        space = opened(large, variant, way)
        space.rows([0])  # opens the files
        n_rows = space.shape[0]
        row_bytes = space.shape[1] * 4

        def blocks() -> None:
            for block in space.blocks(block_rows=128):
                del block

        for read, count in (
            (lambda: space.rows(slice(None)), n_rows),
            (lambda: space.rows(np.arange(0, n_rows, 2)), (n_rows + 1) // 2),
            (blocks, min(n_rows, 128)),
        ):
            beside = self.peak(read) - count * row_bytes
            assert beside <= space.reading_bytes + self.SLACK

    @pytest.mark.parametrize("way", [WAYS[0], WAYS[4]], ids=str)
    def test_tables_take_what_is_said(self, large: Any, way: Any, monkeypatch: pytest.MonkeyPatch):
        plan = large.lake.space("c", "plain", 0).state.plan
        unit, pooling, specials = way
        monkeypatch.setattr(groups_module, "_known", {})
        tracemalloc.start()
        groups = piece_groups(large.lake.location, plan, unit, pooling, specials=specials)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert groups is not opened(large, "plain", way).groups
        assert groups.n_bytes == opened(large, "plain", way).held_bytes
        assert kept <= groups.n_bytes + self.SLACK

    def test_plans_of_analyses_count_it(self, make_lake: Any):
        found = make_lake(seed=9)
        found.add("base", hidden=40)
        found.add("two", hidden=40)
        spaces = [found.lake.space("c", name, 0, unit="word") for name in ("base", "two")]
        same = make_lake(cut=found.cut, sizes=np.diff(found.corpus.word_offsets).tolist())
        for space in spaces:
            values = space.rows(slice(None))
            same.add(space.variant, unit="word", pooling="mean", values=values)
        asked = {"unit": "word", "device": "cpu"}
        pooled, stored = (plan_profile(lake, "c", **asked) for lake in (found.lake, same.lake))
        assert pooled.held == stored.held + making_bytes(spaces[:1])
        planned = [plan_compare(lake, "c", **asked) for lake in (found.lake, same.lake)]
        assert planned[0].bytes_held == planned[1].bytes_held + making_bytes(spaces)
