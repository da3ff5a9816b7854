"""Results: tables for people and programs, and the way there and back."""

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.results.similarity import FIELDS, SimilarityResult
from layerlake.store.errors import InvalidInput, MissingExtra, StorageFailed

MakeRecord = Callable[..., dict[str, Any]]


@pytest.fixture
def result(record: MakeRecord) -> SimilarityResult:
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


def test_json_is_one_object(record: MakeRecord, result: SimilarityResult) -> None:
    found = json.loads(result.to_json())
    assert list(found) == ["settings", "identity", "records", "notes"]
    assert found["records"] == list(result.records)
    assert found["notes"] == ["so and so"]
    odd = SimilarityResult({}, {}, (record("twin", 1, "r_all", float("nan")),))
    assert json.loads(odd.to_json())["records"][0]["value"] is None


def test_csv_is_read_back_to_the_bit(
    record: MakeRecord, result: SimilarityResult, tmp_path: Path
) -> None:
    odd = record('a, "b"', 1, "cka", float("nan"), low=1 / 3, high=1e-300)
    both = SimilarityResult({}, {}, (*result.records, odd))
    text = both.to_csv(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text("utf-8") == text
    lines = list(csv.DictReader(io.StringIO(text)))
    assert list(lines[0]) == list(FIELDS)
    for line, entry in zip(lines, both.records, strict=True):
        assert line["variant"] == entry["variant"]
        for field in ("value", "low", "high", "bound", "n"):
            number = entry[field]
            if number is None or np.isnan(number):
                assert line[field] == ""
            else:
                assert float(line[field]) == number
    with pytest.raises(StorageFailed, match=r"cannot be written to .*choose another place"):
        result.to_csv(tmp_path / "no" / "table.csv")


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


def test_the_same_spaces_have_one_record_a_measure(
    record: MakeRecord, result: SimilarityResult
) -> None:
    doubled = (*result.records, record("cut", 2, "r_all", 0.5))
    with pytest.raises(InvalidInput, match="cut has two records for r_all at layer 2"):
        SimilarityResult({}, {}, doubled).to_xarray()


def test_what_is_one_for_all_is_a_coordinate(result: SimilarityResult) -> None:
    dataset = result.to_xarray()
    assert dataset["corpus"].item() == "wörter"
    assert dataset["reference"].item() == "base"
    assert dataset["reference_layer"].dims == ("layer",)
    assert dataset["reference_layer"].to_numpy().tolist() == [2, 10]


def test_axes_tell_corpora_and_references_apart(record: MakeRecord) -> None:
    records = tuple(
        record(variant, layer, "cka", k + 0.5, corpus=corpus, reference=reference)
        for k, (variant, layer, corpus, reference) in enumerate(
            itertools.product(("twin", "cut"), (0, 1), ("wiki", "ewt"), ("base", "old"))
        )
    )
    dataset = SimilarityResult({}, {}, records).to_xarray()
    assert dataset["value"].dims == ("corpus", "reference", "variant", "layer", "measure")
    assert dataset["value"].notnull().all()
    for entry in records:
        at = {f: entry[f] for f in ("corpus", "reference", "variant", "layer", "measure")}
        assert float(dataset["value"].sel(at)) == entry["value"]
    own = [record("twin", 0, "cka", 1, reference="a"), record("cut", 0, "cka", 1, reference="b")]
    dataset = SimilarityResult({}, {}, tuple(own)).to_xarray()
    assert dataset["value"].dims == ("variant", "layer", "measure")
    assert dataset["reference"].sel(variant="cut").item() == "b"


def test_layers_compared_across_have_an_axis(record: MakeRecord) -> None:
    records = tuple(
        record("twin", layer, "cka", layer + other / 10, reference_layer=other, bound=layer / 100)
        for layer in (0, 3)
        for other in (0, 1, 2)
    )
    dataset = SimilarityResult({}, {}, records).to_xarray()
    assert dict(dataset.sizes) == {"reference_layer": 3, "variant": 1, "layer": 2, "measure": 1}
    at = {"reference_layer": 2, "variant": "twin", "layer": 3, "measure": "cka"}
    assert float(dataset["value"].sel(at)) == 3.2
    assert float(dataset["bound"].sel(at)) == 0.03
    one = SimilarityResult({}, {}, tuple(r for r in records if r["reference_layer"] == 2))
    assert one.to_xarray()["reference_layer"].item() == 2


def test_pandas_holds_the_records(result: SimilarityResult) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = result.to_pandas()
    assert list(frame.columns) == list(FIELDS)
    assert frame["variant"].tolist() == ["twin", "twin", "twin", "cut", "cut"]
    assert [frame[field].dtype.kind for field in ("layer", "value", "bound")] == ["i", "f", "f"]


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


def test_many_variants_have_a_line_each(record: MakeRecord) -> None:
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


def test_each_measure_has_a_table(record: MakeRecord, result: SimilarityResult) -> None:
    more = [
        record("twin", 2, "procrustes", 0.5, low=None, high=None, n_seeds=3),
        record("cut", 2, "procrustes", 1.25, low=None, high=None, n_seeds=5),
        record("twin", 2, "cosine", 0.5),
        record("twin", 2, "spearman", 0.5, bound=1.4e-5),
        record("twin", 2, "cosine_between", 0.25),
    ]
    every = SimilarityResult(result.settings, {}, (*more, *result.records))
    assert every.labels("measure") == [
        "procrustes", "cosine", "cosine_between", "spearman", "r_all", "r_between"
    ]  # fmt: skip
    first, second, third, last = every.table().split("\n\n")
    assert first.splitlines() == [
        "wörter, resid: procrustes to base",
        "layer  |  twin   |  cut",
        "-------+---------+-------",
        "    2  |  0.500  |  1.250",
        "cells: procrustes; means over 3 to 5 seeds",
    ]
    assert second.splitlines()[-2:] == [
        "    2  |  0.500 [0.400, 0.600]  0.250 [0.150, 0.350]",
        "cells: cosine [interval]  cosine_between [interval] at 95 %",
    ]
    assert third.endswith("cells: spearman [interval] at 95 %; values are off by at most 1.4e-05")
    assert last == result.table()
    html = every._repr_html_()
    assert html.index("procrustes to base") < html.index("similarity to base")
    assert len(re.findall("<table>", html)) == 4


def test_one_layer_of_the_reference_is_named_in_the_title(record: MakeRecord) -> None:
    records = tuple(record("twin", k, "cka", k / 10, reference_layer=1) for k in range(3))
    lines = SimilarityResult({}, {}, records).table().splitlines()
    assert lines[0] == "wörter, resid: cka to base, layer 1"
    assert lines[4] == "    1  |  0.100 [0.000, 0.200]"


def test_layers_against_layers_have_a_table_for_each_variant(record: MakeRecord) -> None:
    records = tuple(
        record(variant, layer, "cka", layer / 10 + other / 100, reference_layer=other)
        for variant in ("base", "twin")
        for layer in (0, 1)
        for other in (0, 1, 2)
        if variant != "base" or other < layer
    )
    own, other = SimilarityResult({}, {}, records).table().split("\n\n")
    assert own.splitlines()[0] == "wörter, resid: cka of base (rows) and base (columns)"
    assert other.splitlines() == [
        "wörter, resid: cka of base (rows) and twin (columns)",
        "layer  |  0             |  1",
        "-------+----------------+--------------",
        "    0  |  0.000 ±0.100  |  0.100 ±0.100",
        "    1  |  0.010 ±0.100  |  0.110 ±0.100",
        "    2  |  0.020 ±0.100  |  0.120 ±0.100",
        "cells: cka and how far the interval reaches; --json has all of it",
    ]
    html = SimilarityResult({}, {}, records)._repr_html_()
    assert rows_of(html)[0] == ["layer", "layer 1"]


def test_of_very_many_tables_the_number_is_said(record: MakeRecord) -> None:
    records = tuple(
        record(f"v{k}", layer, "cka", 0.5, reference_layer=other)
        for k in range(20)
        for layer in (0, 1)
        for other in (0, 1)
    )
    result = SimilarityResult({}, {}, records)
    tables = result.table().split("\n\n")
    assert len(tables) == 13
    assert tables[-1] == "8 more tables of layers against layers are not shown; --json has them"
    html = result._repr_html_()
    assert "<summary>8 more tables of layers against layers</summary>" in html
    assert len(re.findall("<table>", html)) == 20
    more = tuple(
        entry | {"variant": f"{k}-{entry['variant']}"} for k in range(5) for entry in records
    )
    html = SimilarityResult({}, {}, more)._repr_html_()
    assert len(re.findall("<table>", html)) == 72
    assert "<p>and 28 that are not shown; .plot() shows all</p>" in html


def test_each_corpus_has_a_table(record: MakeRecord, result: SimilarityResult) -> None:
    both = SimilarityResult(
        {}, {}, (*result.records, record("cut", 2, "r_all", 0.5, corpus="other"))
    )
    first, second = both.table().split("\n\n")
    assert first.startswith("wörter, resid")
    assert second.startswith("other, resid")


def test_records_have_all_fields_and_no_other(record: MakeRecord) -> None:
    lacking = record("twin", 1, "r_all", 0.5)
    del lacking["low"]
    with pytest.raises(InvalidInput, match="differs in low"):
        SimilarityResult({}, {}, (lacking,))
    with pytest.raises(InvalidInput, match="differs in p_value"):
        SimilarityResult({}, {}, (record("twin", 1, "r_all", 0.5, p_value=1),))


def test_a_look_is_the_table(record: MakeRecord, result: SimilarityResult) -> None:
    assert repr(result) == f"{result.table()}\nnote: so and so"
    assert repr(SimilarityResult({}, {}, ())) == "<SimilarityResult of nothing>"
    many = SimilarityResult({}, {}, tuple(record("v", k, "r_all", 0.5) for k in range(200)))
    lines = repr(many).splitlines()
    assert lines[:60] == many.table().splitlines()[:60]
    assert lines[60:] == ["... 144 more lines; .table() returns all"]


def test_tables_of_a_page_and_of_a_paper(result: SimilarityResult) -> None:
    assert result.to_markdown().splitlines() == [
        "**wörter, resid: similarity to base**",
        "",
        "| layer | twin | cut |",
        "| ---: | :--- | :--- |",
        r"| 2 | 0.250 - | 0.333 [0.233, 0.433] -0.125 [-0.225, -0.025] |",
        "| 10 | 0.500 [0.400, 0.600] - | - - |",
        "",
        r"cells: r\_all [interval] r\_between [interval] at 95 %",
        "",
        "- so and so",
    ]
    assert result.to_latex().splitlines() == [
        r"\begin{table}",
        r"  \centering",
        r"  \caption{wörter, resid: similarity to base. "
        + r"cells: r\_all [interval]  r\_between [interval] at 95 \%.}",
        r"  \begin{tabular}{rll}",
        r"  \toprule",
        r"  layer & twin & cut \\",
        r"  \midrule",
        r"  2 & 0.250  - & 0.333 [0.233, 0.433]  -0.125 [-0.225, -0.025] \\",
        r"  10 & 0.500 [0.400, 0.600]  - & -  - \\",
        r"  \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
        "",
        "% note: so and so",
    ]


def test_names_do_not_break_a_page_or_a_paper(record: MakeRecord) -> None:
    records = (record("a|b_c\\d&{e}", 1, "cka", 0.5), record("x<b>*y*%#$~^", 1, "cka", 0.5))
    result = SimilarityResult({}, {}, records, ("two\nlines",))
    (head,) = [line for line in result.to_markdown().splitlines() if line.startswith("| layer")]
    assert head == r"| layer | a\|b\_c\\d&{e} | x\<b>\*y\*%#$~^ |"
    latex = result.to_latex()
    assert r"a\textbar{}b\_c\textbackslash{}d\&\{e\}" in latex
    assert r"x\textless{}b\textgreater{}*y*\%\#\$\textasciitilde{}\textasciicircum{}" in latex
    assert latex.endswith("% note: two lines\n")


def test_a_frame_begins_with_what_is_read_first(result: SimilarityResult) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    first = ["variant", "layer", "measure", "value", "low", "high"]
    assert list(result.to_pandas().columns)[:6] == first


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


def test_many_variants_are_rows_and_folded(record: MakeRecord) -> None:
    records = tuple(record(f"v{k}", layer, "r_all", 0.5) for k in range(60) for layer in (0, 1))
    html = SimilarityResult({}, {}, records)._repr_html_()
    rows = rows_of(html)
    assert rows[0] == ["variant", "layer 0", "layer 1"]
    assert len(rows) == 62
    assert "<summary>10 more variants</summary>" in html


def test_names_and_notes_are_escaped(record: MakeRecord) -> None:
    odd = record("<i>x</i>", 0, "r_all", 0.5, corpus="<script>", reference="&amp;")
    html = SimilarityResult({}, {}, (odd,), ("a <b>note</b>",))._repr_html_()
    for tag in ("<i>", "<script>", "<b>note"):
        assert tag not in html
    assert "&lt;i&gt;x&lt;/i&gt;" in html
    assert "&amp;amp;" in html
