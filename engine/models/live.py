"""Models that live in the caller's process: taken as they are, and left as they were."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from layerlake.engine.models.architectures import find_trunk
from layerlake.engine.models.checkpoints import require_transformers
from layerlake.engine.models.loading import LoadedModel, describe
from layerlake.engine.models.placement import weights_digest
from layerlake.engine.models.tokenizer_files import check_vocabulary
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch


def is_module(value: object) -> bool:
    """Say whether a value is a torch module, without loading torch for one that is not."""
    return any(kind.__module__.startswith("torch.nn.") for kind in type(value).__mro__)


def live_model(module: torch.nn.Module, tokenizer: Any) -> LoadedModel:
    """Return a model of the caller as it is now: its device, its dtype, its weights.

    Its head is left out, as is what wraps it (an adapter that is not merged stays at work).
    Nothing of it is changed; while activations are taken it is in eval mode.

    Parameters
    ----------
    module
        A model of transformers, with or without a head, or of peft.
    tokenizer
        Its fast tokenizer.

    Raises
    ------
    InvalidInput
        It is no such model, or the two do not belong together.
    """
    require_transformers()
    if not is_module(module):
        raise InvalidInput(
            f"a {type(module).__name__} is no model; give a folder, a hub name, or a model of "
            "transformers"
        )
    if tokenizer is None:
        raise InvalidInput("a live model comes without a tokenizer; give it as tokenizer=")
    if not getattr(tokenizer, "is_fast", False):
        raise InvalidInput(
            f"a {type(tokenizer).__name__} is no fast tokenizer, which alignment with words needs; "
            "load it with AutoTokenizer"
        )
    body = _body(module)
    name = str(getattr(body.config, "_name_or_path", "") or type(module).__name__)
    if any(parameter.is_meta for parameter in body.parameters()):
        raise InvalidInput(
            f"some weights of {name} are not in memory (device meta); load them first, or give "
            "its folder"
        )
    check_vocabulary(name, body, tokenizer)
    floating = [p for p in body.parameters() if p.is_floating_point()]
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in floating})
    return describe(
        body,
        tokenizer,
        source=re.split(r"[/\\]", name.rstrip("/\\"))[-1],
        revision=getattr(body.config, "_commit_hash", None),
        weights_digest=_digest(body),
        n_layers=find_trunk(body).n_layers,
        randomize=None,
        truncate=None,
        device=body.get_input_embeddings().weight.device,
        compute_dtype="+".join(dtypes),
    )


def _digest(body: Any) -> str:
    """Return the digest of the weights, and of which adapters of peft are at work and how much."""
    digest = weights_digest(body)
    at_work = [
        [
            name,
            bool(getattr(part, "disable_adapters", False)),
            [str(adapter) for adapter in part.active_adapters],
            [str(adapter) for adapter in getattr(part, "merged_adapters", [])],
            sorted((str(k), str(v)) for k, v in dict(getattr(part, "scaling", {})).items()),
        ]
        for name, part in body.named_modules()
        if type(part).__module__.startswith("peft.") and hasattr(part, "active_adapters")
    ]
    if not at_work:
        return digest
    return hashlib.sha256(f"{digest} {json.dumps(at_work)}".encode()).hexdigest()


def _body(module: Any) -> Any:
    """Return the body of a model, out of a head and what wraps it."""
    if hasattr(module, "get_base_model"):  # peft: its layers stay in the model they adapt
        module = module.get_base_model()
    config = getattr(module, "config", None)
    if config is None or not hasattr(config, "model_type"):
        raise InvalidInput(
            f"a {type(module).__name__} has no config of transformers, so that its blocks cannot "
            "be told; run it yourself and bring its activations with lake.writer"
        )
    if getattr(config, "is_encoder_decoder", False):
        return module.get_encoder()
    return getattr(module, "base_model", module)
