"""RSA from a lake equals RSA of the same rows in memory; what cannot be compared is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from layerlake.analyses.similarity.comparing.compare import rsa
from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays
from layerlake.cli.main import main
from layerlake.engine.progress import to_function
from layerlake.engine.rows.seeded_draw import draw
from layerlake.store.errors import InvalidInput, NameNotFound, SetIncomplete
from layerlake.store.lake import open_lake
from layerlake.store.removal import remove
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.verify import verify
from layerlake.store.writer import SetWriter


def test_equals_the_same_rows_in_memory(lake):
    opened, spaces, special = lake
    result = rsa(opened, reference="base", variants=["near"], rows=400, seed=3)
    eligible = np.flatnonzero(~special)
    index = eligible[draw(eligible, 400, 3)]
    for layer in (0, 1):
        pair = [spaces[v][layer][index] for v in ("base", "near")]
        expected = compare_arrays(*pair, index // 6)
        overall, apart = (
            r for r in result.records if r["layer"] == layer and r["variant"] == "near"
        )
        assert overall["value"] == pytest.approx(expected.value("r_all"), abs=1e-12)
        assert apart["value"] == pytest.approx(expected.value("r_between"), abs=1e-12)
        assert overall["low"] == pytest.approx(expected["r_all"].low, abs=1e-12)
        assert overall["n"] == 400
    assert result.records[0]["value"] == 1


@pytest.mark.parametrize(("kernel", "lost"), [("cosine", 2), ("correlation", 3), ("linear", 0)])
def test_a_row_without_direction_in_one_layer_is_dropped_from_all(lake, kernel, lost):
    opened, spaces, special = lake
    values = [array.copy() for array in spaces["near"]]
    values[1][[31, 77]] = 0
    values[0][200] = 0.5  # no direction about its own mean
    (state,) = opened.sets("wiki", "near")
    plan = dataclasses.replace(state.plan, variant="holed")
    with SetWriter(opened.location, plan) as writer:
        writer.write_window(0, {f"resid/{i}": value for i, value in enumerate(values)})
        writer.seal()
    result = rsa(opened, variants=["near", "holed"], rows="all", kernel=kernel)
    gone = [31, 77, 200][:lost]
    index = np.setdiff1d(np.flatnonzero(~special), gone)
    assert len(index) == 500 - lost
    assert {(r["n"], r["n_dropped"]) for r in result.records} == {(500 - lost, lost)}
    found = {(r["variant"], r["layer"]): r for r in result.records if r["measure"] == "r_all"}
    for (variant, layer), record in found.items():
        other = values if variant == "holed" else spaces["near"]
        pair = (spaces["base"][layer][index], other[layer][index])
        expected = compare_arrays(*pair, index // 6, kernel=kernel)
        assert record["value"] == pytest.approx(expected.value("r_all"), abs=1e-12)
        assert record["low"] == pytest.approx(expected["r_all"].low, abs=1e-12)


def test_too_few_rows_with_a_direction_are_refused(lake):
    opened, spaces, _ = lake
    (state,) = opened.sets("wiki", "near")
    plan = dataclasses.replace(state.plan, variant="empty")
    nothing = {f"resid/{i}": np.zeros_like(value) for i, value in enumerate(spaces["near"])}
    with SetWriter(opened.location, plan) as writer:
        writer.write_window(0, nothing)
        writer.seal()
    with pytest.raises(InvalidInput, match="0 rows are left after 100 without a direction"):
        rsa(opened, variants=["empty"], rows=100)


def test_different_tokenizers_are_not_compared_by_piece(lake):
    kin = rsa(lake[0], rows=100)
    assert kin.labels("variant") == ["near"]
    assert kin.notes[-1].endswith("words are the same rows: layerlake rsa --unit word")
    with pytest.raises(InvalidInput, match="the same line with --unit word"):
        rsa(lake[0], rows=100, variants=["near", "foreign"], unit="piece")


def test_what_is_refused(lake):
    opened = lake[0]
    with pytest.raises(InvalidInput, match="700 rows asked for, but the variants share 500"):
        rsa(opened, variants=["near"], rows=700)
    with pytest.raises(NameNotFound, match="did you mean base"):
        rsa(opened, reference="bas")
    with pytest.raises(NameNotFound, match="did you mean near"):
        rsa(opened, variants=["nea"])
    with pytest.raises(InvalidInput, match="layer 9"):
        rsa(opened, variants=["near"], layers="9")


def test_incomplete_sets_are_refused(lake):
    opened = lake[0]
    layout = ActivationLayout(600, 16, "float32", "none")
    contents = {**opened.sets("wiki", "base")[0].plan.contents}
    plan = SetPlan("wiki", "begun", contents, {}, {}, ("resid/0",), layout)
    with SetWriter(opened.location, plan):
        pass
    with pytest.raises(SetIncomplete, match="1 of 1 windows"):
        rsa(opened, variants=["begun"], rows=100)


def test_the_command(lake, capsys):
    where = ["--lake", lake[0].location.name, "--variant", "near", "--rows", "300"]
    with pytest.raises(SystemExit, match="0"):
        main(["rsa", *where, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["reference"] == "base"
    assert {r["measure"] for r in found["records"]} == {"r_all", "r_between"}
    with pytest.raises(SystemExit, match="0"):
        main(["rsa", *where])
    printed = capsys.readouterr().out
    assert "0  |  1.000 [1.000, 1.000]  1.000 [1.000, 1.000]" in printed
    second = [r for r in found["records"] if r["layer"] == 1]
    for record in second:
        assert f"{record['value']:.3f} [{record['low']:.3f}, {record['high']:.3f}]" in printed
    picture = Path(lake[0].location.name).with_name("curves.png")
    with pytest.raises(SystemExit, match="0"):
        main(["rsa", *where, "--plot", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == printed
    with pytest.raises(SystemExit) as stopped:
        main(["rsa", *where[:-1], "9000"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith("error: 9000 rows asked for")


def test_the_same_question_is_answered_from_the_lake(lake):
    opened = lake[0]
    asked = {"variants": ["near"], "rows": 300, "interval": "none"}
    seen = []
    progress = to_function(seen.append)
    first = rsa(opened, **asked, progress=progress)
    assert (seen[-1].done, seen[-1].total, seen[-1].state) == (600, 600, "finished")
    (kept,) = opened.location.nodes("results/rsa")
    assert verify(opened, f"results/rsa/{kept}").findings == ()
    seen.clear()
    assert rsa(opened, **asked, progress=progress) == first
    assert seen == []
    assert rsa(opened, **asked, fresh=True, progress=progress) == first
    assert seen
    assert opened.location.nodes("results/rsa") == [kept]
    seen.clear()
    other = rsa(opened, **{**asked, "rows": 301}, progress=progress)
    assert seen
    assert other.records != first.records
    assert len(opened.location.nodes("results/rsa")) == 2


def test_other_bits_under_the_same_names_are_another_question(lake):
    opened, spaces, _ = lake
    asked = {"variants": ["near"], "rows": 300, "interval": "none"}
    first = rsa(opened, **asked)
    (state,) = opened.sets("wiki", "near")
    remove(opened, state.plan.path)
    with SetWriter(opened.location, state.plan) as writer:
        writer.write_window(0, {f"resid/{i}": spaces["base"][0] for i in range(2)})
        writer.seal()
    second = rsa(opened, **asked)
    assert second.identity != first.identity
    assert second.records[2]["value"] != first.records[2]["value"]


def test_a_lake_open_for_reading_keeps_no_result_and_says_so(lake):
    opened = open_lake(lake[0].location.name)
    result = rsa(opened, variants=["near"], rows=300, interval="none")
    assert result.notes[0] == "near, layer 0: both spaces hold the same values, bit for bit"
    assert result.notes[-1].startswith("the result was not kept in the lake (")
    assert opened.location.nodes("results") == []
