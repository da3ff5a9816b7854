"""The language of rows: what people write to say which pieces, words or examples are kept.

    rows      = step { ";" step }                           applied from left to right
    step      = "all" | "first" | "last" | "cls" | "no-sink"
              | "where" condition { ( "and" | "," ) condition }
              | "cap:" K [ "@" SEED ] [ "by" NAME ]
              | "sample:" N [ "@" SEED ] [ "by" NAME ]
    condition = NAME ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value { "|" value }

A NAME or value is any run of characters but white space and ; , | = ! < > " or else text in double
quotes, where \\" and \\\\ stand for the two characters. What they mean is for `row_values` to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from layerlake.engine.settings import check_seed
from layerlake.store.errors import InvalidInput, is_a

EXAMPLES = "all, last, sample:5000@0, or where upos=NOUN; cap:20; sample:5000 by label"

_TOKEN = re.compile(
    r"""\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<operator><=|>=|!=|=|<|>)|(?P<mark>[;,|])"""
    r"""|(?P<bare>[^\s;,|=<>!"]+))"""
)
_PLAIN = re.compile(r"""[^\s;,|=<>!"]+""")
_DRAW = re.compile(r"(cap|sample):([0-9]{1,18})(?:@([0-9]{1,20}))?")


@dataclass(frozen=True)
class Condition:
    """One condition on a row: its value of a name stands so to one of the values."""

    name: str
    operator: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{quoted(self.name)}{self.operator}{'|'.join(map(quoted, self.values))}"


@dataclass(frozen=True)
class Where:
    """Keep the rows that pass every condition."""

    conditions: tuple[Condition, ...]

    def __str__(self) -> str:
        return f"where {' and '.join(map(str, self.conditions))}"


@dataclass(frozen=True)
class Keep:
    """Keep `all` rows, the `first` or the `last` of each example, or its `cls` piece."""

    which: str

    def __str__(self) -> str:
        return self.which


@dataclass(frozen=True)
class Draw:
    """A seeded draw: a `sample` of n rows, or a `cap` of n rows of each value of a name."""

    kind: str
    n: int
    seed: int
    by: str | None

    def __str__(self) -> str:
        tail = "" if self.by is None else f" by {quoted(self.by)}"
        return f"{self.kind}:{self.n}@{self.seed}{tail}"


Step = Where | Keep | Draw

NO_SINK = Where((Condition("position", ">", ("0",)),))
"""What `no-sink` stands for: rows but for the first position, where attention sinks."""


def quoted(text: str) -> str:
    """Return a name or value as the language writes it."""
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def canonical(steps: tuple[Step, ...]) -> str:
    """Return the one way to write steps."""
    return "; ".join(map(str, steps))


def parse_rows(rows: str) -> tuple[Step, ...]:
    """Return the steps that a text asks for; neighbouring `where` are one.

    Raises
    ------
    InvalidInput
        The text cannot be read; the sentence says where, and what was expected there.
    """
    if not is_a(rows, str):
        raise InvalidInput(f"rows {rows!r} cannot be read; write {EXAMPLES}")
    parser = _Parser(rows)
    steps: list[Step] = []
    while True:
        step = parser.step(first=not steps)
        if isinstance(step, Where) and steps and isinstance(steps[-1], Where):
            step = Where((*steps.pop().conditions, *step.conditions))  # type: ignore[union-attr]
        steps.append(step)
        if parser.at_end:
            return tuple(steps)
        parser.take_mark(";", "the end, or ; and another step")


class _Parser:
    """Reads one text from left to right."""

    def __init__(self, rows: str) -> None:
        self.rows = rows
        self.place = 0

    @property
    def at_end(self) -> bool:
        return not self.rows[self.place :].strip()

    def _peek(self) -> re.Match[str] | None:
        return _TOKEN.match(self.rows, self.place)

    def _fail(self, expected: str) -> NoReturn:
        rest = self.rows[self.place :].strip()
        where = f"at {rest[:30]!r}" if rest else "at its end"
        raise InvalidInput(
            f"rows {self.rows!r} cannot be read {where}, where {expected} was expected; "
            f"write {EXAMPLES}"
        )

    def _word(self, expected: str) -> str:
        """Take a name or a value, quoted or not."""
        token = self._peek()
        if token is None or (token["quoted"] is None and token["bare"] is None):
            self._fail(expected)
        self.place = token.end()
        if token["quoted"] is not None:
            return re.sub(r"\\(.)", r"\1", token["quoted"], flags=re.DOTALL)
        return token["bare"]

    def _keyword(self, *words: str) -> bool:
        """Take one of some words if it comes next."""
        token = self._peek()
        if token is None or token["bare"] not in words:
            return False
        self.place = token.end()
        return True

    def take_mark(self, mark: str, expected: str) -> None:
        token = self._peek()
        if token is None or token["mark"] != mark:
            self._fail(expected)
        self.place = token.end()

    def _next_is(self, mark: str) -> bool:
        token = self._peek()
        if token is None or token["mark"] != mark:
            return False
        self.place = token.end()
        return True

    def step(self, *, first: bool) -> Step:
        if self._keyword("where"):
            conditions = [self._condition()]
            while self._keyword("and") or self._next_is(","):
                conditions.append(self._condition())
            return Where(tuple(conditions))
        if self._keyword("no-sink"):
            return NO_SINK
        token = self._peek()
        bare = token["bare"] if token else None
        if token is None or bare is None:
            self._fail("a step")
        if bare == "all" and not first:
            raise InvalidInput(
                f"rows {self.rows!r} say all after another step, which then would do nothing; "
                "write all first, or leave it out"
            )
        if bare in ("all", "first", "last", "cls"):
            self.place = token.end()
            return Keep(bare)
        match = _DRAW.fullmatch(bare)
        if not match:
            self._fail("all, first, last, cls, no-sink, where, cap:K or sample:N[@SEED]")
        self.place = token.end()
        kind, n, seed = match[1], int(match[2]), int(match[3] or 0)
        if n < 1:
            raise InvalidInput(f"rows {self.rows!r} asks for {n} rows; ask for 1 or more")
        check_seed(seed)
        by = self._word("the name after by") if self._keyword("by") else None
        return Draw(kind, n, seed, None if (kind, by) == ("cap", "word") else by)

    def _condition(self) -> Condition:
        name = self._word("a name")
        token = self._peek()
        if token is None or token["operator"] is None:
            self._fail("one of = != < <= > >=")
        self.place = token.end()
        values = [self._word("a value")]
        while self._next_is("|"):
            values.append(self._word("a value"))
        if len(values) > 1 and token["operator"] not in ("=", "!="):
            raise InvalidInput(
                f"rows {self.rows!r} compare by {token['operator']} with {len(values)} values; "
                "give one, or use = or !="
            )
        return Condition(name, token["operator"], tuple(values))
