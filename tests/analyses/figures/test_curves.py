"""Figures: what is drawn, and where it goes."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.figures.curves import layer_curves
from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.store.errors import InvalidInput, MissingExtra, StorageFailed

STARTS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def result_of(*curves: tuple[str, str, bool]) -> SimilarityResult:
    """Return curves over layers 0 to 3 by variant and corpus, with an interval or without."""
    records = []
    for variant, corpus, interval in curves:
        for layer in (3, 0, 1, 2):
            for measure in ("r_all", "r_between"):
                value = 1 - layer / 10 if measure == "r_all" else 0.0
                records.append(
                    {
                        "corpus": corpus,
                        "reference": "base",
                        "reference_layer": layer,
                        "variant": variant,
                        "site": "resid",
                        "layer": layer,
                        "measure": measure,
                        "value": value,
                        "low": value - 0.1 if interval else None,
                        "high": value + 0.1 if interval else None,
                        "bound": None,
                        "p": None,
                        "n": 500,
                        "n_clusters": 100,
                        "rows_per_cluster": 5.0,
                        "within_pair_share": 0.01,
                        "n_dropped": 0,
                        "n_seeds": 1,
                    }
                )
    return SimilarityResult({}, {}, tuple(records))


@pytest.fixture
def axes() -> Any:
    """Return empty axes."""
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")
    return figure.Figure().subplots()


def test_each_variant_has_a_line_and_a_band(axes: Any) -> None:
    result = result_of(("twin", "wiki", True), ("cut", "wiki", False))
    assert layer_curves(result, ax=axes) is axes.figure
    twin, cut = axes.get_lines()
    assert (twin.get_label(), cut.get_label()) == ("twin", "cut")
    assert twin.get_xdata().tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(twin.get_ydata(), [1, 0.9, 0.8, 0.7])
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.6, 1.1))
    assert axes.get_xlabel() == "layer"
    assert axes.get_ylabel() == "RSA"
    assert axes.get_title() == (
        "Similarity to base, corpus wiki\n500 tokens of 100 examples; band: interval"
    )
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["twin", "cut"]


def test_curves_of_two_corpora_are_told_apart(axes: Any) -> None:
    layer_curves(result_of(("twin", "wiki", True), ("twin", "ewt", True)), ax=axes)
    assert [line.get_label() for line in axes.get_lines()] == ["twin (wiki)", "twin (ewt)"]


def test_each_measure_has_a_panel(record: Callable[..., dict[str, Any]]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    records = [
        record(variant, layer, measure, 0.5)
        for variant in ("twin", "cut")
        for layer in (0, 1)
        for measure in ("r_all", "r_between", "procrustes", "cka", "cca")
    ]
    result = SimilarityResult({}, {}, tuple(records))
    figure = result.plot()
    assert [panel.get_ylabel() for panel in figure.axes] == [
        "RSA", "Procrustes angle (radians)", "linear CKA", "mean canonical correlation"
    ]  # fmt: skip
    assert figure.get_suptitle().startswith("Comparison with base, corpus wörter\n")
    assert [len(panel.get_lines()) for panel in figure.axes] == [2, 2, 2, 2]
    (between,) = result.plot(measure="r_between").axes
    assert between.get_ylabel() == "RSA between examples"
    assert between.get_title().startswith("Similarity to base, corpus wörter\n")
    with pytest.raises(InvalidInput, match="nothing to draw of svcca; the result holds r_all"):
        result.plot(measure=["cka", "svcca"])


def test_similarities_are_drawn_from_0_to_1_unless_zoomed(axes: Any) -> None:
    result = result_of(("twin", "wiki", False))
    layer_curves(result, "r_all", ax=axes)
    assert axes.get_ylim() == pytest.approx((-0.02, 1.02))
    layer_curves(result, "r_all", ax=axes.figure.subplots(), zoom=True)
    assert axes.figure.axes[-1].get_ylim()[0] > 0.6


def test_a_similarity_below_0_lowers_the_axis_to_the_next_tenth(axes: Any) -> None:
    layer_curves(result_of(("twin", "wiki", True)), "r_between", ax=axes)  # lows of -0.1
    assert axes.get_ylim() == pytest.approx((-0.1 - 0.022, 1.02))


def test_panels_of_one_range_share_both_axes(record: Callable[..., dict[str, Any]]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    names = ("r_all", "cka", "cca", "mutual-knn")
    records = [record("twin", k, name, 0.5) for k in (0, 1) for name in names]
    panels = SimilarityResult({}, {}, tuple(records)).plot().axes
    assert len({panel.get_ylim() for panel in panels}) == 1
    assert panels[0].get_shared_y_axes().joined(panels[0], panels[3])
    assert [panel.get_xlabel() for panel in panels] == ["", "", "layer", "layer"]
    records += [record("twin", k, "procrustes", 1.2) for k in (0, 1)]
    panels = SimilarityResult({}, {}, tuple(records)).plot().axes
    assert panels[0].get_shared_x_axes().joined(panels[0], panels[4])
    assert not panels[0].get_shared_y_axes().joined(panels[0], panels[4])
    assert panels[4].get_ylim()[1] == pytest.approx(1.02 * np.pi / 2)
    assert [panel.get_xlabel() for panel in panels] == ["", "", "layer", "layer", "layer"]


@pytest.mark.parametrize(
    ("settings", "caption", "label"),
    [
        (
            {"unit": "word", "kernel": "cosine", "interval": "bootstrap", "confidence": 0.9},
            "500 words of 100 examples; band: 90 % bootstrap interval",
            "RSA\n(Pearson r of cosine similarities)",
        ),
        (
            {"unit": "example", "kernel": "linear", "interval": "cluster", "confidence": 0.95},
            "500 examples; band: 95 % interval",
            "RSA (Pearson r of dot products)",
        ),
    ],
)
def test_a_figure_says_what_it_is_computed_over(
    axes: Any, settings: dict[str, Any], caption: str, label: str
) -> None:
    records = result_of(("twin", "wiki", True)).records
    layer_curves(SimilarityResult(settings, {}, records), "r_all", ax=axes)
    assert axes.get_title().splitlines()[1] == caption
    assert axes.get_ylabel() == label


def test_different_numbers_of_tokens_are_a_range(axes: Any) -> None:
    first, *others = result_of(("twin", "wiki", False)).records
    result = SimilarityResult({}, {}, ({**first, "n": 1234}, *others))
    layer_curves(result, "r_all", ax=axes)
    assert axes.get_title().splitlines()[1] == "500 to 1,234 tokens of 100 examples"


def test_corpora_differ_in_dashes_and_variants_in_colours(axes: Any) -> None:
    layer_curves(
        result_of(*((v, c, True) for v in ("twin", "cut") for c in ("wiki", "ewt"))), ax=axes
    )
    looks = {
        line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.get_lines()
    }
    assert looks["twin (wiki)"][0] == looks["twin (ewt)"][0] != looks["cut (wiki)"][0]
    assert looks["twin (wiki)"][1] == looks["cut (wiki)"][1] != looks["twin (ewt)"][1]


def test_layers_against_one_layer_of_the_reference_make_a_curve(
    record: Callable[..., dict[str, Any]], axes: Any
) -> None:
    records = tuple(record("twin", k, "cka", k / 10, reference_layer=1) for k in range(3))
    layer_curves(SimilarityResult({}, {}, records), ax=axes)
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert axes.get_title().startswith("Similarity to base, layer 1, corpus wörter\n")


def test_of_layers_against_layers_the_same_ones_make_a_curve(
    record: Callable[..., dict[str, Any]], axes: Any
) -> None:
    across = [
        record("twin", layer, "cka", layer + other / 10, reference_layer=other)
        for layer in range(3)
        for other in range(3)
    ]
    layer_curves(SimilarityResult({}, {}, tuple(across)), ax=axes)
    (line,) = axes.get_lines()
    np.testing.assert_allclose(line.get_ydata(), [0, 1.1, 2.2])
    never = tuple(r for r in across if r["layer"] != r["reference_layer"])
    with pytest.raises(InvalidInput, match="kind='matrix' shows layers against layers"):
        layer_curves(SimilarityResult({}, {}, never), ax=axes)


@pytest.mark.parametrize("suffix", list(STARTS))
def test_the_suffix_says_what_is_written(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    file = tmp_path / f"curves{suffix}"
    result_of(("twin", "wiki", True)).plot(file=file)
    assert file.read_bytes().startswith(STARTS[suffix])


def test_other_suffixes_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    for name in ("curves.jpg", "curves"):
        with pytest.raises(InvalidInput, match=f"{name}.* ends in .png, .svg or .pdf"):
            layer_curves(result_of(("twin", "wiki", True)), file=tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    curves = result_of(("twin", "wiki", True))
    with pytest.raises(InvalidInput, match=r"no folder .* for the figure curves.png"):
        layer_curves(curves, file=tmp_path / "no" / "curves.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(StorageFailed, match="choose another place"):
        layer_curves(curves, file=tmp_path / "taken.png")


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing to draw"):
        layer_curves(SimilarityResult({}, {}, ()))


def test_matplotlib_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "layerlake.analyses.figures.inline", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'layerlake\[plots\]'"):
        layer_curves(result_of(("twin", "wiki", True)))


def test_a_figure_shows_itself_in_a_notebook() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    figure = result_of(("twin", "wiki", True)).plot()
    assert figure._repr_png_().startswith(STARTS[".png"])
