"""What belongs to what: the pairs of nouns from which the grammar states relations.

Nine relations, directed, as SemEval-2010 task 8 names them; a name such as Component-Whole says
which of the two the first argument is.
"""

from __future__ import annotations

_COMPONENT_WHOLE = """
wheel: car truck bus bicycle cart wagon tractor
roof: house library museum school church hotel factory barn cottage
handle: knife hammer umbrella suitcase bucket axe
page: book novel newspaper diary report
branch: tree oak willow bush
wing: bird goose eagle owl duck
lid: box chest jar barrel
string: guitar violin
engine: car truck bus boat ship tractor train
door: house car church school cottage cupboard
window: house tower hotel train office hall
key: piano
drawer: desk cupboard table
gate: garden castle park factory
"""

_MEMBER_COLLECTION = """
player: team
singer: choir
sailor: crew
cow: herd
goat: herd
sheep: flock
bird: flock
goose: flock
thief: gang
drummer: orchestra
student: class
soldier: army
"""

_CONTENT_CONTAINER = """
milk: bottle jar bucket
water: bottle barrel bucket
wine: bottle barrel
juice: bottle cup
tea: cup
coffee: cup
honey: jar
apple: basket box bag
potato: basket bag barrel
coin: box chest jar bag
letter: box drawer suitcase
shirt: suitcase drawer chest
pencil: box drawer
"""

_ENTITY_ORIGIN = """
juice: apple orange pear lemon
wine: grape
cider: apple
soup: pumpkin carrot onion
cheese: milk
honey: flower
cake: carrot
milk: cow goat
egg: hen goose duck
"""

_PRODUCT_PRODUCER = """
bread: baker
cake: baker cook
pie: baker
soup: cook
omelette: cook
novel: writer
poem: poet
report: scientist engineer
painting: painter
table: carpenter
chair: carpenter
shelf: carpenter
coat: tailor
dress: tailor
beer: brewer
photograph: photographer
article: writer
"""

_INSTRUMENT_AGENCY = """
hammer: carpenter mechanic
saw: carpenter
wrench: plumber mechanic
scalpel: surgeon
drill: dentist carpenter
brush: painter
razor: barber
shovel: gardener farmer
axe: farmer
microscope: scientist
telescope: sailor scientist
camera: photographer tourist
net: fisherman
tractor: farmer
"""

_MESSAGE_TOPIC = """
book: war bird horse flower earthquake
letter: wedding accident party
report: flood fire accident strike
article: festival strike concert fever
essay: war museum poet
poem: rose storm eagle
leaflet: castle museum festival
story: wolf king thief
map: village forest
"""

_CAUSE_EFFECT = """
storm: flood damage delay
fire: smoke panic damage
earthquake: damage panic
flood: damage fever
accident: delay
strike: delay
fever: headache
concert: noise
war: damage fever
"""

_ENTITY_DESTINATION = """
coin: box bag jar
letter: box drawer
apple: basket bag
ring: box drawer
water: bucket bottle
potato: bag barrel
ball: basket
"""


def _pairs(table: str) -> tuple[tuple[str, str], ...]:
    found = []
    for line in table.strip().splitlines():
        first, seconds = line.split(":")
        found += [(first, second) for second in seconds.split()]
    return tuple(found)


PAIRS = {
    "Component-Whole": _pairs(_COMPONENT_WHOLE),
    "Member-Collection": _pairs(_MEMBER_COLLECTION),
    "Content-Container": _pairs(_CONTENT_CONTAINER),
    "Entity-Origin": _pairs(_ENTITY_ORIGIN),
    "Entity-Destination": _pairs(_ENTITY_DESTINATION),
    "Product-Producer": _pairs(_PRODUCT_PRODUCER),
    "Instrument-Agency": _pairs(_INSTRUMENT_AGENCY),
    "Message-Topic": _pairs(_MESSAGE_TOPIC),
    "Cause-Effect": _pairs(_CAUSE_EFFECT),
}
"""Relation -> pairs of nouns (first, second) between which it holds."""
