"""Which sets of a lake are compared: rows made alike, rows that most share, layers there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.similarity.comparing.compare import rsa
from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.loading import LoadedModel, load_model
from layerlake.store.errors import InvalidInput, LayerLakeError, NameNotFound
from layerlake.store.lake import Lake, open_lake

pytest.importorskip("torch")

TEXTS = [f"Gull {n * n} cries over harbour wall {n}." for n in range(120)]


@pytest.fixture(scope="module")
def models(small_bert: Path) -> dict[str, LoadedModel]:
    """The small model and its random twin."""
    return {
        "base": load_model(str(small_bert), device="cpu"),
        "random": load_model(str(small_bert), randomize=1, device="cpu"),
    }


@pytest.fixture
def add(tmp_path: Path, models: dict[str, LoadedModel]) -> Callable[..., Lake]:
    """A function that extracts one of the models over `shore`, and returns the lake."""
    lake = open_lake(tmp_path / "lake", "a")

    def run(model: str, variant: str | None = None, **options: Any) -> Lake:
        extract(
            lake, models[model], TEXTS, variant=variant or model, corpus_name="shore", **options
        )
        return lake

    return run


def values(lake: Lake, **options: Any) -> dict[int, float]:
    """Return r over all pairs by layer."""
    found = rsa(lake, interval="none", **options)
    return {r["layer"]: r["value"] for r in found.records if r["measure"] == "r_all"}


def test_words_are_compared_only_with_words_pooled_alike(add: Callable[..., Lake]) -> None:
    for model in ("base", "random"):
        lake = add(model, unit="word")
    means = values(lake, unit="word")
    for model in ("base", "random"):
        add(model, unit="word", pooling="max", layers=[0, 2])
        assert values(lake, unit="word", fresh=True) == means
    largest = values(lake, unit="word", pooling="max")
    assert set(largest) == {0, 2}
    assert all(largest[layer] != means[layer] for layer in largest)
    with pytest.raises(NameNotFound, match="no resid layers of word rows pooled by first; it has "):
        rsa(lake, unit="word", pooling="first")
    with pytest.raises(
        NameNotFound, match="layers of piece rows; it has resid of word rows pooled by max"
    ):
        rsa(lake, unit="piece")
    with pytest.raises(NameNotFound, match=r"no mlp_out layers of .*; it has resid of word rows"):
        rsa(lake, site="mlp_out", unit="word")
    # Words are all that there are, and need not be named.
    assert values(lake) == means


def test_rows_that_both_have_come_before_more_rows(add: Callable[..., Lake]) -> None:
    for model in ("base", "random"):
        lake = add(model, rows="sample:300@1")
    shared = values(lake, rows="all")
    add("base", rows="sample:400@2")
    assert values(lake, rows="all", fresh=True) == shared
    assert {r["n"] for r in rsa(lake).records} == {300}


def test_a_layer_that_nobody_else_has_has_no_say_in_the_rows(add: Callable[..., Lake]) -> None:
    for model in ("base", "random"):
        lake = add(model, layers="0-1", rows="sample:300@1")
    add("base", layers=[2], rows="sample:200@2")
    found = rsa(lake)
    assert {(r["layer"], r["n"]) for r in found.records} == {(0, 300), (1, 300)}
    assert found.settings["layers"] == [0, 1]


def test_float32_comes_before_float16(add: Callable[..., Lake]) -> None:
    for model in ("base", "random"):
        lake = add(model)
    halves = values(lake, rows="all")
    for model in ("base", "random"):
        add(model, store_dtype="float32")
    wide = values(lake, rows="all")
    assert wide != halves
    assert wide == pytest.approx(halves, abs=1e-5)
    assert lake.space("shore", "base", 1).dtype == np.float32


def test_layers_that_are_not_there_are_named(add: Callable[..., Lake]) -> None:
    lake = add("base", layers="0-2")
    add("random", layers=[2, 3])
    assert set(values(lake)) == {2}
    assert set(values(lake, layers=np.array([1, 2]))) == {2}
    assert set(values(lake, layers=2)) == {2}
    with pytest.raises(InvalidInput, match="layer 3 asked of a model with 2 layers"):
        rsa(lake, layers=3)
    with pytest.raises(NameNotFound, match="random has no layer 0 in the lake; it has 2, 3"):
        rsa(lake, reference="random", layers="0,2")
    with pytest.raises(NameNotFound, match="no variant has layer 0, 1 of base in the lake"):
        rsa(lake, layers="0-1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"variants": ["random", "random"]}, "'random' is named twice"),
        ({"variants": ["base"]}, "'base' is named twice"),
        ({"variants": []}, "no variants asked for"),
        ({"variants": ["rndom"]}, "did you mean random"),
        ({"reference": ""}, "no activations of reference ''"),
        ({"corpus": ""}, "no corpus ''"),
        ({"corpus": 5}, "no corpus 5"),
        ({"reference": 5}, "no activations of reference 5"),
        ({"rows": -1}, "rows -1 is neither"),
        ({"rows": 1.5}, "rows 1.5 is neither"),
        ({"rows": "some"}, "rows 'some' is neither"),
        ({"layers": []}, "no layers asked for"),
        ({"layers": "3-1"}, "layers 3-1 go down"),
        ({"layers": -1}, "layer -1 asked"),
        ({"layers": [1.5]}, "not understood"),
        ({"layers": "0-99999999999999"}, "layer 99999999999999 asked"),
        ({"seed": -1}, "the seed is -1"),
        ({"seed": 1.5}, "the seed is 1.5"),
        ({"kernel": "x"}, "no kernel 'x'"),
        ({"kernel": []}, r"no kernel \[\]"),
        ({"confidence": 2}, "confidence is 2"),
        ({"confidence": "a"}, "confidence is a"),
        ({"interval": "x"}, "no interval 'x'"),
        ({"memory": None}, "None is no amount of memory"),
        ({"site": "mlp"}, "no mlp layers"),
        ({"unit": "line"}, "no unit .line.; choose one of piece, word, example"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_one_sentence(
    add: Callable[..., Lake], options: dict[str, Any], said: str
) -> None:
    lake = add("base", layers="0-1")
    add("random", layers="0-1")
    with pytest.raises(LayerLakeError, match=said):
        rsa(lake, **{"rows": 100, **options})
    assert lake.location.nodes("results") == []


def test_numbers_of_numpy_are_numbers(add: Callable[..., Lake]) -> None:
    lake = add("base", layers="0-1")
    add("random", layers="0-1")
    assert values(lake, rows=np.int64(100), seed=np.uint8(3)) == values(lake, rows=100, seed=3)
    with pytest.raises(InvalidInput, match="open one with open_lake"):
        rsa("lake")  # type: ignore[arg-type]


def test_a_variant_without_the_site_is_left_out_with_a_note_unless_it_is_named(
    add: Callable[..., Lake],
) -> None:
    add("base")
    add("random")
    lake = add("random", variant="inner", sites="attn_out")
    result = rsa(lake)
    assert result.labels("variant") == ["random"]
    assert result.notes[-1] == "inner: left out, having no such layers of such rows"
    with pytest.raises(NameNotFound, match="inner over shore has no resid layers of piece rows"):
        rsa(lake, variants=["random", "inner"])
    with pytest.raises(NameNotFound, match="base over shore has no attn_out layers"):
        rsa(lake, site="attn_out")


def test_where_no_variant_has_what_is_asked_the_first_is_named(add: Callable[..., Lake]) -> None:
    add("base", sites="resid,mlp_out")
    lake = add("random")
    with pytest.raises(NameNotFound, match="random over shore has no mlp_out layers"):
        rsa(lake, site="mlp_out")
