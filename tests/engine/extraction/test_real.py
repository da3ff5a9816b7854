"""Extraction of real sentences, held to hooks on the model, run sentence by sentence by hand."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.engine.corpora.reading import read_corpus
from layerlake.engine.extraction.extract import extract
from layerlake.store.lake import Lake, open_lake

pytestmark = pytest.mark.data
torch = pytest.importorskip("torch")

SENTENCES = 200
STRANGE = "\N{HEDGEHOG}\N{HEDGEHOG}"
"""A word that MiniLM's tokenizer does not know."""
TOLERANCE = {"rtol": 2.0**-11, "atol": 3e-5}
"""One rounding to float16, and what float32 sums differ by between a batch and a sentence."""


@pytest.fixture
def sentences(data_folder: Path, tmp_path: Path) -> Path:
    """The first sentences of EWT dev as a file, one word of the second replaced by a strange one."""
    text = gzip.decompress((data_folder / "ewt" / "en_ewt-ud-dev.conllu.gz").read_bytes()).decode()
    blocks = text.split("\n\n")[:SENTENCES]
    lines = blocks[1].split("\n")
    place = next(i for i, line in enumerate(lines) if line.startswith("3\t"))
    fields = lines[place].split("\t")
    fields[1] = STRANGE
    lines[place] = "\t".join(fields)
    blocks[1] = "\n".join(lines)
    path = tmp_path / "ewt.conllu"
    path.write_text("\n\n".join(blocks) + "\n\n", "utf-8")
    return path


def by_hand(folder: Path, sentences: list[list[str]]) -> Any:
    """Yield the pieces of each sentence: ids, word of each, and every layer by a raw hook."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    taken: list[Any] = []
    for module in (model.embeddings, *model.encoder.layer):
        module.register_forward_hook(
            lambda _, __, out: taken.append(out[0] if isinstance(out, tuple) else out)
        )
    for words in sentences:
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        taken.clear()
        with torch.no_grad():
            model(**encoded)
        assert len(taken) == 7
        layers = [hidden.reshape(-1, hidden.shape[-1]).numpy().copy() for hidden in taken]
        yield encoded["input_ids"][0].tolist(), encoded.word_ids(), layers, tokenizer


def spaces(lake: Lake, unit: str) -> list[NDArray[Any]]:
    """Return every layer of `base`."""
    return [lake.space("ewt", "base", layer, unit=unit).rows(slice(None)) for layer in range(7)]


def test_rows_are_those_of_the_model_run_sentence_by_sentence(
    sentences: Path, minilm_folder: Path, tmp_path: Path
) -> None:
    corpus = read_corpus(sentences)
    assert corpus.n_examples == SENTENCES
    words = [
        [corpus.word(i) for i in range(*corpus.word_offsets[e : e + 2].tolist())]
        for e in range(SENTENCES)
    ]
    assert any(re.search(r"\w[^\w\s]\w", word) for sentence in words for word in sentence)
    lake = open_lake(tmp_path / "lake", "a")
    for unit in ("piece", "word"):
        extract(lake, str(minilm_folder), sentences, variant="base", unit=unit, window_rows=1024)
    pieces, pooled = spaces(lake, "piece"), spaces(lake, "word")
    piece = word = split = unknown = 0
    for ids, owners, layers, tokenizer in by_hand(minilm_folder, words):
        n_words = max(owner for owner in owners if owner is not None) + 1
        members = [[i for i, owner in enumerate(owners) if owner == w] for w in range(n_words)]
        split += sum(len(member) > 1 for member in members)
        unknown += ids.count(tokenizer.unk_token_id)
        for layer, hidden in enumerate(layers):
            kept = pieces[layer][piece : piece + len(ids)]
            np.testing.assert_allclose(kept, hidden, **TOLERANCE)
            means = np.stack([hidden[member].mean(axis=0) for member in members])
            np.testing.assert_allclose(pooled[layer][word : word + n_words], means, **TOLERANCE)
        piece += len(ids)
        word += n_words
    assert (piece, word) == (len(pieces[0]), len(pooled[0]))
    assert word == corpus.n_words
    assert unknown == 1
    assert split > 100
