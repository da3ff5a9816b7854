"""The nouns of the grammar, by what they name, and what belongs to what."""

from __future__ import annotations

from dataclasses import dataclass

_KINDS = {
    "person": (
        "doctor nurse teacher farmer baker painter writer poet carpenter tailor singer sailor "
        "pilot judge lawyer guard cook guide coach student thief tourist waiter neighbour "
        "visitor gardener photographer mechanic engineer soldier scientist player actor driver "
        "plumber brewer composer king queen boy girl man woman uncle aunt brother sister surgeon "
        "dentist dancer drummer barber fisherman"
    ),
    "animal": (
        "dog cat horse cow sheep goat fox wolf mouse bird goose hen bear rabbit donkey spaniel "
        "terrier pony kitten eagle owl duck"
    ),
    "food": "bread cake pie soup cheese sausage egg pancake sandwich omelette honey",
    "fruit": "apple pear orange plum cherry lemon peach melon grape",
    "vegetable": "carrot potato onion cabbage pumpkin turnip",
    "drink": "milk water wine juice beer tea coffee cider",
    "plant": "tree flower bush rose tulip oak willow lily hedge",
    "blade": "knife saw axe scalpel razor chisel",
    "tool": "hammer wrench screwdriver shovel drill crowbar",
    "pen": "pen pencil crayon quill",
    "paintbrush": "brush roller",
    "cleaner": "sponge mop towel broom rag",
    "key": "key",
    "cutlery": "fork spoon",
    "lens": "telescope microscope magnifier camera",
    "net": "net trap rope",
    "container": "box bottle basket bag chest jar drawer cup barrel bucket suitcase",
    "vehicle": "car truck bus bicycle boat ship train cart wagon tractor",
    "building": (
        "house library museum hospital school church hotel factory station castle barn shop "
        "restaurant theatre tower cottage chapel"
    ),
    "room": "kitchen cellar attic garage office hall",
    "area": "park garden forest field beach market square valley village harbour meadow",
    "furniture": "table chair bench shelf bed desk cupboard",
    "document": (
        "book letter report novel poem newspaper article map essay diary leaflet story photograph"
    ),
    "clothing": "hat scarf coat glove shirt dress boot jacket",
    "accessory": "umbrella lantern backpack stick",
    "machine": "engine clock printer radio computer lamp pump",
    "music": "guitar violin piano flute drum",
    "valuable": "coin ring necklace jewel watch painting statue vase",
    "opening": "door gate window",
    "disaster": "storm flood fire earthquake accident",
    "occasion": "concert meeting party wedding game festival war strike",
    "group": "team choir crew herd flock gang orchestra class army",
    "company": "company bank council ministry club committee",
    "part": "wheel roof handle page branch wing lid string",
    "ball": "ball kite stone",
    "illness": "fever cough headache",
    "trouble": "damage delay panic smoke noise",
}

_PLURALS = {
    "thief": "thieves",
    "wolf": "wolves",
    "sheep": "sheep",
    "mouse": "mice",
    "goose": "geese",
    "man": "men",
    "fisherman": "fishermen",
    "woman": "women",
    "knife": "knives",
    "shelf": "shelves",
    "potato": "potatoes",
    "person": "people",
}

_MASS = [
    "bread",
    "soup",
    "cheese",
    "honey",
    "milk",
    "water",
    "wine",
    "juice",
    "beer",
    "tea",
    "coffee",
    "cider",
    "damage",
    "panic",
    "smoke",
    "noise",
]

_GENDERS = {
    **dict.fromkeys(["king", "boy", "man", "uncle", "brother", "waiter", "fisherman"], "he"),
    **dict.fromkeys(["queen", "girl", "woman", "aunt", "sister"], "she"),
}

_NARROWER = {
    "surgeon": "doctor",
    "dentist": "doctor",
    "drummer": "musician",
    "composer": "musician",
    "poet": "writer",
    "spaniel": "dog",
    "terrier": "dog",
    "pony": "horse",
    "kitten": "cat",
    "eagle": "bird",
    "owl": "bird",
    "duck": "bird",
    "rose": "flower",
    "tulip": "flower",
    "lily": "flower",
    "oak": "tree",
    "willow": "tree",
    "cottage": "house",
    "chapel": "church",
    "novel": "book",
    "diary": "book",
    "jacket": "coat",
}
"""Noun -> the next wider noun, where it is not the one of its kind."""

_WIDER = {
    "person": "person",
    "animal": "animal",
    "fruit": "fruit",
    "vegetable": "vegetable",
    "plant": "plant",
    "tool": "tool",
    "blade": "tool",
    "container": "container",
    "vehicle": "vehicle",
    "building": "building",
    "room": "room",
    "document": "document",
    "clothing": "garment",
    "machine": "machine",
    "music": "instrument",
}
"""Kind -> the noun that covers all of it."""

_ON = {"beach", "table", "chair", "bench", "shelf", "bed", "desk", "square", "field", "meadow"}
_AT = {
    "station",
    "market",
    "harbour",
    "hospital",
    "concert",
    "meeting",
    "party",
    "wedding",
    "game",
    "festival",
}


@dataclass(frozen=True)
class Noun:
    """A common noun."""

    singular: str
    kind: str
    """What it names; the verbs say which kinds they take."""
    plural: str
    is_mass: bool = False
    gender: str = ""
    """"he", "she", or "" for a noun that does not say."""
    preposition: str = "in"
    """The one that makes it a place."""

    @property
    def wider(self) -> str:
        """The next wider noun, or ""."""
        found = _NARROWER.get(self.singular) or _WIDER.get(self.kind, "")
        return "" if found == self.singular else found


def plural_of(singular: str) -> str:
    """Return the plural of a noun."""
    if singular in _PLURALS:
        return _PLURALS[singular]
    if singular.endswith(("s", "x", "ch", "sh")):
        return singular + "es"
    if singular.endswith("y") and singular[-2] not in "aeou":
        return singular[:-1] + "ies"
    return singular + "s"


def _noun(singular: str, kind: str) -> Noun:
    preposition = "on" if singular in _ON else "at" if singular in _AT else "in"
    return Noun(
        singular,
        kind,
        plural_of(singular),
        singular in _MASS,
        _GENDERS.get(singular, ""),
        preposition,
    )


NOUNS: dict[str, tuple[Noun, ...]] = {
    kind: tuple(_noun(singular, kind) for singular in words.split())
    for kind, words in _KINDS.items()
}
"""Kind -> its nouns."""

_WIDE_KINDS = {"musician": "person", **{wide: kind for kind, wide in _WIDER.items()}}

NOUN: dict[str, Noun] = {
    **{wide: _noun(wide, kind) for wide, kind in _WIDE_KINDS.items()},
    **{noun.singular: noun for nouns in NOUNS.values() for noun in nouns},
}
"""Singular -> the noun; the wide ones are here only."""
