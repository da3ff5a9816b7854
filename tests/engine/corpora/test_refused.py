"""What no reader takes: each is one sentence that says where and what."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from layerlake.engine.corpora.corpus import corpus_from_texts
from layerlake.engine.corpora.formats import FORMATS, guess_format
from layerlake.engine.corpora.reading import read_corpus
from layerlake.store.errors import InvalidInput

WORD = "{}\tgo\tgo\tVERB\tVB\t_\t{}\troot\t_\t_\n"


def refusal(path: Path, *args: Any, **options: Any) -> str:
    """Return the sentence with which a file is refused."""
    with pytest.raises(InvalidInput) as caught:
        read_corpus(path, *args, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "missing.txt")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    assert "there is no file" in refusal(tmp_path / "a.txt" / "b.txt")


def test_a_name_that_says_no_format_lists_the_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_text("a")
    assert refusal(path).endswith(f"choose one of {', '.join(FORMATS)}")
    assert "no format 'xml'; choose one of text" in refusal(path, "xml")
    with pytest.raises(InvalidInput):
        guess_format("a.gz")


def test_options_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    assert "text_field is for the formats jsonl, tsv, csv, parquet" in refusal(path, text_field="a")
    assert "segment is for the format wikitext" in refusal(path, segment="paragraph")
    assert "segment is 'page'" in refusal(path, "wikitext", segment="page")


@pytest.mark.parametrize("format", ["text", "wikitext"])
@pytest.mark.parametrize("content", ["", "\n \n\t\n"])
def test_an_empty_corpus(tmp_path: Path, format: str, content: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content)
    assert refusal(path, format) == "a.txt holds no examples"


def test_an_empty_corpus_of_headings_comments_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(" = Title = \n")
    assert "holds no examples" in refusal(path, "wikitext")
    path.write_text("\n")
    assert "holds no examples" in refusal(path, "jsonl")
    path.write_text("# sent_id = a\n\n")
    assert "holds no sentences" in refusal(path, "conllu")


def test_gzip_that_is_cut_damaged_or_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    whole = gzip.compress("".join(f"line {i * i}\n" for i in range(5000)).encode())
    for keep in (3, 12, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        assert "in the middle of its gzip data" in refusal(path)
    for place in (len(whole) // 2, len(whole) - 5):  # in the data; in the checksum
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        assert "gzip data of a.txt.gz is damaged" in refusal(path)
    path.write_bytes(whole + b"more")
    assert "damaged" in refusal(path)
    path.write_bytes(b"just text")
    assert "does not begin like gzip" in refusal(path)


def test_bytes_that_are_not_utf8_are_found_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("fine\nalso fine é\nna\xefve\n".encode("latin-1").replace(b"\xe9", b"e"))
    assert "line 3 of a.txt is not UTF-8 (byte 0xef at place 3)" in refusal(path)
    path.write_bytes("a b".encode("utf-16"))
    assert "line 1" in refusal(path)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"text": "a"}\n', "line 1 of a.conllu is not CoNLL-U: 1 tab-separated column where"),
        ('{"text": "a"}\n', "looks like JSON"),
        ("1 go go VERB VB _ 0 root _ _\n", "looks parted by spaces"),
        (WORD.format(1, 0) + "2\tgo\tgo\tVERB\tVB\t_\t1\tconj\t_\n", "line 2"),
        (WORD.format(1, 0) + "2\tgo\tgo\tVERB\tVB\t_\t1\tconj\t_\n", "9 tab-separated columns"),
        (WORD.format("one", 0), "id 'one' is no word id; 1 was expected"),
        (WORD.format(1, 0) + WORD.format(3, 1), "line 2 of a.conllu is not CoNLL-U: id '3' comes"),
        (WORD.format(2, 0), "id '2' comes where 1 was expected"),
        (WORD.format(1, "_"), "head '_' is not the number of a word"),
        (WORD.format(1, "-1"), "head '-1'"),
        (WORD.format(1, "²"), "head '²'"),
        (WORD.format(1, 0) + WORD.format(2, 3), "line 2 of a.conllu is not CoNLL-U: head 3 in"),
        (WORD.format(1, 0).replace("go", "", 1), "the word form is empty"),
        (WORD.format(1, 0).replace("go", " ", 1), "no words but white space"),
        (WORD.format("1.1", "_"), "empty nodes only"),
    ],
)
def test_conllu_names_file_and_line(tmp_path: Path, lines: str, said: str) -> None:
    path = tmp_path / "a.conllu"
    path.write_text(lines)
    assert said in refusal(path)


@pytest.mark.parametrize(
    ("line", "options", "said"),
    [
        ("{'text': 1}", {}, "line 2 of a.jsonl is not JSON"),
        ("[" * 100_000, {}, "is not JSON"),
        ("1" * 5000, {}, "is not JSON"),
        ('["text"]', {}, "is a JSON list, expected an object"),
        ('{"words": ["a"]}', {}, "has no field 'text'; its fields are: words"),
        ('{"text": ["a"]}', {}, "is a list, expected text"),
        ('{"text": 3}', {}, "field 'text' at line 2 of a.jsonl is int, expected text"),
        ('{"text": "  "}', {}, "the text of example 'line 2' has no words"),
        (r'{"text": "a\ud83d"}', {}, "half of a surrogate pair (U+D83D at character 1)"),
        ('{"text": "b", "words": "b"}', {"words_field": "words"}, "no field 'words'"),
        ("{}", {"text_field": "body"}, "line 1 of a.jsonl has no field 'body'; its fields are: o,"),
        ("{}", {"pair_field": "other"}, "no field 'other'"),
        ("{}", {"pair_field": "o"}, "line 2 of a.jsonl has no field"),
        ('{"text": "a"}', {"text_field": "text", "pair_field": "o"}, "no field 'o'"),
        ('{"text": "a", "o": " "}', {"pair_field": "o"}, "second text of example 'line 2'"),
        ("{}", {"text_field": "text", "words_field": "text"}, "exclude each other"),
        ("{}", {"words_field": "text"}, "is str, expected a list of words"),
        ("{}", {"text_field": "text", "pair_field": "text"}, "cannot be both texts"),
    ],
)
def test_jsonl_lines(tmp_path: Path, line: str, options: dict[str, str], said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "fine", "o": "x"}}\n{line}\n')
    assert said in refusal(path, **options)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"text": "a", "words": ["a"]}, "has both text and words"),
        ({"words": []}, "has no words"),
        ({"words": [" ", "\t"]}, "has no words"),
        ({"words": ["a", ""]}, "word 2 of field 'words' at line 1 of a.jsonl is empty"),
        ({"words": ["a", 1]}, "word 2 of field 'words' at line 1 of a.jsonl is int"),
        ({"words": ["a"], "words_pair": "b"}, "is str, expected a list"),
        ({"body": "a"}, "has no field 'text'; its fields are: body"),
        ({}, "its fields are: none"),
    ],
)
def test_jsonl_first_line(tmp_path: Path, item: dict[str, Any], said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(item))
    assert said in refusal(path)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (([],), "the list holds no examples"),
        (("one text",), "must be a list of texts"),
        ((["a", " "],), "the text of example 'example 2' has no words"),
        ((["a"], ["b", "c"]), "pair_texts has 2 entries for 1 texts"),
        ((["a"], [""]), "the second text of example 'example 1' has no words"),
        ((["a", 3],), "entry 1 of texts is int, expected text"),
        ((["\udc00"],), "half of a surrogate pair"),
        ((["a", "b"], None, ["x", "x"]), "ids must all be different"),
        ((["a", "b"], None, ["x"]), "ids has 1 entries for 2 texts"),
    ],
)
def test_texts_in_memory(args: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        corpus_from_texts(*args)
    assert said in str(caught.value)
