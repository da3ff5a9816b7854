"""Entailment pairs: a hypothesis is drawn first, then a premise for the label that it shall have.

The hypothesis is drawn without regard to the label, so that it says nothing of the label by itself:
a model must read both. The logic is strict: what a premise leaves open is neutral. "Anna slept on
Monday" tells nothing of Tuesday, and what somebody says or wants need not be so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from layerlake.engine.corpora.nli import LABELS
from layerlake.engine.settings import check_seed, whole_number
from layerlake.synthetic.english import inferences
from layerlake.synthetic.english.clauses import clause
from layerlake.synthetic.english.derivation import Derivation
from layerlake.synthetic.english.draws import Draws
from layerlake.synthetic.english.layers import annotated
from layerlake.synthetic.english.meaning import Event, Situation, State
from layerlake.synthetic.english.names import adjectives_for, opposite
from layerlake.synthetic.english.running_text import running_text
from layerlake.synthetic.english.scene import Scene
from layerlake.synthetic.english.sentences import closed
from layerlake.synthetic.english.tree import Layout
from layerlake.synthetic.english.verbs import INTRANSITIVE, TRANSITIVE

Step = tuple[str, Callable[[], Situation | None]]
"""The name of a way to a premise, and the way."""


def generate_entailment(n: int, seed: int) -> list[dict[str, str]]:
    """Generate pairs of a premise and a hypothesis.

    Pair i depends on the seed and on i alone. Pairs 0 to 2, 3 to 5 and so on have the three labels.

    Parameters
    ----------
    n
        How many.
    seed
        From 0 to 2**64 - 1.

    Returns
    -------
    list
        Dicts with `premise`, `hypothesis`, `label` ("entailment", "neutral", "contradiction"),
        `construction` (what makes the label so) and `id`.

    Raises
    ------
    InvalidInput
        Where n or the seed is no such number.
    """
    n = whole_number(n, "the number of pairs", 0)
    seed = check_seed(seed)
    return [_pair(seed, index) for index in range(n)]


def _pair(seed: int, index: int) -> dict[str, str]:
    block, place = divmod(index, len(LABELS))
    label = Draws("entailment label", seed, block).shuffled(LABELS)[place]
    scene = Scene(Draws("hypothesis", seed, index))
    hypothesis = draw_hypothesis(scene)
    said = _said(hypothesis)
    # A stream of its own: the label must not move the draws of the hypothesis.
    scene.draws = Draws("premise", seed, index)
    steps = scene.draws.shuffled(_steps(scene, hypothesis, label))
    drawn = ((name, step()) for name, step in steps)
    # One always applies: whatever it is, somebody may know or report it, or it is just denied.
    construction, premise = next(
        (name, _said(premise))
        for name, premise in drawn
        if premise is not None and _said(premise) != said
    )
    return {
        "id": f"english-{seed}-{index}",
        "premise": premise,
        "hypothesis": said,
        "label": label,
        "construction": construction,
    }


def _said(situation: Situation) -> str:
    """Return a situation as running text."""
    notes = Derivation()
    root = closed(clause(notes, situation))
    return running_text(annotated(Layout(root), notes, "").words)[0]


def draw_hypothesis(scene: Scene) -> Situation:
    """Draw what is to be judged: an event or a state, told as true or as false."""
    draws = scene.draws
    if draws.chance(0.22):
        return _state(scene)
    groups = ((TRANSITIVE, 4), (INTRANSITIVE, 1))
    verb = draws.choice([verb for verb in draws.weighted(groups) if "person" in verb.agents])
    event = Event(verb, inferences.definite(scene, ("person",)))
    if verb.patients:
        event.patient = inferences.definite(scene, verb.patients)
    if verb.third is not None:
        event.third = inferences.definite(scene, verb.third.kinds)
    for _ in range(draws.weighted(((0, 4), (1, 5), (2, 1)))):
        event = inferences.richer(scene, event) or event
    wide = inferences.wider(event)
    if wide is not None and draws.chance(0.35):
        event = wide
    elif inferences.can_be_passive(event) and draws.chance(0.22):
        event = event.but(is_passive=True)
        if not event.manner and draws.chance(0.4):
            event.agent = None
    event.is_contracted = draws.chance(0.4)
    if draws.chance(0.4):
        return inferences.negated(event) or event
    return event


def _state(scene: Scene) -> State:
    """Draw a state of which the contrary can be said."""
    draws = scene.draws
    subject = inferences.definite(scene, ("person", "building", "vehicle", "container", "animal"))
    subject.adjectives = ()
    fitting = [adjective for adjective in adjectives_for(subject.kind) if adjective.opposite]
    state = State(subject, draws.choice(fitting))
    if draws.chance(0.4):
        compared = [adjective for adjective in fitting if adjective.comparative]
        state.adjective = draws.choice(compared)
        state.than = inferences.definite(scene, (subject.kind,))
        state.than.adjectives = ()
    state.is_negated = draws.chance(0.4)
    state.is_contracted = draws.chance(0.4)
    return state


def _steps(scene: Scene, hypothesis: Situation, label: str) -> list[Step]:
    """Return the ways to a premise for a label."""
    if isinstance(hypothesis, State):
        state = replace(hypothesis, is_negated=False)
        affirming, denying, leaving = _of_states(scene, state)
    else:
        event = inferences.affirmed(hypothesis)
        affirming = _affirming(scene, event)
        denying = _denying(scene, event)
        leaving = _leaving(scene, event)
    if label == "neutral":
        return leaving
    return affirming if (label == "entailment") != hypothesis.is_negated else denying


def _affirming(scene: Scene, event: Event) -> list[Step]:
    """Return the ways to say what cannot be true unless the event is."""

    def other_words() -> Event | None:
        return inferences.otherwise(scene, event)

    def detail() -> Event | None:
        told = inferences.richer(scene, event) or event
        if scene.draws.chance(0.4):
            told = inferences.described(scene, told) or told
        if scene.draws.chance(0.4):
            told = inferences.otherwise(scene, told) or told
        return told

    def factive() -> Event | None:
        return inferences.told(scene, event, inferences.FACTIVE)

    def by_someone() -> Event | None:
        if event.agent is not None:
            return None
        return event.but(agent=inferences.definite(scene, ("person",)), is_passive=False)

    return [
        ("more detail", detail),
        ("more detail", detail),
        ("other words", other_words),
        ("by someone", by_someone),
        ("narrower noun", lambda: inferences.narrower(scene, event)),
        ("conjunction", lambda: inferences.accompanied(scene, event, "and")),
        ("implicative", lambda: inferences.under_control(scene, event, inferences.SUCCEEDS)),
        ("factive", factive),
    ]


def _denying(scene: Scene, event: Event) -> list[Step]:
    """Return the ways to say what cannot be true if the event is."""

    def less() -> Event | None:
        return inferences.negated(inferences.poorer(scene, event) or event)

    def other_words() -> Event | None:
        return inferences.negated(inferences.otherwise(scene, event))

    def implicative() -> Event | None:
        if event.agent is None:
            return None
        less = inferences.poorer(scene, event) or event
        failed = inferences.negated(less) if inferences.is_wide(event) else less
        if failed is not None:
            failed = failed.but(is_negated=False)
        return inferences.under_control(scene, failed, inferences.FAILS)

    return [
        ("negation", less),
        ("negation", less),
        ("negation", lambda: inferences.negated(inferences.wider(event))),
        ("negation in other words", other_words),
        ("implicative", implicative),
        ("contrary", lambda: inferences.contrary(event)),
        ("factive", lambda: inferences.told(scene, less(), inferences.FACTIVE)),
    ]


def _leaving(scene: Scene, event: Event) -> list[Step]:
    """Return the ways to say what leaves open whether the event is true."""
    draws = scene.draws

    def either(found: Event | None) -> Event | None:
        return inferences.negated(found) if draws.chance(0.4) else found

    def sparser() -> Event | None:
        return inferences.poorer(scene, event) or inferences.undescribed(event)

    def reported() -> Event | None:
        return inferences.told(scene, either(event), inferences.REPORTED)

    def untold() -> Event | None:
        return inferences.under_control(scene, event, inferences.UNTOLD)

    return [
        ("less detail", sparser),
        ("wider noun", lambda: inferences.wider(event)),
        ("negated detail", lambda: inferences.negated(inferences.richer(scene, event))),
        ("negated noun", lambda: inferences.negated(inferences.narrower(scene, event))),
        ("changed roles", lambda: either(inferences.swapped(event))),
        ("another", lambda: either(inferences.substituted(scene, event))),
        ("disjunction", lambda: inferences.accompanied(scene, event, "or")),
        ("reported", reported),
        ("untold", untold),
    ]


def _of_states(scene: Scene, state: State) -> tuple[list[Step], list[Step], list[Step]]:
    """Return the ways to affirm a state, to deny it and to leave it open."""
    draws = scene.draws
    adjective, than = state.adjective, state.than
    assert adjective is not None
    contrary = opposite(adjective)
    assert contrary is not None
    denied = replace(state, is_negated=True, is_contracted=draws.chance(0.4))

    def detail() -> State:
        fitting = [
            other
            for other in adjectives_for(state.subject.kind)
            if other.form not in (adjective.form, adjective.opposite)
        ]
        return replace(state, subject=replace(state.subject, adjectives=(draws.choice(fitting),)))

    def turned(other: State) -> State | None:
        return None if than is None else replace(other, subject=than, than=state.subject)

    def against() -> State | None:
        if than is not None and not contrary.comparative:
            return None
        return replace(state, adjective=contrary)

    def turned_against() -> State | None:
        opposed = against()
        return None if opposed is None else turned(opposed)

    def elsewhere() -> State:
        someone = inferences.definite(scene, (state.subject.kind,))
        found = replace(state, subject=someone) if than is None else replace(state, than=someone)
        return replace(found, is_negated=draws.chance(0.4))

    def otherwise() -> State | None:
        fitting = [
            other
            for other in adjectives_for(state.subject.kind)
            if other.form not in (adjective.form, adjective.opposite)
            and adjective.form != other.opposite
            and (other.comparative or than is None)
        ]
        if not fitting:
            return None
        return replace(state, adjective=draws.choice(fitting), is_negated=draws.chance(0.4))

    def reported() -> Event | None:
        return inferences.told(scene, denied if draws.chance(0.4) else state, inferences.REPORTED)

    affirming: list[Step] = [
        ("more detail", detail),
        ("other words", turned_against),
        ("factive", lambda: inferences.told(scene, state, inferences.FACTIVE)),
    ]
    denying: list[Step] = [
        ("negation", lambda: denied),
        ("contrary", against),
        ("changed roles", lambda: turned(state)),
        ("factive", lambda: inferences.told(scene, denied, inferences.FACTIVE)),
    ]
    leaving: list[Step] = [
        ("another", elsewhere),
        ("another property", otherwise),
        ("reported", reported),
    ]
    return affirming, denying, leaving
