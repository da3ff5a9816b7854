"""Records of results, made up."""

from collections.abc import Callable
from typing import Any

import pytest


def make_record(
    variant: str, layer: int, measure: str, value: float | None, **more: Any
) -> dict[str, Any]:
    """Return a record with an interval of 0.1 to both sides."""
    filled = {
        "corpus": "wörter",
        "reference": "base",
        "reference_layer": layer,
        "variant": variant,
        "site": "resid",
        "layer": layer,
        "measure": measure,
        "value": value,
        "low": None if value is None else value - 0.1,
        "high": None if value is None else value + 0.1,
        "bound": None,
        "p": None,
        "n": 500,
        "n_clusters": 100,
        "rows_per_cluster": 5.0,
        "within_pair_share": 0.01,
        "n_dropped": 3,
        "n_seeds": 1,
    }
    return filled | more


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """What makes a record of a variant, layer, measure and value, other fields as told."""
    return make_record
