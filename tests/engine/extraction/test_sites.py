"""Several sites are taken in one pass, each into arrays of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.loading import load_model
from layerlake.store.errors import InvalidInput, NameNotFound
from layerlake.store.lake import Lake, open_lake
from layerlake.store.verify import verify

torch = pytest.importorskip("torch")

CORPUS = corpus_from_texts([f"the {word} of the harbour" for word in ["gulls", "ropes", "tide"]])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake", "a")


def run(lake: Lake, folder: Path, **options: Any) -> Any:
    options = {"corpus_name": "c", "variant": "v", "store_dtype": "float32"} | options
    return extract(lake, str(folder), CORPUS, device="cpu", **options)


def test_each_site_holds_what_its_module_gave(lake: Lake, small_bert: Path) -> None:
    model = load_model(str(small_bert), device="cpu")
    taken: dict[str, list[Any]] = {"attn_out": [], "mlp_out": [], "embed": []}
    block = model.module.encoder.layer[1]
    modules = {
        "attn_out": block.attention.output.dense,
        "mlp_out": block.output.dense,
        "embed": model.module.embeddings.word_embeddings,
    }
    run(lake, small_bert, sites="mlp_out,resid,attn_out,hook_embed", layers="0,2")
    for name, module in modules.items():
        module.register_forward_hook(lambda *call, name=name: taken[name].append(call[2][0]))
    for text in CORPUS.texts:
        with torch.inference_mode():
            model.module(**model.tokenizer(text, return_tensors="pt"))
    for name, parts in taken.items():
        space = lake.space("c", "v", 0 if name == "embed" else 2, name)
        expected = torch.cat(parts).numpy()
        assert space.shape == expected.shape
        np.testing.assert_allclose(space.rows(slice(None)), expected, atol=1e-6)
    (state,) = lake.sets()
    assert state.plan.arrays == ("mlp_out/2", "resid/0", "resid/2", "attn_out/2", "embed/0")
    assert verify(lake).sound
    with pytest.raises(NameNotFound, match="has no attn_out layer 1; it has attn_out/2"):
        lake.space("c", "v", 1, "attn_out")


def test_a_set_of_resid_alone_keeps_its_name(lake: Lake, small_bert: Path) -> None:
    first = run(lake, small_bert)
    again = run(lake, small_bert, sites=["resid"], layers=[0, 1, 2, 3])
    assert (again.path, again.n_computed) == (first.path, 0)
    assert run(lake, small_bert, sites="resid,mlp_out").path != first.path


def test_rows_pool_at_every_site(lake: Lake, small_bert: Path) -> None:
    run(lake, small_bert, sites="mlp_out,block.output.dense", unit="word")
    named, path = (lake.space("c", "v", 3, s) for s in ("mlp_out", "block.output.dense"))
    assert named.shape == (CORPUS.n_words, 32)
    assert np.array_equal(named.rows(slice(None)), path.rows(slice(None)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": "resid,block.intermediate"}, r"several \(resid: 32; block.intermediate: 64\)"),
        ({"sites": "final_norm"}, "'bert' has no final norm"),
        ({"sites": "mlp", "layers": "1"}, "no site 'mlp'"),
        ({"sites": ""}, "no sites asked for"),
    ],
)
def test_sites_that_cannot_be_served_leave_nothing(
    options: dict[str, Any], message: str, lake: Lake, small_bert: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        run(lake, small_bert, **options)
    assert lake.corpora() == []
