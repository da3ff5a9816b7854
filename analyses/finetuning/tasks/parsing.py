"""Dependency parsing: a head for every word, and the relation between the two."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.finetuning.recipes import ParsingRecipe, Recipe
from layerlake.analyses.finetuning.tasks.task import Answers, Batch, Examples, Task
from layerlake.analyses.finetuning.tasks.words import words_of_pieces
from layerlake.analyses.trees.arborescence import best_heads, tree_problem
from layerlake.analyses.trees.attachment import CONVENTIONS, count_attachments
from layerlake.engine.corpora.corpus import Corpus, string_array
from layerlake.engine.corpora.files import read_lines
from layerlake.engine.tokenization.tokenize import tokenize
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from torch import nn

UNKNOWN = -1
"""The relation of a word whose gold relation the training data does not have."""


class Parsing(Task):
    """Targets: `head` (word,) of the corpus, counted in the sentence from 1, 0 for the root;
    `relation` (word,) in the inventory's order, `UNKNOWN` for one that is not there."""

    name = "dep"
    recipe_class = ParsingRecipe
    formats = ("conllu",)
    suffix = ".conllu"

    def inventory(self, train: Corpus, recipe: Recipe) -> dict[str, Any]:
        """Return the relations of the training data, in order."""
        _check_parsed(train, "the training data")
        return {"relations": sorted(set(train.annotations["deprel"].tolist()))}

    def encode(
        self,
        corpus: Corpus,
        tokenizer: Any,
        limit: int | None,
        recipe: Recipe,
        inventory: Mapping[str, Any],
        named: str,
    ) -> Examples:
        """Cut sentences into pieces, word by word; see `Task.encode`."""
        _check_parsed(corpus, named)
        for example in range(corpus.n_examples):
            begin, end = corpus.word_offsets[example : example + 2]
            problem = tree_problem(corpus.annotations["head"][begin:end].tolist())
            if problem:
                raise InvalidInput(
                    f"sentence {corpus.example_name(example)!r} of {named} is no tree: it has "
                    f"{problem}; mend it or leave it out"
                )
        cut = tokenize(corpus, tokenizer, long=recipe.long, limit=limit)
        numbers = {relation: n for n, relation in enumerate(inventory["relations"])}
        given = corpus.annotations["deprel"].tolist()
        relations = np.array([numbers.get(relation, UNKNOWN) for relation in given], np.int64)
        notes = []
        if (relations == UNKNOWN).any():
            unknown = sorted({r for r, n in zip(given, relations, strict=True) if n == UNKNOWN})
            trunks = {relation.partition(":")[0] for relation in numbers}
            shared = any(relation.partition(":")[0] in trunks for relation in unknown)
            but = ", under ud17 only where what is before the colon differs" if shared else ""
            notes.append(
                f"{int((relations == UNKNOWN).sum())} words of {named} have relations that the "
                f"training data lacks ({', '.join(unknown[:5])}), which count as errors{but}"
            )
        if cut.settings.get("dropped"):
            notes.append(f"{cut.settings['dropped']} sentences of {named} are too long: left out")
        targets = {
            "head": corpus.annotations["head"].astype(np.int64),
            "relation": relations,
        }
        return Examples(corpus, cut, named, targets, tuple(notes))

    def head(self, encoder: nn.Module, inventory: Mapping[str, Any], recipe: Recipe) -> nn.Module:
        """Return a biaffine parser."""
        from layerlake.analyses.finetuning.heads.biaffine import BiaffineHead

        assert isinstance(recipe, ParsingRecipe)
        config: Any = encoder.config
        return BiaffineHead(
            config.get_text_config().hidden_size,
            len(inventory["relations"]),
            arc_width=recipe.arc_width,
            label_width=recipe.label_width,
            dropout=recipe.head_dropout,
            learned_root=recipe.root == "learned",
        )

    def weights(self, examples: Examples) -> NDArray[np.float64]:
        """Return the words of each sentence: losses are means over words."""
        counts = np.diff(examples.corpus.word_offsets)
        return counts[examples.tokenization.input_example].astype(np.float64)

    def lay_targets(
        self, examples: Examples, chosen: NDArray[np.int64], width: int
    ) -> dict[str, NDArray[Any]]:
        """Return where words are and what is to be learned of them; see `BiaffineHead.forward`.

        `gold_head` and `gold_relation` are (batch, longest + 1), `UNKNOWN` for ROOT and padding.
        """
        word_of_piece, n_words = words_of_pieces(examples, chosen, width)
        offsets = np.cumsum(n_words) - n_words
        place = np.arange(int(n_words.max()) + 1)
        real = place <= n_words[:, None]
        words = np.where(real & (place > 0), offsets[:, None] + place - 1, 0)
        words[:, 0] = int(n_words.sum()) + np.arange(len(chosen))
        first = examples.corpus.word_offsets[examples.tokenization.input_example[chosen]]
        source = np.where(real & (place > 0), first[:, None] + place - 1, 0)
        known = real & (place > 0)
        return {
            "word_of_piece": word_of_piece,
            "n_words": n_words,
            "places": words,
            "real": real,
            "gold_head": np.where(known, examples.targets["head"][source], UNKNOWN),
            "gold_relation": np.where(known, examples.targets["relation"][source], UNKNOWN),
        }

    def loss(self, outputs: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the cross-entropies of the head of every word and, at that head, its relation."""
        from torch.nn.functional import cross_entropy

        from layerlake.analyses.finetuning.heads.biaffine import relation_scores

        gold, relation = batch.targets["gold_head"], batch.targets["gold_relation"]
        sentence, word = (gold >= 0).nonzero(as_tuple=True)
        head = gold[sentence, word]
        arcs = cross_entropy(outputs["arcs"][sentence, word], head, reduction="sum")
        labels = relation_scores(outputs, sentence, word, head)
        return arcs + cross_entropy(
            labels, relation[sentence, word], ignore_index=UNKNOWN, reduction="sum"
        )

    def answers(
        self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe
    ) -> ParsingAnswers:
        """Return what finds the trees of sentences."""
        return ParsingAnswers(examples, inventory, recipe)


def _check_parsed(corpus: Corpus, named: str) -> None:
    if not {"head", "deprel"} <= corpus.annotations.keys() or not corpus.words_given:
        raise InvalidInput(
            f"{named} has no dependency trees; give a CoNLL-U file with heads and relations"
        )


class ParsingAnswers(Answers):
    """The trees of sentences."""

    def __init__(self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe) -> None:
        super().__init__(examples, inventory, recipe)
        self._found: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def add(self, outputs: Mapping[str, Any], batch: Batch) -> None:
        """Find the best tree of every sentence, then the best relation of each of its arcs."""
        import torch

        from layerlake.analyses.finetuning.heads.biaffine import relation_scores

        n_words = batch.targets["n_words"].tolist()
        arcs = outputs["arcs"].double().cpu().numpy()
        heads = [
            best_heads(scores[: n + 1, : n + 1]) for scores, n in zip(arcs, n_words, strict=True)
        ]
        sentence = np.repeat(np.arange(len(n_words)), n_words)
        word = np.concatenate([np.arange(1, n + 1) for n in n_words])
        arcs_found = [
            torch.from_numpy(places).to(outputs["arcs"].device)
            for places in (sentence, word, np.concatenate(heads))
        ]
        relations = relation_scores(outputs, *arcs_found).argmax(dim=1).cpu().numpy()
        examples = self.examples.tokenization.input_example[batch.chosen].tolist()
        ends = np.cumsum(n_words)
        for example, found, end in zip(examples, heads, ends, strict=True):
            self._found[example] = found, relations[end - len(found) : end]

    def state(self) -> Any:
        """Return the trees by sentence."""
        return self._found

    def join(self, state: Any) -> None:
        """Add the trees of other sentences."""
        self._found.update(state)

    def _flat(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the words of all sentences that were parsed, their heads and their relations."""
        offsets = self.examples.corpus.word_offsets
        chosen = sorted(self._found)
        words = np.concatenate([np.arange(offsets[e], offsets[e + 1]) for e in chosen])
        heads = np.concatenate([self._found[e][0] for e in chosen])
        relations = np.concatenate([self._found[e][1] for e in chosen])
        return words, heads, relations

    def scores(self) -> dict[str, float]:
        """Return LAS and UAS under both conventions, each from 0 to 1."""
        words, heads, relations = self._flat()
        gold = self.examples.corpus.annotations
        names = string_array(self.inventory["relations"])
        upos = gold["upos"][words] if "upos" in gold else ["_"] * len(words)
        found: dict[str, float] = {}
        for convention in CONVENTIONS:
            counts = count_attachments(
                gold["head"][words],
                gold["deprel"][words],
                heads,
                names[relations],
                upos,
                convention,
            )
            if counts.n_words:  # of punctuation alone there is no score under `ptb`
                found |= {f"las_{convention}": counts.las, f"uas_{convention}": counts.uas}
        return found

    def write(self, file: Path, source: Path | None) -> None:
        """Write CoNLL-U: the file that was read, with heads and relations as they were found."""
        names = self.inventory["relations"]
        by_sentence = {
            example: [(int(h), names[int(r)]) for h, r in zip(*tree, strict=True)]
            for example, tree in self._found.items()
        }
        corpus = self.examples.corpus
        lines = _lines_of_corpus(corpus) if source is None else (at for _, at in read_lines(source))
        with file.open("w", encoding="utf-8") as out:
            for line in _replaced(lines, by_sentence):
                out.write(line + "\n")


def _lines_of_corpus(corpus: Corpus) -> Iterator[str]:
    """Yield a corpus as lines of CoNLL-U, with what it knows of its words."""
    columns = [
        corpus.annotations[name].tolist() if name in corpus.annotations else ["_"] * corpus.n_words
        for name in ("lemma", "upos", "xpos", "head", "deprel")
    ]
    for example in range(corpus.n_examples):
        yield f"# sent_id = {corpus.example_name(example)}"
        begin, end = corpus.word_offsets[example : example + 2].tolist()
        for number, word in enumerate(range(begin, end), start=1):
            lemma, upos, xpos, head, deprel = (str(column[word]) for column in columns)
            form = corpus.word(word)
            yield "\t".join([str(number), form, lemma, upos, xpos, "_", head, deprel, "_", "_"])
        yield ""


def _replaced(lines: Iterable[str], trees: Mapping[int, list[tuple[int, str]]]) -> Iterator[str]:
    """Yield lines with heads and relations in place; sentences without a tree are left out."""
    sentence = number = 0
    kept: list[str] = []
    for line in itertools.chain(lines, [""]):
        if not line.strip():
            # Comments without words are no sentence, and stay.
            if kept and (not number or sentence in trees):
                yield from kept
                yield ""
            sentence += number > 0
            number, kept = 0, []
            continue
        fields = line.split("\t")
        if not line.startswith("#") and fields[0].isdecimal():
            tree = trees.get(sentence)
            if tree is not None:
                head, relation = tree[number]
                fields[6], fields[7] = str(head), relation
                fields[8] = "_"  # the enhanced graph is that of the gold tree
            number += 1
            line = "\t".join(fields)
        kept.append(line)
