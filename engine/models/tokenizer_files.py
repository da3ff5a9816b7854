"""Reading the tokenizer that comes with a model."""

from __future__ import annotations

from typing import Any

from layerlake.engine.models.checkpoints import Checkpoint, explained
from layerlake.store.errors import InvalidInput

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
"""A folder with none of these has no tokenizer (the loader would make up an empty one)."""


def read_tokenizer(checkpoint: Checkpoint) -> Any:
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


def check_vocabulary(source: str, module: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer with more ids than the model embeds."""
    try:
        rows = module.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError, TypeError) as error:
        raise InvalidInput(
            f"the model {source} ({type(module).__name__}) has no table of token embeddings; "
            "LayerLake needs a model whose only input is text"
        ) from error
    needed = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if needed > rows:
        raise InvalidInput(
            f"the tokenizer of {source} has ids up to {needed - 1}, but the model "
            f"embeds {rows} of them; they do not belong together"
        )
