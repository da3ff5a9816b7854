"""Examples over the limit, and what is part of a tokenization's identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.tokenization.tokenize import tokenize
from layerlake.store.errors import InvalidInput

LAW = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXTS = ["the cat", "the cat sat on the mat", "the", "don't sit on the other mat , cat"]


def test_long_examples_are_refused_by_name(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(TEXTS, ids=["p", "q", "r", "s"])
    with pytest.raises(InvalidInput) as caught:
        tokenize(corpus, minilm_tokenizer, limit=7)
    assert str(caught.value) == (
        "2 of 4 examples have more than 7 pieces: q (8), s (12); "
        "use --long drop, split or window, or shorter examples"
    )
    many = corpus_from_texts([TEXTS[1]] * 5)
    with pytest.raises(InvalidInput, match=r"5 of 5 .* example 3 \(8\), \.\.\.; use"):
        tokenize(many, minilm_tokenizer, limit=7)
    tokenize(corpus, minilm_tokenizer, limit=12)


def test_long_examples_are_dropped_and_counted(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(TEXTS, ids=["p", "q", "r", "s"])
    found = tokenize(corpus, minilm_tokenizer, limit=7, long="drop")
    assert found.input_example.tolist() == [0, 2]
    assert found.settings["dropped"] == 2
    assert found.settings["dropped_examples"] == ["q", "s"]
    kept = corpus_from_texts([TEXTS[0], TEXTS[2]])
    assert np.array_equal(found.piece_ids, tokenize(kept, minilm_tokenizer).piece_ids)
    last = int(corpus.word_offsets[2])
    assert found.piece_word.tolist() == [-1, 0, 1, -1, -1, last, -1]
    with pytest.raises(InvalidInput, match="all 1 examples have more than 7 pieces"):
        tokenize(corpus_from_texts([TEXTS[1]]), minilm_tokenizer, limit=7, long="drop")


def test_dropped_names_are_bounded(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(["a", *[TEXTS[1]] * 50])
    found = tokenize(corpus, minilm_tokenizer, limit=7, long="drop")
    assert found.settings["dropped"] == 50
    assert len(found.settings["dropped_examples"]) == 20


def test_pairs_are_dropped_whole_and_never_split(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(["the", "the cat", "a"], ["a", "sat on the mat", "b"])
    found = tokenize(corpus, minilm_tokenizer, packing="pair", limit=6, long="drop")
    assert found.input_example.tolist() == [0, 2]
    assert found.settings["dropped_examples"] == ["example 2"]
    reference = minilm_tokenizer(["the", "a"], ["a", "b"])
    assert found.piece_ids.tolist() == [i for ids in reference["input_ids"] for i in ids]
    assert found.piece_word.max() == corpus.n_words - 1
    with pytest.raises(InvalidInput, match="pairs cannot be split"):
        tokenize(corpus, minilm_tokenizer, packing="pair", limit=6, long="split")


def fewest_parts(sizes: list[int], room: int) -> int:
    """Return the fewest runs of whole words with at most `room` pieces, by dynamic programming."""
    best = [0] + [len(sizes) + 1] * len(sizes)
    for stop in range(1, len(sizes) + 1):
        for start in range(stop):
            if sum(sizes[start:stop]) <= room:
                best[stop] = min(best[stop], best[start] + 1)
    return best[-1]


@LAW
@given(
    sentences=st.lists(
        st.lists(
            st.sampled_from(["the", "don't", "unbelievably", "N.Y.", "cat"]),
            min_size=1,
            max_size=12,
        ),
        min_size=1,
        max_size=3,
    ),
    limit=st.integers(16, 24),
    given_words=st.booleans(),
)
def test_splits_fall_between_words_and_are_as_few_as_can_be(
    tokenizers_made_here: dict[str, Any],
    of_words: Callable[..., Corpus],
    sentences: list[list[str]],
    limit: int,
    given_words: bool,
) -> None:
    tokenizer = tokenizers_made_here["wordpiece"]
    texts = [" ".join(words) for words in sentences]
    corpus = of_words(sentences) if given_words else corpus_from_texts(texts)
    whole = tokenize(corpus, tokenizer)
    found = tokenize(corpus, tokenizer, limit=limit, long="split")
    assert found.lengths.max() <= limit
    inner = ~found.special
    assert np.array_equal(found.piece_ids[inner], whole.piece_ids[~whole.special])
    assert np.array_equal(found.piece_word[inner], whole.piece_word[~whole.special])
    assert np.all(np.diff(found.input_example) >= 0)
    starts = found.input_offsets[:-1]
    assert np.all(found.piece_ids[starts] == tokenizer.convert_tokens_to_ids("[CLS]"))
    ends = found.input_offsets[1:] - 1
    assert np.all(found.piece_ids[ends] == tokenizer.convert_tokens_to_ids("[SEP]"))
    parts = [
        set(found.piece_word[a + 1 : b - 1].tolist())
        for a, b in zip(starts, found.input_offsets[1:], strict=True)
    ]
    assert sum(map(len, parts)) == len(set().union(*parts)) == corpus.n_words
    sizes = np.bincount(whole.piece_word[whole.piece_word >= 0]).tolist()
    for example in range(corpus.n_examples):
        begin, end = corpus.word_offsets[example : example + 2].tolist()
        expected = fewest_parts(sizes[begin:end], limit - 2)
        assert int(np.sum(found.input_example == example)) == expected
    assert found.settings["split"] == int(np.sum(whole.lengths > limit))


def test_space_at_the_end_of_a_text_is_split_off_with_its_word(
    tokenizers_made_here: dict[str, Any],
) -> None:
    tokenizer = tokenizers_made_here["gpt2"]
    corpus = corpus_from_texts(["the cat the cat \t"])
    whole = tokenize(corpus, tokenizer)
    assert whole.piece_word[-1] == -1
    found = tokenize(corpus, tokenizer, long="split", limit=whole.n_pieces - 1)
    assert found.n_inputs == 2
    assert np.array_equal(found.piece_ids, whole.piece_ids)
    assert found.piece_word[found.input_offsets[1]] == 3


def test_a_word_longer_than_the_limit_is_named(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(["fine", "short a.b.c.d.e.f.g.h short"])
    with pytest.raises(InvalidInput) as caught:
        tokenize(corpus, minilm_tokenizer, long="split", limit=8)
    assert "'a.b.c.d.e.f.g.h' in example 'example 2' alone has more pieces" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"long": "cut"}, "long is 'cut'; choose one of refuse, drop, split"),
        ({"limit": 0}, "the limit is 0 pieces"),
        ({"limit": 2}, "a limit of 2 pieces leaves no room"),
    ],
)
def test_settings_that_cannot_be(minilm_tokenizer: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        tokenize(corpus_from_texts(["a"]), minilm_tokenizer, **options)


def test_the_fingerprint_covers_what_decides_the_pieces(
    minilm_tokenizer: Any, tokenizers_made_here: dict[str, Any], of_words: Callable[..., Corpus]
) -> None:
    corpus = corpus_from_texts(TEXTS)

    def fingerprint(**options: Any) -> str:
        return tokenize(corpus, minilm_tokenizer, **options).fingerprint

    # A limit that nothing reaches changes nothing; one that cuts does.
    assert fingerprint() == fingerprint(limit=512) == fingerprint(limit=100)
    assert "limit" not in tokenize(corpus, minilm_tokenizer, limit=512).settings
    assert tokenize(corpus, minilm_tokenizer, limit=7, long="drop").settings["limit"] == 7
    pairs = tokenize(corpus_from_texts(TEXTS, TEXTS), minilm_tokenizer, packing="pair")
    words = tokenize(of_words([["a"]]), minilm_tokenizer)
    others = [
        fingerprint(),
        fingerprint(long="drop"),
        fingerprint(long="drop", limit=7),
        fingerprint(long="drop", limit=9),
        fingerprint(long="split", limit=7),
        pairs.fingerprint,
        words.fingerprint,
        tokenize(corpus, tokenizers_made_here["wordpiece"]).fingerprint,
    ]
    assert len(set(others)) == len(others)
