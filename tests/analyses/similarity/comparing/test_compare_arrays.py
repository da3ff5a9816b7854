"""Every measure of two arrays against other people's code, the textbook, and itself."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import cdist, squareform
from scipy.stats import rankdata

from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays
from layerlake.analyses.similarity.estimates import PairValues
from layerlake.store.errors import InvalidInput, MemoryRefused

Rows = NDArray[Any]
KERNELS = ("cosine", "correlation", "linear", "sqeuclidean")
FORMS = (
    "cka", "debiased-cka", "cca", "svcca", "pwcca", "procrustes", "procrustes-size", "bures",
    "netrep-0", "netrep-0.3", "netrep-1",
)  # fmt: skip
TILED = ("rbf-cka", "debiased-rbf-cka", "mutual-knn", "cknna")


def related(
    n: int, d: int = 9, e: int = 6, shift: float = 3.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two spaces that share a part, of unequal variances and with means far from 0."""
    rng = np.random.default_rng(seed)
    one = rng.standard_normal((n, d)) * np.linspace(2, 0.5, d)
    other = one @ rng.standard_normal((d, e)) + 2 * rng.standard_normal((n, e))
    return one + shift * rng.standard_normal(d), other + shift * rng.standard_normal(e)


def laplace(left: Any, right: Any) -> Any:
    """A kernel of a person's own, exp(-|x - y|_1 / 10), by calls that all libraries have."""
    columns = [abs(left[:, k][:, None] - right[:, k][None, :]) for k in range(left.shape[1])]
    return 2.0 ** (-sum(columns[1:], columns[0]) / 10)


# References, in float64 from the rows.


def median_distance(x: Rows) -> float:
    return float(np.median(cdist(x, x)[np.triu_indices(len(x), 1)]))


def compared(x: Rows, kernel: Any) -> NDArray[np.float64]:
    """What scores compare, (pair,): dissimilarities, and kernels that are none as they are."""
    if kernel == "linear":
        table = x @ x.T
    elif kernel == "rbf":
        pairwise = pytest.importorskip("sklearn.metrics.pairwise")
        table = 1 - pairwise.rbf_kernel(x, gamma=1 / (2 * median_distance(x) ** 2))
    elif callable(kernel):
        table = kernel(x, x)
    else:
        table = cdist(x, x, kernel)
    return np.asarray(table[np.triu_indices(len(x), 1)])


def toolbox(method: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """What rsatoolbox makes of two tables of dissimilarities."""
    rdm = pytest.importorskip("rsatoolbox.rdm")
    return float(rdm.compare(rdm.RDMs(a[None]), rdm.RDMs(b[None]), method=method)[0, 0])


def centred(x: Rows) -> NDArray[np.float64]:
    return np.asarray(x - x.mean(axis=0), dtype=np.float64)


def hsic(k: Rows, l: Rows) -> float:
    """tr(K H L H)."""
    h = np.eye(len(k)) - 1 / len(k)
    return float(np.sum((h @ k @ h) * (h @ l @ h)))


def unbiased_hsic(k: Rows, l: Rows) -> float:
    """Song et al. 2012, equation 5, as platonic-rep has it."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    found = np.sum(k * l.T) + k.sum() * l.sum() / ((n - 1) * (n - 2))
    return float(found - 2 * np.sum(k @ l) / (n - 2)) / (n * (n - 3))


def alignment(of: Callable[[Rows, Rows], float], k: Rows, l: Rows) -> float:
    return of(k, l) / math.sqrt(of(k, k) * of(l, l))


def rbf(x: Rows) -> NDArray[np.float64]:
    return np.asarray(np.exp(-cdist(x, x, "sqeuclidean") / (2 * median_distance(x) ** 2)))


def canonical(x: Rows, y: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Canonical correlations, and the canonical directions of x over the rows."""
    q, p = linalg.orth(centred(x)), linalg.orth(centred(y))
    u, values, _ = linalg.svd(q.T @ p, full_matrices=False)
    return values, q @ u


def leading(x: Rows) -> NDArray[np.float64]:
    """Project on the fewest principal axes that hold .99 of the variance."""
    u, s, _ = linalg.svd(centred(x), full_matrices=False)
    count = int(np.argmax(np.cumsum(s**2) / np.sum(s**2) >= 0.99)) + 1
    return np.asarray(u[:, :count] * s[:count])


def pwcca(x: Rows, y: Rows) -> float:
    """Morcos et al. 2018; the weights are of the smaller space."""
    if x.shape[1] > y.shape[1]:
        x, y = y, x
    values, directions = canonical(x, y)
    weights = np.abs(directions.T @ centred(x)).sum(axis=1)
    return float(values @ weights / weights.sum())


def netrep(x: Rows, y: Rows, alpha: float) -> float:
    """Williams et al. 2021: partly whiten, scale to norm one, rotate, take the angle."""
    whole = []
    for z in (centred(x), centred(y)):
        root = linalg.inv(linalg.sqrtm(z.T @ z))
        z = z @ (alpha * np.eye(z.shape[1]) + (1 - alpha) * root)
        whole.append(z / linalg.norm(z))
    return float(np.arccos(min(linalg.svdvals(whole[0].T @ whole[1]).sum(), 1.0)))


def bures(x: Rows, y: Rows) -> float:
    """tr (K^1/2 L K^1/2)^1/2 over the roots of the traces, with centred kernels (ReSi)."""
    roots, traces = [], []
    for z in (centred(x), centred(y)):
        u, s, _ = linalg.svd(z, full_matrices=False)
        roots.append((u * s) @ u.T)
        traces.append(np.sum(s**2))
    # The root of the eigenvalues of K^1/2 L K^1/2, without squaring their rounding.
    inner = linalg.svdvals(roots[0] @ roots[1]).sum()
    return float(inner / math.sqrt(traces[0] * traces[1]))


def nearest(x: Rows, k: int) -> NDArray[np.int64]:
    neighbors = pytest.importorskip("sklearn.neighbors")
    search = neighbors.NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute")
    return np.asarray(search.fit(x).kneighbors(return_distance=False))


def mutual_knn(x: Rows, y: Rows, k: int) -> float:
    both = zip(nearest(x, k).tolist(), nearest(y, k).tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in both]))


def cknna(x: Rows, y: Rows, k: int) -> float:
    """Huh et al. 2024, as platonic-rep has it."""
    unit = [z / linalg.norm(z, axis=1, keepdims=True) for z in (x, y)]
    kernels = [z @ z.T for z in unit]
    masks = []
    for z in (x, y):
        mask = np.zeros((len(z), len(z)))
        np.put_along_axis(mask, nearest(z, k), 1, axis=1)
        masks.append(mask)

    def near(a: int, b: int) -> float:
        mask = masks[a] * masks[b]
        return unbiased_hsic(mask * kernels[a], mask * kernels[b])

    return near(0, 1) / math.sqrt(near(0, 0) * near(1, 1))


def reference(measure: str, x: Rows, y: Rows, k: int = 5) -> float:
    """The textbook's number."""
    grams = [centred(z) @ centred(z).T for z in (x, y)]
    overlap = float(linalg.svdvals(centred(x).T @ centred(y)).sum())
    sizes = [float(np.sum(centred(z) ** 2)) for z in (x, y)]
    return {
        "cka": lambda: alignment(hsic, x @ x.T, y @ y.T),
        "debiased-cka": lambda: alignment(unbiased_hsic, *grams),
        "cca": lambda: float(canonical(x, y)[0].mean()),
        "svcca": lambda: float(canonical(leading(x), leading(y))[0].mean()),
        "pwcca": lambda: pwcca(x, y),
        "procrustes": lambda: math.acos(overlap / math.sqrt(sizes[0] * sizes[1])),
        "procrustes-size": lambda: math.sqrt(sum(sizes) - 2 * overlap),
        "bures": lambda: bures(x, y),
        "netrep-0": lambda: netrep(x, y, 0),
        "netrep-0.3": lambda: netrep(x, y, 0.3),
        "netrep-1": lambda: netrep(x, y, 1),
        "rbf-cka": lambda: alignment(hsic, rbf(x), rbf(y)),
        "debiased-rbf-cka": lambda: alignment(unbiased_hsic, rbf(x), rbf(y)),
        "mutual-knn": lambda: mutual_knn(x, y, k),
        "cknna": lambda: cknna(x, y, k),
    }[measure]()


# Against others.


@pytest.mark.parametrize(
    ("method", "kernel"),
    [
        *(("features", kernel) for kernel in KERNELS),
        *(("tiles", kernel) for kernel in (*KERNELS, "euclidean", "rbf", laplace)),
    ],
)
def test_pearson_and_cosine_are_those_of_rsatoolbox(kernel: Any, method: str) -> None:
    x, y = related(90)
    clusters = np.repeat(np.arange(30), 3)
    between = squareform(clusters[:, None] != clusters, checks=False)
    tables = [compared(z, kernel) for z in (x, y)]
    tolerance = 1e-8 if method == "features" else 2e-7
    for score, name, theirs in (("pearson", "r_all", "corr"), ("cosine", "cosine", "cosine")):
        found = compare_arrays(x, y, clusters, kernel=kernel, score=score, method=method)
        assert found.value(name) == pytest.approx(toolbox(theirs, *tables), abs=tolerance)
        other = "r_between" if score == "pearson" else "cosine_between"
        some = [table[between] for table in tables]
        if score == "pearson":
            want = float(np.corrcoef(*some)[0, 1])
        else:
            want = float(some[0] @ some[1] / linalg.norm(some[0]) / linalg.norm(some[1]))
        assert found.value(other) == pytest.approx(want, abs=tolerance)
        assert found[name].low < found.value(name) < found[name].high


@pytest.mark.parametrize("kernel", [*KERNELS, "euclidean", "rbf", laplace])
def test_ranks_are_those_of_rsatoolbox(kernel: Any) -> None:
    x, y = related(60)
    clusters = np.repeat(np.arange(20), 3)
    tables = [compared(z, kernel) for z in (x, y)]
    found = compare_arrays(x, y, clusters, kernel=kernel, score="spearman")
    want = toolbox("spearman", *tables)
    bound = found["spearman"].bound
    assert abs(found.value("spearman") - want) <= min(bound, 3e-5)
    ranks = [rankdata(t)[squareform(clusters[:, None] != clusters, checks=False)] for t in tables]
    assert found.value("spearman_between") == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=3e-5)
    found = compare_arrays(x, y, clusters, kernel=kernel, score="kendall")
    bound = found["kendall"].bound
    assert abs(found.value("kendall") - toolbox("tau-a", *tables)) <= min(bound, 1e-4)


@pytest.mark.parametrize(
    ("score", "theirs"), [("whitened-cosine", "cosine_cov"), ("whitened-correlation", "corr_cov")]
)
def test_whitened_scores_are_those_of_rsatoolbox(score: str, theirs: str) -> None:
    x, y = related(40)
    found = compare_arrays(x, y, kernel="sqeuclidean", score=score)
    want = toolbox(theirs, *(compared(z, "sqeuclidean") for z in (x, y)))
    assert found.value(score) == pytest.approx(want, abs=2e-7)


@pytest.mark.parametrize("shape", [(120, 9, 6), (120, 5, 8), (90, 7, 7)])
def test_measures_are_those_of_the_textbook(shape: tuple[int, int, int]) -> None:
    x, y = related(*shape)
    x[:, 0] *= 6  # one axis holds most of the variance: SVCCA drops others
    found = compare_arrays(x, y, measure=[*FORMS, *TILED], neighbours=5)
    assert [estimate.measure for estimate in found.estimates] == [*FORMS, *TILED]
    for measure in FORMS:
        assert found.value(measure) == pytest.approx(reference(measure, x, y), abs=1e-9), measure
    for measure in TILED:
        assert found.value(measure) == pytest.approx(reference(measure, x, y), abs=2e-7), measure
    alone = compare_arrays(x, y, measure="cka")  # by float32 products
    assert alone.value("cka") == pytest.approx(reference("cka", x, y), abs=1e-8)


def test_measures_are_those_of_scipy_and_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.cross_decomposition")
    x, y = related(150, 5, 5)
    found = compare_arrays(x, y, measure="procrustes,cca", interval="none")
    disparity = scipy_procrustes(x, y)[2]
    assert math.sin(found.value("procrustes")) ** 2 == pytest.approx(disparity, abs=1e-9)
    scores = decomposition.CCA(n_components=5, max_iter=10_000, tol=1e-12).fit_transform(x, y)
    each = [np.corrcoef(scores[0][:, k], scores[1][:, k])[0, 1] for k in range(5)]
    assert found.value("cca") == pytest.approx(np.mean(each), abs=1e-6)


def test_a_mean_over_batches_is_another_number() -> None:
    x, y = related(128, 40, 40)
    whole = compare_arrays(x, y, measure="cka", block_rows=16).value("cka")
    batches = [reference("cka", x[lo : lo + 16], y[lo : lo + 16]) for lo in range(0, 128, 16)]
    assert whole == pytest.approx(reference("cka", x, y), abs=1e-8)
    assert np.mean(batches) - whole > 0.05


# Against itself.


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("score", ["pearson", "cosine"])
@pytest.mark.parametrize("shift", [0.0, 8.0, 60.0])
def test_features_and_tiles_agree(kernel: str, score: str, shift: float) -> None:
    """On rows of a mean cosine of 0, .98 and .9997."""
    x, y = (z.astype(np.float32) for z in related(500, 48, 40, shift))
    clusters = np.repeat(np.arange(100), 5)
    found = [
        compare_arrays(x, y, clusters, kernel=kernel, score=score, method=method)
        for method in ("features", "tiles")
    ]
    for one, other in zip(found[0].estimates, found[1].estimates, strict=True):
        assert one.value == pytest.approx(other.value, abs=2e-7)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=2e-6)
    assert found[0].counts == found[1].counts


def asked(precision: str) -> list[dict[str, Any]]:
    """Questions that reach every measure, and rounding in them where it does not decide ranks."""
    measures = ["rsa", *FORMS, *TILED] if precision == "float64" else ["rsa", "cka", "debiased-cka"]
    more: list[dict[str, Any]] = [
        {"measure": measures, "neighbours": 3, "kernel": "cosine"},
        {"measure": "rsa", "kernel": "correlation", "method": "tiles", "score": "cosine"},
        {"measure": "rsa,cka", "kernel": "sqeuclidean", "method": "features"},
    ]
    if precision == "float64":
        more += [
            {"measure": "rsa", "kernel": "euclidean", "score": "spearman"},
            {"measure": "rsa", "kernel": "linear", "score": "kendall"},
            {"measure": "rsa", "interval": "bootstrap", "resamples": 100},
        ]
    else:
        more.append({"measure": "rbf-cka,debiased-rbf-cka"})
    return more


def assert_same(one: PairValues, other: PairValues, tolerance: float) -> None:
    """Hold all numbers of two answers to be the same."""
    assert one.counts == other.counts
    for here, there in zip(one.estimates, other.estimates, strict=True):
        about = (here.bound or 0.0) + (there.bound or 0.0) + tolerance
        np.testing.assert_allclose(there.value, here.value, atol=about, err_msg=here.measure)
        for end in ("low", "high"):
            ends = [getattr(e, end) for e in (here, there)]
            assert (ends[0] is None) == (ends[1] is None), (here.measure, end)
            if ends[0] is not None and not here.bound:
                np.testing.assert_allclose(
                    ends[1], ends[0], atol=10 * tolerance, rtol=10 * tolerance, err_msg=here.measure
                )


@settings(max_examples=20)
@given(
    n_rows=st.integers(24, 70),
    block_rows=st.integers(1, 80),
    longest=st.integers(1, 30),
    seed=st.integers(0, 2**16),
    library=st.sampled_from(["numpy", "array_api_strict", "torch"]),
    precision=st.sampled_from(["float32", "float64"]),
    question=st.integers(0, 5),
    drop=st.booleans(),
)
def test_blocks_order_and_library_do_not_matter(
    n_rows: int,
    block_rows: int,
    longest: int,
    seed: int,
    library: str,
    precision: str,
    question: int,
    drop: bool,
) -> None:
    """Whatever the blocks, clusters in any order, whichever library: the same answer."""
    xp = pytest.importorskip(library)
    rng = np.random.default_rng(seed)
    x, y = related(n_rows, 6, 5, seed=seed)
    if drop:
        x[3] = 0
    clusters = rng.permutation(np.arange(n_rows) // longest)
    questions = asked(precision)
    settings_of = questions[question % len(questions)] | {"precision": precision}
    whole = compare_arrays(x, y, clusters, **settings_of)
    # Clusters side by side, in the order in which they first came; rows of each stay in order.
    order = np.argsort(clusters, kind="stable")
    moved = [xp.asarray(z[order]) for z in (x, y)]
    other = compare_arrays(*moved, clusters[order] + 7, block_rows=block_rows, **settings_of)
    assert_same(whole, other, 2e-7 if precision == "float32" else 1e-9)


# What is refused, dropped or undefined.


@pytest.mark.parametrize("kernel", ["cosine", "correlation", "sqeuclidean"])
def test_rows_that_one_measure_cannot_take_are_dropped_from_all(kernel: str) -> None:
    x, y = related(90)
    x[7] = y[20] = 0
    y[33] = 2.0  # has a length, and nothing once it is centred
    clusters = np.arange(90) // 3
    left = np.ones(90, np.bool_)
    left[[7, 20, 33] if kernel == "correlation" else [7, 20]] = False
    measures = ["cka", "rsa", "rbf-cka", "cca", "mutual-knn"]
    found = compare_arrays(x, y, clusters, measure=measures, kernel=kernel, neighbours=4)
    assert found.counts.n_dropped == np.count_nonzero(~left)
    alone = compare_arrays(
        x[left], y[left], clusters[left], measure=measures, kernel=kernel, neighbours=4
    )
    assert found.counts.n_rows == alone.counts.n_rows == np.count_nonzero(left)
    for one, other in zip(found.estimates, alone.estimates, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-8), one.measure
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-7)
    # A row of zeros is a row like others where no measure needs its direction.
    assert compare_arrays(x, y, clusters, measure="cka").counts.n_dropped == 0


@pytest.mark.parametrize("magnitude", [1e-12, 1e9])
@pytest.mark.parametrize("kernel", ["linear", "sqeuclidean"])
def test_cosine_does_not_depend_on_the_units_of_the_rows(kernel: str, magnitude: float) -> None:
    x, y = related(60)
    for method in ("features", "tiles"):
        found = [
            compare_arrays(s * x, s * y, kernel=kernel, score="cosine", method=method)
            for s in (1.0, magnitude)
        ]
        assert found[1].value("cosine") == pytest.approx(found[0].value("cosine"), abs=2e-7)


def constant_rows(kind: str, n: int) -> NDArray[np.float64]:
    """Rows that are all the same."""
    if kind == "dyadic":
        return np.full((n, 6), 0.25)
    rows = np.random.default_rng(5).standard_normal(6)
    return np.tile({"plain": rows, "small": 1e-9 * rows, "large": 1e9 * rows + 3}[kind], (n, 1))


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("plain", "float32"), ("dyadic", "float64"), ("small", "float32"), ("large", "float64")],
)
def test_constant_spaces_have_no_value_but_a_reason(kind: str, precision: str) -> None:
    n = 64
    x, y = related(n)[0], constant_rows(kind, n)
    clusters = np.arange(n) // 16
    questions: list[dict[str, Any]] = [{"measure": [*FORMS, *TILED]}, {"interval": "bootstrap"}]
    for kernel in (*KERNELS, "euclidean", "rbf", laplace):
        if kernel == "correlation" and kind == "dyadic":
            continue  # such rows have no direction at all
        methods = ("features", "tiles") if kernel in KERNELS else ("tiles",)
        for score in ("pearson", "cosine"):
            questions += [{"kernel": kernel, "score": score, "method": m} for m in methods]
        questions += [{"kernel": kernel, "score": score} for score in ("spearman", "kendall")]
    questions += [
        {"kernel": "sqeuclidean", "score": score}
        for score in ("whitened-cosine", "whitened-correlation")
    ]
    for k, question in enumerate(questions):
        spaces, name = ((x, y), "Y") if k % 2 else ((y, x), "X")
        found = compare_arrays(*spaces, clusters, precision=precision, **question)
        assert any(name in note and ("same" in note or "zero" in note) for note in found.notes)
        for estimate in found.estimates:
            assert math.isnan(estimate.value), (question, estimate)
            assert estimate.low is estimate.high is estimate.bound is None, question


def orthogonal(n: int, kind: str) -> tuple[Rows, Rows]:
    """Two spaces whose rows are all at right angles, so that only rounding tells pairs apart."""
    if kind == "simplex":
        return np.eye(n, dtype=np.float32), np.eye(n, dtype=np.float32)[::-1].copy()
    rng = np.random.default_rng(3)
    one, other = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    return one.astype(np.float32), other.astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "n"), [("simplex", 8), ("simplex", 40), ("bases", 40), ("bases", 300)]
)
def test_rounding_is_not_compared(kind: str, n: int) -> None:
    x, y = orthogonal(n, kind)
    noise = np.random.default_rng(4).standard_normal((n, 9)).astype(np.float32)
    clusters = np.arange(n) // 4
    questions: list[dict[str, Any]] = [
        {"kernel": kernel, "score": score}
        for kernel in ("cosine", "linear", "sqeuclidean", "euclidean", "rbf")
        for score in ("pearson", "spearman", "kendall")
    ]
    questions += [{"kernel": kernel, "interval": "bootstrap"} for kernel in ("cosine", "linear")]
    questions.append({"kernel": "rbf", "score": "spearman", "bandwidth": 0.5})
    for question in questions:
        for spaces, names in (((x, y), "XY"), ((x, noise), "X"), ((noise, y), "Y")):
            found = compare_arrays(*spaces, clusters, method="tiles", **question)
            told = [note for note in found.notes if "is the same for all pairs of rows" in note]
            assert len(told) == len(names), question
            assert all(f" of {name} is" in note for name, note in zip(names, told, strict=True))
            for estimate in found.estimates:
                assert math.isnan(estimate.value), (question, estimate)
                assert estimate.low is estimate.high is estimate.bound is None, question


@pytest.mark.parametrize("score", ["pearson", "spearman", "kendall"])
@pytest.mark.parametrize("kernel", ["cosine", "sqeuclidean", "euclidean", "rbf"])
def test_kernels_that_hardly_vary_are_compared(kernel: str, score: str) -> None:
    x = np.random.default_rng(5).standard_normal((24, 30_000)).astype(np.float32)
    x[3] *= 3  # an outlier
    y = (x + 0.5 * np.random.default_rng(6).standard_normal(x.shape)).astype(np.float32)
    found = compare_arrays(x, y, method="tiles", kernel=kernel, score=score, interval="none")
    assert all(estimate.value > 0.3 for estimate in found.estimates)


def test_what_is_not_defined_between_clusters_has_no_interval() -> None:
    n = 40
    clusters = np.arange(n) // 4
    halves = np.zeros((n, 20), np.float32)  # each cluster has two of the corners of a simplex
    halves[np.arange(n), np.arange(n) // 2] = 1
    noise = np.random.default_rng(0).standard_normal((n, 9)).astype(np.float32)
    found = compare_arrays(
        halves, noise, clusters, kernel="euclidean", interval="bootstrap", resamples=80
    )
    assert found["r_all"].low is not None
    between = found["r_between"]
    assert math.isnan(between.value)
    assert between.low is between.high is None


@pytest.mark.parametrize("kernel", ["cosine", "linear", "euclidean"])
def test_what_is_not_defined_has_no_p(kernel: str) -> None:
    n = 40
    noise = np.random.default_rng(0).standard_normal((n, 9)).astype(np.float32)
    for constant in (np.ones((n, 5), np.float32), np.eye(n, dtype=np.float32)):
        found = compare_arrays(
            constant, noise, np.arange(n) // 4, kernel=kernel, permutations=19, interval="none"
        )
        assert math.isnan(found["r_between"].value)
        assert found["r_between"].p is None


@pytest.mark.parametrize(
    "question",
    [
        {"score": "pearson"},
        {"score": "spearman"},
        {"score": "kendall"},
        {"score": "whitened-cosine", "kernel": "sqeuclidean"},
        {"measure": "mutual-knn"},
        {"measure": "cka,cca,rbf-cka"},
        {"measure": "rsa,procrustes,cca,mutual-knn"},
    ],
)
def test_few_clusters_are_told_once(question: dict[str, Any]) -> None:
    x, y = related(40)
    one = compare_arrays(x, y, np.zeros(40, int), **question)
    assert all(estimate.low is estimate.high is None for estimate in one.estimates)
    assert sum("so there is no interval" in note for note in one.notes) == 1
    few = compare_arrays(x, y, np.arange(40) // 4, **question)
    assert any(estimate.low is not None for estimate in few.estimates)
    assert sum("10 clusters are few" in note for note in few.notes) == 1
    none = compare_arrays(x, y, np.arange(40) // 4, interval="none", **question)
    assert not any("few:" in note or "interval" in note for note in none.notes)
    many = compare_arrays(*related(100), np.arange(100), **question)
    assert not any("clusters are few" in note for note in many.notes)


def test_a_bandwidth_is_not_made_of_equal_rows() -> None:
    x, y = related(60)
    y[:55] = y[0]
    with pytest.raises(InvalidInput, match="half of the sampled rows of Y are equal"):
        compare_arrays(x, y, measure="rbf-cka")
    assert 0 < compare_arrays(x, y, measure="rbf-cka", bandwidth=2.0).value("rbf-cka") < 1


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"measure": "rsa", "n": 3}, "3 rows are left; a comparison needs at least 4"),
        ({"measure": "mutual-knn", "neighbours": 30}, "give at most 29 neighbours"),
        ({"measure": "cknna", "neighbours": 1}, "give at least 2 neighbours"),
        ({"kernel": "rbf", "method": "features"}, "the rbf kernel cannot be had from features"),
        ({"score": "kendall", "method": "features"}, "the score kendall cannot be had from"),
        ({"measure": "cka", "method": "tiles"}, "cka cannot be had from tiles"),
        ({"score": "whitened-cosine"}, "give --kernel sqeuclidean"),
        ({"measure": "netrep-2"}, "a number from 0 to 1"),
        ({"measure": "likeness"}, "there is no measure 'likeness'"),
        ({"kernel": "manhattan"}, "there is no kernel 'manhattan'"),
        ({"score": "tau-b"}, "there is no score 'tau-b'"),
        ({"interval": "rows"}, "30 rows come from 15 clusters"),
        ({"interval": "bootstrap", "score": "spearman"}, "the interval bootstrap is there for rsa"),
        ({"bandwidth": 0.0, "kernel": "rbf"}, "give a number above 0"),
        ({"confidence": 95}, "a number between 0 and 1"),
        ({"block_rows": 0}, "block_rows is 0; give at least 1"),
        ({"interval": "row"}, "choose one of cluster, rows, bootstrap, none"),
        ({"precision": "float16"}, "choose one of float32, float64"),
        ({"memory": "much"}, "4GiB"),
        ({"interval": "bootstrap", "resamples": 50}, "50 resamples are too few"),
    ],
)
def test_bad_questions_are_refused(question: dict[str, Any], said: str) -> None:
    more = dict(question)
    n = more.pop("n", 30)
    x, y = related(n)
    with pytest.raises(InvalidInput) as refused:
        compare_arrays(x, y, np.arange(n) // 2, **more)
    assert said in str(refused.value)


def test_bad_arrays_are_refused() -> None:
    x, y = related(30)
    with pytest.raises(InvalidInput, match="X has 30 rows, Y 29"):
        compare_arrays(x, y[:29])
    with pytest.raises(InvalidInput, match=r"Y has the shape \(30,\); give an array"):
        compare_arrays(x, y[:, 0])
    for value in (np.nan, np.inf):
        bad = y.copy()
        bad[11, 2] = value
        for measure in ("rsa", "cka", "rbf-cka", "mutual-knn"):
            with pytest.raises(InvalidInput, match="row 11 of Y holds NaN or infinity"):
                compare_arrays(x, bad, measure=measure)
    nothing = x.copy()
    nothing[3:] = 0
    with pytest.raises(InvalidInput, match="3 rows are left after 27 without a direction"):
        compare_arrays(nothing, y)
    dropped = x.copy()
    dropped[5:] = 0
    with pytest.raises(InvalidInput, match="at most 4 neighbours"):
        compare_arrays(dropped, y, measure="mutual-knn", neighbours=10)


@pytest.mark.parametrize(
    "question",
    [
        {"method": "features"},
        {"method": "tiles"},
        {"measure": "cca"},
        {"measure": "rbf-cka"},
        {"measure": "mutual-knn"},
        {"score": "spearman"},
        {"score": "kendall"},
        {"interval": "bootstrap"},
    ],
)
def test_too_little_memory_is_refused_with_the_least(question: dict[str, Any]) -> None:
    x, y = related(300, 64, 64)
    with pytest.raises(MemoryRefused) as refused:
        compare_arrays(x, y, memory=1000, **question)
    stated = re.search(r"needs .* \((\d+) bytes\) of memory", str(refused.value))
    assert stated
    least = int(stated[1])
    assert compare_arrays(x, y, memory=least, **question).estimates
    with pytest.raises(MemoryRefused):
        compare_arrays(x, y, memory=least - 1, **question)


@pytest.mark.parametrize("method", ["features", "tiles"])
def test_a_space_without_any_direction_is_named(method: str) -> None:
    X = np.random.default_rng(0).standard_normal((40, 6))
    said = "no row of Y has one; a comparison needs at least 4 rows"
    with pytest.raises(InvalidInput, match=said):
        compare_arrays(X, np.zeros((40, 6)), method=method)
    with pytest.raises(InvalidInput, match=said):
        compare_arrays(X, np.ones((40, 6)), kernel="correlation", method=method)
