"""A value of the wrong kind gets a sentence, not an error of Python's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import layerlake as ll
from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.store.errors import InvalidInput

ll_any: Any = ll


@pytest.fixture
def lake(tmp_path: Path) -> ll.Lake:
    """A lake with one corpus."""
    opened = ll.open_lake(tmp_path / "lake", "a")
    ll.add_corpus(opened, "c", corpus_from_texts(["the tide"]))
    return opened


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lake: ll_any.verify(5), "a lake is needed, not 5"),
        (lambda lake: ll_any.rsa("lake"), "a lake is needed, not 'lake'"),
        (lambda lake: ll_any.remove(5, "corpora/c"), "a lake is needed, not 5"),
        (lambda lake: ll_any.remove(lake, 5), "5 is no path inside a lake"),
        (lambda lake: ll_any.extract(5, "m", "c"), "a lake is needed, not 5"),
        (lambda lake: ll_any.extract_many(5, "m", "c"), "a lake is needed, not 5"),
        (lambda lake: ll_any.extract(lake, "m", "c", progress=3), "progress is 3"),
        (lambda lake: ll_any.import_activations(lake, 5, "c", "v"), "5 is no file"),
        (lambda lake: ll_any.import_activations(5, "x.npy", "c", "v"), "a lake is needed, not 5"),
        (lambda lake: lake.space("c", None, layer=1), "None names no variant"),
    ],
)
def test_it_is_said_what_was_given_and_what_is_needed(
    call: Callable[[Any], Any], message: str, lake: ll.Lake
) -> None:
    with pytest.raises(InvalidInput, match=message):
        call(lake)
