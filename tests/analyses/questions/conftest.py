"""A model whose pieces are no other's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def byte_level_gpt(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], Path]:
    """A function that writes a random GPT-2 of two blocks, its byte-level pieces learned of texts."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    def write(texts: list[str]) -> Path:
        folder = tmp_path_factory.mktemp("gpt")
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
        torch.manual_seed(0)
        end = {"bos_token_id": 0, "eos_token_id": 0}
        size = {"n_positions": 2048, "n_embd": 16, "n_layer": 2, "n_head": 2}
        GPT2Model(GPT2Config(vocab_size=320, **size, **end)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write
