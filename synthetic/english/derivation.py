"""What a derivation notes while it puts meaning into words: who fills which role, what is named.

Every note points at nodes of the tree, so that its spans follow from the tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from layerlake.synthetic.english.meaning import Event
from layerlake.synthetic.english.tree import Node, Word


@dataclass(eq=False)
class Frame:
    """A predicate and its arguments."""

    event: Event
    predicate: Word
    arguments: list[tuple[str, Node]] = field(default_factory=list)
    """(role, node), such as ("ARG0", ...) or ("R-ARG0", ...)."""
    nodes: dict[str, Node] = field(default_factory=dict)
    """Slot of the event -> its node."""


@dataclass
class Derivation:
    """The notes on one sentence."""

    frames: list[Frame] = field(default_factory=list)
    entities: list[tuple[str, Node]] = field(default_factory=list)
    """(label, node)."""
    mentions: list[tuple[int, Node]] = field(default_factory=list)
    """(key of the referent, node)."""
    relations: list[tuple[str, Node, Node]] = field(default_factory=list)
    """(relation, its first argument, its second), as nodes whose heads are marked."""
