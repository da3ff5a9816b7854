"""Attachment scores of hand-made trees, and against a count word by word."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.analyses.trees.attachment import (
    CONVENTIONS,
    AttachmentCounts,
    Convention,
    count_attachments,
)
from layerlake.store.errors import InvalidInput

# They quietly fixed the old pump .
UPOS = ["PRON", "ADV", "VERB", "DET", "ADJ", "NOUN", "PUNCT"]
GOLD_HEADS = np.array([3, 3, 0, 6, 6, 3, 3])
GOLD_RELATIONS = ["nsubj", "advmod:manner", "root", "det", "amod", "obj", "punct"]
HEADS = np.array([3, 3, 0, 6, 4, 3, 6])
RELATIONS = ["nsubj:pass", "advmod", "root", "det:poss", "amod", "iobj", "punct"]
# Heads are wrong for "old" and ".". Of the five others "pump" has another relation, and "They",
# "quietly" and "the" have one of another subtype.


def test_a_hand_made_tree_under_ud17() -> None:
    counts = count_attachments(GOLD_HEADS, GOLD_RELATIONS, HEADS, RELATIONS, UPOS, "ud17")
    assert counts == AttachmentCounts(n_words=7, n_heads=5, n_labels=4)
    assert counts.uas == 5 / 7
    assert counts.las == 4 / 7


def test_a_hand_made_tree_under_ptb() -> None:
    counts = count_attachments(GOLD_HEADS, GOLD_RELATIONS, HEADS, RELATIONS, UPOS, "ptb")
    assert counts == AttachmentCounts(n_words=6, n_heads=5, n_labels=1)
    assert counts.uas == 5 / 6
    assert counts.las == 1 / 6


def test_a_right_relation_to_a_wrong_head_counts_for_nothing() -> None:
    counts = count_attachments(np.array([0]), ["root"], np.array([1]), ["root"], ["X"], "ud17")
    assert counts == AttachmentCounts(1, 0, 0)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_gold_trees_score_one(convention: Convention) -> None:
    counts = count_attachments(
        GOLD_HEADS, GOLD_RELATIONS, GOLD_HEADS, GOLD_RELATIONS, UPOS, convention
    )
    assert (counts.uas, counts.las) == (1, 1)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_no_word_has_no_score(convention: Convention) -> None:
    counts = count_attachments(np.array([], int), [], np.array([], int), [], [], convention)
    assert counts == AttachmentCounts(0, 0, 0)
    assert math.isnan(counts.uas)
    assert math.isnan(counts.las)
    only_punctuation = count_attachments(
        np.array([0]), ["root"], np.array([0]), ["root"], ["PUNCT"], "ptb"
    )
    assert only_punctuation == AttachmentCounts(0, 0, 0)


Corpus = tuple[
    NDArray[np.int64], list[str], NDArray[np.int64], list[str], list[str], NDArray[np.int64]
]


def random_corpus(seed: int, n_sentences: int = 12) -> Corpus:
    """Return two analyses of the words of sentences, their parts of speech and sentences.

    Sentence 4 has no word.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, n_sentences)
    lengths[4] = 0
    sentence = np.repeat(np.arange(n_sentences), lengths)
    n = len(sentence)
    names = ["nsubj", "nsubj:pass", "obl", "obl:tmod", "obl:npmod", "punct"]
    gold_heads = rng.integers(0, lengths[sentence] + 1)
    heads = np.where(rng.random(n) < 0.7, gold_heads, rng.integers(0, lengths[sentence] + 1))
    gold_relations = [names[i] for i in rng.integers(0, len(names), n)]
    relations = [
        gold if draw < 0.5 else names[i]
        for gold, draw, i in zip(
            gold_relations, rng.random(n), rng.integers(0, len(names), n), strict=True
        )
    ]
    upos = [["NOUN", "PUNCT", "SYM"][i] for i in rng.integers(0, 3, n)]
    return gold_heads, gold_relations, heads, relations, upos, sentence


def counted_word_by_word(corpus: Corpus, convention: Convention, of: int) -> tuple[int, int, int]:
    """Count one sentence in plain Python."""
    words = right_heads = right_labels = 0
    for gold_head, gold_relation, head, relation, upos, sentence in zip(*corpus, strict=True):
        if sentence != of or (convention == "ptb" and upos == "PUNCT"):
            continue
        words += 1
        if gold_head != head:
            continue
        right_heads += 1
        if convention == "ud17":
            gold_relation, relation = gold_relation.split(":")[0], relation.split(":")[0]
        right_labels += gold_relation == relation
    return words, right_heads, right_labels


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("seed", range(5))
def test_random_trees_count_as_word_by_word(seed: int, convention: Convention) -> None:
    corpus = random_corpus(seed)
    expected = [counted_word_by_word(corpus, convention, of) for of in range(14)]
    *given, sentence = corpus
    for of in range(14):
        own = [np.asarray(column)[sentence == of] for column in given]
        assert count_attachments(*own, convention) == AttachmentCounts(*expected[of])
    total = AttachmentCounts(*(sum(column) for column in zip(*expected, strict=True)))
    assert count_attachments(*given, convention) == total


@pytest.mark.parametrize("dtype", [np.str_, np.dtypes.StringDType(), np.object_])
def test_strings_of_any_array_count_alike(dtype: Any) -> None:
    *given, _ = random_corpus(0)
    expected = count_attachments(*given, "ud17")
    gold_heads, gold_relations, heads, relations, upos = given
    arrays = [np.array(texts, dtype=dtype) for texts in (gold_relations, relations, upos)]
    found = count_attachments(gold_heads, arrays[0], heads, relations, arrays[2], "ud17")
    assert found == expected
    assert count_attachments(gold_heads, arrays[0], heads, arrays[1], upos, "ud17") == expected


def test_what_cannot_be_counted_is_refused() -> None:
    given = (GOLD_HEADS, GOLD_RELATIONS, HEADS, RELATIONS, UPOS)
    with pytest.raises(InvalidInput, match=r"'conll' is no convention .* one of ud17, ptb"):
        count_attachments(*given, "conll")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"are of 7, 7, 7, 6, 7 words"):
        count_attachments(GOLD_HEADS, GOLD_RELATIONS, HEADS, RELATIONS[1:], UPOS, "ud17")
    with pytest.raises(ValueError, match=r"string"):
        count_attachments(GOLD_HEADS, [None] * 7, HEADS, RELATIONS, UPOS, "ud17")  # type: ignore[list-item]
