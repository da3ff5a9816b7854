"""What is found out about a tokenizer by asking it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.engine.tokenization.tokenize import tokenize, tokenizer_fingerprint
from layerlake.engine.tokenization.tokenizer_backend import (
    learn_template,
    needs_leading_space,
    open_backend,
)
from layerlake.store.errors import InvalidInput

# Specials of one text and of two, as conftest.py wrote them into each tokenizer.
TEMPLATES = {
    "wordpiece": ([["[CLS]"], ["[SEP]"]], [["[CLS]"], ["[SEP]"], ["[SEP]"]], (0, 1)),
    "roberta": ([["<s>"], ["</s>"]], [["<s>"], ["</s>", "</s>"], ["</s>"]], (0, 0)),
    "roberta-prefix": ([["<s>"], ["</s>"]], [["<s>"], ["</s>", "</s>"], ["</s>"]], (0, 0)),
    "unigram": ([[], ["</s>"]], [[], ["</s>"], ["</s>"]], (0, 0)),
    "llama": ([["<s>"], []], [["<s>"], ["<s>"], []], (0, 1)),
    "llama-first": ([["<s>"], []], [["<s>"], ["<s>"], []], (0, 1)),
    "gemma": ([["<s>"], []], [["<s>"], ["<s>"], []], (0, 1)),
}


def test_the_specials_are_learnt(tokenizer: Any, kind: str) -> None:
    backend = open_backend(tokenizer)
    if kind == "gpt2":
        assert learn_template(backend, 1).parts == ((), ())
        return
    single, pair, text_types = TEMPLATES[kind]
    for texts, expected in ((1, single), (2, pair)):
        template = learn_template(backend, texts)
        found = [tokenizer.convert_ids_to_tokens(list(part)) for part in template.parts]
        assert found == expected
        assert template.text_types == text_types[:texts]
        assert template.size == sum(map(len, expected))


def test_the_space_before_a_word_is_decided_by_asking(
    tokenizer: Any, leading_space: bool, minilm_tokenizer: Any
) -> None:
    assert needs_leading_space(open_backend(tokenizer)) == leading_space
    assert not needs_leading_space(open_backend(minilm_tokenizer))


def test_a_tokenizer_that_does_neither_is_refused_by_name() -> None:
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    # Inner spaces are doubled: "w w" is neither w + w nor w + " w".
    vocab = {character: i for i, character in enumerate("abcdefghijklmnopqrstuvwxyzP7 _")}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.normalizer = normalizers.Replace("e t", "__")
    backend.normalizer = normalizers.Sequence(
        [normalizers.Replace(" ", "  "), normalizers.Replace("e  t", "__")]
    )
    odd = PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path="odd-one")
    with pytest.raises(InvalidInput, match=r"\(odd-one\) cuts a word inside a text neither"):
        needs_leading_space(open_backend(odd))


def test_a_tokenizer_that_knows_no_probe_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(vocab={"#": 0}, merges=[]))
    with pytest.raises(InvalidInput, match="makes no piece of any of the words"):
        tokenize(corpus_from_texts(["#"]), PreTrainedTokenizerFast(tokenizer_object=backend))


def test_a_slow_tokenizer_is_refused() -> None:
    class SlowTokenizer:
        name_or_path = "somewhere"

    for use in (
        tokenizer_fingerprint,
        lambda slow: tokenize(corpus_from_texts(["a"]), slow),
    ):
        with pytest.raises(InvalidInput, match=r"SlowTokenizer \(somewhere\) is not a fast one"):
            use(SlowTokenizer())


def test_a_tokenizer_with_parts_in_python_is_refused(minilm_tokenizer: Any) -> None:
    from tokenizers import Tokenizer, pre_tokenizers

    class Whole:
        def pre_tokenize(self, text: Any) -> None:
            """Leave the text in one part."""

    backend = Tokenizer.from_str(minilm_tokenizer.backend_tokenizer.to_str())
    backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Whole())

    class Plain:
        backend_tokenizer = backend

    with pytest.raises(InvalidInput, match="Plain cannot be written down"):
        tokenizer_fingerprint(Plain())


def test_the_tokenizer_given_is_left_as_it_is(minilm_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder)
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=9)
    before = backend.to_str()
    found = tokenize(corpus_from_texts(["one two three four five six"]), tokenizer)
    assert found.n_pieces == 8  # neither cut at 4 nor filled up to 9
    assert backend.to_str() == before


def test_the_fingerprint_is_of_what_the_tokenizer_does(minilm_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder)
    fingerprint = tokenizer_fingerprint(tokenizer)
    tokenizer.save_pretrained(tmp_path / "elsewhere")
    again = AutoTokenizer.from_pretrained(tmp_path / "elsewhere")
    assert tokenizer_fingerprint(again) == fingerprint
    again.backend_tokenizer.enable_truncation(4)
    again.backend_tokenizer.enable_padding(length=9)
    assert tokenizer_fingerprint(again) == fingerprint
    again.add_tokens(["layerlake"])
    assert tokenizer_fingerprint(again) != fingerprint


def test_pieces_are_never_drawn_by_lot(tokenizers_made_here: dict[str, Any]) -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    described = json.loads(tokenizers_made_here["gpt2"].backend_tokenizer.to_str())
    described["model"]["dropout"] = 0.9
    backend = Tokenizer.from_str(json.dumps(described))
    random = PreTrainedTokenizerFast(tokenizer_object=backend)
    corpus = corpus_from_texts(["the cat sat on the mat and the other cat"])
    steady = tokenize(corpus, tokenizers_made_here["gpt2"])
    assert tokenize(corpus, random).piece_ids.tolist() == steady.piece_ids.tolist()
