"""Sentences: the constructions that a scene is told in, drawn by their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from layerlake.synthetic.english.clauses import (
    Adjunct,
    Filled,
    Parts,
    clause,
    named,
    slot_phrase,
    slot_relation,
    verb_phrase,
)
from layerlake.synthetic.english.derivation import Derivation, Frame
from layerlake.synthetic.english.draws import Draws
from layerlake.synthetic.english.meaning import Event, Referent, State
from layerlake.synthetic.english.relations import relating
from layerlake.synthetic.english.scene import Scene
from layerlake.synthetic.english.tree import HEAD, Node, Phrase, Word, phrase
from layerlake.synthetic.english.verb_forms import VerbGroup, verb_group
from layerlake.synthetic.english.verbs import ASKING, BE, CLAUSAL, CONTROL

_SUBORDINATORS = (
    ("when", "ARGM-TMP"),
    ("after", "ARGM-TMP"),
    ("before", "ARGM-TMP"),
    ("while", "ARGM-TMP"),
    ("because", "ARGM-CAU"),
    ("although", "ARGM-ADV"),
    ("if", "ARGM-ADV"),
)


def sentence(draws: Draws) -> tuple[Phrase, Derivation]:
    """Draw a sentence; return its tree and the notes on it."""
    notes = Derivation()
    construction = draws.weighted(_CONSTRUCTIONS)
    return construction(Scene(draws), notes), notes


def closed(root: Phrase, mark: str = ".") -> Phrase:
    """Return a root with its full stop or question mark."""
    parts = [(part.relation, part.node, part.target or root) for part in root.parts]
    again: Parts = [
        (relation, node) if target is root else (relation, node, target)
        for relation, node, target in parts
    ]
    return phrase(root.label, *again, ("punct", Word(mark, mark, "PUNCT", ".")))


def _simple(scene: Scene, notes: Derivation) -> Phrase:
    return closed(clause(notes, scene.event()))


def _state(scene: Scene, notes: Derivation) -> Phrase:
    return closed(clause(notes, scene.state()))


def _relation(scene: Scene, notes: Derivation) -> Phrase:
    return closed(clause(notes, relating(scene)))


def _subordinate(scene: Scene, notes: Derivation) -> Phrase:
    """Return "When Anna saw the dog , she ran ." or the clauses the other way round."""
    draws = scene.draws
    first = scene.event()
    first.fronted = ""
    if first.aspect == "simple" and first.tense not in ("past", "present"):
        first.tense = "past"
    second = _about_the_same(scene, first)
    second.fronted = ""
    word, role = draws.choice(_SUBORDINATORS)
    opens = draws.chance(0.5)
    below, above = (first, second) if opens else (second, first)
    if below.tense not in ("past", "present"):
        below.tense = above.tense = "past"
        below.time = above.time = None
    adjunct = _subordinate_clause(notes, below, word, role)
    if opens:
        return closed(clause(notes, above, openings=(adjunct,)))
    return closed(clause(notes, above, adjuncts=(adjunct,)))


def _subordinate_clause(notes: Derivation, event: Event, word: str, role: str) -> Adjunct:
    body = clause(notes, event)
    opening: tuple[str, Node]
    if word == "when":
        opening = ("advmod", phrase("WHADVP", (HEAD, Word(word, word, "ADV", "WRB"))))
    else:
        opening = ("mark", Word(word, word, "SCONJ", "IN"))
    return Adjunct("advcl", phrase("SBAR", opening, (HEAD, body)), role)


def _about_the_same(scene: Scene, first: Event) -> Event:
    """Draw a second event, in most cases about those in the first, as pronouns."""
    draws = scene.draws
    agent = first.agent if draws.chance(0.8) else None
    patient = first.patient if draws.chance(0.55) else None
    if draws.chance(0.2):
        agent, patient = patient, agent
    agent = agent and scene.pronoun_for(agent)
    patient = patient and scene.pronoun_for(patient)
    if scene.has_verb(agent, patient):
        return scene.event(agent=agent, patient=patient)
    return scene.event(agent=agent) if scene.has_verb(agent, None) else scene.event()


def _content(scene: Scene, notes: Derivation) -> Phrase:
    """Return "Anna said that she saw the dog ."."""
    draws = scene.draws
    verb = draws.choice(CLAUSAL)
    outer = Event(verb, scene.referent(verb.agents, is_plain=True))
    outer.tense = draws.weighted((("past", 3), ("present", 2)))
    outer.is_negated = draws.chance(0.12)
    outer.is_contracted = draws.chance(0.5)
    if draws.chance(0.2):
        outer.time = scene.time(outer.tense)
        outer.fronted = "time"
    inner: Event | State
    if draws.chance(0.2):
        inner = scene.state()
    else:
        inner = _about_the_same(scene, outer)
        inner.fronted = ""
    outer.content = inner
    return closed(clause(notes, outer))


def _control(scene: Scene, notes: Derivation) -> Phrase:
    """Return "Anna wanted to buy the car ." or "Anna asked Peter to buy the car ."."""
    draws = scene.draws
    asks = draws.chance(0.4)
    verb = draws.choice(ASKING if asks else CONTROL)
    outer = Event(verb, scene.referent(verb.agents, is_plain=draws.chance(0.6)))
    if asks:
        outer.patient = scene.referent(verb.patients, is_plain=True)
    outer.tense = draws.weighted((("past", 4), ("present", 2)))
    outer.is_negated = draws.chance(0.15)
    outer.is_contracted = draws.chance(0.5)
    if draws.chance(0.2):
        outer.time = scene.time(outer.tense)
        outer.fronted = "time"
    actor = outer.patient if asks else outer.agent
    inner = scene.event(agent=actor)
    inner.is_negated, inner.fronted, inner.aspect = False, "", "simple"
    if outer.time is not None:
        inner.time = None
    outer.infinitive = inner
    return closed(clause(notes, outer))


def _shared_subject(scene: Scene, notes: Derivation) -> Phrase:
    """Return "Anna opened the box and took the coin ."."""
    first = scene.event()
    first.is_passive, first.fronted = False, ""
    if first.agent is None:
        first.agent = scene.referent(first.verb.agents, is_plain=True)
    second = scene.event(agent=first.agent)
    second.fronted, second.tense, second.aspect = "", first.tense, first.aspect
    if second.verb.is_stative and second.aspect == "progressive":
        first.aspect = second.aspect = "simple"
    second.time = None
    subject = named(notes, first.agent, is_subject=True)
    filled: Filled = {"agent": (("", subject),)}
    bodies = [
        verb_phrase(notes, event, verb_group(event, "finite"), filled) for event in (first, second)
    ]
    word = scene.draws.weighted((("and", 4), ("but", 1)))
    joint = Word(word, word, "CCONJ", "CC")
    both = phrase("VP", (HEAD, bodies[0]), ("cc", joint, bodies[1]), ("conj", bodies[1]))
    return closed(phrase("S", ("nsubj", subject), (HEAD, both)))


def _two_clauses(scene: Scene, notes: Derivation) -> Phrase:
    """Return "Anna slept , and the dog ate the cake ."."""
    first = scene.event(is_small=scene.draws.chance(0.5))
    second = _about_the_same(scene, first)
    second.fronted = ""
    bodies = [clause(notes, first), clause(notes, second)]
    word = scene.draws.weighted((("and", 5), ("but", 3), ("so", 1)))
    comma = Word(",", ",", "PUNCT", ",")
    joint = Word(word, word, "CCONJ", "CC")
    return closed(
        phrase(
            "S",
            (HEAD, bodies[0]),
            ("punct", comma, bodies[1]),
            ("cc", joint, bodies[1]),
            ("conj", bodies[1]),
        )
    )


def _existential(scene: Scene, notes: Derivation) -> Phrase:
    """Return "There was a dog in the garden ."."""
    draws = scene.draws
    kinds = ("person", "animal", "vehicle", "furniture", "container", "valuable", "disaster")
    there = scene.referent(kinds, is_named=False)
    if there.owner is None:
        there.article = "some" if there.is_plural or (there.noun and there.noun.is_mass) else "a"
    event = Event(BE, None, there, place=scene.place())
    event.tense = draws.weighted((("past", 3), ("present", 2)))
    word = Word("there", "there", "PRON", "EX")
    # The verb agrees with what is there, which stands after it.
    group = verb_group(event.but(agent=there), "finite")
    patient = slot_phrase(notes, event, "patient")
    frame = Frame(event, group.main)
    frame.arguments.append(("ARG1", patient))
    frame.nodes["patient"] = patient
    place = slot_phrase(notes, event, "place")
    frame.arguments.append(("ARGM-LOC", place))
    frame.nodes["place"] = place
    notes.frames.append(frame)
    body = phrase("VP", (HEAD, group.main), ("nsubj", patient), ("obl", place))
    return closed(phrase("S", ("expl", phrase("NP", (HEAD, word))), (HEAD, body)))


def _question(scene: Scene, notes: Derivation) -> Phrase:
    """Return a question about one of the slots of an event, or about the whole."""
    event = scene.event(is_small=scene.draws.chance(0.4))
    event.is_negated, event.fronted = False, ""
    slots = ["", event.subject_slot]
    if not event.is_passive and event.patient is not None:
        slots += ["patient", "patient"]
    slots += ["place"] * (event.place is not None) + ["time"] * (event.time is not None)
    slot = scene.draws.choice(slots)
    if event.subject is None:
        slot = ""
    return question(notes, event, slot)


def question(notes: Derivation, event: Event, slot: str) -> Phrase:
    """Ask for a slot of an event ("" asks whether it happened)."""
    if slot == "":
        return closed(_inverted(notes, event, {}), "?")
    opening = _wh_phrase(event, slot)
    filled: Filled = {slot: (("", opening),)}
    relation = slot_relation(event, slot, opening)
    if slot in ("place", "time"):
        relation = "advmod"
    if slot == event.subject_slot:
        asked = event.but(**{slot: replace_subject(event)})
        body = phrase("SQ", (HEAD, verb_phrase(notes, asked, verb_group(asked, "finite"), filled)))
    else:
        body = _inverted(notes, event, filled)
    return closed(phrase("SBARQ", (relation, opening), (HEAD, body)), "?")


def replace_subject(event: Event) -> Referent:
    """Return the subject that is asked for: one, whatever the answer is."""
    assert event.subject is not None
    return replace(event.subject, is_plural=False)


def _wh_phrase(event: Event, slot: str) -> Phrase:
    if slot in ("place", "time"):
        form = "where" if slot == "place" else "when"
        return phrase("WHADVP", (HEAD, Word(form, form, "ADV", "WRB")))
    referent: Referent = getattr(event, slot)
    form = "who" if referent.is_person else "what"
    return phrase("WHNP", (HEAD, Word(form, form, "PRON", "WP")))


def _inverted(notes: Derivation, event: Event, filled: Filled) -> Phrase:
    """Return a clause whose first auxiliary comes before its subject."""
    group = verb_group(event, "finite", is_inverted=True)
    first, *others = group.auxiliaries
    assert event.subject is not None
    subject = named(notes, event.subject, is_subject=True)
    slot = event.subject_slot
    filled = {**filled, slot: (("", subject),)}
    rest = VerbGroup(tuple(others), None, group.main)
    body = verb_phrase(notes, event, rest, filled)
    if first[1].xpos == "MD":
        notes.frames[-1].arguments.append(("ARGM-MOD", first[1]))
    return phrase("SQ", first, (slot_relation(event, slot, subject), subject), (HEAD, body))


_CONSTRUCTIONS: tuple[tuple[Callable[[Scene, Derivation], Phrase], float], ...] = (
    (_simple, 30),
    (_relation, 18),
    (_subordinate, 12),
    (_control, 9),
    (_question, 8),
    (_content, 7),
    (_state, 7),
    (_shared_subject, 6),
    (_two_clauses, 5),
    (_existential, 3),
)
