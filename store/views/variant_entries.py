"""The variants of a lake as entries of a list: what each is, and which it stands under."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerlake.store.errors import LayerLakeError
from layerlake.store.lineage import (
    called,
    family_order,
    made_by,
    own_bases,
    parent_of,
    printable,
)

if TYPE_CHECKING:
    from layerlake.store.lake import Lake


@dataclass(frozen=True)
class VariantEntry:
    """A variant in a list."""

    name: str
    about: str
    """Its architecture and size, or what is wrong with it."""
    lineage: tuple[str, ...] = ()
    """How it came about: `mnli, seed 0, accuracy 0.712`, `random weights, seed 0`, its twin."""
    base: str | None = None
    """The variant of the lake that it was made from."""
    origin: str | None = None
    """What a trained variant was made from, to be said where it does not stand under it."""
    training: Mapping[str, Any] | None = None
    """The attribute of that name."""


def attributes_or_problem(lake: Lake, path: str) -> tuple[dict[str, Any], str | None]:
    """Return the attributes of a node, or what is wrong with it."""
    try:
        return lake.attributes(path), None
    except LookupError:
        return {}, "not in the lake"
    except LayerLakeError:
        return {}, "damaged"


def variant_entries(
    lake: Lake, names: Sequence[str], *, every: bool = True
) -> tuple[VariantEntry, ...]:
    """Say what variants are, each after the one that it was made from; damage is said, not raised.

    Parameters
    ----------
    lake
        Where they are.
    names
        Their names; the order among those of one base is kept.
    every
        Whether there are no others. Else a parent that is not among them may be in the lake.
    """
    found = {name: attributes_or_problem(lake, f"variants/{name}") for name in names}
    about = {name: attributes for name, (attributes, _) in found.items()}
    bases = own_bases(about)
    # One that cannot be read may be the parent of any.
    every = every and not any(problem for _, problem in found.values())
    twins: dict[str, str] = {}
    return tuple(
        _entry(name, about[name], found[name][1], bases.get(name), twins, every=every)
        for name, _ in family_order(names, bases)
    )


def _entry(
    name: str,
    about: Mapping[str, Any],
    problem: str | None,
    base: str | None,
    twins: dict[str, str],
    *,
    every: bool,
) -> VariantEntry:
    """Say what a variant is; `twins` remembers the first variant of each weights digest."""
    training = about.get("training")
    trained = isinstance(training, Mapping)
    lineage = [made_by(about)] if made_by(about) else []
    origin = None
    parent = parent_of(about)
    absent = ", which is not here" if every and base is None else ""
    if parent.get("source") and not trained:
        lineage.append(f"adapter on {called(parent)}{absent}")
    elif parent:
        origin = f"made from {base or called(parent)}{absent}"
    known = about.get("architecture") == "brought from elsewhere"  # which is said already
    if about.get("source") == "brought" and not known:
        lineage.append("brought from elsewhere")
    if about.get("randomize") is not None:
        lineage.append(f"random weights, seed {printable(about['randomize'])}")
    if about.get("truncate") is not None:
        lineage.append(f"first {printable(about['truncate'])} blocks")
    if about.get("revision"):
        lineage.append(f"revision {printable(about['revision'])[:12]}")
    digest = about.get("weights_digest")
    if digest:
        twin = twins.setdefault(str(digest), name)
        if twin != name:
            lineage.append(f"the same weights as {twin}")
    return VariantEntry(
        name,
        problem or _size_text(about),
        tuple(lineage),
        base,
        origin,
        training if trained else None,
    )


def _size_text(about: Mapping[str, Any]) -> str:
    hidden = printable(about.get("hidden"))
    said = [printable(about["architecture"])] if about.get("architecture") else []
    if isinstance(about.get("layers"), list) and about.get("hidden") is not None:
        # Brought activations: how many layers their model has is not known.
        said.append(f"layers {', '.join(map(printable, about['layers']))} of {hidden}")
    elif about.get("n_layers") is not None and about.get("hidden") is not None:
        said.append(f"{printable(about['n_layers'])} layers of {hidden}")
    return ", ".join(said)


def nested(entries: Iterable[VariantEntry]) -> Iterator[tuple[VariantEntry, int, tuple[str, ...]]]:
    """Yield the entries that are shown, each under its base where that is shown too.

    Yields
    ------
    (entry, depth, lineage)
        How deep it stands, and how it came about as far as that place does not say it.
    """
    by_name = {entry.name: entry for entry in entries}
    bases = {name: entry.base for name, entry in by_name.items() if entry.base is not None}
    for name, depth in family_order(list(by_name), bases):
        entry = by_name[name]
        origin = (entry.origin,) if entry.origin and not depth else ()
        yield entry, depth, (*entry.lineage, *origin)
