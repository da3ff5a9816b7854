"""The rsa suite at toy size: all methods agree, ratios follow from the records."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from layerlake.bench.rsa import BASELINE, PRODUCTS, dense, generated, reference, run
from layerlake.cli.main import main

pytest.importorskip("threadpoolctl")


def test_the_reference_is_the_textbook_form() -> None:
    x, y = generated(700, 24)
    exact = np.corrcoef(*(pdist(rows.astype("float64"), "cosine") for rows in (x, y)))[0, 1]
    assert 0.2 < exact < 0.9
    assert reference(x, y) == pytest.approx(exact, abs=1e-10)
    assert dense(x, y) == pytest.approx(exact, abs=1e-4)


def test_the_records_agree_with_each_other() -> None:
    result = run((300,), 16, repeats=2)
    taken = {record["method"]: record for record in result.records}
    assert set(taken) == {"layerlake", "layerlake, jackknife", PRODUCTS, BASELINE}
    for record in taken.values():
        assert record["baseline"] == BASELINE
        ratio = taken[BASELINE]["cpu_seconds"] / record["cpu_seconds"]
        assert record["ratio"] == pytest.approx(ratio)
        share = taken[PRODUCTS]["cpu_seconds"] / record["cpu_seconds"]
        assert record["of_products"] == pytest.approx(share)
    assert taken["layerlake"]["error"] < 1e-8
    assert taken["layerlake, jackknife"]["value"] == taken["layerlake"]["value"]
    assert result.about["blas_threads"] == 1
    assert "layerlake, jackknife" in result.table()


def test_the_command_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["bench", "rsa", "--rows", "300", "--hidden", "16", "--repeats", "1", "--json"])
    assert json.loads(capsys.readouterr().out)["suite"] == "rsa"
