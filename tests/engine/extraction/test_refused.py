"""What `extract` cannot do from Python is one sentence, and leaves an empty lake empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.loading import LoadedModel, load_model
from layerlake.store.errors import InvalidInput, LayerLakeError
from layerlake.store.lake import open_lake

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model(small_bert: Path) -> LoadedModel:
    """The small model, loaded once."""
    return load_model(str(small_bert), device="cpu")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"corpus": None}, "a NoneType is no corpus"),
        ({"corpus": 5}, "a int is no corpus"),
        ({"corpus": {"a": 1}}, "a dict is no corpus"),
        ({"corpus": b"text"}, "a bytes is no corpus"),
        ({"corpus": ""}, "no corpus is named"),
        ({"corpus": []}, "holds no examples|no examples"),
        ({"corpus": [1, 2]}, "entry 0"),
        ({"corpus_name": None}, "needs a name"),
        ({"corpus_name": 5}, "5 cannot name a corpus"),
        ({"variant": ""}, "'' cannot name a variant"),
        ({"variant": 5}, "5 cannot name a variant"),
        ({"rows": 5}, "rows 5 cannot be read"),
        ({"rows": "sample:999"}, "999 rows asked for"),
        ({"unit": "line"}, "no unit 'line'"),
        ({"pooling": "sum"}, "pooling 'sum'"),
        ({"packing": "pair"}, "needs two texts"),
        ({"packing": "x"}, "packing 'x'"),
        ({"long": "x"}, "'x'"),
        ({"layers": 9}, "layer 9 asked"),
        ({"layers": []}, "no layers asked for"),
        ({"sites": "x"}, "no site 'x'"),
        ({"store_dtype": "int8"}, "store dtype 'int8'"),
        ({"codec": "zip"}, "codec 'zip'"),
        ({"token_budget": 1.5}, "the token budget is 1.5"),
        ({"token_budget": 0}, "the token budget is 0"),
        ({"window_rows": 0}, "window_rows is 0"),
        ({"window_rows": 1000}, "not a positive multiple of 1024"),
        ({"window_rows": 2**70}, "window_rows is"),
        ({"memory": "plenty"}, "no amount of memory"),
        ({"memory": 10}, "are allowed"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_call_that_cannot_be_answered(
    tmp_path: Path, model: LoadedModel, options: dict[str, Any], said: str, dry_run: bool
) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    given = {"corpus": ["Gulls cry."], "corpus_name": "shore", "variant": "base", **options}
    with pytest.raises(LayerLakeError, match=said) as caught:
        extract(lake, model, **given, dry_run=dry_run)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"randomize": -1}, "seed of random weights is -1"),
        ({"randomize": True}, "seed of random weights is True"),
        ({"randomize": 2**64}, "seed of random weights is"),
        ({"randomize": 1.5}, "seed of random weights is 1.5"),
        ({"truncate": "2"}, "truncation is '2'"),
        ({"truncate": 9}, "truncation to 9 layers"),
        ({"device": 5}, "device '5'"),
        ({"compute_dtype": "int8"}, "compute dtype 'int8'"),
    ],
    ids=str,
)
def test_a_model_that_cannot_be_made(
    tmp_path: Path, small_bert: Path, options: dict[str, Any], said: str
) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    with pytest.raises(InvalidInput, match=said):
        extract(lake, str(small_bert), ["Gulls cry."], corpus_name="shore", **options)
    assert not (tmp_path / "lake").exists()


def test_a_model_or_lake_of_another_kind(tmp_path: Path, model: LoadedModel) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    for wrong in (None, 5, object):
        with pytest.raises(InvalidInput, match="is no model; give a folder, a hub name"):
            extract(lake, wrong, ["a b"], corpus_name="x")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="open one with open_lake"):
        extract("lake", model, ["a b"], corpus_name="x")  # type: ignore[arg-type]
    for place in (5, b"lake", "a\0b"):
        with pytest.raises(InvalidInput, match="no place for a lake"):
            open_lake(place)  # type: ignore[arg-type]


def test_paths_and_arrays_are_taken_too(tmp_path: Path, small_bert: Path) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    texts = np.array(["Gulls cry.", "The tide turns."])
    done = extract(lake, small_bert, texts, corpus_name="shore", truncate=np.int64(1))
    assert done.variant == "small-truncated-1"
    path = tmp_path / "\N{CJK UNIFIED IDEOGRAPH-6F22}.txt"
    path.write_text("Gulls cry.")
    other = tmp_path / "\N{CJK UNIFIED IDEOGRAPH-5B57}.txt"
    other.write_text("The tide turns.")
    names = {extract(lake, small_bert, file).corpus for file in (path, other)}
    assert len(names) == 2
    assert all(name.startswith("unnamed-") for name in names)


def test_a_set_begun_with_other_windows_says_so(tmp_path: Path, model: LoadedModel) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    extract(lake, model, ["Gulls cry."], corpus_name="shore", variant="base")
    with pytest.raises(LayerLakeError, match=r"\(window rows 16384 then, 1024 now\)"):
        extract(lake, model, "shore", variant="base", window_rows=1024)
