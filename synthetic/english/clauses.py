"""Clauses: an event or a state in words, with its subject, objects and circumstances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from layerlake.synthetic.english.derivation import Derivation, Frame
from layerlake.synthetic.english.meaning import Event, Referent, Situation, State
from layerlake.synthetic.english.noun_phrases import noun_phrase, prepositional, time_phrase
from layerlake.synthetic.english.tree import HEAD, Node, Phrase, Word, phrase
from layerlake.synthetic.english.verb_forms import VerbGroup, copula, verb_group

Parts = list[tuple[str, Node] | tuple[str, Node, Node] | None]

Filled = Mapping[str, tuple[tuple[str, Node], ...]]
"""Slots whose words stand elsewhere -> (prefix of the role, node) of each of them."""

_ROLES = {"instrument": "ARGM-MNR", "place": "ARGM-LOC", "time": "ARGM-TMP"}


class Adjunct(NamedTuple):
    """A clause or phrase at the end of a verb phrase."""

    relation: str
    node: Node
    role: str


def role_of(event: Event, slot: str) -> str:
    """Return the semantic role of a slot."""
    if slot == "agent":
        return event.verb.subject_role
    if slot == "third":
        return event.verb.third.role if event.verb.third else "ARG2"
    return "ARG1" if slot == "patient" else _ROLES[slot]


def named(notes: Derivation, referent: Referent, *, is_subject: bool = False) -> Phrase:
    """Name a referent; what it was told of it becomes a relative clause."""
    return noun_phrase(notes, referent, relative_clause, is_subject=is_subject)


def slot_phrase(notes: Derivation, event: Event, slot: str) -> Phrase:
    """Return the phrase of a slot as it stands after the verb, or at the front."""
    if slot == "time":
        assert event.time is not None
        return time_phrase(notes, event.time)
    if slot == "place":
        assert event.place is not None
        return prepositional(event.place.preposition, named(notes, event.place.where))
    referent: Referent = getattr(event, slot)
    inner = named(notes, referent)
    if slot == "instrument":
        return prepositional("with", inner)
    if slot == "agent":
        return prepositional("by", inner)
    if slot == "third" and event.verb.third and not event.is_shifted:
        return prepositional(event.verb.third.preposition, inner)
    return inner


def slot_relation(event: Event, slot: str, node: Node) -> str:
    """Return the dependency relation of a slot's phrase to the verb."""
    if slot == event.subject_slot:
        return "nsubj:pass" if event.is_passive else "nsubj"
    if slot == "agent":
        return "obl:agent"
    if slot == "patient":
        return "obj"
    if slot == "third" and event.is_shifted:
        return "iobj"
    bare_time = slot == "time" and isinstance(node, Phrase) and node.label == "NP"
    return "obl:tmod" if bare_time else "obl"


def clause(
    notes: Derivation,
    situation: Situation,
    filled: Filled | None = None,
    adjuncts: Sequence[Adjunct] = (),
    openings: Sequence[Adjunct] = (),
) -> Phrase:
    """Return a finite clause (S), without its full stop.

    Parameters
    ----------
    notes
        Taken down on the way.
    situation
        What it says.
    filled
        Slots whose words stand elsewhere; one of them may be the subject.
    adjuncts
        What else stands at the end of the verb phrase.
    openings
        What else stands before the subject, each with a comma after it.
    """
    filled = dict(filled or {})
    parts: Parts = []
    opened = list(openings)
    if situation.fronted and isinstance(situation, Event):
        slot = situation.fronted
        front = slot_phrase(notes, situation, slot)
        filled[slot] = (("", front),)
        opened.append(Adjunct(slot_relation(situation, slot, front), front, ""))
    for opening in opened:
        comma = Word(",", ",", "PUNCT", ",")
        parts += [(opening.relation, opening.node), ("punct", comma)]
    if isinstance(situation, State):
        subject = named(notes, situation.subject, is_subject=True)
        return phrase("S", *parts, ("nsubj", subject), (HEAD, _state_phrase(notes, situation)))
    slot = situation.subject_slot
    if slot not in filled:
        assert situation.subject is not None
        subject = named(notes, situation.subject, is_subject=True)
        filled[slot] = (("", subject),)
        parts.append((slot_relation(situation, slot, subject), subject))
    group = verb_group(situation, "finite")
    body = verb_phrase(notes, situation, group, filled, adjuncts, openings)
    return phrase("S", *parts, (HEAD, body))


def infinitive(notes: Derivation, event: Event, subject: Node) -> Phrase:
    """Return a clause with `to`, whose subject stands in the clause above."""
    filled = {event.subject_slot: (("", subject),)}
    body = verb_phrase(notes, event, verb_group(event, "base"), filled)
    to = Word("to", "to", "PART", "TO")
    return phrase("S", (HEAD, phrase("VP", ("mark", to), (HEAD, body))))


def relative_clause(notes: Derivation, event: Event, slot: str, core: Phrase) -> Phrase:
    """Return the clause "who wrote the letter" after the phrase that it tells of."""
    referent: Referent = getattr(event, slot)
    who = referent.is_person
    word = Word("who", "who", "PRON", "WP") if who else Word("that", "that", "PRON", "WDT")
    opening = phrase("WHNP", (HEAD, word))
    body = clause(notes, event, {slot: (("", core), ("R-", opening))})
    return phrase("SBAR", (slot_relation(event, slot, opening), opening), (HEAD, body))


def verb_phrase(
    notes: Derivation,
    event: Event,
    group: VerbGroup,
    filled: Filled,
    adjuncts: Sequence[Adjunct] = (),
    elsewhere: Sequence[Adjunct] = (),
) -> Phrase:
    """Return the verbs and all that follows them, and note the frame of the event.

    Parameters
    ----------
    notes
        Taken down on the way.
    event
        What it says.
    group
        The verbs; those auxiliaries that stand elsewhere are left out of it.
    filled
        Slots whose words stand elsewhere, the subject among them.
    adjuncts
        What else stands at the end.
    elsewhere
        What else has a role but stands before the subject.
    """
    frame = Frame(event, group.main)
    notes.frames.append(frame)
    parts: Parts = []
    manner = _manner(event, frame)
    after = not (adjuncts or event.time or event.place or event.instrument)
    if manner and not after:
        parts.append(manner)
    parts.append((HEAD, group.main))
    if event.verb.particle:
        particle = Word(event.verb.particle, event.verb.particle, "ADP", "RP")
        parts.append(("compound:prt", phrase("PRT", (HEAD, particle))))
    subject = next((node for _, node in filled.get(event.subject_slot, ())), None)
    for slot in _order(event):
        if slot in filled:
            for prefix, node in filled[slot]:
                frame.arguments.append((prefix + role_of(event, slot), node))
                frame.nodes.setdefault(slot, node)
        elif getattr(event, slot) is not None:
            node = slot_phrase(notes, event, slot)
            frame.arguments.append((role_of(event, slot), node))
            frame.nodes[slot] = node
            parts.append((slot_relation(event, slot, node), node))
    if manner and after:
        parts.append(manner)
    parts += _complements(notes, event, frame, subject)
    for adjunct in (*adjuncts, *elsewhere):
        if adjunct.role:
            frame.arguments.append((adjunct.role, adjunct.node))
    parts += [(adjunct.relation, adjunct.node) for adjunct in adjuncts]
    _note_auxiliaries(frame, group)
    _note_relation(notes, event, frame)
    return wrapped(phrase("VP", *parts), group)


def wrapped(inner: Phrase, group: VerbGroup) -> Phrase:
    """Return a verb phrase below its auxiliaries, a phrase each."""
    for place in reversed(range(len(group.auxiliaries))):
        negation = group.negation if place == 0 else None
        inner = phrase(
            "VP",
            group.auxiliaries[place],
            None if negation is None else ("advmod", negation),
            (HEAD, inner),
        )
    return inner


def _order(event: Event) -> tuple[str, ...]:
    """Return the slots in the order in which they follow the verb."""
    if event.is_passive:
        return ("patient", "third", "agent", "instrument", "place", "time")
    objects = ("third", "patient") if event.is_shifted else ("patient", "third")
    return ("agent", *objects, "instrument", "place", "time")


def _manner(event: Event, frame: Frame) -> tuple[str, Node] | None:
    if not event.manner:
        return None
    found = phrase("ADVP", (HEAD, Word(event.manner, event.manner, "ADV", "RB")))
    frame.arguments.append(("ARGM-MNR", found))
    return "advmod", found


def _complements(notes: Derivation, event: Event, frame: Frame, subject: Node | None) -> Parts:
    """Return the infinitive or the clause that a verb takes."""
    parts: Parts = []
    if event.infinitive is not None:
        above = subject if event.patient is None else frame.nodes["patient"]
        assert above is not None
        inner = infinitive(notes, event.infinitive, above)
        frame.arguments.append(("ARG1" if event.patient is None else "ARG2", inner))
        parts.append(("xcomp", inner))
    if event.content is not None:
        that = Word("that", "that", "SCONJ", "IN")
        inner = phrase("SBAR", ("mark", that), (HEAD, clause(notes, event.content)))
        frame.arguments.append(("ARG1", inner))
        parts.append(("ccomp", inner))
    return parts


def _note_auxiliaries(frame: Frame, group: VerbGroup) -> None:
    for _, word in group.auxiliaries:
        if word.xpos == "MD":
            frame.arguments.append(("ARGM-MOD", word))
    if group.negation is not None:
        frame.arguments.append(("ARGM-NEG", group.negation))


def _note_relation(notes: Derivation, event: Event, frame: Frame) -> None:
    if event.verb.relation is not None:
        name, first, second = event.verb.relation
        if first in frame.nodes and second in frame.nodes:
            notes.relations.append((name, frame.nodes[first], frame.nodes[second]))


def _state_phrase(notes: Derivation, state: State) -> Phrase:
    """Return "is not old", "was a doctor" and the like; what is said of the subject heads it."""
    group = copula(state)
    parts: Parts = [("cop", group.main)]
    if group.negation is not None:
        parts.append(("advmod", group.negation))
    if state.adjective is not None:
        parts.append((HEAD, _adjective_phrase(notes, state)))
    elif state.kind is not None:
        parts.append((HEAD, named(notes, state.kind)))
    else:
        assert state.place is not None
        where = named(notes, state.place.where)
        parts.append((HEAD, prepositional(state.place.preposition, where)))
    if state.time is not None:
        when = time_phrase(notes, state.time)
        parts.append(("obl" if state.time.preposition else "obl:tmod", when))
    return phrase("VP", *parts)


def _adjective_phrase(notes: Derivation, state: State) -> Phrase:
    adjective = state.adjective
    assert adjective is not None
    if state.than is None:
        return phrase("ADJP", (HEAD, Word(adjective.form, adjective.form, "ADJ", "JJ")))
    word = Word(adjective.comparative, adjective.form, "ADJ", "JJR")
    return phrase("ADJP", (HEAD, word), ("obl", prepositional("than", named(notes, state.than))))
