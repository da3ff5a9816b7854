"""Readers and the corpus they make."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlake.engine.corpora.corpus import Corpus, WordSpans, corpus_from_texts, string_array
from layerlake.engine.corpora.formats import guess_format
from layerlake.engine.corpora.reading import read_corpus
from layerlake.engine.progress import ProgressEvent, to_function
from layerlake.store.errors import InvalidInput
from layerlake.store.in_memory import MemoryLocation
from layerlake.store.tables import read_table, write_table

CONLLU = """\
# newdoc id = letters
# sent_id = a-1
# text = We'll go.
1-2	We'll	_	_	_	_	_	_	_	_
1	We	we	PRON	PRP	_	3	nsubj	_	_
2	'll	will	AUX	MD	_	3	aux	_	_
3	go	go	VERB	VB	_	0	root	_	SpaceAfter=No
4	.	.	PUNCT	.	_	3	punct	_	_

# sent_id = a-2
# text = New York or none
1	New York	New York	PROPN	NNP	_	0	root	_	_
2	or	or	CCONJ	CC	_	3	cc	_	_
2.1	go	go	VERB	VB	_	_	_	_	_
3	none	none	NOUN	NN	_	1	conj	_	_
"""


def words_of(corpus: Corpus) -> list[list[str]]:
    """Return the words of every example."""
    bounds = corpus.word_offsets.tolist()
    return [
        [corpus.word(index) for index in range(start, stop)]
        for start, stop in itertools.pairwise(bounds)
    ]


def write_jsonl(path: Path, *objects: dict[str, Any]) -> Path:
    """Write objects, one a line."""
    path.write_text("".join(json.dumps(item) + "\n" for item in objects))
    return path


def test_text_has_an_example_a_line(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(b"\xef\xbb\xbfOne two\r\n\n   \n  three\tfour five \nsix\0seven")
    corpus = read_corpus(path)
    assert corpus.texts == ["One two", "  three\tfour five ", "six\0seven"]
    assert words_of(corpus) == [["One", "two"], ["three", "four", "five"], ["six\0seven"]]
    assert corpus.columns["id"].tolist() == ["line 1", "line 4", "line 5"]
    assert corpus.example_name(1) == "line 4"
    assert corpus.source == {
        "format": "text",
        "file": "some.txt",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "options": {},
        "blank_lines": 2,
    }
    assert not corpus.words_given
    assert corpus.pair_texts is None


def test_gzip_is_read_like_plain_and_hashed_as_it_lies(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_text("one two\nthree\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    first, second = read_corpus(plain), read_corpus(packed)
    assert first.fingerprint == second.fingerprint
    assert second.source["sha256"] == hashlib.sha256(packed.read_bytes()).hexdigest()
    assert second.source["sha256"] != first.source["sha256"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "text"),
        ("a.TEXT", "text"),
        ("a.b.jsonl", "jsonl"),
        ("a.ndjson.gz", "jsonl"),
        ("a.conllu.gz", "conllu"),
    ],
)
def test_the_format_is_guessed_from_the_name(name: str, expected: str) -> None:
    assert guess_format(name) == expected


def test_conllu_words_annotations_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "some.conllu"
    path.write_text(CONLLU)
    corpus = read_corpus(path, licence="CC0")
    assert words_of(corpus) == [["We", "'ll", "go", "."], ["New York", "or", "none"]]
    assert corpus.texts == ["We 'll go .", "New York or none"]
    assert corpus.words_given
    assert corpus.annotations["head"].dtype == np.int32
    assert corpus.annotations["head"].tolist() == [3, 3, 0, 3, 0, 3, 1]
    spelt = {
        name: ",".join(values.tolist())
        for name, values in corpus.annotations.items()
        if name != "head"
    }
    assert spelt == {
        "upos": "PRON,AUX,VERB,PUNCT,PROPN,CCONJ,NOUN",
        "xpos": "PRP,MD,VB,.,NNP,CC,NN",
        "lemma": "we,will,go,.,New York,or,none",
        "deprel": "nsubj,aux,root,punct,root,cc,conj",
    }
    assert {name: values.tolist() for name, values in corpus.columns.items()} == {
        "id": ["a-1", "a-2"],
        "text": ["We'll go.", "New York or none"],
        "document": ["letters", "letters"],
        "has_empty_nodes": [False, True],
    }
    assert corpus.licence == "CC0"


def test_conllu_without_unique_sentence_ids_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "some.conllu"
    path.write_text(CONLLU.replace("a-2", "a-1"))
    corpus = read_corpus(path)
    assert corpus.columns["id"].tolist() == ["line 1", "line 10"]
    assert corpus.columns["sent_id"].tolist() == ["a-1", "a-1"]
    path.write_text(CONLLU.replace("# sent_id = a-2\n", ""))
    corpus = read_corpus(path)
    assert corpus.columns["id"].tolist() == ["line 1", "line 10"]
    assert corpus.columns["sent_id"].tolist() == ["a-1", ""]


def test_wikitext_sentences_and_headings(tmp_path: Path) -> None:
    path = tmp_path / "wiki.raw"
    path.write_text(
        " \n = First @-@ born = \n \n"
        " A well @-@ known 1 @,@ 000 @.@ 5 kg cat . Is it ? Yes ! It is 3 @.@ 5 . \n"
        " = = Life = = \n \n = = = Early = = = \n \n It sat . \n = Second = \n \n Alone \n"
    )
    corpus = read_corpus(path, "wikitext")
    assert corpus.texts == [
        "A well-known 1,000.5 kg cat .",
        "Is it ?",
        "Yes !",
        "It is 3.5 .",
        "It sat .",
        "Alone",
    ]
    columns = {name: values.tolist() for name, values in corpus.columns.items()}
    assert columns["article"] == ["First-born"] * 5 + ["Second"]
    assert columns["section"] == [""] * 4 + ["Early", ""]
    assert columns["paragraph"] == [1, 1, 1, 1, 2, 3]
    assert columns["id"][0] == "line 4 sentence 1"
    assert len(set(columns["id"])) == 6
    assert not corpus.words_given
    whole = read_corpus(path, "wikitext", segment="paragraph")
    assert whole.texts == [" ".join(corpus.texts[:4]), "It sat .", "Alone"]
    assert whole.columns["id"].tolist() == ["line 4", "line 9", "line 12"]


def test_jsonl_columns_keep_their_types(tmp_path: Path) -> None:
    rows = [
        {"text": "a b", "s": "x", "i": 1, "f": 1, "b": True, "n": {"k": [1]}, "m": 1, "big": 2**70},
        {
            "text": "c",
            "s": "",
            "i": -2,
            "f": 0.5,
            "b": False,
            "n": None,
            "m": "1",
            "big": 1,
            "o": 3,
        },
    ]
    corpus = read_corpus(write_jsonl(tmp_path / "a.jsonl", *rows))
    kinds = {name: values.dtype.kind for name, values in corpus.columns.items()}
    as_text = dict.fromkeys(("n", "m", "big", "o", "id"), "T")
    assert kinds == {"s": "T", "i": "i", "f": "f", "b": "b", **as_text}
    assert corpus.columns["f"].tolist() == [1.0, 0.5]
    assert corpus.columns["n"].tolist() == ['{"k": [1]}', "null"]
    assert corpus.columns["m"].tolist() == ["1", '"1"']
    assert corpus.columns["big"].tolist() == [str(2**70), "1"]
    assert corpus.columns["o"].tolist() == ["", "3"]
    assert corpus.columns["id"].tolist() == ["line 1", "line 2"]
    assert corpus.source["json_columns"] == ["n", "m", "big", "o"]
    assert corpus.source["options"] == {"text_field": "text"}


def test_jsonl_pairs_and_words(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", {"text": "a b", "text_pair": "c"})
    pairs = read_corpus(path)
    assert (pairs.texts, pairs.pair_texts) == (["a b"], ["c"])
    assert pairs.word_segment.tolist() == [0, 0, 1]
    path = write_jsonl(tmp_path / "w.jsonl", {"words": ["New York", "is"], "words_pair": ["big"]})
    given_words = read_corpus(path)
    assert given_words.words_given
    assert words_of(given_words) == [["New York", "is", "big"]]
    assert given_words.texts == ["New York is"]
    path = write_jsonl(tmp_path / "n.jsonl", {"premise": "a", "hypothesis": "b", "text": "c"})
    named = read_corpus(path, text_field="premise", pair_field="hypothesis")
    assert (named.texts, named.pair_texts) == (["a"], ["b"])
    assert named.columns["text"].tolist() == ["c"]
    both = write_jsonl(tmp_path / "b.jsonl", {"text": "It's", "words": ["It", "'s"]})
    assert words_of(read_corpus(both, words_field="words")) == [["It", "'s"]]


@pytest.mark.parametrize(
    ("fields", "ids", "others"),
    [
        ([{"id": "x"}, {"id": "y"}], ["x", "y"], {}),
        ([{"id": 3}, {"id": 4}], ["3", "4"], {}),
        ([{"idx": 7}, {"idx": 9}], ["7", "9"], {"idx": [7, 9]}),
        ([{"id": "x"}, {"id": "x"}], ["line 1", "line 2"], {"id_in_file": ["x", "x"]}),
        (
            [{"id": "x", "idx": 5, "id_in_file": 0}, {"id": "x", "idx": 6, "id_in_file": 1}],
            ["5", "6"],
            {"id_in_file_": ["x", "x"], "idx": [5, 6], "id_in_file": [0, 1]},
        ),
        ([{"id": "x"}, {}], ["line 1", "line 2"], {"id_in_file": ['"x"', ""]}),
    ],
)
def test_jsonl_ids_name_examples_and_none_is_lost(
    tmp_path: Path, fields: list[dict[str, Any]], ids: list[str], others: dict[str, list[Any]]
) -> None:
    rows = [{"text": "a", **more} for more in fields]
    corpus = read_corpus(write_jsonl(tmp_path / "a.jsonl", *rows))
    columns = {name: values.tolist() for name, values in corpus.columns.items()}
    assert columns.pop("id") == ids
    assert columns == others


def test_nan_is_a_float_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "score": NaN}\n{"text": "b", "score": 1.5}\n')
    scores = read_corpus(path).columns["score"].tolist()
    assert math.isnan(scores[0])
    assert scores[1] == 1.5


def test_half_a_surrogate_pair_survives_in_a_column_as_json(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "a", "emoji": "\ud83d"})
    assert read_corpus(path).columns["emoji"].tolist() == [r'"\ud83d"']


NAMES = st.sampled_from(["plain", "with/slash", "..", ".", "", "%", "__zarr", "ü b", "text"])
LINE = st.text(max_size=12).filter(lambda text: bool(text.strip()))


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(LINE, LINE, st.text(max_size=5), st.integers(-(2**63), 2**63 - 1)),
        min_size=1,
        max_size=5,
    ),
    pair=st.booleans(),
    names=st.lists(NAMES, min_size=2, max_size=2, unique=True),
)
def test_columns_and_attributes_hold_the_whole_corpus(
    rows: list[tuple[str, str, str, int]], pair: bool, names: list[str]
) -> None:
    texts = [row[0] for row in rows]
    plain = corpus_from_texts(texts, [row[1] for row in rows] if pair else None)
    corpus = dataclasses.replace(
        plain,
        columns={
            **plain.columns,
            names[0]: string_array([row[2] for row in rows]),
            names[1]: np.array([row[3] for row in rows], np.int64),
        },
        annotations={"a/b": np.arange(plain.n_words, dtype=np.int32)},
        licence="CC0",
    )
    flat, attributes = corpus.to_columns(), json.loads(json.dumps(corpus.to_attributes()))
    assert all(".." not in key.split("/") and "" not in key.split("/") for key in flat)
    assert all(key.count("/") <= 1 for key in flat)
    again = Corpus.from_columns(flat, attributes)
    assert again.fingerprint == corpus.fingerprint == attributes["fingerprint"]
    assert (again.texts, again.pair_texts) == (corpus.texts, corpus.pair_texts)
    assert again.licence == "CC0"
    assert {name: values.tolist() for name, values in again.columns.items()} == {
        name: values.tolist() for name, values in corpus.columns.items()
    }
    assert [again.word(i) for i in range(again.n_words)] == [
        word
        for row in rows
        for word in (row[0].split() + row[1].split() if pair else row[0].split())
    ]


def test_the_fingerprint_is_of_the_content_alone() -> None:
    first = corpus_from_texts(["a b", "c"], ids=["x", "y"])
    elsewhere = dataclasses.replace(first, source={"file": "other"}, licence="CC0")
    assert elsewhere.fingerprint == first.fingerprint
    different = [
        corpus_from_texts(["a b", "d"], ids=["x", "y"]),
        corpus_from_texts(["a b", "c"], ids=["x", "z"]),
        corpus_from_texts(["a", "b c"], ids=["x", "y"]),
        corpus_from_texts(["a b", "c"], ["d", "e"], ids=["x", "y"]),
        dataclasses.replace(first, words_given=True),
        dataclasses.replace(first, annotations={"n": np.arange(3)}),
        dataclasses.replace(first, annotations={"n": np.arange(3, dtype=np.int32)}),
    ]
    assert len({corpus.fingerprint for corpus in [first, *different]}) == len(different) + 1


def test_a_corpus_in_a_lake_is_the_same_corpus(
    of_words: Callable[..., Corpus],
) -> None:
    plain = of_words([["don't", "go"], ["\0x"]])
    flags = {name: np.array([True, False]) for name in ("..", "a/b", "")}
    corpus = dataclasses.replace(plain, columns={**plain.columns, **flags})
    location = MemoryLocation("for-a-corpus")
    write_table(location, "corpora/a", corpus.to_columns(), corpus.to_attributes())
    columns, attributes = read_table(location, "corpora/a")
    assert Corpus.from_columns(columns, attributes).fingerprint == corpus.fingerprint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"word_stop": np.array([1, 9, 1], np.int32)}, "inside their texts"),
        ({"word_start": np.array([0, 0, 0], np.int32)}, "apart"),
        ({"word_start": np.array([0, 3, 0], np.int32)}, "non-empty"),
        ({"word_offsets": np.array([0, 3], np.int64)}, "word_offsets"),
        ({"word_offsets": np.array([0, 4, 3], np.int64)}, "must not fall"),
        ({"word_segment": np.array([0, 0, 1], np.uint8)}, "segment 1"),
        ({"pair_texts": ["a"]}, "1 second texts for 2 examples"),
        ({"columns": {}}, "no column 'id'"),
        ({"annotations": {"upos": string_array(["X"])}}, r"\(1,\), expected \(3,\)"),
        ({"texts": []}, "no examples"),
    ],
)
def test_arrays_that_are_no_corpus_are_refused(change: dict[str, Any], said: str) -> None:
    corpus = corpus_from_texts(["a b", "c"])
    with pytest.raises(InvalidInput, match=said):
        dataclasses.replace(corpus, **change)


def test_a_missing_column_is_named() -> None:
    corpus = corpus_from_texts(["a"])
    columns = corpus.to_columns()
    del columns["word_stop"]
    with pytest.raises(InvalidInput, match="'word_stop' is missing"):
        Corpus.from_columns(columns, corpus.to_attributes())


def test_spans_take_little_memory() -> None:
    spans = WordSpans()
    for _ in range(100):
        spans.add_text("some words here")
        spans.close_example()
    arrays = spans.arrays()
    assert sum(arrays[name].itemsize for name in arrays if name != "word_offsets") == 9
    assert arrays["word_offsets"].tolist() == list(range(0, 301, 3))


@pytest.mark.parametrize("format", ["text", "wikitext", "jsonl", "conllu"])
def test_reading_tells_of_its_lines(tmp_path: Path, format: str) -> None:
    one = {"jsonl": '{"text": "a"}\n', "conllu": "1\ta\ta\tX\tX\t_\t0\troot\t_\t_\n\n"}
    path = tmp_path / "a"
    path.write_text(one.get(format, "words here\n") * 2500)
    events: list[ProgressEvent] = []
    read_corpus(path, format, progress=to_function(events.append))
    assert (events[0].label, events[0].total, events[0].unit) == ("reading a", None, "lines")
    n_lines = 5000 if format == "conllu" else 2500
    assert (events[-1].done, events[-1].state) == (n_lines, "finished")
