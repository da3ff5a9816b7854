"""Results: tables for people and programs, and the way there and back."""

import json
import re
import sys
from html import unescape
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.results import FIELDS, SimilarityResult
from layerlake.store.errors import InvalidInput, MissingExtra


def record(
    variant: str, layer: int, measure: str, value: float | None, **more: Any
) -> dict[str, Any]:
    """Return a record with an interval of 0.1 to both sides."""
    filled = {
        "corpus": "wörter",
        "reference": "base",
        "variant": variant,
        "site": "resid",
        "layer": layer,
        "measure": measure,
        "value": value,
        "low": None if value is None else value - 0.1,
        "high": None if value is None else value + 0.1,
        "n": 500,
        "n_clusters": 100,
        "rows_per_cluster": 5.0,
        "within_pair_share": 0.01,
        "n_dropped": 3,
    }
    return filled | more


@pytest.fixture
def result() -> SimilarityResult:
    """Two variants over two layers, layers not in order, with gaps."""
    return SimilarityResult(
        settings={"kernel": "cosine", "confidence": 0.95},
        identity={"base": "abc"},
        records=(
            record("twin", 10, "r_all", 0.5),
            record("twin", 10, "r_between", None),
            record("twin", 2, "r_all", 0.25, low=None, high=None),
            record("cut", 2, "r_all", 1 / 3),
            record("cut", 2, "r_between", -0.125),
        ),
        notes=("so and so",),
    )


def test_columns_give_everything_back(result: SimilarityResult) -> None:
    columns, attributes = result.to_columns(), result.to_attributes()
    assert list(columns) == list(FIELDS)
    assert {len(column) for column in columns.values()} == {5}
    assert np.isnan(columns["value"][1])
    stored = json.loads(json.dumps(attributes))
    assert SimilarityResult.from_columns(columns, stored) == result
    plain = {k: np.array(v.tolist()) for k, v in columns.items()}
    assert SimilarityResult.from_columns(plain, stored) == result


def test_no_records_come_back_too() -> None:
    empty = SimilarityResult({}, {}, ())
    assert SimilarityResult.from_columns(empty.to_columns(), empty.to_attributes()) == empty
    assert empty.table() == ""


def test_json_is_one_object(result: SimilarityResult) -> None:
    found = json.loads(result.to_json())
    assert list(found) == ["settings", "identity", "records", "notes"]
    assert found["records"] == list(result.records)
    assert found["notes"] == ["so and so"]
    odd = SimilarityResult({}, {}, (record("twin", 1, "r_all", float("nan")),))
    assert json.loads(odd.to_json())["records"][0]["value"] is None


def test_arrays_are_labelled(result: SimilarityResult) -> None:
    dataset = result.to_xarray()
    assert dict(dataset.sizes) == {"variant": 2, "layer": 2, "measure": 2}
    assert dataset["layer"].to_numpy().tolist() == [2, 10]
    for entry in result.records:
        at = {axis: entry[axis] for axis in ("variant", "layer", "measure")}
        for name in ("value", "low", "high"):
            found = float(dataset[name].sel(at))
            assert np.isnan(found) if entry[name] is None else found == entry[name]
    assert np.isnan(float(dataset["value"].sel(variant="cut", layer=10, measure="r_all")))
    assert json.loads(dataset.attrs["settings"]) == result.settings


def test_three_axes_must_tell_records_apart(result: SimilarityResult) -> None:
    doubled = (*result.records, record("cut", 2, "r_all", 0.5, corpus="other"))
    with pytest.raises(InvalidInput, match="cut has two records for r_all at layer 2"):
        SimilarityResult({}, {}, doubled).to_xarray()


def test_pandas_holds_the_records(result: SimilarityResult) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = result.to_pandas()
    assert list(frame.columns) == list(FIELDS)
    assert frame["variant"].tolist() == ["twin", "twin", "twin", "cut", "cut"]


def test_pandas_is_asked_for_by_name(
    result: SimilarityResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match="pip install pandas"):
        result.to_pandas()


def test_the_table_is_for_people(result: SimilarityResult) -> None:
    lines = result.table().splitlines()
    assert lines == [
        "wörter, resid: similarity to base",
        "layer  |  twin                     |  cut",
        "-------+---------------------------+-----------------------------------------------",
        "    2  |  0.250  -                 |  0.333 [0.233, 0.433]  -0.125 [-0.225, -0.025]",
        "   10  |  0.500 [0.400, 0.600]  -  |  -  -",
        "cells: r_all [interval]  r_between [interval] at 95 %",
    ]


def test_many_variants_have_a_line_each() -> None:
    values = [
        record(f"v{number}", layer, measure, number / 10 + layer / 100)
        for number in range(5)
        for layer in (0, 12)
        for measure in ("r_all", "r_between")
        if (number, layer) != (3, 12)
    ]
    values[0] |= {"low": 0.0 - 0.25, "high": 0.125}
    result = SimilarityResult({"confidence": 0.95}, {}, tuple(values))
    assert result.table().splitlines() == [
        "wörter, resid: similarity to base",
        "layer  |  0             |  12",
        "-------+----------------+--------------",
        "v0     |  0.000 ±0.250  |  0.120 ±0.100",
        "v1     |  0.100 ±0.100  |  0.220 ±0.100",
        "v2     |  0.200 ±0.100  |  0.320 ±0.100",
        "v3     |  0.300 ±0.100  |  -",
        "v4     |  0.400 ±0.100  |  0.520 ±0.100",
        "cells: r_all and how far the interval reaches at 95 %; --json has all of it",
    ]


def test_each_corpus_has_a_table(result: SimilarityResult) -> None:
    both = SimilarityResult(
        {}, {}, (*result.records, record("cut", 2, "r_all", 0.5, corpus="other"))
    )
    first, second = both.table().split("\n\n")
    assert first.startswith("wörter, resid")
    assert second.startswith("other, resid")


def test_records_have_all_fields_and_no_other() -> None:
    lacking = record("twin", 1, "r_all", 0.5)
    del lacking["low"]
    with pytest.raises(InvalidInput, match="differs in low"):
        SimilarityResult({}, {}, (lacking,))
    with pytest.raises(InvalidInput, match="differs in p_value"):
        SimilarityResult({}, {}, (record("twin", 1, "r_all", 0.5, p_value=1),))


def test_a_look_says_what_was_compared(result: SimilarityResult) -> None:
    assert repr(result) == (
        "<SimilarityResult over wörter: twin, cut against base, layers 2, 10; .table() prints it>"
    )
    many = tuple(record(f"v{k}", 1, "r_all", 0.5) for k in range(9))
    assert "9 variants against base, layers 1;" in repr(SimilarityResult({}, {}, many))
    assert repr(SimilarityResult({}, {}, ())) == "<SimilarityResult of nothing>"


def rows_of(html: str) -> list[list[str]]:
    """Return the texts of the cells of every row of a page's tables."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [
        [unescape(re.sub(r"<.*?>", " ", cell)) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row)]
        for row in rows
    ]


def test_a_notebook_shows_values_with_intervals(result: SimilarityResult) -> None:
    assert [[cell.split() for cell in row] for row in rows_of(result._repr_html_())] == [
        [["layer"], ["twin"], ["cut"]],
        [["2"], ["0.250"], ["0.333", "[0.233,", "0.433]", "-0.125", "[-0.225,", "-0.025]"]],
        [["10"], ["0.500", "[0.400,", "0.600]", "-"], ["-"]],
    ]


def test_many_variants_are_rows_and_folded() -> None:
    records = tuple(record(f"v{k}", layer, "r_all", 0.5) for k in range(60) for layer in (0, 1))
    html = SimilarityResult({}, {}, records)._repr_html_()
    rows = rows_of(html)
    assert rows[0] == ["variant", "layer 0", "layer 1"]
    assert len(rows) == 62
    assert "<summary>10 more variants</summary>" in html


def test_names_and_notes_are_escaped() -> None:
    odd = record("<i>x</i>", 0, "r_all", 0.5, corpus="<script>", reference="&amp;")
    html = SimilarityResult({}, {}, (odd,), ("a <b>note</b>",))._repr_html_()
    for tag in ("<i>", "<script>", "<b>note"):
        assert tag not in html
    assert "&lt;i&gt;x&lt;/i&gt;" in html
    assert "&amp;amp;" in html
