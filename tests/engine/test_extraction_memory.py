"""The peak of an extraction, measured in processes of their own: two windows, however long it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from layerlake.bench.extract import _Job, run_alone
from layerlake.bench.measuring import peak_bytes_of
from layerlake.store.reader import open_lake

pytest.importorskip("torch")

MOST_GROWTH = 32 * 2**20
"""What corpus and pieces may take; the activations of the longer run are more."""


@pytest.mark.skipif(sys.platform == "win32", reason="lakes are not written there")
def test_six_times_the_corpus_takes_the_same_memory(tmp_path: Path, small_bert: Path) -> None:
    corpus = tmp_path / "numbers.txt"
    corpus.write_text(
        "".join(
            f"line {n} of a corpus{' and more' * (n % 5)}, and {n * n}\n" for n in range(12_000)
        )
    )
    peaks = []
    for n_examples in (2000, 12_000):
        folder = tmp_path / str(n_examples)
        folder.mkdir()
        job = _Job(str(small_bert), corpus, None, n_examples, 1024, folder, threads=1)
        peaks.append(peak_bytes_of(run_alone, job, "layerlake"))
    (state,) = open_lake(folder / "lake").sets()
    assert state.plan.layout.n_windows > 100
    assert state.n_bytes > 1.3 * MOST_GROWTH
    assert peaks[1] - peaks[0] < MOST_GROWTH
