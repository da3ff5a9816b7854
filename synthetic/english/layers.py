"""The layers of annotation of a sentence, all read off its one derivation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from layerlake.engine.settings import check_seed, whole_number
from layerlake.synthetic.english.derivation import Derivation
from layerlake.synthetic.english.draws import Draws
from layerlake.synthetic.english.proto_roles import proto_roles
from layerlake.synthetic.english.sentences import sentence
from layerlake.synthetic.english.tree import Layout, Node, Phrase, head_word

SHORTEST, LONGEST = 4, 25
"""Words of a sentence, its full stop among them."""


class LabelledSpan(NamedTuple):
    """Words [start, stop) and what they are."""

    start: int
    stop: int
    label: str


class Predicate(NamedTuple):
    """A predicate and the spans that are its arguments."""

    place: int
    """The word, from 0."""
    lemma: str
    arguments: tuple[LabelledSpan, ...]
    """In the order of the sentence; "R-" before a role marks a relative pronoun."""


class ProtoRoles(NamedTuple):
    """What holds of one argument of one predicate."""

    predicate: int
    """The word, from 0."""
    argument: int
    """The word that heads the argument."""
    properties: dict[str, bool]


class Relation(NamedTuple):
    """What two nouns stand in; the first comes first in the text."""

    first: tuple[int, int]
    second: tuple[int, int]
    label: str
    """Such as "Component-Whole(e2,e1)", where the second is the component, or "Other"."""


@dataclass(frozen=True)
class GeneratedSentence:
    """A sentence with all its layers; words are counted from 0 but in `heads`."""

    name: str
    words: tuple[str, ...]
    upos: tuple[str, ...]
    xpos: tuple[str, ...]
    lemma: tuple[str, ...]
    heads: tuple[int, ...]
    """The head of each word, counted from 1; 0 for the root."""
    deprels: tuple[str, ...]
    tree: str
    """Brackets in the manner of the Penn Treebank."""
    entities: tuple[LabelledSpan, ...]
    predicates: tuple[Predicate, ...]
    coreference: tuple[tuple[tuple[int, int], ...], ...]
    """The spans of every thing that is mentioned, those mentioned once among them."""
    proto_roles: tuple[ProtoRoles, ...]
    relation: Relation | None

    @property
    def text(self) -> str:
        """The words with a space between."""
        return " ".join(self.words)


def generate_sentences(n: int, seed: int) -> list[GeneratedSentence]:
    """Generate sentences with all layers.

    Sentence i depends on the seed and on i alone, so fewer sentences begin a list of more. The same
    seed gives the same sentences on every platform and in every version of Python.

    Parameters
    ----------
    n
        How many.
    seed
        From 0 to 2**64 - 1.

    Raises
    ------
    InvalidInput
        Where n or the seed is no such number.
    """
    n = whole_number(n, "the number of sentences", 0)
    seed = check_seed(seed)
    return [_sentence(seed, index) for index in range(n)]


def _sentence(seed: int, index: int) -> GeneratedSentence:
    """Draw until a sentence is neither too short nor too long."""
    attempt = 0
    while True:
        root, notes = sentence(Draws("sentence", seed, index, attempt))
        layout = Layout(root)
        if SHORTEST <= len(layout.words) <= LONGEST:
            return annotated(layout, notes, f"english-{seed}-{index}")
        attempt += 1


def annotated(layout: Layout, notes: Derivation, name: str) -> GeneratedSentence:
    """Return the sentence of a tree, its layers read off the tree and the notes."""
    first = layout.words[0]
    first.form = first.form[0].upper() + first.form[1:]
    words = layout.words
    return GeneratedSentence(
        name,
        tuple(word.form for word in words),
        tuple(word.upos for word in words),
        tuple(word.xpos for word in words),
        tuple(word.lemma for word in words),
        tuple(layout.heads),
        tuple(layout.relations),
        layout.brackets(),
        _entities(layout, notes),
        _predicates(layout, notes),
        _clusters(layout, notes),
        _proto_roles(layout, notes),
        _relation(layout, notes),
    )


def _entities(layout: Layout, notes: Derivation) -> tuple[LabelledSpan, ...]:
    return tuple(sorted(LabelledSpan(*layout.span(node), label) for label, node in notes.entities))


def _predicates(layout: Layout, notes: Derivation) -> tuple[Predicate, ...]:
    found = []
    for frame in notes.frames:
        arguments = sorted(LabelledSpan(*layout.span(node), role) for role, node in frame.arguments)
        place = layout.place(frame.predicate)
        found.append(Predicate(place, frame.predicate.lemma, tuple(arguments)))
    return tuple(sorted(found))


def _clusters(layout: Layout, notes: Derivation) -> tuple[tuple[tuple[int, int], ...], ...]:
    clusters: dict[int, list[tuple[int, int]]] = {}
    for key, node in notes.mentions:
        clusters.setdefault(key, []).append(layout.span(node))
    return tuple(sorted(tuple(sorted(spans)) for spans in clusters.values()))


def _proto_roles(layout: Layout, notes: Derivation) -> tuple[ProtoRoles, ...]:
    found = []
    for frame in notes.frames:
        for slot, node in frame.nodes.items():
            properties = proto_roles(frame.event, slot)
            if properties:
                found.append(
                    ProtoRoles(layout.place(frame.predicate), layout.place(node), properties)
                )
    return tuple(sorted(found, key=lambda pair: pair[:2]))


def _relation(layout: Layout, notes: Derivation) -> Relation | None:
    """Return the relation of two common nouns; one that has a name goes before Other."""
    stated = sorted(notes.relations, key=lambda relation: relation[0] == "Other")
    for name, first, second in stated:
        if all(_is_common(node) for node in (first, second)):
            ends = [layout.span(head_word(node)) for node in (first, second)]
            if name == "Other":
                return Relation(min(ends), max(ends), name)
            direction = "(e1,e2)" if ends[0] < ends[1] else "(e2,e1)"
            return Relation(min(ends), max(ends), name + direction)
    return None


def _is_common(node: Node) -> bool:
    """Say whether a common noun heads a node, and nothing is joined to it."""
    joined = isinstance(node, Phrase) and any(part.relation == "conj" for part in node.parts)
    return head_word(node).upos == "NOUN" and not joined
