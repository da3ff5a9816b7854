"""Entailment pairs: balanced, and their hypotheses blind to the label."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter

import pytest

from layerlake.engine.corpora.nli import LABELS
from layerlake.store.errors import InvalidInput
from layerlake.synthetic.english import entailment as entailment_module
from layerlake.synthetic.english.draws import Draws
from layerlake.synthetic.english.entailment import draw_hypothesis, generate_entailment
from layerlake.synthetic.english.scene import Scene


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, str]]:
    """Enough pairs for every construction to be there."""
    return generate_entailment(1800, seed=5)


def test_labels_are_balanced(pairs: list[dict[str, str]]) -> None:
    for start in range(0, len(pairs), 3):
        assert sorted(pair["label"] for pair in pairs[start : start + 3]) == sorted(LABELS)


def test_premise_and_hypothesis_differ(pairs: list[dict[str, str]]) -> None:
    assert all(pair["premise"] != pair["hypothesis"] for pair in pairs)
    texts = {(pair["premise"], pair["hypothesis"]) for pair in pairs}
    assert len(texts) > 0.99 * len(pairs)


def test_texts_are_running_text(pairs: list[dict[str, str]]) -> None:
    for pair in pairs:
        for text in (pair["premise"], pair["hypothesis"]):
            assert text[0].isupper()
            assert text.endswith(".")
            assert not any(joined in text for joined in (" .", " ,", " n't", " 's", "  "))


def test_the_hypothesis_does_not_depend_on_the_label(
    pairs: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other labels for the same places give other premises to the same hypotheses.
    monkeypatch.setattr(entailment_module, "LABELS", (LABELS[1], LABELS[2], LABELS[0]))
    others = generate_entailment(300, seed=5)
    for pair, other in zip(pairs, others, strict=False):
        assert pair["hypothesis"] == other["hypothesis"]
        assert pair["label"] != other["label"]
        assert pair["premise"] != other["premise"]


@pytest.mark.parametrize("word", ["not", "n't", "any", "by"])
@pytest.mark.parametrize("side", ["premise", "hypothesis"])
def test_no_word_gives_the_label_away(pairs: list[dict[str, str]], word: str, side: str) -> None:
    counts = Counter(pair["label"] for pair in pairs if word in pair[side])
    assert set(counts) == set(LABELS)
    limit = 0.62 if side == "premise" else 1 / 3 + 3 * math.sqrt(2 / 9 / sum(counts.values()))
    assert max(counts.values()) / sum(counts.values()) < limit


def test_every_construction_serves_and_most_serve_two_labels(
    pairs: list[dict[str, str]],
) -> None:
    labels: dict[str, set[str]] = {}
    for pair in pairs:
        labels.setdefault(pair["construction"], set()).add(pair["label"])
    assert {"factive", "implicative", "negation", "other words", "narrower noun"} <= set(labels)
    assert {"reported", "untold", "disjunction", "changed roles", "wider noun"} <= set(labels)
    for name in ("more detail", "other words", "negation", "implicative", "factive"):
        assert labels[name] == {"entailment", "contradiction"}
    for name in ("reported", "untold", "disjunction", "less detail", "negated detail"):
        assert labels[name] == {"neutral"}


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, negation in its long form."""
    plain = text.lower().replace("won't", "will not").replace("can't", "can not")
    return plain.replace("n't", " not").rstrip(".").split()


def test_denials_hold_by_their_words(pairs: list[dict[str, str]]) -> None:
    # An independent look at the texts: where a premise only adds words to a hypothesis, whether
    # one of the two is negated decides between entailment and contradiction.
    seen = Counter()
    for pair in pairs:
        if pair["construction"] != "more detail":
            continue
        premise, hypothesis = words(pair["premise"]), words(pair["hypothesis"])
        denied = ("not" in premise) != ("not" in hypothesis)
        assert denied == (pair["label"] == "contradiction")
        seen[pair["label"]] += 1
    assert min(seen.values()) > 30


def test_verbs_of_trying_say_how_it_ended(pairs: list[dict[str, str]]) -> None:
    # "forgot to open it" denies what "managed to open it" affirms, and "hoped to" does neither.
    opening = {"wanted", "hoped", "planned", "promised", "tried"}
    for pair in pairs:
        premise = {*words(pair["premise"])}
        if pair["construction"] == "implicative":
            failed = bool({"forgot", "refused", "failed"} & premise)
            denied = "not" in words(pair["hypothesis"])
            assert pair["label"] == ("entailment" if failed == denied else "contradiction")
        if pair["construction"] == "untold":
            assert opening & premise
            assert pair["label"] == "neutral"


def test_a_longer_draw_begins_with_the_shorter(pairs: list[dict[str, str]]) -> None:
    assert generate_entailment(50, seed=5) == pairs[:50]
    ids = [pair["id"] for pair in pairs]
    assert len(set(ids)) == len(ids)


def test_other_seeds_give_other_pairs(pairs: list[dict[str, str]]) -> None:
    others = {pair["hypothesis"] for pair in generate_entailment(600, seed=6)}
    assert len(others & {pair["hypothesis"] for pair in pairs}) < 20


def test_the_same_seed_gives_the_same_bytes_for_ever() -> None:
    digest = hashlib.sha256(json.dumps(generate_entailment(300, seed=3)).encode()).hexdigest()
    assert digest == "df359fc201ab82663171883fa8265e99e82059b53a77ef7cdcce5a0b290d8a30"


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInput, match="number of pairs"):
        generate_entailment(-1, 0)
    with pytest.raises(InvalidInput, match="seed"):
        generate_entailment(1, 2**64)


def test_hypotheses_are_told_as_true_and_as_false() -> None:
    drawn = [draw_hypothesis(Scene(Draws("told", index))) for index in range(500)]
    negated = sum(one.is_negated for one in drawn) / len(drawn)
    assert 0.3 < negated < 0.5
