"""Noun phrases: how a thing is named, from a pronoun to a noun with a relative clause."""

from __future__ import annotations

from collections.abc import Callable

from layerlake.synthetic.english.derivation import Derivation
from layerlake.synthetic.english.meaning import Event, Referent, Time
from layerlake.synthetic.english.names import MONTHS, WEEKDAYS, Adjective
from layerlake.synthetic.english.tree import HEAD, Node, Phrase, Word, phrase

_CASES = {
    "he": ("he", "him", "his"),
    "she": ("she", "her", "her"),
    "it": ("it", "it", "its"),
    "they": ("they", "them", "their"),
}

RelativeClause = Callable[[Derivation, Event, str, Phrase], Phrase]
"""Builds the clause about an event around the phrase that it modifies; `clauses` has it."""


def pronoun(referent: Referent, case: int) -> Word:
    """Return the pronoun: case 0 of a subject, 1 of an object, 2 of an owner."""
    base = referent.pronoun
    return Word(_CASES[base][case], base, "PRON", "PRP$" if case == 2 else "PRP")


def noun_phrase(
    notes: Derivation, referent: Referent, clause: RelativeClause, *, is_subject: bool = False
) -> Phrase:
    """Name a thing, and note its mention, its entity and what it stands in relation with."""
    if referent.conjuncts:
        return _coordination(notes, referent, clause, is_subject)
    if referent.as_pronoun:
        found = phrase("NP", (HEAD, pronoun(referent, 0 if is_subject else 1)))
        notes.mentions.append((referent.key, found))
        return found
    core = _core(notes, referent, clause)
    found = core
    if referent.link is not None:
        other = noun_phrase(notes, referent.link.other, clause)
        followed = prepositional(referent.link.preposition, other)
        if referent.link.relation:
            ends = (other, found) if referent.link.is_reversed else (found, other)
            notes.relations.append((referent.link.relation, *ends))
        found = phrase("NP", (HEAD, found), ("nmod", followed))
    if referent.apposition is not None:
        beside = noun_phrase(notes, referent.apposition, clause)
        found = phrase(
            "NP",
            (HEAD, found),
            ("punct", _comma(), beside),
            ("appos", beside),
            ("punct", _comma(), beside),
        )
        notes.mentions.pop()
    if referent.relative is not None:
        about = clause(notes, referent.relative, referent.relative_slot, found)
        found = phrase("NP", (HEAD, found), ("acl:relcl", about))
    notes.mentions.append((referent.key, found))
    return found


def prepositional(preposition: str, inner: Phrase) -> Phrase:
    """Return "of the car" and the like."""
    return phrase(
        "PP", ("case", Word(preposition, preposition, "ADP", _in_or_to(preposition))), (HEAD, inner)
    )


def _in_or_to(preposition: str) -> str:
    return "TO" if preposition == "to" else "IN"


def _comma() -> Word:
    return Word(",", ",", "PUNCT", ",")


def _coordination(
    notes: Derivation, referent: Referent, clause: RelativeClause, is_subject: bool
) -> Phrase:
    """Return "the king , the queen and the dog"."""
    built = [
        noun_phrase(notes, conjunct, clause, is_subject=is_subject)
        for conjunct in referent.conjuncts
    ]
    parts: list[tuple[str, Node] | tuple[str, Node, Node]] = [(HEAD, built[0])]
    for place, conjunct in enumerate(built[1:], start=1):
        if place == len(built) - 1:
            joint = Word(referent.conjunction, referent.conjunction, "CCONJ", "CC")
            parts.append(("cc", joint, conjunct))
        else:
            parts.append(("punct", _comma(), conjunct))
        parts.append(("conj", conjunct))
    found = phrase("NP", *parts)
    notes.mentions.append((referent.key, found))
    return found


def _core(notes: Derivation, referent: Referent, clause: RelativeClause) -> Phrase:
    """Return a name, or a noun with what comes before it."""
    if referent.name is not None:
        found = _name(referent)
        notes.entities.append((referent.name.label, found))
        return found
    noun = referent.noun
    assert noun is not None
    parts: list[tuple[str, Node] | tuple[str, Node, Node]] = []
    owner = None
    if referent.owner is not None:
        owner = _owner(notes, referent.owner, clause)
        parts.append(("nmod:poss", owner))
    elif referent.article:
        parts.append(("det", _article(referent)))
    if referent.number:
        number = Word(referent.number, referent.number, "NUM", "CD")
        notes.entities.append(("CARDINAL", number))
        parts.append(("nummod", number))
    parts += [("amod", _adjective(adjective)) for adjective in referent.adjectives]
    if referent.compound:
        before = Word(referent.compound, referent.compound, "NOUN", "NN")
        parts.append(("compound", before))
    form = noun.plural if referent.is_plural else noun.singular
    head = Word(form, noun.singular, "NOUN", "NNS" if referent.is_plural else "NN")
    if owner is not None and referent.owner_relation:
        notes.relations.append((referent.owner_relation, head, owner))
    return phrase("NP", *parts, (HEAD, head))


def _owner(notes: Derivation, owner: Referent, clause: RelativeClause) -> Node:
    """Return "her" or "the doctor 's"."""
    if owner.as_pronoun:
        word = pronoun(owner, 2)
        notes.mentions.append((owner.key, word))
        return word
    mark = "'" if owner.is_plural and owner.noun and owner.noun.plural.endswith("s") else "'s"
    inner = noun_phrase(notes, owner, clause)
    return phrase("NP", (HEAD, inner), ("case", Word(mark, "'s", "PART", "POS")))


def _article(referent: Referent) -> Word:
    """Return the article; "a" before a vowel is "an"."""
    assert referent.noun is not None
    form = referent.article
    if form == "a":
        after = referent.compound or referent.noun.singular
        if referent.adjectives:
            after = referent.adjectives[0].form
        form = "an" if after[0] in "aeiou" and after[:3] != "uni" else "a"
    return Word(form, "this" if form == "these" else referent.article, "DET", "DT")


def _adjective(adjective: Adjective) -> Word:
    return Word(adjective.form, adjective.form, "ADJ", "JJ")


def _name(referent: Referent) -> Phrase:
    """Return a name: people are flat, a body is headed by its last word."""
    name = referent.name
    assert name is not None
    words = [Word(word, word, "PROPN", "NNP") for word in name.words]
    if name.label == "PERSON":
        return phrase("NP", (HEAD, words[0]), *(("flat", word) for word in words[1:]))
    before = [("compound", word) for word in words[:-1]]
    article = [("det", Word("the", "the", "DET", "DT"))] if name.has_article else []
    return phrase("NP", *article, *before, (HEAD, words[-1]))


def time_phrase(notes: Derivation, time: Time) -> Phrase:
    """Return "on Monday", "last week" or "yesterday"."""
    *before, last = time.words
    if before and before[-1] in MONTHS:
        day = Word(last, last, "NUM", "CD")
        inner = phrase("NP", (HEAD, _time_word(before[-1])), ("nummod", day))
    else:
        parts = [_before_time(word) for word in before]
        inner = phrase("NP", *parts, (HEAD, _time_word(last)))
    notes.entities.append((time.label, inner))
    return prepositional(time.preposition, inner) if time.preposition else inner


def _time_word(word: str) -> Word:
    if word in WEEKDAYS or word in MONTHS:
        return Word(word, word, "PROPN", "NNP")
    if word.isdecimal():
        return Word(word, word, "NUM", "CD")
    if word.endswith("s"):
        return Word(word, word[:-1], "NOUN", "NNS")
    return Word(word, word, "NOUN", "NN")


def _before_time(word: str) -> tuple[str, Node]:
    if word in ("the", "this", "that", "every"):
        return "det", Word(word, word, "DET", "DT")
    if word in ("last", "next"):
        return "amod", Word(word, word, "ADJ", "JJ")
    return "nummod", Word(word, word, "NUM", "CD")
