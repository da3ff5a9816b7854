"""Sentences: each a tree, and its layers of one mind."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from dataclasses import asdict

import pytest

import layerlake.synthetic.english
from layerlake.store.errors import InvalidInput
from layerlake.synthetic.english.layers import (
    LONGEST,
    SHORTEST,
    GeneratedSentence,
    generate_sentences,
)
from layerlake.synthetic.english.proto_roles import PROPERTIES
from layerlake.synthetic.english.writers import constituents

SHARED = ("xcomp", "conj", "acl:relcl")
"""Relations across which a predicate takes an argument of the word above it."""


@pytest.fixture(scope="module")
def sentences() -> list[GeneratedSentence]:
    """Enough sentences for all constructions to be there."""
    return generate_sentences(1500, seed=11)


def subtree(sentence: GeneratedSentence, word: int) -> set[int]:
    """Return a word and all that depend on it."""
    found = {word}
    while True:
        more = {i for i, head in enumerate(sentence.heads) if head - 1 in found} - found
        if not more:
            return found
        found |= more


def head_of(sentence: GeneratedSentence, start: int, stop: int) -> int:
    """Return the one word of a span whose head lies outside it."""
    heads = [i for i in range(start, stop) if not start <= sentence.heads[i] - 1 < stop]
    assert len(heads) == 1, (sentence.text, start, stop)
    return heads[0]


def test_the_package_says_that_it_is_synthetic() -> None:
    text = " ".join((layerlake.synthetic.english.__doc__ or "").split())
    assert "synthetic" in text
    assert "scores on them say nothing about English" in text


def test_every_sentence_is_a_tree_with_one_root(sentences: list[GeneratedSentence]) -> None:
    for sentence in sentences:
        roots = [i for i, head in enumerate(sentence.heads) if head == 0]
        assert len(roots) == 1
        assert sentence.deprels[roots[0]] == "root"
        assert sentence.deprels.count("root") == 1
        assert subtree(sentence, roots[0]) == set(range(len(sentence.words)))


def test_layers_have_an_entry_for_every_word(sentences: list[GeneratedSentence]) -> None:
    for sentence in sentences:
        n = len(sentence.words)
        assert SHORTEST <= n <= LONGEST
        word_layers = (sentence.upos, sentence.xpos, sentence.lemma, sentence.heads)
        assert {len(layer) for layer in (*word_layers, sentence.deprels)} == {n}
        assert all(word and not set(word) & set(" \t()") for word in sentence.words)


def test_constituents_nest_cover_and_end_in_the_words(sentences: list[GeneratedSentence]) -> None:
    for sentence in sentences:
        spans = constituents(sentence.tree)
        tags = sorted((start, stop, label) for start, stop, label, height in spans if height == 1)
        assert tags == [(i, i + 1, tag) for i, tag in enumerate(sentence.xpos)]
        leaves = [token.strip("()") for token in sentence.tree.split() if token.endswith(")")]
        assert leaves == list(sentence.words)
        assert max(spans, key=lambda span: span[3])[:2] == (0, len(sentence.words))
        for (a, b, *_), (c, d, *_) in itertools.combinations(spans, 2):
            assert b <= c or d <= a or (a <= c and d <= b) or (c <= a and b <= d)


def test_a_constituent_has_one_head_among_the_dependencies(
    sentences: list[GeneratedSentence],
) -> None:
    for sentence in sentences:
        for start, stop, _, _ in constituents(sentence.tree):
            head_of(sentence, start, stop)


def test_entities_are_noun_phrases(sentences: list[GeneratedSentence]) -> None:
    labels = Counter()
    for sentence in sentences:
        spans = constituents(sentence.tree)
        noun_phrases = {span[:2] for span in spans if span[2] == "NP"}
        for start, stop, label in sentence.entities:
            labels[label] += 1
            if label == "CARDINAL":
                assert (stop - start, sentence.upos[start]) == (1, "NUM")
            else:
                assert (start, stop) in noun_phrases
    assert set(labels) == {"PERSON", "GPE", "ORG", "DATE", "TIME", "CARDINAL"}


def test_arguments_depend_on_their_predicates(sentences: list[GeneratedSentence]) -> None:
    for sentence in sentences:
        for place, lemma, arguments in sentence.predicates:
            assert sentence.lemma[place] == lemma
            assert sentence.upos[place] == "VERB"
            above = sentence.heads[place] - 1
            for start, stop, _ in arguments:
                assert not start <= place < stop
                argument = head_of(sentence, start, stop)
                if sentence.heads[argument] - 1 == place:
                    continue
                assert sentence.deprels[place] in SHARED, sentence.text
                assert argument == above or sentence.heads[argument] - 1 == above


def test_arguments_of_a_predicate_do_not_overlap(sentences: list[GeneratedSentence]) -> None:
    for sentence in sentences:
        for predicate in sentence.predicates:
            for before, after in itertools.pairwise(sorted(predicate.arguments)):
                assert before.stop <= after.start


def test_a_passive_subject_is_what_it_is_done_to(sentences: list[GeneratedSentence]) -> None:
    seen = 0
    for sentence in sentences:
        for place, _, arguments in sentence.predicates:
            roles = {head_of(sentence, start, stop): role for start, stop, role in arguments}
            for word, role in roles.items():
                if sentence.heads[word] - 1 == place and sentence.deprels[word] == "nsubj:pass":
                    assert role in ("ARG1", "R-ARG1")
                    assert sentence.xpos[place] == "VBN"
                    seen += 1
                if sentence.deprels[word] == "obl:agent" and sentence.heads[word] - 1 == place:
                    assert role == "ARG0"
                    marks = [
                        w
                        for w, h in zip(sentence.words, sentence.heads, strict=True)
                        if h == word + 1
                    ]
                    assert "by" in marks
    assert seen > 100


def test_pronouns_agree_with_what_they_refer_to(sentences: list[GeneratedSentence]) -> None:
    personal = {"he": "person", "she": "person", "it": "thing", "they": "many"}
    pairs = 0
    for sentence in sentences:
        for cluster in sentence.coreference:
            lemmas = {
                sentence.lemma[start]
                for start, stop in cluster
                if stop == start + 1 and sentence.upos[start] == "PRON"
            } & set(personal)
            assert len(lemmas) <= 1
            if len(cluster) > 1:
                pairs += 1
                assert lemmas
                # What is referred to comes first, and is no pronoun itself.
                start, stop = cluster[0]
                assert sentence.upos[head_of(sentence, start, stop)] in ("NOUN", "PROPN")
                if lemmas == {"they"}:
                    head = head_of(sentence, start, stop)
                    joined = any(sentence.deprels[i] == "conj" for i in range(start, stop))
                    assert sentence.xpos[head] == "NNS" or joined or sentence.words[head] == "sheep"
    assert pairs > 200


def test_mentions_are_noun_phrases_or_possessive_pronouns(
    sentences: list[GeneratedSentence],
) -> None:
    for sentence in sentences:
        noun_phrases = {span[:2] for span in constituents(sentence.tree) if span[2] == "NP"}
        mentions = [span for cluster in sentence.coreference for span in cluster]
        assert len(set(mentions)) == len(mentions)
        for start, stop in mentions:
            assert (start, stop) in noun_phrases or sentence.xpos[start] == "PRP$"


def test_proto_roles_hold_of_arguments(sentences: list[GeneratedSentence]) -> None:
    counts: Counter[tuple[str, bool]] = Counter()
    for sentence in sentences:
        heads = {
            (place, head_of(sentence, start, stop))
            for place, _, arguments in sentence.predicates
            for start, stop, _ in arguments
        }
        for predicate, argument, properties in sentence.proto_roles:
            assert (predicate, argument) in heads
            assert tuple(properties) == PROPERTIES
            counts.update(properties.items())
            if properties["volition"]:
                assert properties["sentient"]
            if properties["created"]:
                assert not properties["existed_before"]
    assert {name for name, holds in counts if holds} == set(PROPERTIES)
    assert {name for name, holds in counts if not holds} == set(PROPERTIES)


def test_relations_join_two_common_nouns_in_their_order(
    sentences: list[GeneratedSentence],
) -> None:
    labels = Counter()
    for sentence in sentences:
        if sentence.relation is None:
            continue
        (first, _), (second, _), label = sentence.relation
        labels[label] += 1
        assert first < second
        assert {sentence.upos[first], sentence.upos[second]} == {"NOUN"}
    directed = {label.partition("(")[0] for label in labels if label != "Other"}
    assert len(directed) == 9
    assert set(labels) == {"Other"} | {
        f"{name}({order})" for name in directed for order in ("e1,e2", "e2,e1")
    }


@pytest.mark.parametrize(
    ("joint", "relation"), [("of", "Component-Whole"), ("about", "Message-Topic")]
)
def test_relations_say_which_is_which(
    sentences: list[GeneratedSentence], joint: str, relation: str
) -> None:
    # "The wheel of the car", "the book about the war": what is told of comes second.
    seen = 0
    for sentence in sentences:
        if sentence.relation is None or not sentence.relation.label.startswith(relation):
            continue
        first, second = sentence.relation.first[0], sentence.relation.second[0]
        if sentence.heads[second] - 1 == first and joint in sentence.words[first:second]:
            assert sentence.relation.label == f"{relation}(e1,e2)"
            seen += 1
    assert seen


def test_instruments_go_with_verbs_and_other_things_with_nouns(
    sentences: list[GeneratedSentence],
) -> None:
    # "cut the cake with the knife" and "cut the cake with the apple" have two trees.
    attached: dict[str, set[str]] = {"VERB": set(), "NOUN": set()}
    for sentence in sentences:
        for word, head in enumerate(sentence.heads):
            if sentence.words[word] == "with" and sentence.deprels[word] == "case":
                thing = head - 1
                above = sentence.heads[thing] - 1
                attached.setdefault(sentence.upos[above], set()).add(sentence.lemma[thing])
    assert {"knife", "key", "hammer"} <= attached["VERB"]
    assert {"hat", "apple"} <= attached["NOUN"]
    assert not {"hat", "apple"} & attached["VERB"]


def test_some_words_are_nouns_and_verbs(sentences: list[GeneratedSentence]) -> None:
    tags: dict[str, set[str]] = {}
    for sentence in sentences:
        for word, tag in zip(sentence.words, sentence.upos, strict=True):
            tags.setdefault(word.lower(), set()).add(tag)
    both = {word for word, found in tags.items() if {"NOUN", "VERB"} <= found}
    assert len(both) >= 8
    assert len(tags) > 500


def test_few_sentences_recur(sentences: list[GeneratedSentence]) -> None:
    texts = {sentence.text for sentence in sentences}
    assert len(texts) > 0.995 * len(sentences)
    others = {sentence.text for sentence in generate_sentences(1500, seed=12)}
    assert len(texts & others) < 0.005 * len(texts)


def test_a_longer_draw_begins_with_the_shorter(sentences: list[GeneratedSentence]) -> None:
    assert generate_sentences(40, seed=11) == sentences[:40]
    assert generate_sentences(0, seed=11) == []


def test_the_same_seed_gives_the_same_bytes_for_ever() -> None:
    layers = [asdict(sentence) for sentence in generate_sentences(200, seed=3)]
    digest = hashlib.sha256(json.dumps(layers).encode()).hexdigest()
    assert digest == "e717a5de83d2b55098f4ce3601d48f62cad15748ceff4d7007e9cfd6d2c874a7"


@pytest.mark.parametrize(
    ("n", "seed", "complaint"),
    [(-1, 0, "number of sentences"), (1, -1, "seed"), (True, 0, "whole")],
)
def test_numbers_out_of_range_are_refused(n: int, seed: int, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        generate_sentences(n, seed)
