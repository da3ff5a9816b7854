"""The method that is chosen is the faster one where both were measured."""

import itertools

import numpy as np
import pytest

from layerlake.analyses.similarity.comparing.compare_spaces import plan_comparison
from layerlake.analyses.similarity.question import Question
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import ArraySpace, select_rows


@pytest.mark.parametrize(
    ("n_rows", "spaces", "hidden", "interval", "faster"),
    [
        (1000, 2, 384, "none", "features"),
        (5000, 2, 384, "cluster", "features"),
        (1000, 2, 768, "none", "tiles"),
        (2000, 2, 768, "none", "features"),
        (2000, 2, 768, "cluster", "tiles"),
        (5000, 2, 768, "cluster", "features"),
        (2000, 13, 384, "none", "tiles"),
        (5000, 13, 384, "cluster", "tiles"),
        (20_000, 13, 384, "cluster", "features"),
        (5000, 13, 768, "none", "tiles"),
        (20_000, 2, 768, "none", "features"),
    ],
)
def test_the_faster_method_is_chosen(
    n_rows: int, spaces: int, hidden: int, interval: str, faster: str
) -> None:
    rows, order = np.broadcast_to(np.float16(1), (n_rows, hidden)), np.arange(n_rows)
    selected = select_rows(
        [ArraySpace(rows, order)] * spaces,
        [order] * spaces,
        order // 20,
        [f"space {s}" for s in range(spaces)],
    )
    pairs = list(itertools.combinations(range(spaces), 2))
    plan = plan_comparison(selected, pairs, Question(interval=interval), Resources())
    assert plan.method == faster
