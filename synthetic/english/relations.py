"""Sentences that state a relation between two things, in one of many ways."""

from __future__ import annotations

from dataclasses import replace

from layerlake.synthetic.english.knowledge import PAIRS
from layerlake.synthetic.english.meaning import Link, Referent, Situation
from layerlake.synthetic.english.nouns import NOUN
from layerlake.synthetic.english.scene import Scene
from layerlake.synthetic.english.verbs import HAPPENING, RELATING, TRANSITIVE, Verb

_PHRASES: dict[str, tuple[tuple[str, bool], ...]] = {
    "Component-Whole": (("of", True), ("'s", True), ("with", False)),
    "Member-Collection": (("of", True), ("'s", True), ("of", False)),
    "Content-Container": (("in", True), ("of", False), ("with", False)),
    "Entity-Origin": (("from", True),),
    "Entity-Destination": (),
    "Product-Producer": (("of", True), ("'s", True), ("by", True), ("from", True)),
    "Instrument-Agency": (("of", True), ("'s", True), ("with", False)),
    "Message-Topic": (("about", True), ("on", True)),
    "Cause-Effect": (("from", False), ("after", False)),
}
"""Relation -> (what joins the nouns, whether the first argument heads the phrase)."""

_OTHERS = (
    ("of", ("container", "vehicle", "valuable", "clothing"), ("person",)),
    ("'s", ("container", "vehicle", "valuable", "clothing", "accessory"), ("person",)),
    ("with", ("person",), ("clothing", "accessory")),
    ("near", ("building", "furniture", "vehicle", "animal"), ("area", "plant", "building")),
    ("behind", ("person", "animal", "plant", "vehicle"), ("building", "furniture")),
    ("beside", ("person", "container", "plant"), ("furniture", "building")),
    ("for", ("document", "valuable", "clothing"), ("person", "occasion")),
    ("after", ("occasion",), ("occasion",)),
)
"""(what joins them, kinds, kinds) of noun phrases that state none of the nine."""

_STATING = HAPPENING + RELATING + TRANSITIVE


def relating(scene: Scene) -> Situation:
    """Draw a relation, the order of its arguments and a way to put it."""
    draws = scene.draws
    if draws.chance(0.18):
        return _other(scene)
    name = draws.choice(tuple(PAIRS))
    first_comes_first = draws.chance(0.5)
    phrases = [
        (joint, heads)
        for joint, heads in _PHRASES[name]
        if (heads != (joint == "'s")) == first_comes_first
    ]
    verbs = [verb for verb in _STATING if _turn(verb, name, first_comes_first) is not None]
    if phrases and (not verbs or draws.chance(0.5)):
        joint, first_heads = draws.choice(phrases)
        pair = draws.choice(PAIRS[name])
        head, other = pair if first_heads else pair[::-1]
        return _about(scene, _joined(scene, joint, head, other, name, is_reversed=not first_heads))
    return _stated(scene, name, verbs, first_comes_first)


def _turn(verb: Verb, name: str, first_comes_first: bool) -> str | None:
    """Return how a verb puts a relation's arguments in an order, or None where it cannot.

    "" is the plain order, "passive" turns subject and object round, "third" comes to the front.
    """
    if verb.relation is None or verb.relation[0] != name:
        return None
    first, second = verb.relation[1:]
    slots = ("agent", "patient", "third")
    if (slots.index(first) < slots.index(second)) == first_comes_first:
        return ""
    if "third" in (first, second):
        return "third"
    # Nothing is had by a car; a flood is described by a book.
    return None if verb.lemma == "have" else "passive"


def _joined(
    scene: Scene, joint: str, head: str, other: str, relation: str, *, is_reversed: bool
) -> Referent:
    """Return a noun with another before or after it."""
    beside = scene.described(NOUN[other], is_plain=True)
    referent = scene.described(NOUN[head], is_plain=True)
    if joint == "'s":
        referent.owner, referent.owner_relation = beside, relation
        return referent
    if joint == "of" and is_reversed and beside.noun is not None:
        # A herd is of cows, a bottle is of milk.
        beside.article, beside.number = "", ""
        beside.is_plural = not beside.noun.is_mass
    referent.link = Link(joint, beside, relation, is_reversed)
    return referent


def _about(scene: Scene, referent: Referent) -> Situation:
    """Say something of a referent that states no other relation."""
    draws = scene.draws
    after_with = referent.link is not None and referent.link.preposition == "with"
    verbs = [
        verb
        for verb in TRANSITIVE
        if referent.kind in verb.patients
        and verb.relation is None
        and verb.third is None
        and not (after_with and verb.instruments)
    ]
    if verbs and draws.chance(0.75):
        verb = draws.choice(verbs)
        return scene.event(verb, agent=scene.referent(verb.agents, is_plain=True), patient=referent)
    return scene.state(referent)


def _stated(scene: Scene, name: str, verbs: list[Verb], first_comes_first: bool) -> Situation:
    """Put a relation by one of some verbs."""
    draws = scene.draws
    fitting = [(verb, pair) for verb in verbs for pair in PAIRS[name] if _takes(verb, *pair)]
    verb, pair = draws.choice(fitting)
    assert verb.relation is not None
    slots = dict(zip(verb.relation[1:], pair, strict=True))
    given = {slot: scene.described(NOUN[noun], is_plain=True) for slot, noun in slots.items()}
    third = given.pop("third", None)
    event = scene.event(verb, is_small=True, agent=given.get("agent"), patient=given.get("patient"))
    event.third = third or event.third
    turn = _turn(verb, name, first_comes_first)
    event.is_passive = turn == "passive"
    if turn == "third":
        event.fronted = "third"
    elif third is not None and event.patient is not None:
        event.is_passive = draws.chance(0.4)
    return event


def _takes(verb: Verb, first: str, second: str) -> bool:
    """Say whether a verb takes two nouns in the slots that its relation names."""
    assert verb.relation is not None
    kinds = {
        "agent": verb.agents,
        "patient": verb.patients,
        "third": verb.third.kinds if verb.third else (),
    }
    return (
        NOUN[first].kind in kinds[verb.relation[1]] and NOUN[second].kind in kinds[verb.relation[2]]
    )


def _other(scene: Scene) -> Situation:
    """Put two things together that stand in none of the nine."""
    draws = scene.draws
    if draws.chance(0.6):
        joint, kinds, others = draws.choice(_OTHERS)
        other = scene.referent(others, is_plain=True, is_named=False)
        referent = scene.referent(kinds, is_plain=True, is_named=False)
        if joint == "'s":
            referent.owner, referent.owner_relation = other, "Other"
        else:
            referent.link = Link(joint, other, "Other")
        return _about(scene, referent)
    plain = [
        verb
        for verb in TRANSITIVE
        if verb.relation is None and not {"creates", "changes"} & verb.effects
    ]
    verb = replace(draws.choice(plain), relation=("Other", "agent", "patient"))
    kinds = tuple(kind for kind in verb.agents)
    agent = scene.referent(kinds, is_plain=True, is_named=False)
    patient = scene.referent(verb.patients, is_plain=True, is_named=False)
    return scene.event(verb, agent=agent, patient=patient)
