"""A truncated model of every architecture gives the layers that the whole one gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from layerlake.engine.extraction.capture import Capture
from layerlake.engine.models.architectures import find_trunk, truncate_blocks
from layerlake.engine.models.loading import LoadedModel
from layerlake.engine.models.sites import Place
from layerlake.store.errors import InvalidInput

torch = pytest.importorskip("torch")

LAYERS = 4


def resid(n_layers: int) -> list[Place]:
    return [Place("resid", layer) for layer in range(n_layers + 1)]


@pytest.mark.parametrize("keep", [0, 1, 3, LAYERS])
def test_what_is_left_is_as_it_was(
    kind: str, keep: int, tiny: Callable[[str], LoadedModel], pieces: Any
) -> None:
    whole, inputs = tiny(kind), pieces(kind)
    with Capture(whole, resid(LAYERS)) as capture:
        expected = capture.run(inputs)
    cut = replace(whole, module=copy.deepcopy(whole.module), n_layers=keep)
    truncate_blocks(cut.module, keep)
    if keep:
        assert find_trunk(cut.module).n_layers == keep
    places = [*resid(keep), *(Place("mlp_out", layer) for layer in range(1, keep + 1))]
    with Capture(cut, places) as capture:
        taken = capture.run(inputs)
    assert all(torch.equal(taken[place], expected[place]) for place in resid(keep))
    assert len(taken) == 2 * keep + 1


@pytest.mark.parametrize("keep", [-1, LAYERS + 1])
def test_more_than_there_is_cannot_be_kept(
    kind: str, keep: int, tiny: Callable[[str], LoadedModel]
) -> None:
    module = copy.deepcopy(tiny(kind).module)
    with pytest.raises(InvalidInput, match=rf"truncation to {keep} layers .* 4 layers; give 0-4"):
        truncate_blocks(module, keep)


def test_a_model_of_embeddings_alone_has_no_other_sites(
    tiny: Callable[[str], LoadedModel],
) -> None:
    cut = replace(tiny("llama"), module=copy.deepcopy(tiny("llama").module), n_layers=0)
    truncate_blocks(cut.module, 0)
    with pytest.raises(InvalidInput, match="'final_norm' asked of a model truncated to its embed"):
        Capture(cut, [Place("final_norm", 0)])
