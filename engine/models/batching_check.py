"""Whether what a model makes of a text depends on the texts beside it: tried, never assumed.

Many models take an attention mask and do not honour it everywhere (a convolution or a norm over the
whole width of a batch), and some experts have a capacity that all texts of a batch share. So a few
texts are run alone, padded and side by side before anything is stored, trained or scored.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.models.checkpoints import explained
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch

    from layerlake.engine.models.loading import LoadedModel

PADDED: Final = "padded"
"""Texts of like length, padded at the right: the usual."""
SAME_LENGTH: Final = "same-length"
"""Texts of one length, so that nothing is padded."""
ALONE: Final = "alone"
"""One text at a time."""
LENGTHS: Final = (5, 9, 17)
"""Tokens of the texts that are tried."""
TOLERANCE: Final = 64.0
"""Units of rounding, of the largest value of a site, that are a matter of how products are divided."""
MOST_COPIED: Final = 2**30
"""Bytes of float32 weights up to which a model of half precision is tried in float32, since the
rounding of half precision hides differences of many per cent."""

Inputs: TypeAlias = Mapping[str, NDArray[np.int64]]
Sites: TypeAlias = "Mapping[Any, torch.Tensor]"
"""Activations, (batch, sequence, width), by site."""
Run: TypeAlias = Callable[[Inputs], Sites]
"""Runs one batch."""


def batching_notes(architecture: str, batching: str) -> list[str]:
    """Return what a report says of a way of batching; nothing of the usual one."""
    said = {
        SAME_LENGTH: f"Padding changes the activations of {architecture} models, so inputs of one "
        "length were batched, without padding.",
        ALONE: f"The activations of {architecture} models depend on the other texts of a batch, so "
        "each input was run by itself.",
    }
    return [said[batching]] if batching in said else []


def batching_of(model: LoadedModel, runner: Callable[[LoadedModel], Run]) -> str:
    """Return the widest way of batching that leaves the activations of each text alone.

    Parameters
    ----------
    model
        Loaded; it stays as it is.
    runner
        Gives what runs a batch through a model, in eval mode, for the sites that matter.

    Returns
    -------
    `PADDED`, `SAME_LENGTH` or `ALONE`.

    Raises
    ------
    InvalidInput
        The model gives something else for the same text each time, or cannot be run over tokens.
    """
    tried = _in_float32(model)
    texts = _texts(tried)
    with runs_over_tokens(model):
        return _batching(runner(tried), texts, tried)


@contextmanager
def runs_over_tokens(model: LoadedModel) -> Iterator[None]:
    """Say in one sentence that a model cannot be run over tokens alone, with its own reason.

    A device that is full is no reason of the model's, and whoever chose the sizes says so.
    """
    import torch

    named = f"the model {model.source} (architecture {model.architecture})"
    full: torch.OutOfMemoryError | None = None
    with explained(
        f"{named} cannot be run over tokens", "LayerLake needs a model whose only input is text"
    ):
        try:
            yield
        except torch.OutOfMemoryError as error:
            full = error
    if full is not None:
        raise full


@contextmanager
def eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and every part of it back into the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _batching(run: Run, texts: Sequence[NDArray[np.int64]], model: LoadedModel) -> str:
    alone = [run(_laid([text], model.pad_id)) for text in texts]
    again = [run(_laid([text], model.pad_id)) for text in texts]
    limit = _limit(alone)
    if _differs(alone, again, limit):
        raise InvalidInput(
            f"the model {model.source} (architecture {model.architecture}) gives other activations "
            "each time that it is run over the same text, even in eval mode; make it deterministic, "
            "for example by a seed in its config"
        )
    if "attention_mask" in inspect.signature(model.module.forward).parameters:
        wide = max(map(len, texts))
        padded = [run(_laid([text], model.pad_id, wide)) for text in texts]
        together = run(_laid(texts, model.pad_id))
        beside = [
            {site: one[k : k + 1] for site, one in together.items()} for k in range(len(texts))
        ]
        if not _differs(alone, padded, limit) and not _differs(alone, beside, limit):
            return PADDED
    # Twins hold the same tokens in another order: neither the same text nor another vocabulary.
    pairs = [run(_laid([text, np.roll(text, 1)[::-1]], model.pad_id)) for text in texts]
    firsts = [{site: one[:1] for site, one in pair.items()} for pair in pairs]
    return ALONE if _differs(alone, firsts, limit) else SAME_LENGTH


def _in_float32(model: LoadedModel) -> LoadedModel:
    """Return a model of half precision in float32, where a copy is no great matter."""
    import torch

    half = {torch.float16, torch.bfloat16}
    parameters = list(model.module.parameters())
    small = sum(4 * parameter.numel() for parameter in parameters) <= MOST_COPIED
    spread = hasattr(model.module, "hf_device_map")
    if spread or not small or not any(parameter.dtype in half for parameter in parameters):
        return model
    module = copy.deepcopy(model.module).float()
    return dataclasses.replace(model, module=module, compute_dtype="float32")


def _texts(model: LoadedModel) -> list[NDArray[np.int64]]:
    """Return the texts that are tried, as ids of ordinary tokens, the same for ever."""
    special = {model.pad_id, *getattr(model.tokenizer, "all_special_ids", ())}
    ids: Any = model.tokenizer.get_vocab().values()
    ordinary = np.array(sorted(set(ids) - special) or [0], np.int64)
    generator = np.random.Generator(np.random.Philox(key=0))
    limit = model.max_positions or max(LENGTHS)
    lengths = dict.fromkeys(min(length, limit) for length in LENGTHS)
    return [generator.choice(ordinary, length) for length in lengths]


def _laid(texts: Sequence[NDArray[np.int64]], pad_id: int, width: int = 0) -> Inputs:
    """Lay texts side by side, padded at the right to the longest, or to a width."""
    width = max(width, *map(len, texts))
    ids = np.full((len(texts), width), pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _limit(alone: Sequence[Sites]) -> dict[Any, float]:
    """Return how far the values of each site may differ; infinite where they are no numbers."""
    import torch

    limits: dict[Any, float] = {}
    for sites in alone:
        for site, values in sites.items():
            largest = float(values.abs().max())
            allowed = TOLERANCE * torch.finfo(values.dtype).eps * largest
            # The sum of what is no number stays none; whoever stores or trains refuses it by name.
            limits[site] = max(limits.get(site, 0.0), np.inf if np.isnan(allowed) else allowed)
    return limits


def _differs(alone: Sequence[Sites], others: Sequence[Sites], limit: Mapping[Any, float]) -> bool:
    """Say whether any site of any text differs beyond its limit, over the text's own tokens."""
    return any(
        not float((values.float() - other[site][:, : values.shape[1]].float()).abs().max())
        <= limit[site]
        for sites, other in zip(alone, others, strict=True)
        for site, values in sites.items()
        if np.isfinite(limit[site])
    )
