"""The public face: what `import layerlake` offers, and that it is all there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import layerlake


def names_for_type_checkers() -> dict[str, str]:
    """Return the names that `__init__.py` imports under TYPE_CHECKING, with their modules."""
    tree = ast.parse(Path(layerlake.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_all_is_sorted() -> None:
    assert layerlake.__all__ == sorted(set(layerlake.__all__))


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    assert names_for_type_checkers() == layerlake._HOMES
    assert sorted({*layerlake._HOMES, "__version__"}) == layerlake.__all__


@pytest.mark.parametrize("name", sorted(layerlake._HOMES))
def test_every_name_can_be_imported_and_lives_where_it_says(name: str) -> None:
    value = getattr(layerlake, name)
    assert value.__name__ == name
    assert value.__module__.startswith(layerlake._HOMES[name])
    assert value.__doc__


def test_a_star_import_gives_exactly_the_names() -> None:
    namespace: dict[str, object] = {}
    exec("from layerlake import *", namespace)  # noqa: S102
    assert sorted(namespace.keys() - {"__builtins__"}) == layerlake.__all__


def test_dir_lists_every_name() -> None:
    assert set(layerlake.__all__) <= set(dir(layerlake))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'layerlake' has no attribute 'open_lak'"):
        layerlake.open_lak  # noqa: B018
