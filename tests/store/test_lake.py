"""What was written is what is read, by every path; what is not there is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerlake.store import schema
from layerlake.store.errors import (
    FormatTooNew,
    InvalidInput,
    LakeCorrupt,
    LakeNotFound,
    LakeReadOnly,
    NameConflict,
    NameNotFound,
    NotALake,
    OutOfRange,
    SetIncomplete,
)
from layerlake.store.lake import Lake, open_lake


@pytest.mark.parametrize("codec", ["none", "lz4"])
@pytest.mark.parametrize("verified", [False, True])
@pytest.mark.parametrize("direct", [False, True])
def test_every_path_reads_the_same_bits(lake, plan, fill, values, codec, verified, direct):
    fill(lake, plan(codec))
    space = Lake(lake.location, "r", verified=verified, direct=direct).space("wiki", "base", 1)
    index = np.sort(np.random.default_rng(0).choice(2500, 300, replace=False))
    assert space.rows(index).tobytes() == (values[index] * 2).tobytes()
    assert space.rows(index[::-1]).tobytes() == (values[index[::-1]] * 2).tobytes()
    together = np.concatenate(list(space.blocks(block_rows=700)))
    assert together.tobytes() == (values * 2).tobytes()


@given(st.lists(st.integers(0, 2499), max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_index_in_any_order(lake, plan, fill, values, index):
    if not lake.set_paths():
        fill(lake, plan())
    rows = lake.space("wiki", "base", 0).rows(np.array(index, dtype=np.int64))
    assert rows.tobytes() == values[index].tobytes()


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize(
    "part",
    [slice(None), slice(1000, 1100), slice(-3, None), slice(7, 7), slice(2400, 9999), slice(9, 2)],
    ids=str,
)
def test_slices_are_those_of_an_array(lake, plan, fill, values, part, direct):
    fill(lake, plan("lz4"))
    space = Lake(lake.location, "r", direct=direct).space("wiki", "base", 0)
    assert space.rows(part).shape == values[part].shape
    assert space.rows(part).tobytes() == values[part].tobytes()


def test_a_slice_with_a_step_is_refused(lake, plan, fill):
    fill(lake, plan())
    with pytest.raises(OutOfRange, match="step 2"):
        lake.space("wiki", "base", 0).rows(slice(0, 9, 2))


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_stock_zarr_reads_all_without_a_warning(lake, plan, fill, values, codec):
    fill(lake, plan(codec))
    root = zarr.open_group(lake.location.zarr_store(), mode="r")
    members = dict(root.members(max_depth=None))
    assert {path.split("/")[0] for path in members} == {*schema.SECTIONS, schema.STAGING}
    path = plan(codec).path
    assert np.asarray(members[f"{path}/resid/0"][...]).tobytes() == values.tobytes()
    assert (np.asarray(members[f"{path}/commits"]) == np.asarray(members[f"{path}/manifest"])).all()


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_tensorstore_reads_the_same_bits(tmp_path, plan, fill, values, codec):
    tensorstore = pytest.importorskip("tensorstore")
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/wiki", {"text": np.array(["a"])}, {"fingerprint": "f"})
    fill(lake, plan(codec))
    arrays = sorted(tmp_path.rglob("zarr.json"))
    arrays = [a.parent for a in arrays if json.loads(a.read_text())["node_type"] == "array"]
    assert len(arrays) == 7
    for folder in arrays:
        kvstore = {"driver": "file", "path": f"{folder}/"}
        read = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result().read().result()
        assert read.tobytes() == np.asarray(zarr.open_array(folder, mode="r")[...]).tobytes()


def test_uncommitted_windows_are_refused_by_name(lake, plan, fill, values):
    fill(lake, plan(), range(1, 2))
    space = lake.space("wiki", "base", 0)
    assert (space.rows(np.arange(1024, 2048)) == values[1024:2048]).all()
    with pytest.raises(SetIncomplete, match=r"2 of 3 windows .* window 0 \(rows 0 to 1023\)"):
        space.rows([5])
    with pytest.raises(SetIncomplete, match="2 of 3 windows"):
        lake.space("wiki", "base", 0, sealed=True)


def test_rows_outside_are_refused(lake, plan, fill):
    fill(lake, plan())
    space = lake.space("wiki", "base", 0)
    for index in ([2500], [-1], [0.7], 5, [[0, 1]], ["a"], np.ones(7, bool)):
        with pytest.raises(OutOfRange):
            space.rows(index)
    for start, stop, block_rows in ((-5, 2, 9), (0, 2501, 9), (9, 2, 9), (0, 9, 0)):
        with pytest.raises(OutOfRange, match="asked of 2500 rows"):
            next(space.blocks(start, stop, block_rows=block_rows))


def test_a_mask_chooses_rows(lake, plan, fill, values):
    fill(lake, plan())
    mask = np.random.default_rng(0).random(2500) < 0.1
    assert (lake.space("wiki", "base", 0).rows(mask) == values[mask]).all()


def test_names_that_are_not_there(lake, plan, fill):
    fill(lake, plan())
    with pytest.raises(NameNotFound, match="did you mean wiki"):
        lake.space("wki", "base", 0)
    with pytest.raises(NameNotFound, match="did you mean base"):
        lake.space("wiki", "bas", 0)
    with pytest.raises(NameNotFound, match="it has resid/0, resid/1"):
        lake.space("wiki", "base", 7)


def test_a_flipped_byte_is_refused_by_verified_reads(tmp_path, plan, fill, values):
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/wiki", {"text": np.array(["a"])}, {"fingerprint": "f"})
    fill(lake, plan())
    shard = tmp_path / "lake" / plan().path / "resid/0/c/1/0"
    content = bytearray(shard.read_bytes())
    content[777] ^= 4
    shard.write_bytes(content)
    rows = np.arange(1024, 1500)
    assert (lake.space("wiki", "base", 0).rows(rows) != values[rows]).any()
    for direct in (False, True):
        checked = open_lake(tmp_path / "lake", verified=True, direct=direct)
        with pytest.raises(LakeCorrupt, match="resid/0/c/1/0 is damaged"):
            checked.space("wiki", "base", 0).rows(rows)
        assert (checked.space("wiki", "base", 0).rows(rows - 1024) == values[rows - 1024]).all()


def test_tables_keep_text_and_numbers(lake):
    columns = {
        "text": np.array(["", "ü\n", "x" * 5000], dtype=np.dtypes.StringDType()),
        "part/numbers": np.arange(300_000, dtype=np.int64),
        "none": np.zeros(0, np.int32),
        "grid": np.linspace(0, 1, 12).reshape(3, 4),
        "flag": np.array([True, False]),
    }
    assert lake.add_table("results/rsa/x", columns, {"fingerprint": "1"})
    assert not lake.add_table("results/rsa/x", columns, {"fingerprint": "1"})
    read, attributes = lake.table("results/rsa/x")
    assert attributes["complete"]
    for name, array in columns.items():
        assert read[name].tolist() == array.tolist()
        assert read[name].dtype.kind == array.dtype.kind
    with pytest.raises(NameConflict, match="taken by other content"):
        lake.add_table("results/rsa/x", columns, {"fingerprint": "2"})


def test_opening_what_is_no_lake(tmp_path):
    with pytest.raises(LakeNotFound, match="layerlake extract"):
        open_lake(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    for mode in ("r", "a"):
        with pytest.raises(NotALake, match="is a folder, but no lake"):
            open_lake(tmp_path / "folder", mode)
    with pytest.raises(NotALake, match="is a file"):
        open_lake(tmp_path / "folder" / "thesis.txt", "a")
    assert [entry.name for entry in (tmp_path / "folder").iterdir()] == ["thesis.txt"]
    with pytest.raises(InvalidInput, match="s3:// are not served"):
        open_lake("s3://bucket/lake")


def test_nothing_lies_on_disk_before_the_first_table(tmp_path):
    lake = open_lake(tmp_path / "lake", "a")
    assert lake.corpora() == lake.variants() == lake.sets() == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LakeNotFound):
        open_lake(tmp_path / "lake", "r+")
    lake.add_table("corpora/x", {}, {"fingerprint": "1"})
    assert open_lake(tmp_path / "lake", "r+").corpora() == ["x"]


def test_a_newer_format_is_refused(tmp_path):
    open_lake(tmp_path / "lake", "a").add_table("corpora/x", {}, {"fingerprint": "1"})
    root = tmp_path / "lake" / "zarr.json"
    root.write_text(root.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(FormatTooNew, match="format version 9"):
        open_lake(tmp_path / "lake")


def test_a_lake_opened_for_reading_is_not_written(lake):
    with pytest.raises(LakeReadOnly, match="opened for reading"):
        Lake(lake.location, "r").add_table("corpora/x", {}, {"fingerprint": "1"})


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "zarr.json", "a b", "ä"])
def test_names_cannot_leave_the_lake(name):
    with pytest.raises(InvalidInput, match="cannot name a variant"):
        schema.check_name(name, "variant")
