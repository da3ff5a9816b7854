"""Records of results, made up, and a lake of three variants."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layerlake.store.lake import Lake

N = 600


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


@pytest.fixture
def lake(lake_with: Callable[..., Lake]) -> tuple[Lake, dict[str, list[np.ndarray]], np.ndarray]:
    """Three variants over one corpus: base, near (two layers), foreign (another tokenizer)."""
    special = np.arange(N) % 6 == 0
    rng = np.random.default_rng(0)
    base = rng.standard_normal((N, 16)).astype("float32")
    spaces = {"base": [base, base * base], "near": [base, base * base + base]}
    spaces["foreign"] = spaces["near"]
    sizes = np.full(N // 6, 6)
    lake = lake_with("wiki", spaces, sizes, special=special, tokenizations={"foreign": "other"})
    return lake, spaces, special
