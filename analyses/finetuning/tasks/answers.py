"""Question answering on passages: SQuAD v1.1."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.finetuning.recipes import AnswerRecipe, Recipe
from layerlake.analyses.finetuning.tasks.squad_decoding import (
    AnswerSearch,
    answer_text,
    max_context_windows,
)
from layerlake.analyses.finetuning.tasks.squad_metrics import score_answers
from layerlake.analyses.finetuning.tasks.task import Answers, Batch, Examples, Task
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.squad import check_answer
from layerlake.engine.tokenization.tokenize import Tokenization, tokenize
from layerlake.engine.tokenization.tokenizer_backend import open_backend
from layerlake.store.errors import InvalidInput
from layerlake.store.row_sets import offsets_of

if TYPE_CHECKING:
    import torch
    from torch import nn

NOT_HERE = 0
"""Where both targets of a window point that does not hold the whole answer: the first piece.

The released code keeps such windows in training, though a comment in it says they are dropped.
"""


class QuestionAnswering(Task):
    """Targets: `start` and `end` (input,), pieces of the input, both `NOT_HERE` where the window
    does not hold the whole answer; `passage` (piece,), the piece of the passage that each piece of
    an input is, -1 for others; `home` (piece,), whether it is at most context there; `begin` and
    `stop` (passage piece,), the characters of all pieces of passages, `passage_offsets` their
    (example + 1,) offsets."""

    name = "squad"
    recipe_class = AnswerRecipe
    formats = ("squad",)
    suffix = ".json"

    def inventory(self, train: Corpus, recipe: Recipe) -> dict[str, Any]:
        """Return nothing: there are no labels."""
        return {}

    def encode(
        self,
        corpus: Corpus,
        tokenizer: Any,
        limit: int | None,
        recipe: Recipe,
        inventory: Mapping[str, Any],
        named: str,
    ) -> Examples:
        """Cut questions and passages into windows, and find the answers in them.

        An answer is the pieces that its characters lie in; of several the first is learned.
        """
        assert isinstance(recipe, AnswerRecipe)
        _check_answered(corpus, named)
        packing = f"window({recipe.length},{recipe.stride},{recipe.question_length})"
        cut = tokenize(corpus, tokenizer, packing=packing, limit=limit)
        counts, begin, stop = _characters(corpus, tokenizer)
        passage, home = _places(cut, counts)
        start, end = _targets(corpus, cut, passage, counts, begin, stop)
        targets = {
            "start": start,
            "end": end,
            "passage": passage,
            "home": home,
            "begin": begin,
            "stop": stop,
            "passage_offsets": offsets_of(counts),
        }
        return Examples(corpus, cut, named, targets)

    def head(self, encoder: nn.Module, inventory: Mapping[str, Any], recipe: Recipe) -> nn.Module:
        """Return two rows that score starts and ends."""
        from layerlake.analyses.finetuning.heads.task_heads import AnswerHead

        config: Any = encoder.config
        return AnswerHead(config.get_text_config().hidden_size)

    def weights(self, examples: Examples) -> NDArray[np.float64]:
        """Return 1 for every window."""
        return np.ones(examples.n_inputs)

    def lay_targets(
        self, examples: Examples, chosen: NDArray[np.int64], width: int
    ) -> dict[str, NDArray[Any]]:
        """Return `start` and `end`, (batch,)."""
        return {name: examples.targets[name][chosen] for name in ("start", "end")}

    def loss(self, outputs: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the sum of the means of the two cross-entropies over the pieces of a window."""
        from torch.nn.functional import cross_entropy

        start = cross_entropy(outputs["start"], batch.targets["start"], reduction="sum")
        end = cross_entropy(outputs["end"], batch.targets["end"], reduction="sum")
        return (start + end) / 2

    def answers(
        self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe
    ) -> SpanAnswers:
        """Return what searches the windows of every question."""
        return SpanAnswers(examples, inventory, recipe)


def _check_answered(corpus: Corpus, named: str) -> None:
    if corpus.pair_texts is None or "answers" not in corpus.columns:
        raise InvalidInput(
            f"{named} holds no questions with passages and answers; give a JSON file of SQuAD v1.1"
        )
    if "id_in_file" in corpus.columns:
        counts = Counter(corpus.columns["id_in_file"].tolist())
        twice, n = counts.most_common(1)[0]
        if n > 1:
            raise InvalidInput(
                f"{named} has two questions of the id {str(twice)!r}, whose answers could not be "
                "told apart; give each its own"
            )
    for example, answers in enumerate(corpus.columns["answers"].tolist()):
        name = f"question {corpus.example_name(example)!r} of {named}"
        found = _read_answers(answers)
        if found is None:
            raise InvalidInput(
                f"{name} has answers that are no list of text and answer_start; give a JSON file "
                "of SQuAD v1.1, or rows with format squad"
            )
        if not found:
            raise InvalidInput(
                f"{name} has no answer, as in SQuAD 2.0; leave such questions out, or give a file "
                "of SQuAD v1.1"
            )
        for answer in found:
            check_answer(answer["text"], answer["answer_start"], corpus.pair_texts[example], name)


def _read_answers(given: Any) -> list[dict[str, Any]] | None:
    """Return the answers to a question; None where they are not as `read_squad` gives them."""
    try:
        found = json.loads(given)
    except (TypeError, ValueError):
        return None
    kinds = {"text": str, "answer_start": int}
    whole = isinstance(found, list) and all(
        isinstance(answer, dict)
        and all(isinstance(answer.get(name), kind) for name, kind in kinds.items())
        for answer in found
    )
    return found if whole else None


def _characters(
    corpus: Corpus, tokenizer: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the pieces of every passage: their number, and the characters of each."""
    encoder = open_backend(tokenizer).encoder
    texts = corpus.pair_texts or []
    known: dict[str, list[tuple[int, int]]] = {}
    new = list(dict.fromkeys(texts))  # a passage has several questions
    for at in range(0, len(new), 256):
        some = new[at : at + 256]
        for text, found in zip(
            some, encoder.encode_batch(some, add_special_tokens=False), strict=True
        ):
            known[text] = found.offsets
    counts = np.array([len(known[text]) for text in texts], np.int64)
    spans = np.array([span for text in texts for span in known[text]], np.int64).reshape(-1, 2)
    return counts, spans[:, 0].copy(), spans[:, 1].copy()


def _places(
    cut: Tokenization, counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return which piece of its passage each piece of the inputs is, and whether it is at home.

    A window begins a stride after the one before it, or where that one ends if this comes first,
    and the first of several is full.
    """
    passage = np.full(cut.n_pieces, -1, np.int64)
    home = np.zeros(cut.n_pieces, np.bool_)
    of_passage = _second_texts(cut)
    stride = int(cut.settings["packing"].removesuffix(")").split("(")[1].split(",")[1])
    bounds = np.searchsorted(cut.input_example, np.arange(len(counts) + 1))
    for example in range(len(counts)):
        inputs = range(int(bounds[example]), int(bounds[example + 1]))
        held = [
            np.flatnonzero(of_passage[cut.input_offsets[i] : cut.input_offsets[i + 1]])
            + cut.input_offsets[i]
            for i in inputs
        ]
        step = min(stride, len(held[0]))
        starts = np.arange(len(held)) * step
        lengths = np.array([len(pieces) for pieces in held], np.int64)
        owner = max_context_windows(starts, lengths, int(counts[example]))
        for window, pieces in enumerate(held):
            index = starts[window] + np.arange(len(pieces))
            passage[pieces] = index
            home[pieces] = owner[index] == window
    return passage, home


def _second_texts(cut: Tokenization) -> NDArray[np.bool_]:
    """Return (piece,) whether each piece is of the second text of its input.

    Not every tokenizer tells texts apart by segments, but all put a special piece between them; so
    as many specials are before the second text as open the input and part the two.
    """
    opening, between = (len(part) for part in cut.settings["specials"][:2])
    input_of = np.repeat(np.arange(cut.n_inputs), cut.lengths)
    seen = np.cumsum(cut.special)
    before: NDArray[np.int64] = seen - (seen - cut.special)[cut.input_offsets[:-1]][input_of]
    second: NDArray[np.bool_] = ~cut.special & (before == opening + between)
    return second


def _targets(
    corpus: Corpus,
    cut: Tokenization,
    passage: NDArray[np.int64],
    counts: NDArray[np.int64],
    begin: NDArray[np.int64],
    stop: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where in each window the first answer starts and ends."""
    offsets = offsets_of(counts)
    first, last = np.empty(len(counts), np.int64), np.empty(len(counts), np.int64)
    for example, answers in enumerate(corpus.columns["answers"].tolist()):
        answer = json.loads(answers)[0]
        low, high = offsets[example], offsets[example + 1]
        character = answer["answer_start"]
        beyond = character + len(answer["text"])
        inside = np.flatnonzero((stop[low:high] > character) & (begin[low:high] < beyond))
        if not len(inside):
            raise InvalidInput(
                f"the answer {answer['text'][:40]!r} to question "
                f"{corpus.example_name(example)!r} yields no piece; leave that question out"
            )
        first[example], last[example] = inside[0], inside[-1]
    start = np.full(cut.n_inputs, NOT_HERE, np.int64)
    end = start.copy()
    held = np.flatnonzero(passage >= 0)
    input_of = np.repeat(np.arange(cut.n_inputs), cut.lengths)[held]
    within = held - cut.input_offsets[input_of]
    for wanted, target in ((first, start), (last, end)):
        hit = passage[held] == wanted[cut.input_example[input_of]]
        target[input_of[hit]] = within[hit]
    whole = (start > 0) & (end > 0)
    return np.where(whole, start, NOT_HERE), np.where(whole, end, NOT_HERE)


class SpanAnswers(Answers):
    """The best span of every question."""

    def __init__(self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe) -> None:
        super().__init__(examples, inventory, recipe)
        assert isinstance(recipe, AnswerRecipe)
        self._search = AnswerSearch(
            n_starts=recipe.n_starts, n_ends=recipe.n_starts, max_answer=recipe.max_answer
        )
        self._asked: set[int] = set()
        self._texts: dict[str, str] = {}

    def add(self, outputs: Mapping[str, Any], batch: Batch) -> None:
        """Look for spans in some windows."""
        cut, targets = self.examples.tokenization, self.examples.targets
        starts, ends = (outputs[name].cpu().numpy() for name in ("start", "end"))
        for row, index in enumerate(batch.chosen.tolist()):
            low, high = int(cut.input_offsets[index]), int(cut.input_offsets[index + 1])
            question = int(cut.input_example[index])
            self._asked.add(question)
            self._search.add(
                question,
                starts[row, : high - low],
                ends[row, : high - low],
                targets["passage"][low:high],
                targets["home"][low:high],
            )

    def _found(self) -> dict[str, str]:
        """Return the text of every answer that was found, by the question's id."""
        corpus, targets = self.examples.corpus, self.examples.targets
        texts = corpus.pair_texts or []
        for question in sorted(self._asked):
            best = self._search.best(question)
            if best:
                low, high = targets["passage_offsets"][question : question + 2]
                spans = np.stack([targets["begin"][low:high], targets["stop"][low:high]], axis=1)
                self._texts[corpus.example_name(question)] = answer_text(
                    texts[question], spans, best[0].first, best[0].last
                )
        return self._texts

    def state(self) -> Any:
        """Return the answers by id."""
        return self._found()

    def join(self, state: Any) -> None:
        """Add the answers to other questions."""
        self._texts.update(state)

    def scores(self) -> dict[str, float]:
        """Return F1 and EM, each from 0 to 1, and the share of questions without an answer."""
        corpus = self.examples.corpus
        references = {
            corpus.example_name(example): [answer["text"] for answer in json.loads(answers)]
            for example, answers in enumerate(corpus.columns["answers"].tolist())
        }
        scored = score_answers(self._found(), references)
        return {
            "f1": scored["f1"],
            "exact_match": scored["exact_match"],
            "unanswered": scored["n_missing"] / len(references),
        }

    def write(self, file: Path, source: Path | None) -> None:
        """Write a JSON object from ids to texts, as the official script reads it."""
        text = json.dumps(self._found(), ensure_ascii=False, indent=1)
        file.write_text(text + "\n", encoding="utf-8")
