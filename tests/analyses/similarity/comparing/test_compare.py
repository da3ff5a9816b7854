"""Any measures of any pairs of a lake equal those of the same rows in memory."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import layerlake as ll
from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.analyses.similarity.ceilings import noise_ceiling
from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays
from layerlake.analyses.statistics.paired_difference import paired_difference
from layerlake.analyses.statistics.seeds import mean_over_seeds
from layerlake.engine.progress import to_function
from layerlake.store.errors import (
    InvalidInput,
    MemoryRefused,
    MissingExtra,
    NameNotFound,
    WorkersFailed,
)
from layerlake.store.lake import Lake

SIZES = np.array([3, 4, 3, 5, 4, 3, 3, 4, 5, 3] * 5)
N = int(SIZES.sum())
CLUSTERS = np.repeat(np.arange(len(SIZES)), SIZES)
Spaces = dict[str, dict[int, NDArray[Any]]]


def trained(seed: int) -> dict[str, Any]:
    """Return the attributes of a variant of `base` that was trained with a seed."""
    parent = {"weights_digest": "b", "source": "bert"}
    training = {"task": "nli", "seed": seed}
    return {"weights_digest": f"t{seed}", "parent": parent, "training": training}


ABOUT: dict[str, dict[str, Any]] = {
    "base": {"source": "bert", "weights_digest": "b"},
    "nli-s0": trained(0),
    "nli-s1": trained(1),
    "nli-s2": trained(2),
    "noise-s0": {"source": "bert", "randomize": 0},
    "noise-s1": {"source": "bert", "randomize": 1},
    "cut": {"source": "bert", "truncate": 2, "weights_digest": "c"},
    "wide": {"source": "wide", "weights_digest": "w"},
    "child": {"source": "out", "parent": {"weights_digest": "w"}},
}


def spaces_over(sizes: NDArray[np.int64], seed: int) -> Spaces:
    """Return three layers of nine variants: those of one parent share more than the others."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)

    def drawn(width: int) -> NDArray[np.float64]:
        rows = rng.standard_normal((len(clusters), width))
        return rows + rng.standard_normal((len(sizes), width))[clusters]

    found: Spaces = {name: {} for name in ABOUT}
    for layer in range(3):
        base, wide = drawn(8) + 1.5, drawn(12)
        task = drawn(8)
        found["base"][layer] = base
        for k in range(3):
            found[f"nli-s{k}"][layer] = base + (0.2 + 0.2 * layer) * (task + (k + 1) / 3 * drawn(8))
        for k in range(2):
            found[f"noise-s{k}"][layer] = drawn(8) + base / 4
        if layer < 2:
            found["cut"][layer] = base.copy()
        found["wide"][layer] = wide
        found["child"][layer] = wide + drawn(12) / 2
    return {
        name: {layer: rows.astype("float32") for layer, rows in layers.items()}
        for name, layers in found.items()
    }


SPACES = spaces_over(SIZES, 0)


@pytest.fixture
def lake(lake_with: Callable[..., Lake]) -> Lake:
    """Those variants over the corpus `wiki`."""
    return lake_with("wiki", SPACES, SIZES, about=ABOUT)


def values_of(result: SimilarityResult) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the records by both spaces and measure."""
    names = ("reference", "reference_layer", "variant", "layer", "measure")
    found = {tuple(r[name] for name in names): r for r in result.records}
    assert len(found) == len(result.records)
    return found


def check(
    result: SimilarityResult,
    pairs: Iterable[tuple[tuple[str, int], tuple[str, int]]],
    measures: Iterable[str],
    *,
    rows: NDArray[np.int64] | None = None,
    **asked: Any,
) -> None:
    """Hold every number of a result to the pair compared in memory; there must be no others."""
    found = values_of(result)
    kept = np.arange(N) if rows is None else rows
    expected = set()
    for one, other in pairs:
        alone = compare_arrays(
            SPACES[one[0]][one[1]][kept], SPACES[other[0]][other[1]][kept], CLUSTERS[kept], **asked
        )
        for measure in measures:
            key = (*one, *other, measure)
            expected.add(key)
            estimate, record = alone[measure], found[key]
            for name in ("value", "low", "high", "bound", "p"):
                number = getattr(estimate, name)
                if number is None or math.isnan(number):
                    assert record[name] is None, (key, name)
                else:
                    assert record[name] == pytest.approx(number, abs=2e-7), (key, name)
            assert (record["n"], record["n_clusters"]) == (
                alone.counts.n_rows,
                alone.counts.n_clusters,
            )
    assert set(found) == expected


FORMS = ("cka", "debiased-cka", "svcca", "procrustes", "bures")


@pytest.mark.parametrize(
    ("asked", "measures"),
    [
        ({"measure": "rsa"}, ("r_all", "r_between")),
        ({"measure": ["rsa", *FORMS], "kernel": "sqeuclidean"}, ("r_all", "r_between", *FORMS)),
        (
            {"measure": "rsa,mutual-knn,rbf-cka", "kernel": "euclidean", "score": "spearman"},
            ("spearman", "spearman_between", "mutual-knn", "rbf-cka"),
        ),
        ({"measure": "rsa", "score": "cosine"}, ("cosine", "cosine_between")),
        ({"measure": "rsa", "score": "kendall", "kernel": "linear"}, ("kendall",)),
        ({"measure": "rsa", "interval": "bootstrap", "resamples": 80}, ("r_all", "r_between")),
    ],
)
def test_layers_aligned(lake: Lake, asked: dict[str, Any], measures: tuple[str, ...]) -> None:
    result = ll.compare(lake, "wiki", variants=["nli-s0", "cut"], rows="all", **asked)
    pairs = [(("base", w), ("nli-s0", w)) for w in range(3)]
    pairs += [(("base", w), ("cut", w)) for w in range(2)]
    check(result, pairs, measures, **asked)


def test_one_layer_against_all(lake: Lake) -> None:
    result = ll.compare(
        lake, variants="nli-s0", reference_layer=1, rows="all", measure="rsa,cka", interval="none"
    )
    one = ("base", 1)
    others = [("base", 0), ("base", 2), *(("nli-s0", w) for w in range(3))]
    check(
        result,
        [(one, other) for other in others],
        ("r_all", "r_between", "cka"),
        measure="rsa,cka",
        interval="none",
    )


ALL = {"variants": ["base", "nli-s0", "wide"], "layers": "0,2", "all_pairs": True}
KEYS = [(name, layer) for name in ("base", "nli-s0", "wide") for layer in (0, 2)]
ALL_PAIRS = [(one, other) for k, one in enumerate(KEYS) for other in KEYS[k + 1 :]]


@pytest.mark.parametrize("method", ["features", "tiles"])
def test_all_pairs_equal_the_pairs_one_by_one(lake: Lake, method: str) -> None:
    result = ll.rsa(lake, rows="all", method=method, **ALL)
    check(result, ALL_PAIRS, ("r_all", "r_between"), measure="rsa")
    matrix = result.to_matrix("r_all")
    assert matrix.shape == (6, 6)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diagonal(matrix), 1)
    assert list(matrix.coords["variant"].values) == [key[0] for key in KEYS]


@pytest.mark.parametrize(
    "asked",
    [
        {"measure": "rsa,cka", "method": "features"},
        {"measure": "rsa", "method": "tiles"},
        {"measure": "rsa", "permutations": 19},
    ],
)
def test_shares_that_little_memory_forces_give_the_same(lake: Lake, asked: dict[str, Any]) -> None:
    seen: list[Any] = []
    whole = ll.compare(lake, rows=100, differences=True, **ALL, **asked)
    plans = [ll.plan_compare(lake, rows=100, differences=True, **ALL, **asked)]
    most = plans[0].bytes_held
    while True:
        try:
            plan = ll.plan_compare(
                lake, rows=100, differences=True, memory=int(most / 1.2), **ALL, **asked
            )
        except MemoryRefused as refused:
            assert f"({int(most / 1.2)} bytes) are allowed" in str(refused)  # noqa: PT017
            break
        most = int(most / 1.2)
        assert plan.bytes_held <= most
        plans.append(plan)
    assert plans[-1].n_passes > plans[0].n_passes
    assert [plan.n_pairs for plan in plans] == [15] * len(plans)
    assert [plan.n_spaces for plan in plans] == [6] * len(plans)
    cut = ll.compare(
        lake,
        rows=100,
        differences=True,
        memory=most,
        fresh=True,
        progress=to_function(seen.append),
        **ALL,
        **asked,
    )
    assert (seen[-1].done, seen[-1].state) == (seen[-1].total, "finished")
    found, expected = values_of(cut), values_of(whole)
    assert list(found) == list(expected)
    assert any(key[-1] == "r_all_difference" for key in found)
    for key, record in expected.items():
        for name in ("value", "low", "high", "p"):
            assert (found[key][name] is None) == (record[name] is None)
            if record[name] is not None:
                assert found[key][name] == pytest.approx(record[name], abs=1e-7), key


def test_several_corpora(lake_with: Callable[..., Lake]) -> None:
    other_sizes = np.full(40, 4)
    lake_with("wiki", SPACES, SIZES, about=ABOUT)
    lake = lake_with("nli", spaces_over(other_sizes, 1), other_sizes)
    asked = {"variants": ["nli-s0", "nli-s1"], "measure": "rsa,cka", "rows": 120}
    both = ll.compare(lake, ["wiki", "nli"], **asked)
    apart = [ll.compare(lake, corpus, **asked) for corpus in ("wiki", "nli")]
    assert both.records == apart[0].records + apart[1].records
    assert both.settings["corpus"] == ["wiki", "nli"]
    assert both.settings["rows"] == 120
    assert both.identity == {"wiki": apart[0].identity, "nli": apart[1].identity}
    assert both.notes[-1].startswith("r_all depends on how many rows each example gave")
    assert {note.partition(":")[0] for note in both.notes[:-1]} == {"wiki", "nli"}
    assert len(lake.location.nodes("results/similarity")) == 2
    data = both.to_xarray()
    assert data.sizes["corpus"] == 2
    figure = both.plot()
    assert len(figure.axes[0].lines) == 4
    assert ll.plan_compare(lake, ["wiki", "nli"], **asked).n_spaces == 2 * 9


def test_nothing_is_begun_where_one_corpus_cannot_be_compared(lake: Lake) -> None:
    seen: list[Any] = []
    with pytest.raises(NameNotFound, match="wikis"):
        ll.compare(lake, ["wiki", "wikis"], progress=to_function(seen.append))
    assert seen == []


def test_each_with_its_own_base(lake: Lake) -> None:
    result = ll.compare(lake, reference="own", rows="all", measure="cka", interval="none")
    bases = {name: "base" for name in ABOUT if name not in ("base", "wide", "child")}
    bases["child"] = "wide"
    pairs = [((base, w), (name, w)) for name, base in bases.items() for w in SPACES[name] if w < 3]
    check(result, pairs, ("cka",), measure="cka", interval="none")
    assert result.settings["reference"] == "own"
    assert set(result.to_xarray().reference.values) == {"base", "wide"}
    assert result.table().count("to wide") == 1
    assert ll.compare(lake, reference="own", variants="child", measure="cka").records
    with pytest.raises(NameNotFound, match="made from, over wiki"):
        ll.compare(lake, reference="own", variants=["wide"], measure="cka")


def test_one_layer_of_each_own_base(lake: Lake) -> None:
    result = ll.compare(
        lake,
        reference="own",
        variants=["cut", "child"],
        reference_layer=1,
        layers="0,1",
        measure="cka",
        interval="none",
        rows="all",
    )
    pairs = []
    for base, name in (("base", "cut"), ("wide", "child")):
        pairs += [((base, 1), (base, 0)), ((base, 1), (name, 0)), ((base, 1), (name, 1))]
    check(result, pairs, ("cka",), measure="cka", interval="none")


def test_seeds_are_averaged_each_against_its_own_base(lake: Lake) -> None:
    asked = {"rows": "all", "measure": "rsa,procrustes", "seeds": True, "reference": "own"}
    found = values_of(ll.compare(lake, variants=["nli-s0", "nli-s1", "nli-s2", "child"], **asked))
    means = {key: record for key, record in found.items() if record["n_seeds"] > 1}
    assert {key[2] for key in means} == {"nli-s*"}
    assert len(means) == 3 * 3
    for (reference, at, name, layer, measure), record in means.items():
        assert (reference, at, name) == ("base", layer, "nli-s*")
        values = [found["base", layer, f"nli-s{k}", layer, measure]["value"] for k in range(3)]
        expected = mean_over_seeds(values, correlations=measure != "procrustes")
        for end in ("value", "low", "high"):
            assert record[end] == pytest.approx(getattr(expected, end))
        assert (record["n_seeds"], record["n"]) == (3, N)
    everyone = ll.compare(lake, **{**asked, "measure": "cka", "reference": "base"})
    assert {r["variant"] for r in everyone.records if r["n_seeds"] > 1} == {"nli-s*", "noise-s*"}
    alone = ll.compare(lake, variants=["nli-s0", "child"], **asked)
    assert "no two variants differ in their seed alone" in alone.notes[-1]


def test_an_answer_is_not_that_of_another_lineage(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {
        "variants": ["nli-s0", "nli-s1"], "rows": "all", "seeds": True, "interval": "none",
    }  # fmt: skip
    kept = ll.rsa(lake, **asked)
    assert "nli-s*" in kept.labels("variant")
    real = type(lake).attributes

    def other_task(self: Lake, path: str) -> dict[str, Any]:
        """Say that one of both was trained on something else."""
        found = dict(real(self, path))
        if path == "variants/nli-s1":
            found["training"] = {"task": "squad", "seed": 1}
        return found

    monkeypatch.setattr(type(lake), "attributes", other_task)
    assert "nli-s*" not in ll.rsa(lake, **asked).labels("variant")


def test_seeds_among_all_pairs_are_averaged_against_one_space_at_a_time(lake: Lake) -> None:
    found = ll.compare(
        lake,
        variants=["base", "child", "nli-s0", "nli-s1", "wide"],
        all_pairs=True,
        layers="0",
        rows="all",
        seeds=True,
        interval="none",
    )
    single = {(r["reference"], r["variant"]): r["value"] for r in found.records
              if r["measure"] == "r_all" and r["n_seeds"] == 1}  # fmt: skip
    single |= {(other, one): value for (one, other), value in single.items()}
    means = {r["reference"]: r for r in found.records
             if r["measure"] == "r_all" and r["variant"] == "nli-s*"}  # fmt: skip
    assert set(means) == {"base", "child", "wide"}
    for reference, record in means.items():
        expected = np.mean([single[reference, f"nli-s{k}"] for k in (0, 1)])
        assert record["value"] == pytest.approx(expected, abs=1e-12)
        assert record["n_seeds"] == 2


def test_differences_are_over_the_rows_left_in_the_end(
    lake_with: Callable[..., Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    spaces = {name: {0: SPACES[name][0].copy()} for name in ("base", "nli-s0", "nli-s1")}
    spaces["nli-s1"][0][CLUSTERS == 3] = 0
    lake = lake_with("wiki", spaces, SIZES, about={name: ABOUT[name] for name in spaces})
    asked: dict[str, Any] = {"rows": "all", "differences": True, "fresh": True}
    whole = values_of(ll.rsa(lake, **asked))
    from layerlake.analyses.similarity.comparing import lake_values
    from layerlake.analyses.similarity.comparing import sharing as pairing

    def apart(pairs: Any, fits: Any) -> list[Any]:
        """Give every pair a pass of its own."""
        return pairing.share_out(pairs, lambda share: len(share.pairs) == 1)

    monkeypatch.setattr(lake_values, "share_out", apart)
    cut = values_of(ll.rsa(lake, **asked))
    assert whole.keys() == cut.keys()
    assert any(measure.endswith("_difference") for *_spaces, measure in cut)
    for key, record in whole.items():
        assert cut[key]["value"] == pytest.approx(record["value"], abs=1e-7)
        assert cut[key]["low"] == pytest.approx(record["low"], abs=1e-6)
        assert cut[key]["n"] == N - SIZES[3]


def brute_force(pair: tuple[str, str], layer: int, gone: int) -> tuple[float, float]:
    """Return r_all and r_between of cosines without one cluster, from dense float64 matrices."""
    kept = gone != CLUSTERS
    kernels = []
    for name in pair:
        rows = SPACES[name][layer][kept].astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        kernels.append(rows @ rows.T)
    every = np.triu(np.ones(kernels[0].shape, np.bool_), 1)
    between = every & (CLUSTERS[kept][:, None] != CLUSTERS[kept])
    over_all, over_between = (
        float(np.corrcoef(kernels[0][over], kernels[1][over])[0, 1]) for over in (every, between)
    )
    return over_all, over_between


@pytest.mark.parametrize("method", ["features", "tiles"])
def test_differences_equal_those_of_brute_force_deletions(lake: Lake, method: str) -> None:
    names = ["nli-s2", "nli-s0", "cut"]
    result = ll.rsa(lake, variants=names, rows="all", differences=True, method=method)
    found = {key: r for key, r in values_of(result).items() if key[-1].endswith("_difference")}
    assert {key[2] for key in found} == {"nli-s2 - nli-s0", "nli-s2 - cut", "nli-s0 - cut"}
    for layer in range(3):
        deleted = {
            name: np.array(
                [brute_force(("base", name), layer, g) for g in (-1, *range(len(SIZES)))]
            )
            for name in names[:2]
        }
        for k, measure in enumerate(("r_all", "r_between")):
            one, other = (deleted[name][:, k] for name in names[:2])
            expected = paired_difference(one[0], one[1:], other[0], other[1:])
            record = found["base", layer, "nli-s2 - nli-s0", layer, f"{measure}_difference"]
            assert record["value"] == pytest.approx(expected.value, abs=1e-7)
            assert record["low"] == pytest.approx(expected.low, abs=1e-6)
            assert record["high"] == pytest.approx(expected.high, abs=1e-6)
            assert record["p"] == pytest.approx(expected.p_value, rel=1e-3, abs=1e-9)
            assert record["value"] < 0
    # `cut` holds the layers of `base`, whose similarity to it has no spread.
    same = found["base", 1, "nli-s0 - cut", 1, "r_all_difference"]
    assert same["value"] < 0
    assert same["low"] is same["p"] is None
    assert any("cannot be told from 1" in note for note in result.notes)
    assert "p < 0.0001" in result.table()


@pytest.mark.parametrize("measure", ["r_all", "cosine"])
@pytest.mark.parametrize("pairs", [{}, {"all_pairs": True}, {"reference_layer": 0}])
def test_noise_ceilings_are_of_the_matrix_of_seeds(
    lake: Lake, measure: str, pairs: dict[str, Any]
) -> None:
    score = "pearson" if measure == "r_all" else "cosine"
    names = ["base", "nli-s0", "nli-s1", "nli-s2", "cut"]
    asked = {"rows": "all", "interval": "none", "score": score}
    variants = names if pairs.get("all_pairs") else names[1:]
    result = ll.rsa(lake, variants=variants, ceilings=True, **pairs, **asked)
    found = [r for r in result.records if r["measure"].startswith("ceiling")]
    assert len(found) == 2 * 3
    assert {(r["reference"], r["variant"], r["n_seeds"]) for r in found} == {("base", "nli-s*", 3)}
    for layer in range(3):
        spaces = [SPACES[f"nli-s{k}"][layer] for k in range(3)]
        matrix = np.array(
            [
                [compare_arrays(a, b, CLUSTERS, **asked_of(score)).value(measure) for b in spaces]
                for a in spaces
            ]
        )
        expected = noise_ceiling(matrix)
        lower, upper = (r["value"] for r in found if r["layer"] == layer)
        assert (lower, upper) == pytest.approx((expected.lower, expected.upper), abs=1e-7)
    # The pairs of seeds are no part of what was asked for.
    others = ll.rsa(lake, variants=variants, **pairs, **asked)
    assert values_of(others).keys() == {
        k for k in values_of(result) if not k[-1].startswith("ceiling")
    }
    if not pairs:
        figure = ll.rsa(lake, variants=variants, ceilings=True, seeds=True, **asked).plot()
        assert len(figure.axes) == 1
        bands = figure.axes[0].collections  # that of the mean over seeds, and the ceiling
        assert [band.get_hatch() for band in bands] == [None, "///"]
        assert "hatched: noise ceiling" in figure.axes[0].get_ylabel()
    assert "noise ceiling" in result.table()


def asked_of(score: str) -> dict[str, Any]:
    """Return what a comparison in memory is asked for."""
    return {"score": score, "interval": "none"}


def test_permutations_test_r_between(lake: Lake) -> None:
    seen: list[Any] = []
    asked = {"permutations": 99, "seed": 5}
    result = ll.rsa(
        lake,
        variants=["nli-s0", "noise-s0"],
        rows="all",
        progress=to_function(seen.append),
        **asked,
    )
    pairs = [(("base", w), (name, w)) for w in range(3) for name in ("nli-s0", "noise-s0")]
    check(result, pairs, ("r_all", "r_between"), **asked)
    found = values_of(result)
    assert all((record["p"] is None) == (key[-1] == "r_all") for key, record in found.items())
    assert found["base", 0, "nli-s0", 0, "r_between"]["p"] == 0.01
    assert (seen[-1].label, seen[-1].done) == ("permutations of wiki", 3 * 99)
    assert seen[-1].total == 3 * 99
    assert "p = 0.01" in result.table()


def alike(found: SimilarityResult, expected: SimilarityResult) -> None:
    """Hold one answer to another: to 1e-9, and ranks looked up in histograms to their bound."""
    others = values_of(expected)
    assert list(values_of(found)) == list(others)
    for key, record in values_of(found).items():
        ranked = key[-1].startswith("spearman")
        tolerance = others[*key[:-1], "spearman"]["bound"] if ranked else 1e-9
        for name in ("value", "low", "high", "p"):
            assert (record[name] is None) == (others[key][name] is None)
            if record[name] is not None:
                assert record[name] == pytest.approx(others[key][name], abs=tolerance), (key, name)


EVERYWHERE = {
    "features": {"measure": "rsa", "method": "features", "differences": True},
    "forms": {"measure": "cka,svcca,debiased-cka"},
    "tiles": {"measure": "rsa,mutual-knn", "kernel": "euclidean", "score": "spearman"},
    "permutations": {"measure": "rsa", "permutations": 19},
}


@pytest.mark.parametrize("what", EVERYWHERE)
def test_every_scheduler_gives_the_same(
    lake: Lake, cluster: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("layerlake.analyses.similarity.tiles.planning.PANEL_ROWS", 64)
    asked = {"variants": ["nli-s0", "cut"], "layers": 1, "rows": "all", **EVERYWHERE[what]}
    alone = ll.compare(lake, **asked)
    for scheduler in ("threads", "processes", cluster.scheduler_address):
        seen: list[Any] = []
        found = ll.compare(
            lake,
            scheduler=scheduler,
            workers=None if "tcp" in scheduler else 2,
            fresh=True,
            progress=to_function(seen.append),
            **asked,
        )
        assert (found.settings, found.identity) == (alone.settings, alone.identity)
        alike(found, alone)
        assert (seen[-1].done, seen[-1].state) == (seen[-1].total, "finished")


@pytest.mark.parametrize("what", ["features", "forms", "tiles"])
def test_a_worker_that_dies_changes_nothing(
    lake: Lake, cluster: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("layerlake.analyses.similarity.tiles.planning.PANEL_ROWS", 64)
    asked = {"variants": "nli-s0", "layers": 1, "rows": "all", **EVERYWHERE[what]}
    address = cluster.scheduler_address
    whole = ll.compare(lake, scheduler=address, **asked)
    killed: list[int] = []

    def kill(event: Any) -> None:
        """Kill a worker once some rows are done."""
        if event.done and not killed:
            pids = [worker.process.pid for worker in cluster.workers.values()]
            killed.append(next(pid for pid in pids if pid is not None))
            os.kill(killed[0], signal.SIGKILL)

    found = ll.compare(lake, scheduler=address, fresh=True, progress=to_function(kill), **asked)
    assert killed
    alike(found, whole)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"rows": 9000}, InvalidInput, f"9000 rows asked for, but the variants share {N}"),
        ({"rows": 3}, InvalidInput, "3 rows are left; a comparison needs at least 4"),
        ({"variants": "bse"}, NameNotFound, "did you mean base"),
        ({"reference": "nle-s0"}, NameNotFound, "did you mean nli-s0"),
        ({"corpus": "wike"}, NameNotFound, "did you mean wiki"),
        ({"corpus": []}, InvalidInput, "names no corpora"),
        ({"measure": "ckaa"}, InvalidInput, "there is no measure 'ckaa'"),
        ({"measure": "netrep-2"}, InvalidInput, "netrep-0.5, with a number from 0 to 1"),
        ({"layers": "7"}, InvalidInput, "layer 7 asked of a model with 2 layers"),
        ({"reference_layer": 7}, InvalidInput, "base has no layer 7"),
        ({"reference_layer": True}, InvalidInput, "reference_layer is True"),
        ({"reference_layer": 1, "all_pairs": True}, InvalidInput, "choose one of --all-pairs and"),
        ({"reference": "own", "all_pairs": True}, InvalidInput, "--reference own is asked for"),
        ({"scheduler": "dask"}, InvalidInput, "scheduler 'dask' is not one of"),
        ({"workers": 2}, InvalidInput, "workers is 2, and only the schedulers"),
        ({"workers": 0, "scheduler": "threads"}, InvalidInput, "0"),
        ({"device": "gpu"}, InvalidInput, "device 'gpu' is not one of"),
        ({"memory": "10KiB"}, MemoryRefused, r"\(10240 bytes\) are allowed; allow more memory"),
        ({"memory": "much"}, InvalidInput, "much"),
        ({"kernel": "rbf", "method": "features"}, InvalidInput, "cannot be had from features"),
        ({"measure": "cka", "method": "tiles"}, InvalidInput, "cka cannot be had from tiles"),
        ({"score": "whitened-cosine"}, InvalidInput, "give --kernel sqeuclidean"),
        ({"interval": "rows"}, InvalidInput, "come from 50 clusters"),
        ({"interval": "bootstrap", "resamples": 40}, InvalidInput, "ask for at least 80"),
        ({"differences": True, "measure": "cka"}, InvalidInput, "leave differences out"),
        ({"differences": True, "interval": "none"}, InvalidInput, "leave differences out"),
        ({"ceilings": True, "score": "kendall"}, InvalidInput, "leave ceilings out"),
        ({"permutations": 9, "score": "cosine"}, InvalidInput, "permutations test rsa"),
        ({"permutations": -1}, InvalidInput, "permutations is -1"),
        ({"neighbours": N, "measure": "mutual-knn"}, InvalidInput, f"at most {N - 1} neighbours"),
        ({"confidence": 95}, InvalidInput, "confidence is 95; give a number between 0 and 1"),
        ({"bandwidth": 0, "kernel": "rbf"}, InvalidInput, "bandwidth is 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    lake: Lake, asked: dict[str, Any], error: type[Exception], said: str
) -> None:
    asked = {"corpus": "wiki", "variants": ["nli-s0"], **asked}
    for question in (ll.compare, ll.plan_compare):
        with pytest.raises(error, match=said) as refused:
            question(lake, **asked)
        assert "\n" not in str(refused.value)
    assert lake.location.nodes("results") == []


def test_a_cluster_that_nobody_answers_at_is_told(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlake.engine.workers.dask_cluster.ANSWER_SECONDS", 0.5)
    for measure in ("cka", "mutual-knn"):
        with pytest.raises(
            WorkersFailed, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"
        ):
            ll.compare(lake, variants="nli-s0", measure=measure, scheduler="tcp://127.0.0.1:9")


def test_a_device_without_cupy_is_told(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingExtra, match=r"needs CuPy, which is not installed; install it with"):
        ll.compare(lake, variants="nli-s0", device="cuda")
    assert ll.compare(lake, variants="nli-s0", layers=0, device="auto").records


ODD_MEASURES = "rsa,cka,debiased-cka,cca,svcca,pwcca,procrustes,bures,mutual-knn,cknna,rbf-cka"


def test_a_constant_space_has_no_number_and_a_reason(lake_with: Callable[..., Lake]) -> None:
    spaces = {
        "base": {0: SPACES["base"][0]},
        "flat": {0: np.full((N, 8), 0.7, np.float32)},
        "near": {0: SPACES["nli-s0"][0]},
    }
    lake = lake_with("wiki", spaces, SIZES)
    for method in ("features", "tiles"):
        asked = {"measure": "rsa"} if method == "tiles" else {"measure": ODD_MEASURES}
        result = ll.compare(
            lake, rows="all", method=method if method == "tiles" else "auto", **asked
        )
        for record in result.records:
            assert (record["value"] is None) == (record["variant"] == "flat"), record
            if record["variant"] == "flat":
                assert record["low"] is record["high"] is record["p"] is None
        assert any("flat" in note for note in result.notes), result.notes
        assert "-" in result.table()
        result.to_json()
    tested = ll.rsa(lake, rows="all", permutations=19, differences=True)
    assert [r["p"] for r in tested.records if r["variant"] == "flat"] == [None, None]
    seen = [r for r in tested.records if "flat" in r["variant"] and "-" in r["variant"]]
    assert seen
    assert all(r["value"] is None for r in seen)


@pytest.mark.parametrize("asked", [{}, {"method": "tiles"}, {"measure": "rsa,cka,mutual-knn"}])
def test_zero_rows_of_one_variant_are_left_out_of_all(
    lake_with: Callable[..., Lake], asked: dict[str, Any]
) -> None:
    holed = {layer: rows.copy() for layer, rows in SPACES["nli-s0"].items()}
    gone = [0, 17, 18, 19, 20, 60]
    holed[2][gone] = 0
    spaces = {"base": SPACES["base"], "holed": holed, "nli-s1": SPACES["nli-s1"]}
    lake = lake_with("wiki", spaces, SIZES)
    result = ll.compare(lake, rows="all", permutations=19, **asked)
    left = np.setdiff1d(np.arange(N), gone)
    assert {(r["n"], r["n_dropped"]) for r in result.records} == {(len(left), len(gone))}
    pairs = [(("base", layer), ("nli-s1", layer)) for layer in range(3)]
    result = dataclasses.replace(
        result, records=tuple(r for r in result.records if r["variant"] == "nli-s1")
    )
    measures = ["r_all", "r_between", *asked.get("measure", "rsa").split(",")[1:]]
    check(result, pairs, measures, rows=left, permutations=19, **asked)


def test_a_plan_says_what_is_done(lake: Lake) -> None:
    asked = {"variants": ["nli-s0", "wide"], "rows": 150, "measure": "rsa,cka,mutual-knn"}
    files = sorted(lake.location.files_below(""))
    plan = ll.plan_compare(lake, **asked)
    assert sorted(lake.location.files_below("")) == files
    assert (plan.n_rows, plan.n_spaces, plan.n_pairs) == (150, 9, 6)
    assert plan.method in ("features", "tiles")
    once = 150 * 4 * (8 + 8 + 12) * 3
    assert 3 * once <= plan.bytes_read <= plan.n_passes * once
    assert 2**17 < plan.bytes_held < 2**24
    assert 0 < plan.seconds < 60
    assert plan.multiply_adds > 150 * (8 * 8 * 2 + 12 * 12) * 3
    assert ll.plan_compare(lake, **asked, permutations=99).multiply_adds > plan.multiply_adds
    lines = plan.table().splitlines()
    assert lines[0].split() == ["rows", "150", "of", "9", "spaces,", "6", "pairs", "of", "spaces"]
    tracemalloc.start()
    try:
        ll.compare(lake, **asked)
        ll.compare(lake, **asked, fresh=True)
        tracemalloc.reset_peak()
        ll.compare(lake, **asked, fresh=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * plan.bytes_held + 2**20  # the lake's own metadata lies beside the passes
