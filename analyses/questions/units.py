"""What a row is where nobody says: pieces of one tokenizer, or words that several share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from layerlake.engine.settings import parse_layers
from layerlake.store.errors import InvalidInput
from layerlake.store.sets import SetState

_MOST_LAYERS = 100_000

States = Mapping[str, Sequence[SetState]]
"""The sets of every variant over a corpus."""


@dataclass(frozen=True)
class Unit:
    """What a row is, and of which variants."""

    name: str
    """`piece`, `word` or `example`."""
    variants: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Which variants were left out, or why rows are words."""
    cut: str | None = None
    """The tokenization of pieces; None where it does not matter."""

    def of(self, states: States) -> dict[str, list[SetState]]:
        """Return the sets that count, of the variants that do."""
        return {
            name: [
                state
                for state in states[name]
                if self.cut is None
                or state.plan.contents["unit"] != "piece"
                or cut_of(state) == self.cut
            ]
            for name in self.variants
        }


def anchor_of(groups: Sequence[Sequence[str]], states: States) -> str:
    """Return the variant whose tokenizer counts: the first of the group that was there first.

    A group is what can be answered about alone, a variant and its reference say. So a variant that
    comes to a lake never takes the place of one that was there, whatever its name.
    """
    return min(groups, key=lambda names: max(_begun(states[name]) for name in names))[0]


def _begun(states: Iterable[SetState]) -> float:
    """Return when the first of some sets was begun; of none, never."""
    return min((state.begun for state in states), default=math.inf)


def cut_of(state: SetState) -> str:
    """Return the fingerprint of the tokenization that the rows of a set are pieces of."""
    return str(state.plan.contents.get("tokenization"))


def unit_of(
    corpus: str,
    states: States,
    site: str,
    *,
    anchor: str,
    named: bool,
    enough: Callable[[States], bool],
    command: str,
    only_pieces: bool = False,
) -> Unit:
    """Return what a row is where nobody says.

    Parameters
    ----------
    corpus, states, site
        What is asked about; `states` has the variants in order.
    anchor
        The variant whose tokenizer counts (`anchor_of`).
    named
        Whether people named the variants: then none is left out.
    enough
        Whether some of the sets of pieces are enough to answer the question.
    command
        What people typed, for notes.
    only_pieces
        Whether people said that rows are pieces: then they never are words.

    Returns
    -------
    Unit
        Pieces, where the anchor and the variants named share a tokenizer. Variants that were not
        named and do not are left out, unless too few are left. Else words. Where the anchor has no
        pieces, the only unit that it has.

    Raises
    ------
    InvalidInput
        The anchor has no pieces, and rows of several other units.
    """
    names = tuple(states)
    units = sorted({str(state.plan.contents["unit"]) for state in states[anchor]})
    if "piece" not in units and not only_pieces:
        if len(units) > 1:
            raise InvalidInput(
                f"{anchor} over {corpus} has rows of the units {', '.join(units)}; choose one with "
                "--unit"
            )
        return Unit(units[0] if units else "piece", names)
    pieces = {name: _with(own, site, "piece") for name, own in states.items()}
    if not pieces[anchor]:
        return Unit("piece", names)
    cut = _cut_of_anchor(pieces, anchor, enough, named=named)
    alike = Unit("piece", names, cut=cut).of(pieces)
    strangers = [name for name in names if pieces[name] and not alike[name]]
    without = [name for name in names if not pieces[name] and _with(states[name], site, "word")]
    kin = tuple(name for name in names if name not in strangers)
    others: list[str] = []
    if only_pieces and (named or not enough(alike)):
        return Unit("piece", names)
    if named or not enough(alike):
        others = [*strangers, *without]
    elif strangers:
        note = (
            f"{', '.join(strangers)}: left out, having another tokenizer or packing than {anchor}; "
            f"words are the same rows: {command} --unit word"
        )
        return Unit("piece", kin, (note,), cut)
    if not others:
        return Unit("piece", names, (), cut)
    listed = ", ".join(others)
    why = (
        f"{listed} and {anchor} have different tokenizers or packings"
        if strangers
        else f"{listed} over {corpus} has no pieces"
    )
    note = f"words are compared, not pieces, since {why}; --unit word is the same"
    return Unit("word", names, (note,))


def _cut_of_anchor(
    pieces: States, anchor: str, enough: Callable[[States], bool], *, named: bool
) -> str:
    """Return the tokenization of pieces that are read, one that the anchor has.

    Of several it is the one that was enough first, so that no set that comes to a lake changes what
    is read; of variants that were named, the one that most share.
    """
    by_cut: dict[str, dict[str, list[SetState]]] = {}
    for name, own in pieces.items():
        for state in own:
            by_cut.setdefault(cut_of(state), {}).setdefault(name, []).append(state)

    def rank(cut: str) -> tuple[int, bool, bool, float, int, int, str]:
        """Order tokenizations; the least is taken. Those that are not complete come last."""
        sealed = {n: [s for s in own if s.sealed] for n, own in by_cut[cut].items()}
        sealed = {name: own for name, own in sealed.items() if own}
        since = None
        for when in sorted({_begun(own) for own in sealed.values()}):
            there = {name: own if _begun(own) <= when else [] for name, own in sealed.items()}
            if enough({name: there.get(name, []) for name in pieces}):
                since = when
                break
        most = max((s.plan.layout.n_rows for s in sealed.get(anchor, ())), default=0)
        shared = len(sealed)
        first = math.inf if since is None else since
        return -shared * named, since is None, not most, first, -shared, -most, cut

    return min((cut for cut, own in by_cut.items() if anchor in own), key=rank)


def _with(states: Sequence[SetState], site: str, unit: str) -> list[SetState]:
    """Return the sets that have rows of a unit at a site."""
    return [s for s in states if s.plan.contents["unit"] == unit and _layers(s, site)]


def _layers(state: SetState, site: str) -> set[int]:
    """Return the layers of a set at a site."""
    parts = (array.rpartition("/") for array in state.plan.arrays)
    return {int(layer) for where, _, layer in parts if where == site}


def layers_left(
    states: States, site: str, layers: str | int | Iterable[int] | None = None
) -> dict[str, set[int]]:
    """Return the layers of pieces that variants have at a site, of those asked for."""
    wanted = None if layers is None else {*parse_layers(layers, _MOST_LAYERS)}
    held = {
        name: {n for state in _with(own, site, "piece") for n in _layers(state, site)}
        for name, own in states.items()
    }
    return held if wanted is None else {name: own & wanted for name, own in held.items()}


def layers_lost(
    unit: Unit, states: States, site: str, layers: str | int | Iterable[int] | None
) -> list[str]:
    """Say which layers are not read, as only sets of another tokenization have them."""
    if unit.name != "piece":
        return []
    asked = {name: states[name] for name in unit.variants}
    every, kept = (layers_left(some, site, layers) for some in (asked, unit.of(states)))
    return [
        f"{name}: layers {', '.join(map(str, sorted(own - kept[name])))} left out, whose pieces are "
        "cut or packed otherwise; ask for them alone with --layers"
        for name, own in every.items()
        if own - kept[name]
    ]
