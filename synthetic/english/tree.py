"""Derivation trees: phrases and words, from which spans, heads and brackets are read off.

A phrase names the part that heads it and says of every other part in which relation it stands to
that head. So one tree is both the constituents and the dependencies, and they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HEAD = "head"
"""The relation of the part that heads its phrase."""


@dataclass(eq=False, slots=True)
class Word:
    """A word; the same form twice is two words."""

    form: str
    lemma: str
    upos: str
    xpos: str


@dataclass(eq=False, slots=True)
class Part:
    """A child of a phrase."""

    relation: str
    """Its dependency relation, or `HEAD`."""
    node: Node
    target: Node | None = None
    """The sister whose head it depends on; None for the one that heads the phrase."""


@dataclass(eq=False, slots=True)
class Phrase:
    """A constituent."""

    label: str
    parts: tuple[Part, ...]

    @property
    def head(self) -> Word:
        """The word that heads the phrase."""
        node: Node = self
        while isinstance(node, Phrase):
            node = next(part.node for part in node.parts if part.relation == HEAD)
        return node


Node = Word | Phrase


def phrase(label: str, *parts: tuple[str, Node] | tuple[str, Node, Node] | None) -> Phrase:
    """Build a phrase of (relation, node) or (relation, node, sister); None leaves a part out."""
    built = tuple(Part(*part) for part in parts if part is not None)
    if sum(part.relation == HEAD for part in built) != 1:
        raise ValueError(f"a {label} needs one part that heads it")
    return Phrase(label, built)


def head_word(node: Node) -> Word:
    """Return the word that heads a node."""
    return node.head if isinstance(node, Phrase) else node


class Layout:
    """A finished tree with its words in their order."""

    def __init__(self, root: Phrase) -> None:
        """Number the words and phrases below a root."""
        self.root = root
        self.words: list[Word] = []
        self.phrases: list[Phrase] = []
        self._spans: dict[int, tuple[int, int]] = {}
        self._number(root)
        self.heads, self.relations = self._dependencies()

    def _number(self, node: Node) -> None:
        start = len(self.words)
        if isinstance(node, Word):
            self.words.append(node)
        else:
            self.phrases.append(node)
            for part in node.parts:
                self._number(part.node)
        if id(node) in self._spans:
            raise ValueError("a node stands in the tree twice")
        self._spans[id(node)] = (start, len(self.words))

    def span(self, node: Node) -> tuple[int, int]:
        """Return the words [start, stop) of a node of the tree."""
        return self._spans[id(node)]

    def place(self, node: Node) -> int:
        """Return the place of the word that heads a node."""
        return self._spans[id(head_word(node))][0]

    def _dependencies(self) -> tuple[list[int], list[str]]:
        """Return the heads (from 1; 0 for the root) and the relations of all words."""
        heads = [0] * len(self.words)
        relations = ["root"] * len(self.words)
        for above in self.phrases:
            for part in above.parts:
                if part.relation != HEAD:
                    word = self.place(part.node)
                    heads[word] = self.place(part.target or above) + 1
                    relations[word] = part.relation
        return heads, relations

    def brackets(self) -> str:
        """Return the constituents in the manner of the Penn Treebank, on one line."""
        return "".join(_brackets(self.root))


def _brackets(node: Node) -> Iterator[str]:
    if isinstance(node, Word):
        yield f"({node.xpos} {node.form})"
        return
    yield f"({node.label}"
    for part in node.parts:
        yield " "
        yield from _brackets(part.node)
    yield ")"
