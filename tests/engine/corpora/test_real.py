"""The readers and the tokenization on real corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.reading import read_corpus
from layerlake.engine.tokenization.tokenize import tokenize

pytestmark = pytest.mark.data


def words_of(corpus: Corpus, example: int) -> list[str]:
    """Return the words of an example."""
    return [
        corpus.word(i)
        for i in range(int(corpus.word_offsets[example]), int(corpus.word_offsets[example + 1]))
    ]


def test_ewt_dev(data_folder: Path, minilm_tokenizer: Any) -> None:
    corpus = read_corpus(data_folder / "ewt" / "en_ewt-ud-dev.conllu.gz")
    assert (corpus.n_examples, corpus.n_words) == (2001, 25147)
    assert corpus.columns["id"][0].endswith("ENG_20041117_172713-0001")
    assert len(set(corpus.columns["id"].tolist())) == 2001
    assert int(corpus.columns["has_empty_nodes"].sum()) == 3
    heads = corpus.annotations["head"]
    roots = np.bincount(corpus.word_example[heads == 0], minlength=2001)
    assert np.all(roots == 1)
    assert np.all((corpus.annotations["deprel"] == "root") == (heads == 0))
    found = tokenize(corpus, minilm_tokenizer, limit=512)
    sentences = [words_of(corpus, example) for example in range(corpus.n_examples)]
    reference = minilm_tokenizer(sentences, is_split_into_words=True)
    pieces = np.split(found.piece_ids, found.input_offsets[1:-1])
    assert all(
        ours.tolist() == theirs for ours, theirs in zip(pieces, reference["input_ids"], strict=True)
    )
    assert np.unique(found.piece_word[~found.special]).tolist() == list(range(25147))


def test_wikitext2(data_folder: Path, minilm_tokenizer: Any) -> None:
    path = data_folder / "wikitext2" / "wiki.test.raw.first40.txt.gz"
    paragraphs = read_corpus(path, "wikitext", segment="paragraph")
    sentences = read_corpus(path, "wikitext")
    assert paragraphs.n_examples == int(sentences.columns["paragraph"].max()) == 1671
    assert 6000 < sentences.n_examples < 9000
    assert sentences.n_words == paragraphs.n_words
    assert not any(joint in text for text in sentences.texts for joint in ("@-@", "@,@", "@.@"))
    assert sentences.columns["article"][0] == "Robert Boulter"
    # The 40 articles, and two formula lines that look like titles.
    assert len(set(sentences.columns["article"].tolist())) == 42
    found = tokenize(sentences, minilm_tokenizer, limit=512)
    reference = minilm_tokenizer(sentences.texts)
    pieces = np.split(found.piece_ids, found.input_offsets[1:-1])
    assert all(
        ours.tolist() == theirs for ours, theirs in zip(pieces, reference["input_ids"], strict=True)
    )
    assert np.all(found.piece_word[~found.special] >= 0)


def test_mnli_pairs(data_folder: Path, minilm_tokenizer: Any) -> None:
    corpus = read_corpus(
        data_folder / "mnli" / "mnli_dev_matched.part_a.jsonl.gz",
        text_field="sentence1",
        pair_field="sentence2",
    )
    assert corpus.n_examples == 4857
    assert set(corpus.columns["gold_label"].tolist()) == {"neutral", "entailment", "contradiction"}
    assert corpus.columns["index"].dtype == np.int64
    found = tokenize(corpus, minilm_tokenizer, packing="pair", limit=512)
    reference = minilm_tokenizer(corpus.texts, corpus.pair_texts)
    assert found.piece_ids.tolist() == [i for ids in reference["input_ids"] for i in ids]
    assert found.segment_ids.tolist() == [i for ids in reference["token_type_ids"] for i in ids]


def test_nli_and_squad_counts(data_folder: Path) -> None:
    mnli = data_folder / "mnli"
    dev = read_corpus(mnli / "mnli_dev_matched.part_a.jsonl.gz", "mnli")
    assert dev.n_examples == 4857
    assert dev.example_name(0) == str(dev.columns["index"][0])
    assert dev.source["without_consensus"] == 0
    train = read_corpus(mnli / "mnli_train.20k-tokenized.tsv.gz", "mnli")
    assert train.n_examples == 19988
    assert set(train.columns["label"].tolist()) == {"entailment", "neutral", "contradiction"}
    assert {"government", "fiction", "telephone"} <= set(train.columns["genre"].tolist())
    assert read_corpus(mnli / "mnli_train.9k.jsonl.gz", "mnli").n_examples == 9373
    assert read_corpus(data_folder / "snli" / "snli_1.0_dev.jsonl.gz", "snli").n_examples == 9842
    for name, articles, paragraphs, questions in (
        ("dev-v1.1.part_a.json.gz", 24, 913, 4961),
        ("train-v1.1.44articles.json.gz", 44, 2430, 11877),
    ):
        squad = read_corpus(data_folder / "squad_v1.1" / name)
        assert squad.n_examples == questions
        assert len(set(squad.columns["title"].tolist())) == articles
        assert int(squad.columns["paragraph"].max()) == paragraphs
        assert squad.pair_texts is not None
        start, answer = squad.columns["answer_start"], squad.columns["answer"]
        for example in range(0, questions, 97):
            assert squad.pair_texts[example][start[example] :].startswith(answer[example])


def test_trimmed_mnli(data_folder: Path, minilm_tokenizer: Any) -> None:
    path = data_folder / "mnli" / "mnli_dev_matched.part_a.jsonl.gz"
    corpus = read_corpus(path, "mnli")
    found = tokenize(corpus, minilm_tokenizer, packing="trim(31)")  # an even room: see test_inputs
    reference = minilm_tokenizer(
        corpus.texts, corpus.pair_texts, truncation="longest_first", max_length=31
    )
    assert found.piece_ids.tolist() == [i for ids in reference["input_ids"] for i in ids]
    assert found.segment_ids.tolist() == [i for ids in reference["token_type_ids"] for i in ids]
    assert found.settings["trimmed"] > 2000


def test_squad_in_windows(data_folder: Path, minilm_tokenizer: Any) -> None:
    corpus = read_corpus(data_folder / "squad_v1.1" / "dev-v1.1.part_a.json.gz")
    assert corpus.pair_texts is not None
    pairs = tokenize(corpus, minilm_tokenizer, packing="pair")
    found = tokenize(corpus, minilm_tokenizer, packing="window(384,128,64)")
    assert (found.n_inputs, found.settings["examples_in_windows"]) == (5147, 111)
    # Every piece of the pairs once, and the three special pieces of every further window.
    extra = 3 * (found.n_inputs - corpus.n_examples)
    assert len(found.candidates) == pairs.n_pieces + extra
    for of_segment in (0, 1):
        ours = found.candidates[
            (found.segment_ids[found.candidates] == of_segment) & ~found.special[found.candidates]
        ]
        theirs = ~pairs.special & (pairs.segment_ids == of_segment)
        assert np.array_equal(found.piece_ids[ours], pairs.piece_ids[theirs])
        assert np.array_equal(found.piece_word[ours], pairs.piece_word[theirs])
    windows = np.bincount(found.input_example)
    pieces = np.split(found.piece_ids, found.input_offsets[1:-1])
    for example in np.flatnonzero(windows > 1).tolist():
        question, passage = corpus.texts[example], corpus.pair_texts[example]
        asked = len(minilm_tokenizer(question, add_special_tokens=False)["input_ids"])
        reference = minilm_tokenizer(
            question,
            passage,
            truncation="only_second",
            max_length=384,
            stride=384 - 3 - asked - 128,
            return_overflowing_tokens=True,
        )["input_ids"]
        ours = np.flatnonzero(found.input_example == example)
        assert [pieces[number].tolist() for number in ours] == reference
