"""The best dependency tree of a sentence from the scores of its arcs.

Chu-Liu/Edmonds on a dense matrix (Tarjan 1977): follow the best heads from a word; where they run
in a cycle, make one node of it, whose arcs from outside are worth what they add to the cycle. A
contraction of k nodes takes O(k n) and leaves k - 1 nodes fewer, so the whole takes O(n^2).

With a single child of ROOT, what is compared are pairs: less the number of children of ROOT, then
the score. The algorithm needs no more than an order and differences, which pairs have, so that one
run finds the best of the trees with the fewest children of ROOT. This is exact, unlike a large
penalty, which costs digits of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput

_LARGEST: Final = 1e300
"""Scores are added and subtracted: beyond this a difference may overflow."""


def tree_problem(heads: Sequence[int] | NDArray[np.integer]) -> str | None:
    """Say in words why heads are no tree with a single child of ROOT; None where they are one.

    `heads` are those of words 1 to n, 0 for ROOT. The words of a cycle are given from the lowest
    one on, each followed by its head.
    """
    heads = [int(head) for head in heads]
    n = len(heads)
    if n == 0:
        return "no word"
    for word, head in enumerate(heads, 1):
        if not 0 <= head <= n:
            return f"head {head} of word {word} (of {n})"
        if head == word:
            return f"word {word} as its own head"
    roots = [word for word, head in enumerate(heads, 1) if head == 0]
    if not roots:
        return "no root"
    if len(roots) > 1:
        count = "two" if len(roots) == 2 else str(len(roots))
        return f"{count} roots (words {', '.join(map(str, roots[:-1]))} and {roots[-1]})"
    cycle = _a_cycle([0, *heads])
    return f"a cycle (words {', '.join(map(str, cycle))})" if cycle else None


def best_heads(scores: NDArray[Any], *, single_root: bool = True) -> NDArray[np.int64]:
    """Return the heads of the tree with the highest total score.

    Parameters
    ----------
    scores
        (n + 1, n + 1): of each arc by [dependent, head]; word 0 is ROOT. Row 0 and the diagonal are
        ignored; an arc of -inf is forbidden. Computed with in float64.
    single_root
        Allow one child of ROOT only.

    Returns
    -------
    ndarray
        (n,): the head of each word from 1 to n, 0 for ROOT. Of arcs into a word, or into a cycle,
        with equal scores the one with the lower head is taken, then the one with the lower
        dependent.

    Raises
    ------
    InvalidInput
        The scores are not square, of no word, NaN or infinite, or allow no such tree.
    """
    arcs = _checked(scores)
    best: NDArray[np.int64] = arcs.argmax(axis=1).astype(np.int64)
    best[0] = 0
    n_roots = np.count_nonzero(best[1:] == 0)
    allowed = np.isfinite(arcs[np.arange(1, len(arcs)), best[1:]]).all()
    # Where the best heads of all words are a tree, none is better.
    if allowed and (n_roots == 1 or not single_root) and _is_rooted(best):
        return best[1:]
    heads = _Contraction(arcs, single_root=single_root).heads()
    n_roots = np.count_nonzero(heads == 0)
    if single_root and n_roots > 1:
        raise InvalidInput(
            f"every tree that the scores of {len(heads)} words allow has at least {n_roots} "
            "children of ROOT, and one is asked for; forbid fewer arcs"
        )
    return heads


def _checked(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return a copy of the scores that holds -inf where no arc may be."""
    arcs = np.array(scores, dtype=np.float64)
    if arcs.ndim != 2 or arcs.shape[0] != arcs.shape[1]:
        raise InvalidInput(
            f"scores of arcs have the shape {arcs.shape}; give one row and one column for ROOT "
            "and each word"
        )
    if len(arcs) < 2:
        raise InvalidInput("scores of arcs are of no word; leave out empty sentences")
    arcs[0] = -np.inf
    np.fill_diagonal(arcs, -np.inf)
    bad = ~((arcs == -np.inf) | (np.abs(arcs) <= _LARGEST))
    if bad.any():
        dependent, head = np.argwhere(bad)[0]
        raise InvalidInput(
            f"the score of word {dependent} with head {head} is {arcs[dependent, head]}; give "
            f"numbers of at most {_LARGEST:g} in size, and -inf for a forbidden arc"
        )
    return arcs


def _a_cycle(heads: Sequence[int]) -> list[int]:
    """Return the words of a cycle, the lowest first, each followed by its head; [] without one.

    `heads` begin with that of ROOT, which is not looked at.
    """
    seen_from = [0] * len(heads)  # the word from which each was reached first
    for start in range(1, len(heads)):
        word = start
        while word and not seen_from[word]:
            seen_from[word] = start
            word = heads[word]
        if word and seen_from[word] == start:
            cycle = [word]
            while heads[cycle[-1]] != word:
                cycle.append(heads[cycle[-1]])
            lowest = cycle.index(min(cycle))
            return cycle[lowest:] + cycle[:lowest]
    return []


def _is_rooted(heads: NDArray[np.int64]) -> bool:
    """Say whether every word leads to ROOT; `heads` begin with that of ROOT, which is 0."""
    ancestors = heads
    for _ in range(len(heads).bit_length()):  # each step doubles how far up one looks
        ancestors = ancestors[ancestors]
    return not ancestors.any()


class _Contraction:
    """One run of Chu-Liu/Edmonds.

    Nodes are ROOT, the words, and cycles that were contracted. A node lives in a slot, a row and a
    column of the matrices; a contracted cycle takes over that of its first node.
    """

    def __init__(self, arcs: NDArray[np.float64], *, single_root: bool) -> None:
        """Take the scores of arcs, -inf on the diagonal and in row 0; they are changed."""
        n = len(arcs)
        self._n = n
        self._score = arcs
        # The first half of the pairs: -1 for an arc from ROOT, -inf for a forbidden one.
        self._rank = np.where(arcs == -np.inf, -np.inf, 0.0)
        if single_root:
            self._rank[:, 0] -= 1
        # The arc between words that an entry stands for, as a number; the lowest wins a tie.
        words = np.arange(n)
        self._arc = words[None, :] * n + words[:, None]
        self._node = list(range(n))  # in each slot
        self._chosen = [0] * n  # of each node, the arc into it
        self._cycle = [-1] * n  # of each node, the contracted cycle that it is part of

    def heads(self) -> NDArray[np.int64]:
        """Return the heads of words 1 to n."""
        n = self._n
        done = [True] + [False] * (n - 1)
        for slot in range(1, n):
            self._lead_to_root(slot, done)
        # The arc into a cycle replaces that into one of its nodes; the last cycle is outermost.
        for cycle in range(len(self._chosen) - 1, n - 1, -1):
            node = self._chosen[cycle] % n
            while self._cycle[node] != cycle:
                node = self._cycle[node]
            self._chosen[node] = self._chosen[cycle]
        heads: NDArray[np.int64] = np.array(self._chosen[1:n], dtype=np.int64) // n
        return heads

    def _lead_to_root(self, slot: int, done: list[bool]) -> None:
        """Choose arcs from a slot up to one that is done, and contract each cycle on the way."""
        path: list[int] = []
        while not done[slot]:
            if slot in path:
                cycle = path[path.index(slot) :]
                del path[-len(cycle) :]
                self._contract(cycle)
                for merged in cycle[1:]:
                    done[merged] = True
            path.append(slot)
            slot = self._choose(slot)
        for passed in path:
            done[passed] = True

    def _choose(self, slot: int) -> int:
        """Choose the best arc into the node of a slot; return the slot that it comes from."""
        head = int(_best(self._rank[slot], self._score[slot], self._arc[slot], axis=0))
        node = self._node[slot]
        if self._rank[slot, head] == -np.inf:
            words = [word for word in range(1, self._n) if self._is_in(word, node)]
            among = f"word {words[0]}" if len(words) == 1 else f"words {words} from outside"
            raise InvalidInput(
                f"the scores allow no tree: every arc into {among} is forbidden (-inf); "
                "allow at least one"
            )
        self._chosen[node] = int(self._arc[slot, head])
        return head

    def _is_in(self, word: int, node: int) -> bool:
        """Say whether a node is the word, or a cycle that holds it."""
        while word not in (node, -1):
            word = self._cycle[word]
        return word == node

    def _contract(self, cycle: list[int]) -> None:
        """Make one node of slots of which each has its chosen arc from the next."""
        new = len(self._chosen)
        self._chosen.append(0)
        self._cycle.append(-1)
        for slot in cycle:
            self._cycle[self._node[slot]] = new
        first = cycle[0]
        self._node[first] = new

        rank, score, arc = self._rank, self._score, self._arc
        heads = [*cycle[1:], first]
        every = np.arange(self._n)
        # Into the cycle an arc counts by what it adds in place of the arc that it replaces.
        rank_in = rank[cycle] - rank[cycle, heads][:, None]
        score_in = score[cycle] - score[cycle, heads][:, None]
        into = _best(rank_in, score_in, arc[cycle], axis=0), every
        row = rank_in[into], score_in[into], arc[cycle][into]
        out = every, _best(rank[:, cycle], score[:, cycle], arc[:, cycle], axis=1)
        column = rank[:, cycle][out], score[:, cycle][out], arc[:, cycle][out]
        for matrix, values in zip((rank, score, arc), row, strict=True):
            matrix[first] = values
        for matrix, values in zip((rank, score, arc), column, strict=True):
            matrix[:, first] = values
        rank[:, cycle[1:]] = -np.inf
        rank[first, first] = -np.inf


def _best(
    rank: NDArray[np.float64], score: NDArray[np.float64], arc: NDArray[np.int64], *, axis: int
) -> NDArray[np.intp]:
    """Return where along an axis rank, then score, is the highest; of ties the lowest arc."""
    best = np.where(rank == rank.max(axis=axis, keepdims=True), score, -np.inf)
    tied = best == best.max(axis=axis, keepdims=True)
    lowest: NDArray[np.intp] = np.where(tied, arc, np.iinfo(np.int64).max).argmin(axis=axis)
    return lowest
