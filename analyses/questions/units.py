"""What a row is where nobody says: pieces of one tokenizer, or words that several share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from layerlake.engine.settings import parse_layers
from layerlake.store.errors import InvalidInput
from layerlake.store.identity import short
from layerlake.store.lake import Lake
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
    row_sets: frozenset[str] | None = None
    """Of pieces, those of one tokenization; None where it does not matter."""

    def of(self, states: States) -> dict[str, list[SetState]]:
        """Return the sets that count, of the variants that do."""
        return {
            name: [
                state
                for state in states[name]
                if self.row_sets is None
                or state.plan.contents["unit"] != "piece"
                or state.plan.contents["row_set"] in self.row_sets
            ]
            for name in self.variants
        }


def anchor_of(names: Sequence[str], states: States, reference: str | None = None) -> str:
    """Return the variant whose tokenizer counts: the reference, `base`, or the first extracted.

    So a variant that comes to a lake never takes the place of one that was there.
    """
    if reference is not None:
        return reference
    if "base" in names:
        return "base"

    def begun(name: str) -> str:
        return min((str(s.plan.about.get("begun", "")) for s in states[name]), default="~")

    return min(names, key=begun)


class Tokenizations:
    """Which tokenization the pieces of a row set are of, each looked up once."""

    def __init__(self, lake: Lake, corpus: str) -> None:
        """Take the lake and the corpus; nothing is read."""
        self._lake, self._place = lake, f"corpora/{corpus}/rows"
        self._known: dict[str, str | None] = {}

    def of(self, row_set: str) -> str | None:
        """Return the tokenization of a row set by its fingerprint; None for other rows."""
        if row_set not in self._known:
            about = self._lake.attributes(f"{self._place}/{short(row_set)}")
            self._known[row_set] = about["settings"].get("tokenization")
        return self._known[row_set]


def unit_of(
    lake: Lake,
    corpus: str,
    states: States,
    site: str,
    *,
    anchor: str,
    named: bool,
    enough: Callable[[Sequence[str]], bool],
    command: str,
) -> Unit:
    """Return what a row is where nobody says.

    Parameters
    ----------
    lake, corpus, states, site
        What is asked about; `states` has the variants in order.
    anchor
        The variant whose tokenizer counts (`anchor_of`).
    named
        Whether people named the variants: then none is left out.
    enough
        Whether some of the variants are enough to answer the question.
    command
        What people typed, for notes.

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
    if "piece" not in units:
        if len(units) > 1:
            raise InvalidInput(
                f"{anchor} over {corpus} has rows of the units {', '.join(units)}; choose one with "
                "--unit"
            )
        return Unit(units[0] if units else "piece", names)
    cuts, alike = _cuts(lake, corpus, states, site, anchor)
    if not cuts[anchor]:
        return Unit("piece", names)
    strangers = [name for name in names if cuts[name] and not cuts[name] & alike]
    without = [name for name in names if not cuts[name] and _with(states[name], site, "word")]
    kin = tuple(name for name in names if name not in strangers)
    others: list[str] = []
    if named or not enough([name for name in kin if name not in without]):
        others = [*strangers, *without]
    elif strangers:
        note = (
            f"{', '.join(strangers)}: left out, having another tokenizer than {anchor}; words are "
            f"the same rows: {command} --unit word"
        )
        return Unit("piece", kin, (note,), alike)
    if not others:
        return Unit("piece", names, (), alike)
    listed = ", ".join(others)
    why = (
        f"{listed} and {anchor} have different tokenizers"
        if strangers
        else f"{listed} over {corpus} has no pieces"
    )
    note = f"words are compared, not pieces, since {why}; --unit word is the same"
    return Unit("word", names, (note,))


def _cuts(
    lake: Lake, corpus: str, states: States, site: str, anchor: str
) -> tuple[dict[str, set[str]], frozenset[str]]:
    """Return the row sets of the pieces of every variant, and all those of one tokenization.

    It is the tokenization of the anchor's that most variants share, of those the one with most
    rows.
    """
    tokenizations = Tokenizations(lake, corpus)
    pieces = {name: _with(own, site, "piece") for name, own in states.items()}
    cuts = {name: {str(s.plan.contents["row_set"]) for s in own} for name, own in pieces.items()}
    of = {row_set: tokenizations.of(row_set) for own in cuts.values() for row_set in own}
    ranks: dict[str, tuple[int, int]] = {}
    for state in pieces[anchor]:
        one = of[str(state.plan.contents["row_set"])]
        shared = sum(any(of[row_set] == one for row_set in own) for own in cuts.values())
        ranks[str(one)] = max(ranks.get(str(one), (0, 0)), (shared, state.plan.layout.n_rows))
    best = max(ranks, key=lambda one: (ranks[one], one), default=None)
    return cuts, frozenset(row_set for row_set, one in of.items() if str(one) == best)


def _with(states: Sequence[SetState], site: str, unit: str) -> list[SetState]:
    """Return the sets that have rows of a unit at a site."""
    return [s for s in states if s.plan.contents["unit"] == unit and _layers(s, site)]


def _layers(state: SetState, site: str) -> set[int]:
    """Return the layers of a set at a site."""
    parts = (array.rpartition("/") for array in state.plan.arrays)
    return {int(layer) for where, _, layer in parts if where == site}


def spaces_left(
    states: States, site: str, layers: str | int | Iterable[int] | None, names: Sequence[str]
) -> int:
    """Count the spaces of pieces that some variants have at a site, of the layers asked for."""
    count = 0
    for name in names:
        numbers: set[int] = set().union(
            *(_layers(state, site) for state in _with(states[name], site, "piece"))
        )
        count += len(numbers if layers is None else numbers & {*parse_layers(layers, _MOST_LAYERS)})
    return count
