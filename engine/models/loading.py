"""Loading a variant: a hub name or a folder, as it is, randomised, or truncated."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from layerlake.engine.models.adapters import base_of, merge_adapter
from layerlake.engine.models.architectures import Trunk, find_trunk, truncate_blocks
from layerlake.engine.models.bodies import fresh_body, read_config, stored_body
from layerlake.engine.models.checkpoints import Checkpoint, locate, require_transformers
from layerlake.engine.models.lineage_record import LINEAGE_FILE, Lineage, read_lineage
from layerlake.engine.models.placement import (
    COMPUTE_DTYPES,
    check_device_map,
    place,
    resolve_device,
    weights_digest,
)
from layerlake.engine.models.randomized import randomize_parameters
from layerlake.engine.models.tokenizer_files import (
    TOKENIZER_FILES,
    check_vocabulary,
    read_tokenizer,
)
from layerlake.engine.settings import check_seed, whole_number
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch


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
    parent: dict[str, Any] | None = None
    """What it was made from: source, revision and weights digest.

    Of an adapter, the base that it is merged into; of a fine-tuned model, what training began from,
    with the seed where that had random weights (`randomize`).
    """
    training: dict[str, Any] | None = None
    """How a fine-tuned model was trained, as its lineage says: task, seed, recipe, data, scores.

    Where it was cut before it was trained, `truncate` in here says after which block; what
    `LoadedModel.truncate` says was done at loading.
    """

    @property
    def trunk(self) -> Trunk:
        """The blocks of `module` as they are now; errors as `find_trunk`."""
        return find_trunk(self.module)


def load_model(
    source: str,
    *,
    randomize: int | None = None,
    truncate: int | None = None,
    device: str = "auto",
    compute_dtype: str = "auto",
    device_map: str | None = None,
    base: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load the body of a model, without a head or pooler, with its tokenizer.

    Parameters
    ----------
    source
        A folder, or a hub name with an optional `@revision`. A folder never needs the network.
        A PEFT adapter (LoRA and its kin) is merged into its base, in float32. The lineage of a
        fine-tuned model (`layerlake.json`) must speak of the weights that lie beside it.
    randomize
        A seed, from 0 to 2**64 - 1: keep the architecture and draw all weights anew, embeddings
        included. Random weights have no parent and no training.
    truncate
        Keep the embeddings and blocks 1 to this number; 0 keeps the embeddings alone. A cut copy
        of a fine-tuned model has the parent and the training of the whole.
    device
        `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
    compute_dtype
        `float32`, `bfloat16`, `float16`, or `auto`: float32 on the CPU, else as stored.
    device_map
        `auto`, `balanced` or `sequential`: spread the model over all devices here, by accelerate.
    base
        For an adapter: the model that it belongs to, where it is not where the adapter says.
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

    if compute_dtype not in (*COMPUTE_DTYPES, "auto"):
        raise InvalidInput(
            f"compute dtype {compute_dtype!r} is not one of: auto, {', '.join(COMPUTE_DTYPES)}"
        )
    check_device_map(device_map, device)
    if randomize is not None:
        randomize = check_seed(randomize, "the seed of random weights")
    if truncate is not None:
        truncate = whole_number(truncate, "truncation", 0)
    target = resolve_device(device)
    checkpoint = locate(source, trust_remote_code, weights=randomize is None)
    parent: dict[str, Any] | None = None
    lineage: Lineage | None = None
    if checkpoint.is_adapter:
        if randomize is not None:
            raise InvalidInput(
                f"{source} is an adapter, which random weights have no use for; randomise its base"
            )
        body_checkpoint = base_of(checkpoint, base)
        config = read_config(body_checkpoint)
        module = stored_body(body_checkpoint, config)
        parent = {
            "source": body_checkpoint.name,
            "revision": body_checkpoint.revision,
            "weights_digest": weights_digest(module),
        }
        module = merge_adapter(module, checkpoint)
    elif base is not None:
        raise InvalidInput(f"{source} is a whole model; a base is for adapters, so leave it out")
    else:
        body_checkpoint = checkpoint
        config = read_config(checkpoint)
        if randomize is not None:
            module = fresh_body(checkpoint, config)
            randomize_parameters(module, randomize)
        else:
            lineage = read_lineage(checkpoint.folder)
            module = stored_body(checkpoint, config)
    if lineage is not None:
        _require_own(lineage, checkpoint, module)
        parent = lineage.parent
    trunk = find_trunk(module)
    n_layers = trunk.n_layers
    digest_of: Any = weights_digest
    if truncate is not None:
        shared = trunk.shared and truncate != n_layers
        truncate_blocks(module, truncate)
        n_layers = truncate
        if shared:
            # The weights are those of the whole model, which runs its one block more often.
            digest_of = partial(_shared_digest, n_layers=truncate)
    tokenizer = read_tokenizer(
        checkpoint if checkpoint.holds(*TOKENIZER_FILES) else body_checkpoint
    )
    check_vocabulary(source, module, tokenizer)
    if lineage is not None and truncate is None:
        digest = lineage.weights_digest
    else:
        digest = digest_of(module)
    if compute_dtype == "auto":
        stored = str(next(module.parameters()).dtype).removeprefix("torch.")
        compute_dtype = stored if target.type != "cpu" and stored in COMPUTE_DTYPES else "float32"
    target = place(module, source, compute_dtype, target, device_map)
    return describe(
        module.eval().requires_grad_(False),
        tokenizer,
        source=checkpoint.name,
        revision=checkpoint.revision,
        weights_digest=digest,
        n_layers=n_layers,
        randomize=randomize,
        truncate=truncate,
        device=target,
        compute_dtype=compute_dtype,
        parent=parent,
        training=None if lineage is None else _training(lineage),
    )


def _require_own(lineage: Lineage, checkpoint: Checkpoint, module: torch.nn.Module) -> None:
    """Refuse a lineage that lies beside other weights than those that it speaks of."""
    digest = weights_digest(module)
    if digest != lineage.weights_digest:
        raise InvalidInput(
            f"the weights of {checkpoint.given} are not those that its {LINEAGE_FILE} speaks of "
            f"(digest {digest[:12]}, there {lineage.weights_digest[:12]}); restore the folder, or "
            f"remove {LINEAGE_FILE}"
        )


def _training(lineage: Lineage) -> dict[str, Any]:
    """Return how a model was trained, and where it was cut before."""
    cut = {} if lineage.truncate is None else {"truncate": lineage.truncate}
    return lineage.training | cut


def describe(
    module: torch.nn.Module,
    tokenizer: Any,
    *,
    n_layers: int,
    **known: Any,
) -> LoadedModel:
    """Return a body as a `LoadedModel`, with what its config says of it."""
    config: Any = module.config
    text: Any = config.get_text_config()
    pads = (tokenizer.pad_token_id, getattr(text, "pad_token_id", None), 0)
    return LoadedModel(
        module=module,
        tokenizer=tokenizer,
        architecture=str(config.model_type),
        config=json.loads(config.to_json_string(use_diff=False)) | _layer_count(text, n_layers),
        n_layers=n_layers,
        hidden=int(text.hidden_size),
        max_positions=_max_positions(module),
        attention=str(config._attn_implementation or "eager"),
        pad_id=next(pad for pad in pads if isinstance(pad, int) and pad >= 0),
        **known,
    )


def _shared_digest(module: torch.nn.Module, *, n_layers: int) -> str:
    return hashlib.sha256(f"{weights_digest(module)} {n_layers} layers".encode()).hexdigest()


def _layer_count(config: Any, n_layers: int) -> dict[str, int]:
    return {config.attribute_map.get("num_hidden_layers", "num_hidden_layers"): n_layers}


def _max_positions(module: torch.nn.Module) -> int | None:
    """Return how many pieces the positions reach, or None without a limit."""
    from torch.nn import Embedding

    whole: Any = module.config
    config = whole.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return None
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, Embedding):
            # RoBERTa and its kin count positions from the one after the padding.
            limit -= 0 if part.padding_idx is None else part.padding_idx + 1
    return limit
