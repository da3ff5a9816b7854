"""Run by `test_memory.py` as a program of its own: a run, what it was to take, what it took.

    python measured_run.py CALLS.json

The first call is there to load libraries; the second one is measured. Prints two numbers of bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from layerlake.analyses.finetuning import run
from layerlake.analyses.finetuning.finetune import finetune


def resident(what: str) -> int:
    """Return an entry of the process's status, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{what}:")[1].split()[0])


if __name__ == "__main__":
    torch.set_num_threads(1)
    warm_up, call = json.loads(Path(sys.argv[1]).read_text())
    plan_of, stated = run.training_plan, []

    def noted(*given: Any) -> Any:
        plan = plan_of(*given)
        stated.append(plan)
        return plan

    run.training_plan = noted
    finetune(**warm_up)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    finetune(**call)
    print(json.dumps([stated[-1].parts, stated[-1].needed, resident("VmHWM") - before]))
