"""CoNLL-U: annotated words, ten tab-separated columns a line, a blank line after a sentence."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

from layerlake.engine.corpora.corpus import Corpus, WordSpans, choose_ids, string_array
from layerlake.engine.corpora.files import file_digest, read_lines
from layerlake.store.errors import InvalidInput

_TEXT_ANNOTATIONS = {"lemma": 2, "upos": 3, "xpos": 4, "deprel": 7}
_RANGE = re.compile(r"[0-9]+-[0-9]+")
_EMPTY_NODE = re.compile(r"[0-9]+\.[0-9]+")
_COMMENT = re.compile(r"#\s*(newdoc id|newdoc|sent_id|text)\s*(?:=\s*(.*?)\s*)?")


def read_conllu(
    path: Path, *, licence: str | None = None, on_lines: Callable[[int], None] | None = None
) -> Corpus:
    """Read a CoNLL-U file; an example a sentence.

    Lines of multi-word tokens (3-4) and of empty nodes (8.1) give no word; sentences with empty
    nodes are told by the column `has_empty_nodes`, since their tree is not all there.

    Returns
    -------
    Corpus
        Annotations `upos`, `xpos`, `lemma`, `deprel` (text) and `head` (int32, counted in words of
        the sentence from 1; 0 = root). Columns `id` (the comment `sent_id`, or "line N" for all
        where one is missing or repeated), `has_empty_nodes`, and, where the file has them, `text`
        (the comment) and `document`. The text of an example is its words with a space between.

    Raises
    ------
    InvalidInput
        Where a line is not CoNLL-U; the message names file and line.
    """
    reader = _Sentences(path.name)
    number = 0
    for number, line in read_lines(path, on_lines):
        reader.add_line(number, line)
    reader.end_sentence()
    if not reader.texts:
        raise InvalidInput(f"{path.name} holds no sentences")
    return reader.corpus(path, licence)


class _Sentences:
    """The sentences read so far, and the one being read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.texts: list[str] = []
        self._spans = WordSpans()
        self._labels: dict[str, list[str]] = {name: [] for name in _TEXT_ANNOTATIONS}
        self._heads = array("i")
        self._names: list[str] = []
        self._comments: dict[str, list[str]] = {"sent_id": [], "text": [], "document": []}
        self._empty_nodes: list[bool] = []
        self._seen: dict[str, str] = {}
        self._document = ""
        self._words: list[str] = []
        self._head_lines: list[int] = []
        self._first_line = 0
        self._has_empty_node = False

    def add_line(self, number: int, line: str) -> None:
        """Take in one line."""
        if not line.strip():
            self.end_sentence()
            return
        self._first_line = self._first_line or number
        if line.startswith("#"):
            self._add_comment(number, line)
            return
        fields = line.split("\t")
        if len(fields) != 10:
            self._refuse_columns(number, line, len(fields))
        if _RANGE.fullmatch(fields[0]):
            return
        if _EMPTY_NODE.fullmatch(fields[0]):
            self._has_empty_node = True
            return
        self._add_word(number, fields)

    def _add_comment(self, number: int, line: str) -> None:
        match = _COMMENT.fullmatch(line)
        if not match:
            return
        key, value = match[1], match[2]
        if key.startswith("newdoc"):
            self._document = value or f"line {number}"
        elif value:
            self._seen[key] = value

    def _add_word(self, number: int, fields: list[str]) -> None:
        expected = len(self._words) + 1
        if fields[0] != str(expected):
            what = "comes where" if fields[0].isdecimal() else "is no word id;"
            self._refuse(number, f"id {fields[0]!r} {what} {expected} was expected")
        if not fields[1]:
            self._refuse(number, "the word form is empty")
        if not (fields[6].isascii() and fields[6].isdigit()) or len(fields[6]) > 9:
            self._refuse(number, f"head {fields[6]!r} is not the number of a word, nor 0")
        self._words.append(fields[1])
        self._heads.append(int(fields[6]))
        self._head_lines.append(number)
        for name, column in _TEXT_ANNOTATIONS.items():
            self._labels[name].append(fields[column])

    def end_sentence(self) -> None:
        """Close the sentence being read; comments without words are no sentence."""
        words = self._words
        if words:
            heads = self._heads[len(self._heads) - len(words) :]
            for head, number in zip(heads, self._head_lines, strict=True):
                if head > len(words):
                    self._refuse(number, f"head {head} in a sentence of {len(words)} words")
            if not any(word.strip() for word in words):
                self._refuse(self._first_line, "the sentence has no words but white space")
            self.texts.append(self._spans.add_words(words))
            self._spans.close_example()
            self._names.append(f"line {self._first_line}")
            for key in ("sent_id", "text"):
                self._comments[key].append(self._seen.get(key, ""))
            self._comments["document"].append(self._document)
            self._empty_nodes.append(self._has_empty_node)
        elif self._has_empty_node:
            self._refuse(self._first_line, "the sentence has empty nodes only")
        self._words, self._head_lines, self._seen = [], [], {}
        self._first_line, self._has_empty_node = 0, False

    def corpus(self, path: Path, licence: str | None) -> Corpus:
        """Return all sentences as a corpus."""
        columns = {
            name: string_array(values) for name, values in self._comments.items() if any(values)
        }
        columns["has_empty_nodes"] = np.array(self._empty_nodes, np.bool_)
        complete = all(self._comments["sent_id"])
        columns = choose_ids(columns, ["sent_id"] if complete else [], self._names)
        if columns.get("sent_id") is not None and np.all(columns["id"] == columns["sent_id"]):
            del columns["sent_id"]
        annotations = {name: string_array(values) for name, values in self._labels.items()}
        return Corpus(
            texts=self.texts,
            pair_texts=None,
            words_given=True,
            annotations={**annotations, "head": np.array(self._heads, np.int32)},
            columns=columns,
            source={
                "format": "conllu",
                "file": path.name,
                "sha256": file_digest(path),
                "options": {},
            },
            licence=licence,
            **self._spans.arrays(),
        )

    def _refuse_columns(self, number: int, line: str, columns: int) -> NoReturn:
        """Refuse a line that has not ten columns, with what it looks like."""
        look = ""
        if line.lstrip()[:1] in ("{", "["):
            look = ", which looks like JSON (format jsonl)"
        elif columns == 1 and len(line.split()) >= 10:
            look = ", which looks parted by spaces, not tabs"
        self._refuse(
            number,
            f"{columns} tab-separated column{'s' if columns > 1 else ''} where CoNLL-U has 10; "
            f"the line begins {line[:40]!r}{look}",
        )

    def _refuse(self, number: int, problem: str) -> NoReturn:
        raise InvalidInput(f"line {number} of {self.file} is not CoNLL-U: {problem}")
