"""Where the data of a run comes from: formats, names, several sources as one, and samples."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.finetuning.data import (
    Data,
    listed,
    parse_sample,
    read_data,
    read_dev,
    read_training,
)
from layerlake.analyses.finetuning.tasks.registry import TASKS, task_named
from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.engine.corpora.reading import Reading
from layerlake.engine.progress import silent
from layerlake.store.errors import InvalidInput

HOW: dict[str, Any] = {"reading": Reading(), "progress": silent}
MNLI, DEP, CLASSIFY = task_named("mnli"), task_named("dep"), task_named("classify")
CONLLU = "1\tdogs\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n"


def pair(number: int, label: str = "neutral") -> dict[str, str]:
    return {
        "pairID": f"p{number}",
        "sentence1": f"premise {number}",
        "sentence2": "yes",
        "gold_label": label,
    }


def a_file(folder: Path, name: str, numbers: range | list[int]) -> Path:
    file = folder / name
    file.write_text("\n".join(json.dumps(pair(n)) for n in numbers) + "\n", encoding="utf-8")
    return file


def ids(data: Data) -> list[str]:
    return [str(name) for name in data.corpus.columns["id"].tolist()]


def test_every_task_is_found_by_its_name() -> None:
    assert sorted(TASKS) == ["classify", "dep", "mnli", "snli", "squad", "tag"]
    assert all(task_named(name).name == name for name in TASKS)
    with pytest.raises(InvalidInput, match=r"^there is no task 'pos'; choose one of mnli, snli"):
        task_named("pos")


def test_a_file_is_read_in_the_format_of_the_task(tmp_path: Path) -> None:
    data = read_data(a_file(tmp_path, "train_1.0.jsonl", range(3)), MNLI, **HOW)
    assert data.corpus.source["format"] == "mnli"
    assert data.name == "train_1"
    assert data.files == ("train_1.0.jsonl",)
    assert data.corpus.columns["label"].tolist() == ["neutral"] * 3
    assert read_data(str(tmp_path / "train_1.0.jsonl"), task_named("snli"), **HOW).corpus.source[
        "format"
    ] == "snli"  # fmt: skip


@pytest.mark.parametrize("name", ["a.conllu", "a.txt", "trees", "a.conllu.gz"])
def test_trees_are_read_whatever_their_file_is_called(tmp_path: Path, name: str) -> None:
    data = CONLLU.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert read_data(tmp_path / name, DEP, **HOW).corpus.source["format"] == "conllu"


def test_a_format_that_the_file_says_and_the_task_takes_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text\tlabel\nso so\t1\nwell\t2\n", encoding="utf-8")
    data = read_data(tmp_path / "a.tsv", CLASSIFY, **HOW)
    assert data.corpus.source["format"] == "tsv"
    (tmp_path / "words.conllu").write_text(CONLLU, encoding="utf-8")
    found = read_data(tmp_path / "words.conllu", task_named("tag"), **HOW)
    assert found.corpus.source["format"] == "conllu"


def test_a_named_format_goes_before_the_file_s_name(tmp_path: Path) -> None:
    file = a_file(tmp_path, "a.jsonl", range(2))
    data = read_data(file, CLASSIFY, **HOW | {"reading": Reading("snli")})
    assert data.corpus.source["format"] == "snli"
    said = r"^format conllu is not one that classify is trained on; they are jsonl, tsv"
    with pytest.raises(InvalidInput, match=said):
        read_data(file, CLASSIFY, **HOW | {"reading": Reading("conllu")})


def test_fields_are_named(tmp_path: Path) -> None:
    file = a_file(tmp_path, "a.jsonl", range(2))
    reading = Reading(text_field="sentence1", pair_field="sentence2")
    data = read_data(file, CLASSIFY, **HOW | {"reading": reading})
    assert data.corpus.pair_texts == ["yes", "yes"]
    with pytest.raises(InvalidInput, match="text_field"):
        read_data(file, MNLI, **HOW | {"reading": reading})


def test_rows_in_memory_are_in_the_format_of_the_task() -> None:
    found = read_data([pair(1), pair(2, "-")], MNLI, **HOW)
    assert found.name == "data"
    assert found.files == ()
    assert found.corpus.columns["label"].tolist() == ["neutral", "-"]
    question = {
        "id": "q",
        "question": "who ?",
        "context": "I am",
        "answers": {"text": ["I"], "answer_start": [0]},
    }
    squad = read_data([question], task_named("squad"), **HOW).corpus
    assert squad.pair_texts == ["I am"]
    plain = read_data([{"text": "so so", "label": 1}], CLASSIFY, **HOW).corpus
    assert plain.texts == ["so so"]


def test_a_corpus_is_taken_as_it_is() -> None:
    corpus = corpus_from_texts(["a", "b"])
    data = read_data(corpus, CLASSIFY, **HOW)
    assert data.corpus is corpus
    assert data.to_dict() == {"files": [], "fingerprint": corpus.fingerprint, "n_examples": 2}


def test_several_sources_are_trained_on_as_one(tmp_path: Path) -> None:
    one, two = a_file(tmp_path, "a.jsonl", range(3)), a_file(tmp_path, "b.jsonl", range(3, 5))
    data = read_training([one, str(two)], MNLI, None, **HOW)
    assert ids(data) == ["p0", "p1", "p2", "p3", "p4"]
    assert data.files == ("a.jsonl", "b.jsonl")
    assert data.name == "a"
    assert data.sample is None
    assert ids(read_training([[pair(7)]], MNLI, None, **HOW)) == ["p7"]  # type: ignore[list-item]


def test_what_is_trained_on_has_no_names(tmp_path: Path) -> None:
    file = a_file(tmp_path, "a.jsonl", range(3))
    with pytest.raises(InvalidInput, match=r"^what is trained on has no names, and 'x' were given"):
        read_training({"x": file}, MNLI, None, **HOW)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_smaller_sample_is_part_of_a_larger_one(tmp_path: Path, seed: int) -> None:
    file = a_file(tmp_path, "a.jsonl", range(30))
    whole = ids(read_training(file, MNLI, None, **HOW))
    before: set[str] = set()
    for n in (1, 4, 11, 30):
        data = read_training(file, MNLI, f"{n}@{seed}", **HOW)
        found = ids(data)
        assert len(found) == n
        assert found == [name for name in whole if name in set(found)]
        assert before < set(found)
        assert data.sample == f"{n}@{seed}"
        assert data.to_dict()["sample"] == f"{n}@{seed}"
        before = set(found)


def test_a_sample_is_a_function_of_its_seed(tmp_path: Path) -> None:
    file = a_file(tmp_path, "a.jsonl", range(30))
    drawn = [ids(read_training(file, MNLI, f"10@{seed}", **HOW)) for seed in (0, 1, 2)]
    assert len({tuple(names) for names in drawn}) == 3
    assert ids(read_training(file, MNLI, 10, **HOW)) == drawn[0]
    with pytest.raises(InvalidInput, match=r"^a sample of 31 was asked of 30 training examples"):
        read_training(file, MNLI, 31, **HOW)


def test_the_sample_is_drawn_of_all_sources_together(tmp_path: Path) -> None:
    one, two = a_file(tmp_path, "a.jsonl", range(20)), a_file(tmp_path, "b.jsonl", range(20, 40))
    both = a_file(tmp_path, "both.jsonl", range(40))
    found = ids(read_training([one, two], MNLI, 12, **HOW))
    assert found == ids(read_training(both, MNLI, 12, **HOW))
    assert any(int(name[1:]) >= 20 for name in found)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("12000", (12000, 0)), (5, (5, 0)), ("7@3", (7, 3)), (f"1@{2**64 - 1}", (1, 2**64 - 1))],
)
def test_samples_are_a_number_and_a_seed(given: int | str, expected: tuple[int, int]) -> None:
    assert parse_sample(given) == expected


@pytest.mark.parametrize(
    "given", ["", "many", "-3", "3@", "@3", "3@-1", "3@x", "1.5", 2.0, True, "1e3", "3@4@5", " 3"]
)
def test_what_is_no_sample_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^train sample .* is not understood; give a number"):
        parse_sample(given)


@pytest.mark.parametrize("given", ["0", 0, "0@1", f"1@{2**64}"])
def test_samples_out_of_range_are_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="give a whole number"):
        parse_sample(given)


def test_dev_data_are_called_as_they_are_named_or_as_their_files(tmp_path: Path) -> None:
    one, two = a_file(tmp_path, "dev.matched.jsonl", [1]), a_file(tmp_path, "mismatched.jsonl", [2])
    assert [d.name for d in read_dev([one, two], MNLI, **HOW)] == ["dev", "mismatched"]
    named = read_dev({"m": one, "mm": two}, MNLI, **HOW)
    assert [(d.name, d.files) for d in named] == [
        ("m", ("dev.matched.jsonl",)),
        ("mm", ("mismatched.jsonl",)),
    ]
    assert read_dev(None, MNLI, **HOW) == []
    assert [d.name for d in read_dev(one, MNLI, **HOW)] == ["dev"]


def test_two_of_the_same_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    files = [a_file(tmp_path, "dev.jsonl", [1]), a_file(tmp_path / "x", "dev.jsonl", [2])]
    with pytest.raises(InvalidInput, match=r"^two files to evaluate on are called dev; name them"):
        read_dev(files, MNLI, **HOW)


def test_a_list_is_of_sources_unless_it_holds_examples() -> None:
    rows = [pair(1), pair(2)]
    assert listed(rows) == [(None, rows)]
    assert listed([("a", "b"), ("c", "d")]) == [(None, [("a", "b"), ("c", "d")])]
    assert listed(["a.jsonl", Path("b.jsonl")]) == [(None, "a.jsonl"), (None, Path("b.jsonl"))]
    assert listed("a.jsonl") == [(None, "a.jsonl")]
    corpus = corpus_from_texts(["a"])
    assert listed([corpus, "a.jsonl"]) == [(None, corpus), (None, "a.jsonl")]
    assert listed({"x": "a.jsonl"}) == [("x", "a.jsonl")]
    frame = np.array([["a", "b"]])
    assert listed([frame])[0][1] is frame
    for nothing in ([], (), {}):
        with pytest.raises(InvalidInput, match=r"^no data is named; give a file"):
            listed(nothing)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file .*none\.jsonl"):
        read_training(tmp_path / "none.jsonl", MNLI, None, **HOW)
