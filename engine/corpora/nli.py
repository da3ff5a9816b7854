"""MultiNLI and SNLI: a premise, a hypothesis, and what annotators agreed that follows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.delimited import delimited_records
from layerlake.engine.corpora.files import file_digest, read_lines
from layerlake.engine.corpora.jsonl import json_records
from layerlake.engine.corpora.records import ID_FIELDS, Fields, Record, corpus_of_records
from layerlake.store.errors import InvalidInput

LABELS = ("entailment", "neutral", "contradiction")

NO_CONSENSUS = "-"
"""The label of an example on which no three of five annotators agreed."""

_PAIRS = (("sentence1", "sentence2"), ("premise", "hypothesis"))


def read_nli(
    path: Path,
    kind: str,
    *,
    licence: str | None = None,
    on_lines: Callable[[int], None] | None = None,
) -> Corpus:
    """Read MultiNLI or SNLI as pairs: JSON lines, or tab-separated values without quoting.

    The texts are `sentence1` and `sentence2` (or `premise` and `hypothesis`), the label is
    `gold_label` (or `label`). Examples without consensus (label `-`) are usually left out where a
    classifier is trained; they are stimuli like any other, so they are kept with that label, and
    `source["without_consensus"]` counts them.

    Parameters
    ----------
    path
        The file; JSON lines where its first character says so.
    kind
        "mnli" or "snli", kept as the format.
    licence
        Kept with the corpus.

    Returns
    -------
    Corpus
        With the column `label`, and all other fields as columns. `pairID`, `id` or `index` names
        the examples, where its values are all different.

    Raises
    ------
    InvalidInput
        Where a text or the label is missing, or the label is no label of NLI.
    """
    _, opening = next(((n, line) for n, line in read_lines(path) if line.strip()), (0, ""))
    as_json = opening.lstrip().startswith("{")
    records = json_records(path, on_lines) if as_json else delimited_records(path, "tsv", on_lines)
    source = {
        "format": kind,
        "file": path.name,
        "sha256": file_digest(path),
        "options": {},
    }
    return nli_corpus(records, path.name, source, licence, numbers=not as_json)


def nli_corpus(
    records: Iterator[Record],
    named: str,
    source: dict[str, Any],
    licence: str | None,
    *,
    numbers: bool = False,
) -> Corpus:
    """Build a corpus of pairs from records of NLI; see `read_nli`."""
    first = next(records)
    texts = next((pair for pair in _PAIRS if pair[0] in first.values), _PAIRS[0])
    label = next((name for name in ("gold_label", "label") if name in first.values), None)
    if label is None:
        raise InvalidInput(
            f"{first.where} has no field 'gold_label' or 'label'; its fields are: "
            f"{', '.join(sorted(first.values)) or 'none'} (unlabelled pairs are read as jsonl or "
            "tsv, with text_field and pair_field)"
        )
    without = 0

    def labelled(records: Iterable[Record]) -> Iterator[Record]:
        nonlocal without
        for record in records:
            values = record.values
            given = values.pop(label, None)
            if given != NO_CONSENSUS and given not in LABELS:
                raise InvalidInput(
                    f"the {label} at {record.where} is {given!r}, expected one of "
                    f"{', '.join(LABELS)}, or {NO_CONSENSUS} where there was no consensus"
                )
            without += given == NO_CONSENSUS
            if "label" in values:
                values["label_in_file"] = values.pop("label")
            values["label"] = given
            yield record

    fields = Fields(*texts, words=False)
    every = labelled(itertools.chain([first], records))
    ids = ("pairID", *ID_FIELDS, "index")
    corpus = corpus_of_records(
        every, fields, named, source, licence, id_fields=ids, numbers=numbers
    )
    corpus.source["without_consensus"] = without
    return corpus
