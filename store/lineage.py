"""Where variants come from, as their attributes say: whose base is whose, and what made each.

Attributes come from anybody: what is not of the kind that it should be counts as not said, and
variants that are made from each other in a circle stand beside each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

_MOST_CHARACTERS: Final = 60
_MOST_NESTED: Final = 8
"""Mappings in mappings in which a score is looked for."""


def parent_of(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a variant says of its parent; empty where it says nothing."""
    parent = about.get("parent")
    return parent if isinstance(parent, Mapping) else {}


def own_bases(about: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the variant that each other one was made from, where the attributes say.

    That is the one whose weights its `parent` names; else, of random weights and of a model cut
    short, the same source untouched. Among several the first counts. Training that changed no
    weight (of a model all frozen) leaves variants with the weights of their parent; none of them
    is the base.

    Parameters
    ----------
    about
        The attributes of the variants that count, by name.
    """
    by_digest: dict[str, str] = {}
    untouched: dict[tuple[str, str | None], str] = {}
    for name, own in about.items():
        digest = own.get("weights_digest")
        if isinstance(digest, str) and digest != parent_of(own).get("weights_digest"):
            by_digest.setdefault(digest, name)
        source = _source_of(own)
        if source is not None and not _is_copy(own):
            # Of two folders of one name the random twin is rather that of the one not trained.
            kept = untouched.setdefault(source, name)
            if parent_of(about[kept]) and not parent_of(own):
                untouched[source] = name
    bases = {}
    for name, own in about.items():
        digest = parent_of(own).get("weights_digest")
        source = _source_of(own)
        if digest:
            base = by_digest.get(digest) if isinstance(digest, str) else None
        else:
            base = untouched.get(source) if source is not None and _is_copy(own) else None
        if base is not None:
            bases[name] = base
    return bases


def _source_of(about: Mapping[str, Any]) -> tuple[str, str | None] | None:
    source, revision = about.get("source"), about.get("revision")
    known = isinstance(source, str) and isinstance(revision, str | None)
    return (source, revision) if known else None  # type: ignore[return-value]


def _is_copy(about: Mapping[str, Any]) -> bool:
    """Say whether a variant has random weights, or was cut short when it was loaded."""
    return about.get("randomize") is not None or about.get("truncate") is not None


def family_order(names: Sequence[str], bases: Mapping[str, str]) -> list[tuple[str, int]]:
    """Order names so that each follows its base, and say how deep below the top each stands.

    Parameters
    ----------
    names
        Those that are shown; the order among those of one base is kept.
    bases
        The base of each, shown or not; one whose base is not shown stands at the top.

    Returns
    -------
    list of (name, depth)
        Every name once, in a circle of bases too.
    """
    shown = set(names)
    children: dict[str, list[str]] = {}
    tops = []
    for name in names:
        base = bases.get(name)
        if base is None or base not in shown:
            tops.append(name)
        else:
            children.setdefault(base, []).append(name)
    ordered: dict[str, int] = {}
    for top in (*tops, *names):  # after the tops, only those of circles are left
        waiting = [(top, 0)]
        while waiting:
            name, depth = waiting.pop()
            if name not in ordered:
                ordered[name] = depth
                waiting += [(child, depth + 1) for child in reversed(children.get(name, ()))]
    return list(ordered.items())


_NOTHING_FROZEN: Final = -1


def made_by(about: Mapping[str, Any]) -> str:
    """Return what training made a variant, in short; empty where it was not trained.

    Task, seed, what was cut or frozen, and the first score: `mnli, seed 0, accuracy 0.712`. A copy
    that was cut after training has not the scores of the whole.
    """
    training = about.get("training")
    if not isinstance(training, Mapping):
        return ""
    said = [printable(training["task"])] if training.get("task") else []
    if training.get("seed") is not None:
        said.append(f"seed {printable(training['seed'])}")
    recipe = training.get("recipe")
    for key in ("truncate", "freeze"):
        value = training.get(key)
        if value is None and isinstance(recipe, Mapping):
            value = recipe.get(key)
        if value is not None and value != _NOTHING_FROZEN:
            said.append(f"{key} {printable(value)}")
    if not _is_copy(about):
        said += _first_score(training.get("scores"))
    return ", ".join(said)


def _first_score(scores: Any) -> Iterable[str]:
    """Yield the first number among scores with its name, however they are nested."""
    for _ in range(_MOST_NESTED):
        if not isinstance(scores, Mapping) or not scores:
            return
        for name, value in scores.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                with contextlib.suppress(OverflowError):  # a whole number may be of any size
                    yield f"{printable(name)} {value:.3g}"
                return
        scores = next((inner for inner in scores.values() if isinstance(inner, Mapping)), None)


def called(parent: Mapping[str, Any]) -> str:
    """Return the name that a variant gives its parent."""
    name = printable(parent.get("source") or "a model without a name")
    random = parent.get("randomize")
    return name if random is None else f"{name} with random weights, seed {printable(random)}"


def printable(value: Any) -> str:
    """Return a value as a short text that does nothing to a terminal."""
    text = str(value)
    short = text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."
    return "".join(character if character.isprintable() else "?" for character in short)
