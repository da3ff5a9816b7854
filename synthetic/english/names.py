"""Names, adjectives, adverbs and times of the grammar."""

from __future__ import annotations

from dataclasses import dataclass

_SHE = "Anna Clara Emma Fiona Helen Irene Julia Laura Maria Nora Olivia Rosa Sophie Vera Alice"
_HE = "Adam Bruno Carl David Edwin Frank George Hugo Ivan Jacob Karl Leon Martin Oscar Peter"
_SURNAMES = (
    "Abbott Becker Calloway Dunmore Ellery Farrow Grady Hollis Ingram Jasper Kessler Lowell "
    "Marlowe Norvell Orton Prescott Quimby Radley Sorrel Tarrant Underhill Vance Whitby Yarrow"
)
_CITIES = (
    "Paris London Berlin Rome Madrid Vienna Lisbon Oslo Dublin Prague Chicago Boston Cairo "
    "Tokyo Lima Nairobi Toronto Sydney"
)
_COUNTRIES = "France Germany Italy Spain Norway Ireland Egypt Japan Peru Kenya Canada"
_BODIES = "Institute Company Bank Museum University Foundation Society Council"

WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


@dataclass(frozen=True)
class Name:
    """What a name can be put together from; the kinds are those of the nouns."""

    words: tuple[str, ...]
    kind: str
    label: str
    """The label of the entity."""
    gender: str = "it"
    has_article: bool = False


FIRST_NAMES = tuple((name, "she") for name in _SHE.split()) + tuple(
    (name, "he") for name in _HE.split()
)
SURNAMES = tuple(_SURNAMES.split())
CITIES = tuple(Name((city,), "city", "GPE") for city in _CITIES.split())
COUNTRIES = tuple(Name((country,), "country", "GPE") for country in _COUNTRIES.split())
BODIES = tuple(_BODIES.split())

NUMBERS = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "twelve",
    "twenty",
    "thirty",
]


@dataclass(frozen=True)
class Adjective:
    """An adjective, and what it says the contrary of."""

    form: str
    kinds: tuple[str, ...]
    opposite: str = ""
    comparative: str = ""
    order: int = 1
    """Where it stands among others: 0 judgement, 1 size, 2 age, 3 colour, 4 stuff."""


_MADE = "clothing accessory machine furniture vehicle building valuable container opening tool"
_ADJECTIVES = f"""
big: animal plant container vehicle building room area furniture machine ball fruit| small | bigger | 1
small: animal plant container vehicle building room area furniture machine ball fruit| big | smaller | 1
huge: animal plant building container vehicle| tiny | | 1
tiny: animal plant valuable container room| huge | | 1
tall: person building plant| short | taller | 1
short: person document| tall | shorter | 1
old: person animal plant document {_MADE}| young | older | 2
young: person animal plant| old | younger | 2
new: document {_MADE}| old | newer | 2
ancient: building valuable document| modern | | 2
modern: building machine furniture| ancient | | 2
red: fruit {_MADE}| | | 3
green: fruit vegetable {_MADE}| | | 3
blue: {_MADE}| | | 3
white: animal {_MADE}| | | 3
black: animal {_MADE}| | | 3
yellow: fruit {_MADE}| | | 3
brown: animal {_MADE}| | | 3
wooden: furniture container opening ball music| | | 4
golden: valuable | | | 4
leather: accessory | | | 4
clever: person animal| stupid | | 0
stupid: person| clever | | 0
famous: person building document company| unknown | | 0
unknown: person document| famous | | 0
rich: person company| poor | richer | 0
poor: person| rich | poorer | 0
kind: person| cruel | kinder | 0
cruel: person| kind | | 0
brave: person animal| timid | braver | 0
timid: person animal| brave | | 0
strong: person animal| weak | stronger | 0
weak: person animal| strong | weaker | 0
happy: person| sad | happier | 0
sad: person document| happy | sadder | 0
tired: person animal| | | 0
hungry: person animal| | hungrier | 0
angry: person animal| calm | angrier | 0
calm: person animal| angry | calmer | 0
beautiful: valuable building area plant music clothing| ugly | | 0
ugly: valuable building clothing furniture| beautiful | | 0
heavy: container furniture tool machine ball| light | heavier | 0
light: container furniture tool ball| heavy | lighter | 0
cheap: {_MADE}| expensive | cheaper | 0
expensive: {_MADE} document| cheap | | 0
clean: clothing room furniture container vehicle| dirty | cleaner | 0
dirty: clothing room furniture container vehicle| clean | dirtier | 0
full: container room| empty | | 0
empty: container room building area| full | | 0
open: opening building container| closed | | 0
closed: opening building container| open | | 0
broken: machine vehicle furniture opening music| | | 0
fresh: food fruit vegetable drink| stale | fresher | 0
stale: food | fresh | | 0
sweet: food fruit drink| bitter | sweeter | 0
bitter: fruit drink| sweet | | 0
hot: drink food| cold | hotter | 0
cold: drink food| hot | colder | 0
long: document occasion| | longer | 1
boring: document occasion| exciting | | 0
exciting: document occasion| boring | | 0
strange: person animal document machine valuable| ordinary | stranger | 0
ordinary: person document furniture| strange | | 0
quiet: area room building| noisy | quieter | 0
noisy: area building machine| quiet | noisier | 0
sudden: disaster | | | 0
terrible: disaster illness| | | 0
sharp: blade| blunt | sharper | 0
blunt: blade| sharp | | 0
loud: occasion music| | louder | 0
"""


def _adjective(line: str) -> Adjective:
    opening, opposite, comparative, order = line.split("|")
    form, kinds = opening.split(":")
    return Adjective(form, tuple(kinds.split()), opposite.strip(), comparative.strip(), int(order))


ADJECTIVES = tuple(_adjective(line) for line in _ADJECTIVES.strip().splitlines())

MANNERS = [
    "quietly",
    "slowly",
    "quickly",
    "carefully",
    "proudly",
    "secretly",
    "gently",
    "suddenly",
    "happily",
    "nervously",
    "patiently",
    "eagerly",
    "bravely",
    "politely",
    "calmly",
    "angrily",
]
"""How people do what they do."""

NATURALLY = ["suddenly", "quickly", "slowly", "unexpectedly"]
"""How it happens where nobody acts."""


def adjectives_for(kind: str) -> tuple[Adjective, ...]:
    """Return the adjectives that nouns of a kind take."""
    return tuple(adjective for adjective in ADJECTIVES if kind in adjective.kinds)


def opposite(adjective: Adjective) -> Adjective | None:
    """Return the adjective that says the contrary, if there is one."""
    return next((other for other in ADJECTIVES if other.form == adjective.opposite), None)
