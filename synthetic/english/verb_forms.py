"""Verb groups: auxiliaries and main verb, each in the form that the one before it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from layerlake.synthetic.english.meaning import Event, State
from layerlake.synthetic.english.tree import Word
from layerlake.synthetic.english.verbs import Verb

_AUXILIARIES = {
    "be": {
        "past": ("was", "were"),
        "present": ("is", "are"),
        "base": ("be", "be"),
        "gerund": ("being", "being"),
        "participle": ("been", "been"),
    },
    "have": {
        "past": ("had", "had"),
        "present": ("has", "have"),
        "base": ("have", "have"),
    },
    "do": {"past": ("did", "did"), "present": ("does", "do")},
}
"""Lemma -> form -> (singular, plural)."""

_XPOS = {"past": "VBD", "base": "VB", "gerund": "VBG", "participle": "VBN"}

_BEFORE_NOT = {"can": "ca", "will": "wo"}
"""Modal verbs that change before n't."""

NEVER_CONTRACTED = ("may",)


@dataclass(frozen=True)
class VerbGroup:
    """The words of a verb group."""

    auxiliaries: tuple[tuple[str, Word], ...]
    """(relation, word), in their order."""
    negation: Word | None
    """Stands after the first auxiliary."""
    main: Word


def verb_group(event: Event, form: str, *, is_inverted: bool = False) -> VerbGroup:
    """Return the verbs of an event.

    Parameters
    ----------
    event
        Its tense, aspect, voice and negation say which verbs there are.
    form
        "finite", or that of a verb which is none: "base" (after `to`), "gerund", "participle".
    is_inverted
        Whether an auxiliary must be there, since it comes before the subject.
    """
    subject = event.subject
    is_plural = subject is not None and subject.is_plural
    lemmas: list[tuple[str, str]] = []
    if event.aspect == "perfect":
        lemmas.append(("aux", "have"))
    if event.aspect == "progressive":
        lemmas.append(("aux", "be"))
    if event.is_passive:
        lemmas.append(("aux:pass", "be"))
    first: str = form
    words: list[tuple[str, Word]] = []
    if form == "finite":
        first = event.tense
        if event.tense not in ("past", "present"):
            words.append(("aux", Word(event.tense, event.tense, "AUX", "MD")))
            first = "base"
        elif not lemmas and (event.is_negated or is_inverted):
            words.append(("aux", _auxiliary("do", event.tense, is_plural)))
            first = "base"
    for relation, lemma in lemmas:
        words.append((relation, _auxiliary(lemma, first, is_plural)))
        is_progressive = lemma == "be" and relation == "aux"
        first = "gerund" if is_progressive else "participle"
    negation = None
    if event.is_negated and words:
        negation = negate(words[0][1], is_contracted=event.is_contracted)
    main = Word(
        _main(event.verb, first, is_plural), event.verb.lemma, "VERB", _tag(first, is_plural)
    )
    return VerbGroup(tuple(words), negation, main)


def copula(state: State) -> VerbGroup:
    """Return the form of `be` in a state, as its main word."""
    is_plural = state.subject.is_plural
    word = _auxiliary("be", state.tense, is_plural)
    negation = negate(word, is_contracted=state.is_contracted) if state.is_negated else None
    return VerbGroup((), negation, word)


def negate(word: Word, *, is_contracted: bool) -> Word:
    """Return the negation after an auxiliary, which may change before it."""
    if is_contracted and word.form not in NEVER_CONTRACTED:
        word.form = _BEFORE_NOT.get(word.form, word.form)
        return Word("n't", "not", "PART", "RB")
    return Word("not", "not", "PART", "RB")


def _auxiliary(lemma: str, form: str, is_plural: bool) -> Word:
    return Word(_AUXILIARIES[lemma][form][is_plural], lemma, "AUX", _tag(form, is_plural))


def _tag(form: str, is_plural: bool) -> str:
    if form == "present":
        return "VBP" if is_plural else "VBZ"
    return _XPOS[form]


def _main(verb: Verb, form: str, is_plural: bool) -> str:
    if verb.lemma == "be":
        return _AUXILIARIES["be"][form][is_plural]
    if form == "past":
        return verb.past
    if form == "participle":
        return verb.participle
    if form == "gerund":
        return verb.gerund
    return verb.third_person if form == "present" and not is_plural else verb.lemma
