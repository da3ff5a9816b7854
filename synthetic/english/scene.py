"""Scenes: who and what a sentence is about, drawn so that its parts fit together.

What decides where a phrase attaches is in the lexicon: `with` brings an instrument to a verb that
takes such instruments, and belongs to the noun otherwise; a city or an occasion follows a noun
that can lie there; a place follows the verb where the object does not take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from layerlake.synthetic.english.draws import Draws
from layerlake.synthetic.english.meaning import Event, Link, Place, Referent, State, Time
from layerlake.synthetic.english.names import (
    BODIES,
    CITIES,
    COUNTRIES,
    FIRST_NAMES,
    MANNERS,
    NATURALLY,
    NUMBERS,
    SURNAMES,
    Adjective,
    Name,
    adjectives_for,
)
from layerlake.synthetic.english.nouns import NOUNS, Noun
from layerlake.synthetic.english.times import draw_time
from layerlake.synthetic.english.verbs import INTRANSITIVE, TRANSITIVE, Verb, verbs_taking

_MODALS = ["will", "can", "could", "must", "may", "would"]
_PLACES = ("area", "area", "building", "room", "city")

_LINKS: dict[str, tuple[tuple[str, tuple[str, ...], str], ...]] = {
    "person": (
        ("from", ("city", "country", "company"), ""),
        ("with", ("clothing", "accessory"), "Other"),
    ),
    "building": (("in", ("city", "country"), ""), ("near", ("area",), "Other")),
    "area": (("near", ("city",), ""), ("behind", ("building",), "Other")),
    "document": (("about", ("animal", "building", "disaster", "occasion"), "Message-Topic"),),
    "food": (("with", ("fruit", "vegetable"), "Other"),),
    "vehicle": (("with", ("opening",), "Component-Whole"),),
    "furniture": (("near", ("opening",), "Other"),),
    "container": (("with", ("document", "valuable"), "Content-Container"),),
    "occasion": (("in", ("city",), ""),),
}
"""Kind -> (preposition, kinds, relation) of what may follow its nouns."""

_COMPOUNDS = {
    "furniture": ("kitchen", "garden", "office", "oak"),
    "opening": ("kitchen", "garden", "iron", "church"),
    "container": ("glass", "tea", "coin", "tool"),
    "building": ("village", "stone", "city"),
    "clothing": ("winter", "summer", "silk", "wool"),
    "document": ("travel", "school", "history"),
}
"""Kind -> nouns that may come before its nouns."""

_REVERSED_LINKS = ("Component-Whole", "Content-Container")


class Scene:
    """The referents of a sentence or a passage, and the draws that bring in more."""

    def __init__(self, draws: Draws) -> None:
        """Start with nobody there."""
        self.draws = draws
        self.referents: list[Referent] = []
        self._used: set[str] = set()
        """Nouns, first names and verbs; those of the same form are as good as the same."""

    def referent(
        self,
        kinds: Sequence[str],
        *,
        is_plain: bool = False,
        avoid: Sequence[str] = (),
        is_named: bool | None = None,
    ) -> Referent:
        """Bring in something of one of the kinds.

        Parameters
        ----------
        kinds
            Those of nouns, and "city" and "country".
        is_plain
            Whether nothing but an article, a number or an adjective belongs to it.
        avoid
            Kinds that may not follow it after `with`, since the verb would take them.
        is_named
            Whether it is a person or a company with a name; drawn where None.
        """
        draws = self.draws
        kind = draws.choice(kinds)
        chance = 0.8 if kind == "company" else 0.4
        named = draws.chance(chance) if is_named is None else is_named
        if kind in ("city", "country") or (named and kind in ("person", "company")):
            return self._named(kind, is_plain=is_plain)
        return self.described(self._noun(kind), is_plain=is_plain, avoid=avoid)

    def _noun(self, kind: str) -> Noun:
        """Return a noun of a kind that the scene does not have yet, if there is one."""
        for _ in range(8):
            noun = self.draws.choice(NOUNS[kind])
            if noun.singular not in self._used:
                break
        return noun

    def described(
        self, noun: Noun, *, is_plain: bool = False, avoid: Sequence[str] = ()
    ) -> Referent:
        """Bring in something that a noun names."""
        draws = self.draws
        self._used.add(noun.singular)
        referent = Referent(len(self.referents), noun.kind, noun)
        self.referents.append(referent)
        if noun.kind == "person":
            referent.gender = noun.gender or draws.choice(("he", "she"))
        if noun.is_mass:
            referent.article = draws.weighted((("the", 5), ("some", 3), ("", 2)))
        elif noun.singular == "sheep" or not draws.chance(0.2):
            referent.article = draws.weighted((("the", 55), ("a", 40), ("every", 2), ("this", 3)))
        else:
            self._make_plural(referent)
        referent.adjectives = self._adjectives(noun.kind)
        if noun.kind in _COMPOUNDS and draws.chance(0.12):
            referent.compound = draws.choice(_COMPOUNDS[noun.kind])
        if not is_plain:
            self._add_company(referent, avoid)
        return referent

    def _make_plural(self, referent: Referent) -> None:
        referent.is_plural = True
        referent.article = self.draws.weighted((("the", 5), ("", 3), ("some", 1), ("these", 1)))
        if referent.article in ("the", "") and self.draws.chance(0.4):
            referent.number = self.draws.choice(NUMBERS)

    def _adjectives(self, kind: str) -> tuple[Adjective, ...]:
        n = self.draws.weighted(((0, 68), (1, 26), (2, 6)))
        drawn = self.draws.shuffled(adjectives_for(kind))[:n]
        if len(drawn) == 2 and drawn[0].order == drawn[1].order:
            drawn = drawn[:1]
        return tuple(sorted(drawn, key=lambda adjective: adjective.order))

    def _add_company(self, referent: Referent, avoid: Sequence[str]) -> None:
        """Add an owner, a phrase that follows or a relative clause."""
        draws = self.draws
        kind = referent.kind
        what = draws.weighted((("nothing", 66), ("owner", 12), ("link", 16), ("relative", 6)))
        ownable = kind not in ("person", "disaster", "occasion", "illness", "trouble", "area")
        if what == "owner" and ownable and referent.article in ("the", "a"):
            referent.owner = self._owner()
        elif what == "link" and kind in _LINKS:
            preposition, kinds, relation = draws.choice(_LINKS[kind])
            allowed = tuple(other for other in kinds if other not in avoid)
            if preposition != "with" or allowed:
                other = self.referent(allowed or kinds, is_plain=True)
                is_reversed = relation in _REVERSED_LINKS
                referent.link = Link(preposition, other, relation, is_reversed)
        elif what == "relative" and referent.article not in ("every", ""):
            self._add_relative(referent)

    def _owner(self) -> Referent:
        """Return an owner: one who is there and whose pronoun is plain, or someone new."""
        there = [referent for referent in self.referents if referent.is_person]
        if there and self.draws.chance(0.7):
            found = self.pronoun_for(there[0])
            if found is not None:
                return found
        return self.referent(("person",), is_plain=True)

    def _add_relative(self, referent: Referent) -> None:
        """Tell something of a referent in a relative clause."""
        draws = self.draws
        slot = draws.choice(("agent", "agent", "patient"))
        verbs = [
            verb
            for verb in TRANSITIVE + INTRANSITIVE
            if referent.kind in (verb.agents if slot == "agent" else verb.patients)
            and verb.third is None
        ]
        if verbs:
            event = self.event(draws.choice(verbs), is_small=True, **{slot: referent})
            event.is_negated = False
            referent.relative, referent.relative_slot = event, slot

    def _named(self, kind: str, *, is_plain: bool) -> Referent:
        draws = self.draws
        for _ in range(8):
            name = self._name(kind)
            if name.words[0] not in self._used:
                break
        self._used.add(name.words[0])
        referent = Referent(len(self.referents), kind, name=name, gender=name.gender, article="")
        self.referents.append(referent)
        if kind == "person" and not is_plain and draws.chance(0.1):
            nouns = [noun for noun in NOUNS["person"] if noun.gender in ("", name.gender)]
            referent.apposition = Referent(
                referent.key, kind, draws.choice(nouns), None, name.gender, article="a"
            )
            if draws.chance(0.3):
                city = self.referent(("city",))
                referent.apposition.link = Link("from", city)
        return referent

    def _name(self, kind: str) -> Name:
        draws = self.draws
        if kind == "person":
            first, gender = draws.choice(FIRST_NAMES)
            last = (draws.choice(SURNAMES),) if draws.chance(0.4) else ()
            return Name((first, *last), "person", "PERSON", gender)
        if kind == "company":
            founder, body = draws.choice(SURNAMES), draws.choice(BODIES)
            return Name((founder, body), "company", "ORG", has_article=True)
        return draws.choice(CITIES if kind == "city" else COUNTRIES)

    def pronoun_for(
        self, referent: Referent, among: Sequence[Referent] | None = None
    ) -> Referent | None:
        """Return the referent as a pronoun, or None where that could mean another.

        The others are those of the whole scene, or those given.
        """
        if referent.article == "every":
            return None
        word = referent.pronoun
        for other in self.referents if among is None else among:
            if other.key != referent.key and _may_be(other, word):
                return None
        return replace(
            referent,
            as_pronoun=True,
            owner=None,
            link=None,
            relative=None,
            apposition=None,
            conjuncts=(),
        )

    def several(self, kinds: Sequence[str]) -> Referent:
        """Bring in two or three things, joined by "and" or "or"."""
        n = 2 + self.draws.chance(0.2)
        conjuncts = tuple(self.referent(kinds, is_plain=True) for _ in range(n))
        joint = self.draws.weighted((("and", 4), ("or", 1)))
        found = Referent(
            len(self.referents),
            conjuncts[0].kind,
            is_plural=joint == "and" or conjuncts[-1].is_plural,
            conjuncts=conjuncts,
            conjunction=joint,
        )
        self.referents.append(found)
        return found

    def time(self, tense: str) -> Time:
        """Draw a time that goes with a tense."""
        return draw_time(self.draws, tense)

    def place(self) -> Place:
        """Draw a place that a verb takes."""
        where = self.referent((self.draws.choice(_PLACES),), is_plain=True)
        return Place("in" if where.noun is None else where.noun.preposition, where)

    def event(
        self,
        verb: Verb | None = None,
        *,
        is_small: bool = False,
        agent: Referent | None = None,
        patient: Referent | None = None,
    ) -> Event:
        """Draw an event, with one of its arguments given or none.

        Parameters
        ----------
        verb
            Drawn where None, so that it takes the arguments given.
        is_small
            Whether nothing but a subject and objects belongs to it.
        agent, patient
            Brought in where None.
        """
        draws = self.draws
        if verb is None:
            verb = self._verb(agent, patient)
        plain = is_small
        event = Event(verb, agent, patient)
        if agent is None:
            event.agent = self._argument(verb.agents, is_plain=plain)
        if patient is None and verb.patients:
            event.patient = self._argument(verb.patients, is_plain=plain, avoid=verb.instruments)
        if verb.third is not None:
            event.third = self.referent(verb.third.kinds, is_plain=True)
            heavy = event.patient is not None and not event.patient.as_pronoun
            event.is_shifted = verb.third.shifts and heavy and draws.chance(0.5)
        if verb.instruments and not is_small and draws.chance(0.5):
            event.instrument = self.referent(verb.instruments, is_plain=True)
        self._set_verb_form(event, may_be_passive=agent is None)
        if not is_small:
            self._add_circumstances(event)
        return event

    def _argument(
        self, kinds: Sequence[str], *, is_plain: bool, avoid: Sequence[str] = ()
    ) -> Referent:
        if not is_plain and self.draws.chance(0.07):
            return self.several((self.draws.choice(kinds),))
        return self.referent(kinds, is_plain=is_plain, avoid=avoid)

    def has_verb(self, agent: Referent | None, patient: Referent | None) -> bool:
        """Say whether some verb takes what is given."""
        return bool(verbs_taking(_kind(agent), _kind(patient)))

    def _verb(self, agent: Referent | None, patient: Referent | None) -> Verb:
        """Draw a verb that takes what is given, one not told of yet if there is one."""
        groups = verbs_taking(_kind(agent), _kind(patient))
        for _ in range(8):
            verb = self.draws.choice(self.draws.weighted(groups))
            if verb.lemma not in self._used:
                break
        self._used.add(verb.lemma)
        return verb

    def _set_verb_form(self, event: Event, *, may_be_passive: bool) -> None:
        """Draw voice, tense, aspect and negation."""
        draws = self.draws
        verb = event.verb
        event.tense = draws.weighted((("past", 66), ("present", 18), (draws.choice(_MODALS), 16)))
        if event.tense in ("past", "present"):
            options = [
                ("simple", 75),
                ("perfect", 13),
                ("progressive", 0 if verb.is_stative else 12),
            ]
            event.aspect = draws.weighted(options)
        event.is_negated = draws.chance(0.1)
        event.is_contracted = draws.chance(0.4)
        passable = event.patient is not None and not (verb.is_stative or event.is_shifted)
        if passable and may_be_passive and draws.chance(0.28) and not _is_owned_by(event):
            event.is_passive = True

    def _add_circumstances(self, event: Event) -> None:
        """Draw place, time and manner; a passive may lose its agent."""
        draws = self.draws
        located = event.patient is not None and event.patient.kind in ("building", "area", "city")
        if event.verb.takes_place and not located and draws.chance(0.3):
            event.place = self.place()
        is_timed = event.aspect == "simple" and event.tense in ("past", "present", "will")
        if is_timed and draws.chance(0.32):
            event.time = self.time(event.tense)
        if event.verb.third is None and not event.verb.is_stative and draws.chance(0.14):
            acts = event.agent is not None and event.agent.kind in ("person", "animal")
            event.manner = draws.choice(MANNERS if acts else NATURALLY)
        if event.is_passive and draws.chance(0.45):
            event.agent = None
        if event.time is not None and draws.chance(0.22):
            event.fronted = "time"
        elif event.place is not None and draws.chance(0.18):
            event.fronted = "place"

    def state(self, subject: Referent | None = None) -> State:
        """Draw a state."""
        draws = self.draws
        kinds = ("person", "animal", "building", "vehicle", "furniture", "container", "document")
        if subject is None:
            subject = self.referent(kinds)
        state = State(subject, tense=draws.weighted((("past", 6), ("present", 4))))
        state.is_negated = draws.chance(0.15)
        state.is_contracted = draws.chance(0.4)
        fitting = [
            adjective
            for adjective in adjectives_for(subject.kind)
            if adjective not in subject.adjectives
        ]
        compared = [adjective for adjective in fitting if adjective.comparative]
        what = draws.below(10)
        if compared and what < 3:
            state.adjective = draws.choice(compared)
            state.than = self.referent((subject.kind,), is_plain=True)
        elif subject.is_person and not subject.is_plural and what < 5:
            state.kind = self.referent(("person",), is_plain=True, is_named=False)
            state.kind.is_plural, state.kind.number, state.kind.article = False, "", "a"
        elif what < 7 or not fitting:
            state.place = self.place()
        else:
            state.adjective = draws.choice(fitting)
        return state


def _kind(referent: Referent | None) -> str | None:
    return None if referent is None else referent.kind


def _may_be(other: Referent, word: str) -> bool:
    """Say whether a pronoun could mean a referent, as far as its words tell."""
    if word == "they" or other.is_plural:
        return word == "they" and other.is_plural
    if word == "it":
        return not other.is_person
    if not other.is_person:
        return False
    return other.gender == word if other.noun is None else other.noun.gender in ("", word)


def _is_owned_by(event: Event) -> bool:
    """Say whether the object is somebody's by a pronoun, which must not come first."""
    patient = event.patient
    return patient is not None and patient.owner is not None and patient.owner.as_pronoun
