"""Generated corpora, as the readers of LayerLake give them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from layerlake.engine.corpora.conllu import read_conllu
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.nli import read_nli
from layerlake.engine.corpora.squad import read_squad
from layerlake.synthetic.english.entailment import generate_entailment
from layerlake.synthetic.english.layers import generate_sentences
from layerlake.synthetic.english.questions import generate_questions
from layerlake.synthetic.english.writers import write_conllu, write_nli, write_squad


def parsing_corpus(n: int, seed: int) -> Corpus:
    """Return n generated sentences, as `read_corpus` reads them from CoNLL-U.

    Raises
    ------
    InvalidInput
        Where n or the seed is out of range, or n is 0.
    """
    sentences = generate_sentences(n, seed)
    return _read_back(lambda path: write_conllu(sentences, path), read_conllu, "conllu", n, seed)


def entailment_corpus(n: int, seed: int) -> Corpus:
    """Return n generated pairs with the column `label`, as `read_corpus` reads them from MNLI.

    Raises
    ------
    InvalidInput
        Where n or the seed is out of range, or n is 0.
    """
    pairs = generate_entailment(n, seed)

    def read(path: Path) -> Corpus:
        return read_nli(path, "mnli")

    return _read_back(lambda path: write_nli(pairs, path), read, "jsonl", n, seed)


def question_corpus(n: int, seed: int) -> Corpus:
    """Return n generated questions or a few more, as `read_corpus` reads them from SQuAD.

    Raises
    ------
    InvalidInput
        Where n or the seed is out of range, or n is 0.
    """
    paragraphs = generate_questions(n, seed)
    return _read_back(lambda path: write_squad(paragraphs, path), read_squad, "json", n, seed)


def _read_back(
    write: Callable[[Path], None], read: Callable[[Path], Corpus], suffix: str, n: int, seed: int
) -> Corpus:
    """Write a file, read it and say where it came from; the file does not stay."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"english-{n}-{seed}.{suffix}"
        write(path)
        corpus = read(path)
    made: dict[str, Any] = {"generated_by": "layerlake.synthetic.english", "n": n, "seed": seed}
    return replace(corpus, source={**corpus.source, **made})
