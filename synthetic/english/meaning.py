"""What sentences are about: things, times, and what happens to them when.

The meaning of a sentence is built first and put into words afterwards, so that one meaning can be
said in several ways: active or passive, as a question, with a part left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from layerlake.synthetic.english.names import Adjective, Name
from layerlake.synthetic.english.nouns import Noun
from layerlake.synthetic.english.verbs import Verb


@dataclass(eq=False)
class Referent:
    """Somebody or something; the same `key` twice is the same one."""

    key: int
    kind: str
    noun: Noun | None = None
    name: Name | None = None
    gender: str = "it"
    """"he", "she" or "it"; drawn where the noun does not say."""
    is_plural: bool = False
    article: str = "the"
    """Also "no", "some", "every"; "" for none."""
    number: str = ""
    """A number word, such as "three"."""
    adjectives: tuple[Adjective, ...] = ()
    compound: str = ""
    """A noun right before the noun, such as "kitchen" in "kitchen table"."""
    owner: Referent | None = None
    owner_relation: str = ""
    """What it stands in to its owner, as the first argument; "" for nothing that has a name."""
    link: Link | None = None
    relative: Event | None = None
    """What the relative clause tells of it; `relative_slot` says where it stands in that."""
    relative_slot: str = "agent"
    apposition: Referent | None = None
    conjuncts: tuple[Referent, ...] = ()
    """What it consists of, for "the king and the queen"."""
    conjunction: str = "and"
    as_pronoun: bool = False

    @property
    def pronoun(self) -> str:
        """The pronoun for it as a subject."""
        return "they" if self.is_plural else self.gender

    @property
    def is_person(self) -> bool:
        """Whether it is a person, or people."""
        return self.kind == "person"


@dataclass(eq=False)
class Link:
    """A noun phrase that follows a noun: "of the car", "with a hat", "from Paris"."""

    preposition: str
    other: Referent
    relation: str = ""
    """What the two stand in; "" for nothing that has a name."""
    is_reversed: bool = False
    """Whether the other is the first argument of the relation."""


@dataclass(frozen=True)
class Time:
    """When something happened."""

    words: tuple[str, ...]
    """As they are written, the last of them the head."""
    label: str
    """The label of the entity."""
    preposition: str = ""
    tense: str = "past"
    """The tense that it goes with; "any" for all."""


@dataclass(eq=False)
class Place:
    """Where something happened."""

    preposition: str
    where: Referent


@dataclass(eq=False)
class Event:
    """Something that happens, or holds."""

    verb: Verb
    agent: Referent | None = None
    patient: Referent | None = None
    third: Referent | None = None
    instrument: Referent | None = None
    place: Place | None = None
    time: Time | None = None
    manner: str = ""
    infinitive: Event | None = None
    """What its subject (or its object, if it has one) does, for "wanted to leave"."""
    content: Event | State | None = None
    """What is said or thought."""
    tense: str = "past"
    """"past", "present", or a modal verb such as "will"."""
    aspect: str = "simple"
    """"simple", "progressive" or "perfect"."""
    is_negated: bool = False
    is_contracted: bool = False
    """Whether the negation is written n't."""
    is_passive: bool = False
    is_shifted: bool = False
    """Whether the third comes bare before the object."""
    fronted: str = ""
    """The slot that opens the sentence: "time", "place", "third" or none."""

    def but(self, **slots: Any) -> Event:
        """Return it with other slots."""
        return replace(self, **slots)

    @property
    def subject_slot(self) -> str:
        """The slot of its subject."""
        return "patient" if self.is_passive else "agent"

    @property
    def subject(self) -> Referent | None:
        """The referent that is its subject."""
        return self.patient if self.is_passive else self.agent


@dataclass(eq=False)
class State:
    """Something that is so: a thing has a property, is of a kind, or is somewhere."""

    subject: Referent
    adjective: Adjective | None = None
    than: Referent | None = None
    """What it is compared with; the adjective then stands in the comparative."""
    kind: Referent | None = None
    place: Place | None = None
    tense: str = "past"
    is_negated: bool = False
    is_contracted: bool = False
    time: Time | None = None
    fronted: str = ""


Situation = Event | State
