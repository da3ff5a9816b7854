"""Files of what was generated, in the formats that the readers of LayerLake take."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from layerlake.store.errors import InvalidInput
from layerlake.store.folder import replace_durably
from layerlake.synthetic.english.layers import GeneratedSentence

TASKS = (
    "pos",
    "constituents",
    "dependencies",
    "entities",
    "srl",
    "coreference",
    "proto-roles",
    "relations",
)
"""The tasks of edge probing."""


def write_conllu(sentences: Iterable[GeneratedSentence], file: str | Path) -> None:
    """Write words, lemmas, tags and dependencies as CoNLL-U."""
    blocks = []
    for sentence in sentences:
        lines = [f"# sent_id = {sentence.name}", f"# text = {sentence.text}"]
        columns = zip(
            sentence.words,
            sentence.lemma,
            sentence.upos,
            sentence.xpos,
            sentence.heads,
            sentence.deprels,
            strict=True,
        )
        for number, (word, lemma, upos, xpos, head, deprel) in enumerate(columns, start=1):
            lines.append(f"{number}\t{word}\t{lemma}\t{upos}\t{xpos}\t_\t{head}\t{deprel}\t_\t_")
        blocks.append("\n".join(lines) + "\n\n")
    _write(file, blocks)


def write_ptb(sentences: Iterable[GeneratedSentence], file: str | Path) -> None:
    """Write constituents as brackets in the manner of the Penn Treebank, a tree a line."""
    _write(file, [f"(ROOT {sentence.tree})\n" for sentence in sentences])


def write_nli(pairs: Iterable[dict[str, str]], file: str | Path) -> None:
    """Write entailment pairs as JSON lines with the keys of MultiNLI."""
    _write(
        file,
        [
            _json_line(
                {
                    "gold_label": pair["label"],
                    "sentence1": pair["premise"],
                    "sentence2": pair["hypothesis"],
                    "pairID": pair["id"],
                    "genre": pair["construction"],
                }
            )
            for pair in pairs
        ],
    )


def write_squad(paragraphs: Iterable[dict[str, Any]], file: str | Path) -> None:
    """Write passages and questions as the JSON of SQuAD v1.1, an article a passage."""
    articles = [
        {
            "title": paragraph["title"],
            "paragraphs": [{"context": paragraph["context"], "qas": paragraph["qas"]}],
        }
        for paragraph in paragraphs
    ]
    _write(file, [_json_line({"version": "1.1", "data": articles})])


def write_edge_records(sentences: Iterable[GeneratedSentence], task: str, file: str | Path) -> None:
    """Write records of edge probing (Tenney et al. 2019), a JSON object a line.

    Spans are half-open intervals of words; sentences without a target give no record.

    Parameters
    ----------
    sentences
        What to write of.
    task
        One of `TASKS`.
    file
        The file, written over.

    Raises
    ------
    InvalidInput
        There is no such task.
    """
    if task not in TASKS:
        raise InvalidInput(f"there is no task {task!r}; choose one of {', '.join(TASKS)}")
    lines = []
    for sentence in sentences:
        groups: Iterable[list[dict[str, Any]]]
        groups = _frames(sentence) if task == "srl" else [_TARGETS[task](sentence)]
        for number, targets in enumerate(group for group in groups if group):
            info = {"source": "english", "sentence_id": sentence.name}
            if task == "srl":
                info["predicate"] = str(number)
            lines.append(_json_line({"text": sentence.text, "targets": targets, "info": info}))
    _write(file, lines)


def constituents(tree: str) -> list[tuple[int, int, str, int]]:
    """Return (start, stop, label, height) of every bracket of a tree; a tag has height 1."""
    found: list[tuple[int, int, str, int]] = []
    open_brackets: list[tuple[int, str, int]] = []
    words = 0
    height = 0
    for token in tree.replace("(", " ( ").replace(")", " ) ").split():
        if token == "(":
            open_brackets.append((words, "", 0))
        elif token == ")":
            start, label, below = open_brackets.pop()
            height = below + 1
            found.append((start, words, label, height))
            if open_brackets:
                outer, name, highest = open_brackets[-1]
                open_brackets[-1] = (outer, name, max(highest, height))
        elif not open_brackets[-1][1]:
            start, _, below = open_brackets[-1]
            open_brackets[-1] = (start, token, below)
        else:
            words += 1
    return found


def _target(label: str | list[str], *spans: Sequence[Any], **info: Any) -> dict[str, Any]:
    names = ("span1", "span2")
    target: dict[str, Any] = {
        name: list(span[:2]) for name, span in zip(names, spans, strict=False)
    }
    return {**target, "label": label, "info": info} if info else {**target, "label": label}


def _pos(sentence: GeneratedSentence) -> list[dict[str, Any]]:
    return [
        _target(label, (start, stop), height=1)
        for start, stop, label, height in constituents(sentence.tree)
        if height == 1
    ]


def _constituents(sentence: GeneratedSentence) -> list[dict[str, Any]]:
    return [
        _target(label, (start, stop), height=height)
        for start, stop, label, height in constituents(sentence.tree)
        if height > 1
    ]


def _dependencies(sentence: GeneratedSentence) -> list[dict[str, Any]]:
    targets = []
    for word, (head, label) in enumerate(zip(sentence.heads, sentence.deprels, strict=True)):
        above = word if head == 0 else head - 1
        targets.append(_target(label, (word, word + 1), (above, above + 1)))
    return targets


def _entities(sentence: GeneratedSentence) -> list[dict[str, Any]]:
    return [_target(entity.label, entity) for entity in sentence.entities]


def _frames(sentence: GeneratedSentence) -> Iterator[list[dict[str, Any]]]:
    """Yield the targets of each predicate."""
    for place, _, arguments in sentence.predicates:
        yield [_target(argument.label, (place, place + 1), argument) for argument in arguments]


def _coreference(sentence: GeneratedSentence) -> list[dict[str, Any]]:
    """Return all pairs of mentions, where something is mentioned twice.

    As in OntoNotes, whose mentions are those of chains; here the others serve as their rivals.
    """
    if all(len(spans) == 1 for spans in sentence.coreference):
        return []
    mentions = sorted(
        (span, cluster) for cluster, spans in enumerate(sentence.coreference) for span in spans
    )
    return [
        _target("1" if cluster == other else "0", span, later)
        for (span, cluster), (later, other) in itertools.combinations(mentions, 2)
    ]


def _proto_roles(sentence: GeneratedSentence) -> list[dict[str, Any]]:
    return [
        _target(
            [name for name, holds in properties.items() if holds],
            (predicate, predicate + 1),
            (argument, argument + 1),
        )
        for predicate, argument, properties in sentence.proto_roles
    ]


def _relations(sentence: GeneratedSentence) -> list[dict[str, Any]]:
    relation = sentence.relation
    return [] if relation is None else [_target(relation.label, relation.first, relation.second)]


_TARGETS = {
    "pos": _pos,
    "constituents": _constituents,
    "dependencies": _dependencies,
    "entities": _entities,
    "coreference": _coreference,
    "proto-roles": _proto_roles,
    "relations": _relations,
}


def _json_line(value: Any) -> str:
    return json.dumps(value) + "\n"


def _write(file: str | Path, parts: Iterable[str]) -> None:
    # Bytes, so that no platform writes line ends of its own; and whole, since who finds a file
    # takes it as it is.
    replace_durably(Path(file), ["".join(parts).encode()])
