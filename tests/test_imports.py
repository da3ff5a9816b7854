"""The tree is the architecture: imports point left only, and heavy ones wait until they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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


SHARED = ("statistics", "results", "questions", "runs", "trees")
"""Rooms of `analyses` that every analysis stands on."""
MUST_NOT_IMPORT = {room: {"similarity", "finetuning", "profiles"} for room in SHARED} | {
    "similarity": {"finetuning", "profiles"},
    "finetuning": {"similarity", "profiles"},
    "profiles": {"similarity", "finetuning"},
}
"""Rooms of `analyses`, and those that they know nothing of."""
MOST_MODULES = 24
"""Of a folder: beyond that it is a hall, in which a room is missing."""


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


@pytest.mark.parametrize("room", MUST_NOT_IMPORT)
def test_what_analyses_share_knows_no_analysis(room: str) -> None:
    assert modules(f"analyses/{room}")
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in modules(f"analyses/{room}")
        for name in imported_names(path.read_text(encoding="utf-8"))
        if name.replace(":", ".").split(".")[:2] == ["layerlake", "analyses"]
        and {*name.replace(":", ".").split(".")[2:3]} & MUST_NOT_IMPORT[room]
    ]
    assert wrong == []


def test_no_folder_is_a_hall() -> None:
    counted = Counter(
        str(path.parent.relative_to(ROOT))
        for folder in MAY_IMPORT
        for path in modules(folder)
        if path.name != "__init__.py"
    )
    assert {folder: count for folder, count in counted.items() if count > MOST_MODULES} == {}


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


ASK = """
import sys
import layerlake as ll

lake = ll.open_lake(sys.argv[1], mode="r+")
opened = set(sys.modules)
ll.{question}(lake, progress=ll.silent)
found = [sys.modules[name] for name in sys.modules if name.startswith("layerlake")]
rooms = [one for one in found if not one.__file__.endswith("__init__.py")]
print(len(found), len([one for one in rooms if one.__name__ not in opened]))
print("scipy" in sys.modules)
print(*(one.__name__ for one in found))
"""


def asked_of(lake: Path, question: str) -> tuple[int, int, bool, str]:
    """Ask in a fresh interpreter; count our modules, all of them and those the question added."""
    program = [sys.executable, "-c", ASK.format(question=question), str(lake)]
    done = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    loaded, added = done[0].split()
    return int(loaded), int(added), done[1] == "True", done[2]


def test_a_first_answer_loads_what_it_needs_and_a_kept_one_little(lake_with: Any) -> None:
    rng = np.random.default_rng(0)
    spaces = {name: [rng.standard_normal((900, 8)).astype("float32")] for name in ("base", "other")}
    folder = Path(lake_with("wiki", spaces, np.full(300, 3)).location.name)
    loaded, _added, _scipy, names = asked_of(folder, "rsa")
    assert loaded <= 90
    for room in ("corpora", "tokenization", "extraction", "models"):
        assert f"layerlake.engine.{room}" not in names
    _loaded, added, scipy, _names = asked_of(folder, "rsa")
    assert added <= 20
    assert not scipy
    asked_of(folder, "profile")
    _loaded, added, scipy, _names = asked_of(folder, "profile")
    assert added <= 20
    assert not scipy
