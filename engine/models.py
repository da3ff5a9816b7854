"""Loading a variant: a hub name or a folder, as it is, randomised, or truncated."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from layerlake.engine.architectures import find_trunk, truncate_blocks
from layerlake.engine.checkpoints import Checkpoint, explained, locate, require_transformers
from layerlake.engine.randomized import randomize_parameters
from layerlake.engine.settings import check_seed, whole_number
from layerlake.store.errors import InvalidInput, MemoryRefused

if TYPE_CHECKING:
    import torch

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
"""What a forward pass can be computed in; `auto` chooses among them."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
"""A folder with none of these has no tokenizer (the loader would make up an empty one)."""


@dataclass(frozen=True)
class LoadedModel:
    """A model body ready to run, and what makes it this variant."""

    module: torch.nn.Module = field(repr=False)
    """The body without a head: eval mode, no gradients, on `device`."""
    tokenizer: Any = field(repr=False)
    """Its fast tokenizer."""
    source: str
    """The hub name without its revision, or the last part of the folder's path."""
    revision: str | None
    """The commit on the hub; None for a folder."""
    architecture: str
    """`config.model_type`."""
    config: dict[str, Any] = field(repr=False)
    """The config, after truncation."""
    weights_digest: str
    """sha256 (hex) of the weights before they are cast to `compute_dtype`."""
    n_layers: int
    hidden: int
    max_positions: int | None
    """Most pieces of one input; None where the model sets no limit."""
    randomize: int | None
    truncate: int | None
    device: torch.device
    compute_dtype: str
    attention: str
    """The attention implementation, such as `sdpa` or `eager`."""
    pad_id: int
    """What stands at padded places."""


def load_model(
    source: str,
    *,
    randomize: int | None = None,
    truncate: int | None = None,
    device: str = "auto",
    compute_dtype: str = "float32",
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load the body of a model, without a head or pooler, with its tokenizer.

    Parameters
    ----------
    source
        A folder, or a hub name with an optional `@revision`. A folder never needs the network.
    randomize
        A seed, from 0 to 2**64 - 1: keep the architecture and draw all weights anew, embeddings included.
    truncate
        Keep the embeddings and blocks 1 to this number; 0 keeps the embeddings alone.
    device
        `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
    compute_dtype
        `float32`, `bfloat16`, `float16`, or `auto`: float32 on the CPU, else as stored.
    trust_remote_code
        Run code that comes with the model.

    Raises
    ------
    InvalidInput
        The source or a setting cannot be used.
    MemoryRefused
        The weights do not fit on the device.
    MissingExtra
        torch or transformers is not installed.
    """
    require_transformers()
    import torch

    if compute_dtype not in (*COMPUTE_DTYPES, "auto"):
        raise InvalidInput(
            f"compute dtype {compute_dtype!r} is not one of: auto, {', '.join(COMPUTE_DTYPES)}"
        )
    if randomize is not None:
        randomize = check_seed(randomize, "the seed of random weights")
    if truncate is not None:
        truncate = whole_number(truncate, "truncation", 0)
    target = resolve_device(device)
    checkpoint = locate(source, trust_remote_code, weights=randomize is None)
    config = _read_config(checkpoint)
    module = _fresh_body(checkpoint, config) if randomize is not None else _body(checkpoint, config)
    n_layers = find_trunk(module).n_layers
    if randomize is not None:
        randomize_parameters(module, randomize)
    if truncate is not None:
        truncate_blocks(module, truncate)
        n_layers = truncate
    tokenizer = _read_tokenizer(checkpoint)
    _check_vocabulary(checkpoint, module, tokenizer)
    digest = weights_digest(module)
    if compute_dtype == "auto":
        stored = str(next(module.parameters()).dtype).removeprefix("torch.")
        compute_dtype = stored if target.type != "cpu" and stored in COMPUTE_DTYPES else "float32"
    try:
        _cast(module, getattr(torch, compute_dtype))
        module.to(target)
    except torch.OutOfMemoryError as error:
        raise MemoryRefused(
            f"model {source} in {compute_dtype} does not fit on {target}; choose a smaller "
            "compute dtype or --device cpu"
        ) from error
    final: Any = module.config
    pads = (tokenizer.pad_token_id, getattr(config, "pad_token_id", None), 0)
    return LoadedModel(
        module=module.eval().requires_grad_(False),
        tokenizer=tokenizer,
        source=checkpoint.name,
        revision=checkpoint.revision,
        architecture=str(final.model_type),
        config=json.loads(final.to_json_string(use_diff=False)) | _layer_count(final, n_layers),
        weights_digest=digest,
        n_layers=n_layers,
        hidden=int(final.hidden_size),
        max_positions=_max_positions(module),
        randomize=randomize,
        truncate=truncate,
        device=target,
        compute_dtype=compute_dtype,
        attention=str(final._attn_implementation or "eager"),
        pad_id=next(pad for pad in pads if isinstance(pad, int) and pad >= 0),
    )


def load_tokenizer(source: str, *, trust_remote_code: bool = False) -> Any:
    """Return the fast tokenizer of a model, without its weights; errors as `load_model`."""
    require_transformers()
    return _read_tokenizer(locate(source, trust_remote_code, weights=False))


def weights_digest(module: torch.nn.Module) -> str:
    """Return the sha256 (hex) of all weights: names, dtypes, shapes and bytes."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def resolve_device(device: str) -> torch.device:
    """Return the device of a name; `auto` is a GPU if there is one, else the CPU.

    Raises
    ------
    InvalidInput
        Not such a name, or no such device here.
    """
    require_transformers()
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    matched = re.fullmatch(r"cpu|cuda(?::([0-9]{1,4}))?", str(device))
    if not matched:
        raise InvalidInput(f"device {device!r} is not one of: auto, cpu, cuda, cuda:N")
    present = torch.cuda.device_count()
    if device != "cpu" and int(matched[1] or 0) >= present:
        raise InvalidInput(
            f"device {device!r} asked for, but {present} CUDA devices are present; choose "
            "--device auto or cpu"
        )
    return torch.device(device)


def _read_config(checkpoint: Checkpoint) -> Any:
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
    if getattr(config, "is_encoder_decoder", False):
        raise InvalidInput(
            f"model {source} is an encoder-decoder ({config.model_type}), which is not supported; "
            "give an encoder or a decoder"
        )
    return config


def _without_pooler(config: Any) -> dict[str, Any]:
    """Return the option that leaves out the pooler: no site reads it, many checkpoints lack it."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        return {}
    body = MODEL_MAPPING[type(config)]
    body = body[0] if isinstance(body, tuple | list) else body
    accepted = inspect.signature(body.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepted else {}


def _fresh_body(checkpoint: Checkpoint, config: Any) -> torch.nn.Module:
    """Return the architecture in float32 as its class initialises it; the weights are not read."""
    import torch
    from transformers import AutoModel

    failed = f"model {checkpoint.given} cannot be built"
    with explained(failed, "check its config.json"), torch.random.fork_rng(devices=[]):
        module: torch.nn.Module = AutoModel.from_config(
            config,
            dtype=torch.float32,
            trust_remote_code=checkpoint.trust_remote_code,
            **_without_pooler(config),
        )
    return module


def _body(checkpoint: Checkpoint, config: Any) -> torch.nn.Module:
    """Return the body with its weights as stored; refuse a checkpoint that lacks any."""
    from transformers import AutoModel

    source = checkpoint.given
    module: torch.nn.Module
    with explained(f"the weights of {source} cannot be loaded", "restore or re-save the model"):
        module, info = AutoModel.from_pretrained(
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


def _layer_count(config: Any, n_layers: int) -> dict[str, int]:
    return {config.attribute_map.get("num_hidden_layers", "num_hidden_layers"): n_layers}


def _read_tokenizer(checkpoint: Checkpoint) -> Any:
    """Return the fast tokenizer, refusing a folder that has none."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = checkpoint.folder
    source = checkpoint.given
    if not checkpoint.holds(*TOKENIZER_FILES):
        raise InvalidInput(
            f"{source} holds no tokenizer; save the model's tokenizer beside it (tokenizer.json)"
        )
    with explained(f"the tokenizer of {source} cannot be read", "restore its files"):
        tokenizer = AutoTokenizer.from_pretrained(folder, **checkpoint.options)
        if (folder / "tokenizer.json").is_file() and tokenizer.is_fast:
            saved = Tokenizer.from_file(str(folder / "tokenizer.json"))
            if type(saved.model) is not type(tokenizer.backend_tokenizer.model):
                # Some architectures get their usual algorithm whatever the folder holds.
                tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if not getattr(tokenizer, "is_fast", False):
        raise InvalidInput(
            f"the tokenizer of {source} has no fast form, which alignment with words needs; save "
            "it as tokenizer.json"
        )
    return tokenizer


def _check_vocabulary(checkpoint: Checkpoint, module: Any, tokenizer: Any) -> None:
    rows = module.get_input_embeddings().weight.shape[0]
    needed = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if needed > rows:
        raise InvalidInput(
            f"the tokenizer of {checkpoint.given} has ids up to {needed - 1}, but the model "
            f"embeds {rows} of them; they do not belong together"
        )


def _max_positions(module: torch.nn.Module) -> int | None:
    """Return how many pieces the positions reach, or None without a limit."""
    from torch.nn import Embedding

    config: Any = module.config
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return None
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, Embedding):
            # RoBERTa and its kin count positions from the one after the padding.
            limit -= 0 if part.padding_idx is None else part.padding_idx + 1
    return limit


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast what is stored in the checkpoint; what is computed from it (rotary tables) keeps its."""
    stored = module.state_dict(keep_vars=True)
    for tensor in stored.values():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
