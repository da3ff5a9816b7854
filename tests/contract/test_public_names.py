"""Public names with their parameters, and the classes that public functions return.

Recorded in `public_names.json`: names, kinds, order and defaults of parameters, fields, methods and
properties; no annotations and no modules, which may change. `conftest.py` says how to record anew.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerlake as ll

KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional or keyword",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.KEYWORD_ONLY: "keyword only",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def text_of(value: Any) -> str:
    """Return a default as text without modules and addresses."""
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    return re.sub(r" at 0x[0-9a-f]+|\blayerlake(\.\w+)+\.", "", repr(value))


def parameters_of(function: Any) -> list[str]:
    """Return a line for each parameter: its name, its kind and its default."""
    lines = []
    for name, parameter in inspect.signature(function).parameters.items():
        line = f"{name}, {KINDS[parameter.kind]}"
        if parameter.default is not inspect.Parameter.empty:
            line += f", default {text_of(parameter.default)}"
        lines.append(line)
    return lines


def is_ours(kind: type) -> bool:
    """Say whether a class is of this package."""
    return kind.__module__.split(".")[0] == "layerlake"


PROTOCOLS = ("__call__", "__enter__", "__exit__", "__getitem__", "__iter__", "__len__")


def members_of(kind: type) -> dict[str, Any]:
    """Return methods and properties of a class, our bases included, by name."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items() if is_ours(base) else ():
            if name.startswith("_") and name not in PROTOCOLS:
                continue
            if isinstance(value, property | cached_property):
                found[name] = "property"
            elif isinstance(value, classmethod | staticmethod):
                found[name] = {type(value).__name__: parameters_of(getattr(kind, name))}
            elif inspect.isfunction(value):
                found[name] = parameters_of(value)
    return found


def field_line(field: dataclasses.Field[Any]) -> str:
    """Return a field of a dataclass as text."""
    if field.default is not dataclasses.MISSING:
        return f"{field.name}, default {text_of(field.default)}"
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.name}, default {text_of(field.default_factory)}()"
    return field.name


def class_of(value: Any) -> dict[str, Any]:
    """Describe the class of an object, and the attributes that the object has beside."""
    kind = type(value)
    about: dict[str, Any] = {"members": members_of(kind)}
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    if fields:
        about["fields"] = [field_line(field) for field in fields]
    names = {field.name for field in fields}
    attributes = sorted(
        name
        for name in getattr(value, "__dict__", {})
        if not name.startswith("_") and name not in names | about["members"].keys()
    )
    if attributes:
        about["attributes"] = attributes
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        about["fields"] = list(value._fields)
    return about


def errors_below(kind: type, found: dict[str, Any]) -> dict[str, Any]:
    """Describe the tree of errors: what each refines, beside ours, and what it is called."""
    bases = [base.__name__ for base in kind.__bases__]
    found[kind.__name__] = {"bases": bases, "kind": getattr(kind, "kind", None)}
    for below in kind.__subclasses__():
        errors_below(below, found)
    return found


def test_functions_and_errors(as_recorded: Callable[[str, Any], None]) -> None:
    found: dict[str, Any] = {}
    for name in ll.__all__:
        value = getattr(ll, name)
        if inspect.isclass(value) or not callable(value):
            found[name] = "class" if inspect.isclass(value) else type(value).__name__
        else:
            found[name] = parameters_of(value)
    found["LayerLakeError"] = errors_below(ll.LayerLakeError, {})
    as_recorded("public_names", found)


def test_classes_of_lakes_and_results(
    stored: Path,
    as_recorded: Callable[[str, Any], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = ll.open_lake(stored / "lake")
    rows = lake.space("shore", "base", 2, unit="piece")
    first = rows.rows(slice(None)).astype(np.float64)
    second = first[:, ::-1] ** 2
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("a gull\na seal\n")
    np.save("two.npy", np.zeros((2, 3), np.float32))
    corpus = ll.read_corpus("lines.txt")
    new = ll.open_lake("lake", "a")
    ll.add_corpus(new, "lines", corpus)
    events: list[Any] = []
    told = ll.to_function(events.append)
    taken: dict[str, Any] = {"unit": "example", "layers": 1, "progress": told}
    own = {"corpus": "shore", "reference": "own", "variants": ["tag-s0", "tag-s1"]}
    array_profile = ll.profile_array(first)
    alone = ll.compare_arrays(first, second, measure="rsa,cka")
    values = {
        "Corpus": corpus,
        "Lake": lake,
        "Space": rows,
        "a set": lake.sets("shore", "base")[0],
        "layout of a set": rows.layout,
        "plan of a set": rows.state.plan,
        "writer": new.writer("lines", "theirs", unit="example", layers=[0]),
        "compare, rsa": ll.rsa(lake, **own),
        "plan_compare": ll.plan_compare(lake, **own),
        "profile": ll.profile(lake, "shore", rows="all"),
        "verify": ll.verify(lake, "corpora/claims", progress=ll.silent),
        "import_activations": ll.import_activations(new, "two.npy", "lines", "theirs", **taken),
        "progress event": events[0],
        "compare_arrays": alone,
        "a value of compare_arrays": alone["r_all"],
        "counts of compare_arrays": alone.counts,
        "profile_array": array_profile,
        "spectrum of profile_array": array_profile.spectrum,
        "norms of profile_array": array_profile.norms,
        "profile_space": ll.profile_space(rows),
    }
    as_recorded("classes", {name: class_of(value) for name, value in values.items()})


def test_classes_of_models_and_runs(
    stored: Path,
    unpack: Callable[[str, Path], None],
    as_recorded: Callable[[str, Any], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    unpack("runs", tmp_path)
    monkeypatch.chdir(tmp_path)
    run = json.loads(Path("runs.json").read_text("utf-8"))["run"]
    lake, space = ll.open_lake("lake", "a"), ll.open_lake(stored / "lake").space("shore", "base", 2)
    how: dict[str, Any] = {"device": "cpu", "progress": ll.silent}
    with pytest.raises(ll.LayerLakeError) as failed:
        ll.finetune_many([run | {"out": "tag-s0", "seed": 1}], progress=ll.silent)
    error: Any = failed.value
    values = {
        "extract": ll.extract(lake, "tiny", "shore.conllu", dry_run=True, **how),
        "evaluate": ll.evaluate("tag-s0", "shore.conllu", **how),
        "finetune_many": ll.finetune_many([run | {"out": "tag-s0"}], progress=ll.silent)[0],
        "error of finetune_many": error,
        "failure of finetune_many": error.failures[0],
        "Space.to_torch": space.to_torch(),
        "Space.to_torch_stream": space.to_torch_stream(),
    }
    as_recorded("classes_with_torch", {name: class_of(value) for name, value in values.items()})
