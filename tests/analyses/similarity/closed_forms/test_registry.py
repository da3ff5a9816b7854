"""Closed forms against the textbook: rows x rows matrices, QR of the raw rows, the rotated rows."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from scipy.spatial.distance import pdist

from layerlake.analyses.similarity.closed_forms.centred_sums import CrossSums, SpaceSums
from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.pair import SpacePair
from layerlake.analyses.similarity.closed_forms.registry import (
    FORMS,
    form_named,
    forms_memory,
    measure,
)
from layerlake.store.errors import InvalidInput

SYMMETRIC = [name for name, form in FORMS.items() if form.symmetric]


def sums_of(X: np.ndarray) -> SpaceSums:
    """The sums of one space, from its rows."""
    x = X.astype(np.float64)
    mean = x.mean(axis=0)
    x = x - mean
    p = (x * x).sum(axis=1)
    return SpaceSums(len(x), mean, x.T @ x, p @ x, float(p @ p))


def cross_of(X: np.ndarray, Y: np.ndarray) -> CrossSums:
    """The sums of two spaces, from their rows."""
    x, y = (part.astype(np.float64) for part in (X, Y))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    p, q = (x * x).sum(axis=1), (y * y).sum(axis=1)
    return CrossSums(x.T @ y, q @ x, p @ y, float(p @ q))


def pair_of(X: np.ndarray, Y: np.ndarray) -> SpacePair:
    """Both spaces, ready to be measured."""
    left = Decomposition(sums_of(X), "X", X.dtype)
    return SpacePair(left, Decomposition(sums_of(Y), "Y", Y.dtype), cross_of(X, Y))


def value(name: str, X: np.ndarray, Y: np.ndarray) -> float:
    """One number."""
    return measure([name], pair_of(X, Y))[name].value


def related(n: int = 60, d: int = 7, e: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two spaces that share a part, of unequal variances and with means far from 0."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, d)) * np.linspace(3, 0.3, d)
    other = shared @ rng.standard_normal((d, e)) + 2 * rng.standard_normal((n, e))
    return shared + 4 * rng.standard_normal(d), other + 4 * rng.standard_normal(e)


def centred(X: np.ndarray) -> np.ndarray:
    return X.astype(np.float64) - X.astype(np.float64).mean(axis=0)


# References, each in float64 from the rows.


def textbook_cka(X, Y):
    n = len(X)
    H = np.eye(n) - 1 / n
    K, L = H @ (X @ X.T) @ H, H @ (Y @ Y.T) @ H
    return np.sum(K * L) / np.sqrt(np.sum(K * K) * np.sum(L * L))


def unbiased_hsic(K, L):
    """Song et al. 2012, eq. 5."""
    n = len(K)
    K, L = K.copy(), L.copy()
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    one = np.ones(n, K.dtype)
    terms = np.sum(K * L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return (terms - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3))


def textbook_debiased(X, Y, round_to="float64"):
    K, L = (np.float64((Z @ Z.T).astype(round_to)) for Z in (X, Y))
    return unbiased_hsic(K, L) / np.sqrt(unbiased_hsic(K, K) * unbiased_hsic(L, L))


def whitened(X, Y, *, off_mean):
    """The cosine of distances after whitening by their covariance V = (C C')^2 under noise."""
    n = len(X)
    contrasts = np.array([np.eye(n)[i] - np.eye(n)[j] for i in range(n) for j in range(i + 1, n)])
    V = (contrasts @ contrasts.T) ** 2
    a, b = pdist(X, "sqeuclidean"), pdist(Y, "sqeuclidean")
    if off_mean:
        a, b = a - a.mean(), b - b.mean()
    inner = lambda s, t: s @ np.linalg.solve(V, t)
    return inner(a, b) / np.sqrt(inner(a, a) * inner(b, b))


def basis(X):
    """An orthonormal basis of what the centred columns span, by QR with pivots."""
    q, r, _ = linalg.qr(centred(X), mode="economic", pivoting=True)
    size = np.abs(np.diagonal(r))
    return q[:, size > 1e-13 * size[0]]


def textbook_cca(X, Y):
    return linalg.svdvals(basis(X).T @ basis(Y))


def textbook_svcca(X, Y, fraction=0.99):
    kept = []
    for part in (X, Y):
        u, s, _ = np.linalg.svd(centred(part), full_matrices=False)
        count = next(
            k for k in range(1, len(s) + 1) if np.sum(s[:k] ** 2) >= fraction * np.sum(s**2)
        )
        kept.append(u[:, :count])
    return linalg.svdvals(kept[0].T @ kept[1]).mean()


def textbook_pwcca(X, Y):
    """Morcos et al. 2018: weights of the space with fewer directions, of X on a tie."""
    qx, qy = basis(X), basis(Y)
    u, rho, vt = np.linalg.svd(qx.T @ qy, full_matrices=False)
    h, rows = (qx @ u, X) if qx.shape[1] <= qy.shape[1] else (qy @ vt.T, Y)
    alpha = np.abs(h.T @ centred(rows)).sum(axis=1)
    return alpha @ rho / alpha.sum()


def padded(X, Y):
    """Centred rows, the narrower space with coordinates of zeros."""
    width = max(X.shape[1], Y.shape[1])
    return [np.pad(centred(part), ((0, 0), (0, width - part.shape[1]))) for part in (X, Y)]


def angle_of(x, y):
    """The angle after the best rotation of x to y."""
    rotation, _ = linalg.orthogonal_procrustes(x, y)
    return math.acos(np.sum((x @ rotation) * y) / (np.linalg.norm(x) * np.linalg.norm(y)))


def netrep(X, Y, alpha):
    """Williams et al. 2021: partial whitening of both, then the angle."""
    parts = []
    for part in (X, Y):
        x = centred(part)
        squares, vectors = np.linalg.eigh(x.T @ x)
        parts.append(x @ (vectors * (alpha + (1 - alpha) / np.sqrt(squares))) @ vectors.T)
    return angle_of(*padded(*parts))


def textbook_bures(X, Y):
    """The fidelity of the rows x rows kernels, normalised."""
    K, L = (centred(part) @ centred(part).T for part in (X, Y))
    squares, vectors = np.linalg.eigh(K)
    root = (vectors * np.sqrt(np.maximum(squares, 0))) @ vectors.T
    inner = np.maximum(np.linalg.eigvalsh(root @ L @ root), 0)
    return np.sqrt(inner).sum() / np.sqrt(np.trace(K) * np.trace(L))


def textbook_size(X, Y):
    x, y = padded(X, Y)
    rotation, _ = linalg.orthogonal_procrustes(x, y)
    return np.linalg.norm(x @ rotation - y)


REFERENCES = {
    "cka": textbook_cka,
    "debiased-cka": textbook_debiased,
    "whitened-cosine": lambda X, Y: whitened(X, Y, off_mean=False),
    "whitened-correlation": lambda X, Y: whitened(X, Y, off_mean=True),
    "cca": lambda X, Y: textbook_cca(X, Y).mean(),
    "cca-r2": lambda X, Y: (textbook_cca(X, Y) ** 2).mean(),
    "svcca": textbook_svcca,
    "svcca-0.8": lambda X, Y: textbook_svcca(X, Y, 0.8),
    "pwcca": textbook_pwcca,
    "procrustes": lambda X, Y: angle_of(*padded(X, Y)),
    "procrustes-size": textbook_size,
    "netrep-0": lambda X, Y: netrep(X, Y, 0),
    "netrep-0.3": lambda X, Y: netrep(X, Y, 0.3),
    "netrep-0.5": lambda X, Y: netrep(X, Y, 0.5),
    "netrep-1": lambda X, Y: angle_of(*padded(X, Y)),
    "bures": textbook_bures,
}


@pytest.mark.parametrize("widths", [(7, 5), (5, 7), (6, 6)])
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_the_textbook(name, widths):
    X, Y = related(26, *widths)
    # A root of squared eigenvalues of a matrix without full rank errs by the root of rounding.
    near = 1e-6 if name == "bures" else 1e-10
    assert value(name, X, Y) == pytest.approx(REFERENCES[name](X, Y), abs=near)


def test_every_form_has_a_reference():
    assert set(FORMS) <= set(REFERENCES)


@pytest.mark.parametrize("name", FORMS)
def test_values_keep_within_their_bounds(name):
    form = FORMS[name]
    for seed in range(3):
        X, Y = related(40, 6, 4, seed)
        for pair in ((X, Y), (X, X), (X, np.random.default_rng(seed).standard_normal((40, 9)))):
            assert form.lowest <= value(name, *pair) <= form.highest


@pytest.mark.parametrize("name", FORMS)
def test_a_space_with_itself_rotated_is_as_similar_as_can_be(name):
    X, _ = related(80, 6)
    rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((6, 6)))[0]
    best = 1.0 if FORMS[name].kind == "similarity" else 0.0
    # A cosine that errs by 1e-16 is an angle that errs by its root.
    near = 1e-12 if FORMS[name].kind == "similarity" else 1e-6
    if name == "procrustes-size":  # a root too, of sums over 80 rows that cancel
        near = np.sqrt(2 * 80 * np.finfo(np.float64).eps) * np.linalg.norm(centred(X))
    assert value(name, X, X @ rotation + 3) == pytest.approx(best, abs=near)
    assert value(name, X, X) == pytest.approx(best, abs=near)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 9))
def test_symmetric_and_blind_to_rotation(seed, d, e):
    X, Y = related(40, d, e, seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((e, e)))[0]
    one = measure(SYMMETRIC, pair_of(X, Y))
    turned = measure(SYMMETRIC, pair_of(Y @ rotation - 2, X))
    for name in SYMMETRIC:
        assert turned[name].value == pytest.approx(one[name].value, abs=1e-9)


def test_forms_together_are_the_forms_alone():
    X, Y = related(60, 7, 5)
    together = measure(list(REFERENCES), pair_of(X, Y))
    assert list(together) == list(REFERENCES)
    for name, found in together.items():
        assert found.value == pytest.approx(value(name, X, Y), abs=1e-12)


def test_canonical_correlations_against_scikit_learn():
    cross_decomposition = pytest.importorskip("sklearn.cross_decomposition")
    X, Y = related(200, 5, 3)
    x, y = cross_decomposition.CCA(3, max_iter=5000, tol=1e-12).fit_transform(X, Y)
    theirs = [np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(3)]
    assert value("cca", X, Y) == pytest.approx(np.mean(theirs), abs=1e-5)
    decomposition = pytest.importorskip("sklearn.decomposition")
    pca = decomposition.PCA(0.9).fit(X)
    assert Decomposition(sums_of(X)).components(0.9) == pca.n_components_


# Traps that other packages fell into.


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_svcca_keeps_axes_by_share_of_variance_whatever_the_units(scale):
    rng = np.random.default_rng(1)
    X = np.linalg.qr(rng.standard_normal((50, 8)))[0]
    X = centred(X @ np.diag([4, 3, 2, 1, 1, 0.05, 0.05, 0.05])) * scale
    squares = np.linalg.svd(X, compute_uv=False) ** 2
    needed = int(np.sum(np.cumsum(squares) < 0.99 * squares.sum())) + 1
    assert needed == 5
    assert Decomposition(sums_of(X)).components(0.99) == needed
    # Normalised variances held against 0.99 of the total would keep a single axis, or all.
    Y = rng.standard_normal((50, 8))
    assert value("svcca", X, Y) == pytest.approx(textbook_svcca(X, Y), abs=1e-10)


def test_svcca_counts_squares_and_not_singular_values():
    X = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 4)))[0] @ np.diag([9, 1, 1, 1])
    lengths = np.linalg.svd(centred(X), compute_uv=False)
    by_length = int(np.sum(np.cumsum(lengths) < 0.9 * lengths.sum())) + 1
    assert by_length > 1
    assert Decomposition(sums_of(X)).components(0.9) == 1


@pytest.mark.parametrize(("d", "e"), [(3, 9), (9, 3), (1, 6), (6, 1)])
def test_pwcca_of_unequal_widths(d, e):
    X, Y = related(70, d, e)
    assert value("pwcca", X, Y) == pytest.approx(textbook_pwcca(X, Y), abs=1e-10)
    assert value("pwcca", Y, X) == pytest.approx(value("pwcca", X, Y), abs=1e-10)


def test_pwcca_takes_the_weights_of_the_left_space_on_a_tie():
    X, Y = related(70, 5, 5)
    assert not FORMS["pwcca"].symmetric
    assert value("pwcca", X, Y) != pytest.approx(value("pwcca", Y, X), abs=1e-4)


def test_cka_is_that_of_all_rows_and_not_the_mean_over_batches():
    X, Y = related(120, 10, 12)
    batches = [textbook_cka(X[at : at + 20], Y[at : at + 20]) for at in range(0, 120, 20)]
    assert value("cka", X, Y) == pytest.approx(textbook_cka(X, Y), abs=1e-10)
    assert np.mean(batches) > value("cka", X, Y) + 0.02


def test_debiased_cka_keeps_digits_where_float32_does_not():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((300, 20)) + 30
    X = (shared + 0.5 * rng.standard_normal((300, 20))).astype(np.float32)
    Y = (shared + 0.5 * rng.standard_normal((300, 20))).astype(np.float32)
    exact = textbook_debiased(centred(X), centred(Y))
    # Sums in float32 lose far more, and how much is up to the BLAS.
    rounded = textbook_debiased(np.float64(X), np.float64(Y), round_to="float32")
    assert abs(rounded - exact) > 1e-7
    assert value("debiased-cka", X, Y) == pytest.approx(exact, abs=1e-10)
    assert FORMS["debiased-cka"].needs_float64


def test_debiased_cka_of_unrelated_spaces_is_about_0_where_cka_is_not():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((2, 40, 200))
    assert value("cka", X, Y) > 0.8
    assert abs(value("debiased-cka", X, Y)) < 0.1


# Spaces without all their directions.


def on_a_hyperplane(n: int, d: int, seed: int) -> np.ndarray:
    """Rows as a layer norm leaves them: standardised, scaled, shifted."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= rows.std(axis=1, keepdims=True)
    return rows * rng.uniform(0.5, 2, d) + rng.standard_normal(d)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_direction_that_rounding_alone_fills_does_not_count(dtype):
    X, Y = on_a_hyperplane(400, 12, 0), on_a_hyperplane(400, 9, 1)
    stored = X.astype(dtype), Y.astype(dtype)
    pair = pair_of(*stored)
    assert (pair.left.rank, pair.right.rank) == (11, 8)
    near = {"float64": 1e-10, "float32": 1e-5, "float16": 5e-3}[dtype]
    for name in ("cca", "pwcca", "netrep-0"):
        assert value(name, *stored) == pytest.approx(REFERENCES_OF_RANK[name](X, Y), abs=near)


REFERENCES_OF_RANK = {
    "cca": lambda X, Y: textbook_cca(X, Y).mean(),
    "pwcca": textbook_pwcca,
    "netrep-0": lambda X, Y: math.acos(
        textbook_cca(X, Y).sum() / math.sqrt(basis(X).shape[1] * basis(Y).shape[1])
    ),
}


def test_repeated_and_constant_coordinates_change_no_canonical_correlation():
    X, Y = related(80, 6, 4)
    wide = np.column_stack([X, X[:, :2], X @ np.ones(6), np.full(80, 1e3 + 0.1)])
    pair = pair_of(wide, Y)
    assert pair.left.rank == 6
    for name in ("cca", "cca-r2", "netrep-0"):
        assert value(name, wide, Y) == pytest.approx(value(name, X, Y), abs=1e-9)


@pytest.mark.parametrize(
    ("dtype", "gain"),
    [("float64", 1e-30), ("float32", 1e-30), ("float32", 1e-9), ("float16", 2e-8)],
)
def test_coordinates_with_next_to_no_gain_are_no_directions(dtype, gain):
    X, Y = related(80, 6, 4)
    X = X.astype(dtype)
    faint = np.random.default_rng(5).standard_normal((80, 2)) * gain
    wide = np.column_stack([X[:, :3], faint.astype(dtype), X[:, 3:]])
    assert pair_of(wide, Y).left.rank == 6
    for name in FORMS:
        assert value(name, wide, Y) == pytest.approx(value(name, X, Y), abs=1e-7)


def test_loud_coordinates_cost_no_digits():
    X, Y = related(90, 6, 5)
    loud = X * np.array([1e4, 1, 1, 1, 1, 1e-2])
    assert value("cca", loud, Y) == pytest.approx(value("cca", X, Y), abs=1e-10)
    assert value("pwcca", loud, Y) == pytest.approx(textbook_pwcca(loud, Y), abs=1e-8)


def test_fewer_rows_than_hidden():
    X, Y = related(10, 14, 12)
    found = measure(list(FORMS), pair_of(X, Y))
    for name in ("cka", "debiased-cka", "whitened-correlation", "procrustes", "svcca"):
        assert found[name].value == pytest.approx(REFERENCES[name](X, Y), abs=1e-9)
    # Nine directions are all that ten rows have, so both spaces span the same.
    assert found["cca"].value == pytest.approx(1, abs=1e-9)
    assert "9 of 9 canonical correlations are 1 whatever the rows hold" in found["cca"].notes[0]


def test_few_rows_are_noted():
    assert "few" in measure(["cca"], pair_of(*related(60, 8, 8)))["cca"].notes[0]
    assert not measure(["cca"], pair_of(*related(200, 8, 8)))["cca"].notes


# What is not defined, and what is refused.


@pytest.mark.parametrize("rows", [np.ones((30, 4)), np.full((30, 4), 0.1) * [1, 7, 1e5, 0]])
def test_a_constant_space_has_no_number_but_a_reason(rows):
    X, _ = related(30, 4)
    for pair, name in ((pair_of(rows, X), "X"), (pair_of(X, rows), "Y")):
        for found in measure(list(FORMS), pair).values():
            assert math.isnan(found.value)
            assert f"all rows of {name} are the same" in found.notes[0]


def test_rows_at_one_distance_have_no_whitened_correlation():
    _, Y = related(9, 9)
    found = measure(["whitened-correlation", "debiased-cka", "cka"], pair_of(np.eye(9), Y))
    assert math.isnan(found["whitened-correlation"].value)
    assert "one distance" in found["whitened-correlation"].notes[0]
    assert math.isnan(found["debiased-cka"].value)
    assert found["debiased-cka"].notes
    assert found["cka"].value == pytest.approx(textbook_cka(np.eye(9), Y))


def test_debiased_cka_needs_four_rows():
    X, Y = related(3, 4)
    found = measure(["debiased-cka"], pair_of(X, Y))["debiased-cka"]
    assert math.isnan(found.value)
    assert "4 rows" in found.notes[0]


def test_values_that_are_all_rounding_have_no_directions():
    steps = np.random.default_rng(0).integers(0, 2, (2000, 3))
    X = (1 + steps * 2.0**-10).astype(np.float16)
    Y = related(2000)[0]
    for pair in (pair_of(X, Y), pair_of(Y, X)):
        found = measure(["cca", "cca-r2", "pwcca", "netrep-0", "netrep-0.5"], pair)
        for one in found.values():
            assert math.isnan(one.value)
            assert "rounding" in one.notes[0]


@pytest.mark.parametrize("name", ["ckaa", "", "netrep-", "netrep-x", "netrep-1.5", "svcca-0", 3])
def test_unknown_names_are_refused(name):
    with pytest.raises(InvalidInput):
        form_named(name)


def test_families_by_number():
    assert form_named("netrep-0.50") is FORMS["netrep-0.5"]
    assert form_named("svcca-0.99") is FORMS["svcca"]
    assert form_named("netrep-0.25").name == "netrep-0.25"
    X, Y = related(90, 5, 4)
    assert value("svcca-1", X, Y) == pytest.approx(value("cca", X, Y), abs=1e-12)


def test_sums_that_do_not_belong_together_are_refused():
    X, Y = related(30, 4, 3)
    left, right = Decomposition(sums_of(X), "X"), Decomposition(sums_of(Y[:20]), "Y")
    with pytest.raises(InvalidInput, match="30 rows and Y over 20"):
        SpacePair(left, right, cross_of(X, Y))
    with pytest.raises(InvalidInput, match="shape"):
        SpacePair(left, Decomposition(sums_of(Y), "Y"), cross_of(Y, X))
    broken = X.copy()
    broken[2, 1] = np.nan
    with pytest.raises(InvalidInput, match="NaN"):
        Decomposition(sums_of(broken), "X")
    with pytest.raises(InvalidInput, match="NaN"):
        SpacePair(left, Decomposition(sums_of(Y), "Y"), cross_of(broken, Y))


# What it costs.


def test_each_space_is_decomposed_once(monkeypatch):
    calls = []
    eigh = linalg.eigh

    def counted(*args, **kwargs):
        calls.append(1)
        return eigh(*args, **kwargs)

    monkeypatch.setattr(linalg, "eigh", counted)
    spaces = [related(40, 5, 4, seed)[0] for seed in range(4)]
    ready = [Decomposition(sums_of(X)) for X in spaces]
    for s, X in enumerate(spaces):
        for t in range(s):
            pair = SpacePair(ready[s], ready[t], cross_of(X, spaces[t]))
            measure(["cca", "pwcca", "netrep-0", "cka", "procrustes"], pair)
    assert len(calls) == 4


@pytest.mark.parametrize(
    "names",
    [["procrustes"], ["cca"], ["svcca"], ["pwcca"], ["netrep-0.5", "debiased-cka"], list(FORMS)],
    ids=lambda names: names[0] if len(names) < 9 else "all",
)
def test_memory_is_what_was_planned(names):
    pair = pair_of(*related(500, 300, 300))
    tracemalloc.start()
    try:
        measure(names, pair)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.8 < peak / forms_memory(names, [300, 300]).needed < 1.05


def test_alignments_take_no_memory():
    assert forms_memory(["cka", "debiased-cka", "whitened-correlation"], [300, 300]).needed == 0


def test_what_dividing_and_conquering_cannot_decompose_is_decomposed_otherwise(monkeypatch):
    X, Y = related()
    names = ["pwcca", "cca", "svcca", "procrustes"]
    expected = {name: value(name, X, Y) for name in names}
    real, failures = linalg.svd, []

    def failing(*given, **options):
        if options.get("lapack_driver", "gesdd") == "gesdd":
            failures.append(options)
            raise linalg.LinAlgError("SVD did not converge")
        return real(*given, **options)

    def no_values(*given, **options):
        return failing(*given, compute_uv=False)

    monkeypatch.setattr(linalg, "svd", failing)
    monkeypatch.setattr(linalg, "svdvals", no_values)
    for name in names:
        assert value(name, X, Y) == pytest.approx(expected[name], abs=1e-12)
    assert len(failures) == len(names)
