"""What the tests of this folder share: the stored archives, and how a record is compared.

To take what there is now as the record, once a change is wanted:

    LAYERLAKE_WRITE_CONTRACT=1 python -m pytest tests/contract

and read the difference of the JSON files before it is committed. The archives are another matter:
see `make_archives.py`.
"""

from __future__ import annotations

import difflib
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REWRITE = "LAYERLAKE_WRITE_CONTRACT"

Recorded = Callable[[str, Any], None]


@pytest.fixture(scope="session")
def as_recorded() -> Recorded:
    """A function that compares what was found with a JSON file of this folder, by its name."""

    def compare(name: str, found: Any) -> None:
        file = HERE / f"{name}.json"
        text = json.dumps(found, indent=1, sort_keys=True) + "\n"
        if os.environ.get(REWRITE):
            file.write_text(text, encoding="utf-8")
        stored = file.read_text(encoding="utf-8")
        if text != stored:
            lines = difflib.unified_diff(
                stored.splitlines(), text.splitlines(), "recorded", "now", n=6, lineterm=""
            )
            pytest.fail(
                f"{name} is not what tests/contract/{name}.json records. Where that is wanted, "
                f"write it again: {REWRITE}=1 python -m pytest tests/contract\n" + "\n".join(lines),
                pytrace=False,
            )

    return compare


@pytest.fixture(scope="session")
def unpack() -> Callable[[str, Path], None]:
    """A function that unpacks an archive of this folder, by its name, into a folder."""

    def into(name: str, place: Path) -> None:
        with tarfile.open(HERE / f"{name}.tar.xz") as archive:
            archive.extractall(place, filter="data")

    return into


@pytest.fixture(scope="session")
def stored(unpack: Callable[[str, Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stored lake in `lake`, to which nobody writes."""
    place = tmp_path_factory.mktemp("stored")
    unpack("lake", place)
    return place
