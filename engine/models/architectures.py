"""How the models of each architecture are built: their blocks, and what a block adds to its stream.

A block reads the residual stream and adds to it what its attention and its feed-forward layer give.
`attn_out` and `mlp_out` are what is added: where a norm follows the attention before the sum
(Gemma 2, OLMo 2), its output. With the norms `before` (or inside) the two branches,
out = in + attn_out + mlp_out, in parallel blocks too; with the norms `after` each sum (BERT),
out = norm(norm(in + attn_out) + mlp_out).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Anatomy:
    """Where things are in a model body; of several paths the first that exists holds.

    Releases of transformers differ in some names, and bodies in what they are wrapped in.
    """

    blocks: tuple[str, ...]
    """Module path of the list of blocks."""
    attn_out: tuple[str, ...]
    """Path, inside a block, of the module whose output the attention adds to the stream."""
    mlp_out: tuple[str, ...]
    """The same for the feed-forward layer."""
    final_norm: tuple[str, ...] = ()
    """Path of the norm behind the last block; none where blocks end in a norm of their own."""
    embed: tuple[str, ...] = ()
    """Path of the token embedding, where `get_input_embeddings` gives one that does not run."""
    norms: str = "before"
    """`before` each branch, or `after` each sum."""
    shared: bool = False
    """Whether layers share a block, which then runs more than once."""


_BERT = Anatomy(("encoder.layer",), ("attention.output.dense",), ("output.dense",), norms="after")
_LLAMA = Anatomy(
    ("layers", "language_model.layers"), ("self_attn",), ("mlp",), ("norm", "language_model.norm")
)
_SANDWICH = Anatomy(
    _LLAMA.blocks,
    ("post_attention_layernorm",),
    ("post_feedforward_layernorm",),
    _LLAMA.final_norm,
)
_GPT2 = Anatomy(("h",), ("attn",), ("mlp",), ("ln_f",))
_T5 = Anatomy(
    ("encoder.block", "block"),
    ("layer.0.SelfAttention",),
    ("layer.1.DenseReluDense",),
    ("encoder.final_layer_norm", "final_layer_norm"),
    embed=("encoder.embed_tokens", "embed_tokens"),
)
_VIT = Anatomy(
    ("layers", "encoder.layer"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc2", "output.dense"),
    ("layernorm",),
)

ANATOMY = {
    "albert": Anatomy(
        ("encoder.albert_layer_groups",),
        ("albert_layers.0.attention.dense",),
        ("albert_layers.0.ffn_output",),
        norms="after",
        shared=True,
    ),
    "bert": _BERT,
    "camembert": _BERT,
    "deberta": _BERT,
    "deberta-v2": _BERT,
    "distilbert": Anatomy(("transformer.layer",), ("attention.out_lin",), ("ffn",), norms="after"),
    "electra": _BERT,
    "gemma": _LLAMA,
    "gemma2": _SANDWICH,
    "gemma3": _SANDWICH,
    "gemma3_text": _SANDWICH,
    "gpt2": _GPT2,
    "gpt_neo": _GPT2,
    "gpt_neox": Anatomy(("layers",), ("attention",), ("mlp",), ("final_layer_norm",)),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "modernbert": Anatomy(("layers",), ("attn",), ("mlp",), ("final_norm",)),
    "mpnet": Anatomy(("encoder.layer",), ("attention.attn.o",), ("output.dense",), norms="after"),
    "mt5": _T5,
    "olmo": _LLAMA,
    "olmo2": _SANDWICH,
    "opt": Anatomy(("decoder.layers",), ("self_attn",), ("fc2",), ("decoder.final_layer_norm",)),
    "phi": Anatomy(("layers",), ("self_attn",), ("mlp",), ("final_layernorm",)),
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "roberta": _BERT,
    "t5": _T5,
    "umt5": _T5,
    "vit": _VIT,
    "xlm-roberta": _BERT,
}
"""By `config.model_type`. Each is held against the blocks themselves by a test."""


@dataclass(frozen=True)
class Trunk:
    """The blocks of one model body."""

    path: str
    """Module path of the list of blocks."""
    blocks: torch.nn.ModuleList
    n_layers: int
    """Layers; more than blocks where they are shared."""
    shared: bool


def anatomy(kind: str) -> Anatomy | None:
    """Return what is known of an architecture; None where nothing is."""
    return ANATOMY.get(kind)


def find_trunk(module: torch.nn.Module) -> Trunk:
    """Return the blocks of a model body.

    A known architecture is looked up in `ANATOMY`; any other must have exactly one `ModuleList` as
    long as its config's `num_hidden_layers`.

    Raises
    ------
    InvalidInput
        The blocks cannot be told, or are shared in a way that is not served.
    """
    from torch.nn import ModuleList

    config: Any = module.config
    kind = config.model_type
    lists = {name: part for name, part in module.named_modules() if isinstance(part, ModuleList)}
    known = anatomy(kind)
    for path in known.blocks if known else ():
        if path in lists:
            if known is not None and known.shared:
                return _shared_trunk(config, path, lists[path])
            return Trunk(path, lists[path], len(lists[path]), False)
    wanted = getattr(config, "num_hidden_layers", None)
    fitting = [(name, part) for name, part in lists.items() if len(part) == wanted]
    if len(fitting) != 1:
        seen = ", ".join(f"{name} ({len(part)})" for name, part in lists.items()) or "none"
        raise InvalidInput(
            f"cannot tell the blocks of architecture {kind!r}: its config says {wanted} layers, "
            f"and {len(fitting)} of its module lists are that long (lists: {seen})"
        )
    path, blocks = fitting[0]
    return Trunk(path, blocks, len(blocks), False)


def _shared_trunk(config: Any, path: str, blocks: torch.nn.ModuleList) -> Trunk:
    inner = getattr(config, "inner_group_num", 1)
    if len(blocks) != 1 or inner != 1:
        raise InvalidInput(
            f"architecture {config.model_type!r} with {len(blocks)} groups of {inner} blocks is "
            "not supported; give one whose layers share a single block"
        )
    return Trunk(path, blocks, int(config.num_hidden_layers), True)


def first_present(module: torch.nn.Module, paths: Iterable[str]) -> str | None:
    """Return the first of some module paths that a module has; None where it has none."""
    present = {name for name, _ in module.named_modules()}
    return next((path for path in paths if path in present), None)


def truncate_blocks(module: torch.nn.Module, keep: int) -> None:
    """Cut all blocks above `keep` off, in place.

    Raises
    ------
    InvalidInput
        The model does not have so many.
    """
    from torch.nn import Identity

    trunk = find_trunk(module)
    n_layers = trunk.n_layers
    if not 0 <= keep <= n_layers:
        raise InvalidInput(
            f"truncation to {keep} layers asked of a model with {n_layers} layers; give 0-{n_layers}"
        )
    config: Any = module.config
    if trunk.shared:
        config.num_hidden_layers = max(keep, 1)
        return
    blocks = trunk.blocks
    # Models may look up how the first block attends before they run it.
    attends = getattr(blocks[0], "attention_type", None)
    del blocks[keep:]
    if keep == 0:
        # Layer 0 is taken where it enters the first block; this one holds the place and never runs.
        place: Any = Identity()
        place.attention_type = attends
        blocks.append(place)
    text: Any = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name, value in text.to_dict().items():
        if "layer" in name and isinstance(value, list) and len(value) == n_layers:
            setattr(text, name, value[: len(blocks)])
    text.num_hidden_layers = len(blocks)
