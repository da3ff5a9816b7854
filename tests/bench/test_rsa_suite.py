"""The suites rsa and similarity at toy size: who takes part, what is recorded, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from layerlake.bench import measured_process, processes, rsa, similarity
from layerlake.bench.figures import draw
from layerlake.bench.measuring import BenchResult
from layerlake.bench.processes import Method, Processes, taken_by
from layerlake.bench.suites import Conditions, RsaSuite, SimilaritySuite
from layerlake.bench.workloads import OURS, PRODUCTS
from layerlake.cli.main import main
from layerlake.store.errors import InvalidInput, MissingExtra

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def grown(peer_python: str, tmp_path_factory: pytest.TempPathFactory) -> BenchResult:
    folder = tmp_path_factory.mktemp("rsa")
    conditions = Conditions(
        hidden=16,
        repeats=2,
        memory="1GiB",
        rsatoolbox=peer_python,
        thingsvision=peer_python,
        folder=folder,
    )
    result = rsa.run(RsaSuite((400,), (600, 1500), star=3), conditions, window_rows=1024)
    assert list(folder.iterdir()) == []
    return result


def test_all_take_part_in_rsa_and_agree(grown: BenchResult) -> None:
    found = {(r["workload"], r["n_rows"], r["method"]): r for r in grown.records}
    dense = {"torch, features", "torch, dense", "numpy, dense", "rsatoolbox", "thingsvision"}
    own = {OURS, rsa.JACKKNIFE}
    assert {key[2] for key in found if key[0] == "one pair"} == {
        *own,
        *dense,
        PRODUCTS,
        "scipy pdist",
    }
    assert {key[2] for key in found if key[0] == "star"} == {*own, *dense, PRODUCTS}
    assert {key[1:] for key in found if key[0] == "growth"} == {
        (n, name) for n in (600, 1500) for name in (*own, "torch, features")
    }
    for (workload, n, name), record in found.items():
        assert record["spaces"] == (4 if workload == "star" else 2)
        assert record["runs"] == 2
        assert not record["scaled"]
        base = found[workload, n, OURS]
        assert record["ahead"] == pytest.approx(record["cpu_seconds"] / base["cpu_seconds"])
        if name == PRODUCTS:
            assert record["value"] is record["error"] is None
        else:
            assert record["error"] < (1e-8 if name in own else 1e-3)
            assert record["value"] == pytest.approx(base["value"], abs=1e-3)
    assert found["one pair", 400, OURS]["of_peak"] > 0
    assert found["one pair", 400, "numpy, dense"]["of_peak"] is None
    assert grown.about["rsatoolbox"] == grown.about["thingsvision"] == "9.8"
    assert grown.settings["gemm_gigaflops"] > 0


def test_time_and_memory_are_drawn_against_rows(grown: BenchResult, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "rsa.svg"
    draw(grown, file)
    drawn = file.read_text()
    assert "CPU time (s)" in drawn
    for record in grown.records:
        labelled = f"{record['method']} ({record['workload']})" in drawn
        assert labelled == (record["workload"] != "star")


def test_figures_go_where_they_can(grown: BenchResult, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'rsa\.txt' does not name a figure"):
        draw(grown, tmp_path / "rsa.txt")
    nothing = BenchResult("rsa", {}, {}, ())
    with pytest.raises(InvalidInput, match="nothing was measured"):
        draw(nothing, tmp_path / "rsa.png")


def test_all_take_part_in_similarity_and_agree(peer_python: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    suite = SimilaritySuite(
        300, (3, 4), all_pairs_rows=200, neighbours=5, resamples=100, resamples_run=2
    )
    conditions = Conditions(hidden=16, repeats=1, rsatoolbox=peer_python, folder=tmp_path)
    result = similarity.run(suite, conditions)
    taken: dict[tuple[str, int], set[str]] = {}
    for record in result.records:
        taken.setdefault((record["workload"], record["spaces"]), set()).add(record["method"])
        assert record["ahead"] > 0
        within = 1e-4 if record["method"] == OURS else 2e-2
        if (record["workload"], record["method"]) != ("kendall", "rsatoolbox"):  # a stand-in
            assert record["error"] < within, record
        others = record["method"] in ("numpy, dense", "rsatoolbox")
        assert record["scaled"] == (record["workload"] == "bootstrap" and others)
    assert taken == {
        ("all-pairs", 3): {OURS, "torch, dense", "numpy, dense", "rsatoolbox"},
        ("all-pairs", 4): {OURS, "torch, dense", "numpy, dense", "rsatoolbox"},
        ("spearman", 2): {OURS, "thingsvision's formulas", "ReSi's formula", "rsatoolbox"},
        ("kendall", 2): {OURS, "scipy", "rsatoolbox"},
        ("cka", 2): {OURS, "ReSi's formula"},
        ("debiased-cka", 2): {OURS, "platonic-rep's formula", "numpy, dense"},
        ("mutual-knn", 2): {OURS, "platonic-rep's formula", "torch topk"},
        ("bootstrap", 2): {OURS, "numpy, dense", "rsatoolbox"},
    }
    assert "its formulas are re-stated" in result.settings["skipped"]["thingsvision"]
    draw(result, tmp_path / "similarity.png")
    assert (tmp_path / "similarity.png").stat().st_size > 10_000


def test_the_commands_print_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ["--no-peers", "--hidden", "8", "--repeats", "1", "--json"]
    with pytest.raises(SystemExit, match="0"):
        main(["bench", "rsa", "--workload", "pair", "--rows", "100", *few])
    printed = json.loads(capsys.readouterr().out)
    assert printed["suite"] == "rsa"
    assert [r["method"] for r in printed["records"]] == [OURS, rsa.JACKKNIFE, PRODUCTS]
    asked: list[object] = []

    def run(*values: object) -> BenchResult:
        asked.extend(values)
        return BenchResult("similarity", {}, {}, ({"workload": "cka"},))

    monkeypatch.setattr(similarity, "run", run)
    with pytest.raises(SystemExit, match="0"):
        main(["bench", "similarity", "--workload", "cka", "--workload", "bootstrap", *few])
    assert json.loads(capsys.readouterr().out)["records"] == [{"workload": "cka"}]
    assert asked == [
        SimilaritySuite(workloads=("cka", "bootstrap")),
        Conditions(hidden=8, repeats=1, peers=False),
    ]


def test_what_cannot_be_measured_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidInput, match="no workload pairs; choose among pair, star, growth"):
        RsaSuite(workloads=("pairs",))
    with pytest.raises(InvalidInput, match="no workload rsa; choose among all-pairs, spearman"):
        SimilaritySuite(workloads=("rsa",))
    with pytest.raises(InvalidInput, match="run 5 of 4 resamples; give 1 to 4"):
        SimilaritySuite(resamples=4)
    with pytest.raises(InvalidInput, match="give the Python that rsatoolbox is installed for"):
        rsa.run(RsaSuite(), Conditions(rsatoolbox=str(tmp_path / "nobody")))
    with pytest.raises(InvalidInput, match=r"thingsvision is not installed for .*install it"):
        rsa.run(RsaSuite(), Conditions(thingsvision=sys.executable))
    with pytest.raises((InvalidInput, MissingExtra), match=r"CuPy|CUDA devices are present"):
        rsa.run(RsaSuite(), Conditions(device="cuda:99"))
    with pytest.raises(SystemExit, match="1"):
        main(["bench", "rsa", "--plot", str(tmp_path / "figure.txt")])
    assert "does not name a figure" in capsys.readouterr().err


_FILE = """
import os, time
import numpy as np

def first(spaces, options, clock):
    print("nobody reads this")
    return [float(rows.sum()) for rows in spaces]

def slow(spaces, options, clock):
    with clock.times(1e6):
        time.sleep(options["sleep"])
    return 1.0

def large(spaces, options, clock):
    held = np.ones(options["bytes"] // 8)
    return float(held[-1])

def maps(spaces, options, clock):
    mapped = np.memmap(options["file"], dtype=np.uint8, mode="r")
    held = np.ones(12 * 2**20 // 8)
    found = float(mapped[::4096].sum())
    time.sleep(0.1)  # somebody looks now and then
    return found + held[-1]

def ends(spaces, options, clock):
    os._exit(7)
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "methods.py"
    path.write_text(_FILE)
    return str(path)


def test_methods_run_in_processes_that_measure_them(file: str, tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.save(tmp_path / "rows.npy", rows)
    methods = [
        Method("first", file, "first"),
        Method("slow", file, "slow", {"sleep": 0.01}),
        # So small that what is freed stays with the process, unless it is made to return it.
        Method("large", file, "large", {"bytes": 12 * 2**20}),
    ]
    with Processes(1) as started:
        peaks = [started.run(methods[2], [], 5)["peak_bytes"] for _ in range(3)]
        taken = taken_by(started, methods, [tmp_path / "rows.npy"], 5, 3)
    assert taken["first"].values == [rows[:5].sum()]
    assert taken["slow"].runs == 1  # it took long
    assert taken["slow"].wall_seconds > processes.LONG_SECONDS
    assert taken["slow"].scaled
    assert taken["first"].runs == taken["large"].runs == 3
    if measured_process._start_peak() is not None:
        assert [*peaks, taken["large"].peak_bytes] == pytest.approx([12 * 2**20] * 4, rel=0.1)
        assert (taken["first"].peak_bytes or 0) < 2 * 2**20


def test_pages_of_mapped_files_are_counted_apart(file: str, tmp_path: Path) -> None:
    if measured_process._start_peak() is None:
        pytest.skip("the system does not say what is resident")
    mapped = tmp_path / "mapped"
    mapped.write_bytes(bytes(48 * 2**20))
    with Processes(1) as started:
        reply = started.run(Method("maps", file, "maps", {"file": str(mapped)}), [], 5)
    assert reply["mapped_bytes"] == pytest.approx(48 * 2**20, rel=0.1)
    assert reply["peak_bytes"] == pytest.approx(12 * 2**20, rel=0.1)


def test_a_process_that_fails_is_named(file: str) -> None:
    with Processes(1) as started:
        with pytest.raises(InvalidInput, match=r"nothing does not run with .*AttributeError"):
            started.run(Method("nothing", file, "nothing"), [], 5)
        with pytest.raises(InvalidInput, match="process of ends ended with code 7; it may have"):
            started.run(Method("ends", file, "ends"), [], 5)
        with pytest.raises(InvalidInput, match="nobody cannot be run"):
            started.run(Method("first", file, "first", python="/nobody"), [], 5)
