"""What `ls` says of kept results: by their class, and of others by their settings."""

import importlib
from typing import Any

import pytest

from layerlake.analyses.results.kept import KINDS, described

ASKED = {"variants": ["twin", "cut"], "corpus": "wiki", "rows": None}


@pytest.mark.parametrize(
    ("analysis", "settings", "line"),
    [
        ("profile", ASKED, "twin, cut over wiki, rows by default"),
        (
            "rsa",
            {**ASKED, "reference": "base", "kernel": "cosine", "measures": ["rsa"], "rows": 50},
            "twin, cut against base over wiki, cosine, rows 50",
        ),
        (
            "similarity",
            {**ASKED, "all_pairs": True, "measures": ["cka", "cca"]},
            "twin, cut in all pairs over wiki, cka, cca, rows by default",
        ),
        ("rsa", {"corpora": ["wiki"]}, "rsa result: corpora wiki"),
        ("rsa", None, "rsa result"),
        (
            "hypnosis",
            {"task": "sleep", "depth": 3, "deep": {"er": 1}, "none": None, "seeds": [0, 1]},
            "hypnosis result: task sleep, depth 3, seeds 0, 1",
        ),
        ("hypnosis", {"name": "x" * 200}, f"hypnosis result: name {'x' * 52}..."),
        (
            "hypnosis",
            {"name": "two\nlines"},
            "hypnosis result: name two?lines",
        ),
        ("hypnosis", ["odd"], "hypnosis result"),
    ],
)
def test_results_of_any_class_are_described(analysis: str, settings: Any, line: str) -> None:
    assert described(analysis, settings) == line


def test_no_two_classes_are_kept_in_one_folder() -> None:
    folders = [
        folder
        for module, name in KINDS.items()
        for folder in getattr(
            importlib.import_module(f"layerlake.analyses.results.{module}"), name
        ).analyses
    ]
    assert sorted(folders) == sorted(set(folders))
