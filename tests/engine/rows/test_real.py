"""Rows of EWT dev, chosen over two tokenizers, held to a reading of the file by hand."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from layerlake.engine.corpora.reading import read_corpus
from layerlake.engine.rows.choose import choose_rows
from layerlake.engine.tokenization.tokenize import tokenize

pytestmark = pytest.mark.data


def by_hand(path: Path) -> list[list[tuple[str, str]]]:
    """Return form and tag of every word, sentence by sentence."""
    found = []
    for block in gzip.decompress(path.read_bytes()).decode().split("\n\n"):
        lines = [line.split("\t") for line in block.split("\n") if line and line[0] != "#"]
        found.append([(line[1], line[3]) for line in lines if line[0].isdigit()])
    return [sentence for sentence in found if sentence]


def test_rows_of_real_sentences(
    data_folder: Path, minilm_tokenizer: Any, tokenizers_made_here: dict[str, Any]
) -> None:
    path = data_folder / "ewt" / "en_ewt-ud-dev.conllu.gz"
    sentences = by_hand(path)
    words = [(e, p, *w) for e, s in enumerate(sentences) for p, w in enumerate(s)]
    corpus = read_corpus(path)
    cuts = [tokenize(corpus, t) for t in (minilm_tokenizer, tokenizers_made_here["gpt2"])]
    expected = {
        "last": [(e, len(s) - 1) for e, s in enumerate(sentences)],
        "where upos=NOUN": [(e, p) for e, p, _, tag in words if tag == "NOUN"],
        "where upos=NOUN|VERB and position<3": [
            (e, p) for e, p, _, tag in words if tag in ("NOUN", "VERB") and p < 3
        ],
        "where word=the; no-sink": [(e, p) for e, p, form, _ in words if form == "the" and p],
        "cap:5@1": None,
        "where upos!=PUNCT; cap:20@1; sample:3000@0 by upos": None,
        "sample:5000@3": None,
    }
    for rows, places in expected.items():
        chosen = [choose_rows(corpus, cut, rows, "word") for cut in cuts]
        assert chosen[0].fingerprint == chosen[1].fingerprint
        found = zip(chosen[0].row_example.tolist(), chosen[0].row_position.tolist(), strict=True)
        if places is not None:
            assert list(found) == places
            continue
        kept = [words[word] for word in chosen[0].row_id.tolist()]
        if rows.startswith("cap"):
            every = Counter(form for _, _, form, _ in words)
            assert Counter(form for _, _, form, _ in kept) == {
                f: min(n, 5) for f, n in every.items()
            }
        if rows.endswith("by upos"):
            strata = chosen[0].settings["steps"][-1]["strata"]
            counts = Counter(tag for *_, tag in kept)
            assert counts == {tag: about["rows"] for tag, about in strata.items()}
            assert "PUNCT" not in counts
            full = [about["rows"] for about in strata.values() if about["rows"] < about["of"]]
            assert max(full) - min(full) <= 1
            assert all(a["rows"] <= min(full) for a in strata.values() if a["rows"] == a["of"])
            assert sum(counts.values()) == 3000
