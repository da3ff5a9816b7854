"""The files of a run of fine-tuning: their names, and the room that they need.

Lines of the log are of these events:

| event       | beside `event`, `time` (UTC) and `run`                                              |
|-------------|-------------------------------------------------------------------------------------|
| `started`   | `identity`, `settings`, `n_steps`                                                   |
| `resumed`   | `step`: lines of later steps that stand above it are of work that was lost          |
| `trained`   | `step`, `epoch`, `loss` (mean since the last such line), `rate`, `norm`,            |
|             | `pieces_per_second`, `seconds_left`                                                 |
| `evaluated` | `step`, `epoch`, `scores`: by file, by name                                         |
| `saved`     | `step`                                                                              |
| `finished`  | `step`, `scores`, `seconds`                                                         |
| `failed`    | `error`                                                                             |

A `trained` line is written every few seconds, and at the end of every epoch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from layerlake.analyses.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

LOG_FILE: Final = "log.jsonl"
WORK_FOLDER: Final = "training"
"""Both the work folder of a run and what sentences say that it does."""
_OWN: Final = re.compile(r"checkpoint|(state|best-[0-9]+)\.safetensors(\.part)?")
"""What a run writes into its work folder."""
_SPARE_BYTES: Final = 32 * 2**20
"""For tokenizer, configs and log."""


def training_folder(out: Path) -> RunFolder:
    """Return the folder of a run of fine-tuning; nothing is made yet."""
    return RunFolder(out, own=_OWN, what=WORK_FOLDER, contents="state and checkpoint")


def bytes_written(model: nn.Module, *, keeps_best: bool) -> int:
    """Return the most bytes that lie on the disk while a model is trained.

    Parameters
    ----------
    model
        What is trained.
    keeps_best
        Whether the weights of the best epoch are kept beside the state.
    """
    trained: int = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    whole: int = sum(value.nbytes for value in model.state_dict().values())
    # Weights and two moments. A new state, and a new best epoch, lie beside the old one until
    # they take its place; the checkpoint lies beside the last state.
    state, best = 3 * trained, trained if keeps_best else 0
    return max(2 * state + 2 * best, state + best + whole) + _SPARE_BYTES
