"""What affirms, denies or leaves open that something happened: the steps between two meanings.

Each step takes an event that is told as true, in the past, and returns another, or None where it
does not apply. Its name says how the two stand: `richer` follows from nothing less, `poorer` follows
from the event, and so on. Negation turns that round.
"""

from __future__ import annotations

from dataclasses import replace

from layerlake.synthetic.english.meaning import Event, Place, Referent, Situation
from layerlake.synthetic.english.names import MANNERS, adjectives_for
from layerlake.synthetic.english.nouns import NOUN, NOUNS
from layerlake.synthetic.english.scene import Scene
from layerlake.synthetic.english.verbs import CLAUSAL, CONTROL, RECEIVING, TRANSITIVE

_CONTROLS = {verb.lemma: verb for verb in CONTROL}
_CLAUSALS = {verb.lemma: verb for verb in CLAUSAL}

SUCCEEDS = ("manage",)
"""Verbs whose infinitive is true."""
FAILS = ("forget", "refuse", "fail")
"""Verbs whose infinitive is false."""
UNTOLD = ("want", "hope", "plan", "promise", "try")
"""Verbs that do not tell whether it is."""
FACTIVE = ("know",)
"""Verbs whose clause is true, whether they are negated or not."""
REPORTED = ("say", "think", "believe", "claim")
"""Verbs that do not tell whether it is."""

_CONVERSE = {"give": "receive", "lend": "borrow"}
_CONTRARY = {"love": "hate", "hate": "love"}


def definite(scene: Scene, kinds: tuple[str, ...]) -> Referent:
    """Bring in something that both premise and hypothesis know."""
    referent = scene.referent(kinds, is_plain=True)
    if referent.noun is not None:
        referent.article, referent.number = "the", ""
    return referent


def is_wide(event: Event) -> bool:
    """Say whether the object is "a fruit" or "any fruit"."""
    return event.patient is not None and event.patient.article in ("a", "any")


def can_be_passive(event: Event) -> bool:
    """Say whether the object can be the subject and mean the same."""
    if event.patient is None or is_wide(event):
        return False
    return not (event.verb.is_stative or event.is_shifted)


def affirmed(event: Event) -> Event:
    """Return the event as true."""
    patient = event.patient
    if patient is not None and patient.article == "any":
        patient = replace(patient, article="a")
    return event.but(is_negated=False, patient=patient)


def negated(event: Event | None) -> Event | None:
    """Return the event as false."""
    if event is None:
        return None
    patient = event.patient
    if patient is not None and patient.article == "a":
        patient = replace(patient, article="any")
    return event.but(is_negated=True, patient=patient)


def circumstances(scene: Scene, event: Event) -> list[str]:
    """Return the circumstances that could be added to an event."""
    located = event.patient is not None and event.patient.kind in ("building", "area", "city")
    found = []
    if event.place is None and event.verb.takes_place and not located:
        found.append("place")
    if event.time is None:
        found.append("time")
    acts = event.agent is not None and not event.verb.is_stative
    if acts and not event.manner and event.verb.third is None:
        found.append("manner")
    if event.instrument is None and event.verb.instruments:
        found.append("instrument")
    return found


def richer(scene: Scene, event: Event) -> Event | None:
    """Add a circumstance."""
    missing = circumstances(scene, event)
    if not missing:
        return None
    what = scene.draws.choice(missing)
    if what == "place":
        return event.but(place=known_place(scene))
    if what == "time":
        return event.but(time=scene.time("past"))
    if what == "manner":
        return event.but(manner=scene.draws.choice(MANNERS))
    return event.but(instrument=definite(scene, event.verb.instruments))


def known_place(scene: Scene) -> Place:
    """Draw a place that both know."""
    place = scene.place()
    if place.where.noun is not None:
        place.where.article, place.where.number = "the", ""
    return place


def poorer(scene: Scene, event: Event) -> Event | None:
    """Leave a circumstance out."""
    there = [name for name in ("place", "time", "manner", "instrument") if getattr(event, name)]
    if not there:
        return None
    what = scene.draws.choice(there)
    return event.but(**{what: "" if what == "manner" else None})


def described(scene: Scene, event: Event) -> Event | None:
    """Say of somebody or something what it is like."""
    for slot in scene.draws.shuffled(("agent", "patient")):
        referent: Referent | None = getattr(event, slot)
        if referent is None or referent.noun is None or referent.adjectives:
            continue
        fitting = adjectives_for(referent.kind)
        if fitting:
            adjective = scene.draws.choice(fitting)
            return event.but(**{slot: replace(referent, adjectives=(adjective,))})
    return None


def undescribed(event: Event) -> Event | None:
    """Leave out what somebody or something is like."""
    changed = event
    for slot in ("agent", "patient"):
        referent: Referent | None = getattr(event, slot)
        if referent is not None and referent.adjectives:
            changed = changed.but(**{slot: replace(referent, adjectives=())})
    return None if changed is event else changed


def wider(event: Event) -> Event | None:
    """Say "a fruit" for the apple."""
    patient = event.patient
    if patient is None or patient.noun is None or patient.article != "the" or event.is_passive:
        return None
    if not patient.noun.wider or patient.is_plural:
        return None
    wide = replace(patient, noun=NOUN[patient.noun.wider], article="a", adjectives=(), compound="")
    return event.but(patient=wide)


def narrower(scene: Scene, event: Event) -> Event | None:
    """Say "the apple" for a fruit."""
    patient = event.patient
    if patient is None or patient.noun is None or not is_wide(event):
        return None
    below = [
        noun
        for noun in NOUNS[patient.noun.kind]
        if noun.wider == patient.noun.singular and not noun.is_mass
    ]
    return event.but(patient=replace(patient, noun=scene.draws.choice(below), article="the"))


def otherwise(scene: Scene, event: Event) -> Event | None:
    """Say the same in other words."""
    if event.agent is None:
        return None
    third = event.verb.third
    converse = _CONVERSE.get(event.verb.lemma)
    if converse and third and not event.is_passive and not event.manner:
        verb = next(verb for verb in RECEIVING if verb.lemma == converse)
        return event.but(verb=verb, agent=event.third, third=event.agent, is_shifted=False)
    if third is not None and third.shifts and not event.is_passive and scene.draws.chance(0.5):
        return event.but(is_shifted=not event.is_shifted)
    if event.is_passive or can_be_passive(event):
        return event.but(is_passive=not event.is_passive)
    return None


def contrary(event: Event) -> Event | None:
    """Say what cannot be true with it."""
    lemma = _CONTRARY.get(event.verb.lemma)
    if lemma is None:
        return None
    verb = next(verb for verb in TRANSITIVE if verb.lemma == lemma)
    return event.but(verb=verb)


def swapped(event: Event) -> Event | None:
    """Let the two change places."""
    agent, patient = event.agent, event.patient
    if agent is None or patient is None or is_wide(event):
        return None
    if agent.kind not in event.verb.patients or patient.kind not in event.verb.agents:
        return None
    return event.but(agent=patient, patient=agent)


def substituted(scene: Scene, event: Event) -> Event | None:
    """Let it be another one, elsewhere, or at another time."""
    slots = [slot for slot in ("agent", "patient", "place", "time") if getattr(event, slot)]
    what = scene.draws.choice(slots)
    if what == "agent":
        return event.but(agent=definite(scene, ("person",)))
    if what == "patient":
        return event.but(patient=definite(scene, event.verb.patients))
    if what == "place":
        return event.but(place=known_place(scene))
    return event.but(time=scene.time("past"))


def accompanied(scene: Scene, event: Event, conjunction: str) -> Event | None:
    """Let somebody else have done it too ("and"), or perhaps instead ("or")."""
    agent = event.agent
    if agent is None or event.is_passive:
        return None
    pair = (agent, definite(scene, ("person",)))
    both = Referent(
        len(scene.referents),
        "person",
        is_plural=conjunction == "and" or pair[1].is_plural,
        conjuncts=tuple(scene.draws.shuffled(pair)),
        conjunction=conjunction,
    )
    both.is_plural = conjunction == "and" or both.conjuncts[-1].is_plural
    return event.but(agent=both)


def under_control(scene: Scene, event: Event | None, lemmas: tuple[str, ...]) -> Event | None:
    """Say that somebody managed, failed or wanted to do it."""
    if event is None or event.verb.is_stative:
        return None
    agent = event.agent or definite(scene, ("person",))
    done = event.but(agent=agent, is_passive=False)
    return Event(_CONTROLS[scene.draws.choice(lemmas)], agent, infinitive=done)


def told(scene: Scene, situation: Situation | None, lemmas: tuple[str, ...]) -> Event | None:
    """Say that somebody knew or said it."""
    if situation is None:
        return None
    someone = definite(scene, ("person",))
    return Event(_CLAUSALS[scene.draws.choice(lemmas)], someone, content=situation)
