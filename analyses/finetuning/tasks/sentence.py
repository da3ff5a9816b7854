"""One label for a text or a pair of texts: MNLI, SNLI, and whatever people bring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.finetuning.recipes import Recipe, SentenceRecipe
from layerlake.analyses.finetuning.tasks.labels import (
    head_dropout,
    label_inventory,
    label_loss,
    label_scores,
    label_text,
)
from layerlake.analyses.finetuning.tasks.task import Answers, Batch, Examples, Task
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.nli import LABELS, NO_CONSENSUS
from layerlake.engine.corpora.subset import take_examples
from layerlake.engine.tokenization.tokenize import tokenize
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from torch import nn


class Classification(Task):
    """Targets: `label` (input,), in the inventory's order. The recipe's `label` names their column."""

    name = "classify"
    recipe_class = SentenceRecipe
    formats: ClassVar[tuple[str, ...]] = ("jsonl", "tsv", "csv", "parquet", "mnli", "snli")
    suffix = ".jsonl"

    def inventory(self, train: Corpus, recipe: Recipe) -> dict[str, Any]:
        """Return the labels of the training data, in order."""
        return label_inventory(labels_of(train, recipe, "the training data"))

    def encode(
        self,
        corpus: Corpus,
        tokenizer: Any,
        limit: int | None,
        recipe: Recipe,
        inventory: Mapping[str, Any],
        named: str,
    ) -> Examples:
        """Cut texts or pairs into pieces, each to the recipe's length; see `Task.encode`."""
        assert isinstance(recipe, SentenceRecipe)
        given = labels_of(corpus, recipe, named)
        numbers = {label: n for n, label in enumerate(inventory["labels"])}
        for example, label in enumerate(given):
            if label not in numbers:
                raise InvalidInput(
                    f"the label of example {corpus.example_name(example)!r} of {named} is "
                    f"{label!r}, and the labels that are known are {_listed(numbers)}; mend it, or "
                    "train on data that has it"
                )
        cut = tokenize(corpus, tokenizer, packing=f"trim({recipe.length})", limit=limit)
        labels = np.array([numbers[label] for label in given], np.int64)[cut.input_example]
        return Examples(corpus, cut, named, {"label": labels})

    def head(self, encoder: nn.Module, inventory: Mapping[str, Any], recipe: Recipe) -> nn.Module:
        """Return a pooler and a linear layer."""
        from layerlake.analyses.finetuning.heads.task_heads import SentenceHead

        assert isinstance(recipe, SentenceRecipe)
        config: Any = encoder.config
        return SentenceHead(
            config.get_text_config().hidden_size,
            len(inventory["labels"]),
            recipe.pool,
            head_dropout(encoder, recipe),
        )

    def weights(self, examples: Examples) -> NDArray[np.float64]:
        """Return 1 for every input."""
        return np.ones(examples.n_inputs)

    def lay_targets(
        self, examples: Examples, chosen: NDArray[np.int64], width: int
    ) -> dict[str, NDArray[Any]]:
        """Return `label`, (batch,)."""
        return {"label": examples.targets["label"][chosen]}

    def loss(self, outputs: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the sum of cross-entropies."""
        return label_loss(outputs, batch.targets["label"])

    def answers(
        self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe
    ) -> SentenceAnswers:
        """Return what takes the likeliest label of every input."""
        return SentenceAnswers(examples, inventory, recipe)


class Entailment(Classification):
    """MNLI and SNLI; the examples on which annotators did not agree are left out."""

    name = "mnli"
    formats = ("mnli", "snli")

    def inventory(self, train: Corpus, recipe: Recipe) -> dict[str, Any]:
        """Return the three labels."""
        labels_of(train, recipe, "the training data")
        return {"labels": list(LABELS)}

    def encode(
        self,
        corpus: Corpus,
        tokenizer: Any,
        limit: int | None,
        recipe: Recipe,
        inventory: Mapping[str, Any],
        named: str,
    ) -> Examples:
        """Cut premises and hypotheses into pieces; see `Task.encode`."""
        if corpus.pair_texts is None:
            raise InvalidInput(f"{named} holds single texts; give pairs (MNLI or SNLI files)")
        agreed = np.array([label != NO_CONSENSUS for label in labels_of(corpus, recipe, named)])
        if not agreed.any():
            raise InvalidInput(f"no pair of {named} has a gold label; give labelled pairs")
        kept = corpus if agreed.all() else take_examples(corpus, np.flatnonzero(agreed))
        found = super().encode(kept, tokenizer, limit, recipe, inventory, named)
        left = int((~agreed).sum())
        notes = (f"{left} pairs of {named} have no gold label: left out",) if left else ()
        return Examples(kept, found.tokenization, named, found.targets, notes)


class NaturalLanguageInference(Entailment):
    """The same under the other corpus's name."""

    name = "snli"
    formats = ("snli", "mnli")


def labels_of(corpus: Corpus, recipe: Recipe, named: str) -> list[str]:
    """Return the label of every example, as text.

    Raises
    ------
    InvalidInput
        There is no such column, or an example has no label or several (it is named).
    """
    assert isinstance(recipe, SentenceRecipe)
    if recipe.label not in corpus.columns:
        raise InvalidInput(
            f"{named} has no field {recipe.label!r}; its fields are: "
            f"{', '.join(sorted(corpus.columns))}"
        )
    given = corpus.columns[recipe.label].tolist()
    if recipe.label in corpus.source.get("json_columns", ()):
        given = [json.loads(value) if value else None for value in given]
    each = "give each example one, or leave it out"
    return [
        label_text(
            label, f"example {corpus.example_name(example)!r} of {named}", recipe.label, each
        )
        for example, label in enumerate(given)
    ]


def _listed(labels: Mapping[str, int]) -> str:
    names = [repr(label) for label in labels]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


class SentenceAnswers(Answers):
    """The probabilities of the labels of every input."""

    def __init__(self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe) -> None:
        super().__init__(examples, inventory, recipe)
        self._found: dict[int, list[float]] = {}

    def add(self, outputs: Mapping[str, Any], batch: Batch) -> None:
        """Take the probabilities of the labels."""
        probabilities = outputs["logits"].double().softmax(dim=1).tolist()
        for index, row in zip(batch.chosen.tolist(), probabilities, strict=True):
            self._found[index] = row

    def state(self) -> Any:
        """Return the probabilities by input."""
        return self._found

    def join(self, state: Any) -> None:
        """Add those of other inputs."""
        self._found.update(state)

    def scores(self) -> dict[str, float]:
        """Return the accuracy, and the share of the commonest label."""
        chosen = sorted(self._found)
        gold = self.examples.targets["label"][chosen]
        best = np.array([self._found[index] for index in chosen]).argmax(axis=1)
        return label_scores(gold, best)

    def write(self, file: Path, source: Path | None) -> None:
        """Write a JSON object a line: id, gold and predicted label, probability of each label."""
        labels = self.inventory["labels"]
        with file.open("w", encoding="utf-8") as out:
            for index in sorted(self._found):
                row = self._found[index]
                example = int(self.examples.tokenization.input_example[index])
                record = {
                    "id": self.examples.corpus.example_name(example),
                    "label": labels[int(self.examples.targets["label"][index])],
                    "predicted": labels[int(np.argmax(row))],
                    "probabilities": dict(zip(labels, row, strict=True)),
                }
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
