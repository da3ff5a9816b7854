"""`layerlake import`, and `--rows` of `extract`, from the command line to the comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.similarity.comparing.compare import rsa
from layerlake.cli.main import main
from layerlake.store.lake import Lake, open_lake
from layerlake.store.stored_space import load_rows
from layerlake.store.verify import verify

pytest.importorskip("torch")
h5py = pytest.importorskip("h5py", reason="the hdf5 extra is not installed")

LINES = [
    f"{number}\t{word}\t_\t{tag}\t_\t_\t{0 if number == 1 else 1}\tdep\t_\t_"
    for number, (word, tag) in enumerate(
        [("Gulls", "NOUN"), ("wouldn't", "VERB"), ("eat", "VERB"), ("breadcrumbs", "NOUN")], 1
    )
]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """A function that runs a line on one lake, and returns its JSON, or what it refused."""

    def line(*words: str | Path, code: int = 0) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "--lake", str(tmp_path / "lake"), "--json"])
        out = capsys.readouterr()
        assert ended.value.code == code, out.err
        return json.loads(out.out) if code == 0 else out.err

    return line


@pytest.fixture
def lake(run: Callable[..., Any], small_bert: Path, tmp_path: Path) -> Lake:
    """Words of forty sentences under two variants, in float32."""
    text = tmp_path / "shore.conllu"
    blocks = []
    for number in range(40):
        shown = LINES[: 2 + number % 3]
        shown = [line.replace("Gulls", f"Gull{number}") for line in shown]
        blocks.append("\n".join([f"# sent_id = s{number}", *shown]))
    text.write_text("\n\n".join(blocks) + "\n\n")
    words = ["--unit", "word", "--store-dtype", "float32"]
    run("extract", small_bert, text, "--as", "base", *words)
    run("extract", small_bert, "shore", "--as", "random", "--randomize", "1", *words)
    return open_lake(tmp_path / "lake")


def records(result: Any) -> dict[tuple[str, int], float]:
    """Return the overall correlation of every variant and layer."""
    return {(r["variant"], r["layer"]): r["value"] for r in result if r["measure"] == "r_all"}


def test_what_is_imported_is_what_was_extracted(
    run: Callable[..., Any], lake: Lake, tmp_path: Path
) -> None:
    layers = [lake.space("shore", "random", layer).rows(slice(None)) for layer in range(4)]
    rows = load_rows(
        lake.location, "shore", lake.sets("shore", "random")[0].plan.contents["row_set"]
    )
    bounds = np.searchsorted(rows.row_example, np.arange(1, 40))
    np.save(tmp_path / "cube.npy", np.stack(layers))
    np.save(tmp_path / "layer2.npy", layers[2])
    with h5py.File(tmp_path / "words.hdf5", "w") as file:
        for number, part in enumerate(np.split(np.stack(layers), bounds, axis=1)):
            file.create_dataset(str(number), data=part)
    from safetensors.numpy import save_file

    save_file({f"layer_{n}": layer for n, layer in enumerate(layers)}, tmp_path / "all.safetensors")
    common = ["--corpus", "shore", "--pooling", "mean"]
    words = [*common, "--unit", "word"]
    lines = {
        "npy": ["cube.npy", "--first-layer", "0", *words],
        "one": ["layer2.npy", "--layer", "2", *words],
        "tensors": ["all.safetensors", "--first-layer", "0", *words],
        "hdf5": ["words.hdf5", "--first-layer", "0", *common],
    }
    for variant, (file, *options) in lines.items():
        line = ["import", tmp_path / file, "--as", variant, *options]
        dry = run(*line, "--dry-run")
        assert (dry["path"], dry["n_rows"], dry["n_read"]) == (None, rows.n_rows, 0)
        done = run(*line)
        assert (done["n_read"], done["unit"], done["dtype"]) == (rows.n_rows, "word", "float32")
        assert run(*line)["n_read"] == 0
        for array in done["arrays"]:
            layer = int(array.rpartition("/")[2])
            held = lake.space("shore", variant, layer, sealed=True).rows(slice(None))
            assert held.tobytes() == layers[layer].tobytes()
    assert verify(lake).findings == ()
    # Against what it was made of all is one, and against another the same numbers come out.
    result = run("rsa", "--corpus", "shore", "--reference", "random", "--variant", "npy",
                 "--variant", "one", "--variant", "tensors", "--variant", "hdf5")  # fmt: skip
    values = records(result["records"])
    assert set(values.values()) == {1.0}
    assert len(values) == 3 * 4 + 1
    against = records(rsa(lake, reference="base", variants=["random", "hdf5"]).records)
    for layer in range(4):
        assert against["random", layer] == against["hdf5", layer]
        x = lake.space("shore", "base", layer).rows(slice(None)).astype("float64")
        y = layers[layer].astype("float64")
        kernels = [k / np.linalg.norm(k, axis=1, keepdims=True) for k in (x, y)]
        upper = np.triu_indices(len(x), 1)
        expected = np.corrcoef(*((k @ k.T)[upper] for k in kernels))[0, 1]
        assert against["hdf5", layer] == pytest.approx(expected, abs=1e-9)


def test_bare_rows_go_all_the_way(run: Callable[..., Any], tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((300, 8)).astype("float32")
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", values @ np.linalg.qr(values[:8])[0])
    (tmp_path / "ids.txt").write_text("".join(f"image {number}\n" for number in range(300)))
    for name in ("a", "b"):
        run("import", tmp_path / f"{name}.npy", "--corpus", "images", "--as", name,
            "--layer", "1", "--ids", tmp_path / "ids.txt")  # fmt: skip
    found = run("rsa", "--reference", "a")  # whole examples, which need not be said
    assert found["settings"]["unit"] == "example"
    assert records(found["records"])["b", 1] == pytest.approx(1, abs=1e-7)  # turned, in float32
    listed = {r["path"]: r["what"] for r in run("ls")["records"]}
    assert listed["corpora/images"] == "300 examples, 300 words"
    assert listed["variants/a"] == "brought from elsewhere, layers 1 of 8"
    assert listed["variants/b"] == "brought from elsewhere, layers 1 of 8"  # no twins
    assert "300 example rows (all), 1 layers, float32" in str(listed)
    assert run("info", "variants/a")["source"] == "brought"
    assert run("verify")["findings"] == []
    run("rm", "activations/images/a")
    run("rm", "variants/a")


def test_arrays_without_ids_become_a_corpus_of_bare_rows(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 8)).astype("float32") + 1
    y = np.tanh(x @ rng.standard_normal((8, 5))).astype("float32")  # of another width
    for name, values in (("x", x), ("y", y), ("short", x[:200])):
        np.save(tmp_path / f"{name}.npy", values)

    def bring(name: str, *more: str, code: int = 0) -> Any:
        file = tmp_path / f"{name}.npy"
        return run("import", file, "--corpus", "images", "--as", name, "--layer", "8", *more,
                   code=code)  # fmt: skip

    dry = bring("x", "--dry-run")
    assert (dry["made_corpus"], dry["path"], dry["n_rows"]) == ("images", None, 300)
    done = bring("x")
    assert (done["made_corpus"], done["unit"], done["n_read"]) == ("images", "example", 300)
    again = bring("x")
    assert (again["made_corpus"], again["path"], again["n_read"]) == (None, done["path"], 0)
    assert bring("y")["made_corpus"] is None
    assert "has 200 rows, and there are 300 examples of images" in bring("short", code=1)
    assert "no corpus 'photos'" in run(
        "import", tmp_path / "x.npy", "--corpus", "photos", "--as", "x", "--layer", "8",
        "--unit", "example", code=1)  # fmt: skip
    listed = {r["path"]: r["what"] for r in run("ls")["records"]}
    assert listed["corpora/images"] == "300 bare rows"
    assert "there are x, y; choose one with --reference" in run("rsa", code=1)
    # Every row is its own example, and intervals are over rows.
    kernels = [k / np.linalg.norm(k, axis=1, keepdims=True) for k in (x, y)]
    upper = np.triu_indices(300, 1)
    expected = np.corrcoef(*((k.astype("float64") @ k.T)[upper] for k in kernels))[0, 1]
    for interval in ("cluster", "rows"):
        found = run("rsa", "--reference", "x", "--interval", interval)["records"]
        assert records(found) == {("y", 8): pytest.approx(expected, abs=1e-6)}
        assert {(r["n"], r["n_clusters"]) for r in found} == {(300, 300)}
        assert all(r["low"] < r["value"] < r["high"] for r in found)
        assert found[0]["value"] == pytest.approx(found[1]["value"], abs=1e-12)
    found = run("compare", "--measure", "cka,mutual-knn", "--reference", "x")["records"]
    assert [r["measure"] for r in found] == ["cka", "mutual-knn"]
    centred = [k.astype("float64") - k.mean(axis=0, dtype="float64") for k in (x, y)]
    (xx, yy, xy) = (np.linalg.norm(a.T @ b) for a, b in
                    [(centred[0],) * 2, (centred[1],) * 2, centred])  # fmt: skip
    assert found[0]["value"] == pytest.approx(xy**2 / (xx * yy), abs=1e-6)
    assert all(r["low"] < r["value"] < r["high"] for r in found)
    numbers = {(r["variant"], r["measure"]): r for r in run("profile")["records"]}
    for name, values in (("x", x), ("y", y)):
        mean = np.linalg.norm(values.astype("float64"), axis=1).mean()
        assert numbers[name, "norm-mean"]["value"] == pytest.approx(mean, rel=1e-12)
        assert numbers[name, "anisotropy"]["low"] is not None
        assert numbers[name, "anisotropy"]["n_clusters"] == 300
    assert run("verify")["findings"] == []
    bring("y", "--ids", str(tmp_path / "no.txt"), code=1)


def test_an_import_is_refused_in_one_sentence(
    run: Callable[..., Any], lake: Lake, small_bert: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 4), "float32"))
    start = ["import", tmp_path / "a.npy", "--corpus", "shore"]
    for options, said in [
        (["--as", "x", "--unit", "example", "--layer", "0"], "has 5 rows, and there are 40 exam"),
        (["--as", "x", "--unit", "word", "--layer", "0"], "nothing says how the rows of words"),
        (["--as", "x", "--layer", "0"], "nothing says what a row is"),
        (["--as", "x", "--layer", "0", "--map", "y"], "--map 'y' cannot be read"),
        (["--as", "x", "--layer", "0", "--ids", tmp_path / "a.npy"], "is not UTF-8"),
        (["--as", "a/b", "--layer", "0"], "'a/b' cannot name a variant"),
    ]:
        error = run(*start, *options, code=1)
        assert said in error
        assert error.count("\n") == 1
    (tmp_path / "ids.txt").write_text("".join(f"s{number}\n" for number in range(40)))
    np.save(tmp_path / "a.npy", np.zeros((40, 4), "float32"))
    line = [*start, "--layer", "0", "--ids", tmp_path / "ids.txt"]
    assert "'base' is that of a model" in run(*line, "--as", "base", code=1)
    run(*line, "--as", "mine")
    error = run("extract", small_bert, "shore", "--as", "mine", code=1)
    assert "'mine' holds activations that were brought from elsewhere" in error


def test_rows_of_an_extraction(run: Callable[..., Any], lake: Lake, small_bert: Path) -> None:
    for rows, kept in [
        ("last", 40),
        ("cls", 40),
        ("where upos=NOUN and position=1", None),
        ("where upos=VERB|NOUN;cap:2@1;sample:30 by upos", 30),
    ]:
        done = run("extract", small_bert, "shore", "--as", "base", "--rows", rows)
        (state,) = [s for s in lake.sets("shore", "base") if s.plan.path == done["path"]]
        found = load_rows(lake.location, "shore", state.plan.contents["row_set"])
        assert kept in (None, found.n_rows)
        # Full context is run: the rows are those of the set that holds all pieces.
        run("extract", small_bert, "shore", "--as", "base")
        some = lake.space_of(state, "resid", 3).rows(slice(None)).astype("float32")
        every = lake.space("shore", "base", 3, unit="piece").rows(found.row_id)
        np.testing.assert_allclose(some, every, atol=2e-3)
    written = "where upos=NOUN|VERB; cap:2@1; sample:30@0 by upos"
    assert state.plan.contents["rows"] == written
    about = run("info", f"corpora/shore/rows/{found.fingerprint[:12]}")
    assert about["settings"]["steps"][2]["strata"]["NOUN"]["rows"] >= 2
    # Another way to write the same is the same set.
    again = run("extract", small_bert, "shore", "--as", "base", "--rows", written)
    assert (again["path"], again["n_computed"]) == (done["path"], 0)
    error = run("extract", small_bert, "shore", "--rows", "where upos=NUON", code=1)
    assert "near it: NOUN" in error
    assert error.count("\n") == 1
