"""Pieces and the words they belong to, held to the tokenizers themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.tokenization.tokenize import Tokenization, tokenize
from layerlake.store.errors import InvalidInput

# Fixtures of every kind of tokenizer are shared between examples on purpose: nothing changes them.
LAW = settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# For laws that use the real tokenizer, which takes a while to copy.
FEW = settings(LAW, max_examples=8)

ORDINARY = ["The", "other", "cat", "didn't", "like", "12.50", "euros,", "(naïve)", "café", "don't!"]
ODD = ["don't", "\u200b", "日本語", "🙂", "N.Y.-based", "'s", "New York", "—", "\x00", "é", "  "]
WORD = st.one_of(
    st.sampled_from(ORDINARY + ODD),
    st.text(min_size=1, max_size=8),
    st.text("ab' .,é日▁", min_size=1),
)
SENTENCES = st.lists(st.lists(WORD, min_size=1, max_size=8), min_size=1, max_size=4)
TEXT = st.lists(
    st.one_of(WORD, st.sampled_from([" ", "  ", "\t", "\n ", "\u00a0", "\u3000"])), min_size=1
).map("".join)


def inputs_of(tokenization: Tokenization, name: str) -> list[list[Any]]:
    """Return one of the arrays of pieces, input by input."""
    values = getattr(tokenization, name)
    return [part.tolist() for part in np.split(values, tokenization.input_offsets[1:-1])]


def ids_of_word(tokenization: Tokenization, word: int) -> list[int]:
    """Return the pieces of a word."""
    return [int(i) for i in tokenization.piece_ids[tokenization.piece_word == word]]


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return the tokenizer's own ids of a text, without specials."""
    return [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]


# Given words


def test_punctuation_inside_a_word_stays_with_it(
    minilm_tokenizer: Any, of_words: Callable[..., Corpus]
) -> None:
    found = tokenize(of_words([["I", "don't", "mind"]]), minilm_tokenizer)
    pieces = minilm_tokenizer.convert_ids_to_tokens(found.piece_ids.tolist())
    assert pieces == ["[CLS]", "i", "don", "'", "t", "mind", "[SEP]"]
    assert found.piece_word.tolist() == [-1, 0, 1, 1, 1, 2, -1]
    assert found.special.tolist() == [True, *[False] * 5, True]
    raw = tokenize(corpus_from_texts(["I don't mind"]), minilm_tokenizer)
    assert raw.piece_ids.tolist() == found.piece_ids.tolist()
    assert raw.piece_word.tolist() == found.piece_word.tolist()


@FEW
@given(sentences=SENTENCES)
def test_wordpiece_words_are_cut_as_transformers_cuts_split_words(
    minilm_tokenizer: Any, of_words: Callable[..., Corpus], sentences: list[list[str]]
) -> None:
    found = tokenize(of_words(sentences), minilm_tokenizer)
    reference = minilm_tokenizer(sentences, is_split_into_words=True)
    first_word = 0
    for example, words in enumerate(sentences):
        expected: list[tuple[int, int]] = []
        given_ids = reference["input_ids"][example]
        owners = reference.word_ids(example)
        for index in range(len(words)):
            ids = [i for i, owner in zip(given_ids, owners, strict=True) if owner == index]
            # transformers lets a word without pieces vanish
            ids = ids or [minilm_tokenizer.unk_token_id]
            expected.extend((i, first_word + index) for i in ids)
        got = zip(
            inputs_of(found, "piece_ids")[example],
            inputs_of(found, "piece_word")[example],
            strict=True,
        )
        assert list(got)[1:-1] == expected
        first_word += len(words)


@LAW
@given(sentences=SENTENCES)
def test_every_word_has_its_own_pieces_side_by_side(
    tokenizer: Any, leading_space: bool, of_words: Callable[..., Corpus], sentences: list[list[str]]
) -> None:
    found = tokenize(of_words(sentences), tokenizer)
    index = 0
    for example, words in enumerate(sentences):
        owners = [
            owner
            for owner, special in zip(
                inputs_of(found, "piece_word")[example],
                inputs_of(found, "special")[example],
                strict=True,
            )
            if not special
        ]
        assert owners == sorted(owners)
        assert sorted(set(owners)) == list(range(index, index + len(words)))
        for place, word in enumerate(words):
            alone = encode(tokenizer, f" {word}" if leading_space and place else word)
            assert ids_of_word(found, index) == (alone or [tokenizer.unk_token_id])
            index += 1


def test_ordinary_words_are_cut_as_in_the_running_text(
    tokenizer: Any, leading_space: bool, of_words: Callable[..., Corpus]
) -> None:
    found = tokenize(of_words([ORDINARY]), tokenizer)
    assert found.piece_ids.tolist() == tokenizer(" ".join(ORDINARY))["input_ids"]
    assert found.settings["words"] == ("alone, leading space" if leading_space else "alone")
    raw = tokenize(corpus_from_texts([" ".join(ORDINARY)]), tokenizer)
    assert raw.settings["words"] == "by offsets"
    assert raw.piece_ids.tolist() == found.piece_ids.tolist()
    assert raw.piece_word.tolist() == found.piece_word.tolist()
    assert raw.fingerprint != found.fingerprint


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "llama", "llama-first", "gemma"])
@LAW
@given(words=st.lists(st.text("abé日🙂'.-xA", min_size=1, max_size=6), min_size=1, max_size=6))
def test_pieces_of_a_word_spell_the_word(
    tokenizer: Any, of_words: Callable[..., Corpus], words: list[str]
) -> None:
    for corpus in (of_words([words]), corpus_from_texts([" ".join(words)])):
        found = tokenize(corpus, tokenizer)
        for index, word in enumerate(words):
            ids = ids_of_word(found, index)
            assert tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip() == word


def test_a_word_without_a_piece_becomes_the_unknown_piece(
    minilm_tokenizer: Any, of_words: Callable[..., Corpus]
) -> None:
    found = tokenize(of_words([["a", "\u200b", "b"], ["\x00", "\u200b"]]), minilm_tokenizer)
    assert found.piece_word.tolist() == [-1, 0, 1, 2, -1, -1, 3, 4, -1]
    unknown = found.piece_ids == minilm_tokenizer.unk_token_id
    assert np.flatnonzero(unknown).tolist() == [2, 6, 7]
    assert found.settings["words_as_unknown"] == 3


def test_a_word_without_a_piece_is_named_where_nothing_is_unknown(
    of_words: Callable[..., Corpus],
) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    model = models.BPE(vocab={"a": 0, "t": 1, " ": 2}, merges=[])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model))
    with pytest.raises(InvalidInput, match="no piece of the word 'xyz' and has no unknown piece"):
        tokenize(of_words([["xyz", "at"]]), tokenizer)
    with pytest.raises(InvalidInput, match="no piece at all of example 'example 2'"):
        tokenize(corpus_from_texts(["at", "xyz"]), tokenizer)


# Raw text


def owner_by_reading(text: str, start: int) -> int:
    """Return the word of the first non-space character from a place on, by walking the text."""
    while start < len(text) and text[start].isspace():
        start += 1
    if start == len(text):
        return -1
    before = text[:start]
    opens = 0 if before and not before[-1].isspace() else 1
    return len(before.split()) - 1 + opens


@LAW
@given(texts=st.lists(TEXT.filter(lambda text: bool(text.strip())), min_size=1, max_size=4))
def test_a_piece_belongs_to_the_word_of_its_first_character(
    tokenizer: Any, texts: list[str]
) -> None:
    corpus = corpus_from_texts(texts)
    reference = tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True)
    if not all(reference["input_ids"]):
        return  # nothing but characters that the tokenizer drops, and no specials
    found = tokenize(corpus, tokenizer)
    assert inputs_of(found, "piece_ids") == reference["input_ids"]
    for example, text in enumerate(texts):
        first = int(corpus.word_offsets[example])
        owners = inputs_of(found, "piece_word")[example]
        special = inputs_of(found, "special")[example]
        for owner, is_special, (start, stop) in zip(
            owners, special, reference["offset_mapping"][example], strict=True
        ):
            if is_special:
                assert owner == -1
                assert start == stop
                continue
            expected = owner_by_reading(text, start)
            assert owner == (-1 if expected < 0 else first + expected)
            if text[start:stop].strip():
                assert text[start:stop].split()[0] in corpus.word(owner)


def test_spaces_belong_to_the_word_after_them(tokenizers_made_here: dict[str, Any]) -> None:
    text = "  the   cat \u3000 "
    for kind in ("gpt2", "roberta", "llama", "gemma"):
        found = tokenize(corpus_from_texts([text]), tokenizers_made_here[kind])
        owners = found.piece_word[~found.special].tolist()
        assert owners == sorted(owners, key=lambda word: (word < 0, word)), kind
        assert set(owners) == {0, 1, -1}
        assert owners[0] == 0  # a space before the first word


def test_one_character_in_many_pieces_is_one_word(tokenizers_made_here: dict[str, Any]) -> None:
    for kind in ("gpt2", "roberta", "llama", "llama-first", "gemma"):
        found = tokenize(corpus_from_texts(["a 日 b"]), tokenizers_made_here[kind])
        assert np.sum(found.piece_word == 1) >= 3, kind  # three bytes of UTF-8
        assert set(found.piece_word[~found.special].tolist()) == {0, 1, 2}


# Packing


@FEW
@given(
    texts=st.lists(
        st.tuples(*[st.sampled_from(["the cat", "don't  go", "7 é", "日"])] * 2), min_size=1
    )
)
def test_pairs_are_packed_as_the_tokenizer_packs_them(
    minilm_tokenizer: Any, tokenizers_made_here: dict[str, Any], texts: list[tuple[str, str]]
) -> None:
    first, second = ([pair[side] for pair in texts] for side in (0, 1))
    corpus = corpus_from_texts(first, second)
    kinds = ["wordpiece", "roberta", "unigram", "llama", "gemma"]
    for tokenizer in [minilm_tokenizer, *(tokenizers_made_here[kind] for kind in kinds)]:
        found = tokenize(corpus, tokenizer, packing="pair")
        reference = tokenizer(first, second, return_token_type_ids=True)
        assert inputs_of(found, "piece_ids") == reference["input_ids"]
        assert inputs_of(found, "segment_ids") == reference["token_type_ids"]
        for example in range(len(texts)):
            owners = inputs_of(found, "piece_word")[example]
            for owner, sequence in zip(owners, reference.sequence_ids(example), strict=True):
                if owner >= 0:
                    assert corpus.word_segment[owner] == sequence
                    assert corpus.word_example[owner] == example


def test_pairs_of_given_words(tokenizers_made_here: dict[str, Any], of_words: Any) -> None:
    corpus = of_words([["the", "cat"], ["a"]], [["don't", "sit"], ["cat", "sat"]])
    found = tokenize(corpus, tokenizers_made_here["roberta"], packing="pair")
    reference = tokenizers_made_here["roberta"](corpus.texts, corpus.pair_texts)
    assert inputs_of(found, "piece_ids") == reference["input_ids"]
    assert sorted(set(found.piece_word.tolist())) == list(range(-1, corpus.n_words))


@pytest.mark.parametrize(
    ("pair", "packing", "said"),
    [
        (True, "single", "use --packing pair"),
        (False, "pair", "use --packing single"),
        (False, "first", "packing 'first' needs two texts an example"),
        (False, "window(64,16,8)", r"the 8 of window\(64,16,8\) is for the first text of a pair"),
    ],
)
def test_packing_that_does_not_fit(
    minilm_tokenizer: Any, pair: bool, packing: str, said: str
) -> None:
    corpus = corpus_from_texts(["a"], ["b"] if pair else None)
    with pytest.raises(InvalidInput, match=said):
        tokenize(corpus, minilm_tokenizer, packing=packing)


def test_a_tokenizer_without_a_template_for_pairs(tokenizers_made_here: dict[str, Any]) -> None:
    corpus = corpus_from_texts(["a"], ["b"])
    with pytest.raises(InvalidInput, match=r"\(gpt2\) has no special piece between two texts"):
        tokenize(corpus, tokenizers_made_here["gpt2"], packing="pair")


def test_no_specials_are_no_obstacle(tokenizers_made_here: dict[str, Any]) -> None:
    found = tokenize(corpus_from_texts(["the cat"]), tokenizers_made_here["gpt2"])
    assert not found.special.any()
    assert found.piece_ids.tolist() == tokenizers_made_here["gpt2"]("the cat")["input_ids"]


# What is kept


@pytest.mark.parametrize("given_words", [True, False])
def test_batches_do_not_show(
    minilm_tokenizer: Any,
    of_words: Callable[..., Corpus],
    monkeypatch: pytest.MonkeyPatch,
    given_words: bool,
) -> None:
    texts = [f"word {i % 7} don't {'x' * (i % 11)}" for i in range(40)]
    corpus = of_words([t.split() for t in texts]) if given_words else corpus_from_texts(texts)
    whole = tokenize(corpus, minilm_tokenizer)
    monkeypatch.setattr("layerlake.engine.tokenization.word_pieces._BATCH_CHARACTERS", 50)
    seen: list[int] = []
    parts = tokenize(corpus, minilm_tokenizer, on_progress=seen.append)
    assert len(seen) > 10
    assert seen == sorted(set(seen))
    assert seen[-1] == 40
    for name, values in whole.to_columns().items():
        assert np.array_equal(values, parts.to_columns()[name]), name


def test_columns_and_attributes_hold_the_whole_tokenization(minilm_tokenizer: Any) -> None:
    found = tokenize(corpus_from_texts(["the cat", "don't"]), minilm_tokenizer, limit=512)
    again = Tokenization.from_columns(found.to_columns(), found.to_attributes())
    assert again.fingerprint == found.fingerprint
    assert again.settings == found.settings
    for name, values in found.to_columns().items():
        assert np.array_equal(values, again.to_columns()[name])
        assert values.dtype == again.to_columns()[name].dtype
    columns = found.to_columns()
    with pytest.raises(InvalidInput, match="'special' is missing"):
        Tokenization.from_columns({k: v for k, v in columns.items() if k != "special"}, {})
    for name, values in (
        ("special", columns["special"][1:]),
        ("input_offsets", np.array([0, 9, 9])),
        ("input_example", np.array([0])),
    ):
        with pytest.raises(InvalidInput, match="must"):
            Tokenization.from_columns({**columns, name: values}, found.to_attributes())
