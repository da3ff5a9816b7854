"""SQuAD: questions about passages, and the places in them that answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.files import file_digest, read_lines
from layerlake.engine.corpora.records import Fields, Record, corpus_of_records
from layerlake.store.errors import InvalidInput

_SHOWN = 40

_SHAPE = " (as in the JSON file of SQuAD)"


def read_squad(
    path: Path, *, licence: str | None = None, on_lines: Callable[[int], None] | None = None
) -> Corpus:
    """Read the JSON of SQuAD as pairs: the question first, its passage second.

    Parameters
    ----------
    path
        The file.
    licence
        Kept with the corpus.

    Returns
    -------
    Corpus
        With the columns `id`, `title` (of the article), `paragraph` (running number in the file,
        from 1), `answers` (JSON: a list of `text` and `answer_start`), `answer` and `answer_start`
        (the first of them; a character of the passage, from 0) and any other field of a question.
        An unanswerable question (SQuAD 2.0: `is_impossible`) has answer "" and answer_start -1.

    Raises
    ------
    InvalidInput
        Where the file is not of that shape, or an answer does not stand where it says (the
        question is named).
    """
    text = "\n".join(line for _, line in read_lines(path, on_lines))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise InvalidInput(
            f"{path.name} is not JSON ({reason}); expected the JSON file of SQuAD"
        ) from None
    del text
    source = {"format": "squad", "file": path.name, "sha256": file_digest(path), "options": {}}
    if isinstance(document, dict) and isinstance(document.get("version"), str):
        source["version"] = document["version"]
    fields = Fields("question", "context", words=False)
    return corpus_of_records(_questions(document, path.name), fields, path.name, source, licence)


def squad_corpus(
    records: Iterable[Record], named: str, source: dict[str, Any], licence: str | None
) -> Corpus:
    """Build a corpus of pairs from rows of SQuAD, whose `answers` are two lists; as `read_squad`.

    Parameters
    ----------
    records
        With `question`, `context` and `answers`: `text` and `answer_start`, a list each.
    named, source, licence
        As `corpus_of_records`.
    """

    def checked(records: Iterable[Record]) -> Iterator[Record]:
        for name, where, values in records:
            context = _field(values, "context", str, where)
            lists = _field(values, "answers", dict, where)
            texts = _field(lists, "text", list, where)
            starts = _field(lists, "answer_start", list, where)
            if len(texts) != len(starts):
                raise InvalidInput(
                    f"{where} has {len(texts)} answers and {len(starts)} places of them; expected "
                    "one for each"
                )
            answers = [
                {"text": text, "answer_start": start}
                for text, start in zip(texts, starts, strict=True)
            ]
            # As rows an unanswerable question is one without answers.
            question = {**values, "answers": answers, "is_impossible": not answers}
            found = _answers(question, context, where)
            yield Record(name, where, {**values, **found})

    fields = Fields("question", "context", words=False)
    return corpus_of_records(checked(records), fields, named, source, licence)


def _questions(document: Any, file: str) -> Iterator[Record]:
    """Yield every question with its passage."""
    paragraph_number = question_number = 0
    for a, article in enumerate(_field(document, "data", list, file), start=1):
        at = f"article {a} of {file}"
        for p, paragraph in enumerate(_field(article, "paragraphs", list, at), start=1):
            here = f"paragraph {p} of {at}"
            context = _field(paragraph, "context", str, here)
            paragraph_number += 1
            for q, question in enumerate(_field(paragraph, "qas", list, here), start=1):
                _field(question, "question", str, f"question {q} of {here}")
                question_number += 1
                name = f"question {question_number}"
                where = f"question {str(question.get('id', question_number))!r} of {file}"
                yield Record(
                    name,
                    where,
                    {
                        **question,
                        "context": context,
                        "title": article.get("title", ""),
                        "paragraph": paragraph_number,
                        **_answers(question, context, where),
                    },
                )
    if not question_number:
        raise InvalidInput(f"{file} holds no questions")


def _answers(question: dict[str, Any], context: str, where: str) -> dict[str, Any]:
    """Return the columns of a question's answers, each answer checked against the passage."""
    answers = _field(question, "answers", list, where)
    for answer in answers:
        check_answer(
            _field(answer, "text", str, f"an answer to {where}"),
            _field(answer, "answer_start", int, f"an answer to {where}"),
            context,
            where,
        )
    if not answers and not question.get("is_impossible"):
        raise InvalidInput(f"{where} has no answer; expected one, or is_impossible")
    return {
        "answers": answers,
        "answer": answers[0]["text"] if answers else "",
        "answer_start": answers[0]["answer_start"] if answers else -1,
    }


def check_answer(text: str, start: int, context: str, where: str) -> None:
    """Refuse an answer that does not stand in the passage where it says."""
    if not text:
        raise InvalidInput(
            f"the answer '' to {where} is an empty text; give its words, or leave it out"
        )
    found = context[start : start + len(text)] if start >= 0 else ""
    if found != text:
        raise InvalidInput(
            f"the answer {text[:_SHOWN]!r} to {where} does not stand at character {start} of "
            f"its passage, where it says {found[:_SHOWN]!r}; mend answer_start (it counts "
            "Unicode characters from 0)"
        )


def _field(item: Any, name: str, kind: type, where: str) -> Any:
    """Return a field of an object, which must be of some kind."""
    if not isinstance(item, dict):
        raise InvalidInput(f"{where} is a JSON {type(item).__name__}, expected an object{_SHAPE}")
    if name not in item:
        there = ", ".join(sorted(item)) or "none"
        raise InvalidInput(f"{where} has no field {name!r}; its fields are: {there}{_SHAPE}")
    value = item[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidInput(
            f"field {name!r} at {where} is {type(value).__name__}, expected {kind.__name__}{_SHAPE}"
        )
    return value
