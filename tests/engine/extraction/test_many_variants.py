"""Many variants in one call: which they are, what they are called, that inputs are made once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from layerlake.engine import catalogue
from layerlake.engine.extraction.many_variants import extract_many, list_variants
from layerlake.engine.settings import parse_choices
from layerlake.store.errors import InvalidInput, NameNotFound, StorageFailed
from layerlake.store.lake import Lake, open_lake
from layerlake.store.writer import SetWriter

pytest.importorskip("torch")

TEXTS = ["the tide comes in", "gulls over the harbour"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake", "a")


@pytest.fixture
def runs(tmp_path: Path, small_bert: Path) -> Path:
    """A folder of runs: checkpoints 2, 10 and 100 of one, and a folder that is no model."""
    for name in ("step10", "step2", "step100"):
        shutil.copytree(small_bert, tmp_path / "runs" / name)
    (tmp_path / "runs" / "step-logs").mkdir()
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        (None, (None,)),
        (3, (3,)),
        ("3", (3,)),
        ("0-3,2,8", (0, 1, 2, 3, 8)),
        ("none, 5-6", (None, 5, 6)),
        ([0, None, 0], (0, None)),
        (range(2), (0, 1)),
    ],
)
def test_lists_of_numbers_are_read(given: Any, numbers: tuple[int | None, ...]) -> None:
    assert parse_choices(given, "randomize") == numbers


@pytest.mark.parametrize("given", ["", "x", "3-1", "1,,2", "-1", "0-99999999", 1.5, True, [True]])
def test_what_is_no_list_of_numbers_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="randomize"):
        parse_choices(given, "randomize")


def test_a_pattern_names_the_folders_that_hold_models_in_natural_order(runs: Path) -> None:
    found = list_variants(f"{runs}/step*")
    assert [request.name for request in found] == ["step2", "step10", "step100"]
    renamed = list_variants(f"{runs}/*", variant="mnli-{name}", truncate="none,1")
    assert [r.name for r in renamed][:3] == ["mnli-step2", "mnli-step2-truncated-1", "mnli-step10"]


def test_every_combination_is_a_variant(small_bert: Path) -> None:
    found = list_variants(small_bert, randomize="none,0-1", truncate=[None, 2], variant="base")
    assert [(r.randomize, r.truncate, r.name) for r in found] == [
        (None, None, "base"),
        (None, 2, "base-truncated-2"),
        (0, None, "base-random-s0"),
        (0, 2, "base-random-s0-truncated-2"),
        (1, None, "base-random-s1"),
        (1, 2, "base-random-s1-truncated-2"),
    ]


def test_the_only_variant_is_called_as_it_is_named(small_bert: Path) -> None:
    (only,) = list_variants(small_bert, randomize=3, truncate="1", variant="twin")
    assert (only.name, only.randomize, only.truncate) == ("twin", 3, 1)
    (only,) = list_variants(small_bert, randomize=3)
    assert only.name == f"{small_bert.name}-random-s3"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that knows three revisions of a hub model."""
    refs = tmp_path / "hub" / "models--org--pythia" / "refs"
    for name in ("main", "step9", "step10"):
        (refs / name).parent.mkdir(parents=True, exist_ok=True)
        (refs / name).write_text("0" * 40)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("cached")
def test_revisions_come_from_a_list_or_a_pattern() -> None:
    listed = list_variants("org/pythia", revisions="main,step3")
    assert [(r.source, r.name) for r in listed] == [
        ("org/pythia@main", "pythia@main"),
        ("org/pythia@step3", "pythia@step3"),
    ]
    found = list_variants("org/pythia", revisions="step*", variant="p-{revision}")
    assert [r.name for r in found] == ["p-step9", "p-step10"]
    with pytest.raises(InvalidInput, match=r"no revision of org/pythia matches 'epoch\*'; there"):
        list_variants("org/pythia", revisions="epoch*")
    with pytest.raises(InvalidInput, match="offline and the cache knows no revision of org/other"):
        list_variants("org/other", revisions="step*")
    with pytest.raises(InvalidInput, match="names a revision already"):
        list_variants("org/pythia@main", revisions="step9")


def test_names_that_would_collide_are_refused(runs: Path, small_bert: Path) -> None:
    with pytest.raises(InvalidInput, match=r"3 models cannot all be called 'x'; put \{name\}"):
        list_variants(f"{runs}/step*", variant="x")
    with pytest.raises(InvalidInput, match="would both be called 'step2'"):
        list_variants([runs / "step2", f"{runs}/step2"])
    with pytest.raises(InvalidInput, match=r"the name '\{nme\}' cannot be read"):
        list_variants(f"{runs}/step*", variant="{nme}")
    for odd in ("{name.x}", "{name:>99999999999}", "{", "x}"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            list_variants(small_bert, variant=odd)
    for models in (3, {"a": 1}, [small_bert, 4]):
        with pytest.raises(InvalidInput, match=r"a \w+ names no models"):
            list_variants(models)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"no folder that matches .* holds a model"):
        list_variants(f"{runs}/epoch*")
    with pytest.raises(InvalidInput, match="is a folder, which has no revisions"):
        list_variants(small_bert, revisions="main")


def test_the_corpus_is_read_and_tokenised_once_and_a_stop_resumes(
    lake: Lake, small_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "harbour.jsonl"
    file.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS))
    calls = {"read": 0, "cut": 0}
    read, cut = catalogue.read_file, catalogue.tokenize

    def reading(*args: Any, **kwargs: Any) -> Any:
        calls["read"] += 1
        return read(*args, **kwargs)

    def cutting(*args: Any, **kwargs: Any) -> Any:
        calls["cut"] += 1
        return cut(*args, **kwargs)

    monkeypatch.setattr(catalogue, "read_file", reading)
    monkeypatch.setattr(catalogue, "tokenize", cutting)
    seals, seal = [], SetWriter.seal

    def stop_at_the_third(self: SetWriter) -> None:
        seals.append(1)
        if len(seals) == 3:
            raise StorageFailed("the disk is full")
        seal(self)

    monkeypatch.setattr(SetWriter, "seal", stop_at_the_third)
    options: dict[str, Any] = {"randomize": "none,0-2", "device": "cpu", "text_field": "body"}
    told: list[str] = []
    with pytest.raises(StorageFailed, match="variant 'small-random-s1': the disk is full"):
        extract_many(lake, small_bert, file, on_report=lambda r: told.append(r.variant), **options)
    assert told == ["small", "small-random-s0"]
    assert calls == {"read": 1, "cut": 1}
    reports = extract_many(lake, small_bert, file, **options)
    assert [report.n_computed for report in reports] == [0, 0, 0, 1]
    assert len(lake.sets("harbour")) == 4
    assert calls["cut"] == 1


def test_a_line_that_cannot_be_carried_out_leaves_nothing(lake: Lake, small_bert: Path) -> None:
    with pytest.raises(NameNotFound, match="neither a file nor a corpus"):
        extract_many(lake, small_bert, "nowhere.txt", randomize="0-3")
    with pytest.raises(InvalidInput, match="truncation to 9 layers"):
        extract_many(lake, small_bert, TEXTS, corpus_name="c", truncate="9")
    assert (lake.corpora(), lake.variants()) == ([], [])


def test_a_dry_run_of_many_writes_nothing(lake: Lake, small_bert: Path) -> None:
    reports = extract_many(
        lake, small_bert, TEXTS, corpus_name="c", randomize="0,1", dry_run=True, device="cpu"
    )
    assert [report.n_computed for report in reports] == [0, 0]
    assert lake.corpora() == []
