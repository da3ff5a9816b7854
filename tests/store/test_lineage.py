"""Bases, families and what made a variant, from attributes of anybody."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlake.store.lineage import called, family_order, made_by, own_bases, printable


def variant(digest: str, **about: Any) -> dict[str, Any]:
    """Return the attributes of a variant."""
    plain = {"source": "bert", "revision": "r1", "randomize": None, "truncate": None}
    return {**plain, "weights_digest": digest, **about}


PARENT = {"weights_digest": "b", "source": "bert"}
LAKE = {
    "all-frozen": variant("b", source="out/f", parent=PARENT, training={"seed": 0}),
    "all-frozen-too": variant("b", source="out/f2", parent=PARENT, training={"seed": 1}),
    "base": variant("b"),
    "base-again": variant("b"),
    "cut": variant("c", truncate=3),
    "noise": variant("n", randomize=1),
    "noisy-run": variant("r", source="out/r", parent={"weights_digest": "n", "source": "bert"}),
    "orphan": variant("o", parent={"weights_digest": "gone", "source": "roberta"}),
    "run": variant("m", source="out/m", parent=PARENT),
    "run-cut": variant("m3", source="out/m", parent=PARENT, truncate=3),
    "run-noise": variant("n2", source="out/m", revision=None, randomize=1),
    "stranger": variant("s", source="gpt"),
    "brought": {"source": "brought"},
}


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("all-frozen", "base"),
        ("all-frozen-too", "base"),
        ("base", None),
        ("base-again", None),
        ("cut", "base"),
        ("noise", "base"),
        ("noisy-run", "noise"),
        ("orphan", None),
        ("run", "base"),
        ("run-cut", "base"),
        ("run-noise", None),
        ("stranger", None),
        ("brought", None),
    ],
)
def test_each_has_its_own_base(name: str, base: str | None) -> None:
    assert own_bases(LAKE).get(name) == base


def test_a_twin_is_of_the_untrained_folder_of_its_name() -> None:
    trained = variant("m", parent=PARENT, training={"seed": 0})
    lake = {"a-run": trained, "base": variant("b"), "noise": variant("n", randomize=0)}
    assert own_bases(lake) == {"a-run": "base", "noise": "base"}
    del lake["base"]
    assert own_bases(lake) == {"noise": "a-run"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.floats() | st.sampled_from("abc"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["weights_digest", "source", "seed", "task", "dev"]), inner, max_size=4
        )
    ),
    max_leaves=6,
)
attributes = st.dictionaries(
    st.sampled_from(
        ["weights_digest", "source", "revision", "parent", "training", "randomize", "truncate"]
    ),
    anything | st.fixed_dictionaries({"weights_digest": st.sampled_from("abc")}),
)


@given(st.dictionaries(st.sampled_from("uvwxyz"), attributes))
def test_whatever_is_said_all_are_shown_once(lake: dict[str, dict[str, Any]]) -> None:
    bases = own_bases(lake)
    for name, base in bases.items():
        assert base in lake
        assert base != name
    ordered = family_order(list(lake), bases)
    assert sorted(name for name, _ in ordered) == sorted(lake)
    depths = dict(ordered)
    assert all(depth == 0 or depth == depths[bases[name]] + 1 for name, depth in ordered)
    assert all(isinstance(made_by(about), str) for about in lake.values())


def test_families_stand_together() -> None:
    bases = {"b": "z", "a": "b", "c": "b", "d": "z", "e": "hidden", "hidden": "z"}
    order = family_order(["a", "b", "c", "d", "e", "y", "z"], bases)
    assert order == [("e", 0), ("y", 0), ("z", 0), ("b", 1), ("a", 2), ("c", 2), ("d", 1)]


def test_a_circle_is_shown_once_round() -> None:
    circle = {str(i): str((i + 1) % 3) for i in range(3)}
    assert family_order(["0", "1", "2", "top"], circle) == [
        ("top", 0),
        ("0", 0),
        ("2", 1),
        ("1", 2),
    ]


def test_a_chain_of_thousands_is_followed() -> None:
    names = [f"{i:05}" for i in range(20_000)]
    order = family_order(names, dict(zip(names[1:], names[:-1], strict=True)))
    assert order[-1] == (names[-1], len(names) - 1)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({}, ""),
        ({"training": "mnli"}, ""),
        ({"training": {"task": "mnli", "seed": 0}}, "mnli, seed 0"),
        (
            {"training": {"task": "mnli", "seed": 0, "scores": {"dev": {"accuracy": 0.71249}}}},
            "mnli, seed 0, accuracy 0.712",
        ),
        (
            {"training": {"task": "dep", "seed": 1, "scores": {"LAS": 81.23, "UAS": 85}}},
            "dep, seed 1, LAS 81.2",
        ),
        (
            {"training": {"task": "dep", "truncate": 6, "recipe": {"freeze": 0, "truncate": 9}}},
            "dep, truncate 6, freeze 0",
        ),
        ({"training": {"task": "t", "scores": {"f1": 1}}, "truncate": 2}, "t"),
        ({"training": {"task": "t", "scores": {"f1": 10**400}}}, "t"),
        ({"training": {"task": "t", "scores": {"good": True, "dev": [1]}}}, "t"),
        ({"training": {"task": "a\x1b[2J\n" + "x" * 99}}, "a?[2J?" + "x" * 51 + "..."),
    ],
)
def test_what_made_a_variant_is_said_in_short(about: dict[str, Any], said: str) -> None:
    assert made_by(about) == said


def test_a_parent_is_called_by_its_source() -> None:
    assert called({"source": "bert", "randomize": None}) == "bert"
    assert called({"source": "bert", "randomize": 3}) == "bert with random weights, seed 3"
    assert called({"weights_digest": "b"}) == "a model without a name"


def test_no_text_reaches_the_terminal_as_a_command() -> None:
    assert printable("\x1b]0;x\x07 ü\u202e") == "?]0;x? ü?"
