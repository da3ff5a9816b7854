"""Heat maps and maps: every pair in its place, variants parted and named, one scale a measure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.figures.matrices import NO_NUMBER
from layerlake.analyses.figures.panels import COLOURS, looks_of
from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.store.errors import InvalidInput

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

MakeRecord = Callable[..., dict[str, Any]]


def records_of(
    record: MakeRecord, n_variants: int, n_layers: int, measure: str = "cka", **more: Any
) -> list[dict[str, Any]]:
    """Return all pairs of spaces, the more alike the nearer their layers are."""
    spaces = [(f"model{v}", layer) for v in range(n_variants) for layer in range(n_layers)]
    return [
        record(*other, measure, round(1 - 0.1 * (1 + abs(one[1] - other[1])), 3), **more)
        | {"reference": one[0], "reference_layer": one[1]}
        for one, other in combinations(spaces, 2)
    ]


def result_of(*records: dict[str, Any]) -> SimilarityResult:
    """Return a result of records."""
    return SimilarityResult({}, {}, records)


def texts(labels: list[Any]) -> list[str]:
    """Return what labels say."""
    return [label.get_text() for label in labels]


def test_a_heat_map_shows_every_pair_grouped_by_variant(record: MakeRecord) -> None:
    result = result_of(*records_of(record, 3, 7))
    figure = result.plot()
    panel, bar = figure.axes
    (image,) = panel.get_images()
    np.testing.assert_array_equal(image.get_array(), result.to_matrix())
    assert texts(panel.get_yticklabels()) == ["model0", "model1", "model2"]
    assert panel.get_yticks().tolist() == [3, 10, 17]
    assert texts(panel.get_xticklabels(minor=True)) == list("0123456") * 3
    assert panel.get_xticks(minor=True).tolist() == list(range(21))
    assert sorted({line.get_xdata()[0] for line in panel.get_lines()} - {0}) == [6.5, 13.5]
    assert panel.get_title().splitlines()[0] == "corpus wörter"
    assert bar.get_ylabel() == "linear CKA"


@pytest.mark.parametrize(("n_variants", "n_layers"), [(3, 7), (12, 13), (40, 2)])
def test_nothing_reaches_over_the_edge_of_the_page(
    record: MakeRecord, tmp_path: Path, n_variants: int, n_layers: int
) -> None:
    from matplotlib.image import imread

    figure = result_of(*records_of(record, n_variants, n_layers)).plot("matrix")
    panel = figure.axes[0]
    assert len(panel.get_yticklabels()) == n_variants
    assert panel.get_xticklabels()[0].get_rotation() == (90 if n_variants == 40 else 0)
    figure.savefig(tmp_path / "page.png", dpi=100)
    page = imread(tmp_path / "page.png")[..., :3]
    for edge in (page[0], page[-1], page[:, 0], page[:, -1]):
        assert (edge == 1).all()


def test_what_was_not_compared_is_grey(record: MakeRecord) -> None:
    figure = result_of(*(record(f"m{k}", 0, "cka", 0.5) for k in range(3))).plot("matrix")
    (image,) = figure.axes[0].get_images()
    assert np.ma.masked_invalid(image.get_array()).mask.sum() == 6
    red, green, blue, _ = image.cmap(np.nan)
    assert [round(255 * part) for part in (red, green, blue)] == [int(NO_NUMBER[1:3], 16)] * 3


def test_few_spaces_have_their_numbers_written(record: MakeRecord) -> None:
    values = {"a": 0.99993, "b": -0.25, "c": 0.5, "d": -0.001}
    figure = result_of(*(record(name, 0, "r_all", v) for name, v in values.items())).plot("matrix")
    written = texts(figure.axes[0].texts)
    assert written[:5] == ["1", ".9999", "-.25", ".50", "0"]
    (image,) = figure.axes[0].get_images()
    assert image.get_clim() == (-1, 1)
    figure = result_of(*records_of(record, 4, 3)).plot("matrix")
    assert not figure.axes[0].texts


def test_panels_of_a_measure_have_one_scale(record: MakeRecord) -> None:
    records = [
        *records_of(record, 2, 3),
        *records_of(record, 2, 5, corpus="ewt"),
        *records_of(record, 2, 3, "procrustes"),
    ]
    figure = result_of(*records).plot("matrix")
    panels = [ax for ax in figure.axes if ax.get_images()]
    titles = [panel.get_title().splitlines()[0] for panel in panels]
    assert titles == ["corpus wörter", "corpus ewt", "corpus wörter"]
    limits = [panel.get_images()[0].get_clim() for panel in panels]
    assert limits == [(0.0, 1.0), (0.0, 1.0), (0.0, np.pi / 2)]
    zoomed = result_of(*records).plot("matrix", zoom=True)
    limits = [ax.get_images()[0].get_clim() for ax in zoomed.axes if ax.get_images()]
    assert limits == [(0.5, 1.0), (0.5, 1.0), (0.0, 0.9)]
    one = result_of(*records).plot("matrix", "cka", corpus="ewt")
    (title,) = [panel.get_title() for panel in one.axes if panel.get_images()]
    assert title.startswith("corpus ewt\n")


def test_a_map_joins_the_layers_of_a_variant(record: MakeRecord) -> None:
    figure = result_of(*records_of(record, 3, 4)).plot("map")
    (panel,) = figure.axes
    lines = panel.get_lines()
    assert [line.get_label() for line in lines[::2]] == ["model0", "model1", "model2"]
    assert [len(line.get_xdata()) for line in lines] == [4, 1] * 3
    first, start = lines[:2]
    assert start.get_xdata()[0] == first.get_xdata()[0]
    assert start.get_markerfacecolor() == "white"
    assert {text.get_text() for text in panel.texts} == set("0123")
    assert "% of the spread" in panel.get_xlabel()
    assert panel.get_xlabel().startswith("MDS axis 1 (")
    assert panel.get_title().startswith("MDS by arccos linear CKA, corpus wörter\n")
    chord = result_of(*records_of(record, 3, 4)).plot("map", distance="chord")
    assert chord.axes[0].get_title().startswith("MDS by chord of linear CKA, corpus wörter\n")
    apart = result_of(*records_of(record, 3, 4, "procrustes")).plot("map")
    assert apart.axes[0].get_title().startswith("MDS by Procrustes angle (radians), corpus wörter")


def test_numbers_on_a_map_do_not_cover_each_other(record: MakeRecord) -> None:
    records = records_of(record, 2, 5)
    for entry in records:
        entry["value"] = 0.5 if entry["reference"] != entry["variant"] else 1 - 1e-9
    (panel,) = result_of(*records).plot("map").axes
    assert [text.get_text() for text in panel.texts] == ["0", "0"]


def test_a_map_says_what_it_leaves_out(record: MakeRecord) -> None:
    records = records_of(record, 2, 2)
    for entry in records:
        if ("model1", 1) in (
            (entry["variant"], entry["layer"]),
            (entry["reference"], entry["reference_layer"]),
        ):
            entry["value"] = None
    title = result_of(*records).plot("map").axes[0].get_title()
    assert title.endswith("\nwithout model1 1 (undefined)")


def test_the_legend_of_many_variants_lies_beside_the_map(record: MakeRecord) -> None:
    figure = result_of(*records_of(record, 12, 2)).plot("map")
    (legend,) = figure.legends
    assert texts(legend.get_texts()) == [f"model{k}" for k in range(12)]
    figure._repr_png_()
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    assert legend.get_window_extent().x0 >= figure.axes[0].get_window_extent().x1
    assert figure.axes[0].get_legend() is None


@pytest.mark.parametrize("kind", ["matrix", "map"])
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_kinds_are_written_as_the_suffix_says(
    record: MakeRecord, tmp_path: Path, kind: str, suffix: str
) -> None:
    file = tmp_path / f"figure{suffix}"
    result_of(*records_of(record, 2, 2)).plot(kind, file=file)
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert file.read_bytes().startswith(starts[suffix])


def test_a_figure_is_drawn_on_axes_that_are_given(record: MakeRecord) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert result_of(*records_of(record, 2, 2)).plot("matrix", ax=axes) is axes.figure
    assert len(axes.get_images()) == 1
    two = result_of(*records_of(record, 2, 2), *records_of(record, 2, 2, corpus="ewt"))
    with pytest.raises(InvalidInput, match="2 panels do not fit on the axes given"):
        two.plot("map", ax=axes)


def test_what_cannot_be_drawn_is_one_sentence(record: MakeRecord) -> None:
    result = result_of(*records_of(record, 2, 2))
    with pytest.raises(InvalidInput, match="no kind of figure 'pie'; choose one of curves, matrix"):
        result.plot("pie")
    with pytest.raises(InvalidInput, match="the kind matrix has no option distance; it takes"):
        result.plot("matrix", distance="chord")
    with pytest.raises(InvalidInput, match="nothing to draw of svcca; the result holds cka"):
        result.plot("map", "svcca")
    with pytest.raises(
        InvalidInput, match="nothing to draw of corpus ewt; the result holds wörter, resid"
    ):
        result.plot("matrix", corpus="ewt")
    aligned = result_of(*(record(f"m{k}", 0, "cka", 0.5) for k in range(3)))
    with pytest.raises(InvalidInput, match="a map needs all pairs compared"):
        aligned.plot("map")


def test_looks_show_what_goes_together() -> None:
    seeds = looks_of([f"{task}-s{k}" for task in ("mnli", "squad") for k in range(9)])
    assert {look.colour for name, look in seeds.items() if name in ("mnli-s0", "mnli-s6")} == {
        COLOURS[0]
    }
    assert seeds["mnli-s0"].marker != seeds["mnli-s1"].marker
    assert len(set(seeds.values())) == 18
    stages = looks_of([f"step{2**k}" for k in range(30)])
    assert len({look.colour for look in stages.values()}) == 30
    others = looks_of([f"{name}-model" for name in "abcdefghijklmnopqrstuvwxyz"])
    assert len(set(others.values())) == 26
    assert [look.colour for look in list(others.values())[:7]] == list(COLOURS)
