"""kill -9 at random moments: nothing is lost, nothing is half there, little is done twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from layerlake.store.lake import open_lake
from layerlake.store.verify import verify

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="lakes are not written there")


def run(*arguments: str | Path | int) -> dict[str, Any]:
    """Run the program beside this file and return what it says."""
    program = Path(__file__).with_name("kills.py")
    done = subprocess.run(
        [sys.executable, str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_an_extraction_killed_twenty_times(tmp_path: Path, small_bert: Path) -> None:
    corpus = tmp_path / "numbers.txt"
    corpus.write_text("".join(f"line {n} of a corpus, and {n * n}\n" for n in range(7000)))
    found = run("extract", tmp_path / "lake", small_bert, corpus, 20)
    assert found["kills"] == 20
    assert found["last_status"] == 0
    assert found["left_for_the_last"] > 0
    assert found["refusals"] > 0
    assert max(part["redone"] for part in found["runs"]) <= 2
    assert sum(len(part["begun"]) for part in found["runs"]) >= 20
    # The same bits as without a kill.
    whole = run("extract", tmp_path / "whole", small_bert, corpus, 0)
    assert whole["left_for_the_last"] == whole["n_windows"] >= 30
    left, right = (open_lake(tmp_path / name) for name in ("lake", "whole"))
    assert verify(left).findings == ()
    for layer in range(4):
        pair = [lake.space("numbers", "base", layer, sealed=True) for lake in (left, right)]
        assert pair[0].rows(slice(None)).tobytes() == pair[1].rows(slice(None)).tobytes()


@pytest.mark.parametrize("operation", ["corpus", "rm", "gc", "repair"])
def test_other_work_killed(tmp_path: Path, operation: str) -> None:
    found = run(operation, tmp_path / "lake", 10)
    assert found["kills"] == 10
    assert found["staged"] == []
