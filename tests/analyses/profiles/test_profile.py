"""Profiles from a lake equal plain numpy on the same rows; what cannot be profiled is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import layerlake
from layerlake.analyses.profiles.profile import profile
from layerlake.analyses.results.measures import number_text
from layerlake.analyses.results.profile import PROFILE_FIELDS, ProfileResult
from layerlake.analyses.results.profile_measures import MEASURES as PROFILE_MEASURES
from layerlake.cli.main import main
from layerlake.engine.progress import to_function
from layerlake.engine.rows.seeded_draw import draw
from layerlake.store.errors import InvalidInput, MemoryRefused, NameNotFound
from layerlake.store.lake import open_lake
from layerlake.store.verify import verify
from layerlake.store.writer import SetWriter

INTERVALS = ("anisotropy", "norm-mean")
"""What has one."""


def textbook(rows):
    """Return all numbers of a profile, in float64 from the definitions."""
    x = rows.astype("float64")
    lengths = np.linalg.norm(x, axis=1)
    unit = x / lengths[:, None]
    variances = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    shares = variances / variances.sum()
    held = np.cumsum(shares)
    quartiles = np.quantile(lengths, [0.25, 0.5, 0.75])
    return {
        "anisotropy": (unit @ unit.T)[np.triu_indices(len(x), 1)].mean(),
        "participation-ratio": 1 / np.sum(shares**2),
        "effective-rank": np.exp(-np.sum(shares * np.log(shares))),
        **{f"dimensions-{k}": np.argmax(held >= k / 100) + 1 for k in (50, 90, 99)},
        "variance": np.trace(np.cov(x.T)),
        "mean-length": np.linalg.norm(x.mean(axis=0)),
        "norm-mean": lengths.mean(),
        "norm-sd": lengths.std(ddof=1),
        "norm-min": lengths.min(),
        **dict(zip(("norm-q1", "norm-median", "norm-q3"), quartiles, strict=True)),
        "norm-max": lengths.max(),
    }


def test_equals_numpy_on_the_same_rows(lake):
    opened, spaces, special = lake
    result = profile(opened, variants=["base", "near"], rows=400, seed=3)
    eligible = np.flatnonzero(~special)
    index = eligible[draw(eligible, 400, 3)]
    assert len(result.records) == 2 * 2 * len(PROFILE_MEASURES)
    for name in ("base", "near"):
        for layer in (0, 1):
            expected = textbook(spaces[name][layer][index])
            own = [r for r in result.records if (r["variant"], r["layer"]) == (name, layer)]
            assert [r["measure"] for r in own] == list(PROFILE_MEASURES)
            for record in own:
                off = record["bound"] or 1e-9 * abs(expected[record["measure"]])
                assert record["value"] == pytest.approx(expected[record["measure"]], abs=off)
                assert (record["low"] is None) == (record["measure"] not in INTERVALS)
                if record["low"] is not None:
                    assert record["low"] < record["value"] < record["high"]
            (counted,) = {(r["n"], r["n_clusters"], r["n_without_direction"]) for r in own}
            assert counted == (400, len(np.unique(index // 6)), 0)
            variances = np.linalg.eigvalsh(np.cov(spaces[name][layer][index].T))[::-1]
            spectrum = result.to_spectrum().sel(variant=name, layer=layer)
            np.testing.assert_allclose(spectrum["variance"], variances, rtol=1e-5)
            assert float(spectrum["cumulative"][-1]) == pytest.approx(1)
            assert spectrum["axis"].to_numpy().tolist() == list(range(1, 17))


def test_pieces_of_other_tokenizers_are_drawn_apart_and_named(lake):
    opened, spaces, special = lake
    kin = profile(opened, rows="all", interval="none")
    assert kin.labels("variant") == ["base", "near"]
    assert kin.notes == (
        (
            "foreign: left out, having another tokenizer or packing than base; words are the same rows: "
            "layerlake profile --unit word"
        ),
    )
    result = profile(opened, rows="all", interval="none", unit="piece")
    assert result.labels("variant") == ["base", "foreign", "near"]
    assert [r for r in result.records if r["variant"] != "foreign"] == list(kin.records)
    (note,) = result.notes
    assert note.startswith("foreign: cut by another tokenizer than base")
    found = {(r["variant"], r["layer"], r["measure"]): r for r in result.records}
    for name in ("base", "foreign"):
        expected = textbook(spaces[name][1][~special])
        record = found[name, 1, "anisotropy"]
        assert record["value"] == pytest.approx(expected["anisotropy"], abs=1e-12)
        assert record["low"] is None
    assert found["near", 1, "norm-mean"]["value"] == found["foreign", 1, "norm-mean"]["value"]


def test_rows_without_direction_and_constant_spaces(lake):
    opened, spaces, _special = lake
    (state,) = opened.sets("wiki", "near")
    values = {"resid/0": spaces["near"][0].copy(), "resid/1": np.ones((600, 16), "float32")}
    values["resid/0"][[31, 77]] = 0
    plan = dataclasses.replace(state.plan, variant="odd")
    with SetWriter(opened.location, plan) as writer:
        writer.write_window(0, values)
        writer.seal()
    result = profile(opened, variants="odd", rows="all")
    found = {(r["layer"], r["measure"]): r for r in result.records}
    assert found[0, "anisotropy"]["n_without_direction"] == 2
    assert found[0, "norm-min"]["value"] == 0
    assert found[0, "norm-min"]["n"] == 500
    for name in ("participation-ratio", "effective-rank", "dimensions-90"):
        assert found[1, name]["value"] is None
    assert found[1, "variance"]["value"] == 0
    assert found[1, "anisotropy"]["value"] == pytest.approx(1)
    assert "odd, layer 1: all rows are the same, so there is no variance" in result.notes[0]
    assert "-" in result.table().splitlines()[4]
    assert np.isnan(result.to_spectrum()["share"].sel(layer=1)).all()
    assert (result.to_spectrum()["variance"].sel(layer=1) == 0).all()


def test_the_same_question_is_answered_from_the_lake(lake):
    opened = lake[0]
    seen = []
    asked = {"variants": ["near"], "rows": 300, "progress": to_function(seen.append)}
    first = profile(opened, **asked)
    assert (seen[-1].done, seen[-1].total, seen[-1].state) == (600, 600, "finished")
    (kept,) = opened.location.nodes("results/profile")
    assert verify(opened, f"results/profile/{kept}").findings == ()
    seen.clear()
    second = profile(opened, **asked)
    assert seen == []
    assert second == first
    assert second.spectra.keys() == first.spectra.keys()
    for name, own in first.spectra.items():
        np.testing.assert_array_equal(second.spectra[name], own)
    profile(opened, **asked, fresh=True)
    profile(opened, **{**asked, "confidence": 0.9})
    assert seen
    assert len(opened.location.nodes("results/profile")) == 2
    for_reading = open_lake(opened.location.name)
    assert "was not kept" in profile(for_reading, variants="base", rows=100).notes[-1]


def test_tables_arrays_and_files(lake, tmp_path):
    result = profile(lake[0], variants=["base", "near"], rows=300)
    one, other = result.table().split("\n\n")
    assert one.splitlines()[0] == "wiki, resid: base"
    assert other.splitlines()[1].startswith("layer  |  anisotropy")
    found = {(r["variant"], r["layer"], r["measure"]): r for r in result.records}
    record = found["near", 1, "anisotropy"]
    text = f"    1  |  {record['value']:.3f} [{record['low']:.3f}, {record['high']:.3f}]  |  "
    assert text in re.sub("] +", "]  ", other)
    assert f"  |  {found['near', 1, 'dimensions-90']['value']:.0f}  " in other
    flat = profile(lake[0], variants=["base", "near"], rows=300, layers=1)
    assert [line[:7] for line in flat.table().splitlines()[1:5]] == [
        "variant", "-------", "base   ", "near   "
    ]  # fmt: skip
    html = result._repr_html_()
    assert html.count("<table>") == 2
    assert "<th>participation-ratio</th>" in html
    assert f"<small>[{record['low']:.3f}, {record['high']:.3f}]</small>" in html
    assert repr(result) == "\n".join([result.table(), *(f"note: {n}" for n in result.notes)])
    dataset = result.to_xarray()
    assert dict(dataset.sizes) == {"variant": 2, "layer": 2, "measure": len(PROFILE_MEASURES)}
    at = {"variant": "near", "layer": 1, "measure": "anisotropy"}
    assert float(dataset["low"].sel(at)) == record["low"]
    lines = list(csv.DictReader(result.to_csv().splitlines()))
    assert list(lines[0]) == list(PROFILE_FIELDS)
    assert len(lines) == len(result.records)
    assert json.loads(result.to_json())["records"] == list(result.records)
    figure = result.plot()
    assert len(figure.axes) == 4
    assert figure.axes[0].get_ylabel() == "anisotropy (mean cosine)"
    line = figure.axes[0].lines[1]
    assert line.get_label() == "near"
    assert line.get_ydata()[1] == record["value"]
    assert figure.get_suptitle().startswith("Profile, corpus wiki\n300 tokens of 99 examples;")
    result.plot("norm-sd", file=tmp_path / "sd.svg")
    assert (tmp_path / "sd.svg").stat().st_size > 1000
    with pytest.raises(InvalidInput, match="nothing to draw of r_all; the result holds anis"):
        result.plot("r_all")


def test_pandas_holds_the_records(lake):
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = profile(lake[0], variants="base", rows=50).to_pandas()
    assert list(frame.columns) == list(PROFILE_FIELDS)
    assert frame["variant"].tolist() == ["base"] * 2 * len(PROFILE_MEASURES)


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        ("anisotropy", -1e-9, "0.000"),
        ("anisotropy", 0.1239, "0.124"),
        ("dimensions-90", 614.0, "614"),
        ("variance", 0.0, "0.000"),
        ("norm-mean", 27.7, "27.70"),
        ("norm-mean", 999.96, "1000.0"),
        ("norm-mean", 0.0123, "0.012"),
        ("variance", 123456.7, "123457"),
        ("variance", 1.5e9, "1.500e+09"),
        ("variance", 2.5e-7, "2.500e-07"),
        ("cka", 0.5, "0.500"),
    ],
)
def test_numbers_are_written_for_people(measure, value, text):
    assert number_text(measure, value) == text


def test_corpora_are_joined(lake):
    opened, spaces, _special = lake
    for name, ids in (("images", 50), ("sounds", 40)):
        with opened.writer(name, "wide", ids=map(str, range(ids)), layers=3) as writer:
            writer.append("resid", 3, spaces["base"][0][:ids, : 16 if ids == 50 else 9])
    result = profile(opened, ["images", "sounds"])
    assert result.labels("corpus") == ["images", "sounds"]
    assert result.settings["corpus"] == ["images", "sounds"]
    spectrum = result.to_spectrum()
    assert spectrum["variance"].dims == ("corpus", "variant", "layer", "axis")
    own = spectrum["variance"].sel(corpus="sounds", variant="wide", layer=3)
    assert int(own.notnull().sum()) == 9
    assert ProfileResult.from_columns(result.to_columns(), result.to_attributes()) == result
    for record in result.records:  # each row its own example
        assert record["n_clusters"] == record["n"]
        assert (record["measure"] in INTERVALS) == (record["low"] is not None)


def test_what_is_refused(lake):
    opened = lake[0]
    for options, kind, said in [
        ({"rows": 700}, InvalidInput, "700 rows asked for"),
        ({"variants": "nea"}, NameNotFound, "did you mean near"),
        ({"layers": "9"}, (InvalidInput, NameNotFound), "layer 9"),
        ({"corpus": "wik"}, NameNotFound, "did you mean wiki"),
        ({"site": "mlp_out"}, NameNotFound, "has no mlp_out layers"),
        ({"unit": "word"}, NameNotFound, "which tells what the rows of activations/wiki/base"),
        ({"interval": "rows"}, InvalidInput, "no interval 'rows' of a profile; choose cluster"),
        ({"confidence": 95}, InvalidInput, "confidence is 95; give a number between 0 and 1"),
        ({"memory": "20kB"}, MemoryRefused, "profiling 500 rows of base layer 0"),
        ({"variants": []}, InvalidInput, "no variants asked for"),
        ({"seed": -1}, InvalidInput, "seed"),
    ]:
        with pytest.raises(kind, match=said) as refused:
            profile(opened, **options)
        assert "\n" not in str(refused.value)
    with pytest.raises(InvalidInput, match="a lake is needed"):
        profile("lake")


def test_blocks_are_as_long_as_memory_allows(lake):
    opened = lake[0]
    asked = {"variants": "base", "rows": "all", "fresh": True}
    wide = profile(opened, **asked)
    with pytest.raises(MemoryRefused) as refused:
        profile(opened, **asked, memory=1)
    least = int(str(refused.value).split("(")[1].split()[0])
    narrow = profile(opened, **asked, memory=least)
    for one, other in zip(wide.records, narrow.records, strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=1e-12)


def test_the_command(lake, capsys, tmp_path):
    where = ["--lake", lake[0].location.name]
    line = ["profile", *where, "--variant", "near", "--rows", "300"]
    with pytest.raises(SystemExit, match="0"):
        main([*line, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {r["measure"] for r in found["records"]} == set(PROFILE_MEASURES)
    files = ["--plot", str(tmp_path / "p.png"), "--out", str(tmp_path / "p.csv")]
    with pytest.raises(SystemExit, match="0"):
        main([*line, *files])
    printed = capsys.readouterr().out
    assert printed == layerlake.profile(lake[0], variants="near", rows=300).table() + "\n"
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "p.csv").read_text().startswith("variant,layer,measure,value,low,high,")
    with pytest.raises(SystemExit, match="0"):
        main(["ls", *where, "results"])
    assert capsys.readouterr().out.endswith("  near over wiki, rows 300\n")
    with pytest.raises(SystemExit, match="0"):
        main(["profile", *where, "--rows", "100"])
    assert capsys.readouterr().err.endswith("the same rows: layerlake profile --unit word\n")
    for options, said in [
        (["--rows", "9000"], "error: 9000 rows asked for"),
        (["--plot", "x.bmp"], "error: 'x.bmp' does not name a figure"),
        (["--out", "x.bmp"], "error: 'x.bmp' does not say how to write"),
    ]:
        with pytest.raises(SystemExit, match="1"):
            main([*line, *options])
        assert capsys.readouterr().err.startswith(said)


def test_values_are_finite_or_none(lake):
    result = profile(lake[0], variants="base", rows=1, layers=0)
    found = {r["measure"]: r["value"] for r in result.records}
    assert found["anisotropy"] is None
    assert found["norm-sd"] is None
    assert all(value is None or math.isfinite(value) for value in found.values())


def test_kept_files_of_a_profile_name_their_axes(lake):
    opened = lake[0]
    profile(opened, variants="base", rows=100)
    (kept,) = opened.location.nodes("results/profile")
    folder = Path(opened.location.name) / "results/profile" / kept
    about = json.loads((folder / "spectrum/zarr.json").read_text())
    assert about["dimension_names"] == ["space", "axis"]
