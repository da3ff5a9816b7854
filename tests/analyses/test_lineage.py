"""Bases and seeds, as the lake tells them."""

import pytest

from layerlake.analyses.similarity.lineage import own_base, seed_groups


def variant(digest: str, **about: object) -> dict[str, object]:
    """Return the attributes of a variant."""
    plain = {"source": "bert", "revision": "r1", "randomize": None, "truncate": None}
    return {**plain, "weights_digest": digest, **about}


def trained(digest: str, seed: int, data: str = "mnli") -> dict[str, object]:
    """Return the attributes of a variant that was trained."""
    training = {"task": data, "seed": seed, "scores": {"accuracy": seed / 10}}
    return variant(digest, source=f"out/{digest}", parent=PARENT, training=training)


PARENT = {"weights_digest": "b", "source": "bert"}
LAKE = {
    "base": variant("b"),
    "again": variant("b"),
    "noise-s0": variant("n0", randomize=0),
    "noise-s1": variant("n1", randomize=1),
    "short-noise": variant("n2", randomize=0, truncate=3),
    "cut": variant("c", truncate=3),
    "run-a": trained("m0", 0),
    "run-b": trained("m1", 1),
    "run-a-again": trained("m0", 0),
    "run-cut": trained("m2", 2) | {"truncate": 3},
    "squad-s0": trained("q0", 0, "squad"),
    "orphan": variant("o", parent={"weights_digest": "gone", "source": "roberta"}),
    "stranger": variant("s", source="gpt"),
    "brought-s0": {"source": "brought"},
    "brought-s1": {"source": "brought"},
}


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("run-a", "base"),
        ("noise-s1", "base"),
        ("cut", "base"),
        ("base", None),
        ("orphan", None),
        ("stranger", None),
        ("brought-s0", None),
    ],
)
def test_own_base(name, base):
    assert own_base(LAKE, name) == base


def test_seeds_are_grouped():
    assert seed_groups(LAKE, LAKE) == {
        "noise-s*": ["noise-s0", "noise-s1"],
        "run-a and 1 more": ["run-a", "run-b"],
        "brought-s*": ["brought-s0", "brought-s1"],
    }
    assert seed_groups(LAKE, ["noise-s0", "run-a", "base"]) == {}
