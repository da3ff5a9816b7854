"""Small made-up examples of every task, cut into pieces for the small random BERT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.finetuning.recipes import Recipe, make_recipe
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.analyses.finetuning.tasks.task import Examples, Task
from layerlake.engine.corpora import read_corpus
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts, string_array
from layerlake.engine.corpora.objects import corpus_of_object

WORDS = (
    "the",
    "cat",
    "sat",
    "quietly",
    "on",
    "unbelievable",
    "mats",
    ",",
    "nobody",
    "'s",
    "barked",
)
RELATIONS = ("det", "nsubj", "obl", "punct")

SMALL: dict[str, dict[str, Any]] = {
    "classify": {"length": 24, "pool": "first"},
    "tag": {},
    "dep": {"arc_width": 12, "label_width": 7},
    "squad": {"length": 28, "stride": 7, "question_length": 6},
}
"""Recipes of the four kinds of head that suit so small a model."""


@dataclass(frozen=True)
class Made:
    """A task with examples."""

    task: Task
    recipe: Recipe
    inventory: dict[str, Any]
    examples: Examples


def random_words(generator: np.random.Generator, most: int) -> list[str]:
    """Return 1 to `most` words."""
    return generator.choice(WORDS, generator.integers(1, most + 1)).tolist()


def random_heads(generator: np.random.Generator, n: int) -> list[int]:
    """Return the heads of a random tree of n words with one root."""
    order = generator.permutation(n) + 1
    heads = [0] * n
    for place in range(1, n):
        heads[order[place] - 1] = int(order[generator.integers(place)])
    return heads


def conllu_text(generator: np.random.Generator, n: int, most: int = 9) -> str:
    """Return n sentences of random words and random trees."""
    lines = []
    for number in range(n):
        words = random_words(generator, most)
        lines.append(f"# sent_id = s{number}")
        for place, (word, head) in enumerate(
            zip(words, random_heads(generator, len(words)), strict=True), start=1
        ):
            relation = "root" if head == 0 else str(generator.choice(RELATIONS))
            upos = "PUNCT" if word == "," else "X"
            lines.append(f"{place}\t{word}\t_\t{upos}\t_\t_\t{head}\t{relation}\t_\t_")
        lines.append("")
    return "\n".join(lines) + "\n"


def squad_rows(generator: np.random.Generator, n: int, most: int = 30) -> list[dict[str, Any]]:
    """Return n questions about passages of random words, each answered by some of these."""
    rows = []
    for number in range(n):
        words = random_words(generator, most)
        first = int(generator.integers(len(words)))
        last = min(len(words), first + int(generator.integers(1, 4)))
        text = " ".join(words[first:last])
        start = len(" ".join([*words[:first], ""]))
        answers = {"text": [text], "answer_start": [start]}
        question = " ".join(random_words(generator, 9)) + " ?"
        rows.append(
            {
                "id": f"q{number}",
                "question": question,
                "context": " ".join(words),
                "answers": answers,
            }
        )
    return rows


def made_corpus(name: str, n: int, folder: Path, seed: int = 0) -> Corpus:
    """Return n random examples of a task."""
    generator = np.random.default_rng(seed)
    if name == "squad":
        return corpus_of_object(squad_rows(generator, n), "squad")[1]
    if name in ("dep", "tag"):
        file = folder / f"{name}-{n}-{seed}.conllu"
        file.write_text(conllu_text(generator, n), encoding="utf-8")
        corpus = read_corpus(file)
        labels = generator.choice(["B", "I", "O"], corpus.n_words).tolist()
        annotations = {**corpus.annotations, "labels": string_array(labels)}
        return replace(corpus, annotations=annotations)
    texts = [" ".join(random_words(generator, 12)) for _ in range(n)]
    pairs = [" ".join(random_words(generator, 12)) for _ in range(n)]
    corpus = corpus_from_texts(texts, pairs)
    labels = [("yes", "no", "maybe")[i % 3] for i in range(n)]
    return replace(corpus, columns={**corpus.columns, "label": string_array(labels)})


@pytest.fixture(scope="session")
def small_loaded(small_bert: Path) -> Any:
    """The small BERT as it is loaded; whoever changes it copies it first."""
    from layerlake.engine.models import load_model

    return load_model(str(small_bert), device="cpu", compute_dtype="float32")


@pytest.fixture
def made(small_loaded: Any, tmp_path: Path) -> Callable[..., Made]:
    """A function that returns n random examples of a task, with its recipe."""

    def make(name: str, n: int, seed: int = 0, **recipe: Any) -> Made:
        task = task_named(name)
        entries = make_recipe(task.recipe_class, name, SMALL[name] | recipe)
        corpus = made_corpus(name, n, tmp_path, seed)
        inventory = task.inventory(corpus, entries)
        examples = task.encode(corpus, small_loaded.tokenizer, 32, entries, inventory, "made up")
        return Made(task, entries, inventory, examples)

    return make
