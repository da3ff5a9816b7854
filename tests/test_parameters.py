"""Choices are values: functions of many parameters are public doors alone, each of them named."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import layerlake

ROOT = Path(layerlake.__file__).resolve().parent
FOLDERS = ("analyses", "bench", "cli", "engine", "store", "synthetic")
MOST = 10

DOORS = {
    "analyses.finetuning.evaluate.evaluate",
    "analyses.finetuning.finetune.finetune",
    "analyses.profiles.profile.profile",
    "analyses.similarity.comparing.compare.compare",
    "analyses.similarity.comparing.compare_arrays.compare_arrays",
    "engine.extraction.extract.extract",
    "engine.importing.import_activations",
    "store.lake.Lake.writer",
    "store.space.Space.to_torch_stream",
}


def wide_functions(source: str) -> Iterator[str]:
    """Yield the functions of a module with more than `MOST` parameters, as `Class.name` in one."""
    within: list[tuple[str, ast.AST]] = [("", ast.parse(source))]
    while within:
        place, parent = within.pop()
        for node in ast.iter_child_nodes(parent):
            inner = place
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = f"{place}{node.name}."
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([one for one in given if one.arg not in ("self", "cls")]) > MOST:
                    yield inner.removesuffix(".")
            within.append((inner, node))


def test_only_public_doors_have_many_parameters() -> None:
    found = {
        ".".join((*path.relative_to(ROOT).with_suffix("").parts, name))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for name in wide_functions(path.read_text(encoding="utf-8"))
    }
    assert found == DOORS


MANY = ", ".join(f"p{number}" for number in range(MOST))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"def f({MANY}): ...", []),
        (f"def f({MANY}, *, one): ...", ["f"]),
        (f"def f({MANY}, /, one): ...", ["f"]),
        (f"class A:\n    def f(self, {MANY}): ...", []),
        (f"class A:\n    async def f(self, {MANY}, one=0): ...", ["A.f"]),
        (f"def f():\n    if f:\n        def g({MANY}, one): ...", ["f.g"]),
    ],
)
def test_the_count_is_of_parameters_that_are_given(source: str, found: list[str]) -> None:
    assert list(wide_functions(source)) == found
