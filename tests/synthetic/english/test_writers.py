"""Files: read back by our own readers with equal content, records as edge probing has them."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from layerlake.engine.corpora.reading import read_corpus
from layerlake.store.errors import InvalidInput, StorageFailed
from layerlake.synthetic.english.entailment import generate_entailment
from layerlake.synthetic.english.generated_corpora import (
    entailment_corpus,
    parsing_corpus,
    question_corpus,
)
from layerlake.synthetic.english.layers import GeneratedSentence, generate_sentences
from layerlake.synthetic.english.questions import generate_questions
from layerlake.synthetic.english.writers import (
    TASKS,
    constituents,
    write_conllu,
    write_edge_records,
    write_nli,
    write_ptb,
    write_squad,
)

N = 60


@pytest.fixture(scope="module")
def sentences() -> list[GeneratedSentence]:
    """Some sentences."""
    return generate_sentences(400, seed=2)


def records_of(sentences: list[GeneratedSentence], task: str, folder: Path) -> list[dict[str, Any]]:
    """Write the records of a task and read them as JSON."""
    path = folder / f"{task}.jsonl"
    write_edge_records(sentences, task, path)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_conllu_is_read_back(tmp_path: Path, sentences: list[GeneratedSentence]) -> None:
    path = tmp_path / "a.conllu"
    write_conllu(sentences[:N], path)
    corpus = read_corpus(path)
    assert corpus.texts == [sentence.text for sentence in sentences[:N]]
    assert corpus.columns["id"].tolist() == [sentence.name for sentence in sentences[:N]]
    assert not corpus.columns["has_empty_nodes"].any()
    for name, layer in (
        ("upos", "upos"),
        ("xpos", "xpos"),
        ("lemma", "lemma"),
        ("deprel", "deprels"),
        ("head", "heads"),
    ):
        expected = [value for sentence in sentences[:N] for value in getattr(sentence, layer)]
        assert corpus.annotations[name].tolist() == expected
    assert corpus.fingerprint == parsing_corpus(N, 2).fingerprint


def test_nli_is_read_back(tmp_path: Path) -> None:
    pairs = generate_entailment(N, seed=2)
    path = tmp_path / "a.jsonl"
    write_nli(pairs, path)
    corpus = read_corpus(path, "mnli")
    assert corpus.texts == [pair["premise"] for pair in pairs]
    assert corpus.pair_texts == [pair["hypothesis"] for pair in pairs]
    assert corpus.columns["label"].tolist() == [pair["label"] for pair in pairs]
    assert corpus.columns["id"].tolist() == [pair["id"] for pair in pairs]
    assert corpus.columns["genre"].tolist() == [pair["construction"] for pair in pairs]
    assert corpus.fingerprint == entailment_corpus(N, 2).fingerprint


def test_squad_is_read_back(tmp_path: Path) -> None:
    passages = generate_questions(N, seed=2)
    path = tmp_path / "squad.json"
    write_squad(passages, path)
    corpus = read_corpus(path)
    asked = [(passage, question) for passage in passages for question in passage["qas"]]
    assert corpus.texts == [question["question"] for _, question in asked]
    assert corpus.pair_texts == [passage["context"] for passage, _ in asked]
    assert corpus.columns["answer"].tolist() == [q["answers"][0]["text"] for _, q in asked]
    assert corpus.columns["title"].tolist() == [passage["title"] for passage, _ in asked]
    assert corpus.fingerprint == question_corpus(N, 2).fingerprint


def test_corpora_say_how_they_were_made() -> None:
    for corpus in (parsing_corpus(9, 1), entailment_corpus(9, 1), question_corpus(9, 1)):
        assert corpus.source["generated_by"] == "layerlake.synthetic.english"
        assert (corpus.source["n"], corpus.source["seed"]) == (9, 1)
        assert corpus.n_examples >= 9


def test_an_empty_corpus_is_refused() -> None:
    for build in (parsing_corpus, entailment_corpus, question_corpus):
        with pytest.raises(InvalidInput, match="holds no"):
            build(0, 1)


def test_trees_are_written_one_a_line(tmp_path: Path, sentences: list[GeneratedSentence]) -> None:
    path = tmp_path / "a.ptb"
    write_ptb(sentences, path)
    lines = path.read_text("utf-8").splitlines()
    assert lines == [f"(ROOT {sentence.tree})" for sentence in sentences]


def test_files_have_the_same_line_ends_everywhere(
    tmp_path: Path, sentences: list[GeneratedSentence]
) -> None:
    write_conllu(sentences[:3], tmp_path / "a.conllu")
    write_edge_records(sentences[:3], "pos", tmp_path / "a.jsonl")
    for path in tmp_path.iterdir():
        assert b"\r" not in path.read_bytes()
        assert path.read_bytes().isascii()


def test_a_full_disk_leaves_no_half_of_a_file(
    tmp_path: Path, sentences: list[GeneratedSentence], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFailed, match="the disk is full"):
        write_conllu(sentences, tmp_path / "train.conllu")
    assert list(tmp_path.iterdir()) == []


def test_brackets_give_spans_and_heights() -> None:
    tree = "(S (NP (DT The) (NN dog)) (VP (VBD slept)) (. .))"
    assert sorted(constituents(tree)) == [
        (0, 1, "DT", 1),
        (0, 2, "NP", 2),
        (0, 4, "S", 3),
        (1, 2, "NN", 1),
        (2, 3, "VBD", 1),
        (2, 3, "VP", 2),
        (3, 4, ".", 1),
    ]


@pytest.mark.parametrize("task", TASKS)
def test_records_have_the_shape_of_edge_probing(
    tmp_path: Path, sentences: list[GeneratedSentence], task: str
) -> None:
    records = records_of(sentences, task, tmp_path)
    by_name = {sentence.name: sentence for sentence in sentences}
    two_spans = task not in ("pos", "constituents", "entities")
    assert records
    for record in records:
        assert set(record) == {"text", "targets", "info"}
        sentence = by_name[record["info"]["sentence_id"]]
        assert record["text"].split(" ") == list(sentence.words)
        assert record["targets"]
        for target in record["targets"]:
            assert ("span2" in target) == two_spans
            for name in ("span1", "span2")[: 1 + two_spans]:
                start, stop = target[name]
                assert 0 <= start < stop <= len(sentence.words)
            if task == "proto-roles":
                assert all(isinstance(label, str) for label in target["label"])
            else:
                assert isinstance(target["label"], str)


def test_the_record_of_a_root_points_at_itself(
    tmp_path: Path, sentences: list[GeneratedSentence]
) -> None:
    for record in records_of(sentences, "dependencies", tmp_path):
        roots = [target for target in record["targets"] if target["label"] == "root"]
        assert len(roots) == 1
        assert roots[0]["span1"] == roots[0]["span2"]
        assert len(record["targets"]) == len(record["text"].split())


def test_tags_and_constituents_part_by_height(
    tmp_path: Path, sentences: list[GeneratedSentence]
) -> None:
    tags = records_of(sentences, "pos", tmp_path)
    phrases = records_of(sentences, "constituents", tmp_path)
    assert all(target["info"]["height"] == 1 for r in tags for target in r["targets"])
    assert all(target["info"]["height"] > 1 for r in phrases for target in r["targets"])
    labels = [target["label"] for record in tags for target in record["targets"]]
    assert labels == [tag for sentence in sentences for tag in sentence.xpos]


def test_a_record_of_roles_is_about_one_predicate(
    tmp_path: Path, sentences: list[GeneratedSentence]
) -> None:
    records = records_of(sentences, "srl", tmp_path)
    for record in records:
        assert len({tuple(target["span1"]) for target in record["targets"]}) == 1
    told = [predicate for sentence in sentences for predicate in sentence.predicates]
    assert len(records) == sum(bool(predicate.arguments) for predicate in told)


def test_coreference_pairs_every_two_mentions_once(
    tmp_path: Path, sentences: list[GeneratedSentence]
) -> None:
    by_name = {sentence.name: sentence for sentence in sentences}
    labels = []
    for record in records_of(sentences, "coreference", tmp_path):
        clusters = by_name[record["info"]["sentence_id"]].coreference
        n = sum(len(spans) for spans in clusters)
        same = sum(len(spans) * (len(spans) - 1) // 2 for spans in clusters)
        found = [target["label"] for target in record["targets"]]
        assert (len(found), found.count("1")) == (n * (n - 1) // 2, same)
        labels += found
    assert labels.count("1") > 0.08 * len(labels)


def test_proto_roles_hold_several_labels_or_none(
    tmp_path: Path, sentences: list[GeneratedSentence]
) -> None:
    records = records_of(sentences, "proto-roles", tmp_path)
    sizes = {len(target["label"]) for record in records for target in record["targets"]}
    assert len(sizes) > 3


def test_a_record_of_relations_has_one_target(
    tmp_path: Path, sentences: list[GeneratedSentence]
) -> None:
    records = records_of(sentences, "relations", tmp_path)
    assert all(len(record["targets"]) == 1 for record in records)
    assert len(records) == sum(sentence.relation is not None for sentence in sentences)


def test_an_unknown_task_is_refused(tmp_path: Path, sentences: list[GeneratedSentence]) -> None:
    with pytest.raises(InvalidInput, match="there is no task 'ner'; choose one of pos, "):
        write_edge_records(sentences, "ner", tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()
