"""Seeds, as the lake tells them; trained models are each compared with their own base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerlake as ll
from layerlake.analyses.questions.seed_groups import seed_groups


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


def test_seeds_are_grouped():
    assert seed_groups(LAKE, LAKE) == {
        "noise-s*": ["noise-s0", "noise-s1"],
        "run-a and 1 more": ["run-a", "run-b"],
        "brought-s*": ["brought-s0", "brought-s1"],
    }
    assert seed_groups(LAKE, ["noise-s0", "run-a", "base"]) == {}


def test_what_a_run_noted_of_itself_parts_no_seeds():
    runs = {
        f"run-{seed}": trained(f"m{seed}", seed)
        | {
            "training": {
                "task": "mnli",
                "seed": seed,
                "recipe": {"learning_rate": 5e-5, "freeze": 2},
                "truncate": 3,
                "scores": {"dev": {"accuracy": seed / 10}},
                "versions": {"torch": f"2.{seed}", "machine": f"node{seed}"},
                "finished": f"2026-01-0{seed + 1}T00:00:00Z",
            }
        }
        for seed in range(3)
    }
    assert seed_groups(runs, runs) == {"run-0 and 2 more": list(runs)}
    runs["run-2"]["training"]["recipe"]["freeze"] = 1
    assert seed_groups(runs, runs) == {"run-0 and 1 more": ["run-0", "run-1"]}
    runs["run-1"]["parent"] = {"weights_digest": "another", "source": "bert"}
    assert seed_groups(runs, runs) == {}


def rsa_of(lake: ll.Lake, one: str, other: str, layer: int) -> float:
    """Return the RSA of two variants over all pairs of all rows, by numpy."""
    shared = []
    for name in (one, other):
        rows = lake.space("shore", name, layer).rows(slice(None)).astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        shared.append((rows @ rows.T)[np.triu_indices(len(rows), 1)])
    return float(np.corrcoef(*shared)[0, 1])


def test_trained_models_are_compared_each_with_its_own_base(
    small_bert: Path, perturbed: Callable[..., Path], tmp_path: Path
) -> None:
    lake = ll.open_lake(tmp_path / "lake", "a")
    texts = ["Gulls cry over the harbour.", "The tide turns at noon.", "Nobody minds the rain."]
    bases = {"a": small_bert, "b": perturbed(small_bert, tmp_path / "other-start", 99)}
    (bases["b"] / "layerlake.json").unlink()  # another pre-training, of which nothing is known
    for start, base in bases.items():
        ll.extract(lake, base, texts, corpus_name="shore", variant=f"base-{start}")
        for seed in (0, 1):
            folder = perturbed(base, tmp_path / f"mnli-{start}-s{seed}", seed)
            ll.extract(lake, folder, texts, corpus_name="shore")
    shown = [line.partition("  24 pieces")[0] for line in lake.summary().splitlines()[3:]]
    assert [line.rstrip() for line in shown] == [
        "  base-a", "    mnli-a-s0", "    mnli-a-s1", "  base-b", "    mnli-b-s0", "    mnli-b-s1",
    ]  # fmt: skip
    own: dict[str, Any] = {"reference": "own", "rows": "all", "interval": "none", "specials": True}
    result = ll.rsa(lake, "shore", seeds=True, **own)
    alone = [r for r in result.records if r["n_seeds"] == 1 and r["measure"] == "r_all"]
    found = {(r["variant"], r["layer"]): (r["reference"], r["value"]) for r in alone}
    assert len(found) == 4 * 4
    for (name, layer), (reference, value) in found.items():
        assert reference == f"base-{name.split('-')[1]}"
        assert value == pytest.approx(rsa_of(lake, reference, name, layer), abs=1e-6)
    means = [r for r in result.records if r["n_seeds"] == 2 and r["measure"] == "r_all"]
    assert {(r["reference"], r["variant"]) for r in means} == {
        ("base-a", "mnli-a-s*"),
        ("base-b", "mnli-b-s*"),
    }
    for mean in means:
        seeds = [found[mean["variant"].replace("*", str(s)), mean["layer"]][1] for s in (0, 1)]
        assert min(seeds) < mean["value"] < max(seeds)
