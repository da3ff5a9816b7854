"""The peak of an extraction, measured in processes of their own: two windows, however long it is."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from layerlake.bench.extract import _Job, run_alone
from layerlake.bench.measuring import peak_bytes_of
from layerlake.engine.extraction.extract import extract
from layerlake.engine.extraction.window_runner import WindowRunner
from layerlake.store.lake import open_lake

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


def test_when_a_window_is_computed_no_more_than_one_other_is_held(
    tmp_path: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = WindowRunner.window
    made: list[Any] = []
    held: list[int] = []

    def watched(self: WindowRunner, window: int, *rest: Any) -> Any:
        held.append(sum(one() is not None for one in made))
        arrays = compute(self, window, *rest)
        made.append(weakref.ref(arrays["resid/0"]))
        return arrays

    monkeypatch.setattr(WindowRunner, "window", watched)
    texts = [f"line {n} of a corpus, and {n * n}" for n in range(1000)]
    report = extract(
        open_lake(tmp_path / "lake", "a"),
        str(small_bert),
        texts,
        corpus_name="c",
        device="cpu",
        window_rows=1024,
    )
    assert len(held) == report.n_windows > 8
    assert max(held) == 1
