"""What a row is where nobody says: pieces of one tokenizer, else words that all variants share."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerlake as ll
from layerlake.cli.main import main
from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.loading import LoadedModel, load_model
from layerlake.store.errors import InvalidInput, NameNotFound
from layerlake.store.identity import short
from layerlake.store.lake import Lake, open_lake
from layerlake.store.sets import SetState

pytest.importorskip("torch")

TEXTS = [f"Gull {n * n} won't cry over harbour wall {n}-{n}." for n in range(60)]

Add = Callable[..., Lake]


@pytest.fixture(scope="module")
def models(small_bert: Path, byte_level_gpt: Callable[[list[str]], Path]) -> dict[str, LoadedModel]:
    """The small BERT, two random twins of it, and a stranger to their tokenizer."""
    gpt = str(byte_level_gpt(TEXTS))
    return {
        "base": load_model(str(small_bert), device="cpu"),
        "twin": load_model(str(small_bert), randomize=1, device="cpu"),
        "other": load_model(str(small_bert), randomize=2, device="cpu"),
        "gpt": load_model(gpt, device="cpu"),
        "gpt-random": load_model(gpt, randomize=1, device="cpu"),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[Any, ...], Path]]:
    """Where lakes are kept for later tests, by what was extracted into them."""
    return tmp_path_factory.mktemp("made"), {}


@pytest.fixture
def add(
    tmp_path: Path,
    models: dict[str, LoadedModel],
    made: tuple[Path, dict[tuple[Any, ...], Path]],
) -> Add:
    """A function that extracts models over `shore`, and returns the lake."""
    lake = open_lake(tmp_path / "lake", "a")
    folder, kept = made
    history: list[tuple[Any, ...]] = []

    def run(*named: str, variant: str | None = None, **options: Any) -> Lake:
        for name in named:
            history.append((name, variant or name, *options.items()))
            known = kept.get(tuple(history))
            if known is None:
                extract(
                    lake,
                    models[name],
                    TEXTS,
                    variant=variant or name,
                    corpus_name="shore",
                    progress=ll.silent,
                    **options,
                )
                known = kept[tuple(history)] = folder / str(len(kept))
                shutil.copytree(tmp_path / "lake", known, ignore=shutil.ignore_patterns("results"))
            shutil.copytree(known, tmp_path / "lake", dirs_exist_ok=True)
        return lake

    return run


ASKED: dict[str, Callable[[Lake], Any]] = {
    "rsa": lambda lake: ll.rsa(lake, rows=200),
    "compare": lambda lake: ll.compare(lake, measure="cka", rows=200, reference="base"),
    "all pairs": lambda lake: ll.rsa(lake, rows=200, all_pairs=True, interval="none"),
    "one layer": lambda lake: ll.rsa(lake, rows=200, reference_layer=1, interval="none"),
    "profile": lambda lake: ll.profile(lake, rows=200),
}
LINES = {
    "compare": "layerlake compare --measure cka --unit word",
    "profile": "layerlake profile --unit word",
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("stranger", ["gpt", "aaa"])
def test_a_stranger_that_comes_to_a_lake_changes_no_number(
    add: Add, asked: str, stranger: str
) -> None:
    lake = add("base", "twin")
    before = ASKED[asked](lake)
    add("gpt", variant=stranger)
    after = ASKED[asked](lake)
    assert after.records == before.records
    assert after.settings == before.settings
    line = LINES.get(asked, "layerlake rsa --unit word")
    assert after.notes == (
        *before.notes,
        f"{stranger}: left out, having another tokenizer or packing than base; words are the same rows: {line}",
    )


@pytest.mark.parametrize("asked", ["all pairs", "profile"])
@pytest.mark.parametrize("stranger", ["aaa", "zzz", "base"])
def test_without_a_base_the_first_that_came_stays_the_one_that_counts(
    add: Add, asked: str, stranger: str
) -> None:
    add("twin", variant="one")
    lake = add("other", variant="two")
    before = ASKED[asked](lake)
    assert len(before.records) > 0
    add("gpt", variant=stranger)
    after = ASKED[asked](lake)
    assert after.records == before.records
    assert f"{stranger}: left out, having another tokenizer or packing than one" in after.notes[-1]


def test_the_line_that_is_given_compares_them(add: Add) -> None:
    lake = add("base", "twin", "gpt")
    with pytest.raises(SystemExit, match="0"):
        main(["rsa", "--unit", "word", "--rows", "100", "--lake", str(lake.location.name)])
    result = ll.rsa(lake, unit="word", rows=100)
    assert result.labels("variant") == ["gpt", "twin"]
    assert {r["n"] for r in result.records} == {100}
    assert result.settings["unit"] == "word"
    assert result.settings["pooling"] == "mean"
    assert result.notes[-1] == "base, gpt, twin: words are pooled (mean) from stored pieces"


@pytest.mark.parametrize("asked", ["rsa", "compare", "one layer"])
def test_where_a_stranger_is_named_words_are_compared(add: Add, asked: str) -> None:
    lake = add("base", "twin", "gpt")
    measure = {"measure": "cka"} if asked == "compare" else {}
    layer = {"reference_layer": 1} if asked == "one layer" else {}
    found = ll.compare(lake, variants=["twin", "gpt"], rows=100, **measure, **layer)
    assert found.settings["unit"] == "word"
    assert found.notes[-2] == (
        "words are compared, not pieces, since gpt and base have different tokenizers or packings; "
        "--unit word is the same"
    )
    same = ll.compare(lake, variants=["twin", "gpt"], rows=100, unit="word", **measure, **layer)
    assert same.records == found.records
    if asked == "one layer":
        return  # the other layers of the reference are something to compare
    as_reference = ll.compare(lake, reference="gpt", rows=100, **measure)
    assert as_reference.settings["unit"] == "word"
    assert "base, twin and gpt have different tokenizers or packings" in as_reference.notes[-2]


def test_where_strangers_are_all_there_is_words_are_compared(add: Add) -> None:
    lake = add("base", "gpt")
    found = ll.rsa(lake, rows=100)
    assert found.labels("variant") == ["gpt"]
    assert found.settings["unit"] == "word"
    # The layers of base are something to compare, so that no line about them changes.
    assert ll.rsa(lake, rows=100, all_pairs=True).settings["unit"] == "piece"
    assert ll.rsa(lake, rows=100, all_pairs=True, layers=1).settings["unit"] == "word"
    assert ll.rsa(lake, rows=100, reference_layer=0).settings["unit"] == "piece"
    assert ll.profile(lake, rows=100).settings["variants"] == ["base"]
    assert ll.profile(lake, rows=100, variants=["base", "gpt"]).settings["unit"] == "word"
    named = ll.rsa(lake, rows=100, all_pairs=True, variants=["base", "gpt"])
    assert named.settings["unit"] == "word"


def test_each_with_its_own_base(add: Add) -> None:
    lake = add("base", "twin")
    before = ll.rsa(lake, reference="own", rows=100)
    lake = add("gpt", "gpt-random")
    after = ll.rsa(lake, reference="own", rows=100)
    assert after.records == before.records
    assert after.notes[-1].startswith(
        "gpt, gpt-random: left out, having another tokenizer or packing than ba"
    )
    words = ll.rsa(lake, reference="own", rows=100, unit="word")
    assert {(r["reference"], r["variant"]) for r in words.records} == {
        ("base", "twin"),
        ("gpt", "gpt-random"),
    }


def test_a_derivative_of_a_model_that_was_there_first_changes_no_pair(add: Add) -> None:
    lake = add("gpt", "base", "twin")
    before = ll.rsa(lake, reference="own", rows=100)
    assert before.labels("variant") == ["twin"]
    lake = add("gpt-random")
    after = ll.rsa(lake, reference="own", rows=100)
    assert after.records == before.records
    assert after.notes[-1].startswith("gpt, gpt-random: left out")


def test_two_layers_of_the_reference_are_enough_to_compare(add: Add) -> None:
    lake = add("base")
    before = ll.rsa(lake, reference_layer=0, layers=1, rows=100)
    lake = add("gpt")
    assert ll.rsa(lake, reference_layer=0, layers=1, rows=100).records == before.records
    words = ll.rsa(lake, reference_layer=1, layers=1, rows=100)
    assert words.settings["unit"] == "word"
    assert words.labels("variant") == ["gpt"]


def test_an_answer_kept_before_a_stranger_came_says_that_it_is_left_out(add: Add) -> None:
    lake = add("base", "twin")
    ll.rsa(lake, rows=100)
    add("gpt")
    seen: list[Any] = []
    again = ll.rsa(lake, rows=100, progress=ll.to_function(seen.append))
    assert not seen
    assert "gpt: left out" in again.notes[-1]


def test_pieces_that_are_asked_for_are_pieces(add: Add) -> None:
    lake = add("base", "twin", "gpt")
    kin = ll.rsa(lake, unit="piece", rows=100)
    assert kin.labels("variant") == ["twin"]
    assert "gpt: left out" in kin.notes[-1]
    with pytest.raises(InvalidInput, match="pieces of gpt and of base were cut by different tok"):
        ll.rsa(lake, unit="piece", rows=100, variants=["twin", "gpt"])
    with pytest.raises(InvalidInput, match="name the unit: --unit word or --unit example"):
        ll.rsa(lake, rows=100, pooling="first")
    apart = ll.profile(lake, unit="piece", rows=100)
    assert apart.labels("variant") == ["base", "gpt", "twin"]


def test_one_tokenizer_packed_in_two_ways(add: Add) -> None:
    lake = add("base", "twin")
    pieces = ll.rsa(lake, rows=100)
    add("base", packing="window(16,8)")
    assert ll.rsa(lake, rows=100).records == pieces.records
    add("other", packing="window(16,8)")
    found = ll.rsa(lake, rows=100)
    assert found.records == pieces.records
    assert found.notes[-1].startswith("other: left out")
    named = ll.rsa(lake, rows=100, variants="other")
    assert named.settings["unit"] == "piece"
    assert named.labels("variant") == ["other"]


def test_sets_that_are_being_written_change_nothing(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = add("base", "twin")
    before = ll.rsa(lake, rows=100)
    complete = {path for name in ("base", "twin") for path in lake.set_paths("shore", name)}
    add("base", "twin", packing="window(16,8)")
    read = Lake.sets

    def sets(self: Lake, corpus: str, variant: str) -> list[SetState]:
        return [
            state if state.plan.path in complete else dataclasses.replace(state, sealed=False)
            for state in read(self, corpus, variant)
        ]

    monkeypatch.setattr(Lake, "sets", sets)
    assert ll.rsa(lake, rows=100).records == before.records


def test_words_are_read_from_the_packing_that_the_variants_share(add: Add) -> None:
    lake = add("base", "twin")
    before = ll.rsa(lake, rows=100, unit="word")
    for size in (16, 20, 24):
        add("base", packing=f"window({size},8)")
        assert ll.rsa(lake, rows=100, unit="word").records == before.records


def test_layers_that_only_another_packing_has_are_named(add: Add) -> None:
    lake = add("base", layers="0")
    before = ll.profile(lake, rows=100)
    add("base", packing="window(16,8)")
    after = ll.profile(lake, rows=100)
    assert after.records == before.records
    (note,) = set(after.notes) - set(before.notes)
    assert note == (
        "base: layers 1, 2, 3 left out, whose pieces are cut or packed otherwise; ask for them alone "
        "with --layers"
    )
    assert ll.profile(lake, rows=100, layers="1,2").settings["layers"] == [1, 2]
    assert ll.profile(lake, rows=100, layers="0-3").settings["layers"] == [0, 1, 2, 3]


def test_words_in_part_are_refused_with_the_line_that_mends_it(add: Add) -> None:
    add("base", rows="sample:300@0")
    lake = add("gpt")
    with pytest.raises(InvalidInput) as refused:
        ll.rsa(lake)
    said = str(refused.value)
    (path,) = lake.set_paths("shore", "base")
    assert said.startswith(f"{path} (rows sample:300@0) holds ")
    assert " words in part, word " in said
    assert said.endswith(" shore --as base --unit word")
    assert said.count("\n") == 0
    add("base", unit="word")
    assert ll.rsa(lake).settings["unit"] == "word"


def test_one_that_nobody_named_and_that_holds_words_in_part_is_left_out(add: Add) -> None:
    add("base", "gpt")
    lake = add("twin", rows="sample:300@0")
    found = ll.rsa(lake, unit="word", rows=50)
    assert found.labels("variant") == ["gpt"]
    assert any(
        note.startswith("twin: left out, since activations/shore/twin/") for note in found.notes
    )


def test_a_variant_with_few_rows_is_named(add: Add) -> None:
    add("base", "twin")
    lake = add("other", rows="sample:40@0")
    found = ll.rsa(lake)
    assert {record["n"] for record in found.records} == {40}
    assert any(
        note.startswith("all variants share 40 of ")
        and note.endswith("since other holds 40; name variants with --variant to leave some out")
        for note in found.notes
    )
    assert not any("share" in note for note in ll.rsa(lake, variants="twin").notes)
    profiled = ll.profile(lake)
    assert any(note.startswith("all variants share 40 of ") for note in profiled.notes)
    with pytest.raises(InvalidInput, match=r"the variants share 40; .* \(all variants share 40 of"):
        ll.rsa(lake, rows=100)


def test_rows_of_other_models_are_whole_examples(add: Add) -> None:
    lake = add("base")
    images = np.random.default_rng(0).standard_normal((len(TEXTS), 5)).astype("float32")
    ids = lake.table("corpora/shore", names=["columns/id"])[0]["columns/id"].tolist()
    with lake.writer("shore", "images", ids=ids, unit="example") as writer:
        writer.append("resid", 0, images)
    with pytest.raises(NameNotFound, match=r"no resid layers of piece rows; .* \(--unit example\)"):
        ll.rsa(lake, variants="images", layers=0)
    found = ll.rsa(lake, variants="images", layers=0, unit="example")
    assert found.settings["pooling"] == "mean"
    mean = lake.space("shore", "base", 0, unit="example").rows(slice(None))
    expected = np.corrcoef(_cosines(mean), _cosines(images))[0, 1]
    (value,) = {r["value"] for r in found.records if r["measure"] == "r_all"}
    assert value == pytest.approx(expected, abs=1e-6)


def _cosines(rows: np.ndarray) -> np.ndarray:
    """Return the cosines of all pairs of rows, textbook form."""
    wide = rows.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1)[:, None]
    cosines: np.ndarray = (wide @ wide.T)[np.triu_indices(len(wide), 1)]
    return cosines


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--unit", "word", "--pooling", "cls"], "no pooling 'cls' of word rows; choose one of"),
        (["--unit", "example", "--pooling", "max"], "no pooling 'max' of example rows; choose one"),
        (["--unit", "piece", "--variant", "gpt"], "compare words: the same line with --unit word"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    add: Add, line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = add("base", "gpt")
    with pytest.raises(SystemExit, match="1"):
        main(["rsa", *line, "--lake", str(lake.location.name)])
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1


def test_the_forecast_counts_words_in_float32_and_what_makes_them(add: Add) -> None:
    lake = add("base", "twin")
    pieces = ll.plan_profile(lake, rows=100)
    words = ll.plan_profile(lake, rows=100, unit="word")
    assert words.read == 2 * pieces.read
    space = lake.space("shore", "base", 0, unit="word")
    assert words.held >= pieces.held + space.held_bytes + space.reading_bytes
    compared = [ll.plan_compare(lake, rows=100, unit=unit) for unit in ("piece", "word")]
    assert compared[1].bytes_read == 2 * compared[0].bytes_read
    assert compared[1].bytes_held > compared[0].bytes_held
    assert json.dumps(compared[1].to_dict())


def test_a_set_whose_rows_are_gone_blocks_no_other(add: Add) -> None:
    lake = add("base", "twin")
    before = ll.rsa(lake, rows=100)
    (kept,) = lake.set_paths("shore", "base")
    add("base", rows="sample:300@0")
    (spare,) = (s for s in lake.sets("shore", "base") if s.plan.path != kept)
    lake.location.remove(f"corpora/shore/rows/{short(spare.plan.contents['row_set'])}")
    assert ll.rsa(lake, rows=100).records == before.records


def test_where_all_but_one_have_words_alone_words_are_compared(add: Add) -> None:
    add("twin", unit="word")
    lake = add("base")
    found = ll.rsa(lake, rows=100)
    assert found.labels("variant") == ["twin"]
    assert (
        "words are compared, not pieces, since twin over shore has no pieces; --unit word is the same"
    ) in found.notes


def test_words_that_were_written_come_before_words_that_more_variants_have(add: Add) -> None:
    add("base", "twin")
    lake = add("base", unit="word", rows="sample:50@0")
    found = ll.rsa(lake, unit="word")
    assert {r["n"] for r in found.records} == {50}
    assert found.notes[-1].startswith("twin: words are pooled (mean) from stored pieces")
