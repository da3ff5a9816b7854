"""Batches of whole examples, held to a slow reading of everything with numpy."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from layerlake.engine.catalogue import add_corpus
from layerlake.engine.corpora.corpus import Corpus, WordSpans, string_array
from layerlake.engine.rows.seeded_draw import shuffled
from layerlake.engine.streams.example_stream import ExampleStream
from layerlake.store.errors import InvalidInput, MemoryRefused, NameNotFound, OutOfRange
from layerlake.store.identity import short
from layerlake.store.lake import Lake, open_lake
from layerlake.store.row_sets import RowSet, rows_fingerprint
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

SIZES = [3, 1, 7, 2, 5, 30, 4, 4, 1, 6, 2, 9]
"""Words of each example of the corpus that most tests read."""


def corpus_of(sizes: list[int]) -> Corpus:
    """Return a corpus of examples of so many words, each with a tag, examples with id and class."""
    spans, texts = WordSpans(), []
    for number, size in enumerate(sizes):
        texts.append(spans.add_words([f"w{number}"] * size))
        spans.close_example()
    n_words = sum(sizes)
    return Corpus(
        texts=texts,
        pair_texts=None,
        words_given=True,
        annotations={"tag": string_array([["NOUN", "VERB", "ADJ"][i % 3] for i in range(n_words)])},
        columns={
            "id": string_array([f"s-{number}" for number in range(len(sizes))]),
            "level": np.arange(len(sizes)) % 4,
        },
        source={"format": "made here"},
        licence=None,
        **spans.arrays(),
    )


def values_of(ids: np.ndarray, hidden: int, layer: int) -> np.ndarray:
    """Return the values of rows: what row it is, which column and which layer, in float16."""
    return ((ids[:, None] * 7 + np.arange(hidden) + 100 * layer) % 2039).astype("float16")


def add_set(
    lake: Lake,
    variant: str,
    sizes: list[int],
    *,
    ids: np.ndarray | None = None,
    hidden: int = 4,
    layers: tuple[int, ...] = (0, 1),
    codec: str = "none",
    window_rows: int = 16,
    unit: str = "word",
    rows: str = "all",
    special: Callable[[np.ndarray], np.ndarray] = lambda ids: ids < 0,
    tokenization: str | None = None,
) -> None:
    """Write word rows of a corpus `c` (all, or those of some ids) whose values `values_of` gives."""
    every = np.repeat(np.arange(len(sizes)), sizes)
    ids = np.arange(len(every)) if ids is None else ids
    fingerprint = rows_fingerprint(unit, f"{rows} {tokenization} {special(ids).tolist()}", ids)
    kept = RowSet(
        unit=unit,
        row_id=ids.astype(np.int64),
        row_example=every[ids],
        row_word=np.where(special(ids), -1, ids),
        row_position=np.zeros(len(ids), np.int32),
        row_special=special(ids),
        settings={"rows": rows, "unit": unit, "tokenization": tokenization},
        fingerprint=fingerprint,
    )
    lake.add_table(
        f"corpora/c/rows/{short(fingerprint)}",
        kept.to_columns(),
        {**kept.to_attributes(), "fingerprint": fingerprint},
    )
    layout = ActivationLayout(len(ids), hidden, "float16", codec, window_rows, window_rows // 4)
    contents = {"row_set": fingerprint, "unit": unit, "rows": rows, "tokenization": tokenization}
    arrays = tuple(f"resid/{layer}" for layer in layers)
    plan = SetPlan("c", variant, contents, {}, {}, arrays, layout)
    with SetWriter(lake.location, plan) as writer:
        for window in range(layout.n_windows):
            part = ids[slice(*layout.window(window))]
            writer.write_window(window, {f"resid/{k}": values_of(part, hidden, k) for k in layers})
        writer.seal()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Lake]:
    """A function that opens a lake with the corpus `c` of examples of some sizes."""

    def made(sizes: list[int] = SIZES) -> Lake:
        lake = open_lake(tmp_path / "lake", "a")
        add_corpus(lake, "c", corpus_of(sizes))
        return lake

    return made


@pytest.fixture
def two(make: Callable[..., Lake]) -> Lake:
    """A lake of a plain variant and a wider, compressed one, whose first words are specials."""
    lake = make()
    starts = np.cumsum(SIZES) - SIZES
    for variant, options in (("base", {}), ("wide", {"hidden": 10, "codec": "lz4"})):
        add_set(lake, variant, SIZES, special=lambda ids: np.isin(ids, starts), **options)
    return lake


def spaces_of(lake: Lake, *variants: str) -> list[Any]:
    """Return layers 0 and 1 of variants."""
    return [lake.space("c", variant, layer) for variant in variants for layer in (0, 1)]


def check_batch(batch: Any, sizes: list[int], *, hidden: dict[str, int]) -> None:
    """Hold a batch to what its examples have in the corpus."""
    starts = np.cumsum(sizes) - sizes
    ids = np.concatenate([np.arange(starts[e], starts[e] + sizes[e]) for e in batch.examples])
    np.testing.assert_array_equal(np.diff(batch.offsets), np.asarray(sizes)[batch.examples])
    assert batch.offsets[0] == 0
    assert {variant for variant, _, _ in batch.values} == set(hidden)
    for (variant, site, layer), values in batch.values.items():
        assert site == "resid"
        np.testing.assert_array_equal(values, values_of(ids, hidden[variant], layer))


class TestBatches:
    """What is in a batch."""

    def test_every_example_comes_once_with_all_of_its_rows(self, two):
        stream = ExampleStream(spaces_of(two, "base", "wide"), batch=5)
        batches = list(stream.epoch(3))
        assert [len(batch.examples) for batch in batches] == [5, 5, 2]
        assert [batch.number for batch in batches] == [0, 1, 2]
        seen = np.concatenate([batch.examples for batch in batches])
        assert sorted(seen.tolist()) == list(range(12))
        for batch in batches:
            check_batch(batch, SIZES, hidden={"base": 4, "wide": 10})
            assert {values.dtype for values in batch.values.values()} == {np.dtype("float16")}
            first = batch.offsets[:-1]
            assert (batch.words[first] == -1).all()
            assert (np.delete(batch.words, first) > 0).all()

    @given(
        sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30),
        batch=st.integers(1, 60),
        counts=st.sampled_from(["examples", "rows"]),
        codec=st.sampled_from(["none", "lz4"]),
        memory=st.sampled_from(["1GiB", None]),
        seed=st.integers(0, 2**64 - 1),
    )
    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    def test_any_lengths_batches_and_memory(self, sizes, batch, counts, codec, memory, seed):
        lake = open_lake(f"memory://stream-{np.random.default_rng().integers(2**62)}", "a")
        add_corpus(lake, "c", corpus_of(sizes))
        add_set(lake, "base", sizes, codec=codec)
        spaces = spaces_of(lake, "base")
        options = {"batch": batch, "counts": counts, "seed": seed}
        needed = ExampleStream(spaces, **options).memory_plan.needed
        stream = ExampleStream(spaces, **options, memory=memory or needed)
        batches = list(stream.epoch(0))
        assert len(batches) == stream.n_batches(0)
        seen = np.concatenate([one.examples for one in batches])
        np.testing.assert_array_equal(seen, shuffled(np.arange(len(sizes)), seed, 0))
        for one, following in zip(batches, [*batches[1:], None], strict=True):
            check_batch(one, sizes, hidden={"base": 4})
            n_rows = one.offsets[-1]
            if counts == "examples":
                assert len(one.examples) == batch or following is None
            else:
                assert n_rows <= batch or len(one.examples) == 1
                if following is not None:
                    assert n_rows + sizes[following.examples[0]] > batch

    def test_examples_may_be_chosen_and_values_cast(self, two):
        stream = ExampleStream(spaces_of(two, "wide"), [9, 2, 5], batch=2, dtype="float32")
        assert stream.examples.tolist() == [2, 5, 9]
        batches = list(stream.epoch(0))
        assert sorted(np.concatenate([b.examples for b in batches]).tolist()) == [2, 5, 9]
        for batch in batches:
            check_batch(batch, SIZES, hidden={"wide": 10})
            assert {values.dtype for values in batch.values.values()} == {np.dtype("float32")}

    def test_row_sets_may_differ_where_examples_are_whole(self, two):
        # Of `part` the rows of examples 0 to 5 are missing as a whole.
        ids = np.arange(sum(SIZES[:6]), sum(SIZES))
        add_set(two, "part", SIZES, ids=ids, hidden=3)
        stream = ExampleStream(spaces_of(two, "base", "part"), batch=4)
        assert stream.examples.tolist() == list(range(6, 12))
        for batch in stream.epoch(0):
            check_batch(batch, SIZES, hidden={"base": 4, "part": 3})

    def test_batches_do_not_share_memory(self, two):
        stream = ExampleStream(spaces_of(two, "base", "wide"), batch=3)
        kept = []
        for batch in stream.epoch(0):
            for values in batch.values.values():
                values *= 0
            kept.append(batch)
        assert all((v == 0).all() for batch in kept for v in batch.values.values())
        for batch in stream.epoch(0):
            check_batch(batch, SIZES, hidden={"base": 4, "wide": 10})


class TestOrder:
    """Epochs, starts and ranks."""

    def test_the_order_is_a_uniform_permutation(self):
        n, epochs = 6, 3000
        orders = np.array([shuffled(np.arange(n) * 17, 5, epoch) for epoch in range(epochs)])
        assert (np.sort(orders, axis=1) == np.arange(n)).all()
        seeds = np.array([shuffled(np.arange(n) * 17, seed, 0) for seed in range(epochs)])
        for drawn in (orders, seeds):
            for place in range(n):
                assert stats.chisquare(np.bincount(drawn[:, place])).pvalue > 1e-4
            _, counts = np.unique(drawn, axis=0, return_counts=True)
            expected = np.full(720, epochs / 720)
            padded = np.concatenate([counts, np.zeros(720 - len(counts))])
            assert stats.chisquare(padded, expected).pvalue > 1e-4

    def test_seed_and_epoch_are_told_apart(self):
        ids = np.arange(50)
        orders = {
            tuple(shuffled(ids, seed, epoch).tolist()) for seed in range(9) for epoch in range(9)
        }
        assert len(orders) == 81

    def test_further_examples_do_not_change_the_order_of_these(self, two):
        every = ExampleStream(spaces_of(two, "base"), batch=1, seed=8)
        some = ExampleStream(spaces_of(two, "base"), [1, 4, 6, 7, 11], batch=1, seed=8)
        order = [int(batch.examples[0]) for batch in every.epoch(2)]
        assert [int(b.examples[0]) for b in some.epoch(2)] == [
            e for e in order if e in (1, 4, 6, 7, 11)
        ]
        assert order != [int(batch.examples[0]) for batch in every.epoch(1)]

    @pytest.mark.parametrize("variant", ["base", "wide"])
    def test_a_later_start_is_the_tail_and_reads_nothing_else(self, two, variant, monkeypatch):
        stream = ExampleStream(spaces_of(two, variant), batch=10, counts="rows")
        whole = list(stream.epoch(4))
        copied: list[int] = []
        copy_runs = type(stream.spaces[variant, "resid", 0]).copy_runs

        def counting(self: Any, copies: Any, outs: Any, **how: bool) -> None:
            copied.append(sum(len(out) for out in outs))
            copy_runs(self, copies, outs, **how)

        monkeypatch.setattr(type(stream.spaces[variant, "resid", 0]), "copy_runs", counting)
        for start in range(len(whole) + 1):
            copied.clear()
            tail = list(stream.epoch(4, start))
            assert sum(copied) == 2 * sum(len(batch.words) for batch in whole[start:])
            assert [batch.number for batch in tail] == list(range(start, len(whole)))
            for one, other in zip(tail, whole[start:], strict=True):
                np.testing.assert_array_equal(one.examples, other.examples)
                for key, values in one.values.items():
                    np.testing.assert_array_equal(values, other.values[key])

    @pytest.mark.parametrize("start", [0, 1, 2, 5])
    def test_ranks_divide_whole_batches(self, two, start):
        stream = ExampleStream(spaces_of(two, "base"), batch=2)
        whole = list(stream.epoch(0))
        parts = [list(stream.epoch(0, start, rank=rank, world=4)) for rank in range(4)]
        for rank, part in enumerate(parts):
            assert all(batch.number % 4 == rank for batch in part)
            for batch in part:
                np.testing.assert_array_equal(batch.examples, whole[batch.number].examples)
        assert sorted(b.number for part in parts for b in part) == list(range(start, 6))


class TestLabels:
    """Labels beside the rows."""

    def test_names_and_arrays(self, two):
        n_rows = sum(SIZES)
        stream = ExampleStream(
            spaces_of(two, "base"),
            labels={
                "tag": "tag",
                "level": "level",
                "depth": np.arange(n_rows, dtype=np.int16) * 2,
                "vector": np.arange(24.0).reshape(12, 2),
                "side": ["left", "right"] * 6,
            },
            batch=5,
        )
        assert stream.classes == {"tag": ["ADJ", "NOUN", "VERB"], "side": ["left", "right"]}
        axes = {"tag": "row", "level": "example", "depth": "row", "vector": "example"}
        assert stream.label_axes == {**axes, "side": "example"}
        starts = np.cumsum(SIZES) - SIZES
        for batch in stream.epoch(0):
            ids = np.concatenate(
                [np.arange(starts[e], starts[e] + SIZES[e]) for e in batch.examples]
            )
            expected = np.array([1, 2, 0])[ids % 3]
            expected[batch.words < 0] = -100
            np.testing.assert_array_equal(batch.labels["tag"], expected)
            np.testing.assert_array_equal(batch.labels["level"], batch.examples % 4)
            np.testing.assert_array_equal(batch.labels["depth"], ids * 2)
            assert batch.labels["depth"].dtype == np.int16
            np.testing.assert_array_equal(batch.labels["vector"][:, 0], batch.examples * 2)
            np.testing.assert_array_equal(batch.labels["side"], batch.examples % 2)

    def test_labels_that_do_not_fit_are_refused(self, two):
        spaces = spaces_of(two, "base")
        with pytest.raises(InvalidInput, match=r"labels 'x' have shape \(5,\); give one for each"):
            ExampleStream(spaces, labels={"x": np.arange(5)})
        with pytest.raises(NameNotFound, match="no annotation or column 'pos'"):
            ExampleStream(spaces, labels={"x": "pos"})
        with pytest.raises(InvalidInput, match="neither numbers nor strings"):
            ExampleStream(spaces, labels={"x": np.zeros(12, "complex64")})


class TestRefusals:
    """What is refused before anything is read."""

    def test_an_example_in_part_is_named(self, two):
        ids = np.delete(np.arange(sum(SIZES)), [7, 9, 47])
        add_set(two, "part", SIZES, ids=ids)
        spaces = spaces_of(two, "base", "part")
        with pytest.raises(InvalidInput) as refused:
            ExampleStream(spaces)
        assert str(refused.value) == (
            "part resid layer 0 lacks rows 3, 5 of example 2 (s-2), and rows of 1 other example; "
            "extract whole examples (rows all), or name the examples that are whole in every space"
        )
        with pytest.raises(InvalidInput, match=r"lacks row 29 of example 5 \(s-5\); extract"):
            ExampleStream(spaces, [0, 5])
        whole = [e for e in range(12) if e not in (2, 5)]
        for batch in ExampleStream(spaces, whole).epoch(0):
            check_batch(batch, SIZES, hidden={"base": 4, "part": 4})

    def test_one_space_alone_is_held_to_its_tokenization(self, two):
        lake = two
        tokens = {
            "special": np.zeros(2 * sum(SIZES), bool),
            "piece_word": np.repeat(np.arange(sum(SIZES)), 2),
            "input_offsets": np.concatenate([[0], 2 * np.cumsum(SIZES)]),
            "input_example": np.arange(12),
        }
        tokens["piece_word"][:2] = -1  # word 0 has no piece
        lake.add_table(f"corpora/c/tokenizations/{'t' * 12}", tokens, {"fingerprint": "t" * 64})
        add_set(
            lake,
            "some",
            SIZES,
            ids=np.delete(np.arange(sum(SIZES)), [0, 5]),
            rows="where tag!=x",
            tokenization="t" * 64,
        )
        spaces = spaces_of(lake, "some")
        with pytest.raises(InvalidInput, match=r"lacks 1 of its 7 words of example 2 \(s-2\)"):
            ExampleStream(spaces)
        stream = ExampleStream(spaces, [0, 1, 3])
        assert sum(len(batch.words) for batch in stream.epoch(0)) == 2 + 1 + 2

    def test_spaces_that_do_not_belong_together(self, two, tmp_path):
        spaces = spaces_of(two, "base")
        with pytest.raises(InvalidInput, match="no space was given"):
            ExampleStream([])
        with pytest.raises(InvalidInput, match="base resid layer 1 was given twice"):
            ExampleStream([*spaces, spaces[1]])
        add_set(two, "pieces", SIZES, unit="piece", tokenization="one")
        add_set(two, "others", SIZES, unit="piece", tokenization="two")
        with pytest.raises(InvalidInput, match=r"holds piece rows and .* word rows"):
            ExampleStream([*spaces, *spaces_of(two, "pieces")])
        with pytest.raises(InvalidInput, match="use different tokenizers"):
            ExampleStream(spaces_of(two, "pieces", "others"))
        other = open_lake(tmp_path / "other", "a")
        add_corpus(other, "c", corpus_of(SIZES))
        add_set(other, "more", SIZES)
        with pytest.raises(InvalidInput, match="different corpora or lakes"):
            ExampleStream([*spaces, *spaces_of(other, "more")])

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"batch": 0}, InvalidInput, "batch is 0"),
            ({"counts": "tokens"}, InvalidInput, "counts is 'tokens'; give examples or rows"),
            ({"seed": -1}, InvalidInput, "the seed is -1"),
            ({"dtype": "int8"}, InvalidInput, "no float of numpy"),
            ({"examples": [1, 1]}, InvalidInput, "given twice"),
            ({"examples": []}, InvalidInput, "name none"),
            ({"examples": [0, 12]}, OutOfRange, r"examples 0 to 12 asked of a corpus of 12"),
            ({"memory": 1000}, MemoryRefused, "which rows are an example needs"),
            ({"memory": 10_000}, MemoryRefused, "the stream needs .* ask for smaller batches"),
        ],
    )
    def test_settings(self, two, options, error, message, monkeypatch):
        spaces = spaces_of(two, "base", "wide")
        monkeypatch.setattr(type(spaces[0]), "copy_runs", None)
        with pytest.raises(error, match=message):
            ExampleStream(spaces, **options)

    def test_numbers_of_an_epoch_are_checked_at_once(self, two):
        stream = ExampleStream(spaces_of(two, "base"))
        for wrong in ({"epoch": -1}, {"epoch": 0, "start": -1}, {"epoch": 0, "rank": 1}):
            with pytest.raises(InvalidInput):
                stream.epoch(**wrong)


def test_tensors_share_the_memory_of_arrays(two):
    torch = pytest.importorskip("torch")
    stream = ExampleStream(spaces_of(two, "base", "wide"), labels={"level": "level"}, batch=4)
    for batch in stream.epoch(0):
        tensors = batch.to_torch()
        assert "4 examples" in repr(batch)
        for key, values in batch.values.items():
            assert tensors.values[key].dtype == torch.float16
            assert tensors.values[key].data_ptr() == values.ctypes.data
        assert tensors.offsets.tolist() == batch.offsets.tolist()
        assert tensors.labels["level"].tolist() == batch.labels["level"].tolist()


def test_importing_the_stream_needs_no_torch():
    code = "import sys, layerlake.engine.streams.example_stream; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def wide_lake(folder: Path, codec: str, n_examples: int) -> Lake:
    """Write a lake of 4 layers of 256 float16 over examples of 1 to 40 words."""
    lake = open_lake(folder, "a")
    sizes = np.random.default_rng(0).integers(1, 41, n_examples).tolist()
    add_corpus(lake, "c", corpus_of(sizes))
    options: dict[str, Any] = {"hidden": 256, "layers": (0, 1, 2, 3), "window_rows": 4096}
    add_set(lake, "base", sizes, codec=codec, **options)
    return lake


def peak_of_epoch(folder: Path, memory: int | None) -> int:
    """Read an epoch in a process of its own, or only open the lake; return the peak in bytes."""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux says how many bytes were resident at most")
    program = [sys.executable, Path(__file__).with_name("measured_epoch.py"), folder]
    asked = [] if memory is None else [str(memory)]
    done = subprocess.run([*program, *asked], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("codec", ["none", "lz4"])
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_the_peak_is_as_stated(tmp_path, codec, dtype):
    lake = wide_lake(tmp_path / "lake", codec, 600)
    spaces = [lake.space("c", "base", layer) for layer in range(4)]
    for memory in (64 * 2**20, 16 * 2**20):
        stream = ExampleStream(spaces, batch=32, dtype=dtype, memory=memory)
        plan = stream.memory_plan
        assert plan.peak <= memory
        for _ in stream.epoch(1):  # the modules that reading needs
            break
        tracemalloc.start()
        for batch in stream.epoch(0):
            assert len(batch.values) == 4
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < plan.peak
        batch_bytes = plan.parts["batch in use"]
        assert peak > batch_bytes / 2, "the statement should not be far above what is used"


def test_pages_of_mapped_files_count(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    lake = wide_lake(folder, "none", 3000)
    files = sum(state.n_bytes for state in lake.sets())
    assert files > 100 * 2**20
    before = peak_of_epoch(folder, None)
    allowed = 24 * 2**20
    assert peak_of_epoch(folder, allowed) - before < allowed
    assert peak_of_epoch(folder, 2**30) - before > files / 2
