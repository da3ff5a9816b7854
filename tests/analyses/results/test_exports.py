"""What a lake answers, with differences, seeds, all pairs and several corpora, as other programs'."""

from __future__ import annotations

import csv
import io
import itertools
import math
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.results.measures import known_measure
from layerlake.analyses.results.similarity import FIELDS, SimilarityResult
from layerlake.analyses.results.similarity_measures import pairwise_measure
from layerlake.analyses.similarity.comparing.compare import compare
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake, open_lake

MEASURES = ["rsa", "cka", "procrustes", "pwcca"]
VARIANTS = ["base", "m-s0", "m-s1"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two corpora of bare rows, a base and two seeds of other widths, in two layers."""
    lake = open_lake(tmp_path_factory.mktemp("exports") / "lake", "a")
    rng = np.random.default_rng(0)
    for corpus, n in (("images", 60), ("sounds", 50)):
        for variant, hidden in zip(VARIANTS, (8, 6, 7), strict=True):
            with lake.writer(corpus, variant, ids=range(n), layers=(0, 1)) as writer:
                common = np.random.default_rng(1).standard_normal((n, hidden))
                for layer in (0, 1):
                    own = common + (layer + 0.5) * rng.standard_normal((n, hidden))
                    writer.append("resid", layer, own.astype("float32"))
    return lake


@pytest.fixture(scope="module")
def against(lake: Lake) -> SimilarityResult:
    """Seeds against the base, their differences and their means."""
    return compare(lake, ["images", "sounds"], differences=True, seeds=True)


@pytest.fixture(scope="module")
def every(lake: Lake) -> SimilarityResult:
    """All pairs by several measures."""
    return compare(lake, ["images", "sounds"], measure=MEASURES, all_pairs=True)


@pytest.fixture(params=["against", "every"])
def result(request: pytest.FixtureRequest) -> Any:
    """Either of them."""
    return request.getfixturevalue(request.param)


def test_records_are_what_was_asked_for(against: SimilarityResult, every: SimilarityResult) -> None:
    assert against.labels("measure") == [
        "r_all", "r_between", "r_all_difference", "r_between_difference"
    ]  # fmt: skip
    assert against.labels("variant") == ["m-s0", "m-s1", "m-s0 - m-s1", "m-s*"]
    for record in against.records:
        assert (record["p"] is not None) == record["measure"].endswith("_difference")
        assert record["n_seeds"] == (2 if record["variant"] == "m-s*" else 1)
    values = {
        (r["corpus"], r["variant"], r["layer"], r["measure"]): r["value"] for r in against.records
    }
    for corpus, layer in itertools.product(("images", "sounds"), (0, 1)):
        one, other = (values[corpus, name, layer, "r_all"] for name in ("m-s0", "m-s1"))
        found = values[corpus, "m-s0 - m-s1", layer, "r_all_difference"]
        assert found == pytest.approx(one - other, abs=1e-12)
        assert values[corpus, "m-s*", layer, "r_all"] == pytest.approx((one + other) / 2)
    assert len(every.records) == 2 * 15 * 5


def test_every_record_has_its_place_in_an_array(result: SimilarityResult) -> None:
    dataset = result.to_xarray()
    for record in result.records:
        at = {axis: record[axis] for axis in dataset["value"].dims}
        for name in ("value", "low", "high", "bound", "p"):
            number = float(dataset[name].sel(at))
            assert math.isnan(number) if record[name] is None else number == record[name]
    assert int(dataset["value"].notnull().sum()) == len(result.records)


def test_csv_columns_and_the_lake_hold_every_record(result: SimilarityResult, lake: Lake) -> None:
    lines = list(csv.DictReader(io.StringIO(result.to_csv())))
    for line, record in zip(lines, result.records, strict=True):
        for field in FIELDS:
            written, held = line[field], record[field]
            assert written == ("" if held is None else str(held))
    back = SimilarityResult.from_columns(result.to_columns(), result.to_attributes())
    assert back == result
    one = {"differences": True, "seeds": True}
    asked = one if "r_all_difference" in result.labels("measure") else {
        "measure": MEASURES, "all_pairs": True
    }  # fmt: skip
    assert compare(lake, ["images", "sounds"], **asked) == result  # from where they are kept


def test_pandas_holds_every_record(result: SimilarityResult) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = result.to_pandas()
    assert list(frame.columns) == list(FIELDS)
    for field in ("corpus", "variant", "measure", "layer", "n_seeds"):
        assert frame[field].tolist() == [record[field] for record in result.records]
    values = [math.nan if r["p"] is None else r["p"] for r in result.records]
    np.testing.assert_array_equal(frame["p"], values)


def test_matrices_are_of_spaces_alone(against: SimilarityResult, every: SimilarityResult) -> None:
    for corpus in ("images", "sounds"):
        few = against.to_matrix("r_all", corpus=corpus)
        assert list(dict.fromkeys(few["variant"].to_numpy())) == VARIANTS
        for measure in every.labels("measure"):
            matrix = every.to_matrix(measure, corpus=corpus)
            assert matrix.shape == (6, 6)
            upper = matrix.to_numpy()[np.triu_indices(6, 1)]
            assert np.isfinite(upper).all()
            for record in every.records:
                if (record["corpus"], record["measure"]) == (corpus, measure):
                    ends = [
                        f"{record[name]} {record[layer]}"
                        for name, layer in (("reference", "reference_layer"), ("variant", "layer"))
                    ]
                    assert float(matrix.sel(space=ends[0], other_space=ends[1])) == record["value"]
    for refused in (against.to_matrix, against.to_rsatoolbox):
        with pytest.raises(InvalidInput, match="no measure of two spaces; choose r_all"):
            refused("r_all_difference", corpus="images")
    with pytest.raises(InvalidInput, match="the result holds images, sounds; a matrix is of one"):
        every.to_matrix("cka")
    means = [record for record in against.records if record["n_seeds"] > 1]
    alone = SimilarityResult({}, {}, tuple(means)).to_matrix("r_all", corpus="sounds")
    assert alone["space"].to_numpy().tolist() == ["base 0", "base 1", "m-s* 0", "m-s* 1"]


def test_rsatoolbox_takes_any_of_them(against: SimilarityResult, every: SimilarityResult) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    for measure in every.labels("measure"):
        rdms = every.to_rsatoolbox(measure, corpus="sounds")
        matrix = every.to_matrix(measure, corpus="sounds").to_numpy()
        expected = matrix[np.triu_indices(6, 1)]
        expected = expected if measure == "procrustes" else 1 - expected
        np.testing.assert_array_equal(rdms.dissimilarities[0], expected)
        assert rdms.descriptors == {"corpus": "sounds", "site": "resid"}
        assert list(rdms.pattern_descriptors["layer"]) == [0, 1] * 3
    one, other = (every.to_rsatoolbox("cka", corpus=name) for name in ("images", "sounds"))
    assert -1 <= float(rsatoolbox.rdm.compare(one, other, "corr")[0, 0]) <= 1
    some = against.to_rsatoolbox("r_between", corpus="images").dissimilarities
    assert int(np.isfinite(some).sum()) == 4


def test_spaces_of_bare_rows_go_to_rsatoolbox(lake: Lake) -> None:
    pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    space = lake.space("images", "m-s0", 1)
    dataset = space.to_rsatoolbox([4, 2])
    np.testing.assert_array_equal(dataset.measurements, space.rows([4, 2]))
    assert list(dataset.obs_descriptors["row"]) == [4, 2]


def test_tables_and_figures_tell_differences_apart(against: SimilarityResult) -> None:
    tables = against.table().split("\n\n")
    assert [table.splitlines()[0] for table in tables] == [
        "images, resid: similarity to base",
        "sounds, resid: similarity to base",
        "images, resid: difference in similarity to base",
        "sounds, resid: difference in similarity to base",
    ]
    difference = next(r for r in against.records if r["measure"] == "r_all_difference")
    assert f"{difference['high']:.3f}] p = {difference['p']:.2g}" in tables[2]
    assert tables[2].endswith(
        "cells: r_all_difference [interval]  r_between_difference [interval] at 95 %"
    )
    assert f"<small>p = {difference['p']:.2g}</small>" in against._repr_html_()
    figure = against.plot()
    labels = [panel.get_ylabel().splitlines()[0] for panel in figure.axes]
    assert labels == ["RSA", "difference in RSA"]
    assert len(against.plot("matrix").axes) == 2 * 2  # a panel and its colours a corpus
    with pytest.raises(InvalidInput, match="no measure of two spaces"):
        against.plot("matrix", "r_all_difference")


def test_maps_need_all_pairs(against: SimilarityResult, every: SimilarityResult) -> None:
    assert len(every.plot("map", ["cka", "procrustes"], corpus="images").axes) == 2
    with pytest.raises(InvalidInput, match="a map needs all pairs compared"):
        against.plot("map", corpus="images")


def test_a_difference_is_known_by_what_it_is_of() -> None:
    found = known_measure("r_all_difference")
    assert found is not None
    assert (found.kind, found.own, found.symmetric) == ("difference", 0, False)
    assert (found.lowest, found.highest, found.title) == (-2, 2, "difference in RSA")
    between = known_measure("r_between_difference")
    assert between is not None
    assert between.title == "difference in RSA between examples"
    cka = known_measure("cka_difference")
    assert cka is not None
    assert (cka.lowest, cka.highest) == (-1, 1)
    assert known_measure("procrustes_difference") is known_measure("odd_difference") is None
    assert pairwise_measure("cka").kind == "similarity"
