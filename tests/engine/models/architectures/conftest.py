"""A small random model of every architecture that is known, and where a reader of its code looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from layerlake.engine.models.loading import LoadedModel

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LAYERS = 4
HIDDEN = 32
ENCODER = {
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
    "vocab_size": 60,
}
ROBERTA = ENCODER | {"pad_token_id": 1}
DECODER = ENCODER | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
GPT = {
    "n_embd": HIDDEN,
    "n_layer": LAYERS,
    "n_head": 4,
    "n_positions": 40,
    "vocab_size": 60,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
NEO = {
    "hidden_size": HIDDEN,
    "num_layers": LAYERS,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 3,
    "max_position_embeddings": 40,
    "vocab_size": 60,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
OPT = {
    "hidden_size": HIDDEN,
    "ffn_dim": 48,
    "word_embed_proj_dim": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "vocab_size": 60,
    "init_std": 0.3,
}
DISTIL = {
    "dim": HIDDEN,
    "hidden_dim": 48,
    "n_layers": LAYERS,
    "n_heads": 4,
    "max_position_embeddings": 40,
    "vocab_size": 60,
    "initializer_range": 0.3,
}
T5 = {
    "d_model": HIDDEN,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": LAYERS,
    "num_heads": 4,
    "vocab_size": 60,
    "initializer_factor": 0.5,
    "decoder_start_token_id": 0,
}
VIT = {
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
    "initializer_range": 0.3,
}
SLIDING = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
MODERN = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "sep_token_id": 2}

Add = Callable[[Any, Any, Any, Any], Any]


@dataclass(frozen=True)
class Known:
    """What a reader of the architecture's code sees."""

    settings: dict[str, Any]
    blocks: Callable[[Any], Any]
    attention: Callable[[Any], Any]
    """From a block: the module that gives what the attention adds."""
    feed_forward: Callable[[Any], Any]
    add: Add
    """What a block makes of itself, its input, and what the two branches give."""
    embedding: Callable[[Any], Any] | None
    final_norm: Callable[[Any], Any] | None = None


def _plain_sum(block: Any, entered: Any, attended: Any, fed: Any) -> Any:
    return entered + attended + fed


def _bert_sum(block: Any, entered: Any, attended: Any, fed: Any) -> Any:
    return block.output.LayerNorm(block.attention.output.LayerNorm(entered + attended) + fed)


def _bert(settings: dict[str, Any]) -> Known:
    return Known(
        settings,
        lambda m: m.encoder.layer,
        lambda b: b.attention.output.dense,
        lambda b: b.output.dense,
        _bert_sum,
        lambda m: m.embeddings.word_embeddings,
    )


def _llama(settings: dict[str, Any]) -> Known:
    return Known(
        settings,
        lambda m: m.layers,
        lambda b: b.self_attn,
        lambda b: b.mlp,
        _plain_sum,
        lambda m: m.embed_tokens,
        lambda m: m.norm,
    )


def _sandwich(settings: dict[str, Any], inside: Callable[[Any], Any] = lambda m: m) -> Known:
    return Known(
        settings,
        lambda m: inside(m).layers,
        lambda b: b.post_attention_layernorm,
        lambda b: b.post_feedforward_layernorm,
        _plain_sum,
        lambda m: inside(m).embed_tokens,
        lambda m: inside(m).norm,
    )


def _gpt(settings: dict[str, Any]) -> Known:
    return Known(
        settings,
        lambda m: m.h,
        lambda b: b.attn,
        lambda b: b.mlp,
        _plain_sum,
        lambda m: m.wte,
        lambda m: m.ln_f,
    )


def _t5(settings: dict[str, Any]) -> Known:
    return Known(
        settings,
        lambda m: m.encoder.block,
        lambda b: b.layer[0].SelfAttention,
        lambda b: b.layer[1].DenseReluDense,
        _plain_sum,
        lambda m: m.encoder.embed_tokens,
        lambda m: m.encoder.final_layer_norm,
    )


def _albert_sum(block: Any, entered: Any, attended: Any, fed: Any) -> Any:
    inner = block.albert_layers[0]
    return inner.full_layer_layer_norm(inner.attention.LayerNorm(entered + attended) + fed)


def _mpnet_sum(block: Any, entered: Any, attended: Any, fed: Any) -> Any:
    return block.output.LayerNorm(block.attention.LayerNorm(entered + attended) + fed)


def _distil_sum(block: Any, entered: Any, attended: Any, fed: Any) -> Any:
    return block.output_layer_norm(block.sa_layer_norm(entered + attended) + fed)


def _vit_attention(block: Any) -> Any:
    inner = block.attention
    return inner.o_proj if hasattr(inner, "o_proj") else inner.output.dense


def _vit_feed_forward(block: Any) -> Any:
    return block.mlp.fc2 if hasattr(block, "mlp") else block.output.dense


KNOWN = {
    "albert": Known(
        ENCODER | {"embedding_size": 16},
        lambda m: m.encoder.albert_layer_groups,
        lambda b: b.albert_layers[0].attention.dense,
        lambda b: b.albert_layers[0].ffn_output,
        _albert_sum,
        lambda m: m.embeddings.word_embeddings,
    ),
    "bert": _bert(ENCODER),
    "camembert": _bert(ROBERTA),
    "deberta": _bert(ENCODER | DISENTANGLED),
    "deberta-v2": _bert(ENCODER | DISENTANGLED),
    "distilbert": Known(
        DISTIL,
        lambda m: m.transformer.layer,
        lambda b: b.attention.out_lin,
        lambda b: b.ffn,
        _distil_sum,
        lambda m: m.embeddings.word_embeddings,
    ),
    "electra": _bert(ENCODER | {"embedding_size": 16}),
    "gemma": _llama(DECODER),
    "gemma2": _sandwich(DECODER | {"sliding_window": 3}),
    "gemma3": _sandwich(
        {
            "text_config": DECODER | {"sliding_window": 3},
            "vision_config": VIT | {"num_hidden_layers": 1},
            "mm_tokens_per_image": 4,
            "image_token_index": 58,
            "boi_token_index": 57,
            "eoi_token_index": 56,
        },
        lambda m: m.language_model,
    ),
    "gemma3_text": _sandwich(DECODER | {"sliding_window": 3}),
    "gpt2": _gpt(GPT),
    "gpt_neo": _gpt(NEO),
    "gpt_neox": Known(
        ENCODER,
        lambda m: m.layers,
        lambda b: b.attention,
        lambda b: b.mlp,
        _plain_sum,
        lambda m: m.embed_in,
        lambda m: m.final_layer_norm,
    ),
    "llama": _llama(DECODER),
    "mistral": _llama(DECODER | {"sliding_window": 3}),
    "modernbert": Known(
        ENCODER | MODERN,
        lambda m: m.layers,
        lambda b: b.attn,
        lambda b: b.mlp,
        _plain_sum,
        lambda m: m.embeddings.tok_embeddings,
        lambda m: m.final_norm,
    ),
    "mpnet": Known(
        ROBERTA,
        lambda m: m.encoder.layer,
        lambda b: b.attention.attn.o,
        lambda b: b.output.dense,
        _mpnet_sum,
        lambda m: m.embeddings.word_embeddings,
    ),
    "mt5": _t5(T5),
    "olmo": _llama(DECODER),
    "olmo2": _sandwich(DECODER),
    "opt": Known(
        OPT,
        lambda m: m.decoder.layers,
        lambda b: b.self_attn,
        lambda b: b.fc2,
        _plain_sum,
        lambda m: m.decoder.embed_tokens,
        lambda m: m.decoder.final_layer_norm,
    ),
    "phi": Known(
        ENCODER,
        lambda m: m.layers,
        lambda b: b.self_attn,
        lambda b: b.mlp,
        _plain_sum,
        lambda m: m.embed_tokens,
        lambda m: m.final_layernorm,
    ),
    "phi3": _llama({k: v for k, v in DECODER.items() if k != "head_dim"}),
    "qwen2": _llama(DECODER | SLIDING),
    "qwen3": _llama(DECODER),
    "roberta": _bert(ROBERTA),
    "t5": _t5(T5),
    "umt5": _t5(T5),
    "vit": Known(
        VIT,
        lambda m: m.layers if hasattr(m, "layers") else m.encoder.layer,
        _vit_attention,
        _vit_feed_forward,
        _plain_sum,
        None,
        lambda m: m.layernorm,
    ),
    "xlm-roberta": _bert(ROBERTA),
}
"""By architecture."""

IDS = np.random.default_rng(0).integers(5, 55, (3, 9))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small run slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def _tiny(kind: str) -> LoadedModel:
    config = transformers.AutoConfig.for_model(kind, **KNOWN[kind].settings)
    # Keys and values that are kept for generation lie otherwise in memory, and round otherwise.
    config.get_text_config().use_cache = False
    if kind == "gemma3":
        config.vision_config.vision_use_head = False
    loader = transformers.AutoModel
    if kind in ("t5", "mt5", "umt5"):
        loader = transformers.AutoModelForTextEncoding
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = loader.from_config(config)
    return LoadedModel(
        module=module.eval().requires_grad_(False),
        tokenizer=None,
        source="tiny",
        revision=None,
        architecture=kind,
        config={},
        weights_digest="",
        n_layers=LAYERS,
        hidden=HIDDEN,
        max_positions=40,
        randomize=None,
        truncate=None,
        device=torch.device("cpu"),
        compute_dtype="float32",
        attention="sdpa",
        pad_id=0,
    )


@pytest.fixture
def tiny() -> Callable[[str], LoadedModel]:
    """Return the small model of an architecture; made once, so leave it as it is."""
    return _tiny


@pytest.fixture(params=sorted(KNOWN))
def kind(request: pytest.FixtureRequest) -> str:
    """Every architecture in turn."""
    return str(request.param)


@pytest.fixture
def known() -> dict[str, Known]:
    """What is known, by architecture."""
    return KNOWN


@pytest.fixture
def pieces() -> Callable[..., dict[str, Any]]:
    """Return the inputs of an architecture, three examples of nine pieces or of one image each."""

    def inputs(kind: str) -> dict[str, Any]:
        if kind == "vit":
            pixels = np.random.default_rng(0).normal(size=(3, 3, 16, 16))
            return {"pixel_values": pixels.astype(np.float32)}
        return {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}

    return inputs
