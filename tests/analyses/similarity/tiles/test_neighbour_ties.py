"""Rows that are equally near count by chance: no agreement comes of how ties are broken."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import layerlake as ll

Matrix = NDArray[np.float64]


def weights(rows: Matrix, k: int) -> Matrix:
    """Return a_ij by its definition, from cosines rounded where rounding is all that differs."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    near = np.round(units @ units.T, 9)
    np.fill_diagonal(near, -np.inf)
    found = np.zeros_like(near)
    for i, line in enumerate(near):
        kth = np.sort(line)[-k]
        strict, tied = line > kth, line == kth
        found[i, strict] = 1
        found[i, tied] = (k - strict.sum()) / tied.sum()
    return found


def expected_knn(X: Matrix, Y: Matrix, k: int) -> float:
    return float((weights(X, k) * weights(Y, k)).sum(axis=1).mean() / k)


def expected_cknna(X: Matrix, Y: Matrix, k: int) -> float:
    """Return CKNNA with weights in the place of masks, in dense float64."""
    n = len(X)
    kernels = []
    for rows in (X, Y):
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        kernels.append(units @ units.T)
    (K, L), a, b = kernels, weights(X, k), weights(Y, k)

    def hsic(one: Matrix, other: Matrix) -> float:
        means = one.sum() * other.sum() / ((n - 1) * (n - 2))
        return float(np.sum(one * other.T) + means - 2 * np.sum(one @ other) / (n - 2))

    return hsic(K * a * b, L * a * b) / math.sqrt(hsic(K * a, K * a) * hsic(L * b, L * b))


def sparse_rows(rng: np.random.Generator, n: int, kinds: int) -> Matrix:
    """Return rows of which most are at right angles, of different lengths."""
    return np.eye(kinds)[rng.integers(0, kinds, n)] * rng.uniform(0.5, 2, (n, 1))


def few_values(rng: np.random.Generator, n: int, width: int) -> Matrix:
    """Return rows of small whole numbers, many of them equal, none without a direction."""
    rows = rng.integers(0, 2, (n, width)).astype(float)
    rows[rows.sum(axis=1) == 0, 0] = 1
    return rows


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("n", [60, 200, 255, 256, 1100])
def test_unrelated_sparse_spaces_agree_by_chance(n: int, precision: str) -> None:
    rng = np.random.default_rng(n)
    X, Y = sparse_rows(rng, n, n // 5), sparse_rows(rng, n, n // 5)
    found = ll.compare_arrays(X, Y, measure="mutual-knn", neighbours=10, precision=precision)
    assert found["mutual-knn"].value == pytest.approx(expected_knn(X, Y, 10), abs=1e-9)
    assert found["mutual-knn"].value < 2 * 10 / (n - 1)
    (note,) = [note for note in found.notes if "equally near" in note]
    bound = math.sqrt(math.prod(float((weights(Z, 10) ** 2).sum() / n / 10) for Z in (X, Y)))
    assert f"mutual-knn is at most {bound:.3f}" in note


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(5, 70),
    width=st.integers(1, 6),
    k=st.integers(2, 69),
    form=st.sampled_from([sparse_rows, few_values]),
)
def test_any_ties_count_by_their_definition(
    seed: int, n: int, width: int, k: int, form: Any
) -> None:
    k = min(k, n - 1)
    rng = np.random.default_rng(seed)
    X, Y = form(rng, n, width), few_values(rng, n, width + 1)
    found = ll.compare_arrays(
        X, Y, measure="mutual-knn,cknna", neighbours=k, precision="float64", interval="none"
    )
    if np.isnan(found["mutual-knn"].value):
        assert (
            len(np.unique(X / np.linalg.norm(X, axis=1, keepdims=True), axis=0)) == 1
            or len(np.unique(Y / np.linalg.norm(Y, axis=1, keepdims=True), axis=0)) == 1
        )
        return
    assert found["mutual-knn"].value == pytest.approx(expected_knn(X, Y, k), abs=1e-9)
    if not np.isnan(found["cknna"].value):
        assert found["cknna"].value == pytest.approx(expected_cknna(X, Y, k), rel=1e-6, abs=1e-9)


def test_the_value_is_the_mean_over_all_ways_of_breaking_ties() -> None:
    rng = np.random.default_rng(3)
    X, Y = few_values(rng, 7, 3), few_values(rng, 7, 3)
    k = 2

    def choices(rows: Matrix, i: int) -> list[set[int]]:
        line = weights(rows, k)[i]
        sure = {int(j) for j in np.flatnonzero(line == 1)}
        tied = [int(j) for j in np.flatnonzero((line > 0) & (line < 1))]
        return [sure | set(some) for some in itertools.combinations(tied, k - len(sure))]

    shares = [
        np.mean([len(a & b) / k for a in choices(X, i) for b in choices(Y, i)])
        for i in range(len(X))
    ]
    found = ll.compare_arrays(
        X, Y, measure="mutual-knn", neighbours=k, precision="float64", interval="none"
    )
    assert found["mutual-knn"].value == pytest.approx(np.mean(shares))


def test_the_order_of_rows_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    X, Y = sparse_rows(rng, 300, 40), few_values(rng, 300, 8)
    order = rng.permutation(300)
    values = [
        ll.compare_arrays(A, B, measure="mutual-knn,cknna", interval="none")
        for A, B in ((X, Y), (X[order], Y[order]))
    ]
    for measure in ("mutual-knn", "cknna"):
        one, other = (found[measure].value for found in values)
        assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_workers_give_the_same_value(scheduler: str, tmp_path: Path) -> None:
    n = 1300  # two panels, so that states are merged
    rng = np.random.default_rng(6)
    X, Y = sparse_rows(rng, n, 60), few_values(rng, n, 9)
    lake = ll.open_lake(tmp_path / "lake", "a")
    for variant, rows in (("x", X), ("y", Y)):
        with lake.writer("c", variant, ids=[str(k) for k in range(n)]) as writer:
            writer.append("resid", 1, rows.astype(np.float32))
    found = ll.compare(
        lake, measure="mutual-knn,cknna", reference="x", interval="none", scheduler=scheduler,
        workers=2, progress=ll.silent,
    )  # fmt: skip
    value = {record["measure"]: record["value"] for record in found.records}
    assert value["mutual-knn"] == pytest.approx(expected_knn(X, Y, 10), abs=1e-6)
    assert value["cknna"] == pytest.approx(expected_cknna(X, Y, 10), abs=1e-5)


def test_panels_without_ties_count_as_columns() -> None:
    n, k = 1300, 10
    rng = np.random.default_rng(9)
    spaces = []
    for _ in range(2):
        rows = np.concatenate([rng.normal(size=(n, 12)), np.zeros((n, 30))], axis=1)
        rows[:30] = np.eye(42)[12:]  # at right angles to all, in the first panel alone
        spaces.append(rows)
    found = ll.compare_arrays(
        *spaces, measure="mutual-knn,cknna", neighbours=k, precision="float64", interval="none"
    )
    assert found["mutual-knn"].value == pytest.approx(expected_knn(*spaces, k), abs=1e-9)
    assert found["cknna"].value == pytest.approx(expected_cknna(*spaces, k), rel=1e-6)


def test_rows_without_ties_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from layerlake.analyses.similarity.tiles import pair_values

    passes = []
    run = pair_values.run_tiles
    monkeypatch.setattr(
        pair_values, "run_tiles", lambda *given: passes.append(given) or run(*given)
    )
    rng = np.random.default_rng(7)
    X, Y = rng.normal(size=(2, 400, 12))
    found = ll.compare_arrays(X, Y, measure="mutual-knn,cknna")
    assert len(passes) == 1
    assert not any("equally near" in note for note in found.notes)
    X[:12] = X[0]  # more rows that are equal than are kept beyond the tenth
    ll.compare_arrays(X, Y, measure="mutual-knn", neighbours=2)
    assert len(passes) == 4


def test_a_space_without_ties_agrees_with_itself_entirely() -> None:
    rows = np.random.default_rng(8).normal(size=(200, 6))
    found = ll.compare_arrays(rows, 2 * rows, measure="mutual-knn", interval="none")
    assert found["mutual-knn"].value == 1


def test_memory_of_ties_stays_within_what_was_said() -> None:
    from layerlake.analyses.similarity.tiles.neighbour_ties import (
        Ranked,
        TieCounts,
        WeighedNeighbours,
        ties_bytes,
    )
    from layerlake.analyses.similarity.tiles.neighbours import Neighbours
    from layerlake.analyses.similarity.tiles.tile import Tile
    from layerlake.engine.passes.blocks import run_pass

    n, side = 1200, 600
    index = np.tile(np.arange(1, 12), (n, 1))
    known = [
        Ranked.of(Neighbours(index, np.zeros(index.shape, np.float32)), 5, 1e-6) for _ in range(2)
    ]
    bounds = [(0, side), (side, n)]
    tiles = [
        Tile(rows, columns, (np.zeros((side, side), np.float32),) * 2, *[np.arange(side)] * 2)
        for p, rows in enumerate(bounds)
        for columns in bounds[p:]
    ]
    for cknna in (False, True):
        affine = ((1.0, 0.0),) * 2 if cknna else None
        pairs = [(0, 1), (0, 0), (1, 1)] if cknna else [(0, 1)]
        tracemalloc.start()
        try:
            (counts,) = run_pass(iter(tiles), [TieCounts(known)])
            run_pass(iter(tiles), [WeighedNeighbours(known, pairs, affine)])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert counts.min() == n - 1
        stated = ties_bytes(2, 1, n, side, cknna=cknna)
        assert 0.3 * stated <= peak <= stated
