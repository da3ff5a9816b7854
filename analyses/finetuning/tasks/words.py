"""One label for every word: parts of speech, entities in BIO, whatever people bring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.finetuning.recipes import Recipe, WordRecipe
from layerlake.analyses.finetuning.tasks.labels import (
    head_dropout,
    label_inventory,
    label_loss,
    label_scores,
    label_text,
)
from layerlake.analyses.finetuning.tasks.task import Answers, Batch, Examples, Task
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.tokenization.tokenize import tokenize
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from torch import nn

if TYPE_CHECKING:
    import torch
    from torch import nn


class Tagging(Task):
    """Targets: `label` (word,), in the inventory's order.

    The labels are an annotation of words (`upos` of CoNLL-U), or a field of JSON lines that holds
    a list, one for each of the `words`; the recipe's `label` names it.
    """

    name = "tag"
    recipe_class = WordRecipe
    formats = ("jsonl", "conllu", "parquet")
    suffix = ".jsonl"

    def inventory(self, train: Corpus, recipe: Recipe) -> dict[str, Any]:
        """Return the labels of the training data, in order."""
        assert isinstance(recipe, WordRecipe)
        return label_inventory(word_labels(train, recipe.label, "the training data"))

    def encode(
        self,
        corpus: Corpus,
        tokenizer: Any,
        limit: int | None,
        recipe: Recipe,
        inventory: Mapping[str, Any],
        named: str,
    ) -> Examples:
        """Cut examples into pieces, word by word; see `Task.encode`."""
        assert isinstance(recipe, WordRecipe)
        given = word_labels(corpus, recipe.label, named)
        numbers = {label: n for n, label in enumerate(inventory["labels"])}
        for word, label in enumerate(given):
            if label not in numbers:
                example = int(np.searchsorted(corpus.word_offsets, word, side="right")) - 1
                raise InvalidInput(
                    f"word {word - int(corpus.word_offsets[example]) + 1} of example "
                    f"{corpus.example_name(example)!r} of {named} has the label {label!r}, which "
                    "the training data lacks; mend it, or train on data that has it"
                )
        cut = tokenize(corpus, tokenizer, long=recipe.long, limit=limit)
        labels = np.array([numbers[label] for label in given], np.int64)
        dropped = cut.settings.get("dropped")
        notes = (f"{dropped} examples of {named} are too long: left out",) if dropped else ()
        return Examples(corpus, cut, named, {"label": labels}, notes)

    def head(self, encoder: nn.Module, inventory: Mapping[str, Any], recipe: Recipe) -> nn.Module:
        """Return a linear layer on words."""
        from layerlake.analyses.finetuning.heads.task_heads import WordHead

        config: Any = encoder.config
        width = config.get_text_config().hidden_size
        return WordHead(width, len(inventory["labels"]), head_dropout(encoder, recipe))

    def weights(self, examples: Examples) -> NDArray[np.float64]:
        """Return the words of each input: the loss is a mean over words."""
        counts = np.diff(examples.corpus.word_offsets)
        return counts[examples.tokenization.input_example].astype(np.float64)

    def lay_targets(
        self, examples: Examples, chosen: NDArray[np.int64], width: int
    ) -> dict[str, NDArray[Any]]:
        """Return `word_of_piece` (batch, width), `n_words` (batch,) and `label` (word,)."""
        word_of_piece, n_words = words_of_pieces(examples, chosen, width)
        return {
            "word_of_piece": word_of_piece,
            "n_words": n_words,
            "label": examples.targets["label"][_words_of(examples, chosen)],
        }

    def loss(self, outputs: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the sum of cross-entropies."""
        return label_loss(outputs, batch.targets["label"])

    def answers(
        self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe
    ) -> WordAnswers:
        """Return what takes the likeliest label of every word."""
        return WordAnswers(examples, inventory, recipe)


def _words_of(examples: Examples, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the words of some inputs, in order, as words of the corpus."""
    offsets = examples.corpus.word_offsets
    inside = examples.tokenization.input_example[chosen].tolist()
    return np.concatenate([np.arange(offsets[e], offsets[e + 1]) for e in inside])


def word_labels(corpus: Corpus, label: str, named: str) -> list[str]:
    """Return the label of every word of a corpus, as text.

    Raises
    ------
    InvalidInput
        There are none of that name, or not one for every word (the example is named).
    """
    if not corpus.words_given:
        raise InvalidInput(
            f"{named} has no lists of words; give JSON lines with `words`, or CoNLL-U"
        )
    if label in corpus.annotations:
        return [str(value) for value in corpus.annotations[label].tolist()]
    if label not in corpus.columns:
        there = sorted([*corpus.annotations, *corpus.columns])
        raise InvalidInput(
            f"{named} has no labels {label!r}; it has {', '.join(there)}, of which --label names one"
        )
    found: list[str] = []
    counts = np.diff(corpus.word_offsets).tolist()
    for example, value in enumerate(corpus.columns[label].tolist()):
        try:
            labels = json.loads(value) if isinstance(value, str) else None
        except ValueError:
            labels = None
        if not isinstance(labels, list) or len(labels) != counts[example]:
            held = f"{len(labels)} labels" if isinstance(labels, list) else "no list of labels"
            raise InvalidInput(
                f"example {corpus.example_name(example)!r} of {named} has {held} in {label!r} for "
                f"{counts[example]} words; give one for each word"
            )
        of = f"of example {corpus.example_name(example)!r} of {named}"
        found += [
            label_text(one, f"word {place} {of}", label, "give each word one")
            for place, one in enumerate(labels, start=1)
        ]
    return found


class WordAnswers(Answers):
    """The likeliest label of every word."""

    def __init__(self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe) -> None:
        super().__init__(examples, inventory, recipe)
        self._found: dict[int, list[int]] = {}

    def add(self, outputs: Mapping[str, Any], batch: Batch) -> None:
        """Take the likeliest label of every word."""
        best = outputs["logits"].argmax(dim=1).tolist()
        at = 0
        examples = self.examples.tokenization.input_example[batch.chosen].tolist()
        for example, n in zip(examples, batch.targets["n_words"].tolist(), strict=True):
            self._found[example] = best[at : at + n]
            at += n

    def state(self) -> Any:
        """Return the labels by example."""
        return self._found

    def join(self, state: Any) -> None:
        """Add those of other examples."""
        self._found.update(state)

    def scores(self) -> dict[str, float]:
        """Return the accuracy over words, and the share of the commonest label."""
        offsets = self.examples.corpus.word_offsets
        chosen = sorted(self._found)
        words = np.concatenate([np.arange(offsets[e], offsets[e + 1]) for e in chosen])
        gold = self.examples.targets["label"][words]
        best = np.concatenate([self._found[e] for e in chosen])
        return label_scores(gold, best)

    def write(self, file: Path, source: Path | None) -> None:
        """Write a JSON object a line: id, words, gold and predicted labels."""
        labels, corpus = self.inventory["labels"], self.examples.corpus
        with file.open("w", encoding="utf-8") as out:
            for example in sorted(self._found):
                words = range(*corpus.word_offsets[example : example + 2].tolist())
                record = {
                    "id": corpus.example_name(example),
                    "words": [corpus.word(word) for word in words],
                    "labels": [labels[int(self.examples.targets["label"][w])] for w in words],
                    "predicted": [labels[number] for number in self._found[example]],
                }
                out.write(json.dumps(record, ensure_ascii=False) + "\n")


def words_of_pieces(
    examples: Examples, chosen: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (batch, width) the word of each piece, counted through the batch, and their numbers.

    Parameters
    ----------
    examples
        Whose inputs are whole examples of given words.
    chosen
        Inputs, (batch,).
    width
        Of the batch, in pieces; -1 stands where no word is.
    """
    cut, corpus = examples.tokenization, examples.corpus
    starts = cut.input_offsets[chosen]
    lengths = cut.input_offsets[chosen + 1] - starts
    place = np.arange(width)
    inside = place < lengths[:, None]
    word = np.where(inside, cut.piece_word[np.where(inside, starts[:, None] + place, 0)], -1)
    example = cut.input_example[chosen]
    n_words = corpus.word_offsets[example + 1] - corpus.word_offsets[example]
    shift = np.cumsum(n_words) - n_words - corpus.word_offsets[example]
    return np.where(word >= 0, word + shift[:, None], -1), n_words
