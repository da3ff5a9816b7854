"""A short fault campaign: at least ten faults of every kind, none of which does harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="lakes are not written there")

KINDS = {
    "kill -9",
    "ENOSPC",
    "EIO, writing",
    "EIO, reading",
    "short write",
    "short write (file size limit)",
    "short read",
    "flipped bit",
    "missing file",
    "clock jump",
    "two writers",
}


def test_no_fault_costs_data(tmp_path: Path) -> None:
    program = Path(__file__).with_name("campaign.py")
    # In memory where that is possible: the faults are the same, and waiting for disks is long.
    memory = Path("/dev/shm")
    folder = memory if memory.is_dir() and os.access(memory, os.W_OK) else tmp_path
    report = tmp_path / "faults.json"
    line = [sys.executable, str(program), "--each", "10", "--seed", "1"]
    done = subprocess.run(
        [*line, "--folder", str(folder), "--json", str(report)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = {record["kind"]: record for record in json.loads(report.read_text())["records"]}
    assert set(records) >= KINDS
    for record in records.values():
        assert record["injected"] == record["reached"] == record["resumed"] >= 10
        assert record["lost"] == record["wrong"] == record["failed"] == 0
        endings = record["unharmed"] + record["refused"] + record["killed"]
        assert endings == record["injected"]
    assert records["kill -9"]["killed"] == records["kill -9"]["injected"]
    for kind in ("ENOSPC", "EIO, writing", "flipped bit", "missing file", "two writers"):
        assert records[kind]["refused"] > 0
    # A short write is no error: what is left is written by the next call.
    assert records["short write"]["unharmed"] == records["short write"]["injected"]
