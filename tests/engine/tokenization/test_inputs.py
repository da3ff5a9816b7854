"""First and second texts, trimmed inputs and windows, against other implementations of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.rows.choose import choose_rows
from layerlake.engine.tokenization.tokenize import Tokenization, tokenize
from layerlake.store.errors import InvalidInput
from layerlake.store.identity import settings_fingerprint

LAW = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = ["the", "don't", "unbelievably", "N.Y.", "cat", "a"]
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=25)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=3)
FIRST = ["Where do gulls nest?", "Who painted the bridge, and when?", "What burns?"]
SECOND = [
    "Gulls nest on unbelievably steep cliffs; they don't care for the wind. " * 3,
    "Nobody did.",
    "Paper burns, and so do wood, straw and (more or less) naïvely stored hay in barns. " * 2,
]


def inputs_of(found: Tokenization) -> list[list[int]]:
    """Return the piece ids of every input."""
    return [part.tolist() for part in np.split(found.piece_ids, found.input_offsets[1:-1])]


@pytest.mark.parametrize("packing", ["first", "second"])
@pytest.mark.parametrize("given_words", [True, False])
def test_one_text_of_each_pair(
    tokenizer: Any, of_words: Callable[..., Corpus], packing: str, given_words: bool
) -> None:
    texts = [[text.split() for text in side] for side in (FIRST, SECOND)]
    chosen = packing == "second"
    if given_words:
        pairs, alone = of_words(*texts), of_words(texts[chosen])
    else:
        pairs = corpus_from_texts(FIRST, SECOND)
        alone = corpus_from_texts(SECOND if chosen else FIRST)
    found, reference = tokenize(pairs, tokenizer, packing=packing), tokenize(alone, tokenizer)
    for name in ("piece_ids", "segment_ids", "special", "input_offsets", "input_example"):
        assert np.array_equal(getattr(found, name), getattr(reference, name)), name
    of_segment = np.flatnonzero(pairs.word_segment == chosen)
    expected = reference.piece_word.copy()
    expected[expected >= 0] = of_segment[expected[expected >= 0]]
    assert np.array_equal(found.piece_word, expected)
    assert found.settings["packing"] == packing


def bert_trim(first: list[int], second: list[int], most: int) -> tuple[list[int], list[int]]:
    """Cut two lists as the procedure says it: one piece at a time."""
    first, second = first.copy(), second.copy()
    while len(first) + len(second) > most:
        (first if len(first) > len(second) else second).pop()
    return first, second


@LAW
@given(pairs=PAIRS, length=st.integers(5, 40))
def test_trimmed_pairs_are_those_of_bert(
    tokenizers_made_here: dict[str, Any], pairs: list[tuple[list[str], list[str]]], length: int
) -> None:
    tokenizer = tokenizers_made_here["wordpiece"]
    texts = [[" ".join(pair[side]) for pair in pairs] for side in (0, 1)]
    found = tokenize(corpus_from_texts(*texts), tokenizer, packing=f"trim({length})")
    expected, cut, gone = [], 0, 0
    for first, second in zip(*texts, strict=True):
        whole = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (first, second)]
        kept = bert_trim(*whole, length - 3)
        expected.append([1, *kept[0], 2, *kept[1], 2])
        lost = sum(map(len, whole)) - sum(map(len, kept))
        cut, gone = cut + (lost > 0), gone + lost
    assert inputs_of(found) == expected
    assert (found.settings["trimmed"], found.settings["pieces_trimmed"]) == (cut, gone)
    assert not found.repeated.any()


@pytest.mark.parametrize("kind", ["wordpiece", "roberta", "llama", "unigram"])
@pytest.mark.parametrize("length", [9, 14, 30, 200])
def test_trimmed_texts_are_those_of_transformers(
    tokenizers_made_here: dict[str, Any], kind: str, length: int
) -> None:
    tokenizer = tokenizers_made_here[kind]
    options = {"truncation": "longest_first", "max_length": length}
    alone = tokenize(corpus_from_texts(SECOND), tokenizer, packing=f"trim({length})")
    assert inputs_of(alone) == tokenizer(SECOND, **options)["input_ids"]
    specials = len(tokenizer("a", "a")["input_ids"]) - 2 * len(
        tokenizer("a", add_special_tokens=False)["input_ids"]
    )
    length += (length - specials) % 2  # with an odd room the two differ in who gets the last piece
    options["max_length"] = length
    pairs = tokenize(corpus_from_texts(FIRST, SECOND), tokenizer, packing=f"trim({length})")
    assert inputs_of(pairs) == tokenizer(FIRST, SECOND, **options)["input_ids"]


def test_a_word_that_is_cut_is_no_word(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(["the unbelievably steep", "a cat"])
    whole = tokenize(corpus, minilm_tokenizer)
    size = int(np.sum(whole.piece_word == 1))
    assert size > 1
    found = tokenize(corpus, minilm_tokenizer, packing="trim(4)")
    assert found.piece_word.tolist() == [-1, 0, -1, -1, -1, 3, 4, -1]
    assert found.special.tolist() == [True, False, False, True] * 2
    assert found.settings["words_cut"] == 1
    assert choose_rows(corpus, found, "all", "word").row_id.tolist() == [0, 3, 4]


def reference_windows(
    first: list[int], second: list[int], length: int, stride: int, most: int | None
) -> list[tuple[list[int], int, list[int]]]:
    """Return (first text, start, window of the second) for each input, by a plain loop."""
    first = first if most is None else first[:most]
    room = length - 3 - len(first)
    start, found = 0, []
    while True:
        found.append((first, start, second[start : start + room]))
        if start + room >= len(second):
            return found
        start += min(stride, room)


def reference_owner(spans: list[tuple[int, int]], piece: int, words: list[int]) -> int:
    """Return the window in which a piece counts, from the definition alone."""
    ours = [p for p in range(len(words)) if p == piece or words[p] == words[piece] >= 0]
    if not any(start <= ours[0] and ours[-1] < stop for start, stop in spans):
        ours = [piece]
    best, chosen = -1.0, -1
    for window, (start, stop) in enumerate(spans):
        if start <= ours[0] and ours[-1] < stop:
            context = min(min(p - start, stop - 1 - p) for p in ours)
            score = context + 0.01 * (stop - start)
            if score > best:
                best, chosen = score, window
    return chosen


@LAW
@given(
    pairs=PAIRS,
    length=st.integers(9, 30),
    stride=st.integers(1, 29),
    most=st.integers(1, 5) | st.none(),
    given_words=st.booleans(),
)
def test_windows_of_pairs(
    tokenizers_made_here: dict[str, Any],
    of_words: Callable[..., Corpus],
    pairs: list[tuple[list[str], list[str]]],
    length: int,
    stride: int,
    most: int | None,
    given_words: bool,
) -> None:
    tokenizer = tokenizers_made_here["wordpiece"]
    stride = min(stride, length - 1)
    if most is None:
        pairs = [(first[:1], second) for first, second in pairs]
        length += 8
    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    texts = [[" ".join(words) for words in side] for side in sides]
    corpus = of_words(*sides) if given_words else corpus_from_texts(*texts)
    numbers = [length, stride] + ([] if most is None else [most])
    packing = f"window({','.join(map(str, numbers))})"
    found = tokenize(corpus, tokenizer, packing=packing)
    plain = tokenize(corpus, tokenizer, packing="pair")
    expected, repeated, words_seen, examples = [], [], [], []
    whole_words: set[int] = set()
    for example in range(len(pairs)):
        part = slice(*plain.input_offsets[example : example + 2])
        word, types = plain.piece_word[part], plain.segment_ids[part]
        inner = ~plain.special[part]
        first, second = (plain.piece_ids[part][inner & (types == side)].tolist() for side in (0, 1))
        words = [word[inner & (types == side)].tolist() for side in (0, 1)]
        inputs = reference_windows(first, second, length, stride, most)
        spans = [(start, start + len(window)) for _, start, window in inputs]
        owner = [reference_owner(spans, p, words[1]) for p in range(len(second))]
        assert -1 not in owner
        assert owner == sorted(owner)
        for number, (kept, start, window) in enumerate(inputs):
            expected.append([1, *kept, 2, *window, 2])
            copies = [owner[start + p] != number for p in range(len(window))]
            repeated.append([False, *[number > 0] * len(kept), False, *copies, False])
            examples.append(example)
            seen = [-1]
            for side, low, size in ((0, 0, len(kept)), (1, start, len(window))):
                inside = words[side][low : low + size]
                whole = {w for w in inside if inside.count(w) == words[side].count(w)}
                whole_words |= whole
                seen += [w if w in whole else -1 for w in inside] + [-1]
            words_seen.append(seen)
    assert inputs_of(found) == expected
    assert found.input_example.tolist() == examples
    assert found.repeated.tolist() == [flag for flags in repeated for flag in flags]
    assert found.piece_word.tolist() == [word for seen in words_seen for word in seen]
    assert found.settings["windows"] == len(expected)
    # Words count once each, in order, with all of their pieces in one input.
    counted = found.piece_word[~found.repeated & (found.piece_word >= 0)]
    assert np.all(np.diff(counted) >= 0)
    assert set(counted.tolist()) == whole_words
    sizes = np.bincount(plain.piece_word[plain.piece_word >= 0], minlength=corpus.n_words)
    assert all(np.sum(counted == w) == sizes[w] for w in whole_words)
    # Every piece of the second text is a candidate once.
    of_second = found.candidates[
        (found.segment_ids[found.candidates] == 1) & ~found.special[found.candidates]
    ]
    assert len(of_second) == int(np.sum((plain.segment_ids == 1) & ~plain.special))


@pytest.mark.parametrize("kind", ["wordpiece", "roberta", "llama", "unigram"])
@pytest.mark.parametrize(("length", "overlap"), [(40, 10), (40, 0), (45, 5), (64, 30)])
def test_windows_are_those_of_transformers(
    tokenizers_made_here: dict[str, Any], kind: str, length: int, overlap: int
) -> None:
    tokenizer = tokenizers_made_here[kind]
    options = {"max_length": length, "stride": overlap, "return_overflowing_tokens": True}
    one = len(tokenizer("a", add_special_tokens=False)["input_ids"])
    for question, passage in zip(FIRST, SECOND, strict=True):
        reference = tokenizer(question, passage, truncation="only_second", **options)["input_ids"]
        asked = len(tokenizer(question, "a")["input_ids"]) - one
        corpus = corpus_from_texts([question], [passage])
        packing = f"window({length},{length - asked - overlap})"
        assert inputs_of(tokenize(corpus, tokenizer, packing=packing)) == reference
        alone = tokenizer(passage, truncation=True, **options)["input_ids"]
        specials = len(tokenizer("a")["input_ids"]) - one
        packing = f"window({length},{length - specials - overlap})"
        if overlap or specials:
            found = tokenize(corpus_from_texts([passage]), tokenizer, packing=packing)
            assert inputs_of(found) == alone


def test_long_window_is_a_window_of_the_limit(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(SECOND)
    found = tokenize(corpus, minilm_tokenizer, long="window", limit=20)
    windows = tokenize(corpus, minilm_tokenizer, packing="window(20,10)")
    for name, values in windows.to_columns().items():
        assert np.array_equal(values, found.to_columns()[name])
    assert found.settings["windowed"] == 2
    assert found.settings["limit"] == 20
    assert found.fingerprint != windows.fingerprint
    short = tokenize(corpus, minilm_tokenizer, long="window", limit=512)
    assert np.array_equal(short.piece_ids, tokenize(corpus, minilm_tokenizer).piece_ids)
    assert "limit" not in short.settings
    pairs = corpus_from_texts(FIRST, SECOND)
    found = tokenize(pairs, minilm_tokenizer, packing="pair", long="window", limit=24)
    windows = tokenize(pairs, minilm_tokenizer, packing="window(24,12)")
    assert inputs_of(found) == inputs_of(windows)


@pytest.mark.parametrize(
    ("packing", "limit", "said"),
    [
        ("window(64,32)", 30, "makes inputs of 64 pieces, and the limit is 30; write at most 30"),
        ("trim(64)", 30, "packing trim(64) makes inputs of 64 pieces"),
        ("trim(4)", None, "trim(4) leaves no room for text beside 3 pieces (3 of them special); "),
        ("trim(4)", None, "raise the length to 5 or more"),
        ("window(9,2,6)", None, "no room for text beside 9 pieces (3 of them special)"),
        ("window(9,2,6)", None, "raise the length to 10 or more"),
        ("window(9,2)", None, "the first text of example 'example 1' has 6 pieces and leaves no"),
        ("window(9,2)", None, "use --packing 'window(9,2,1)', say, to cut it"),
        ("pair", 30, "use --long drop or window (pairs cannot be split)"),
    ],
)
def test_inputs_refused(minilm_tokenizer: Any, packing: str, limit: int | None, said: str) -> None:
    corpus = corpus_from_texts(FIRST, SECOND)
    with pytest.raises(InvalidInput) as caught:
        tokenize(corpus, minilm_tokenizer, packing=packing, limit=limit)
    assert said in str(caught.value)


def test_a_length_over_the_limit_that_no_input_needs_is_fine(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(["a cat"], ["a dog"])
    found = tokenize(corpus, minilm_tokenizer, packing="trim(600)", limit=512)
    assert found.settings["trimmed"] == 0


def test_the_packing_with_its_numbers_is_part_of_the_fingerprint(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(FIRST, SECOND)
    ways = ["pair", "first", "second", "trim(64)", "trim(65)", "window(64,32,9)", "window(64,32)"]
    found = [tokenize(corpus, minilm_tokenizer, packing=way).fingerprint for way in ways]
    assert len(set(found)) == len(ways)
    spaced = tokenize(corpus, minilm_tokenizer, packing="window( 64, 32 )", long="drop")
    assert spaced.fingerprint == found[-1]


def test_fingerprints_of_plain_packings_are_what_they_were(minilm_tokenizer: Any) -> None:
    found = tokenize(corpus_from_texts(["a"], ["b"]), minilm_tokenizer, packing="pair")
    kept = {"packing": "pair", "long": "refuse", "words": "by offsets"}
    kept["tokenizer"] = found.settings["tokenizer"]
    assert found.fingerprint == settings_fingerprint(kept)
    assert "repeated" not in found.to_columns()


def test_windows_are_kept_whole(minilm_tokenizer: Any) -> None:
    found = tokenize(corpus_from_texts(FIRST, SECOND), minilm_tokenizer, packing="window(24,8)")
    assert found.repeated.any()
    attributes = json.loads(json.dumps(found.to_attributes()))
    again = Tokenization.from_columns(found.to_columns(), attributes)
    assert np.array_equal(again.repeated, found.repeated)
    assert again.settings == found.settings
    assert np.array_equal(again.candidates, np.flatnonzero(~found.repeated))


def test_rows_of_windows_are_each_stimulus_once(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(FIRST, SECOND)
    found = tokenize(corpus, minilm_tokenizer, packing="window(24,8)")
    rows = choose_rows(corpus, found)
    assert rows.row_id.tolist() == np.flatnonzero(~found.repeated).tolist()
    sample = choose_rows(corpus, found, "sample:20@3")
    assert not found.repeated[sample.row_id].any()
    words = choose_rows(corpus, found, "all", "word")
    assert words.row_id.tolist() == list(range(corpus.n_words))
