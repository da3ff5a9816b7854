"""NLI pairs, SQuAD, tables as text and Parquet: what is read, and what is refused by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.formats import guess_format
from layerlake.engine.corpora.reading import read_corpus
from layerlake.store.errors import InvalidInput

NLI = [
    {
        "gold_label": "neutral",
        "sentence1": "A man sleeps.",
        "sentence2": 'He says "no".',
        "pairID": "7n",
        "label1": "neutral",
        "promptID": 31,
    },
    {
        "gold_label": "-",
        "sentence1": "Two dogs run.",
        "sentence2": "Cats run.",
        "pairID": "8c",
        "label1": "contradiction",
        "promptID": 32,
    },
]


def refusal(path: Path, format: str | None = None, **options: Any) -> str:
    """Return the one sentence that reading a file is refused with."""
    with pytest.raises(InvalidInput) as caught:
        read_corpus(path, format, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, *lines: str) -> Path:
    """Write lines and return the path."""
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return path


def nli_file(folder: Path, kind: str) -> Path:
    """Write `NLI` as JSON lines or with tabs."""
    if kind == "jsonl":
        return write(folder / "a.jsonl", *map(json.dumps, NLI))
    rows = ["\t".join(map(str, item.values())) for item in NLI]
    return write(folder / "a.tsv", "\t".join(NLI[0]), *rows)


def check_nli(corpus: Corpus) -> None:
    """Hold a corpus to `NLI`."""
    assert corpus.texts == [item["sentence1"] for item in NLI]
    assert corpus.pair_texts == [item["sentence2"] for item in NLI]
    assert corpus.columns["label"].tolist() == ["neutral", "-"]
    assert corpus.columns["id"].tolist() == ["7n", "8c"]
    assert corpus.columns["promptID"].dtype == np.int64
    assert set(corpus.columns) == {"id", "pairID", "label", "label1", "promptID"}
    assert corpus.source["without_consensus"] == 1


@pytest.mark.parametrize("kind", ["jsonl", "tsv"])
@pytest.mark.parametrize("format", ["mnli", "snli"])
def test_nli(tmp_path: Path, kind: str, format: str) -> None:
    corpus = read_corpus(nli_file(tmp_path, kind), format)
    check_nli(corpus)
    assert corpus.source["format"] == format


def test_nli_with_other_names_for_its_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "premise\thypothesis\tlabel\tgenre", "a b\tc\tentailment\tx")
    corpus = read_corpus(path, "mnli")
    assert (corpus.texts, corpus.pair_texts) == (["a b"], ["c"])
    assert corpus.columns["label"].tolist() == ["entailment"]
    path = write(
        tmp_path / "b.tsv",
        "label\tsentence1\tsentence2\tgold_label",
        "odd\ta\tb\tneutral",
    )
    columns = read_corpus(path, "snli").columns
    assert columns["label"].tolist() == ["neutral"]
    assert columns["label_in_file"].tolist() == ["odd"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["sentence1\tsentence2", "a\tb"], "line 2 of a.tsv has no field 'gold_label' or 'label'"),
        (["sentence1\tlabel", "a\tneutral"], "line 2 of a.tsv has no field 'sentence2'"),
        (
            ["sentence1\tsentence2\tlabel", "a\tb\tneutral", "a\tb\thidden"],
            "the label at line 3 of a.tsv is 'hidden', expected one of entailment, neutral, con",
        ),
        (
            ["sentence1\tsentence2\tlabel", "a\tb\tneutral", "a\tneutral"],
            "line 3 of a.tsv has 2 values, expected 3 (sentence1, sentence2, label, as",
        ),
        (["sentence1\tsentence2\tlabel"], "a.tsv holds no examples, only the names"),
        ([], "a.tsv holds no examples"),
        (['{"sentence1": "a", "sentence2": "b"}'], "no field 'gold_label' or 'label'; its fields"),
        (['{"sentence1": "a", "sentence2": 3, "label": "-"}'], "'sentence2' at line 1 of a.tsv is"),
        (['{"sentence1": "a", "sentence2": "b", "label": 1}'], "the label at line 1 of a.tsv is 1"),
    ],
)
def test_nli_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    assert said in refusal(write(tmp_path / "a.tsv", *lines), "mnli")


def test_nli_read_as_json_lines_says_the_format(tmp_path: Path) -> None:
    assert "the formats mnli and snli read these" in refusal(nli_file(tmp_path, "jsonl"))


def test_tsv_knows_no_quotes_and_csv_does(tmp_path: Path) -> None:
    rows = [
        ["text", "text_pair", "topic", "score", "code", "n"],
        ['She said "no', "yes, he did", "a", "0.5", "007", "-3"],
        ["two  spaces", 'a "b" c', "", "1", "10", "0"],
    ]
    tsv = read_corpus(write(tmp_path / "a.tsv", *map("\t".join, rows)))
    rows[1][0] = "two\nlines, said"
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    read = read_corpus(path)
    assert tsv.texts == ['She said "no', "two  spaces"]
    assert read.texts == ["two\nlines, said", "two  spaces"]
    assert tsv.pair_texts == read.pair_texts == ["yes, he did", 'a "b" c']
    assert tsv.columns["id"].tolist() == ["line 2", "line 3"]
    assert read.columns["id"].tolist() == ["line 2", "line 4"]
    for columns in (tsv.columns, read.columns):
        assert columns["topic"].tolist() == ["a", ""]
        assert columns["score"].tolist() == [0.5, 1.0]
        assert columns["code"].tolist() == ["007", "10"]
        assert columns["n"].dtype == np.int64
        assert columns["n"].tolist() == [-3, 0]


@pytest.mark.parametrize(
    ("name", "lines", "options", "said"),
    [
        (
            "a.tsv",
            ["a\tb", "x\ty"],
            {},
            "line 2 of a.tsv has no field 'text'; its fields are: a, b",
        ),
        ("a.tsv", ["a\ta", "x\ty"], {}, "line 1 of a.tsv names the column 'a' twice"),
        ("a.tsv", ["text\tb", "x\ty\tz"], {}, "line 2 of a.tsv has 3 values, expected 2"),
        ("a.csv", ["text,b", 'x,"y'], {}, "line 2 of a.csv is not CSV (unexpected end of data)"),
        ("a.csv", ["text,b", "x"], {}, "line 2 of a.csv has 1 values, expected 2"),
        ("a.csv", ["text", "x"], {"words_field": "text"}, "csv holds none; name a text_field"),
        ("a.csv", ["text", "x"], {"pair_field": "other"}, "has no field 'other'"),
    ],
)
def test_tables_refused(
    tmp_path: Path, name: str, lines: list[str], options: dict[str, str], said: str
) -> None:
    assert said in refusal(write(tmp_path / name, *lines), **options)


def squad(**changes: Any) -> dict[str, Any]:
    """Return a document of two questions about one passage, the second one changed."""
    context = "Gülls nest on cliffs. Gülls eat fish."
    answers = [{"text": "fish", "answer_start": 32}, {"text": "eat fish", "answer_start": 28}]
    second = {"id": "q2", "question": "What do they eat?", "answers": answers, **changes}
    first = {
        "id": "q1",
        "question": "Where do gülls nest?",
        "answers": [{"text": "cliffs", "answer_start": 14}],
    }
    qas = [first, {k: v for k, v in second.items() if v is not None}]
    paragraphs = [{"context": context, "qas": qas}]
    return {"version": "1.1", "data": [{"title": "Gulls", "paragraphs": paragraphs}]}


def test_squad(tmp_path: Path) -> None:
    path = tmp_path / "dev-v1.1.json"
    path.write_text(json.dumps(squad(), indent=1))
    corpus = read_corpus(path)
    assert corpus.texts == ["Where do gülls nest?", "What do they eat?"]
    assert corpus.pair_texts == ["Gülls nest on cliffs. Gülls eat fish."] * 2
    assert corpus.columns["id"].tolist() == ["q1", "q2"]
    assert corpus.columns["title"].tolist() == ["Gulls", "Gulls"]
    assert corpus.columns["answer_start"].tolist() == [14, 32]
    assert corpus.columns["answer"].tolist() == ["cliffs", "fish"]
    assert json.loads(corpus.columns["answers"][1])[1] == {"text": "eat fish", "answer_start": 28}
    assert corpus.source["version"] == "1.1"
    path.write_text(json.dumps(squad(answers=[], is_impossible=True)))
    assert read_corpus(path).columns["answer_start"].tolist() == [14, -1]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            squad(answers=[{"text": "fish", "answer_start": 31}]),
            "the answer 'fish' to question 'q2",
        ),
        (squad(answers=[{"text": "fish", "answer_start": 31}]), "where it says ' fis'; mend"),
        (squad(answers=[{"text": "fish", "answer_start": -5}]), "stand at character -5"),
        (squad(answers=[{"text": "", "answer_start": 3}]), "the answer '' to question 'q2'"),
        (squad(answers=[{"text": "fish"}]), "an answer to question 'q2' of a.json has no field"),
        (squad(answers=[{"text": "fish", "answer_start": "32"}]), "is str, expected int"),
        (squad(answers=[]), "question 'q2' of a.json has no answer"),
        (squad(answers=None), "question 'q2' of a.json has no field 'answers'"),
        (squad(question=None), "question 2 of paragraph 1 of article 1 of a.json has no field"),
        (squad(question=" "), "the first text of example 'q2' has no words"),
        ({"data": [{"title": "x"}]}, "article 1 of a.json has no field 'paragraphs'"),
        ({"data": []}, "a.json holds no questions"),
        ([1], "a.json is a JSON list, expected an object (as in the JSON file of SQuAD)"),
        ({"text": "a"}, "a.json has no field 'data'; its fields are: text"),
    ],
)
def test_squad_refused(tmp_path: Path, document: Any, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    assert said in refusal(path, "squad")


def test_squad_that_is_no_json(tmp_path: Path) -> None:
    path = write(tmp_path / "squad.json", "{", "what")
    assert "squad.json is not JSON (" in refusal(path)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("dev-v1.1.part_a.json.gz", "squad"),
        ("train-v2.0.json", "squad"),
        ("my_SQuAD.json", "squad"),
        ("a.tsv.gz", "tsv"),
        ("a.csv", "csv"),
        ("a.parquet", "parquet"),
    ],
)
def test_formats_are_guessed(name: str, format: str) -> None:
    assert guess_format(name) == format


def test_other_json_is_not_guessed() -> None:
    with pytest.raises(InvalidInput, match=r"a\.json does not say its format"):
        guess_format("a.json")


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the data extra is not installed")
    from pyarrow import parquet

    n = 2500
    table = arrow.table(
        {
            "text": [f"text {i} here" for i in range(n)],
            "other": [f"more {i}" for i in range(n)],
            "words": [["New York", str(i)] for i in range(n)],
            "key": list(range(n)),
            "share": [i / 2 for i in range(n)],
            "truth": [i % 2 == 0 for i in range(n)],
            "kind": arrow.array([f"k{i % 3}" for i in range(n)]).dictionary_encode(),
            "gap": [None if i % 2 else i for i in range(n)],
        }
    )
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, row_group_size=700)
    corpus = read_corpus(path, text_field="text", pair_field="other")
    assert corpus.texts == table["text"].to_pylist()
    assert corpus.pair_texts == table["other"].to_pylist()
    columns = corpus.columns
    assert columns["id"][n - 1] == "row 2500"
    assert columns["key"].tolist() == list(range(n))
    assert columns["share"].dtype == np.float64
    assert columns["truth"].dtype == np.bool_
    assert columns["kind"][:4].tolist() == ["k0", "k1", "k2", "k0"]
    assert columns["gap"][:3].tolist() == ["0", "null", "2"]
    assert json.loads(columns["words"][7]) == ["New York", "7"]
    given = read_corpus(path, words_field="words")
    assert given.words_given
    assert [given.word(i) for i in (0, 1, 2)] == ["New York", "0", "New York"]


def test_parquet_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the data extra is not installed")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    path.write_bytes(b"nothing of the kind")
    assert "a.parquet cannot be read as Parquet (" in refusal(path)
    parquet.write_table(arrow.table({"text": ["a"] * 4000, "n": range(4000)}), path)
    path.write_bytes(path.read_bytes()[:-30])
    assert "a.parquet cannot be read as Parquet (" in refusal(path)
    parquet.write_table(arrow.table({"body": ["a"]}), path)
    assert "row 1 of a.parquet has no field 'text'; its fields are: body" in refusal(path)
    parquet.write_table(arrow.table({"text": ["a", None]}), path)
    assert "field 'text' at row 2 of a.parquet is NoneType, expected text" in refusal(path)
    parquet.write_table(arrow.table({"text": ["a"], "image": [b"\x89PNG"]}), path)
    assert "the field 'image' of a.parquet holds bytes, which cannot be kept" in refusal(path)
    parquet.write_table(arrow.table({"text": arrow.array([], arrow.string())}), path)
    assert "a.parquet holds no examples" in refusal(path)


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from layerlake.store.errors import MissingExtra

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = write(tmp_path / "a.parquet", "x")
    with pytest.raises(MissingExtra, match=r"pip install 'layerlake\[data\]'"):
        read_corpus(path)
