"""Features against kernels written out in full."""

import array_api_strict
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from layerlake.analyses.similarity.features.kernels import KERNELS, frame_of, kernel_named, prepare
from layerlake.engine.passes.arrays import to_host
from layerlake.store.errors import InvalidInput


def dense(rows: NDArray[np.float64], kernel: str) -> NDArray[np.float64]:
    """Return the whole kernel matrix of some rows."""
    if kernel == "sqeuclidean":
        distances: NDArray[np.float64] = cdist(rows, rows, "sqeuclidean")
        return distances
    if kernel == "correlation":
        correlations: NDArray[np.float64] = np.corrcoef(rows)
        return correlations
    if kernel == "cosine":
        cosines: NDArray[np.float64] = 1 - cdist(rows, rows, "cosine")
        return cosines
    return rows @ rows.T


@pytest.fixture
def rows() -> NDArray[np.float64]:
    """Rows around a large common vector."""
    rng = np.random.default_rng(5)
    return 7 * rng.standard_normal((30, 12)) + 20 * rng.standard_normal(12)


@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize("library", [np, array_api_strict], ids=["numpy", "strict"])
def test_features_give_the_kernel(kernel: str, library: object, rows: NDArray[np.float64]) -> None:
    array = library.asarray(rows)  # type: ignore[attr-defined]
    frame = frame_of(array, KERNELS[kernel])
    features = prepare(array, frame)
    u, a, own = (to_host(x) for x in (features.u, features.a, features.own))
    sign = -2 if kernel == "sqeuclidean" else 1
    found = frame.constant + u @ u.T + a + a[:, None]
    if sign == -2:
        found = -2 * (u @ u.T + a + a[:, None])
    np.testing.assert_allclose(found, dense(rows, kernel) * frame.scale**2, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(own, (u * u).sum(axis=1) + 2 * a, atol=1e-12)
    assert to_host(features.usable).all()
    np.testing.assert_allclose(u.mean(axis=0), 0, atol=2e-3)


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_rows_without_a_direction_are_found(kernel: str) -> None:
    rows = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    rows[1] = 0
    rows[3] = 0.1
    frame = frame_of(rows, KERNELS[kernel])
    lost = {"cosine": [1], "correlation": [1, 3]}.get(kernel, [])
    assert np.flatnonzero(~prepare(rows, frame).usable).tolist() == lost


def test_rows_are_not_written_to() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 5))
    rows.setflags(write=False)
    for kernel in KERNELS.values():
        prepare(rows, frame_of(rows, kernel))


def test_moving_a_frame_centres_its_features(rows: NDArray[np.float64]) -> None:
    for kernel in KERNELS.values():
        frame = frame_of(rows[:3], kernel)
        moved = frame.moved(prepare(rows, frame).u.mean(axis=0))
        np.testing.assert_allclose(prepare(rows, moved).u.mean(axis=0), 0, atol=2e-3)


def test_sums_of_few_digits_stay_exact_in_float32() -> None:
    rng = np.random.default_rng(0)
    # Of 256 rows no sum passes 2^24 units, so that the order in which a BLAS adds is no matter.
    rows = (3 + 3e-3 * rng.standard_normal((256, 8))).astype(np.float16)
    for name in ("linear", "sqeuclidean"):
        u = prepare(rows, frame_of(rows, KERNELS[name])).u
        narrow = u.astype(np.float32)
        np.testing.assert_array_equal(narrow, u)
        unit = next(2.0**-k for k in range(24) if (u * 2.0**k % 1 == 0).all())
        assert (u * u).sum(axis=0).max() < 2**24 * unit**2
        np.testing.assert_array_equal(narrow.T @ narrow, u.T @ u)


def test_an_unknown_kernel_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InvalidInput, match=r"'rbf'.*cosine, correlation, linear, sqeuclidean"):
        kernel_named("rbf")
