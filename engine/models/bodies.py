"""The body of a model: its architecture from a config, its weights from a checkpoint or anew."""

from __future__ import annotations

import inspect
import json
from functools import reduce
from typing import TYPE_CHECKING, Any

from layerlake.engine.models.checkpoints import Checkpoint, explained
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch


def read_config(checkpoint: Checkpoint) -> Any:
    """Return the config, refusing what cannot be served before any weight is read."""
    from transformers import CONFIG_MAPPING, AutoConfig

    source = checkpoint.given
    with explained(f"config.json of {source} is not JSON", "restore the file"):
        said = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(said, dict):
        raise InvalidInput(f"config.json of {source} is not a JSON object; restore the file")
    own_code = "auto_map" in said and said.get("model_type") not in CONFIG_MAPPING
    if own_code and not checkpoint.trust_remote_code:
        raise InvalidInput(
            f"model {source} needs the code that comes with it; pass trust_remote_code if you "
            "trust its authors"
        )
    if said.get("quantization_config"):
        raise InvalidInput(f"model {source} is quantised; give the model it was made from")
    with explained(f"config.json of {source} is not understood", "check the file"):
        config = AutoConfig.from_pretrained(checkpoint.folder, **checkpoint.options)
    if getattr(config, "is_encoder_decoder", False) and _encoder_class(config) is None:
        raise InvalidInput(
            f"model {source} is an encoder-decoder ({config.model_type}) whose encoder does not "
            "load alone; give an encoder, a decoder, or one of the T5 family"
        )
    return config


def _encoder_class(config: Any) -> Any:
    """Return the class of the encoder alone, where an encoder-decoder has one (the T5 family)."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    if type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return None
    found: Any = MODEL_FOR_TEXT_ENCODING_MAPPING[type(config)]
    return found if found.__name__.endswith("EncoderModel") else None


def _loader(config: Any) -> Any:
    from transformers import AutoModel, AutoModelForTextEncoding

    encoder_alone = getattr(config, "is_encoder_decoder", False)
    return AutoModelForTextEncoding if encoder_alone else AutoModel


def _without_pooler(config: Any) -> dict[str, Any]:
    """Return the option that leaves out the pooler: no site reads it, many checkpoints lack it."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        return {}
    body = MODEL_MAPPING[type(config)]
    body = body[0] if isinstance(body, tuple | list) else body
    accepted = inspect.signature(body.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepted else {}


def fresh_body(checkpoint: Checkpoint, config: Any) -> torch.nn.Module:
    """Return the architecture in float32 as its class initialises it; the weights are not read."""
    import torch

    failed = f"model {checkpoint.given} cannot be built"
    with explained(failed, "check its config.json"), torch.random.fork_rng(devices=[]):
        module: torch.nn.Module = _loader(config).from_config(
            config,
            dtype=torch.float32,
            trust_remote_code=checkpoint.trust_remote_code,
            **_without_pooler(config),
        )
    return module


def stored_body(checkpoint: Checkpoint, config: Any) -> torch.nn.Module:
    """Return the body with its weights as stored; refuse a checkpoint that lacks any."""
    source = checkpoint.given
    module: torch.nn.Module
    with explained(f"the weights of {source} cannot be loaded", "restore or re-save the model"):
        module, info = _loader(config).from_pretrained(
            checkpoint.folder,
            config=config,
            dtype=_stored_dtype(checkpoint),
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **checkpoint.options,
            **_without_pooler(config),
        )
    if misshapen := sorted(name for name, *_ in info["mismatched_keys"]):
        raise InvalidInput(
            f"the weights of {source} do not have the shapes that its config.json asks for "
            f"({_few(misshapen)}); they do not belong together"
        )
    if missing := sorted(info["missing_keys"]):
        raise InvalidInput(
            f"the weights of {source} lack {_few(missing)}, which would be drawn at random; give "
            "a complete checkpoint"
        )
    return module


def _stored_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """Return the narrowest dtype that holds every stored weight, whatever the config says."""
    import torch
    from safetensors import safe_open

    known = {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
    }
    stored: set[torch.dtype] = set()
    for file in sorted(checkpoint.folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        stored |= {known[kind] for kind in kinds & known.keys()}
    return reduce(torch.promote_types, stored) if stored else torch.float32


def _few(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
