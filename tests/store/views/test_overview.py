"""A look at a lake: what it says, that it escapes, folds, never fails and reads no activations."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from layerlake.store.lake import Lake, open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.shards import ShardSource
from layerlake.store.views.overview import MOST_VARIANTS, OPEN_VARIANTS, overview
from layerlake.store.writer import SetWriter

VOID = {"br"}


class Page(HTMLParser):
    """The texts of a page and of its table cells; refuses tags that do not match."""

    def __init__(self, html: str) -> None:
        """Read a page."""
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note a tag."""
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Match a tag."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Note a text."""
        if "style" not in self.open:
            self.text += data + "\n"


def variant(lake: Lake, name: str, **about: object) -> None:
    """Put a variant into a lake."""
    kept = {"architecture": "BertModel", "n_layers": 6, "hidden": 384, "fingerprint": name}
    lake.add_table(f"variants/{name}", {}, {**kept, "weights_digest": name, **about})


def test_a_grid_says_rows_sizes_seals_and_lineage(lake, plan, fill):
    lake.add_table("corpora/news", {}, {"fingerprint": "g", "n_examples": 1234, "n_words": 56789})
    variant(lake, "base")
    variant(lake, "random-s3", randomize=3, truncate=2)
    variant(lake, "twin", weights_digest="base")
    variant(lake, "tuned", parent={"source": "org/base", "revision": None})
    variant(lake, "outside", source="brought", weights_digest=None)
    fill(lake, plan())
    fill(lake, plan(variant="random-s3"), range(2))
    for html in (True, False):
        said = Page(lake._repr_html_()).text if html else lake.summary()
        assert lake.location.name in said
        for text in (
            "2 corpora, 5 variants, 2 sets",
            "1,234 examples, 56,789 words",
            "2,500 pieces",
            "resid 0-1, 8 x float16",
            "sealed",
            "2 of 3 windows",
            "random weights, seed 3",
            "first 2 blocks",
        ):
            assert text in said, text
        assert ("the same weights as base" in said) is html  # it has no set, hence no line
    grid = Page(lake._repr_html_()).text
    assert "adapter on org/base" in grid
    assert "brought from elsewhere" in grid
    assert "without activations: outside, tuned, twin" in lake.summary()
    assert repr(lake).endswith(" mode='a': 2 corpora, 5 variants>")


def tuned(seed: int, of: str = "base", **more: object) -> dict[str, object]:
    """Return what lineage says of a variant that was trained from another one."""
    training = {"task": "mnli", "seed": seed, "scores": {"dev": {"accuracy": 0.7123}}}
    return {"parent": {"source": f"org/{of}", "weights_digest": of}, "training": training, **more}


def test_variants_stand_under_what_they_were_made_from(lake, plan, fill):
    variant(lake, "base")
    variant(lake, "a-tuned", **tuned(0))
    variant(lake, "b-deeper", **tuned(1, "a-tuned"))
    variant(lake, "lost", **tuned(2, "gone"))
    variant(lake, "adapter", parent={"source": "org/gone", "weights_digest": "gone"})
    for name in ("base", "a-tuned", "b-deeper", "lost", "adapter"):
        fill(lake, plan(variant=name))
    lines = [line for line in lake.summary().splitlines() if "sealed" in line]
    assert [line.partition("  2,500")[0].rstrip() for line in lines] == [
        "  adapter", "  base", "    a-tuned", "      b-deeper", "  lost",
    ]  # fmt: skip
    assert [line.partition("sealed")[2].strip() for line in lines] == [
        "[adapter on org/gone, which is not here]",
        "",
        "[mnli, seed 0, accuracy 0.712]",
        "[mnli, seed 1, accuracy 0.712]",
        "[mnli, seed 2, accuracy 0.712; made from org/gone, which is not here]",
    ]
    html = lake._repr_html_()
    places = [html.index(f">{name}<") for name in ("base", "a-tuned", "b-deeper", "lost")]
    assert places == sorted(places)
    assert '<th style="padding-left:2.0em">a-tuned<' in html
    assert '<th style="padding-left:3.4em">b-deeper<' in html
    said = Page(html).text
    assert "mnli, seed 0, accuracy 0.712" in said
    assert said.count("which is not here") == 2
    assert "made from a-tuned" not in said


def test_a_base_that_is_not_shown_beside_is_named(lake, plan, fill):
    variant(lake, "base")
    variant(lake, "tuned", **tuned(0))
    variant(lake, "deeper", **tuned(1, "tuned"))
    for name in ("base", "deeper"):  # `tuned` was not run over the corpus
        fill(lake, plan(variant=name))
    lines = [line for line in lake.summary().splitlines() if "sealed" in line]
    assert lines[0].startswith("  base ")
    assert lines[1].startswith("  deeper ")
    assert lines[1].endswith("[mnli, seed 1, accuracy 0.712; made from tuned]")


def test_variants_made_from_each_other_are_shown_once(lake, plan, fill):
    for name, of in (("a", "b"), ("b", "c"), ("c", "a")):
        variant(lake, name, **tuned(0, of))
        fill(lake, plan(variant=name))
    lines = [line for line in lake.summary().splitlines() if "sealed" in line]
    assert [line.split()[0] for line in lines] == ["a", "c", "b"]
    assert Page(lake._repr_html_()).tags.count("tr") == 4


def test_lineage_of_anybody_is_shown_as_text(lake, plan, fill):
    nasty = "<b>\x1b[2J"
    variant(lake, "tuned", parent={"source": nasty}, training={"task": nasty, "seed": [nasty]})
    variant(lake, "odd", parent=[1], training={"scores": {nasty: 1.0}})
    variant(lake, "raw", randomize=nasty, truncate=nasty, revision=nasty)
    variant(lake, "shape", architecture=nasty, n_layers=nasty, hidden=nasty)
    for name in ("tuned", "odd", "raw", "shape"):
        fill(lake, plan(variant=name))
    assert "\x1b" not in lake.summary()
    assert not any("\x1b" in entry.about for entry in overview(lake).variants)
    page = Page(lake._repr_html_())
    assert "b" not in page.tags[page.tags.index("table") :]
    assert "made from <b>?[2J, which is not here" in page.text
    assert "<b>?[2J 1" in page.text


def test_a_parent_that_may_be_hidden_or_damaged_is_not_said_to_be_absent(tmp_path, plan, fill):
    lake = open_lake(tmp_path / "lake", "a")
    variant(lake, "base")
    variant(lake, "tuned", **tuned(0))
    fill(lake, plan(variant="tuned"))
    assert "made from base]" in lake.summary()
    (tmp_path / "lake/variants/base/zarr.json").write_text("no json")
    assert "made from org/base]" in lake.summary()
    (tmp_path / "lake/variants/base/zarr.json").unlink()
    assert "made from org/base, which is not here]" in lake.summary()
    for number in range(MOST_VARIANTS):
        variant(lake, f"v{number:03}")
    assert "and 1 more variant" in lake.summary()
    assert "made from org/base]" in lake.summary()


def test_no_activation_is_read(lake, plan, fill, monkeypatch):
    variant(lake, "base")
    fill(lake, plan())

    def refuse(*_: object) -> None:
        raise AssertionError("a shard was opened")

    monkeypatch.setattr(ShardSource, "__init__", refuse)
    read = lake.location.read
    keys: list[str] = []
    monkeypatch.setattr(lake.location, "read", lambda key: keys.append(key) or read(key))
    lake._repr_html_()
    lake.summary()
    repr(lake.space("wiki", "base", 0))
    lake.space("wiki", "base", 0)._repr_html_()
    assert keys
    assert not [key for key in keys if "/resid/" in key]


def test_names_and_sources_of_anybody_are_escaped(lake, plan, fill):
    nasty = "<script>alert(1)</script>&\"'"
    variant(lake, "base", architecture=nasty, revision="<b>")
    contents = {"row_set": "r", "unit": nasty, "rows": nasty, "pooling": nasty}
    made = plan()
    fill(lake, SetPlan("wiki", "base", contents, {}, {}, made.arrays, made.layout))
    for html in (lake._repr_html_(), lake.space("wiki", "base", 0)._repr_html_()):
        page = Page(html)
        assert "script" not in page.tags
        assert "b" not in page.tags[page.tags.index("table") :]
        assert "<script>alert(1)</script>" in page.text


def test_colours_are_left_to_the_theme(lake, plan, fill):
    fill(lake, plan())
    style = lake._repr_html_().partition("</style>")[0]
    assert "color:#" not in style
    assert "background:transparent" in style


def test_hundreds_of_variants_are_folded_and_bounded(lake):
    layout = ActivationLayout(4, 2, "float16", "none", window_rows=4, chunk_rows=4)
    for number in range(MOST_VARIANTS + 25):
        name = f"v{number:03}"
        variant(lake, name)
        if number in (0, MOST_VARIANTS + 1):
            plan = SetPlan("wiki", name, {"unit": "piece"}, {}, {}, ("resid/0",), layout)
            with SetWriter(lake.location, plan) as writer:
                writer.write_window(0, {"resid/0": np.ones((4, 2), np.float16)})
                writer.seal()
    page = Page(lake._repr_html_())
    assert page.tags.count("tr") == MOST_VARIANTS + 2  # a header to each part
    assert f"{MOST_VARIANTS - OPEN_VARIANTS} more variants" in page.text
    assert "and 25 more variants" in page.text
    assert "and 25 more variants" in lake.summary()
    assert "2 sets (over 0.0 kB)" in page.text
    assert page.tags.count("details") == 1


def test_many_corpora_make_several_grids(lake):
    for number in range(11):
        lake.add_table(f"corpora/c{number:02}", {}, {"fingerprint": "x", "n_examples": number})
    variant(lake, "base")
    page = Page(lake._repr_html_())
    assert page.tags.count("table") == 3
    assert page.tags.count("details") == 2


def test_damage_is_shown_not_raised(tmp_path, plan, fill):
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/wiki", {}, {"fingerprint": "f"})
    variant(lake, "base")
    fill(lake, plan())
    (tmp_path / "lake" / plan().path / "zarr.json").write_text("{}")
    (tmp_path / "lake/variants/base/zarr.json").write_text("no json")
    for said in (Page(lake._repr_html_()).text, lake.summary()):
        assert "damaged" in said
    # Activations whose corpus and variant are gone are shown all the same.
    shutil.rmtree(tmp_path / "lake/corpora/wiki")
    shutil.rmtree(tmp_path / "lake/variants/base")
    assert "not in the lake" in Page(lake._repr_html_()).text


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_an_empty_lake_says_how_to_begin(tmp_path, where):
    lake = open_lake(tmp_path / "none" if where == "folder" else "memory://nothing-yet", "a")
    assert "layerlake extract MODEL SOURCE" in lake.summary()
    assert "layerlake extract MODEL SOURCE" in Page(lake._repr_html_()).text
    assert "0 corpora, 0 variants" in repr(lake)
    assert list(tmp_path.iterdir()) == []


def test_a_space_tells_what_it_is(labelled):
    space = labelled.space("pairs", "base", 1)
    assert repr(space) == ("<Space pairs/base resid layer 1: 1,400 word rows x 6 float32, sealed>")
    said = Page(space._repr_html_()).text
    for text in ("1,400 words, pooled by mean", "6 x float32", "33.6 kB", "sealed", space.path):
        assert text in said


def test_a_lake_that_cannot_be_listed_still_has_a_name(lake, monkeypatch):
    def refuse(key: str) -> list[str]:
        raise PermissionError(key)

    monkeypatch.setattr(lake.location, "children", refuse)
    assert repr(lake) == f"<Lake {lake.location.name} mode='a': cannot be read>"
