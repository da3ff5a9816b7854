"""Arrays as the passes use them."""

import numpy as np
import pytest

from layerlake.engine.passes.arrays import row_by_row


@pytest.mark.parametrize("width", [3, 700, 5000])
def test_rows_one_at_a_time_give_the_same_and_leave_numpy_as_it_was(width: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((9, width))
    factor, mean = rng.standard_normal((9, 1)), rng.standard_normal(width).astype(np.float32)
    before = np.getbufsize()
    with row_by_row(width):
        assert np.getbufsize() % 16 == 0
        assert np.getbufsize() < max(2 * width, 257)
        inside = rows * factor - mean
    assert np.getbufsize() == before
    np.testing.assert_array_equal(inside, rows * factor - mean)


def test_a_failure_leaves_numpy_as_it_was() -> None:
    before = np.getbufsize(), np.geterr()
    with pytest.raises(KeyError), row_by_row(768):
        raise KeyError
    assert (np.getbufsize(), np.geterr()) == before
