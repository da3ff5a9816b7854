"""Records of results, made up, and a lake of three variants."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.catalogue import add_corpus, load_corpus
from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.store.identity import short
from layerlake.store.reader import Lake, open_lake
from layerlake.store.row_sets import RowSet
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.writer import SetWriter

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


def rows_cut(tokenization: str, special: np.ndarray) -> RowSet:
    """Six hundred rows, six an example."""
    ids = np.arange(N, dtype=np.int64)
    return RowSet(
        unit="piece",
        row_id=ids,
        row_example=ids // 6,
        row_word=ids,
        row_position=(ids % 6).astype(np.int32),
        row_special=special,
        settings={"rows": "all", "unit": "piece", "tokenization": tokenization},
        fingerprint=f"{tokenization}-rows".ljust(64, "0"),
    )


@pytest.fixture
def lake(tmp_path: Path) -> tuple[Lake, dict[str, list[np.ndarray]], np.ndarray]:
    """Three variants over one corpus: base, near (two layers), foreign (another tokenizer)."""
    lake = open_lake(tmp_path / "lake", "a")
    add_corpus(lake, "wiki", corpus_from_texts([f"example {i} of six" for i in range(N // 6)]))
    assert load_corpus(lake, "wiki").n_examples == N // 6
    special = np.arange(N) % 6 == 0
    rng = np.random.default_rng(0)
    base = rng.standard_normal((N, 16)).astype("float32")
    spaces = {"base": [base, base * base], "near": [base, base * base + base]}
    spaces["foreign"] = spaces["near"]
    for variant, values in spaces.items():
        rows = rows_cut("other" if variant == "foreign" else "same", special)
        path = f"corpora/wiki/rows/{short(rows.fingerprint)}"
        attributes = {**rows.to_attributes(), "fingerprint": rows.fingerprint}
        lake.add_table(path, rows.to_columns(), attributes)
        layout = ActivationLayout(N, 16, "float32", "none")
        contents = {"row_set": rows.fingerprint, "rows": "all", "unit": "piece"}
        plan = SetPlan("wiki", variant, contents, {}, {}, ("resid/0", "resid/1"), layout)
        with SetWriter(lake.location, plan) as writer:
            writer.write_window(0, {f"resid/{i}": value for i, value in enumerate(values)})
            writer.seal()
    return lake, spaces, special
