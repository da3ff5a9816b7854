"""float16 in float32, the same to the last bit for every value that there is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.store import half
from layerlake.store.half import widened

EVERY = np.arange(65536, dtype=np.uint16).view(np.float16)
"""All that 16 bits can say."""
FINITE = EVERY[np.isfinite(EVERY)]


@pytest.fixture(params=[True, False], ids=["integers", "casts"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways to widen, whichever is quicker here."""
    monkeypatch.setattr(half, "_integers_are_quicker", lambda: request.param)
    return bool(request.param)


def bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the bits of values."""
    assert values.dtype == np.float32
    return np.ascontiguousarray(values).view(np.uint32)


def test_every_value_is_what_numpy_makes_of_it(way: bool) -> None:
    with np.errstate(invalid="ignore"):
        known = EVERY.astype(np.float32)
        np.testing.assert_array_equal(bits(widened(EVERY)), bits(known))
        for number in range(0, 65536, 97):
            np.testing.assert_array_equal(
                bits(widened(EVERY[number : number + 1])), bits(known[number : number + 1])
            )


def test_integers_alone_make_every_finite_value() -> None:
    out = np.full(len(FINITE), 9, np.float32)
    half._widen(FINITE, out)
    np.testing.assert_array_equal(bits(out), bits(FINITE.astype(np.float32)))
    assert (np.signbit(out) == np.signbit(FINITE)).all()


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 4, 32767, 32768, 99_999])
def test_one_value_that_is_not_finite_changes_no_other(way: bool, odd: float, place: int) -> None:
    values = np.resize(FINITE, 100_000)
    values[place] = odd
    np.testing.assert_array_equal(bits(widened(values)), bits(values.astype(np.float32)))


@pytest.mark.parametrize(
    "shape", [(), (0,), (1,), (0, 7), (3, 0), (5, 7), (2, 3, 4), (32769,), (1, 32768), (300, 400)]
)
def test_any_shape(way: bool, shape: tuple[int, ...]) -> None:
    values = np.resize(FINITE[::-1], shape)
    found = widened(values)
    assert found.shape == shape
    np.testing.assert_array_equal(found, values.astype(np.float32))


def test_values_that_do_not_lie_side_by_side(way: bool) -> None:
    values = np.resize(FINITE, (600, 50))
    backwards = values.astype(">f2")
    for some in (values[:, ::2], values[::-1], values.T, values[3:90, 4:9], backwards):
        found = widened(some)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, some.astype(np.float32))


def test_what_is_given_is_left_as_it_is(way: bool) -> None:
    values = FINITE.copy()
    values.flags.writeable = False
    found = widened(values)
    found += 1
    np.testing.assert_array_equal(values, FINITE)


def test_float32_is_passed_through(way: bool) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert widened(values) is values
    part = values[:, ::2]
    assert widened(part) is part


def test_which_way_is_quicker_is_tried_once() -> None:
    half._integers_are_quicker.cache_clear()
    assert half._integers_are_quicker() in (True, False)
    widened(np.ones(9, np.float16))
    assert half._integers_are_quicker.cache_info().misses == 1
