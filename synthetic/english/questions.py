"""Passages with questions about them, each with one right answer and the place where it stands.

A question names enough of an event that no other event of the passage fits it: where verbs recur,
who did it or what was done to must be read too, and a person may be named by a pronoun only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from layerlake.engine.settings import check_seed, whole_number
from layerlake.synthetic.english.clauses import clause
from layerlake.synthetic.english.derivation import Derivation
from layerlake.synthetic.english.draws import Draws
from layerlake.synthetic.english.layers import GeneratedSentence, annotated
from layerlake.synthetic.english.meaning import Event, Referent
from layerlake.synthetic.english.running_text import running_text
from layerlake.synthetic.english.scene import Scene
from layerlake.synthetic.english.sentences import closed, question
from layerlake.synthetic.english.tree import HEAD, Layout, Node, Phrase
from layerlake.synthetic.english.verbs import HAPPENING, INTRANSITIVE, TRANSITIVE

FEWEST_WORDS, MOST_WORDS = 60, 120
"""Words of a passage, full stops among them."""

QUESTIONS_A_PASSAGE = 5

_SLOTS = ("agent", "patient", "place", "time")


@dataclass(eq=False)
class _Told:
    """A sentence of a passage, and the event that it tells."""

    event: Event
    """With names where the sentence has pronouns."""
    sentence: GeneratedSentence
    answers: dict[str, tuple[int, int]]
    """Slot -> words of the sentence that answer a question about it."""
    start: int = 0
    """The first word, counted in the passage."""


def generate_questions(n: int, seed: int) -> list[dict[str, Any]]:
    """Generate passages with questions, until there are n questions or a few more.

    Passage i depends on the seed and on i alone.

    Parameters
    ----------
    n
        How many questions at least.
    seed
        From 0 to 2**64 - 1.

    Returns
    -------
    list
        Passages: dicts with `title`, `context` and `qas`, a list of dicts with `id`, `question`
        and `answers`: one `text` and its `answer_start`, a character of the context from 0.

    Raises
    ------
    InvalidInput
        Where n or the seed is no such number.
    """
    n = whole_number(n, "the number of questions", 0)
    seed = check_seed(seed)
    passages: list[dict[str, Any]] = []
    found = 0
    while found < n:
        passages.append(_passage(seed, len(passages)))
        found += len(passages[-1]["qas"])
    return passages


def _passage(seed: int, index: int) -> dict[str, Any]:
    """Draw until a passage is neither too short nor too long and nothing in it has two names."""
    attempt = 0
    while True:
        scene = Scene(Draws("passage", seed, index, attempt))
        told = _tell(scene)
        if FEWEST_WORDS <= _length(told) <= MOST_WORDS and _is_distinct(scene.referents):
            asked = _questions(scene, told)
            if len(asked) == QUESTIONS_A_PASSAGE:
                break
        attempt += 1
    words = [word for item in told for word in item.sentence.words]
    context, places = running_text(words)
    qas = []
    for number, (text, item, slot) in enumerate(asked):
        first, stop = (item.start + word for word in item.answers[slot])
        start, end = places[first][0], places[stop - 1][1]
        answer = {"text": context[start:end], "answer_start": start}
        name = f"english-{seed}-{index}-{number}"
        qas.append({"id": name, "question": text, "answers": [answer]})
    return {"title": f"Passage {index}", "context": context, "qas": qas}


def _length(told: list[_Told]) -> int:
    return sum(len(item.sentence.words) for item in told)


def _tell(scene: Scene) -> list[_Told]:
    """Tell what two or three people did, and what happened beside it."""
    draws = scene.draws
    cast = []
    for _ in range(2 + draws.below(2)):
        cast.append(scene.referent(("person",), is_plain=True, is_named=draws.chance(0.7)))
        cast[-1] = scene.referents[-1] = known(cast[-1])
    told: list[_Told] = []
    last: Referent | None = None
    wanted = FEWEST_WORDS + draws.below(45)
    while _length(told) < wanted:
        event = _event(scene, cast, told, last)
        spoken = event
        if event.agent is not None and event.agent is last and not event.is_passive:
            near = _named(told[-1].event) + _named(event)
            again = scene.pronoun_for(event.agent, near)
            if again is not None and draws.chance(0.7):
                spoken = event.but(agent=again)
        item = _put(spoken, event)
        item.start = _length(told)
        told.append(item)
        last = event.subject if event.subject in cast else None
    return told


def _named(event: Event) -> list[Referent]:
    """Return those who could be meant by a pronoun in an event, or after it."""
    there = (event.agent, event.patient, event.third, event.instrument)
    place = [] if event.place is None else [event.place.where]
    return [referent for referent in there if referent is not None] + place


def _event(scene: Scene, cast: list[Referent], told: list[_Told], last: Referent | None) -> Event:
    """Draw an event, mostly by one of the cast, now and then with an earlier verb."""
    draws = scene.draws
    earlier = [item.event.verb for item in told if "person" in item.event.verb.agents]
    if earlier and draws.chance(0.3):
        verb = draws.choice(earlier)
    else:
        verb = draws.choice(draws.weighted(((TRANSITIVE, 7), (INTRANSITIVE, 2), (HAPPENING, 1))))
    event = Event(verb)
    by_cast = "person" in verb.agents and draws.chance(0.75)
    if by_cast:
        agent = last if last is not None and draws.chance(0.4) else draws.choice(cast)
    else:
        agent = scene.referent(verb.agents, is_plain=True)
    event.agent = agent
    if verb.patients:
        others = [one for one in cast if one is not agent and one.kind in verb.patients]
        if others and draws.chance(0.6):
            event.patient = draws.choice(others)
        else:
            event.patient = scene.referent(verb.patients, is_plain=True)
    if verb.third is not None:
        event.third = scene.referent(verb.third.kinds, is_plain=True)
        event.is_shifted = verb.third.shifts and draws.chance(0.5)
    if verb.instruments and draws.chance(0.3):
        event.instrument = scene.referent(verb.instruments, is_plain=True)
    located = event.patient is not None and event.patient.kind in ("building", "area", "city")
    if verb.takes_place and not located and draws.chance(0.5):
        event.place = scene.place()
    if draws.chance(0.55):
        event.time = scene.time("past")
        if event.time.preposition == "after":
            event.time = None
        elif draws.chance(0.4):
            event.fronted = "time"
    if event.patient is not None and not (verb.is_stative or event.is_shifted):
        event.is_passive = draws.chance(0.2)
    return event


def _put(spoken: Event, event: Event) -> _Told:
    """Put an event into words and find the answers in them."""
    notes = Derivation()
    layout = Layout(closed(clause(notes, spoken)))
    frame = notes.frames[0]
    answers = {
        slot: layout.span(_inner(node))
        for slot, node in frame.nodes.items()
        if slot in _SLOTS and not _is_pronoun(spoken, slot)
    }
    return _Told(event, annotated(layout, notes, ""), answers)


def _inner(node: Node) -> Node:
    """Return the noun phrase of a prepositional phrase, or the node."""
    if isinstance(node, Phrase) and node.label == "PP":
        return next(part.node for part in node.parts if part.relation == HEAD)
    return node


def _is_pronoun(event: Event, slot: str) -> bool:
    referent = getattr(event, slot)
    return isinstance(referent, Referent) and referent.as_pronoun


def _is_distinct(referents: list[Referent]) -> bool:
    """Say whether no two referents could go by the same words."""
    names = [referent.name.words[0] for referent in referents if referent.name is not None]
    nouns = [referent.noun for referent in referents if referent.noun is not None]
    plain = [noun.singular for noun in nouns]
    apart = len({*names}) == len(names) and len({*plain}) == len(plain)
    return apart and not {noun.wider for noun in nouns} & {*plain}


def _questions(scene: Scene, told: list[_Told]) -> list[tuple[str, _Told, str]]:
    """Return questions, each with the sentence and the slot that answer it."""
    draws = scene.draws
    candidates = [(item, slot) for item in told for slot in item.answers]
    found: list[tuple[str, _Told, str]] = []
    asked: set[str] = set()
    for item, slot in draws.shuffled(candidates):
        text = _ask(item, slot, told)
        if text is not None and text not in asked and len(found) < QUESTIONS_A_PASSAGE:
            found.append((text, item, slot))
            asked.add(text)
    return found


def _ask(item: _Told, slot: str, told: list[_Told]) -> str | None:
    """Return a question that only this event answers, or None where there is none."""
    event = item.event
    if slot == "place" and event.verb.third is not None:
        return None
    bare = event.but(manner="", instrument=None, fronted="", place=None, time=None)
    bare = _with(bare, event, slot)
    tries = [bare, *(_with(bare, event, extra) for extra in ("time", "place") if extra != slot)]
    for attempt in tries:
        rivals = [other for other in told if _fits(other.event, attempt, slot)]
        if len(rivals) == 1:
            return _said(attempt, slot)
    return None


def _with(bare: Event, event: Event, slot: str) -> Event:
    return bare.but(**{slot: getattr(event, slot)})


def _fits(event: Event, asked: Event, slot: str) -> bool:
    """Say whether an event is one that a question may be about.

    An event that does not tell where or when it was might have been there and then.
    """
    if event.verb.lemma != asked.verb.lemma:
        return False
    for other in ("agent", "patient", "third"):
        known: Referent | None = getattr(asked, other)
        if other != slot and known is not None:
            told: Referent | None = getattr(event, other)
            if told is None or told.key != known.key:
                return False
    if slot != "time" and asked.time is not None and event.time not in (None, asked.time):
        return False
    if slot != "place" and asked.place is not None and event.place is not None:
        return event.place.where.key == asked.place.where.key
    return True


def _said(event: Event, slot: str) -> str:
    """Return a question as running text; what the passage brought in is known by now."""
    names = {
        name: known(getattr(event, name))
        for name in ("agent", "patient", "third")
        if getattr(event, name) is not None
    }
    place = event.place and replace(event.place, where=known(event.place.where))
    event = event.but(**names, place=place)
    # The object asked for leads a passive; that question is put in the active.
    if slot == "agent":
        event.is_passive = event.is_shifted = False
    notes = Derivation()
    layout = Layout(question(notes, event, slot))
    return running_text(annotated(layout, notes, "").words)[0]


def known(referent: Referent) -> Referent:
    """Return a referent as one who has been named before."""
    definite = referent.noun is not None and referent.article not in ("the", "every")
    return replace(referent, article="the") if definite else referent
