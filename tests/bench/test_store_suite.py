"""The store suite at toy size: every reader gives the same bits, ratios follow from the records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerlake.bench import store as suite
from layerlake.cli.main import main
from layerlake.store.errors import InvalidInput

for package in ("tensorstore", "zarrs", "h5py", "safetensors", "torch"):
    pytest.importorskip(package)

READERS = ("layerlake", "layerlake, opened", "layerlake, verified")
STREAMS = ("layerlake, blocks", "layerlake, examples")
WORDS = (
    *("layerlake, word set in float32", "layerlake, word set"),
    *("layerlake, pooled", "layerlake, pooled (first)"),
    *("layerlake, piece set in float32", "numpy, by hand"),
)
FILES = ("safetensors", "h5py", "h5py, chunked")
ZARR = ("zarr-python", "zarrs", "tensorstore")
PEERS = ("numpy", *FILES, *ZARR)


def test_every_method_of_every_operation_is_measured(tmp_path: Path) -> None:
    result = suite.run(3000, 16, scattered=100, repeats=2, window_rows=1024, folder=tmp_path)
    found = {(r["operation"], r["codec"], r["method"]): r for r in result.records}
    methods = {
        "write": ("numpy, fsync", "layerlake", *PEERS),
        "read layer": ("numpy, mapped", *READERS, *PEERS),
        "scattered rows": READERS + PEERS,
        "shuffled examples": ("numpy", *STREAMS),
        "layer of words": WORDS,
        "scattered words": WORDS,
    }
    assert set(found) == {
        (operation, codec, name)
        for operation, names in methods.items()
        for codec in ("none", "lz4")
        for name in names
    }
    for (operation, codec, name), record in found.items():
        baseline = found[operation, codec, record["baseline"]]
        ratio = baseline["wall_seconds"] / record["wall_seconds"]
        assert record["ratio"] == pytest.approx(ratio)
        if name.startswith(("numpy", *FILES)):
            assert record["bytes_per_value"] == pytest.approx(2, rel=0.2)
    for (operation, _, name), record in found.items():
        assert (record["peak_mib"] is None) == (operation != "layer of words")
        said = operation == "layer of words" and name != "numpy, by hand"
        assert (record["stated_mib"] is None) != said
        if operation in ("layer of words", "scattered words"):
            assert record["baseline"] == "layerlake, word set in float32"
    # The last chunk of 1024 rows is filled up, and every shard has an index.
    plain = found["write", "none", "layerlake"]["bytes_per_value"]
    assert plain == pytest.approx(2 * 3 * 1024 / 3000, abs=0.04)
    assert found["write", "lz4", "layerlake"]["bytes_per_value"] < plain
    assert list(tmp_path.iterdir()) == []


def test_other_bits_are_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    real = suite._Copies.rows_of_tensorstore
    monkeypatch.setattr(
        suite._Copies, "rows_of_tensorstore", lambda self, *of: -real(self, *of), raising=True
    )
    with pytest.raises(RuntimeError, match="read layer, none: tensorstore gives other bits"):
        suite.run(2000, 8, scattered=10, repeats=1, window_rows=1024)


def test_too_many_rows_and_missing_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="11 scattered rows asked of 10"):
        suite.run(10, 8, scattered=11)
    real = suite.importlib.util.find_spec
    monkeypatch.setattr(
        suite.importlib.util, "find_spec", lambda n, *of: None if n in suite.PEERS else real(n, *of)
    )
    result = suite.run(2000, 8, scattered=10, repeats=1, window_rows=1024, codecs=("none",))
    assert set(result.settings["skipped"]) == {"safetensors", "h5py", "zarrs", "tensorstore"}
    assert "skipped h5py: not installed (pip install 'layerlake[hdf5]')" in result.table()
    assert {r["method"] for r in result.records} == {
        "numpy",
        "numpy, fsync",
        "numpy, mapped",
        "zarr-python",
        *READERS,
        *STREAMS,
        *WORDS,
    }


def test_the_command_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["bench", "store", "--rows", "2000", "--hidden", "8", "--scattered", "50"]
    line += ["--seed", "3", "--codec", "none", "--dtype", "float32", "--window-rows", "1024"]
    with pytest.raises(SystemExit, match="0"):
        main([*line, "--repeats", "1", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["suite"] == "store"
    assert printed["settings"]["seed"] == 3
    assert printed["settings"]["dtype"] == "float32"
    assert {record["codec"] for record in printed["records"]} == {"none"}
    assert printed["settings"]["page_cache"] == "warm"
