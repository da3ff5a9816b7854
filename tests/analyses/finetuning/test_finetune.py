"""A run of fine-tuning as a whole: done once, found done, refused where the folder is another's."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
from layerlake.analyses.finetuning.finetune import finetune


@pytest.mark.parametrize("kind", ["mnli", "squad", "dep", "classify", "tag"])
def test_a_run(small_call, kind):
    import time

    t = time.time()
    r = finetune(**small_call(kind))
    print(kind, time.time() - t, r)
