"""Tokenizers made here, the one that ships with MiniLM, and corpora of given words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from layerlake.engine.corpora.corpus import Corpus, WordSpans, string_array

TRAINING_TEXT = [
    "the cat sat on the mat, and the other cat didn't like it at all.",
    "a house in Paris is running out of water; seven people don't care!",
    "Where are the words that nobody has read? They are in the book on the table.",
    "naïve café owners paid 7 euros, 12.50 dollars or 300 yen (more or less) yesterday.",
] * 4

KINDS = (
    "wordpiece",
    "gpt2",
    "roberta",
    "roberta-prefix",
    "unigram",
    "llama",
    "llama-first",
    "gemma",
)

# Whether a word inside a text needs its space; known from how each is built below.
LEADING_SPACE = {kind: kind in ("gpt2", "roberta", "gemma") for kind in KINDS}


def _wordpiece() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=150, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return tokenizer


def _byte_level(kind: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    prefix = kind == "roberta-prefix"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<s>", "</s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    if kind == "gpt2":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", 1), ("<s>", 0), trim_offsets=True, add_prefix_space=prefix
        )
    return tokenizer


def _unigram() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120,
        special_tokens=["<unk>", "</s>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


def _sentencepiece_bpe(kind: str) -> Any:
    """BPE that falls back to bytes, with one of three ways to write a space."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    described = json.loads(tokenizer.to_str())
    model = described["model"]
    for byte in range(256):
        model["vocab"][f"<0x{byte:02X}>"] = len(model["vocab"])
    model |= {"byte_fallback": True, "fuse_unk": True}
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    if kind == "llama":
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    elif kind == "llama-first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def tokenizers_made_here() -> dict[str, Any]:
    """A fast tokenizer of every kind in `KINDS`, trained here."""
    from transformers import PreTrainedTokenizerFast

    backends = {
        "wordpiece": _wordpiece(),
        "unigram": _unigram(),
        **{kind: _byte_level(kind) for kind in ("gpt2", "roberta", "roberta-prefix")},
        **{kind: _sentencepiece_bpe(kind) for kind in ("llama", "llama-first", "gemma")},
    }
    unknown = {"wordpiece": "[UNK]", "gpt2": None, "roberta": None, "roberta-prefix": None}
    return {
        kind: PreTrainedTokenizerFast(
            tokenizer_object=backend, unk_token=unknown.get(kind, "<unk>"), name_or_path=kind
        )
        for kind, backend in backends.items()
    }


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of each kind of tokenizer in turn."""
    return str(request.param)


@pytest.fixture
def tokenizer(tokenizers_made_here: dict[str, Any], kind: str) -> Any:
    """Each tokenizer made here in turn."""
    return tokenizers_made_here[kind]


@pytest.fixture
def leading_space(kind: str) -> bool:
    """Whether the tokenizer at hand cuts inner words with the space before them."""
    return LEADING_SPACE[kind]


@pytest.fixture(scope="session")
def minilm_tokenizer(minilm_folder: Path) -> Any:
    """The real tokenizer of MiniLM (WordPiece, 30,522 pieces)."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(minilm_folder)


@pytest.fixture(scope="session")
def of_words() -> Callable[..., Corpus]:
    """A function from lists of words (and a second list each) to a corpus of given words."""

    def build(
        examples: Sequence[Sequence[str]], seconds: Sequence[Sequence[str]] | None = None
    ) -> Corpus:
        spans = WordSpans()
        texts, pair_texts = [], []
        for index, words in enumerate(examples):
            texts.append(spans.add_words(words))
            if seconds is not None:
                pair_texts.append(spans.add_words(seconds[index], 1))
            spans.close_example()
        return Corpus(
            texts=texts,
            pair_texts=None if seconds is None else pair_texts,
            words_given=True,
            annotations={},
            columns={"id": string_array([f"ex-{index}" for index in range(len(texts))])},
            source={"format": "made here"},
            licence=None,
            **spans.arrays(),
        )

    return build
