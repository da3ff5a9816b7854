"""Tables of text without limits of their own."""

import csv
import gzip
from pathlib import Path

import pytest

from layerlake.engine.corpora.reading import read_corpus


@pytest.mark.parametrize(("kind", "separator"), [("csv", ","), ("tsv", "\t")])
def test_values_of_whole_documents_are_read(tmp_path: Path, kind: str, separator: str) -> None:
    text = "word " * 40_000
    (tmp_path / f"a.{kind}").write_text(f"text{separator}n\n{text}{separator}1\n")
    before = csv.field_size_limit()
    assert read_corpus(tmp_path / f"a.{kind}").texts == [text]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("name", ["a.CSV.GZ", "a.csv.Gz", "a.csv.gz"])
def test_suffixes_are_read_in_any_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"text\nhi\nho\n"))
    assert read_corpus(tmp_path / name).texts == ["hi", "ho"]
