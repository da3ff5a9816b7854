"""What holds for every test: no network, no display, the same random examples each time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Set before anything reads them; the subprocesses of tests inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# A busy machine must not fail a test by its deadline.
settings.register_profile("layerlake", deadline=None, derandomize=True, database=None)
settings.load_profile("layerlake")


@pytest.fixture
def data_folder() -> Path:
    """The folder of real corpora that `LAYERLAKE_DATA` names."""
    named = os.environ.get("LAYERLAKE_DATA")
    if not named:
        pytest.skip("LAYERLAKE_DATA does not name the folder of real corpora")
    return Path(named)
