"""Run by `test_team.py` in several processes: they train together what CALLS.json holds.

    WORLD_SIZE=2 RANK=0 ... python team_runs.py CALLS.json

Each process writes what it was told in the end to `report-RANK.json` beside it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from layerlake.analyses.finetuning import run_files
from layerlake.analyses.finetuning.finetune import finetune
from layerlake.analyses.finetuning.training import saved_state
from layerlake.store.errors import LayerLakeError

if __name__ == "__main__":
    torch.set_num_threads(1)
    calls = json.loads(Path(sys.argv[1]).read_text())
    rank = os.environ["RANK"]
    found: dict[str, Any] = {}
    written: list[str] = []
    write = saved_state.write_tensors

    def noted(file: Path, *given: Any, **named: Any) -> None:
        written.append(file.name)
        write(file, *given, **named)

    saved_state.write_tensors = noted
    for name, call in calls.items():
        if name == "full":
            run_files._SPARE_BYTES = 2**60  # type: ignore[misc]
        try:
            found[name] = asdict(finetune(**call))
        except LayerLakeError as error:
            found[name] = str(error)
    found["written"] = written
    Path(sys.argv[1]).with_name(f"report-{rank}.json").write_text(json.dumps(found))
