"""Activations from elsewhere: any blocks in any turn, whole windows kept, bad rows named."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlake.store.errors import (
    InvalidInput,
    LakeBusy,
    LakeReadOnly,
    MemoryRefused,
    NameConflict,
    NameNotFound,
)
from layerlake.store.external.external_rows import bare_corpus
from layerlake.store.lake import Lake, open_lake
from layerlake.store.removal import remove
from layerlake.store.verify import verify

N, HIDDEN, WINDOW = 2500, 5, 1024
IDS = [f"image {number}" for number in range(N)]
LAYERS = {
    layer: np.random.default_rng(layer).standard_normal((N, HIDDEN)).astype("float32")
    for layer in (0, 3, 11)
}
_numbers = itertools.count()


def fresh() -> Lake:
    """Return an empty lake in memory."""
    return open_lake(f"memory://brought-{next(_numbers)}", "a")


@pytest.fixture(params=["local", "memory"])
def empty(request: pytest.FixtureRequest, tmp_path: Any) -> Lake:
    """An empty lake of each kind of location."""
    return open_lake(tmp_path / "lake", "a") if request.param == "local" else fresh()


def opened(lake: Lake, **options: Any) -> Any:
    """Open a writer of all layers in small windows."""
    asked = {"ids": IDS, "layers": list(LAYERS), "window_rows": WINDOW, **options}
    return lake.writer("images", "vit", **asked)


def bring(writer: Any, low: int = 0, high: int = N, start: int | None = None) -> None:
    """Append some rows of every layer."""
    for layer, values in LAYERS.items():
        writer.append("resid", layer, values[low:high], start=start)


def bring_and_fail(lake: Lake, rows: int, size: int) -> None:
    """Append rows of every layer in blocks, then fail."""
    with opened(lake) as writer:
        for start in range(0, rows, size):
            bring(writer, start, start + size)
        raise RuntimeError("the loader failed")


def bring_all(lake: Lake, variant: str, **options: Any) -> None:
    """Append every layer in small blocks."""
    with lake.writer("images", variant, ids=IDS, window_rows=WINDOW, **options) as writer:
        for start in range(0, N, 100):
            bring(writer, start, start + 100)


def bring_one(lake: Lake, rows: Any, layer: int = 0, **options: Any) -> None:
    """Append rows of one layer."""
    with opened(lake, **options) as writer:
        writer.append("resid", layer, rows)


def assert_whole(lake: Lake) -> None:
    """Compare every layer, bit for bit, and every checksum."""
    for layer, values in LAYERS.items():
        space = lake.space("images", "vit", layer, sealed=True)
        assert space.rows(slice(None)).tobytes() == values.tobytes()
    assert verify(lake).findings == ()


def test_a_variant_of_bare_rows(empty: Lake) -> None:
    with empty.writer("images", "vit", ids=IDS, window_rows=WINDOW) as writer:
        for start in range(0, N, 100):
            bring(writer, start, start + 100)
    assert_whole(empty)
    assert empty.corpora() == ["images"]
    about = empty.attributes("variants/vit")
    assert about["source"] == "brought"
    assert about["weights_digest"] is None
    assert (about["layers"], about["hidden"]) == ([0, 3, 11], HIDDEN)
    columns, _ = empty.table("corpora/images")
    assert columns["columns/id"].tolist() == IDS
    (state,) = empty.sets()
    assert state.plan.contents["unit"] == "example"
    assert state.plan.recipe == {"writer": "brought", "source": {}}
    # The same once more compares, and changes nothing.
    with empty.writer("images", "vit", ids=IDS, window_rows=WINDOW) as writer:
        for start in range(0, N, 1000):
            bring(writer, start, start + 1000)
    assert [s.plan.path for s in empty.sets()] == [state.plan.path]
    with opened(empty) as writer:
        assert writer.position == N
        assert repr(writer) == "<ActivationWriter vit over images: 2500 of 2500 rows are kept>"


def stopped(lake: Lake, rng: random.Random, named: bool, stops: int) -> int | None:
    """Bring random blocks in random turn; return the position at a stop, None at the end."""
    writer = opened(lake, layers=list(LAYERS) if named else None)
    try:
        with writer:
            begin = 0 if rng.random() < 0.3 else writer.position
            places = dict.fromkeys(LAYERS, begin)
            while any(place < N for place in places.values()):
                ready = [layer for layer in LAYERS if places[layer] < N]
                free = named or writer.path is not None
                if not free:  # layers that are not named come before the first window is full
                    ready = [min(ready, key=lambda layer: places[layer])]
                layer = rng.choice(ready)
                size = rng.randint(1, rng.choice([50, 400, N]) if free else 400)
                part = LAYERS[layer][places[layer] : places[layer] + size]
                start = begin if places[layer] == begin else None
                writer.append("resid", layer, part, start=start)
                places[layer] += len(part)
                stops -= 1
                if not stops:
                    raise RuntimeError("stopped here")
    except RuntimeError:
        return int(writer.position)
    return None


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), named=st.booleans())
def test_any_blocks_in_any_turn_with_stops_between_them(seed: int, named: bool) -> None:
    lake, rng = fresh(), random.Random(seed)
    positions = []
    while (position := stopped(lake, rng, named, rng.choice([3, 10, 30, 0]))) is not None:
        positions.append(position)
    assert positions == sorted(positions)
    assert all(position % WINDOW == 0 or position == N for position in positions)
    assert_whole(lake)


def test_layers_may_come_whole_one_after_the_other(empty: Lake) -> None:
    with opened(empty) as writer:
        for layer, values in LAYERS.items():
            assert writer.position == 0
            writer.append("resid", layer, values)
        assert writer.position == N
    assert_whole(empty)


def test_memory_is_a_window_of_what_is_being_filled(empty: Lake) -> None:
    one = WINDOW * HIDDEN * 4
    with opened(empty, memory=one) as writer:
        for layer, values in LAYERS.items():
            writer.append("resid", layer, values[:700])
            writer.append("resid", layer, values[700:])
    assert_whole(empty)
    said = rf"window of 2 arrays needs .*{2 * one} bytes"
    with pytest.raises(MemoryRefused, match=said):
        bring_all(empty, variant="other", memory=2 * one - 1)
    assert empty.variants() == ["vit"]


def test_an_error_keeps_whole_windows_and_says_where_to_go_on(empty: Lake) -> None:
    with pytest.raises(RuntimeError) as raised:
        bring_and_fail(empty, 1500, 500)
    (note,) = raised.value.__notes__
    assert note == (
        "rows up to 1024 are kept, 476 that came after them are lost; open the writer again and go "
        "on at row 1024 (start=writer.position)"
    )
    # In which order layers are named does not matter.
    with opened(empty, layers=[11, 0, 3]) as writer:
        assert writer.position == 1024
        bring(writer, 1024, start=1024)
    assert_whole(empty)
    assert len(empty.sets()) == 1


def test_rows_that_are_kept_are_compared(empty: Lake) -> None:
    with pytest.raises(RuntimeError):
        bring_and_fail(empty, 1024, 1024)
    changed = LAYERS[3].copy()
    changed[1000, 2] += 1
    said = r"resid/3, row 1000 \(example 'image 1000'\) is kept already"
    with pytest.raises(InvalidInput, match=said):
        bring_one(empty, changed, 3)
    with pytest.raises(InvalidInput, match="give start=1024"):
        bring_one(empty, LAYERS[0][1024:])  # begins at row 0, where it was not told
    with opened(empty) as writer:
        bring(writer)
    assert_whole(empty)


def test_a_window_that_was_dropped_is_written_anew(tmp_path: Any) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    with opened(lake) as writer:
        for layer, values in LAYERS.items():
            writer.append("resid", layer, values)
        shard = tmp_path / "lake" / f"{writer.path}/resid/3/c/1/0"
    raw = bytearray(shard.read_bytes())
    raw[50] ^= 1
    shard.write_bytes(raw)
    assert not verify(lake).sound
    verify(lake, repair=True)
    with opened(lake) as writer:
        assert writer.position == 1024
        for layer, values in LAYERS.items():
            writer.append("resid", layer, values[1024:], start=1024)
    assert_whole(lake)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (["float16", "float16"], "float16"),
        (["float16", "float32"], "float32"),
        (["float64", "float16"], "float32"),
        ([">f4", ">f2"], "float32"),
    ],
)
def test_the_stored_dtype_is_the_widest_that_came(given: list[str], dtype: str) -> None:
    lake = fresh()
    values = LAYERS[0].astype("float16")
    with lake.writer("images", "vit", ids=IDS[:100]) as writer:
        for layer, kind in enumerate(given):
            for part in (values[:60], values[60:100]):
                writer.append("resid", layer, part.astype(kind))
    for layer in range(2):
        rows = lake.space("images", "vit", layer).rows(slice(None))
        assert rows.dtype == dtype
        np.testing.assert_array_equal(rows, values[:100])


def test_torch_tensors_and_mapped_files(tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    lake = open_lake(tmp_path / "lake", "a")
    np.save(tmp_path / "layer.npy", LAYERS[0])
    tensor = torch.from_numpy(LAYERS[3]).bfloat16()
    with opened(lake, layers=[0, 3, 11]) as writer:
        writer.append("resid", 0, np.load(tmp_path / "layer.npy", mmap_mode="r"))
        writer.append("resid", 3, tensor)
        writer.append("resid", 11, torch.from_numpy(LAYERS[11]).requires_grad_())
    held = {layer: lake.space("images", "vit", layer).rows(slice(None)) for layer in LAYERS}
    np.testing.assert_array_equal(held[0], LAYERS[0])
    np.testing.assert_array_equal(held[3], tensor.float().numpy())
    np.testing.assert_array_equal(held[11], LAYERS[11])


def test_sites_and_layers_as_sets_of_their_own(empty: Lake) -> None:
    for width, layers in ((4, [1]), (6, [2, 3])):  # as a convolutional network has them
        sites = ["resid", "mlp_out"]
        with empty.writer("images", "resnet", ids=IDS, site=sites, layers=layers) as writer:
            for site in sites:
                for layer in layers:
                    writer.append(site, layer, np.full((N, width), layer, "float16"))
    assert len(empty.sets("images", "resnet")) == 2
    assert empty.space("images", "resnet", 1, "mlp_out").shape == (N, 4)
    assert empty.space("images", "resnet", 3).shape == (N, 6)


def test_rows_of_a_corpus_that_is_there(empty: Lake) -> None:
    columns, attributes = bare_corpus(["a", "b", "c"])
    # Three examples of 2, 0 and 3 words.
    columns |= {
        "word_offsets": np.array([0, 2, 2, 5], np.int64),
        **{name: columns[name].repeat([2, 0, 3]) for name in ("word_start", "word_stop")},
        "word_segment": np.zeros(5, np.uint8),
    }
    empty.add_table("corpora/text", columns, attributes)
    values = LAYERS[0][:5]
    with empty.writer("text", "words", unit="word", pooling="last") as writer:
        assert writer.n_rows == 5
        writer.append("resid", 0, values)
    with empty.writer("text", "whole", ids=["a", "b", "c"]) as writer:
        writer.append("resid", 0, values[:3])
    rows = empty.space("text", "words", 0, unit="word", pooling="last")
    np.testing.assert_array_equal(rows.rows(slice(None)), values)
    names = empty.location.nodes("corpora/text/rows")
    kept = {name: empty.table(f"corpora/text/rows/{name}") for name in names}
    of_words = next(name for name, (_, about) in kept.items() if about["unit"] == "word")
    assert kept[of_words][0]["row_example"].tolist() == [0, 0, 2, 2, 2]
    assert kept[of_words][0]["row_position"].tolist() == [0, 1, 0, 1, 2]
    with empty.writer("text", "named", row_set=of_words[:6], pooling="mean") as writer:
        writer.append("resid", 0, values)
    assert empty.space("text", "named", 0).shape == (5, HIDDEN)
    for options, said in [
        ({"ids": ["a", "x", "c"]}, "example 1 is 'b' there, and 'x' was given"),
        ({"ids": ["a", "b"]}, "2 ids were given, .* first that is missing is 'c'"),
        ({"ids": ["a", "b", "c", "d"]}, "the first too many is 'd'"),
        ({}, "nothing says what a row is"),
        ({"unit": "word"}, "nothing says how the rows of words were made"),
        ({"unit": "word", "ids": ["a", "b", "c"]}, "go with a row an example"),
        ({"unit": "piece"}, "piece rows are those of a tokenizer"),
        ({"unit": "line"}, "no unit 'line'"),
        ({"unit": "word", "row_set": "x"}, "both say what a row is"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            empty.writer("text", "other", **options)
    with pytest.raises(NameNotFound, match="no row sets of text begin with 'zz'; there are"):
        empty.writer("text", "other", row_set="zz")
    assert "other" not in empty.variants()


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "there are no ids"),
        ("abc", "ids are str"),
        (5, "ids are int"),
        (["a", ""], "id 1 is ''"),
        (["a", None], "id 1 is None"),
        ([1, 2.5], "id 1 is 2.5"),
        ([True], "id 0 is True"),
        (["a", "b", "a"], "id 'a' is that of examples 0 and 2"),
        ([1, "1"], "id '1' is that of examples 0 and 1"),
        (["\ud800"], "id 0 is no Unicode text"),
    ],
)
def test_ids_that_are_none(ids: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        fresh().writer("images", "vit", ids=ids)


def test_whole_numbers_are_ids() -> None:
    lake = fresh()
    with lake.writer("images", "vit", ids=np.arange(3)) as writer:
        writer.append("resid", 0, LAYERS[0][:3])
    assert lake.table("corpora/images")[0]["columns/id"].tolist() == ["0", "1", "2"]


def spoilt(row: int, value: float, dtype: str = "float32") -> Any:
    """Return a layer with one bad value."""
    values = LAYERS[0].astype(dtype)
    values[row, 1] = value
    return values


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (spoilt(1300, np.nan), {}, r"resid/0, row 1300 \(example 'image 1300'\): NaN or infinite"),
        (spoilt(7, -np.inf), {}, r"row 7 .*NaN or infinite values came"),
        (spoilt(9, 7e4), {"store_dtype": "float16"}, "70000 does not fit float16 .*choose float32"),
        (spoilt(9, 1e300, "float64"), {}, "1e.300 does not fit float32 .*scale the activations"),
        (LAYERS[0][:, 0], {}, r"the rows came in shape \(2500,\)"),
        (LAYERS[0][None], {}, r"in shape \(1, 2500, 5\); give \(rows, hidden\)"),
        (LAYERS[0].astype(int), {}, "the rows came as int64; give floats"),
        (LAYERS[0].astype(complex), {}, "the rows came as complex128"),
        (LAYERS[0].astype(object), {}, "the rows came as object"),
        (np.zeros((3, 0), "float32"), {}, "rows of no values"),
        (np.concatenate([LAYERS[0], LAYERS[0][:1]]), {}, "came with 2501 rows, and there are 2500"),
        (LAYERS[0][:10], {}, "vit is not whole: resid/0 has 10 of 2500 rows; 0 are kept"),
    ],
)
def test_rows_that_are_refused(empty: Lake, rows: Any, options: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        bring_one(empty, rows, **{"layers": [0], **options})
    assert all(not state.sealed for state in empty.sets())
    assert not [p for state in empty.sets() for p in verify(empty, state.plan.path).findings]


def test_what_a_writer_cannot_be_asked(empty: Lake) -> None:
    with opened(empty, layers=[0, 1]) as writer:
        writer.append("resid", 0, LAYERS[0])
        with pytest.raises(InvalidInput, match=r"resid/1 came with rows of 4 values, where 5"):
            writer.append("resid", 1, LAYERS[0][:, :4])
        with pytest.raises(InvalidInput, match="resid/2 is none of the arrays of this writer"):
            writer.append("resid", 2, LAYERS[0])
        with pytest.raises(InvalidInput, match=r"row 0 of resid/1 comes next, and .* row 5 came"):
            writer.append("resid", 1, LAYERS[0], start=5)
        with pytest.raises(InvalidInput, match="start is 'a'"):
            writer.append("resid", 1, LAYERS[0], start="a")
        with pytest.raises(InvalidInput, match=r"'\.\./x' cannot name a site"):
            writer.append("../x", 1, LAYERS[0])
        with pytest.raises(InvalidInput, match="layer -1 is no number of a layer"):
            writer.append("resid", -1, LAYERS[0])
        with pytest.raises(LakeBusy), opened(empty, layers=[0, 1]):
            pass
        writer.append("resid", 1, LAYERS[0])
    for options, said in [
        ({"layers": []}, "must name arrays"),
        ({"layers": [1, 1]}, "each of them once"),
        ({"store_dtype": "int8"}, "not one of auto, float16, float32"),
        ({"codec": "zip"}, "codec 'zip'"),
        ({"window_rows": 1000}, "not a positive multiple of 1024"),
        ({"pooling": "sum"}, "pooling 'sum'"),
        ({"memory": "much"}, "no amount of memory"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            opened(empty, **options)
    with pytest.raises(InvalidInput, match="'a/b' cannot name a corpus"):
        empty.writer("a/b", "vit", ids=IDS)
    with pytest.raises(NameNotFound, match=r"no corpus 'imagse' in .*; did you mean images"):
        empty.writer("imagse", "vit", unit="example")
    nothing = empty.writer("images", "other", ids=IDS)
    with pytest.raises(InvalidInput, match="no rows of other came"), nothing:
        pass
    with pytest.raises(LakeReadOnly):
        opened(Lake(empty.location, "r"))


def one_after_the_other(lake: Lake) -> None:
    """Bring two layers of more than a window, neither of them named."""
    with opened(lake, layers=None) as writer:
        writer.append("resid", 0, LAYERS[0])
        writer.append("resid", 3, LAYERS[3])


def test_a_layer_that_comes_late_must_be_named_at_first(empty: Lake) -> None:
    with pytest.raises(InvalidInput, match=r"resid/3 is none .*: resid/0, which .*; remove activ"):
        one_after_the_other(empty)
    (state,) = empty.sets()
    remove(empty, state.plan.path)


def test_names_that_are_taken(empty: Lake) -> None:
    empty.add_table("variants/vit", {}, {"fingerprint": "f", "source": "google/vit"})
    with (
        pytest.raises(NameConflict, match=r"'vit' is that of a model \(google/vit\)"),
        opened(empty),
    ):
        pass
    remove(empty, "variants/vit")
    with opened(empty, layers=[0], source={"file": "a"}) as writer:
        writer.append("resid", 0, LAYERS[0])
    with (
        pytest.raises(NameConflict, match=r"source \{'file': 'a'\} then, \{'file': 'b'\} now"),
        opened(empty, layers=[0], source={"file": "b"}),
    ):
        pass
    with pytest.raises(NameConflict, match="hidden 5 then, 4 now"):
        bring_one(empty, LAYERS[0][:, :4], layers=None, source={"file": "a"})


def test_sets_that_could_both_be_gone_on_with(empty: Lake) -> None:
    for dtype in ("float16", "float32"):
        with opened(empty, layers=[0], store_dtype=dtype) as writer:
            writer.append("resid", 0, LAYERS[0])
    with pytest.raises(InvalidInput, match="2 sets of vit over images"), opened(empty, layers=[0]):
        pass


KILLED = """
import sys
import numpy as np
from layerlake.store.lake import open_lake

ids = np.arange(40 * 1024)
with open_lake(sys.argv[1], "a").writer(
    "images", "vit", ids=ids, layers=[0, 1], window_rows=1024
) as writer:
    print(writer.position, flush=True)
    for start in range(writer.position, len(ids), 512):
        rows = ids[start:start + 512, None] + np.zeros(16, "float32")
        for layer in (0, 1):
            writer.append("resid", layer, rows.astype("float32") + layer, start=start)
        print(start, flush=True)
"""


def test_a_writer_that_is_killed_goes_on(tmp_path: Any) -> None:
    where = str(tmp_path / "lake")
    rng = np.random.default_rng(0)
    reached, kills = [], 0
    for delay in [*rng.uniform(0.0, 0.25, 4), None]:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, where], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        reached.append(int(process.stdout.readline()))
        if delay is not None:
            time.sleep(delay)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
        process.communicate()
    assert process.returncode == 0
    assert kills
    assert reached == sorted(reached)
    lake = open_lake(where)
    for layer in (0, 1):
        rows = lake.space("images", "vit", layer, sealed=True).rows(slice(None))
        expected = np.broadcast_to(np.arange(40 * 1024)[:, None] + layer, rows.shape)
        np.testing.assert_array_equal(rows, expected)
    assert verify(lake).findings == ()
