"""The tree is the architecture: imports point left only, and heavy ones wait until they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import layerlake

ROOT = Path(layerlake.__file__).resolve().parent

MAY_IMPORT = {
    "store": {"store"},
    "engine": {"store", "engine"},
    "synthetic": {"store", "engine", "synthetic"},
    "analyses": {"store", "engine", "analyses"},
    "bench": {"store", "engine", "synthetic", "analyses", "bench"},
    "cli": {"store", "engine", "synthetic", "analyses", "bench", "cli"},
}

HEAVY = (
    "cupy",
    "dask",
    "distributed",
    "matplotlib",
    "pandas",
    "tokenizers",
    "torch",
    "transformers",
    "xarray",
)


NEED_TORCH = {"layerlake.store.views.torch_datasets"}
"""Modules that are nothing without torch, and that no other imports before they are used."""


def imported_names(source: str) -> Iterator[str]:
    """Yield every dotted name that a module imports, wherever in it: `a.b` or `a.b:name`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = "." * node.level + (node.module or "")
            yield from (f"{parent}:{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            called = called.id if isinstance(called, ast.Name) else called
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def trespasses(folder: str, source: str) -> list[str]:
    """Return the imports that a module in a folder of the package must not have."""
    found = []
    for name in imported_names(source):
        if name.startswith("."):
            found.append(name)
        parts = name.replace(":", ".").split(".")
        if parts[0] != "layerlake" or parts == ["layerlake", "__version__"]:
            continue
        # The public face loads whatever lies to the right: inside, import from the module itself.
        if len(parts) == 1 or parts[1] not in MAY_IMPORT[folder]:
            found.append(name)
    return found


def modules(folder: str) -> list[Path]:
    """Return the modules in a folder of the package."""
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_left_only(folder: str) -> None:
    assert modules(folder)
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in modules(folder)
        if (found := trespasses(folder, path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")}
    assert folders - {"build", "dist"} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from layerlake.store.errors import InvalidInput", []),
        ("import layerlake.engine.passes.arrays", []),
        ("from layerlake import __version__", []),
        ("import numpy as np", []),
        ("import layerlake.analyses.results.similarity", ["layerlake.analyses.results.similarity"]),
        ("from layerlake import cli", ["layerlake:cli"]),
        ("from layerlake import rsa", ["layerlake:rsa"]),
        ("import layerlake", ["layerlake"]),
        ("from .. import store", ["..:store"]),
        ("def f():\n    from layerlake.cli.main import main", ["layerlake.cli.main:main"]),
        ("importlib.import_module('layerlake.bench.rsa')", ["layerlake.bench.rsa"]),
        ("import_module('layerlake.bench.rsa')", ["layerlake.bench.rsa"]),
    ],
)
def test_the_walk_sees_every_form_of_import(source: str, found: list[str]) -> None:
    assert trespasses("engine", source) == found


def depends_on(graph: dict[str, set[str]], start: str) -> set[str]:
    """Return the modules that one imports, directly or through others."""
    found: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def test_no_imports_of_analyses_make_a_circle() -> None:
    """Neither those that wait for a call, nor those for type checkers alone."""
    paths = {dotted(path): path for path in modules("analyses")}
    graph = {
        name: {
            part
            for one in imported_names(path.read_text(encoding="utf-8"))
            for part in (one.partition(":")[0], one.replace(":", "."))
            if part in paths and part != name
        }
        for name, path in paths.items()
    }
    assert [name for name in graph if name in depends_on(graph, name)] == []


def loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter and return which heavy packages it loaded."""
    look = f"{code}\nimport sys\nprint(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def dotted(path: Path) -> str:
    """Return the name that a module of the package is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("layerlake", *parts)).removesuffix(".__init__")


@pytest.mark.parametrize(
    "code",
    [
        "import layerlake; dir(layerlake); layerlake.LayerLakeError",
        "\n".join(
            f"import {name}"
            for path in modules("store")
            if (name := dotted(path)) not in NEED_TORCH
        ),
        "import layerlake.analyses.finetuning.finetune",
        "import layerlake.cli.main",
        "from layerlake.cli.main import commands; commands(['--help'], standalone_mode=False)",
    ],
    ids=["layerlake", "layerlake.store", "finetune", "layerlake.cli.main", "layerlake --help"],
)
def test_heavy_packages_wait_until_they_are_used(code: str) -> None:
    assert loaded_by(code) == set()


def test_the_look_at_loaded_packages_sees_one() -> None:
    assert "xarray" in loaded_by("import xarray")
