"""Applying the steps of the language of rows to candidates, from left to right."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.rows.row_language import Condition, Draw, Keep, Step, Where, canonical, quoted
from layerlake.engine.rows.row_values import KINDS, Candidates, Names, Values
from layerlake.engine.rows.seeded_draw import draw, draw_evenly, draw_of_each
from layerlake.store.errors import InvalidInput

STRATA_KEPT = 100
"""Strata whose counts are kept by name; of more only how many there are, and the extremes."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_TRUTHS = {"true": True, "false": False}
_ORDERS = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


@dataclass(frozen=True)
class Chosen:
    """What the steps kept."""

    ids: NDArray[np.int64]
    """(row,) rising."""
    rows: str
    """The steps in their one way of writing."""
    counts: list[dict[str, Any]]
    """For each step: itself, the rows before and after, and counts of strata."""


def choose(steps: tuple[Step, ...], candidates: Candidates, names: Names) -> Chosen:
    """Apply steps to candidates.

    Special pieces are among the rows only where the steps ask for them: by `all`, by `cls`, or by
    a condition on `special`.

    Raises
    ------
    InvalidInput
        A name or value does not fit, or a step leaves nothing.
    """
    ids = candidates.ids
    if not len(ids):
        raise InvalidInput("no word has a piece, so there are no rows; use the unit piece")
    resolved = tuple(_resolve(step, names) for step in steps)
    if candidates.unit == "piece" and not any(map(_asks_for_specials, resolved)):
        ids = ids[~candidates.special(ids)]
    written: list[Step] = []
    counts: list[dict[str, Any]] = []
    for step in resolved:
        before = len(ids)
        about: dict[str, Any] = {}
        if isinstance(step, Where):
            step, ids = _where(step, ids, candidates, names)
        elif isinstance(step, Keep):
            ids = _keep(step.which, ids, candidates)
        else:
            ids, about = _drawn(step, ids, candidates, names)
        written.append(step)
        counts.append({"step": str(step), "of": before, "rows": len(ids), **about})
    return Chosen(ids, canonical(tuple(written)), counts)


def _asks_for_specials(step: Step) -> bool:
    if isinstance(step, Keep):
        return step.which in ("all", "cls")
    return isinstance(step, Where) and any(c.name == "special" for c in step.conditions)


def _resolve(step: Step, names: Names) -> Step:
    """Return a step with its names as they are written shortest."""
    if isinstance(step, Where):
        return Where(
            tuple(Condition(names.canonical(c.name), c.operator, c.values) for c in step.conditions)
        )
    if isinstance(step, Draw) and step.by is not None:
        return Draw(step.kind, step.n, step.seed, names.canonical(step.by))
    return step


def _keep(which: str, ids: NDArray[np.int64], candidates: Candidates) -> NDArray[np.int64]:
    if which == "all":
        return ids
    if which == "cls":
        return _cls(ids, candidates)
    plain = ids[~candidates.special(ids)]
    example = candidates.example(plain)
    edges = np.ones(len(plain), np.bool_)
    if which == "first":
        edges[1:] = example[1:] != example[:-1]
    else:
        edges[:-1] = example[1:] != example[:-1]
    if not len(plain):
        raise InvalidInput(
            f"rows {which!r} keep none of {len(ids):,} {candidates.noun}: all are special"
        )
    return plain[edges]


def _cls(ids: NDArray[np.int64], candidates: Candidates) -> NDArray[np.int64]:
    """Return the special piece that each example begins with."""
    if candidates.unit != "piece":
        raise InvalidInput(f"rows 'cls' are pieces, and {candidates.noun} are asked for; use first")
    begin = ids[(candidates.position(ids) == 0) & candidates.special(ids)]
    example = candidates.example(begin)
    first = np.ones(len(begin), np.bool_)
    first[1:] = example[1:] != example[:-1]
    if not len(begin):
        raise InvalidInput(
            "rows 'cls' keep nothing: none of the pieces left is a special one at the beginning "
            "of an input; use first or last"
        )
    kept: NDArray[np.int64] = begin[first]
    return kept


def _where(
    step: Where, ids: NDArray[np.int64], candidates: Candidates, names: Names
) -> tuple[Where, NDArray[np.int64]]:
    passing = np.ones(len(ids), np.bool_)
    written = []
    found = []
    for condition in step.conditions:
        values = names.values(condition.name, ids)
        typed = _typed(condition, values)
        written.append(typed)
        mask = _holds(typed, values)
        passing &= mask
        found.append((typed, int(mask.sum()), values))
    step = Where(tuple(written))
    if not passing.any():
        raise InvalidInput(_nothing(step, len(ids), candidates.noun, found))
    return step, ids[passing]


def _nothing(step: Where, n: int, noun: str, found: list[tuple[Condition, int, Values]]) -> str:
    """Return the sentence for conditions that no row meets."""
    parts = []
    for condition, count, values in found:
        part = f"{condition} holds for {count:,}"
        if not count and values.kind == "text" and condition.operator == "=":
            there = values.values if values.present is None else values.values[values.present]
            counts = np.bincount(there, minlength=len(values.texts))
            held = [values.texts[i] for i in np.argsort(-counts, kind="stable") if counts[i]]
            close = difflib.get_close_matches(condition.values[0], held, n=3)
            listed = ", ".join(quoted(text) for text in (close or held[:8]))
            part += f" ({'near it' if close else 'there'}: {listed or 'no values'})"
        parts.append(part)
    return f"rows '{step}' select none of {n:,} {noun}: {'; '.join(parts)}"


def _typed(condition: Condition, values: Values) -> Condition:
    """Return a condition with its values as their kind is written, in order and once each."""
    name, operator = condition.name, condition.operator
    if operator in _ORDERS and values.kind in ("text", "truth"):
        raise InvalidInput(
            f"{name!r} is {KINDS[values.kind]}, which {operator} cannot compare; use = or !="
        )
    if values.kind == "text":
        return Condition(name, operator, tuple(sorted(set(condition.values))))
    wrong = InvalidInput(
        f"{name!r} is {KINDS[values.kind]}, and "
        f"{', '.join(repr(v) for v in condition.values)} is not"
    )
    if values.kind == "truth":
        lowered = {value.lower() for value in condition.values}
        if not lowered <= set(_TRUTHS):
            raise wrong
        return Condition(name, operator, tuple(sorted(lowered)))
    pattern = _INTEGER if values.kind == "integer" else _NUMBER
    if not all(pattern.fullmatch(value) for value in condition.values):
        raise wrong
    if values.kind == "integer":
        return Condition(name, operator, tuple(map(str, sorted(set(map(int, condition.values))))))
    numbers = sorted(set(map(float, condition.values)))
    return Condition(name, operator, tuple(map(repr, numbers)))


def _holds(condition: Condition, values: Values) -> NDArray[np.bool_]:
    """Return which rows meet a condition; one without a value meets none."""
    if values.kind == "text":
        place = {text: number for number, text in enumerate(values.texts)}
        wanted: list[Any] = [place[text] for text in condition.values if text in place]
    elif values.kind == "truth":
        wanted = [_TRUTHS[value] for value in condition.values]
    else:
        wanted = [int(v) if values.kind == "integer" else float(v) for v in condition.values]
    if condition.operator in _ORDERS:
        mask: NDArray[np.bool_] = _ORDERS[condition.operator](values.values, wanted[0])
    else:
        mask = np.isin(values.values, np.array(wanted, dtype=None if wanted else np.int64))
        if condition.operator == "!=":
            mask = ~mask
    return mask if values.present is None else mask & values.present


def _drawn(
    step: Draw, ids: NDArray[np.int64], candidates: Candidates, names: Names
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    by = "word" if step.kind == "cap" and step.by is None else step.by
    if by is None:
        _require(step, ids, candidates)
        return ids[draw(ids, step.n, step.seed)], {}
    values = names.values(by, ids)
    if values.present is not None:
        ids = ids[values.present]
        values = Values(values.kind, values.values[values.present], None, values.texts)
    if not len(ids):
        raise InvalidInput(f"rows '{step}' keep nothing: no row has a value of {by!r}")
    if step.kind == "cap":
        return ids[draw_of_each(ids, _groups(values), step.n, step.seed)], {}
    _require(step, ids, candidates)
    places = draw_evenly(ids, _groups(values), step.n, step.seed)
    return ids[places], _strata(values, places)


def _require(step: Draw, ids: NDArray[np.int64], candidates: Candidates) -> None:
    if step.n > len(ids):
        kind = candidates.noun
        if candidates.unit == "piece" and not candidates.special(ids).any():
            kind += " that are not special"
        if step.by is not None:
            kind += f" with a value of {step.by!r}"
        raise InvalidInput(
            f"{step.n} rows asked for, but there are {len(ids)} {kind}; ask for fewer, or for all"
        )


def _groups(values: Values) -> NDArray[np.int64]:
    """Return a number for each distinct value."""
    if values.kind in ("text", "truth"):
        return values.values.astype(np.int64)
    return np.unique(values.values, return_inverse=True)[1].astype(np.int64)


def _strata(values: Values, places: NDArray[np.int64]) -> dict[str, Any]:
    """Return how many rows of each value were drawn, and how many there were."""
    distinct, group, there = np.unique(values.values, return_inverse=True, return_counts=True)
    taken = np.bincount(group[places], minlength=len(distinct))
    if len(distinct) > STRATA_KEPT:
        return {
            "n_strata": len(distinct),
            "fewest": int(taken.min()),
            "most": int(taken.max()),
        }
    spelled = [values.texts[d] if values.kind == "text" else str(d) for d in distinct.tolist()]
    return {
        "strata": {
            name: {"of": int(whole), "rows": int(part)}
            for name, whole, part in zip(spelled, there, taken, strict=True)
        }
    }
