"""Small made-up examples of every task: cut into pieces, and as files with calls of `finetune`."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.finetuning.recipes import Recipe, make_recipe
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.analyses.finetuning.tasks.task import Examples, Task
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts, string_array
from layerlake.engine.corpora.objects import corpus_of_object
from layerlake.engine.corpora.reading import read_corpus

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
WHOLE = [
    "the", "cat", "sat", "quietly", "on", "un", "##bel", "##iev", "##able", "mats", "nobody",
    "bark", "##ed", "mat", "a", "who", "it", "is", "don", "didn", "leo", "japanese", "anti",
    "##dis", "##establish", "one", "two", "three", "four", "ten", "eleven", "cafe", "yes", "no",
    "dogs", "dog", "they", "see", "premise", "1990", "1895", "1943", "naive",
]  # fmt: skip
"""Pieces beside single letters of the small BERT's vocabulary."""

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
def small_loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random BERT of three layers and few pieces, loaded; whoever changes it copies it first."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    from layerlake.engine.models.loading import load_model

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = string.ascii_lowercase + string.digits
    pieces = [*specials, *WHOLE, *letters, *(f"##{c}" for c in letters), *string.punctuation]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return load_model(str(folder), device="cpu", compute_dtype="float32")


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


KINDS = ("mnli", "squad", "dep", "classify", "tag")

_WORDS = [
    "the",
    "tide",
    "turned",
    "while",
    "a",
    "small",
    "boat",
    "left",
    "harbour",
    "and",
    "nobody",
    "on",
    "shore",
    "saw",
    "it",
    "go",
]
_TAGS = ("NOUN", "VERB", "DET")


def _sentence(rng: np.random.Generator, low: int, high: int) -> list[str]:
    return [str(word) for word in rng.choice(_WORDS, int(rng.integers(low, high)))]


def _mnli(rng: np.random.Generator, n: int) -> str:
    labels = ("entailment", "neutral", "contradiction")
    return "".join(
        json.dumps(
            {
                "pairID": f"p{i}",
                "sentence1": " ".join(_sentence(rng, 3, 9)),
                "sentence2": " ".join(_sentence(rng, 2, 6)),
                "gold_label": labels[i % 3],
            }
        )
        + "\n"
        for i in range(n)
    )


def _squad(rng: np.random.Generator, n: int) -> str:
    questions = []
    for i in range(n):
        words = _sentence(rng, 6, 20)
        answer = int(rng.integers(len(words)))
        begin = len(" ".join([*words[:answer], ""]))
        questions.append(
            {
                "context": " ".join(words),
                "qas": [
                    {
                        "id": f"q{i}",
                        "question": " ".join(_sentence(rng, 2, 5)) + "?",
                        "answers": [{"text": words[answer], "answer_start": begin}],
                    }
                ],
            }
        )
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": questions}]})


def _dep(rng: np.random.Generator, n: int) -> str:
    lines = []
    for i in range(n):
        words = _sentence(rng, 2, 9)
        lines.append(f"# sent_id = s{i}")
        for number, word in enumerate(words, start=1):
            head = 0 if number == 1 else int(rng.integers(1, number))
            relation = "root" if number == 1 else ("obj", "det", "nsubj")[int(rng.integers(3))]
            tag = _TAGS[int(rng.integers(3))]
            fields = (number, word, "_", tag, "_", "_", head, relation, "_", "_")
            lines.append("\t".join(map(str, fields)))
        lines.append("")
    return "\n".join(lines) + "\n"


def _classify(rng: np.random.Generator, n: int) -> str:
    return "".join(
        json.dumps({"id": f"c{i}", "text": " ".join(_sentence(rng, 2, 12)), "label": "ab"[i % 2]})
        + "\n"
        for i in range(n)
    )


def _tag(rng: np.random.Generator, n: int) -> str:
    lines = []
    for i in range(n):
        words = _sentence(rng, 2, 10)
        labels = [_TAGS[int(rng.integers(3))] for _ in words]
        lines.append(json.dumps({"id": f"t{i}", "words": words, "labels": labels}) + "\n")
    return "".join(lines)


_WRITERS: dict[str, tuple[str, Callable[[np.random.Generator, int], str], dict[str, Any]]] = {
    "mnli": ("jsonl", _mnli, {"length": 32}),
    "squad": ("json", _squad, {"length": 28, "stride": 8, "question_length": 8}),
    "dep": ("conllu", _dep, {"arc_width": 16, "label_width": 8}),
    "classify": ("jsonl", _classify, {"length": 32}),
    "tag": ("jsonl", _tag, {}),
}


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory, save_bert: Callable[..., None]) -> Path:
    """The folder of a random BERT with a pooler: three layers, 16 wide, for 40 pieces.

    Its small vocabulary makes it much quicker to load and save than `small_bert`.
    """
    from transformers import BertTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*specials, *dict.fromkeys(_WORDS[:10]), *letters, *(f"##{x}" for x in letters), "?"]
    place = tmp_path_factory.mktemp("models") / "tiny"
    BertTokenizerFast(vocab={piece: n for n, piece in enumerate(pieces)}).save_pretrained(place)
    save_bert(
        place,
        pooler=True,
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    return place


@pytest.fixture(scope="session")
def calls_in(tiny_bert: Path) -> Callable[[Path], Callable[..., dict[str, Any]]]:
    """A function that returns what `small_call` is, for a folder other than the test's own."""

    def made_for(place: Path) -> Callable[..., dict[str, Any]]:
        def make(kind: str, **changes: Any) -> dict[str, Any]:
            ending, text_of, recipe = _WRITERS[kind]
            files = {}
            for part, n, seed in (("train", 24, 1), ("dev", 10, 2)):
                file = place / f"{kind}-{part}.{ending}"
                if not file.exists():
                    text = text_of(np.random.default_rng(seed), n)
                    file.write_text(text, encoding="utf-8")
                files[part] = str(file)
            return {
                "task": kind,
                "model": str(tiny_bert),
                "train": files["train"],
                "dev": files["dev"],
                "out": str(place / "out"),
                "epochs": 2,
                "batch": 4,
                "lr": 1e-3,
                "device": "cpu",
                **recipe,
                **changes,
            }

        return make

    return made_for


@pytest.fixture
def small_call(
    tmp_path: Path, calls_in: Callable[[Path], Callable[..., dict[str, Any]]]
) -> Callable[..., dict[str, Any]]:
    """A function that writes data of a kind, and returns a call of `finetune` on it.

    `small_call(kind, **changes)` gives keywords that JSON can say: two epochs of batches of four on
    24 examples, on the CPU, into `tmp_path / "out"`.
    """
    return calls_in(tmp_path)
