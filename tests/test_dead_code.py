"""What is defined is used: by the package itself, or by people through its documented names."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import layerlake

ROOT = Path(layerlake.__file__).parent
FOLDERS = ("analyses", "bench", "cli", "engine", "store", "synthetic")
DOCUMENTS = (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
DECLARED = (
    "declared as data, and read by name when a measure is asked for (`results.measures.HOMES`)"
)
STREAMED = "probes that train on a stream size their schedules by it, and read their labels by it"
GENERATED = "generated data is there for tests"
ALLOWED = {
    "layerlake.cli.options.KnownChoice.choices": "click reads the choices of an option",
    "layerlake.synthetic.english.generated_corpora.parsing_corpus": GENERATED,
    "layerlake.synthetic.english.writers.write_edge_records": GENERATED,
    "layerlake.synthetic.english.writers.write_ptb": GENERATED,
    "layerlake.engine.streams.example_stream.ExampleStream.label_axes": STREAMED,
    "layerlake.engine.streams.example_stream.ExampleStream.n_batches": STREAMED,
    "layerlake.analyses.results.profile_measures.FAMILIES": DECLARED,
    "layerlake.analyses.results.profile_measures.MEASURES": DECLARED,
    "layerlake.analyses.results.similarity_measures.FAMILIES": DECLARED,
}
"""Definitions that only tests refer to, and why each is there all the same."""
REFERENCE = re.compile(r"[\w.:]+|.*\bfrom [\w.]+ import \w+.*")
"""Strings that name code: `module:name`, a key of a table of functions, a program."""


class Definition(NamedTuple):
    """A name at the top of a module, or a method of a class there."""

    module: str
    owner: str
    name: str
    node: ast.stmt

    def __str__(self) -> str:
        return ".".join(filter(None, self[:3]))


def named(node: ast.AST) -> Counter[str]:
    """Count what code reads: `name`, `.attribute`, and "'word" of strings that name code."""
    found: Counter[str] = Counter()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Store):
            found[part.id] += 1
        elif isinstance(part, ast.Attribute):
            found["." + part.attr] += 1
        elif isinstance(value := getattr(part, "value", None), str) and REFERENCE.fullmatch(value):
            found.update("'" + word for word in re.findall(r"\w+", value))
    return found


def imported(trees: dict[str, ast.Module]) -> Iterator[tuple[str, str]]:
    """Yield the names that modules take from others: by import, or from an imported module."""
    for tree in trees.values():
        modules = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                yield from ((str(node.module), alias.name) for alias in node.names)
                modules |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                yield modules.get(node.value.id, ""), node.attr


def defined(module: str, tree: ast.Module) -> Iterator[Definition]:
    """Yield the definitions of a module, but special names and commands of the command line."""
    for node in tree.body:
        names = []
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = [x for x in ast.walk(node) if isinstance(x, ast.Name)]
            names = [x.id for x in targets if isinstance(x.ctx, ast.Store)]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            is_command = any(".command" in named(decorator) for decorator in node.decorator_list)
            names = [] if is_command else [node.name]
        yield from (Definition(module, "", name, node) for name in names if name[:2] != "__")
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                yield Definition(module, node.name, part.name, part)


def unused(trees: dict[str, ast.Module], documents: str) -> Iterator[Definition]:
    """Yield the definitions that nothing but themselves refers to."""
    names = {module: named(tree) for module, tree in trees.items()}
    everywhere, taken = sum(names.values(), Counter()), set(imported(trees))
    for module, tree in trees.items():
        for found in defined(module, tree):
            own, name = named(found.node), found.name
            if found.owner:
                used = everywhere["." + name] > own["." + name] or f".{name}" in documents
            else:
                inside = own[name] if hasattr(found.node, "body") else 0
                used = names[module][name] > inside or (module, name) in taken
            if not used and not everywhere["'" + name]:
                yield found


def overrides(found: Definition) -> bool:
    """Say whether a method is one that a class of another package calls."""
    bases = getattr(importlib.import_module(found.module), found.owner or "", object).__mro__
    return any(found.name in vars(b) for b in bases if not b.__module__.startswith("layerlake"))


def test_nothing_is_there_for_tests_alone() -> None:
    paths = [ROOT / "__init__.py", *(p for f in FOLDERS for p in sorted((ROOT / f).rglob("*.py")))]
    parts = {path: ("layerlake", *path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    trees = {".".join(parts[path]): ast.parse(path.read_text("utf-8")) for path in paths}
    documents = "\n".join(path.read_text("utf-8") for path in DOCUMENTS)
    assert {str(one) for one in unused(trees, documents) if not overrides(one)} == ALLOWED.keys()


def test_the_search_finds_what_is_dead() -> None:
    source = """
A = B = print(A)
def f(): return f() or TABLE
def g(): pass
TABLE = {"h": "a:g"}
class C(f):
    def m(self): self.m()
    def shown(self): return C
"""
    found = {str(one) for one in unused({"a": ast.parse(source)}, "`x.shown()`")}
    assert found == {"a.B", "a.C", "a.C.m"}
