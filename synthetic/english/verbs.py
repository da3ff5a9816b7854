"""The verbs of the grammar: their forms, what they take, and what befalls their arguments.

A line of a table is a verb: its lemma (with past and participle where they are irregular), `:`, the
kinds of nouns that are its subject, `>` and those that are its object. After a bar:

- `with KINDS`: instruments, which the verb takes and the object does not;
- `to`, `into`, `on`, `in`, `from` KINDS: a third argument with that preposition, always there;
- `gives KINDS`: one with `to`, which may also come bare before the object;
- `is EFFECTS`: see `layerlake.synthetic.english.proto_roles`;
- `says RELATION SLOT SLOT`: a relation that it states between two of its slots;
- `particle WORD`; `nowhere` (takes no place); `undergone` (its subject is what it befalls).

`LIVING` and the like stand for several kinds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_DOUBLED = {
    "cut",
    "chop",
    "plan",
    "drop",
    "hit",
    "rob",
    "stop",
    "swim",
    "run",
    "put",
    "win",
    "scrub",
    "grip",
    "travel",
    "forget",
}

_SETS = {
    "LIVING": "person animal",
    "GOODS": "valuable clothing accessory ball document music",
    "THINGS": "valuable clothing accessory ball document music container fruit tool",
    "LIKED": "person animal food fruit drink plant clothing music building document area",
    "SITES": "building area",
    "EVENTS": "disaster occasion",
}

_TRANSITIVE = """
cut cut cut: person > food fruit plant | with blade | is changes touches
slice: person > food fruit vegetable | with blade | is changes touches
chop: person > vegetable plant | with blade | is changes touches
open: person > opening container | with key tool | is changes touches
lock: person > opening container | with key | is changes touches
paint: person > furniture opening | with paintbrush | is changes touches
write wrote written: person > document | with pen | is creates | says Product-Producer patient agent
draw drew drawn: person > plant animal building | with pen | is pictures
sign: person > document | with pen | is changes touches
eat ate eaten: LIVING > food fruit | with cutlery | is destroys touches
taste: person > food drink | with cutlery | is touches
repair: person > vehicle machine furniture | with tool | is changes touches
fix: person > vehicle machine opening | with tool | is changes touches
smash: person > valuable opening container | with tool | is destroys touches
hit hit hit: person > ball machine | with tool accessory | is touches
wash: person > clothing vehicle opening | with cleaner | is changes touches
clean: person > furniture room machine | with cleaner | is changes touches
scrub: person > furniture container | with cleaner | is changes touches
catch caught caught: person > animal | with net | is touches possesses
watch: person > LIVING | with lens | is perceives
see saw seen: person > LIVING SITES | with lens | is perceives unplanned
observe: person > animal building | with lens | is perceives
drink drank drunk: person > drink | is destroys touches
cook: person > food vegetable | is changes touches
bake: person > food | is creates | says Product-Producer patient agent
build built built: person > building vehicle | with tool | is creates | says Product-Producer patient agent
make made made: person > food furniture clothing | is creates | says Product-Producer patient agent
peel: person > fruit vegetable | with blade | is changes touches
plant: person > plant vegetable | with tool | is moves touches
water: person > plant area | is changes
carry: person > THINGS furniture | is moves touches
push: person > vehicle furniture | is moves touches
pull: LIVING > vehicle furniture | is moves touches
drop: person > THINGS | is moves touches unplanned
lose lost lost: person > THINGS | is loses unplanned
find found found: LIVING > THINGS person animal | is perceives unplanned
hide hid hidden: person > GOODS | is moves touches
steal stole stolen: person > GOODS vehicle | is moves possesses touches
collect: person > valuable document accessory | is possesses
drive drove driven: person > vehicle | is moves touches
ride rode ridden: person > animal vehicle | is moves touches
park: person > vehicle | is moves touches
chase: animal > LIVING | is moves
bite bit bitten: animal > LIVING | is changes touches
scare: animal > LIVING | is stirs
follow: LIVING > LIVING vehicle | is moves
feed fed fed: person > animal | is changes
help: person > person | is helps
thank: person > person | is stirs
praise: person > person document | is stirs
blame: person > person | is stirs
train: person > person animal | is changes
coach: person > person group | is changes
guide: person > person group | is moves
guard: LIVING > building vehicle valuable | is perceives
nurse: person > LIVING | is changes
judge: person > person document | is perceives
question: person > person | is perceives
meet met met: person > person | is perceives
visit: person > person SITES | is perceives
admire: person > LIKED | is stative
love: person > LIKED | is stative
hate: person > LIKED | is stative
know knew known: person > person SITES document | is stative
remember: person > person SITES document | is stative
want: person > GOODS vehicle food | is stative
own: person > vehicle building valuable | is stative possesses | nowhere
read read read: person > document | is perceives
play: person > music | is touches
film: person > LIVING occasion | is perceives
attend: person > occasion | is perceives | nowhere
enjoy: person > occasion food drink | is perceives unplanned
organize: person > occasion | is creates | nowhere
pick: person > fruit plant | particle up | is moves touches
pick: person > fruit vegetable | is moves touches
throw threw thrown: person > GOODS food | particle away | is moves touches loses
turn: person > machine | particle off | is changes touches
tear tore torn: LIVING > document clothing | particle up | is destroys touches
hire: person company > person | is changes | nowhere
publish: person company > document | is creates | nowhere
buy bought bought: person company > GOODS vehicle building | is possesses | nowhere
close: person company > building opening | is changes
use: person > tool blade machine | is touches | says Instrument-Agency patient agent
put put put: person > GOODS fruit tool | into container | is moves touches | says Entity-Destination patient third
drop: person > valuable fruit ball | into container | is moves touches | says Entity-Destination patient third
pour: person > drink | into container | is moves touches | says Entity-Destination patient third
place: person > GOODS container food | on furniture | is moves touches
leave left left: person > GOODS container | on furniture | is moves touches
borrow: person > GOODS vehicle tool | from person | is moves possesses | nowhere
receive: person > document valuable | from person | is possesses unplanned | nowhere
give gave given: person > GOODS food fruit | gives person | is moves loses | nowhere
send sent sent: person company > document valuable | gives person | is moves loses | nowhere
show showed shown: person > GOODS animal | gives person | is shows
sell sold sold: person company > GOODS vehicle | gives person | is loses | nowhere
lend lent lent: person > GOODS vehicle tool | gives person | is moves loses | nowhere
offer: person > food drink fruit | gives person | is shows
"""

_INTRANSITIVE = """
sleep slept slept: LIVING | is rests unplanned
laugh: person | is acts
smile: person | is acts
cry: person | is acts unplanned
sing sang sung: person | is acts
dance: person | is acts
wait: LIVING | is rests
work: person | is acts
swim swam swum: LIVING | is goes
shout: person | is acts
rest: LIVING | is rests
fish: person | is acts
paint: person | is acts
fall fell fallen: LIVING ball valuable | is goes changes unplanned | undergone
arrive: person vehicle | is goes | undergone
stop: vehicle machine | is changes unplanned | undergone
break broke broken: machine vehicle | particle down | is changes unplanned | undergone
walk: LIVING | to SITES | is goes | nowhere
run ran run: LIVING | to SITES opening | is goes | nowhere
drive drove driven: person | to SITES | is goes | nowhere
travel: person | to city | is goes | nowhere
sail: person vehicle | to city | is goes | nowhere
return: person | to city SITES | is goes | nowhere
come came come: person | from city | is goes | nowhere
escape: LIVING | from building | is goes | nowhere
talk: person | to person | is acts
listen: person | to person | is perceives
"""

_HAPPENING = """
cause: EVENTS illness > trouble illness | says Cause-Effect agent patient | is brings unplanned | nowhere
bring brought brought: disaster > trouble | particle about | says Cause-Effect agent patient | is brings unplanned | nowhere
damage: disaster > building vehicle SITES | is changes unplanned | nowhere
destroy: disaster > building vehicle | is destroys unplanned | nowhere
hit hit hit: disaster > SITES city | is changes unplanned | nowhere
ruin: disaster > occasion | is changes unplanned | nowhere
frighten: disaster > LIVING | is stirs unplanned
interrupt: disaster person > occasion | is changes | nowhere
describe: document > EVENTS building plant | says Message-Topic agent patient | is about stative | nowhere
discuss: document > EVENTS illness | says Message-Topic agent patient | is about stative | nowhere
hold held held: container > drink fruit valuable | says Content-Container patient agent | is holds stative | nowhere
contain: container > drink fruit valuable | says Content-Container patient agent | is holds stative | nowhere
"""

_RELATING = """
have had had: vehicle building animal document > part | says Component-Whole patient agent | is holds stative | nowhere
join: person animal > group | says Member-Collection agent patient | is acts | nowhere
lead led led: person animal > group | says Member-Collection agent patient | is acts | nowhere
keep kept kept: person > drink fruit valuable | in container | says Content-Container patient third | is touches | nowhere
make made made: person > drink food | from fruit | says Entity-Origin patient third | is creates | nowhere
get got got: person > drink food | from animal | says Entity-Origin patient third | is possesses | nowhere
result: trouble illness | from disaster | says Cause-Effect third agent | is unplanned | nowhere | undergone
come came come: trouble illness | from disaster | says Cause-Effect third agent | is unplanned | nowhere | undergone
"""

_CLAUSAL = """
say said said: person | is states
think thought thought: person | is believes stative
believe: person | is believes stative
claim: person | is states
report: person company | is states
know knew known: person | is believes stative
hear heard heard: person | is perceives unplanned
hope: person | is believes stative
"""

_CONTROL = """
want: person | is wishes stative
try: person | is tries
hope: person | is wishes stative
plan: person | is wishes
decide: person | is tries
manage: person | is tries
forget forgot forgotten: person | is fails unplanned
refuse: person | is tries
fail: person | is fails unplanned
promise: person | is states
"""

_ASKING = """
ask: person > person | is asks
persuade: person > person | is asks
order: person > person | is asks
tell told told: person > person | is asks
teach taught taught: person > person | is asks
help: person > person | is asks
"""


@dataclass(frozen=True)
class Third:
    """What a verb takes beside subject and object."""

    preposition: str
    kinds: tuple[str, ...]
    role: str
    shifts: bool = False
    """Whether it may come bare before the object, as in "gave Anna the book"."""


@dataclass(frozen=True)
class Verb:
    """A verb in one sense."""

    lemma: str
    past: str
    participle: str
    agents: tuple[str, ...] = ()
    """Kinds of nouns that are its subject."""
    patients: tuple[str, ...] = ()
    """Kinds of nouns that are its object; none for an intransitive verb."""
    third: Third | None = None
    instruments: tuple[str, ...] = ()
    """Kinds of nouns that `with` brings to the verb, not to the object."""
    particle: str = ""
    effects: frozenset[str] = frozenset()
    relation: tuple[str, str, str] | None = None
    """What it says of two of its slots: a relation, its first slot and its second."""
    takes_place: bool = True
    subject_role: str = "ARG0"

    @property
    def is_stative(self) -> bool:
        """Whether it has no progressive."""
        return "stative" in self.effects

    @property
    def third_person(self) -> str:
        """The form after he or she."""
        if self.lemma == "have":
            return "has"
        if self.lemma.endswith(("s", "x", "ch", "sh")):
            return self.lemma + "es"
        return self.lemma[:-1] + "ies" if _ends_in_y(self.lemma) else self.lemma + "s"

    @property
    def gerund(self) -> str:
        """The form in -ing."""
        if self.lemma.endswith("e") and not self.lemma.endswith("ee"):
            return self.lemma[:-1] + "ing"
        return self.lemma + self.lemma[-1] * (self.lemma in _DOUBLED) + "ing"


def _ends_in_y(lemma: str) -> bool:
    return lemma.endswith("y") and lemma[-2] not in "aeou"


def _regular_past(lemma: str) -> str:
    if lemma.endswith("e"):
        return lemma + "d"
    if _ends_in_y(lemma):
        return lemma[:-1] + "ied"
    return lemma + lemma[-1] * (lemma in _DOUBLED) + "ed"


def _kinds(names: list[str]) -> tuple[str, ...]:
    """Return kinds with the names of several written out."""
    every = " ".join(_SETS.get(name, name) for name in names).split()
    return tuple(dict.fromkeys(every))


def _verb(line: str) -> Verb:
    """Read a line of a table."""
    opening, *options = line.split("|")
    forms, takes = opening.split(":")
    lemma, *irregular = forms.split()
    past, participle = irregular or [_regular_past(lemma)] * 2
    agents, _, patients = takes.partition(">")
    verb = Verb(lemma, past, participle, _kinds(agents.split()), _kinds(patients.split()))
    for option in options:
        key, *values = option.split()
        if key == "with":
            verb = replace(verb, instruments=_kinds(values))
        elif key == "gives":
            verb = replace(verb, third=Third("to", _kinds(values), "ARG2", shifts=True))
        elif key in ("to", "into", "on", "from", "in"):
            role = "ARG4" if key == "to" and "person" not in values else "ARG2"
            verb = replace(verb, third=Third(key, _kinds(values), role))
        elif key == "is":
            verb = replace(verb, effects=frozenset(values))
        elif key == "says":
            verb = replace(verb, relation=(values[0], values[1], values[2]))
        elif key == "particle":
            verb = replace(verb, particle=values[0])
        elif key == "nowhere":
            verb = replace(verb, takes_place=False)
        elif key == "undergone":
            verb = replace(verb, subject_role="ARG1")
        else:
            raise ValueError(f"{key!r} says nothing about a verb: {line}")
    return verb


def _table(text: str) -> tuple[Verb, ...]:
    return tuple(_verb(line) for line in text.strip().splitlines())


TRANSITIVE = _table(_TRANSITIVE)
INTRANSITIVE = _table(_INTRANSITIVE)
HAPPENING = _table(_HAPPENING)
"""Verbs whose subject does not act: events, documents and containers."""
RECEIVING = tuple(verb for verb in TRANSITIVE if verb.lemma in ("receive", "borrow"))
"""Verbs that tell from the other side what giving and lending tell."""
RELATING = _table(_RELATING)
"""Verbs that do little but state a relation."""
CLAUSAL = _table(_CLAUSAL)
"""Verbs that take a clause with `that`."""
CONTROL = _table(_CONTROL)
"""Verbs that take an infinitive, whose subject is theirs."""
ASKING = _table(_ASKING)
"""Verbs that take an object and an infinitive, whose subject is the object."""

BE = Verb("be", "was", "been", effects=frozenset(["stative"]))
"""The verb of "there is"; its forms are in `verb_phrases`."""


def verbs_taking(agent: str | None, patient: str | None) -> list[tuple[list[Verb], float]]:
    """Return the verbs that take kinds of subject and object, in groups with their weights.

    None stands for any kind, or for no object at all.
    """
    found: list[tuple[list[Verb], float]] = []
    for verbs, weight in ((TRANSITIVE, 72), (INTRANSITIVE, 18), (HAPPENING, 10)):
        fitting = [
            verb
            for verb in verbs
            if (agent is None or agent in verb.agents)
            and (patient is None or patient in verb.patients)
        ]
        if fitting:
            found.append((fitting, weight))
    return found
